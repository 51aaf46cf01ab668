"""Handing a study to a cluster through Ray Jobs, with a token and nothing else in the open."""

import os
import shlex
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.compute.ray_session import import_ray, secure_token, token_path

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
_POLL_S = 1.0


@dataclass(frozen=True)
class Submission:
    """What is handed over.

    Parameters
    ----------
    study
        The resolved study as YAML; it travels with the job, the data it names do not.
    out
        The study's folder on the cluster.
    address
        Ray's dashboard, e.g. ``http://127.0.0.1:8265`` at the end of an SSH tunnel.
    resume
        Go on with what is in `out`.
    """

    study: str
    out: str
    address: str
    resume: bool = False

    @property
    def entrypoint(self) -> str:
        """The command that the cluster's head runs."""
        words = ["python", "-m", "bmapest_ray", "run", "study.yaml", "--runner", "ray"]
        words += ["--address", "auto", "--out", self.out, *(["--resume"] if self.resume else [])]
        return shlex.join(words)


def warnings_of(address: str) -> list[str]:
    """Say what of an address is not private.

    Raises
    ------
    InvalidInput
        If it is no address of a dashboard.
    """
    parsed = urlparse(address)
    if parsed.scheme not in ("http", "https") or not parsed.hostname:
        raise InvalidInput(
            f"--address must be the dashboard's http://HOST:PORT, got '{address}'; open a tunnel "
            "and use http://127.0.0.1:8265"
        )
    if parsed.hostname in LOOPBACK or parsed.scheme == "https":
        return []
    return [
        f"{parsed.hostname} is reached without encryption: the token and the study can be read on "
        "the way; use an SSH tunnel and http://127.0.0.1"
    ]


def submit(submission: Submission) -> str:
    """Hand a study to a cluster; returns the job's id there.

    Raises
    ------
    MissingInput
        If there is no token.
    InvalidInput
        If the cluster does not answer or refuses the token.
    """
    client = _client(submission.address)
    with tempfile.TemporaryDirectory(prefix="bmapest-submit-") as folder:
        Path(folder, "study.yaml").write_text(submission.study, encoding="utf-8")
        ray = import_ray()
        try:
            return str(
                client.submit_job(
                    entrypoint=submission.entrypoint,
                    runtime_env={
                        "working_dir": folder,
                        "env_vars": {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"},
                    },
                )
            )
        except (RuntimeError, ConnectionError, ray.exceptions.RayError) as error:
            raise _refusal(submission.address, error) from None


def wait_for_job(
    address: str, job_id: str, tell: Callable[[str], Any], timeout_s: float | None = None
) -> str:
    """Wait until a job has ended and tell its log on the way; returns how it ended."""
    client = _client(address)
    told, started = 0, time.monotonic()
    while True:
        status = str(client.get_job_status(job_id).value)
        log = client.get_job_logs(job_id)
        if len(log) > told:
            tell(log[told:].rstrip("\n"))
            told = len(log)
        if status in _ENDED or (timeout_s and time.monotonic() - started > timeout_s):
            return status
        time.sleep(_POLL_S)


def _client(address: str) -> Any:  # noqa: ANN401 - Ray is loaded late
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    if not os.environ.get("RAY_AUTH_TOKEN") and not token_path().is_file():
        raise MissingInput(
            f"a cluster takes studies with its token only, {token_path()} is not there; copy it "
            "from the head node or set RAY_AUTH_TOKEN_PATH"
        )
    secure_token()
    ray = import_ray()
    from ray.job_submission import JobSubmissionClient

    try:
        return JobSubmissionClient(address)
    except (RuntimeError, ConnectionError, ray.exceptions.RayError) as error:
        raise _refusal(address, error) from None


def _refusal(address: str, error: Exception) -> InvalidInput:
    text = " ".join(str(error).split())
    if any(word in text for word in ("401", "403", "nauthori", "oken", "uthentication")):
        return InvalidInput(
            f"the cluster at {address} refused the token; use the one of its head node "
            "(RAY_AUTH_TOKEN_PATH, by default ~/.ray/auth_token)"
        )
    return InvalidInput(
        f"a Ray dashboard must answer at {address}, got: {text[:200]}; check the address or the "
        "tunnel"
    )
