"""From attenuation to a film: beam, scatter, unsharpness, noise, collimation, side marker and gray scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

GLYPHS = {
    "R": ("11110", "10001", "10001", "11110", "10100", "10010", "10001"),
    "L": ("10000", "10000", "10000", "10000", "10000", "10000", "11111"),
}
LEVELS = 4095  # 12 bits, as most detectors store


@dataclass(frozen=True)
class Exposure:
    """How one film was taken and shown."""

    photons: float  # per pixel behind air
    scatter: float  # share of the light that is scattered
    unsharpness: float  # mm
    black: float  # attenuation shown black, as a share of the span from air to bone
    gamma: float
    shoulder: float  # how strongly bright parts saturate
    open_field: tuple[float, float, float, float]  # collimator as shares of the film: left, top, right, bottom
    collimated_gray: float


def draw_exposure(rng: np.random.Generator, collimated: bool) -> Exposure:
    """An exposure between pale and nearly saturated; `collimated` films show the collimator's edge."""
    edges = rng.uniform(0.01, 0.07, 4) if collimated else np.full(4, -1.0)
    return Exposure(
        photons=float(np.exp(rng.uniform(np.log(6e3), np.log(9e4)))),
        scatter=float(rng.uniform(0.05, 0.30)),
        unsharpness=float(rng.uniform(0.12, 0.34)),
        black=float(rng.uniform(0.02, 0.42)),
        gamma=float(rng.uniform(0.75, 1.35)),
        shoulder=float(np.exp(rng.uniform(np.log(0.25), np.log(3.0)))),
        open_field=(edges[0], edges[1], 1 - edges[2], 1 - edges[3]),
        collimated_gray=float(rng.choice([0.0, 0.03, 0.08])),
    )


def expose(attenuation: np.ndarray, spacing: float, exposure: Exposure, rng: np.random.Generator) -> np.ndarray:
    """Film of a beam that met `attenuation` (rows, columns; dimensionless), pixels of `spacing` mm.

    Beer-Lambert, then scatter as a wide blur, unsharpness, quantum noise and the logarithmic display with its shoulder.

    Returns:
        gray values 0..1, float32 (rows, columns), bone bright.
    """
    beam = np.exp(-attenuation)
    glow = gaussian_filter(beam[::4, ::4], 18.0 / (4 * spacing), mode="nearest")
    glow = _enlarged(glow, beam.shape)
    beam = (1 - exposure.scatter) * beam + exposure.scatter * glow
    beam = gaussian_filter(beam, exposure.unsharpness / spacing, mode="nearest")
    noise = gaussian_filter(rng.standard_normal(beam.shape), 0.5)
    beam = beam + noise * np.sqrt(beam / exposure.photons)
    shown = -np.log(np.maximum(beam, 1e-4))
    top = np.percentile(shown, 99.7)
    black = exposure.black * top
    value = np.clip((shown - black) / (top - black), 0, 1.2) ** exposure.gamma
    value = (1 - np.exp(-exposure.shoulder * value)) / (1 - np.exp(-exposure.shoulder))
    return np.clip(value * 0.94, 0, 1).astype(np.float32)


def collimate(film: np.ndarray, exposure: Exposure) -> np.ndarray:
    """Blacken what the collimator covers; its edge is soft over about two pixels."""
    rows, columns = film.shape
    left, top, right, bottom = exposure.open_field
    across = np.clip(np.minimum(np.arange(columns) - left * columns, right * columns - np.arange(columns)) / 2, 0, 1)
    down = np.clip(np.minimum(np.arange(rows) - top * rows, bottom * rows - np.arange(rows)) / 2, 0, 1)
    lit = down[:, None] * across[None, :]
    return (film * lit + exposure.collimated_gray * (1 - lit)).astype(np.float32)


def stamp(film: np.ndarray, letter: str, centre: tuple[float, float], height: int) -> np.ndarray:
    """Lay a lead letter on the film, `height` pixels tall, its middle at `centre` (column, row)."""
    pattern = np.array([[float(bit) for bit in row] for row in GLYPHS[letter]])
    size = max(1, height // pattern.shape[0])
    pattern = gaussian_filter(np.pad(np.kron(pattern, np.ones((size, size))), 2), 0.6)
    rows, columns = pattern.shape
    row = int(np.clip(centre[1] - rows / 2, 0, film.shape[0] - rows))
    column = int(np.clip(centre[0] - columns / 2, 0, film.shape[1] - columns))
    marked = film.copy()
    window = marked[row : row + rows, column : column + columns]
    window[...] = np.maximum(window, 0.97 * pattern + window * (1 - pattern))
    return marked


def to_levels(film: np.ndarray) -> np.ndarray:
    """Gray values 0..1 as stored values 0..LEVELS, uint16."""
    return np.round(np.clip(film, 0, 1) * LEVELS).astype(np.uint16)


def _enlarged(small: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """`small` (every fourth pixel) linearly enlarged to `shape`."""
    rows, columns = (np.minimum(np.arange(n) / 4, m - 1) for n, m in zip(shape, small.shape, strict=True))
    along = np.stack([np.interp(rows, np.arange(small.shape[0]), small[:, j]) for j in range(small.shape[1])], axis=1)
    return np.stack([np.interp(columns, np.arange(small.shape[1]), row) for row in along])
