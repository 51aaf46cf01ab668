"""A disk that fills up in the middle of a study, and stays full while the study ends."""

import errno
import os
from collections import Counter
from pathlib import Path

import fake_job
import pytest

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.compute.local import LocalRunner
from bmapest_ray.study import files
from bmapest_ray.study.loading import parse_study
from bmapest_ray.study.run import run_study
from bmapest_ray.study.store import load_jobs, load_results

JOBS = 12


def test_a_study_on_a_full_disk_ends_with_a_sentence_and_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = parse_study(
        {
            "name": "full",
            "question": "What if nothing more fits?",
            "protocols": ["t1inv[0]"],
            "noise": {"snr": 50, "reference": "t1inv[3]", "draws": JOBS},
            "compute": {"runner": "local"},
            "output": {"maps": False},
            "tracking": {"mlflow": False},
        }
    )
    out, runner = tmp_path / "out", LocalRunner(fake_job.WORK, {"log": str(tmp_path)})
    write = files._write_through

    def write_while_there_is_room(path: Path, content: str) -> None:
        if len(list(out.glob("jobs/*/[!.]*.json"))) < 5:
            write(path, content)
        else:
            path.write_text(content[: len(content) // 2])  # the half that still went in
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files, "_write_through", write_while_there_is_room)
        with pytest.raises(InvalidInput, match=r"No space left on device; free space.*--resume"):
            run_study(config, out, runner=runner)
    kept = {job.id: job for job in load_jobs(out)}
    assert len(kept) == 5

    run_study(config, out, runner=runner, resume=True)
    jobs = {job.id: job for job in load_jobs(out)}
    assert len(jobs) == JOBS
    assert {job_id: jobs[job_id] for job_id in kept} == kept
    assert len(load_results(out)) == 3 * JOBS
    starts = Counter(fake_job.lines(tmp_path, "starts.txt"))
    assert all(starts[job_id] == 1 for job_id in kept)
    assert sum(starts.values()) == JOBS + 1  # the one whose result did not fit ran again
    assert not list(out.rglob(".tmp-*"))
