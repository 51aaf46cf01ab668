"""Where a study ran: what is needed to run it again."""

import os
import platform
import sys
from importlib.metadata import distributions


def environment() -> dict[str, str | int]:
    """Return interpreter, system and cores."""
    return {
        "python": sys.version.split()[0],
        "system": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count() or 0,
    }


def requirements() -> str:
    """Return all installed packages with their versions, as ``pip install -r`` reads them."""
    found = {
        f"{package.metadata['Name']}=={package.version}"
        for package in distributions()
        if package.metadata["Name"]
    }
    return "\n".join(sorted(found, key=str.lower)) + "\n"
