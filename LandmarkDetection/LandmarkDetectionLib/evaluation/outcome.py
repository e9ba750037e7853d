"""What became of one image of a data set."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..inference.detection import Detection
from . import metrics
from .clicks import ClickRecord
from .dataset import Case
from .regions import Regions


@dataclass(frozen=True, eq=False)
class Outcome:
    """A detection with what followed from it, or the reason why the image was refused.

    Attributes:
        truth: (n, d) index coordinates in the order of the detector's landmarks, NaN where unknown.
        score: how well the image fits the model, 0 to 1, by which it was refused or not; None where nothing told.
        confidence, correct: the heatmaps' certainty of their best cells, and whether they hold the truth.
        ellipses, contours: the prediction regions against the truth; `contours`, of the highest density of the
            heatmaps, None where the model promises none.
        corrections, manual: with the annotator and by hand; None where the image has no truth at all.
    """

    case: Case
    truth: np.ndarray
    detection: Detection | None = None
    refusal: str = ""
    score: float | None = None
    confidence: np.ndarray = field(default_factory=lambda: np.array([]))
    correct: np.ndarray = field(default_factory=lambda: np.array([], dtype=bool))
    ellipses: Regions | None = None
    contours: Regions | None = None
    corrections: ClickRecord | None = None
    manual: ClickRecord | None = None

    @property
    def missed(self) -> np.ndarray:
        """(n,) whether a landmark has a truth and was declared absent."""
        return np.isfinite(self.truth).all(-1) & ~np.isfinite(self.detection.landmarks.positions).all(-1)

    @property
    def positions(self) -> np.ndarray:
        """(n, d) index coordinates that errors are measured from: absent ones in the middle, `metrics.placed`."""
        landmarks = self.detection.landmarks
        return metrics.placed(landmarks.positions, landmarks.frame.size)

    @property
    def errors(self) -> np.ndarray:
        """(n,) radial errors in pixels of the image as loaded, NaN without truth.

        Of a volume, whose voxels need not be cubes, in voxels as long as the root mean square spacing.
        """
        frame = self.detection.landmarks.frame
        if frame.dims == 2:
            return metrics.radial_errors(self.positions, self.truth)
        steps = frame.spacing / np.sqrt(np.mean(frame.spacing**2))
        return metrics.radial_errors(self.positions * steps, self.truth * steps)

    @property
    def millimetre_errors(self) -> np.ndarray | None:
        """(n,) radial errors in millimetres; None where the spacing is unknown."""
        frame = self.detection.landmarks.frame
        if not frame.has_millimetres:
            return None
        return metrics.radial_errors(frame.to_physical(self.positions), frame.to_physical(self.truth))

    @property
    def height_percent_errors(self) -> np.ndarray | None:
        """(n,) radial errors in per cent of the film's height; None for a volume."""
        frame = self.detection.landmarks.frame
        return 100 * self.errors / frame.size[1] if frame.dims == 2 else None
