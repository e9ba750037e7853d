"""How large regions must be after corrections: a correction shrinks the others' regions no more than it should.

What a pin says about the other points follows from a Gaussian model of the errors; how far that may be trusted, films
with a known truth tell, corrected as a user would.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import takewhile

import numpy as np
from scipy.stats import chi2

from ...inference.detection import Detection
from ...inference.session import Session
from ...inference.shape_pose import shape_size
from ...uncertainty.conformal import conformal_quantile
from ...uncertainty.regions import ellipse_distance

CORRECTIONS = 5
"""After more corrections than these, regions are scaled as after the last of them."""


def correction_scales(
    found: Iterable[tuple[str, Detection]], truths: Mapping[str, np.ndarray], level: float, reach: float = np.inf
) -> tuple[float, ...]:
    """Factors on the covariances of the landmarks left free after 1, 2, ... corrections of the then worst one.

    Args:
        found: names and calibrated detections, of films that the model did not learn from, without such factors yet.
        truths: (n, 2 or 3) index coordinates by name.
        level: share of the truths that the ellipses are to hold.
        reach: error in centroid sizes beyond which a landmark does not count, see `calibration.fit`.
    Returns:
        As many as there are landmarks left to tell.
    """
    distances: list[list[np.ndarray]] = [[] for _ in range(CORRECTIONS)]
    dims = 2
    for name, detection in found:
        session, truth = Session(detection), truths[name]
        dims = detection.landmarks.frame.dims
        for after in distances:
            row = worst_free(session, truth)
            if row is None:
                break
            session.move(detection.landmarks.schema.ids[row], truth[row])
            after.append(free_distances(session, truth, reach))
    limits = [conformal_quantile(np.concatenate(after or [[]]), level) for after in distances]
    return tuple(float(limit / chi2.ppf(level, dims)) for limit in takewhile(np.isfinite, limits))


def free(session: Session, truth: np.ndarray) -> np.ndarray:
    """(n,) whether the model placed a landmark whose truth is known."""
    statuses = [status in ("predicted", "review") for status in session.landmarks.statuses]
    return np.array(statuses) & np.isfinite(truth).all(axis=1)


def worst_free(session: Session, truth: np.ndarray) -> int | None:
    """Row of the landmark that lies farthest from the truth; None when none is free."""
    errors = np.linalg.norm((session.landmarks.positions - truth) * session.landmarks.frame.spacing, axis=1)
    errors = np.where(free(session, truth), errors, -np.inf)
    row = int(np.argmax(errors))
    return row if np.isfinite(errors[row]) else None


def free_distances(session: Session, truth: np.ndarray, reach: float) -> np.ndarray:
    """Squared Mahalanobis distances (k,) of the landmarks that no one has set."""
    landmarks, apart = session.landmarks, session.landmarks.positions - truth
    spacing = landmarks.frame.spacing
    near = np.linalg.norm(apart * spacing, axis=1) < reach * shape_size(truth * spacing, session.detection.prior)
    counted = free(session, truth) & near
    return ellipse_distance(apart[counted], landmarks.covariances[counted])
