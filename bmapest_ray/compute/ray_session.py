"""Starting or joining a Ray cluster, quietly and privately."""

import atexit
import contextlib
import logging
import os
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from bmapest_ray.base.errors import InvalidInput
from bmapest_ray.compute.ray_head import host_and_port, refusal

_LOCAL_OBJECT_STORE_BYTES = 256 * 1024**2
"""Jobs and results are small; a local store need not take the third of the memory that Ray asks."""

_FAREWELL_S = 30.0
"""Ray's threads wait some seconds for a head that is gone."""

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing phones home
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # actors without a GPU leave the variables alone
    "RAY_DEDUP_LOGS": "0",
    # longer than a study waits for a head: Ray's own way out is to end the process without a word
    "RAY_gcs_rpc_server_reconnect_timeout_s": "180",
}


def import_ray() -> ModuleType:
    """Import Ray with its usage statistics off."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray._private import worker

    worker.print_to_stdstream = _log_instead_of_print
    return ray


def _log_instead_of_print(data: Mapping[str, Any], ignore_prefix: bool = True) -> None:  # noqa: ARG001
    """Take Ray's messages about its workers off stdout, which belongs to the program's result."""
    for line in data.get("lines", ()):
        logging.getLogger("bmapest_ray.ray").info("%s", line)


@dataclass(frozen=True)
class Session:
    """A connection to a cluster; `owned` says whether closing it is ours to do."""

    address: str
    owned: bool

    def close(self) -> None:
        """Leave the cluster, stopping it if it was started here."""
        if self.owned:
            import_ray().shutdown()


def connect(address: str | None, *, dashboard: bool = False) -> Session:
    """Join the cluster at `address`, or start one on this machine.

    An existing connection of this process is used as it is.

    Raises
    ------
    InvalidInput
        If no cluster answers at `address`.
    """
    ray = import_ray()
    if ray.is_initialized():
        return Session(str(ray.get_runtime_context().gcs_address), owned=False)
    if address is not None:
        _must_listen(address)
    secure_token()
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address is None:
            with _on_loopback():
                ray.init(
                    address="local",
                    include_dashboard=dashboard,
                    dashboard_host="127.0.0.1",
                    object_store_memory=_LOCAL_OBJECT_STORE_BYTES,
                    **quiet,
                )
        else:
            ray.init(address=address, **quiet)
    except Exception as error:  # noqa: BLE001 - Ray raises the bare one where a node does not start
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        where = f"at '{address}'" if address else "on this machine"
        raise InvalidInput(
            f"a Ray cluster must answer {where}, got: {first}; check the address and the token, "
            "or use runner 'local'"
        ) from None
    finally:
        secure_token()
    return Session(str(ray.get_runtime_context().gcs_address), owned=True)


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Let a node that starts here be its machine's own: every server of it listens on 127.0.0.1.

    Ray does so by itself on macOS and Windows, where no cluster of machines is expected.
    """
    from ray._private import ray_constants

    spread = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = spread


def abandon() -> None:
    """Leave a cluster whose head is gone without asking it, as Ray would when the process ends.

    So would its hook for an exception that nobody catches, before a word of it is printed. Ray's
    threads are stopped here: left to themselves they crash the process at its end.
    """
    worker = import_ray()._private.worker
    atexit.unregister(worker.shutdown)
    if sys.excepthook is worker.custom_excepthook:
        sys.excepthook = worker.normal_excepthook
    farewell = worker.global_worker.core_worker.shutdown_driver
    stopping = threading.Thread(target=farewell, daemon=True)
    stopping.start()
    stopping.join(_FAREWELL_S)


def _must_listen(address: str) -> None:
    """Refuse an address where nothing listens: Ray itself would ask it for a minute.

    Raises
    ------
    InvalidInput
        If nothing does.
    """
    where = host_and_port(address)
    why = refusal(where) if where is not None else ""
    if why:
        raise InvalidInput(
            f"a Ray cluster must answer at '{address}', got: {why}; start it or correct the "
            "address, or use runner 'local'"
        )


def token_path() -> Path:
    """Return the file of the token that opens the cluster."""
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(given) if given else Path.home() / ".ray" / "auth_token"


def secure_token() -> None:
    """Make Ray's token file readable by its owner alone, before Ray would write it for everyone."""
    given = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    disabled = os.environ.get("RAY_AUTH_MODE", "token").lower() == "disabled"
    if disabled or any(os.environ.get(name) for name in given):
        return
    path = token_path()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(uuid.uuid4().hex)
        path.chmod(0o600)
    except FileExistsError:
        path.chmod(0o600)
    except OSError:
        logging.getLogger(__name__).warning("cannot protect Ray's token file %s", path)


def actor_count(wanted: int | None, num_cpus: float, num_gpus: float) -> int:
    """Return how many actors the cluster has free room for, or `wanted`: others start later.

    Raises
    ------
    InvalidInput
        If the cluster has no room for a single one.
    """
    ray = import_ray()
    total = ray.cluster_resources()
    if _room(total, num_cpus, num_gpus) < 1:
        raise InvalidInput(
            f"an actor needs {num_cpus:g} CPU and {num_gpus:g} GPU, the cluster has "
            f"{total.get('CPU', 0):g} and {total.get('GPU', 0):g}; lower compute.num_cpus or "
            "compute.num_gpus"
        )
    return wanted or max(1, _room(ray.available_resources(), num_cpus, num_gpus))


def _room(resources: Mapping[str, float], num_cpus: float, num_gpus: float) -> int:
    shares = (("CPU", num_cpus), ("GPU", num_gpus))
    return min((int(resources.get(n, 0.0) / s) for n, s in shares if s > 0), default=1)
