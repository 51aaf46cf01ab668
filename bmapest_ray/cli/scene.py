"""What ``invert`` and ``simulate`` share: one subject, one slice, one protocol, one noise draw."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bmapest_ray.base.errors import InvalidInput

if TYPE_CHECKING:
    import typer

    from bmapest_ray.study.config import StudyConfig


@dataclass(frozen=True)
class DataOptions:
    """How the data are made where that differs from the model that is fitted."""

    engine: str = "auto"
    mixing: str | None = None
    matrix: int | None = None
    tissue: str | None = None
    b0: str | None = None
    b1: str | None = None

    def section(self) -> dict[str, Any]:
        """Return the section ``data`` of a study."""
        return asdict(self)


_PRESET_PATHS = {
    "mixing": "mixing",
    "snr": "noise.snr",
    "b0": "fields.b0",
    "b1": "fields.b1",
    "coils": "fields.coils",
    "tissue_table": "tissue_table",
    "signal": "signal",
    "solver": "inversion.solver",
    "start": "inversion.start",
    "prior": "inversion.prior",
    "parametrisation": "inversion.parametrisation",
}
"""Options whose defaults yield to a preset, and where they are in a study."""


@dataclass(frozen=True)
class SceneOptions:
    """What is measured, and how; the options of the command line by their names."""

    anatomy: str
    subject: str | None
    matrix: int
    fov_mm: float
    where: str
    protocol: str
    mixing: str
    snr: float | None
    b0: str
    b1: str
    seed: int
    tissue_table: str = "paper-3t"
    data: DataOptions = field(default_factory=DataOptions)
    preset: str | None = None
    asked: frozenset[str] = frozenset()
    """Options that were given, whose values stand above the preset's."""
    coils: str = "1"

    def study(self, **sections: Any) -> "StudyConfig":  # noqa: ANN401 - sections are plain data
        """Return the study that holds this scene as its only job.

        Parameters
        ----------
        sections
            Further sections of the study.

        Raises
        ------
        InvalidInput, MissingInput
            If the scene breaks a rule or does not say which subject.
        """
        from bmapest_ray.study.loading import parse_study

        return parse_study(
            self._above_preset({
                "name": "single",
                "question": "What are the tissue maps of this slice?",
                "anatomy": {
                    "source": self.anatomy,
                    "subjects": [self._subject()],
                    "slices": [self.where],
                    "matrix": self.matrix,
                    "fov_mm": self.fov_mm,
                },
                "protocols": [self.protocol],
                "fields": {"b0": self.b0, "b1": self.b1, "coils": self.coils},
                "mixing": self.mixing,
                "tissue_table": self.tissue_table,
                "data": self.data.section(),
                "noise": {"snr": self.snr, "seed": self.seed},
                **sections,
            })
        )  # fmt: skip

    def _above_preset(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Name the preset, and leave out what was not asked for."""
        if self.preset is None:
            return raw
        for option, path in _PRESET_PATHS.items():
            if option not in self.asked:
                *sections, key = path.split(".")
                section = raw
                for name in sections:
                    section = section.get(name, {})
                section.pop(key, None)
        return {**raw, "preset": self.preset}

    def _subject(self) -> str:
        from bmapest_ray.anatomy.catalog import open_anatomy

        if self.subject is not None:
            return self.subject
        subjects = open_anatomy(self.anatomy).subjects
        if len(subjects) == 1:
            return subjects[0]
        raise InvalidInput(
            f"--subject must name one of {', '.join(subjects)} where an anatomy has several, got "
            "none; add it"
        )


def options_given(context: "typer.Context") -> frozenset[str]:
    """Return the names of the options that stand on the command line."""
    given = {
        name
        for name in context.params
        if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE"
    }
    return frozenset(given)


def output_folder(out: Path | None, default: str) -> Path:
    """Return the folder to write to, made if needed.

    Raises
    ------
    InvalidInput
        It cannot be made or written to.
    """
    from bmapest_ray.study.files import replace_text, writing

    folder = Path("runs") / default if out is None else out
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        replace_text(probe, "")
        probe.unlink()
    return folder
