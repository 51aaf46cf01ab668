"""The command line; `main` is the command ``bmapest``."""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``bmapest`` and return its exit code.

    Parameters
    ----------
    arguments
        Words after ``bmapest``; None takes those of this process.
    """
    from bmapest_ray.cli.entry import run_safely

    return run_safely(arguments)
