"""A regular grid of pixels or voxels and its place in the patient.

One convention throughout the library: index 0 is the *centre* of the first pixel, and axes are ordered x, y(, z), so
that ``array.shape == frame.size[::-1]``. Physical coordinates are LPS millimetres (as in DICOM and ITK), always three
numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from .errors import ImageError

SpacingSource = Literal["calibrated", "detector", "given", "unknown"]
"""Where the spacing comes from: the object plane, the detector plane, the user, or nowhere (then it is not in mm)."""


@dataclass(frozen=True, eq=False)
class Frame:
    """A grid of ``n`` = 2 or 3 index axes in physical space.

    Attributes:
        size: number of samples along each index axis, x first.
        origin: (3,) LPS mm of the centre of index 0.
        steps: (3, n) LPS mm; column k is the step of one index along axis k (direction times spacing).
        spacing_source: whether, and from what, the millimetres are known.

    Raises:
        ImageError: if sizes are not positive, or steps are not finite, zero, or not independent of each other.

    Example:
        >>> frame = Frame.film((224, 160), spacing=0.5, spacing_source="calibrated")
        >>> frame.to_physical([10, 20])
        array([ 5., 10.,  0.])
    """

    size: tuple[int, ...]
    origin: np.ndarray
    steps: np.ndarray
    spacing_source: SpacingSource = "unknown"

    def __post_init__(self) -> None:
        size = tuple(int(n) for n in self.size)
        origin = np.array(self.origin, dtype=np.float64)
        steps = np.array(self.steps, dtype=np.float64)
        if len(size) not in (2, 3) or origin.shape != (3,) or steps.shape != (3, len(size)):
            raise ImageError(f"An image must have 2 or 3 axes placed in 3-D space, not a grid of {len(size)} axes.")
        if min(size) < 1:
            raise ImageError(f"An image must have at least one pixel along each axis, but the size is {size}.")
        if not np.isfinite(origin).all() or not np.isfinite(steps).all():
            raise ImageError("The origin or spacing of the image is not a number; give a spacing in millimeters.")
        lengths = np.linalg.norm(steps, axis=0)
        if (lengths <= 0).any():
            raise ImageError("The spacing of the image is zero; give a spacing in millimeters.")
        if np.linalg.matrix_rank(steps / lengths, tol=1e-6) < len(size):
            raise ImageError("The axes of the image are parallel to each other; its orientation is damaged.")
        if self.spacing_source not in get_args(SpacingSource):
            raise ImageError(f"'{self.spacing_source}' is not a source of spacing; use {get_args(SpacingSource)}.")
        origin.setflags(write=False)
        steps.setflags(write=False)
        for field, value in (("size", size), ("origin", origin), ("steps", steps)):
            object.__setattr__(self, field, value)

    @classmethod
    def film(
        cls,
        size: Sequence[int],
        spacing: float | Sequence[float] = 1.0,
        spacing_source: SpacingSource = "unknown",
    ) -> Frame:
        """The frame Slicer gives a picture: x runs to the patient's left, y to posterior (R = -x, A = -y), origin 0.

        Args:
            size: (width, height).
            spacing: mm per pixel, one number or (x, y).
            spacing_source: leave at ``unknown`` where the spacing of 1 stands for pixels.
        """
        spacing_xy = np.broadcast_to(np.asarray(spacing, dtype=np.float64), (2,))
        if not (np.isfinite(spacing_xy).all() and (spacing_xy > 0).all()):
            raise ImageError(f"A spacing of {spacing} is not possible; give a positive number of millimeters.")
        return cls(tuple(size), np.zeros(3), np.eye(3)[:, :2] * spacing_xy, spacing_source)

    @property
    def dims(self) -> int:
        """Number of index axes, 2 for a film and 3 for a volume."""
        return len(self.size)

    @property
    def spacing(self) -> np.ndarray:
        """(n,) length of one index step along each axis, mm where `has_millimetres`."""
        return np.linalg.norm(self.steps, axis=0)

    @property
    def has_millimetres(self) -> bool:
        """Whether lengths in this frame may be reported in millimetres."""
        return self.spacing_source != "unknown"

    def direction(self) -> np.ndarray:
        """(3, n) unit vectors of the index axes in LPS."""
        return self.steps / self.spacing

    def to_physical(self, index: ArrayLike) -> np.ndarray:
        """Index coordinates (..., n) to LPS (..., 3)."""
        return np.asarray(index, dtype=np.float64) @ self.steps.T + self.origin

    def to_index(self, physical: ArrayLike) -> np.ndarray:
        """LPS (..., 3) to index coordinates (..., n); for a film, of the orthogonal projection onto its plane."""
        return (np.asarray(physical, dtype=np.float64) - self.origin) @ np.linalg.pinv(self.steps).T

    def index_map(self, other: Frame) -> np.ndarray:
        """Affine (other.dims, self.dims + 1) that takes index coordinates of this frame to those of `other`."""
        inverse = np.linalg.pinv(other.steps)
        return np.column_stack([inverse @ self.steps, inverse @ (self.origin - other.origin)])

    def cropped(self, start: Sequence[float], size: Sequence[int]) -> Frame:
        """The frame that begins at index `start` of this one; it may reach beyond this frame on any side (padding)."""
        return Frame(tuple(size), self.to_physical(start), self.steps, self.spacing_source)

    def flipped(self, axis: int) -> Frame:
        """The frame of the array reversed along index `axis` (0 = x)."""
        last = np.zeros(self.dims)
        last[axis] = self.size[axis] - 1
        sign = np.ones(self.dims)
        sign[axis] = -1
        return Frame(self.size, self.to_physical(last), self.steps * sign, self.spacing_source)

    def permuted(self, order: Sequence[int]) -> Frame:
        """The frame whose axis k is axis ``order[k]`` of this one."""
        order = list(order)
        if sorted(order) != list(range(self.dims)):
            raise ImageError(f"{order} is not an order of {self.dims} axes.")
        return Frame(tuple(self.size[k] for k in order), self.origin, self.steps[:, order], self.spacing_source)

    def resampled(self, size: Sequence[int] | None = None, spacing: float | Sequence[float] | None = None) -> Frame:
        """A finer or coarser grid over the same extent; pixel *edges* coincide: i is ``(i' + 0.5) * f - 0.5``.

        Args:
            size: number of samples along each axis, or
            spacing: wanted step; the nearest step that fits a whole number of times into the extent is taken.
        """
        if (size is None) == (spacing is None):
            raise ImageError("Resampling needs either a size or a spacing.")
        if size is None:
            wanted = np.asarray(spacing, dtype=np.float64)
            if not (np.isfinite(wanted).all() and (wanted > 0).all()):
                raise ImageError(f"A spacing of {spacing} is not possible; give a positive number of millimeters.")
            size = [max(1, round(n)) for n in np.asarray(self.size) * self.spacing / wanted]
        factor = np.asarray(self.size, dtype=np.float64) / np.asarray(size)
        return Frame(tuple(size), self.to_physical(0.5 * factor - 0.5), self.steps * factor, self.spacing_source)

    def to_dict(self) -> dict:
        """A JSON-able description, read back by `from_dict` without loss."""
        return {
            "size": list(self.size),
            "origin": self.origin.tolist(),
            "steps": self.steps.tolist(),
            "spacing_source": self.spacing_source,
        }

    @classmethod
    def from_dict(cls, description: dict) -> Frame:
        """The frame that `to_dict` described."""
        return cls(
            tuple(description["size"]),
            np.asarray(description["origin"]),
            np.asarray(description["steps"]),
            description["spacing_source"],
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frame) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.size, self.origin.tobytes(), self.steps.tobytes(), self.spacing_source))
