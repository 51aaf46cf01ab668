"""An isochromat simulation of one voxel, independent of the package's simulators."""

import numpy as np
import pytest

GAMMA_HZ_PER_T = 42.576e6


def _positions(count, size_m):
    """Evenly spread points (additive recurrence of the plastic number) in x and z."""
    index = np.arange(count)[:, None]
    ratios = np.array([0.7548776662466927, 0.5698402909980532])
    return ((index * ratios) % 1.0 - 0.5) * np.asarray(size_m)


def _rotate(m, flip, phase):
    """Left-handed rotation of (3, n) about an axis in the transverse plane."""
    axis = np.array([np.cos(phase), np.sin(phase), 0.0])
    cross = np.cross(axis, m.T).T
    along = axis[:, None] * (axis @ m)
    return m * np.cos(flip) + cross * np.sin(flip) + along * (1 - np.cos(flip))


class Voxel:
    """Magnetisation of the isochromats of one voxel at the isocentre; a point along y."""

    def __init__(self, score, t1_s, t2_s, b0_hz=0.0, spins=500, slice_m=8e-3):
        self.score, self.t1_s, self.t2_s, self.b0_hz = score, t1_s, t2_s, b0_hz
        self.x_m, self.z_m = _positions(spins, (score.fov_m / score.matrix, slice_m)).T
        self.m = np.zeros((3, spins))
        self.m[2] = 1.0

    def evolve(self, time_s, kx=0.0, kz=0.0):
        angle = 2 * np.pi * (kx * self.x_m + kz * self.z_m + self.b0_hz * time_s)
        xy = (self.m[0] + 1j * self.m[1]) * np.exp(1j * angle - time_s / self.t2_s)
        self.m[0], self.m[1] = xy.real, xy.imag
        self.m[2] = 1 + (self.m[2] - 1) * np.exp(-time_s / self.t1_s)

    def signals(self):
        """Complex signal at the middle of every readout, receiver phase removed.

        A spiral is heard at its first sample, where it leaves k = 0.
        """
        raster_s, found = self.score.scanner.gradient_raster_s, []
        for block in self.score.blocks:
            areas = {axis: lobe.area_per_m(raster_s) for axis, lobe in block.gradients}
            kx, kz = areas.get("x", 0.0), areas.get("z", 0.0)
            total_s = block.steps * raster_s
            if block.pulse is not None:
                self.evolve(block.centre_s)
                flip, phase = np.deg2rad([block.pulse.flip_angle_deg, block.pulse.phase_deg])
                self.m = _rotate(self.m, flip, phase)
                self.evolve(total_s - block.centre_s)
            elif block.adc is not None:
                spiral = any(hasattr(lobe, "amplitudes_hz_per_m") for _, lobe in block.gradients)
                time, area = (block.adc.delay_s / total_s, 0.0) if spiral else (0.5, 0.5)
                self.evolve(time * total_s, area * kx, area * kz)
                phase = np.exp(-1j * np.deg2rad(block.adc.phase_deg))
                found.append(np.mean(self.m[0] + 1j * self.m[1]) * phase)
                self.evolve((1 - time) * total_s, (1 - area) * kx, (1 - area) * kz)
            else:
                self.evolve(total_s, kx, kz)
        return np.array(found)


@pytest.fixture
def central_signals():
    """Signal of a voxel in the line ky = 0 of every image of a chain, as {image: signal}.

    Every spoke and interleave passes k = 0; the last one counts.
    """

    def simulate(score, t1_s, t2_s, **options):
        signals = Voxel(score, t1_s, t2_s, **options).signals()
        return {
            score.images[readout.image]: signal
            for readout, signal in zip(score.readouts, signals, strict=True)
            if readout.line in (-1, score.matrix // 2)
        }

    return simulate
