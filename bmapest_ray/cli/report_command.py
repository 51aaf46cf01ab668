"""``bmapest report``."""

from pathlib import Path

import typer

from bmapest_ray.cli.output import print_json, stdout_to_stderr


def report_command(directory: Path, pair: tuple[str, str] | None, show: int, as_json: bool) -> None:
    """Write a study's report and say what it says."""
    with stdout_to_stderr():
        from bmapest_ray.report.compare import compare, find, pair_sentence
        from bmapest_ray.report.html import sentence, write_report
        from bmapest_ray.report.load import load_evidence

        evidence = load_evidence(directory, show)
        paths = write_report(evidence, directory, pair)
        said = [sentence(evidence)]
        if pair is not None:
            one, other = (find(evidence.measured, label) for label in pair)
            row = compare(one, other, higher_is_better=evidence.higher_is_better)
            said.append(pair_sentence(row, evidence.unit))
    if as_json:
        files = {path.suffix.lstrip("."): str(path) for path in paths}
        print_json({"answer": said[0], "comparison": said[1:] or None, "files": files})
        return
    for text in said:
        typer.echo(text)
    for path in paths:
        typer.echo(f"report: {path}")
