"""Long thin bones (ribs, processes, pedicles) as tubes of oval section along a curved line.

A tube has a signed distance as every other solid has; because it is thin it is projected by laying its substance down
point by point instead of walking through all the air around it. World frame as in `vertebrae`, mm.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from .shapes import Pose, Profile
from .volume import fractions

STEP = 0.6  # mm between the sections of a tube
GRAIN = 0.5  # mm2 of a section that one point stands for
GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))


@dataclass(frozen=True)
class Tube:
    """Sections along a line: `line` (n, 3) centres, `across` and `up` (n, 3) unit axes with half sizes (n,), mm."""

    name: str
    line: np.ndarray
    across: np.ndarray
    up: np.ndarray
    half_across: np.ndarray
    half_up: np.ndarray
    shell: float  # thickness of the compact wall
    scar: None = None

    @property
    def cortex(self) -> Profile:
        """Thickness of the wall as other solids give it, over z."""
        return Profile([(-1.0, self.shell), (1.0, self.shell)], 1.0)

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        reach = float(max(self.half_across.max(), self.half_up.max())) + 1.0
        limits = zip(self.line.min(0) - reach, self.line.max(0) + reach, strict=True)
        return tuple((float(low), float(high)) for low, high in limits)

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.line)

    def distance(self, x, y, z) -> np.ndarray:
        """Signed distance (mm), negative inside, first order in the distance; the ends are cut flat."""
        points = np.stack(np.broadcast_arrays(x, y, z), axis=-1).astype(float)
        near = self._tree.query(points)[1]
        offset = points - self.line[near]
        u = np.sum(offset * self.across[near], axis=-1) / self.half_across[near]
        v = np.sum(offset * self.up[near], axis=-1) / self.half_up[near]
        radius = np.hypot(u, v) + 1e-6
        wall = (radius - 1) * radius / (np.hypot(u / self.half_across[near], v / self.half_up[near]) + 1e-6)
        along = np.cross(self.across[near], self.up[near])
        beyond = np.abs(np.sum(offset * along, axis=-1)) - STEP
        # Between two sections `beyond` is negative and small; it must not make all of the inside look like wall.
        return np.where(beyond > 0, np.maximum(wall, beyond), wall).astype(np.float32)

    def turned(self, rotation: np.ndarray) -> Tube:
        """The tube after a rotation (3, 3) about the origin."""
        turned = {key: getattr(self, key) @ rotation.T for key in ("line", "across", "up")}
        return replace(self, **turned)


def tube(name: str, points, half_across, half_up, shell: float = 0.8, up=(0, 0, 1), pose: Pose | None = None) -> Tube:
    """A tube through control points.

    Args:
        name: of the bone.
        points: (m, 3) control points, mm, in the frame of `pose` (the world where None).
        half_across, half_up: half sizes of the section at the control points, m numbers or one.
        shell: thickness of the wall, mm.
        up: direction, not along the line, near which `half_up` is measured; in the frame of `pose`.
        pose: places the tube in the world.
    """
    points, up = np.asarray(points, dtype=float), np.asarray(up, dtype=float)
    if pose is not None:
        points, up = pose.to_world(points), pose.matrix @ up
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    way = np.linspace(0, length[-1], max(int(length[-1] / STEP), 3))
    line = PchipInterpolator(length, points)(way)
    along = np.gradient(line, way, axis=0)
    across = np.cross(along, up)
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    upward = np.cross(across, along)
    upward /= np.linalg.norm(upward, axis=1, keepdims=True)
    halves = [np.interp(way, length, np.broadcast_to(half, len(points))) for half in (half_across, half_up)]
    return Tube(name, line, across, upward, *halves, shell)


def project_tubes(tubes: Iterable[Tube], x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compact and trabecular path lengths (mm) of a beam along y, (len(z), len(x)).

    Args:
        tubes: what is in the way.
        x: columns of the grid, ascending and regular, mm; z: rows, descending with the same step.
    """
    step, shape = float(x[1] - x[0]), (len(z), len(x))
    compact, trabecular = np.zeros((2, *shape))
    for each in tubes:
        (x0, x1), _, (z0, z1) = each.bounds
        if x1 < x[0] or x0 > x[-1] or z1 < z[-1] or z0 > z[0]:
            continue
        across, up, weight, hard = _points(each)
        columns = (across - x[0]) / step
        rows = (z[0] - up) / step
        for target, share in ((compact, weight * hard), (trabecular, weight * (1 - hard))):
            _deposit(target, rows, columns, share / step**2)
    return gaussian_filter(compact, 0.6), gaussian_filter(trabecular, 0.6)


def _points(each: Tube) -> tuple[np.ndarray, ...]:
    """Points spread evenly in a tube: film x and z (mm), volume (mm3) and share of compact bone, flat arrays."""
    count = max(int(np.pi * np.mean(each.half_across * each.half_up) / GRAIN), 12)
    number, section = np.arange(count), np.arange(len(each.line))[:, None]
    # Each section is turned against the last one by irrational shares, so that no streaks run along the tube, and
    # points stand where they like within their ring, so that they form no pattern with the pixels.
    stray = np.random.default_rng(0).random((len(each.line), count))
    radius = np.sqrt((number + stray) / count)
    angle = number * GOLDEN_ANGLE + section * (0.7548777 * 2 * np.pi)
    u, v = radius * np.cos(angle), radius * np.sin(angle)
    a, b = each.half_across[:, None], each.half_up[:, None]
    position = [
        each.line[:, None, axis] + u * a * each.across[:, None, axis] + v * b * each.up[:, None, axis]
        for axis in (0, 2)
    ]
    spread = np.hypot(u / a, v / b) + 1e-6
    hard, _ = fractions((radius - 1) * radius / spread, each.shell, STEP)
    inside, _ = fractions((radius - 1) * radius / spread, 1e3, STEP)
    way = np.linalg.norm(np.gradient(each.line, axis=0), axis=1)[:, None]
    weight = np.pi * a * b * way / count
    share = hard / np.maximum(inside, 1e-6)
    return position[0].ravel(), position[1].ravel(), np.broadcast_to(weight, u.shape).ravel(), share.ravel()


def _deposit(target: np.ndarray, rows: np.ndarray, columns: np.ndarray, amount: np.ndarray) -> None:
    """Add amounts at fractional places of the grid, shared between the four nearest points of it."""
    row, column = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    keep = (row >= 0) & (column >= 0) & (row < target.shape[0] - 1) & (column < target.shape[1] - 1)
    row, column, amount = row[keep], column[keep], amount[keep]
    down, right = rows[keep] - row, columns[keep] - column
    if not len(row):
        return
    first, last = int(row.min()), int(row.max()) + 2  # the rows that are touched
    place, flat = (row - first) * target.shape[1] + column, target[first:last].reshape(-1)
    for offset, share in (
        (0, (1 - down) * (1 - right)),
        (1, (1 - down) * right),
        (target.shape[1], down * (1 - right)),
        (target.shape[1] + 1, down * right),
    ):
        flat += np.bincount(place + offset, amount * share, minlength=flat.size)
