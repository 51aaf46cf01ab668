"""The maps of a study on disk: BIDS-derivative NIfTI, one small dataset per job."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bmapest_ray.anatomy.bids_io import map_path, write_maps
from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.study.files import folder_once, writing
from bmapest_ray.study.result import JobResult
from bmapest_ray.study.spec import JobSpec
from bmapest_ray.study.store import slug


def write_job_maps(root: Path, spec: JobSpec, result: JobResult) -> dict[str, str]:
    """Write the maps of a job, and the true maps of its slice unless they are there.

    Returns
    -------
    dict
        ``GM`` and ``truth_GM``, ... to files relative to `root`.

    Raises
    ------
    InvalidInput
        If the folder cannot be written.
    """
    subject, where = spec.anatomy.subject, slug(spec.anatomy.slice)
    about = f"sub-{subject}_{where}_draw-{spec.noise.draw}"
    folder = root / "maps" / f"{slug(spec.protocol.name)}_{about}_{spec.id[:12]}"
    true_folder = root / "maps" / "truth" / where
    meta: Mapping[str, object] = {
        "Slice": spec.anatomy.slice,
        "Source": spec.anatomy.source,
        "Units": "1",
        "SpatialReference": "orig",
    }
    fitted = {**meta, "Protocol": spec.protocol.name, "Job": spec.id, "Data": dict(result.data)}
    maps, truth = np.array(result.maps), np.array(result.truth)  # Ray's arrays are read-only
    with writing(root):
        folder_once(folder, lambda to: write_maps(maps, result.affine, to, subject, meta=fitted))
        if not all(p.exists() for p in _paths(true_folder, subject, "truth").values()):
            write_maps(truth, result.affine, true_folder, subject, "truth", meta=meta)
    files = _paths(folder, subject, None)
    files |= {f"truth_{t}": p for t, p in _paths(true_folder, subject, "truth").items()}
    return {name: path.relative_to(root).as_posix() for name, path in files.items()}


def _paths(folder: Path, subject: str, desc: str | None) -> dict[str, Path]:
    return {tissue: map_path(folder, subject, tissue, desc, "probseg") for tissue in TISSUES}
