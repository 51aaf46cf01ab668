"""A PostgreSQL server of the test's own, from the system's packages, on a free port."""

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from services import free_port, while_away


def binaries() -> Path:
    """Return the folder of initdb and pg_ctl, or skip the test."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [
        Path(path) for path in [shutil.which("initdb")] if path
    ]
    if not found:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    return found[-1].parent


class PostgresServer:
    """A server that can be stopped and started again with its data."""

    def __init__(self, folder: Path) -> None:
        self._bin, self._data, self.port = binaries(), folder / "data", free_port()
        self._user = "nobody" if os.geteuid() == 0 else None  # PostgreSQL refuses to run as root
        folder.chmod(0o755)
        if self._user:
            account = pwd.getpwnam(self._user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        self._folder = folder
        self._call("initdb", "-D", self._data, "-U", "study", "-A", "trust", "-N")

    @property
    def url(self) -> str:
        return f"postgresql://study@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self._folder} -c fsync=off "
            "-c shared_buffers=16MB"
        )
        log = self._folder / "log"
        self._call("pg_ctl", "-D", self._data, "-o", options, "-l", log, "-w", "start")

    def stop(self, mode: str = "immediate") -> None:
        self._call("pg_ctl", "-D", self._data, "-m", mode, "-w", "stop")

    def away(self, seconds: float) -> contextlib.AbstractContextManager[None]:
        """Stop for at least so long while the block runs; it is back afterwards."""
        return while_away(self.stop, self.start, seconds)

    def _call(self, program: str, *words: object) -> None:
        done = subprocess.run(
            [str(self._bin / program), *map(str, words)],
            user=self._user,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def running_server() -> Iterator[PostgresServer]:
    """Run a server for as long as the block does, and leave nothing behind."""
    with tempfile.TemporaryDirectory(prefix="bmapest-pg-", ignore_cleanup_errors=True) as name:
        server = PostgresServer(Path(name))
        server.start()
        try:
            yield server
        finally:
            server.stop()
