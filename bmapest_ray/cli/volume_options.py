"""``bmapest volume`` and its options."""

from bmapest_ray.cli.options import (
    AnatomyOption,
    FieldOption,
    FovOption,
    JsonOption,
    MatrixOption,
    OutOption,
    ProtocolOption,
    SeedOption,
    SnrOption,
    SubjectOption,
)


def volume(
    anatomy: AnatomyOption = "mni152",
    subject: SubjectOption = None,
    matrix: MatrixOption = 64,
    fov_mm: FovOption = 216.0,
    protocol: ProtocolOption = "t1inv,t2prep",
    snr: SnrOption = 100.0,
    b0: FieldOption = "analytic",
    b1: FieldOption = "analytic",
    seed: SeedOption = 0,
    out: OutOption = None,
    json: JsonOption = False,
) -> None:
    """Simulate and invert every axial slice with tissue, and write the maps as volumes."""
    from bmapest_ray.cli.scene import SceneOptions
    from bmapest_ray.cli.volume_command import volume_command

    scene = SceneOptions(
        anatomy, subject, matrix, fov_mm, "below-top:75", protocol, "compartments", snr, b0, b1,
        seed,
    )  # fmt: skip
    volume_command(scene, out, json)
