"""Spines drawn from a smooth curve, for tests: 17 vertebrae, four corners each, Gaussian heatmaps about them."""

from __future__ import annotations

import functools

import numpy as np
from LandmarkDetectionLib.geometry import Frame
from LandmarkDetectionLib.inference.detection import Detection, Heatmaps
from LandmarkDetectionLib.landmarks import LandmarkSet, load_schema
from LandmarkDetectionLib.priors import ShapePrior

SIZE = (200, 520)
"""(w, h) of the film in pixels."""

VERTEBRAE = 17
CORNERS = np.array([[-1.0, -1.0], [1.0, -1.0], [-1.0, 1.0], [1.0, 1.0]])
"""TL, TR, BL, BR of a vertebra in units of half its width and half its height."""

CELL = 4
"""Pixels along a side of one cell of the heatmaps."""


def column_points(bends=(0.0, 0.0, 0.0), size=SIZE) -> np.ndarray:
    """(68, 2) corners in the order of the schema, index coordinates of a film that the column fills from top to bottom.

    Args:
        bends: amplitudes of one, two and three half waves across the column, as shares of the film's width.
    """
    width, height = size
    edges = np.cumsum(np.concatenate([[0.0], np.linspace(0.8, 1.2, VERTEBRAE)]))
    edges = (0.04 + 0.92 * edges / edges[-1]) * height
    middle, step = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    waves = np.pi * np.outer((middle - edges[0]) / (edges[-1] - edges[0]), (1, 2, 3))
    amplitudes = np.asarray(bends) * width
    across = width / 2 + np.sin(waves) @ amplitudes
    slopes = (np.cos(waves) * np.pi * np.array([1, 2, 3]) / (edges[-1] - edges[0])) @ amplitudes
    angles = -np.arctan(slopes)
    half = np.stack([np.linspace(0.10, 0.16, VERTEBRAE) * width, 0.39 * step], axis=-1)
    local = CORNERS * half[:, None]
    cosine, sine = np.cos(angles), np.sin(angles)
    turns = np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)], -2)
    return (np.stack([across, middle], axis=-1)[:, None] + local @ turns.transpose(0, 2, 1)).reshape(-1, 2)


@functools.cache
def column_prior() -> ShapePrior:
    """A prior of 150 columns that bend at random, with a little noise in every corner."""
    random = np.random.default_rng(11)
    bends = random.normal(scale=(0.10, 0.06, 0.03), size=(150, 3))
    shapes = np.stack([column_points(bend) for bend in bends])
    return ShapePrior.fit(shapes + random.normal(scale=0.8, size=shapes.shape), folds=3)


def column_detection(
    frame: Frame | None = None, absent: tuple[str, ...] = (), bends=(0.08, -0.05, 0.02), name: str = "spine-drawn"
) -> Detection:
    """A detection without a side in a film of any size; corners are found near the truth, surer at the upper end.

    Args:
        frame: of the film; 1 mm pixels and `SIZE` by default.
        absent: ids of landmarks that are not in the image.
        bends: see `column_points`.
    """
    frame = frame or Frame.film(SIZE)
    schema = load_schema("spine-ap")
    size = np.array(frame.size, dtype=float)
    positions = column_points(bends, frame.size) + np.random.default_rng(5).normal(scale=0.4, size=(4 * VERTEBRAE, 2))
    cells = tuple(int(n) for n in size // CELL)
    grid = frame.resampled(size=cells)
    steps = size / cells
    deviations = np.linspace(0.5, 1.0, len(positions))[:, None] * steps.mean()
    x, y = (np.arange(n) * step + (step - 1) / 2 for n, step in zip(cells, steps, strict=True))
    squared = (y[:, None] - positions[:, 1, None, None]) ** 2 + (x - positions[:, 0, None, None]) ** 2
    logits = -0.5 * squared / deviations[..., None] ** 2
    covariances = deviations[..., None] ** 2 * np.eye(2)
    errors = deviations[:, 0] * np.sqrt(np.pi / 2)
    threshold = float(np.quantile(errors, 0.9))
    statuses = np.where(errors > threshold, "review", "predicted").astype(object)
    for row in map(schema.index, absent):
        positions[row], covariances[row], errors[row], statuses[row] = np.nan, np.nan, np.nan, "absent"
    landmarks = LandmarkSet(
        schema, frame, positions, covariances, errors, tuple(statuses), ("drawn 1.0.0",) * len(positions)
    )
    return Detection(
        bundle_name=name,
        bundle_version="1.0.0",
        bundle_sha256="0" * 64,
        image_name="column.png",
        landmarks=landmarks,
        side=None,
        side_probability=None,
        presence=0.99,
        prior=column_prior(),
        heatmaps=Heatmaps(logits, grid),
        review_threshold=threshold,
    )
