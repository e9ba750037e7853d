"""An image sampled on another grid, anti-aliased where that is coarser.

The kernel is a triangle as wide as two steps of the *coarser* of the two grids: linear interpolation when enlarging, an
area-like average when reducing. It is applied axis by axis as small sparse matrices built in index coordinates, so that
fractional boxes, flips and swapped axes are exact and nothing larger than a strip is held in floating point.
"""

from __future__ import annotations

import numpy as np
import scipy.ndimage
import scipy.sparse

from ..errors import ImageError
from ..geometry import Frame
from ..images import Image

_STRIP = 128
_FINER = 0.7


def sample(image: Image, frame: Frame) -> np.ndarray:
    """The image's gray values on another grid in the same physical space.

    Outside the image its edge values go on. `frame` may be cropped, scaled, mirrored, have its axes swapped, or be
    rotated; for films, points of `frame` are projected onto the film.

    Args:
        image: a film or volume.
        frame: grid with as many axes as the image.

    Returns:
        float32 array of the shape ``frame.size[::-1]``.

    Raises:
        ImageError: `frame` and the image have different numbers of axes, or lie at right angles to each other.
    """
    if frame.dims != image.dims:
        raise ImageError(f"'{image.name}' has {image.dims} axes and cannot be sampled on a grid of {frame.dims}.")
    affine = frame.index_map(image.frame)
    matrix, offset = affine[:, :-1], affine[:, -1]
    order = np.argmax(np.abs(matrix), axis=1)
    main = matrix[np.arange(frame.dims), order]
    if (np.abs(main) < 1e-9).any():
        raise ImageError(f"The grid on which '{image.name}' is to be sampled lies at right angles to it.")
    rest = matrix.copy()
    rest[np.arange(frame.dims), order] = 0
    # A slant of less than a hundredth of a pixel across the grid is rounding, not rotation.
    is_aligned = len(set(order.tolist())) == frame.dims and (np.abs(rest) @ np.array(frame.size) < 0.01).all()
    if not is_aligned:
        return _sample_rotated(image, frame)
    offset = offset + rest @ ((np.array(frame.size) - 1) / 2)
    size = [frame.size[axis] for axis in order]
    array = _sample_aligned(image.array, size, main, offset)
    # Image axis k became frame axis order[k]; arrays count axes from the other end.
    inverse = np.argsort(order)
    axes = [frame.dims - 1 - int(inverse[frame.dims - 1 - k]) for k in range(frame.dims)]
    return np.ascontiguousarray(array.transpose(axes))


def triangle_weights(source: int, target: int, step: float, offset: float) -> scipy.sparse.csr_matrix:
    """Weights (target, source), float32, that sample a line of `source` pixels at ``step * j + offset``.

    Every row sums to 1; weights that fall outside the line are given to its first or last pixel.
    """
    radius = max(1.0, abs(step))
    centres = step * np.arange(target) + offset
    taps = np.arange(int(np.ceil(2 * radius)) + 1)
    index = np.ceil(centres - radius)[:, None] + taps
    weights = np.maximum(0.0, 1.0 - np.abs(index - centres[:, None]) / radius)
    weights /= weights.sum(axis=1, keepdims=True)
    columns = np.clip(index, 0, source - 1).astype(np.int64)
    rows = np.repeat(np.arange(target), len(taps))
    matrix = scipy.sparse.coo_matrix((weights.ravel(), (rows, columns.ravel())), shape=(target, source))
    return matrix.astype(np.float32).tocsr()


def _sample_aligned(array: np.ndarray, size: list[int], steps: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Sample each axis in turn; `size`, `steps` and `offsets` are in the order of the image's axes, x first."""
    weights, used = [], []
    for axis, n in enumerate(array.shape):
        k = array.ndim - 1 - axis
        matrix = triangle_weights(n, size[k], float(steps[k]), float(offsets[k]))
        first, last = int(matrix.indices.min()), int(matrix.indices.max()) + 1
        weights.append(matrix[:, first:last])
        used.append(slice(first, last))
    # Only what carries weight is converted, so that the cost goes with the region and not with the film.
    result = array[tuple(used)]
    for axis, matrix in enumerate(weights):
        result = _along_axis(result, matrix, axis)
    return result


def _along_axis(array: np.ndarray, weights: scipy.sparse.csr_matrix, axis: int) -> np.ndarray:
    """Multiply one array axis by a weight matrix, strip by strip; float32."""
    lines = np.moveaxis(array, axis, 0)
    result = np.zeros((weights.shape[0], int(np.prod(lines.shape[1:]))), dtype=np.float32)
    columns = weights.tocsc()
    for start in range(0, lines.shape[0], _STRIP):
        strip = lines[start : start + _STRIP]
        part = columns[:, start : start + _STRIP].tocsr()
        rows = np.flatnonzero(np.diff(part.indptr))
        if len(rows) == 0:
            continue
        first, last = rows[0], rows[-1] + 1
        values = np.ascontiguousarray(strip, dtype=np.float32).reshape(strip.shape[0], -1)
        result[first:last] += part[first:last] @ values
    return np.moveaxis(result.reshape(-1, *lines.shape[1:]), 0, axis)


def _sample_rotated(image: Image, frame: Frame) -> np.ndarray:
    """Reduce along the image's own axes to about the resolution of `frame`, then interpolate linearly."""
    affine = frame.index_map(image.frame)
    matrix, offset = affine[:, :-1], affine[:, -1]
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in frame.size])).reshape(frame.dims, -1)
    reach = matrix @ corners + offset[:, None]
    # Somewhat finer than the target, because the second step blurs too.
    steps = np.maximum(1.0, _FINER * np.linalg.norm(matrix, axis=1))
    low = np.floor(reach.min(axis=1) - steps)
    size = np.ceil((reach.max(axis=1) - low) / steps).astype(int) + 2
    coarse = _sample_aligned(image.array, size.tolist(), steps, low)
    # ndimage counts axes in array order, last index first.
    to_coarse = (matrix / steps[:, None])[::-1, ::-1]
    shift = ((offset - low) / steps)[::-1]
    return scipy.ndimage.affine_transform(
        coarse, to_coarse, shift, output_shape=frame.size[::-1], output=np.float32, order=1, mode="nearest"
    )
