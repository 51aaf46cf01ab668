"""One request to estimate the maps of a scan: everything that decides the answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bmapest_ray.anatomy.maps import subject_name
from bmapest_ray.anatomy.nifti import Volume, content_sha256, load_volume
from bmapest_ray.base.digests import digest
from bmapest_ray.base.errors import InvalidInput, require_choice
from bmapest_ray.scan.cohort_prior import VolumeCohort, cohort_on_grid, spatial_prior
from bmapest_ray.scan.estimate import RunBlocks, ScanFit, Told, b1_on_grid, fit_scan, make_head
from bmapest_ray.scan.estimate import one_after_the_other as _here
from bmapest_ray.scan.head import head_mask
from bmapest_ray.scan.image_spec import ImageSpec
from bmapest_ray.scan.images import Scan, onto_grid, read_scan
from bmapest_ray.scan.register import rigid_to
from bmapest_ray.scan.response import Response, joined, response_of
from bmapest_ray.scan.settings import RULES, ScanSettings
from bmapest_ray.scan.sidecar import check_field_strength, complete, read_sidecar
from bmapest_ray.scan.workplace import Workplace
from bmapest_ray.sequence.parse import parse_protocol
from bmapest_ray.sequence.protocol import Protocol
from bmapest_ray.tissue.table import PAPER_3T, TissueTable, load_table

if TYPE_CHECKING:
    from bmapest_ray.anatomy.catalog import Anatomy

_ENOUGH_TO_REGISTER = 5
_GREYS = np.array([0.6, 1.0, 0.3], dtype=np.float32)


@dataclass(frozen=True)
class Request:
    """What is asked.

    Parameters
    ----------
    images
        Files with their protocols.
    cohort
        Anatomy spec of the prior, e.g. ``bids:DIR``; empty for none.
    without
        Subject of the cohort that is the scanned one: it is left out.
    among
        Subjects of the cohort to use; all others if empty.
    mask, b1
        NIfTI files, or none.
    table
        Tissue table: ``paper-3t`` or a YAML file.
    settings
        Of the fit.
    register
        What is registered: ``images`` to the first, the scan to the ``cohort``, ``both``, or none.
    """

    images: tuple[ImageSpec, ...]
    cohort: str = ""
    without: str = ""
    among: tuple[str, ...] = ()
    mask: Path | None = None
    b1: Path | None = None
    table: str = "paper-3t"
    settings: ScanSettings = field(default_factory=ScanSettings)
    register: str = ""

    def __post_init__(self) -> None:
        """Refuse a request without images."""
        if not self.images:
            raise InvalidInput("an estimate needs at least one image; give --image FILE=PROTOCOL")
        if self.register:
            require_choice("what is registered", self.register, ("images", "cohort", "both"))

    def tissue_table(self) -> TissueTable:
        """Return the tissue table."""
        return PAPER_3T if self.table == "paper-3t" else load_table(self.table)

    def protocols(self) -> list[Protocol]:
        """Return the protocol of every image, completed by its sidecar."""
        found, table = [], self.tissue_table()
        for spec in self.images:
            fields = read_sidecar(spec.path)
            check_field_strength(fields, table.field_strength_t, spec.path)
            found.append(complete(parse_protocol(spec.protocol), fields, spec.path))
        return found

    def subjects(self, anatomy: Anatomy) -> list[str]:
        """Return the subjects of the prior, the scanned one left out."""
        names = [subject_name(s) for s in (self.among or anatomy.subjects)]
        for name in names:
            require_choice("subject of the cohort", name, anatomy.subjects)
        return [name for name in names if name != subject_name(self.without)]

    def provenance(self) -> dict[str, Any]:
        """Return how the answer was made, without names of files or people."""
        from importlib.metadata import version

        return {
            "software": {"bmapest_ray": version("bmapest_ray"), "rules": RULES},
            "images": [
                {
                    "protocol": spec.protocol,
                    "image": spec.image,
                    "protocol_digest": protocol.digest,
                    "sha256": content_sha256(spec.path),
                    "phase_sha256": content_sha256(spec.phase) if spec.phase else None,
                    "acquisition": read_sidecar(spec.path),
                }
                for spec, protocol in zip(self.images, self.protocols(), strict=True)
            ],
            "registered": self.register or "nothing",
            "cohort_subjects_left_out": bool(self.without),
            "tissue_table": self.tissue_table().source,
            "settings": {
                **{k: v for k, v in vars(self.settings).items() if k != "spreads"},
                "spreads": dict(self.settings.spreads),
            },
        }

    def key(self, cohort: list[str]) -> str:
        """Digest of everything that decides the answer."""
        files = [content_sha256(p) for p in (self.mask, self.b1) if p is not None]
        table = self.tissue_table().digest
        return digest([RULES, self.provenance(), files, cohort, table, bool(self.mask)])


def estimate(
    request: Request, work: Path, told: Told, run_blocks: RunBlocks = _here
) -> tuple[ScanFit, Workplace]:
    """Estimate the maps of a scan, going on from what `work` holds of the same request.

    Raises
    ------
    InvalidInput, MissingInput
        If an input breaks a rule; one sentence says which and what helps.
    """
    protocols = request.protocols()
    together = request.register in ("images", "both")
    specs = request.images
    scan = read_scan([s.path for s in specs], [s.phase for s in specs], register=together)
    anatomy, subjects, digests = _cohort_of(request)
    place = Workplace(work, request.key(digests))
    response = _response(request, protocols, told)
    mask, cohort = _prior_arrays(request, scan, anatomy, subjects, place, told)
    prior = spatial_prior(cohort, mask, request.settings.floor)
    b1 = None if request.b1 is None else b1_on_grid(request.b1, scan, mask)
    head, level = make_head(scan, mask, prior, b1)
    fit = fit_scan(scan, head, level, response, request.settings, place, told, run_blocks)
    return fit, place


def _cohort_of(request: Request) -> tuple[Anatomy | None, list[str], list[str]]:
    if not request.cohort:
        return None, [], []
    from bmapest_ray.anatomy.catalog import open_anatomy

    anatomy = open_anatomy(request.cohort)
    subjects = request.subjects(anatomy)
    return anatomy, subjects, [anatomy.digest(s) for s in subjects]


def _response(request: Request, protocols: list[Protocol], told: Told) -> Response:
    lines = request.settings.lines
    responses = []
    for number, (spec, protocol) in enumerate(zip(request.images, protocols, strict=True)):
        told("physics", number, len(protocols))
        found = response_of(protocol, request.tissue_table(), lines, lines * 1e-3)
        responses.append(found.only(spec.image, spec.protocol))
    told("physics", len(protocols), len(protocols))
    return joined(responses)


def _prior_arrays(
    request: Request,
    scan: Scan,
    anatomy: Anatomy | None,
    subjects: list[str],
    place: Workplace,
    told: Told,
) -> tuple[np.ndarray, VolumeCohort | None]:
    """Return the mask and the cohort inside it, from disk where they are there already."""

    def make() -> dict[str, np.ndarray]:
        cohort = None
        if anatomy is not None:
            affine = scan.affine
            if request.register in ("cohort", "both"):
                affine = onto_cohort(scan, anatomy, subjects) @ affine
            cohort = cohort_on_grid(
                anatomy, subjects, scan.shape, affine, lambda i, n: told("cohort", i, n)
            )
        mask = _mask(request, scan, cohort)
        if cohort is None:
            return {"mask": mask}
        inside = {"mean": cohort.mean[:, mask], "covariance": cohort.covariance[:, :, mask]}
        return {"mask": mask, **{k: v.astype(np.float16) for k, v in inside.items()}}

    found = place.arrays("prior", make)
    mask = found["mask"]
    if "mean" not in found:
        return mask, None
    mean = np.zeros((3, *mask.shape), dtype=np.float32)
    covariance = np.zeros((3, 3, *mask.shape), dtype=np.float32)
    mean[:, mask], covariance[:, :, mask] = found["mean"], found["covariance"]
    return mask, VolumeCohort(mean, covariance, tuple(subjects))


def onto_cohort(scan: Scan, anatomy: Anatomy, subjects: list[str]) -> np.ndarray:
    """Return the motion that lays a scan on the mean of some of a cohort."""
    volumes = [anatomy.volume(subject) for subject in subjects[:_ENOUGH_TO_REGISTER]]
    first = volumes[0]
    mean = sum(
        onto_grid(Volume(_shades(v.fraction), v.affine), first.fraction.shape[1:], first.affine)[0]
        for v in volumes
    ) / len(volumes)
    return rigid_to(
        Volume(np.asarray(mean), first.affine), Volume(scan.images[0], scan.affine),
        from_centres=True,
    )  # fmt: skip


def _shades(fraction: np.ndarray) -> np.ndarray:
    """Return a grey image of fractions: mutual information needs tissues apart, no more."""
    return np.asarray(np.tensordot(_GREYS, fraction, 1), dtype=np.float32)


def _mask(request: Request, scan: Scan, cohort: VolumeCohort | None) -> np.ndarray:
    if request.mask is None:
        return head_mask(scan, cohort)
    mask, _ = onto_grid(load_volume(request.mask), scan.shape, scan.affine)
    inside = (mask > 0.5) & scan.covered
    if not inside.any():
        raise InvalidInput(
            f"the mask {request.mask} must cover part of the images, it covers nothing; check its "
            "affine"
        )
    return np.asarray(inside)
