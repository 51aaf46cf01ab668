"""Raw data: a known object goes through k-space and comes back where it was."""

from pathlib import Path

import numpy as np
import pytest

from bmapest_ray.base.errors import InvalidInput, MissingInput
from bmapest_ray.scan.images import read_image
from bmapest_ray.scan.sidecar import read_sidecar

HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
 <subjectInformation><patientName>Zyxwdoe</patientName></subjectInformation>
 <acquisitionSystemInformation><systemFieldStrength_T>3</systemFieldStrength_T>
 </acquisitionSystemInformation>
 <experimentalConditions><H1resonanceFrequency_Hz>123000000</H1resonanceFrequency_Hz>
 </experimentalConditions>
 <encoding>
  <encodedSpace><matrixSize><x>16</x><y>6</y><z>{nz}</z></matrixSize>
   <fieldOfView_mm><x>32</x><y>12</y><z>{fz}</z></fieldOfView_mm></encodedSpace>
  <reconSpace><matrixSize><x>8</x><y>6</y><z>{nz}</z></matrixSize>
   <fieldOfView_mm><x>16</x><y>12</y><z>{fz}</z></fieldOfView_mm></reconSpace>
  <encodingLimits>
   <kspace_encoding_step_1><minimum>0</minimum><maximum>5</maximum><center>3</center>
   </kspace_encoding_step_1>
   <kspace_encoding_step_2><minimum>0</minimum><maximum>{top}</maximum><center>{mid}</center>
   </kspace_encoding_step_2>
  </encodingLimits>
  <trajectory>{kind}</trajectory>
 </encoding>
 <sequenceParameters><TR>2300</TR><TE>3</TE><TI>1100</TI><flipAngle_deg>9</flipAngle_deg>
 </sequenceParameters>
</ismrmrdHeader>
"""


def made_object(planes: int) -> np.ndarray:
    """Return magnitudes `(z, y, x)`, in the direction of LPS, with oversampled x."""
    rng = np.random.default_rng(0)
    inner = rng.uniform(1, 2, (planes, 6, 8)).astype(np.float32)
    return np.pad(inner, [(0, 0), (0, 0), (4, 4)])


def write_mrd(path: Path, *, volume: bool, leave: int = 0, kind: str = "cartesian") -> np.ndarray:
    """Write four planes, as one slab or as slices in odd order, seen by two coils."""
    import ismrmrd

    shown = made_object(4)
    slabs = shown[None] if volume else shown[:, None]
    axes = (1, 2, 3)
    spectrum = np.fft.fftshift(
        np.fft.fftn(np.fft.ifftshift(slabs, axes=axes), axes=axes, norm="ortho"), axes=axes
    )
    nz = slabs.shape[1]
    data = ismrmrd.Dataset(str(path))
    text = HEADER.format(nz=nz, fz=4 * 3 if volume else 3, top=nz - 1, mid=nz // 2, kind=kind)
    data.write_xml_header(text.encode())
    for s in (2, 0, 3, 1)[: len(slabs)] if not volume else (0,):
        for z in range(nz):
            for y in range(6 - leave):
                line = spectrum[s, z, y].astype(np.complex64)
                acquisition = ismrmrd.Acquisition.from_array(np.stack([0.6 * line, 0.8j * line]))
                acquisition.center_sample = 8
                acquisition.idx.kspace_encode_step_1 = y
                acquisition.idx.kspace_encode_step_2 = z
                acquisition.idx.slice = s
                acquisition.read_dir[:] = (1, 0, 0)
                acquisition.phase_dir[:] = (0, 1, 0)
                acquisition.slice_dir[:] = (0, 0, 1)
                acquisition.position[:] = (10, 20, 30 + (0 if volume else 3 * s))
                data.append_acquisition(acquisition)
    data.close()
    return shown[:, :, 4:12]


@pytest.mark.parametrize("volume", [True, False])
def test_raw_data_come_back_as_they_were(volume: bool, tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    shown = write_mrd(path, volume=volume)
    found = read_image(path)
    assert np.allclose(found.data, shown[:, ::-1, ::-1], atol=1e-5)  # LPS to RAS turns x and y
    place = np.linalg.inv(found.affine) @ [-10, -20, 30, 1]  # the middle: pixel N/2 along L and P
    assert place[:3] == pytest.approx([8 - 1 - 4, 6 - 1 - 3, 2 if volume else 0])
    assert np.abs(np.diag(found.affine)[:3]) == pytest.approx([2, 2, 3])


def test_the_header_gives_the_protocol_and_no_name(tmp_path: Path) -> None:
    write_mrd(tmp_path / "scan.h5", volume=True)
    assert read_sidecar(tmp_path / "scan.h5") == pytest.approx(
        {"RepetitionTime": 2.3, "EchoTime": 0.003, "InversionTime": 1.1, "FlipAngle": 9,
         "MagneticFieldStrength": 3}
    )  # fmt: skip


def test_raw_data_that_cannot_be_reconstructed_are_refused(tmp_path: Path) -> None:
    write_mrd(tmp_path / "half.h5", volume=True, leave=2)
    with pytest.raises(InvalidInput, match="8 of 24 lines are missing"):
        read_image(tmp_path / "half.h5")
    write_mrd(tmp_path / "radial.h5", volume=True, kind="radial")
    with pytest.raises(InvalidInput, match="must be Cartesian, got radial"):
        read_image(tmp_path / "radial.h5")
    (tmp_path / "text.h5").write_text("no data")
    with pytest.raises(InvalidInput, match="readable ISMRMRD"):
        read_image(tmp_path / "text.h5")
    with pytest.raises(MissingInput, match="there is none"):
        read_image(tmp_path / "none.h5")
