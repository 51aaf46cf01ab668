"""``bmapest doctor``: versions, devices, and what is missing."""

import importlib.metadata
import platform
import shutil
from dataclasses import asdict, dataclass
from typing import Any

import typer
from packaging.requirements import Requirement

from bmapest_ray.base.threads import available_cores
from bmapest_ray.cli.output import print_json, stdout_to_stderr
from bmapest_ray.cli.tables import plain_table

PACKAGE = "bmapest_ray"


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    what: str
    found: str
    remedy: str = ""

    @property
    def well(self) -> bool:
        """Whether nothing is to be done."""
        return not self.remedy


def doctor_command(as_json: bool) -> int:
    """Print what is here; returns 0 if nothing is missing and 1 otherwise."""
    with stdout_to_stderr():
        findings = [*requirements(), *machine(), *abilities()]
    missing = [finding for finding in findings if not finding.well]
    if as_json:
        print_json(_as_dict(findings))
        return bool(missing)
    rows = [[f.what, f.found, "ok" if f.well else f.remedy] for f in findings]
    for line in plain_table([["what", "found", ""], *rows], right=False):
        typer.echo(line)
    typer.echo(f"{len(missing)} to mend" if missing else "all well")
    return bool(missing)


def accuracy_command(protocol: str, as_json: bool) -> None:
    """Print how far a protocol's graph is from a finer one, and from isochromats."""
    with stdout_to_stderr():
        from bmapest_ray.sequence.parse import parse_protocol
        from bmapest_ray.simulate.accuracy import measure_accuracy

        found = measure_accuracy(parse_protocol(protocol))
    if as_json:
        print_json({"protocol": protocol, **asdict(found)})
        return
    rows = [
        ["states", str(found.states)],
        ["states, thresholds ten times finer", str(found.finer_states)],
        ["signal error against the finer graph", f"{found.graph_error:.1e} (at most 1e-3)"],
        ["signal error against isochromats", f"{found.isochromat_error:.1e} (spins are random)"],
    ]
    for line in plain_table([["accuracy", protocol], *rows], right=False):
        typer.echo(line)


def _as_dict(findings: list[Finding]) -> dict[str, Any]:
    return {
        "well": all(finding.well for finding in findings),
        "findings": [
            {"what": f.what, "found": f.found, "well": f.well, "remedy": f.remedy} for f in findings
        ],
    }


def requirements() -> list[Finding]:
    """Compare what is installed with what the package asks for."""
    found = [Finding("python", platform.python_version())]
    try:
        wanted = importlib.metadata.requires(PACKAGE) or []
        found.append(Finding(PACKAGE, importlib.metadata.version(PACKAGE)))
    except importlib.metadata.PackageNotFoundError:
        return [*found, Finding(PACKAGE, "not installed", "pip install bmapest_ray")]
    needs = [Requirement(text) for text in wanted]
    return found + [
        _requirement(need) for need in needs if need.marker is None or need.marker.evaluate()
    ]


def _requirement(need: Requirement) -> Finding:
    try:
        version = importlib.metadata.version(need.name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(need.name, "missing", f"pip install '{need}'")
    if need.specifier.contains(version, prereleases=True):
        return Finding(need.name, version)
    return Finding(need.name, version, f"needs {need.specifier}: pip install '{need}'")


def machine() -> list[Finding]:
    """Say what there is to compute with."""
    cores = available_cores()
    free_gib = shutil.disk_usage(".").free / 2**30
    disk = "" if free_gib > 1 else "free at least 1 GiB in this folder"
    return [
        Finding("cores", str(cores)),
        Finding("free disk here", f"{free_gib:.1f} GiB", disk),
        Finding("GPU", _gpu()),
    ]


def _gpu() -> str:
    try:
        import torch
    except ImportError:
        return "unknown: torch is missing"
    if not torch.cuda.is_available():
        return "none: the CPU is used"
    return ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def abilities() -> list[Finding]:
    """Try the two things that break first: the simulator's core and the default anatomy."""
    return [_simulator(), _anatomy()]


def _simulator() -> Finding:
    try:
        from bmapest_ray.simulate import mrzero  # noqa: F401
    except ImportError as error:
        return Finding("MR-zero", str(error), "pip install 'MRzeroCore>=1.2,<1.3'")
    return Finding("MR-zero", "loads")


def _anatomy() -> Finding:
    try:
        from bmapest_ray.anatomy.catalog import open_anatomy

        anatomy = open_anatomy("mni152")
        shape = anatomy.volume(anatomy.subjects[0]).fraction.shape
    except (ImportError, OSError) as error:
        return Finding("mni152", str(error), "pip install --force-reinstall nilearn")
    return Finding("mni152", f"{shape[1]} planes, offline")
