"""The part of an image that shows something: padding and collimated borders cut off."""

from __future__ import annotations

import numpy as np

_SAMPLES = 4096
_TOLERANCE = 0.02
_OUTLIERS = 0.01
_SMALLEST = 32


def foreground_box(array: np.ndarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The smallest box without flat borders.

    A border row, column or slice is flat where at most 1 % of its values differ from its median by more than 2 % of the
    image's range (1st to 99th percentile); so a single hot pixel does not keep a border, and a side marker does.

    Args:
        array: (h, w) or (d, h, w), finite.

    Returns:
        (start, size), both x first, for `Frame.cropped`. The whole image where everything is flat, or where
        what is left would be too small to show anything.
    """
    sample = array.reshape(-1)[:: max(1, array.size // 2**18) | 1]
    low, high = np.percentile(sample, (1, 99))
    tolerance = _TOLERANCE * (high - low)
    bounds = [[0, n] for n in array.shape]
    changed = True
    while changed:
        # Cutting one pair of sides can turn another flat (a frame around the film).
        moved = [_trim(array, bounds, axis, tolerance) for axis in range(array.ndim)]
        changed = any(moved)
    smallest = [min(_SMALLEST, n) if array.ndim == 2 else 1 for n in array.shape]
    if any(stop - start < least for (start, stop), least in zip(bounds, smallest, strict=True)):
        bounds = [[0, n] for n in array.shape]
    start, stop = zip(*bounds[::-1], strict=True)
    return tuple(start), tuple(b - a for a, b in zip(start, stop, strict=True))


def _trim(array: np.ndarray, bounds: list[list[int]], axis: int, tolerance: float) -> bool:
    """Move the two bounds of one array axis inwards past flat borders; True if any moved."""
    before = list(bounds[axis])
    while bounds[axis][0] < bounds[axis][1] and _is_flat(array, bounds, axis, bounds[axis][0], tolerance):
        bounds[axis][0] += 1
    while bounds[axis][0] < bounds[axis][1] and _is_flat(array, bounds, axis, bounds[axis][1] - 1, tolerance):
        bounds[axis][1] -= 1
    return bounds[axis] != before


def _is_flat(array: np.ndarray, bounds: list[list[int]], axis: int, index: int, tolerance: float) -> bool:
    """Whether the row, column or slice `index` within the bounds holds one value, but for outliers."""
    where = [slice(start, stop) for start, stop in bounds]
    where[axis] = index
    values = array[tuple(where)].ravel()
    values = values[:: max(1, values.size // _SAMPLES)].astype(np.float32)
    if values.size == 0:
        return False
    return bool(np.mean(np.abs(values - np.median(values)) > tolerance) <= _OUTLIERS)
