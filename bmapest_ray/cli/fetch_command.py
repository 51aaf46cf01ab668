"""``bmapest fetch brainweb``: a folder that ``--anatomy brainweb:DIR`` opens."""

from pathlib import Path
from typing import Any

import typer

from bmapest_ray.cli.output import print_json, stdout_to_stderr
from bmapest_ray.cli.run_command import Interrupted

_TELL_EVERY_BYTES = 1 << 20


def fetch_command(subjects: str, out: Path, models: str, url: str, as_json: bool) -> None:
    """Fetch what is missing and say what is where."""
    with stdout_to_stderr():
        told = _fetch(subjects, out, models, url)
    if as_json:
        print_json(told)
        return
    new = sum(not file["cached"] for file in told["files"])
    typer.echo(f"{len(told['files'])} files in {out}, {new} of them new")
    typer.echo(f"open them with --anatomy brainweb:{out}")
    typer.echo(told["terms"])


def _fetch(subjects: str, out: Path, models: str, url: str) -> dict[str, Any]:
    from bmapest_ray.anatomy.brainweb_fetch import BASE_URL, fetch_brainweb
    from bmapest_ray.anatomy.brainweb_files import CITATION

    names = [name.strip() for name in subjects.split(",") if name.strip()]
    try:
        files = fetch_brainweb(names, out, url or BASE_URL, models=models, progress=_Told())
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; the same command goes on in {out}") from None
    return {
        "folder": str(out),
        "anatomy": f"brainweb:{out}",
        "terms": CITATION,
        "files": [
            {"path": str(file.path), "sha256": file.sha256, "cached": file.cached} for file in files
        ],
    }


class _Told:
    """Says on stderr how far a file is, every megabyte."""

    def __init__(self) -> None:
        self._next: dict[str, int] = {}

    def __call__(self, name: str, have: int, total: int | None) -> None:
        """Be told that so many bytes are here."""
        if have < self._next.get(name, 0) and have != total:
            return
        self._next[name] = have + _TELL_EVERY_BYTES
        of = "" if total is None else f" of {total / 1e6:.1f}"
        typer.echo(f"{name}: {have / 1e6:.1f}{of} MB", err=True)
