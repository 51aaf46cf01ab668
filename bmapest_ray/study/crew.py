"""The drivers that work on one study: who has taken which trial and which job.

A driver takes a thing before it works on it. A thing stays taken while its driver lives, which it
shows by renewing a lease; what a dead driver had taken, another may take.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Crew(Protocol):
    """One driver's view of all drivers of its study."""

    @property
    def driver(self) -> str:
        """Name of the driver whose view it is."""

    @property
    def is_alone(self) -> bool:
        """Whether no other driver can work on the study."""

    def take(self, item: str) -> bool:
        """Take a thing; False while another living driver has it. Taking it again is True."""

    def turn(self, name: str) -> AbstractContextManager[None]:
        """Wait for one's turn at something that one driver does at a time."""

    def leave(self) -> None:
        """Give back what was taken; calling it again does nothing."""


class Alone:
    """The only driver of a study."""

    driver = "alone"
    is_alone = True

    def take(self, item: str) -> bool:  # noqa: ARG002
        """Take anything."""
        return True

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:  # noqa: ARG002
        """Go at once."""
        yield

    def leave(self) -> None:
        """Do nothing."""
