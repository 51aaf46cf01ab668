"""Rigid registration by mutual information (SimpleITK), an option: `bmapest_ray[register]`.

The only place that imports ``SimpleITK``, inside functions. Only affines change; nothing is
interpolated here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bmapest_ray.anatomy.nifti import Volume
from bmapest_ray.base.errors import InvalidInput, MissingInput

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_LEVELS_MM = (4.0, 2.0)
_BINS, _SHARE, _SEED = 40, 0.2, 7
_STEP_MM, _LEAST_STEP_MM, _STEPS = 2.0, 1e-3, 200


def rigid_to(fixed: Volume, moving: Volume, *, from_centres: bool = False) -> NDArray[np.float64]:
    """Return the motion of the world that lays one image on another.

    Parameters
    ----------
    fixed, moving
        Images of heads, of any contrast.
    from_centres
        Start with the centres of mass on each other instead of where the affines put them.

    Returns
    -------
    ndarray
        Shape `(4, 4)`: ``motion @ moving.affine`` is the affine of the moved image, RAS mm.

    Raises
    ------
    MissingInput
        If SimpleITK is not installed.
    InvalidInput
        If the images never overlap.
    """
    sitk = _library()
    still, moved = (_image(sitk, volume) for volume in (fixed, moving))
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    method = _method(sitk, min(still.GetSpacing()))
    start = sitk.Euler3DTransform()
    start.SetCenter(still.TransformContinuousIndexToPhysicalPoint([s / 2 for s in still.GetSize()]))
    if from_centres:
        kind = sitk.CenteredTransformInitializerFilter.MOMENTS
        start = sitk.CenteredTransformInitializer(still, moved, sitk.Euler3DTransform(), kind)
    method.SetInitialTransform(start, inPlace=False)
    try:
        found = method.Execute(still, moved)
    except RuntimeError as error:
        raise InvalidInput(
            "images must overlap to be registered, they do not; check their affines"
        ) from error
    return np.asarray(_LPS @ np.linalg.inv(_matrix(found)) @ _LPS, dtype=np.float64)


def _library() -> Any:  # noqa: ANN401 - a module
    try:
        import SimpleITK
    except ImportError as error:
        raise MissingInput(
            "registration needs SimpleITK, it is not installed; pip install 'bmapest_ray[register]'"
        ) from error
    return SimpleITK


def _method(sitk: Any, spacing_mm: float) -> Any:  # noqa: ANN401 - SimpleITK
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(_SHARE, _SEED)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(_STEP_MM, _LEAST_STEP_MM, _STEPS)
    method.SetOptimizerScalesFromPhysicalShift()
    shrink = [max(1, round(level / spacing_mm)) for level in _LEVELS_MM]
    method.SetShrinkFactorsPerLevel(shrink)
    method.SetSmoothingSigmasPerLevel(list(_LEVELS_MM))
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    return method


def _image(sitk: Any, volume: Volume) -> Any:  # noqa: ANN401 - SimpleITK
    affine = _LPS @ volume.affine
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume.data, dtype=np.float32))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((affine[:3, :3] / spacing).flatten().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def _matrix(transform: Any) -> NDArray[np.float64]:  # noqa: ANN401 - a SimpleITK transform
    """Return the 4 x 4 matrix of a rigid transform, from where it takes four points."""
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    matrix = np.eye(4)
    for axis, unit in enumerate(np.eye(3)):
        matrix[:3, axis] = np.array(transform.TransformPoint(tuple(unit.tolist()))) - origin
    matrix[:3, 3] = origin
    return matrix
