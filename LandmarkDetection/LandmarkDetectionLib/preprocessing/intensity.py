"""Grey values of any film on one scale."""

from __future__ import annotations

import numpy as np

_SAMPLES = 2**18


def normalise(array: np.ndarray, percentiles: tuple[float, float] = (1.0, 99.0)) -> np.ndarray:
    """Cut gray values off at two percentiles, then scale them to zero mean and unit standard deviation.

    Percentiles, because many films are nearly saturated and carry markers of extreme value. They are taken from a
    regular sample where the array is large.

    Args:
        array: any shape, finite values.
        percentiles: lower and upper, 0 to 100.

    Returns:
        float32 of the same shape; zeros where every value is the same.
    """
    stride = max(1, array.size // _SAMPLES)
    # An odd stride visits every column of arrays of even width.
    low, high = np.percentile(array.reshape(-1)[:: stride | 1], percentiles)
    result = np.clip(array.astype(np.float32), np.float32(low), np.float32(high))
    result -= result.mean(dtype=np.float64)
    deviation = result.std(dtype=np.float64)
    if deviation > 0:
        result /= deviation
    return result
