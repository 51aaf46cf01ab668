"""Jobs of a study that are shown, not only counted: how their fit went and how sure its maps are.

A job is solved once more, bit for bit as before, with someone looking on. Its folder under
``showcase/`` holds::

    about.json    protocol, subject, trial, what the residual says, how the deviations were made
    fit.npz       iterations (frame,), frames (frame, tissue, y, x), the last one as reported,
                  image (y, x): first contrast
    sub-*/anat/*_desc-std_label-*_probseg.nii.gz   standard deviations, where they can be known
"""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.base.tissues import TISSUES
from bmapest_ray.study.files import folder_once, read_json, writing
from bmapest_ray.study.loading import load_study
from bmapest_ray.study.plan import Plan, make_plan
from bmapest_ray.study.records import JobRecord, TrialRecord
from bmapest_ray.study.spec import JobSpec
from bmapest_ray.study.status import Stage

if TYPE_CHECKING:
    from bmapest_ray.inversion.drive import Snapshot
    from bmapest_ray.study.cache import JobCache
    from bmapest_ray.study.judgement import Judgement
    from bmapest_ray.study.result import JobResult

FOLDER = "showcase"
MOST_FRAMES = 12

Maps = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Shown:
    """A job that is shown.

    Parameters
    ----------
    job_id
        Of the job.
    about
        What ``about.json`` holds.
    iterations
        Iteration of every frame.
    frames
        Maps over iterations. Shape `(frame, tissue, y, x)`.
    image
        Magnitude of the first contrast as measured. Shape `(y, x)`.
    std
        Standard deviations of the fractions, None where they are not known. Shape `(tissue, y, x)`.
    """

    job_id: str
    about: Mapping[str, Any]
    iterations: tuple[int, ...]
    frames: Maps
    image: Maps
    std: Maps | None


@dataclass
class Frames:
    """Maps of a fit while it runs: evenly spaced, at most `2 * most` of them at any time."""

    most: int = MOST_FRAMES
    kept: list[tuple[int, Maps]] = field(default_factory=list)
    _every: int = 1
    _seen: int = 0

    def __call__(self, snapshot: "Snapshot") -> None:
        """Look at an iteration."""
        if self._seen % self._every == 0:
            maps = snapshot.maps().detach().cpu().numpy().astype(np.float32)
            self.kept.append((snapshot.step.iteration, maps))
        self._seen += 1
        if len(self.kept) >= 2 * self.most:
            self.kept = self.kept[::2]
            self._every *= 2

    def thinned(self) -> list[tuple[int, Maps]]:
        """Return at most `most` frames, the first and the last among them."""
        last = len(self.kept) - 1
        count = min(self.most, len(self.kept))
        chosen = {round(i * last / max(1, count - 1)) for i in range(count)}
        return [self.kept[i] for i in sorted(chosen)]


def make_showcase(
    directory: Path,
    jobs: Iterable[JobRecord],
    trials: Iterable[TrialRecord],
    *,
    deviations: bool = False,
) -> list[str]:
    """Solve jobs again and keep how it went; those that are shown already stay as they are.

    Parameters
    ----------
    directory
        The study's folder.
    jobs
        Finished report jobs.
    trials
        The study's trials, which know the settings of the jobs.
    deviations
        Also work out the standard deviations, which takes much longer than the fit.

    Returns
    -------
    list of str
        Ids of the jobs that were made now.

    Raises
    ------
    InvalidInput
        If the anatomy has changed since the study ran, or the folder cannot be written.
    """
    wanted = [job for job in jobs if not _is_there(directory, job.id, deviations)]
    if not wanted:
        return []
    from bmapest_ray.simulate.cache import default_directory
    from bmapest_ray.study.cache import JobCache

    config = load_study(directory / "study.yaml")
    plan, known = make_plan(config), tuple(trials)
    folder = Path(config.compute.cache) if config.compute.cache else default_directory()
    cache = JobCache("cuda" if config.compute.num_gpus else "cpu", folder)
    for job in wanted:
        trial = _trial_of(job, known)
        _show(directory, _spec_of(plan, job, trial), job, trial, cache, deviations)
    return [job.id for job in wanted]


def _is_there(directory: Path, job_id: str, deviations: bool) -> bool:
    path = _folder(directory, job_id) / "about.json"
    return path.is_file() and (not deviations or bool(read_json(path)["deviations"]))


def _trial_of(job: JobRecord, trials: Iterable[TrialRecord]) -> TrialRecord:
    for trial in trials:
        if trial.key.stage is Stage.REPORT and job.id in trial.job_ids:
            return trial
    raise InvalidInput(
        f"only reported jobs can be shown, {job.protocol} of sub-{job.subject} is none; finish the "
        "study with --resume"
    )


def _spec_of(plan: Plan, job: JobRecord, trial: TrialRecord) -> JobSpec:
    for spec in plan.jobs(job.protocol, trial.settings, Stage.REPORT):
        if spec.id == job.id:
            return spec
    raise InvalidInput(
        f"a job is shown from what it was made of, but {job.protocol} of sub-{job.subject} is "
        "another job now; use the versions in study.json and the anatomy as it was"
    )


def _show(
    directory: Path,
    spec: JobSpec,
    job: JobRecord,
    trial: TrialRecord,
    cache: "JobCache",
    deviations: bool,
) -> None:
    from bmapest_ray.study.job import run_job
    from bmapest_ray.study.judgement import judge

    frames = Frames()
    result = run_job(spec, cache, callback=frames)
    noisy = spec.noise.snr is not None
    judged = judge(spec, result, cache, posterior=noisy and deviations)
    about = {
        "job": job.id,
        "protocol": job.protocol,
        "subject": job.subject,
        "slice": job.slice,
        "trial": str(trial.key),
        "fit": str(judged.verdict.fit),
        "fit_message": judged.verdict.message,
        "deviations": deviations,
        "note": judged.note if noisy else "noise-free data have no spread",
        "method": judged.spread.method if judged.spread else None,
        "relative_error": judged.spread.relative_error if judged.spread else None,
        "prior": spec.solve.prior,
    }
    image = _first_image(spec, cache)

    def fill(folder: Path) -> None:
        folder.mkdir(parents=True)
        kept = [*frames.thinned(), (result.iterations, result.maps)]
        _write(folder, kept, image, result, judged, about)

    with writing(directory):
        shutil.rmtree(_folder(directory, job.id), ignore_errors=True)
        folder_once(_folder(directory, job.id), fill)


def _first_image(spec: JobSpec, cache: "JobCache") -> Maps:
    from bmapest_ray.study.data import simulate_data

    image = simulate_data(spec, cache).images[0].abs().cpu().numpy()
    return np.asarray(image / max(float(image.max()), 1e-30), dtype=np.float32)


def _write(
    folder: Path,
    frames: list[tuple[int, Maps]],
    image: Maps,
    result: "JobResult",
    judged: "Judgement",
    about: Mapping[str, Any],
) -> None:
    from bmapest_ray.anatomy.bids_io import write_maps

    np.savez_compressed(
        folder / "fit.npz",
        iterations=np.array([iteration for iteration, _ in frames]),
        frames=np.stack([maps for _, maps in frames]),
        image=image,
    )
    (folder / "about.json").write_text(json.dumps(dict(about), indent=1), encoding="utf-8")
    if judged.spread is not None:
        meta = {
            "Quantity": "posterior standard deviation of the fraction, without constraints",
            "Units": "1",
            "Method": about["method"],
            "RelativeError": about["relative_error"],
        }
        std = judged.spread.std
        write_maps(std, result.affine, folder, str(about["subject"]), desc="std", meta=meta)


def read_showcase(directory: Path) -> dict[str, Shown]:
    """Return the jobs that are shown, by their ids."""
    folders = sorted((directory / FOLDER).glob("*/about.json"))
    return {shown.job_id: shown for shown in map(_read, (path.parent for path in folders))}


def std_files(directory: Path, job: JobRecord) -> list[Path]:
    """Return the NIfTI files of a job's standard deviations, grey matter first; [] without."""
    paths = _std_paths(_folder(directory, job.id), job.subject)
    return [path for path in paths if path.is_file()]


def _std_paths(folder: Path, subject: str) -> list[Path]:
    from bmapest_ray.anatomy.bids_io import map_path

    return [map_path(folder, subject, tissue, "std", "probseg") for tissue in TISSUES]


def _read(folder: Path) -> Shown:
    from bmapest_ray.anatomy.nifti import load_volume

    about = read_json(folder / "about.json")
    with np.load(folder / "fit.npz") as fit:
        iterations = tuple(int(i) for i in fit["iterations"])
        frames, image = fit["frames"], fit["image"]
    paths = _std_paths(folder, str(about["subject"]))
    there = all(path.is_file() for path in paths)
    std = np.stack([load_volume(path).data[0] for path in paths]) if there else None
    return Shown(str(about["job"]), about, iterations, frames, image, std)


def _folder(directory: Path, job_id: str) -> Path:
    return directory / FOLDER / job_id[:16]
