"""``bmapest submit``: hand a study to a cluster."""

from dataclasses import dataclass
from pathlib import PurePosixPath

import typer

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.cli.output import print_json, stdout_to_stderr


@dataclass(frozen=True)
class SubmitOptions:
    """The options of ``bmapest submit`` by their names."""

    study: str
    address: str
    overrides: tuple[str, ...]
    out: PurePosixPath | None
    resume: bool
    wait: bool
    json: bool


def submit_command(options: SubmitOptions) -> int:
    """Check a study here, hand it to the cluster, and say how to follow it."""
    with stdout_to_stderr():
        from bmapest_ray.compute.ray_submit import Submission, submit, wait_for_job, warnings_of
        from bmapest_ray.study.loading import dump_study, load_study

        for text in warnings_of(options.address):
            typer.echo(f"bmapest: warning: {text}", err=True)
        config = load_study(options.study, options.overrides)
        out = options.out or PurePosixPath("~/runs") / config.name
        if not (out.is_absolute() or out.parts[0] == "~"):
            raise InvalidInput(
                f"--out is a folder on the cluster and must begin with / or ~, got '{out}'; "
                "a relative one would vanish with the job"
            )
        submission = Submission(dump_study(config), str(out), options.address, options.resume)
        job = submit(submission)
        typer.echo(f"job {job}: {submission.entrypoint}", err=True)
        status = "SUBMITTED"
        if options.wait:
            status = wait_for_job(options.address, job, lambda text: typer.echo(text, err=True))
    if options.json:
        print_json({"job": job, "status": status, "out": str(out), "address": options.address})
    else:
        typer.echo(f"{job}: {status.lower()}, results in {out} on the cluster")
    return 1 if status in ("FAILED", "STOPPED") else 0
