"""Noticing that a cluster's head is gone, before Ray ends the process for it without a word."""

import socket
import threading
import time
from urllib.parse import urlsplit

from bmapest_ray.base.errors import BmapestError

PATIENCE_S = 30.0
"""How long a head may be away; Ray gives up after a minute and takes the whole process down."""

_TIMEOUT_S = 5.0
_FEWEST_REFUSALS = 3
"""A process that was itself suspended must not call the head dead for that."""


class ClusterLost(BmapestError, RuntimeError):  # noqa: N818 - the sentence is the error
    """The head of the cluster has gone while a study ran."""


def host_and_port(address: str) -> tuple[str, int] | None:
    """Return where a cluster listens; None where only Ray can tell, as for ``auto``."""
    try:
        parsed = urlsplit(address if "://" in address else f"ray://{address}")
        return (parsed.hostname, parsed.port) if parsed.hostname and parsed.port else None
    except ValueError:
        return None


def refusal(where: tuple[str, int]) -> str:
    """Return why nothing listens at a place; empty where something does."""
    try:
        socket.create_connection(where, _TIMEOUT_S).close()
    except OSError as error:
        return str(error.strerror or error)
    return ""


class HeadWatch:
    """Looks every so often whether a head that has answered still does, in a thread of its own.

    Parameters
    ----------
    address
        ``host:port`` of the head; one that only Ray can find is not watched.
    patience_s
        Silence after which the head is gone.
    every_s
        Time between two looks.
    """

    def __init__(self, address: str, patience_s: float = PATIENCE_S, every_s: float = 1.0) -> None:
        self._address, self._patience_s, self._every_s = address, patience_s, every_s
        self._where = host_and_port(address)
        self._refusals, self._since, self._why = 0, 0.0, ""
        self._closed = threading.Event()
        if self._where is not None and not refusal(self._where):
            threading.Thread(target=self._look, name="head-watch", daemon=True).start()

    @property
    def is_lost(self) -> bool:
        """Whether the head has been silent for too long."""
        silent_s = time.monotonic() - self._since
        return self._refusals >= _FEWEST_REFUSALS and silent_s > self._patience_s

    def check(self) -> None:
        """Do nothing while the head answers, or may answer again.

        Raises
        ------
        ClusterLost
            If it has been silent for too long.
        """
        if self.is_lost:
            raise ClusterLost(
                f"the head of the Ray cluster at {self._address} has been silent for "
                f"{self._patience_s:g} s ({self._why}); start it again and run the same command "
                "with --resume: finished jobs are kept"
            )

    def close(self) -> None:
        """Stop looking."""
        self._closed.set()

    def _look(self) -> None:
        while self._where is not None and not self._closed.wait(self._every_s):
            self._why = refusal(self._where)
            if not self._why:
                self._refusals = 0
                continue
            self._since = self._since if self._refusals else time.monotonic()
            self._refusals += 1
