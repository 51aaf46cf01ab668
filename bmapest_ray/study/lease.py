"""Several drivers on one study: leases and takings in two PostgreSQL tables.

``bmapest_drivers`` holds one row per driver with the time its lease ends, by the server's clock; a
thread of each driver renews it. ``bmapest_takings`` holds who has taken what. One statement takes a
thing if nobody has it or its driver's lease has ended, so two drivers cannot both take it. While
the server cannot be reached calls wait; and a driver that was cut off itself does not call others
dead before they had the time of a lease to come back.
"""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from bmapest_ray.base.errors import InvalidInput

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

LEASE_S = 30.0
"""A driver that has been silent for so long is dead; it renews three times as often."""

PATIENCE_S = 900.0
"""How long calls wait for a server that is away."""

_CONNECT_S = 5
"""How long a server that does not answer at all is asked; the system itself would ask minutes."""

_TABLES = """
CREATE TABLE IF NOT EXISTS bmapest_drivers (
    study text NOT NULL, driver text NOT NULL, expires_at timestamptz NOT NULL,
    PRIMARY KEY (study, driver));
CREATE TABLE IF NOT EXISTS bmapest_takings (
    study text NOT NULL, item text NOT NULL, driver text NOT NULL,
    PRIMARY KEY (study, item));
"""
_RENEW = """
INSERT INTO bmapest_drivers (study, driver, expires_at)
VALUES (:study, :driver, now() + :lease * interval '1 second')
ON CONFLICT (study, driver) DO UPDATE SET expires_at = excluded.expires_at
"""
_TAKE = """
INSERT INTO bmapest_takings (study, item, driver) VALUES (:study, :item, :driver)
ON CONFLICT (study, item) DO UPDATE SET driver = excluded.driver
WHERE bmapest_takings.driver = excluded.driver OR (:may_adopt AND NOT EXISTS (
    SELECT 1 FROM bmapest_drivers AS d
    WHERE d.study = :study AND d.driver = bmapest_takings.driver AND d.expires_at > now()))
RETURNING driver
"""
_LEAVE = "DELETE FROM bmapest_drivers WHERE study = :study AND driver = :driver"
_TURN = "SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")


def sqlalchemy_url(url: str) -> str:
    """Return a storage's address as SQLAlchemy reads it.

    Raises
    ------
    InvalidInput
        If it is no PostgreSQL address, holds a password, or the driver package is missing.
    """
    from importlib.util import find_spec

    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except ArgumentError:
        raise InvalidInput(
            "compute.storage must look like postgresql://user@host:5432/name, got something else; "
            "correct it"
        ) from None
    if parsed.get_backend_name() != "postgresql":
        raise InvalidInput(
            f"compute.storage must be postgresql://..., got '{parsed.drivername}'; leave it out "
            "for a journal in the study's folder"
        )
    if parsed.password is not None:
        raise InvalidInput(
            "compute.storage is written into the study's folder and must hold no password; put "
            "it into PGPASSWORD or ~/.pgpass"
        )
    if find_spec("psycopg") is None:
        raise InvalidInput(
            "compute.storage on PostgreSQL needs the package psycopg, it is not installed; run "
            "'pip install psycopg[binary]'"
        )
    return parsed.set(drivername="postgresql+psycopg").render_as_string()


def patient(
    call: Callable[Concatenate[S, P], R], patience_s: float = PATIENCE_S
) -> Callable[Concatenate[S, P], R]:
    """Wrap a call so that it is made again until the database answers, or patience ends."""

    @wraps(call)
    def again(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
        started, pause_s = time.monotonic(), 0.1
        while True:
            try:
                return call(self, *args, **kwargs)
            except Exception as error:
                if not is_outage(error) or time.monotonic() - started > patience_s:
                    raise
                logging.getLogger(__name__).warning(
                    "the study's database is away: %s", reason(error)
                )
                time.sleep(pause_s)
                pause_s = min(2.0, 2 * pause_s)

    return again  # type: ignore[return-value] # mypy takes `self` for a name that callers may use


def _origins(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, its cause, the cause of that, and so on.

    Optuna answers some lost connections with a second query in the same transaction: what that
    one raises is no cause but a consequence, so what was being handled counts too.
    """
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def is_outage(error: BaseException) -> bool:
    """Whether an error says that the server is not there, at any depth of its causes."""
    from sqlalchemy import exc

    return any(
        isinstance(one, exc.DBAPIError)
        and (one.connection_invalidated or isinstance(one, exc.OperationalError))
        for one in _origins(error)
    )


def reason(error: BaseException) -> str:
    """Return the first line of the deepest cause of an error."""
    *_, deepest = _origins(error)
    lines = str(deepest).strip().splitlines()
    return lines[0] if lines else type(deepest).__name__


class SharedCrew:
    """One driver among several, see the module.

    Parameters
    ----------
    url
        ``postgresql://user@host:5432/name``.
    study
        The study's id.
    lease_s
        Silence after which a driver is dead.
    """

    is_alone = False

    def __init__(self, url: str, study: str, lease_s: float = LEASE_S) -> None:
        self.driver = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._study, self._lease_s = study, lease_s
        self._engine = _connect(url)
        self._cut_off_until = 0.0
        self._left = threading.Event()
        self._make_tables()
        self._renew()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)
        self._thread.start()

    @patient
    def take(self, item: str) -> bool:
        """Take a thing; False while another living driver has it."""
        may_adopt = time.monotonic() > self._cut_off_until
        row = self._run(_TAKE, item=item, may_adopt=may_adopt)
        return bool(row)

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Wait for one's turn; the server gives it to the next driver if this one dies."""
        connection = self._wait(name)
        try:
            yield
        finally:
            _drop(connection)

    def leave(self) -> None:
        """End the lease, so that others need not wait for it to expire."""
        if self._left.is_set():
            return
        self._left.set()
        self._thread.join(2 * self._lease_s)
        try:
            self._run(_LEAVE)
        except Exception as error:
            if not is_outage(error):
                raise
        self._engine.dispose()

    @patient
    def _wait(self, name: str) -> "Connection":
        from sqlalchemy import text

        connection = self._engine.connect()
        try:
            connection.execute(text(_TURN), {"name": f"{self._study}/{name}"})
        except BaseException:
            connection.close()
            raise
        return connection

    @patient
    def _make_tables(self) -> None:
        from sqlalchemy import text

        with self._engine.begin() as connection:
            connection.execute(text(_TURN), {"name": "bmapest-tables"})
            for statement in _TABLES.split(";")[:-1]:
                connection.execute(text(statement))

    def _keep(self) -> None:
        """Renew the lease until the driver leaves."""
        pause_s = self._lease_s / 3
        while not self._left.wait(pause_s):
            try:
                self._renew()
                pause_s = self._lease_s / 3
            except Exception as error:  # noqa: BLE001 - whatever is wrong, the next try may work
                logging.getLogger(__name__).warning(
                    "the lease could not be renewed: %s", reason(error)
                )
                self._cut_off_until = time.monotonic() + self._lease_s
                pause_s = min(1.0, self._lease_s / 6)

    def _renew(self) -> None:
        self._run(_RENEW, lease=self._lease_s)

    def _run(self, statement: str, **values: Any) -> Any:  # noqa: ANN401 - a row, or nothing
        from sqlalchemy import text

        with self._engine.begin() as connection:
            done = connection.execute(
                text(statement), {"study": self._study, "driver": self.driver, **values}
            )
            return done.first() if done.returns_rows else None


def _connect(url: str) -> "Engine":
    """Return an engine for a server that answers now.

    Raises
    ------
    InvalidInput
        If it does not.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError

    limits = {"connect_timeout": _CONNECT_S}
    engine = create_engine(sqlalchemy_url(url), pool_pre_ping=True, connect_args=limits)
    try:
        engine.connect().close()
    except SQLAlchemyError as error:
        raise InvalidInput(
            f"compute.storage must name a PostgreSQL server that answers, got: {reason(error)}; "
            "start it or correct the address"
        ) from None
    return engine


def _drop(connection: "Connection") -> None:
    """End the transaction that holds a turn; a server that is gone has ended it already."""
    try:
        connection.rollback()
        connection.close()
    except Exception as error:
        if not is_outage(error):
            raise
        connection.invalidate()
