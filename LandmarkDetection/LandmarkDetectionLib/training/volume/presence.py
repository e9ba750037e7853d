"""From which presence on a volume counts as one of the anatomy: where other anatomy ends.

A threshold midway between phantoms of the anatomy and of others would refuse people: scans of people are less like the
phantoms that a network has learnt from than other phantoms are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...images import read_image
from ...inference.bundle import Bundle
from ...inference.detector import Detector
from ..data.films import read_labels


def presence_figures(
    bundle: Bundle, data: Path, names: Sequence[str], others: Path, split: str
) -> tuple[float, dict]:
    """Threshold of presence and the figures behind it.

    Args:
        bundle: whose calibration has a threshold above which presence is finite.
        names: volumes of the data set that show the anatomy.
        others, split: a data set whose volumes of that split do not show it; none of them was learnt from.
    """
    pipeline = Detector(bundle, device="cpu").pipeline

    def presence(folder: Path, names: Sequence[str]) -> np.ndarray:
        return np.array([pipeline.presence(read_image(folder / "images" / name)) for name in names])

    right = presence(data, names)
    wrong = presence(others, [name for name, own in read_labels(others)[1].items() if own == split])
    threshold = float(np.quantile(wrong, 0.995))
    return threshold, {
        "volumes": len(right),
        "volumes_refused": float((right < threshold).mean()),
        "least_presence": float(right.min()),
        "other_anatomy_volumes": len(wrong),
        "other_anatomy_accepted": float((wrong >= threshold).mean()),
    }
