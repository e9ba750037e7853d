"""From heatmaps to landmarks: points, covariances, expected errors and what is to be reviewed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..geometry import Frame
from ..heatmaps import local_expectation
from ..images import Image
from ..landmarks import LandmarkSet
from ..priors import ErrorModel, ShapePrior
from .bundle import Bundle
from .detection import Detection, Heatmaps, Repredict
from .doubt import expected_errors
from .fine_maps import FineMaps
from .finer import near_modes
from .shape_pose import is_left_handed, plausibility_of_seen, shape_size
from .steadying import steadied


@dataclass(frozen=True, eq=False)
class Decoded:
    """Landmarks, the calibrated heatmaps they come from, and the review threshold in index units.

    ``doubts`` (n,) are expected errors without a ceiling, see `Detection`.
    """

    landmarks: LandmarkSet
    heatmaps: Heatmaps
    review_threshold: float
    doubts: np.ndarray | None = None


def decode(
    bundle: Bundle,
    image: Image,
    heatmaps: Tensor,
    grids: Sequence[Frame],
    side: Literal["left", "right"] | None = None,
    absent: np.ndarray | None = None,
) -> Decoded:
    """Landmarks of an image.

    Of a volume's heatmaps only the cells near the mode are kept (`near_modes`); what lies beyond is folded into them,
    so that covariances and expected errors are those of a landmark that is in there.

    Args:
        heatmaps: (n, h, w) or (n, d, h, w) log-probabilities, not calibrated: no temperature moves a point.
        grids: of each heatmap, in any orientation; square (cubic) cells of one size.
        side: of the body that the image shows, where the bundle knows it.
        absent: (n,) landmarks that are not in the image: their heatmaps do not count and become flat, and neither do
            they count where the points are looked at together. None where all are there.
    """
    calibration, dims = bundle.calibration, image.dims
    prior, errors = oriented_prior(bundle, image.frame, side), oriented_errors(bundle, side)
    absent = np.zeros(len(heatmaps), dtype=bool) if absent is None else np.asarray(absent, dtype=bool)
    heatmaps = torch.where(torch.from_numpy(absent).view(-1, *[1] * dims), 0.0, heatmaps)
    cells = local_expectation(heatmaps, dims)
    if dims == 3:
        heatmaps, cells, grids = near_modes(heatmaps, cells, grids)
    maps, spacing = FineMaps.of(heatmaps, grids, image.frame, calibration), image.frame.spacing
    seen = np.where(absent[:, None], np.nan, maps.positions(cells.double().numpy()))
    expected = np.asarray(calibration.error_scale) * maps.radii(seen)
    positions = steadied(seen, expected, spacing, prior, errors, calibration.scatter)
    spread = maps.spread(positions)
    expected, doubts = expected_errors(maps.radii(positions), positions, spread, spacing, prior, calibration)
    threshold = calibration.review_threshold * shape_size(positions * spacing, prior) / maps.unit
    # A film is made of the whole anatomy: what lies past its edge by less than its error may be on it. A volume ends
    # anywhere.
    beyond = np.fmax(1.0, expected) if dims == 2 else 0.0
    outside = absent | (outside_by(positions, image.frame) > beyond)
    statuses = np.where(outside, "absent", np.where(expected > threshold, "review", "predicted"))
    positions[outside] = np.nan
    landmarks = LandmarkSet(
        schema=bundle.schema,
        frame=image.frame,
        positions=positions,
        covariances=np.asarray(calibration.covariance_scale)[:, None, None] * spread,
        expected_errors=expected,
        statuses=tuple(statuses.tolist()),
        sources=(f"{bundle.name} {bundle.version}",) * len(positions),
    )
    return Decoded(landmarks, Heatmaps(maps.tempered.numpy(), maps.grids), threshold, doubts)


def described(
    bundle: Bundle,
    image: Image,
    decoded: Decoded,
    presence: float,
    notes: tuple[str, ...] = (),
    side: Literal["left", "right"] | None = None,
    side_probability: float | None = None,
    repredict: Repredict | None = None,
) -> Detection:
    """The detection of an image, with what the bundle knows of shapes and errors in the orientation of the image."""
    prior, errors = oriented_prior(bundle, image.frame, side), oriented_errors(bundle, side)
    return Detection(
        bundle_name=bundle.name,
        bundle_version=bundle.version,
        bundle_sha256=bundle.sha256,
        image_name=image.name,
        landmarks=decoded.landmarks,
        side=side,
        side_probability=side_probability,
        presence=presence,
        prior=prior,
        heatmaps=decoded.heatmaps,
        notes=image.notes + notes,
        plausibility=plausibility_of_seen(decoded.landmarks.positions * image.frame.spacing, prior),
        review_threshold=decoded.review_threshold,
        errors=errors,
        certainty=bundle.calibration.certainty,
        repredict=repredict,
        doubts=decoded.doubts,
    )


def oriented_prior(bundle: Bundle, frame: Frame, side: Literal["left", "right"] | None = None) -> ShapePrior:
    """The shape prior of a bundle in the orientation of an image.

    Priors know shapes, not reflections of them: the other side of the body is one, and so is every shape in the index
    coordinates of a volume whose axes are left-handed in LPS.
    """
    mirrored = side is not None and side == bundle.mirrored_side
    return bundle.prior.mirrored() if mirrored != is_left_handed(frame) else bundle.prior


def oriented_errors(bundle: Bundle, side: Literal["left", "right"] | None = None) -> ErrorModel | None:
    """How the errors of a bundle go together, on the side of the body that an image shows."""
    mirrored = side is not None and side == bundle.mirrored_side
    return bundle.errors.mirrored(bundle.schema.dims) if mirrored and bundle.errors is not None else bundle.errors


def outside_by(positions: np.ndarray, frame: Frame) -> np.ndarray:
    """How far points ``(n, d)`` lie outside the pixels of an image, in index units; 0 inside, NaN where unknown.

    Where pixels are not square, an index unit is the root mean square spacing, as for expected errors.
    """
    last = np.asarray(frame.size) - 0.5
    beyond = np.maximum(np.maximum(-0.5 - positions, positions - last), 0)
    return (beyond * (frame.spacing / np.sqrt(np.mean(frame.spacing**2)))).max(axis=1)
