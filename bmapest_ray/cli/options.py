"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

AnatomyOption = Annotated[
    str,
    typer.Option(
        help="mni152, bids:DIR of probability maps, or brainweb:DIR as downloaded; simulate also "
        "takes mrzero:FILE.json, maps:FILE.npz|FILE.mat|DIR and labels:FILE of BrainWeb."
    ),
]
SubjectOption = Annotated[
    str | None, typer.Option(help="Subject; needed where the anatomy has several.")
]
MatrixOption = Annotated[int, typer.Option(help="Pixels along each side of the slice; even.")]
FovOption = Annotated[float, typer.Option(help="Field of view, pixel edge to pixel edge.")]
SliceOption = Annotated[
    str,
    typer.Option("--slice", help="below-top:MM, z:MM (world) or index:N."),
]
ProtocolOption = Annotated[
    str, typer.Option(help="e.g. t1inv,t2prep[1], a preset's name or a YAML file.")
]
MixingOption = Annotated[str, typer.Option(help="How tissues share a voxel: compartments|average.")]
FieldOption = Annotated[str, typer.Option(help="none|analytic|FILE.nii.gz")]
CoilsOption = Annotated[
    str, typer.Option(help="Receive coils: a number of analytic ones, or a complex NIfTI file.")
]
SnrOption = Annotated[
    float | None,
    typer.Option(help="Largest noise-free magnitude over the noise's sd; none is noise-free."),
]
SeedOption = Annotated[int, typer.Option(help="Seed of the noise.")]
TableOption = Annotated[str, typer.Option(help="Tissue table of the fit: paper-3t or FILE.yaml.")]
DataEngineOption = Annotated[
    str, typer.Option(help="Engine that makes the data: auto|reference|exact|lowrank.")
]
DataMixingOption = Annotated[
    str | None, typer.Option(help="Mixing of the data, where it differs from the fit's.")
]
DataMatrixOption = Annotated[
    int | None, typer.Option(help="Voxels per side that the data are made from, e.g. 216.")
]
DataTissueOption = Annotated[
    str | None, typer.Option(help="Changes of the data's tissue table, e.g. T1=+5%,T2=-5%.")
]
DataFieldOption = Annotated[
    str | None, typer.Option(help="Field of the data, where it differs: none|analytic|FILE.nii.gz")
]
OutOption = Annotated[Path | None, typer.Option(help="Folder for what is written.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
