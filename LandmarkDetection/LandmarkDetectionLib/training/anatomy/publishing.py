"""A trained anatomical prior in the form in which it is shipped: half precision, no SAE, and how far from a bone's edge
a landmark may lie before it is pointed out.

    python -m LandmarkDetectionLib.training.anatomy.publishing RESULT DATA TARGET

RESULT is the result of the recipe ``anatomy-knee``, DATA the data set, TARGET the folder to write.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import load_file, save_file

from ...images import read_image
from ...inference.segmentation import edge_distances
from ...preprocessing.crop import centroid_size
from ...priors.anatomical import AnatomicalPrior
from ...priors.anatomy_folder import ATLAS, DECODER, DESCRIPTION, ENCODER, load_anatomy, read_description
from ...uncertainty.conformal import conformal_quantile
from ..data.films import MIRRORED_SIDE, read_labels, side_of
from ..kneel.result import sha256, write_json

LEVEL = 0.95
"""Share of the films on which no correct landmark is to be pointed out."""

ABOUT = {
    "name": "knee-ap-bones",
    "version": "1.0.0",
    "title": "Femur and tibia about the joint in a PA or AP radiograph of the knee",
    "licence": "Research use only, non-commercial",
    "terms": "Research use only, non-commercial; not a medical device. Learnt from films of the Osteoarthritis "
    "Initiative (crops of Chen et al. 2019, CC BY 4.0) without labels and from shapes of KNEEL (Tiulpin et al. 2019, "
    "non-commercial, cite).",
    "schema": "knee-ap",
}


def contour_limits(shares: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """(n,) how far from the edge each landmark may lie, so that on so many films all correct ones are within.

    Each landmark has the 95 % of its own distances for a scale; one factor for all of them keeps the promise for whole
    films (split conformal prediction on the largest of a film's scaled distances).

    Args:
        shares: (films, n) distances of correct landmarks from the edge, as shares of the centroid size.
    """
    scale = np.quantile(shares, 0.95, axis=0)
    return scale * conformal_quantile((shares / scale).max(axis=1), level)


def labelled_shares(prior: AnatomicalPrior, data: Path, names: Sequence[str]) -> np.ndarray:
    """Distances (films, n) of the labelled landmarks from the edge, as shares of their centroid size."""
    points, rows = read_labels(data)[0], []
    for name in names:
        image = read_image(data / "images" / name)
        physical = image.frame.to_physical(points[name])
        window = prior.settings.view.window_about(image.frame, physical, side_of(name) == MIRRORED_SIDE)
        rows.append(edge_distances(prior.look(image, window), physical) / centroid_size(physical))
    return np.array(rows)


def publish(result: Path, data: Path, target: Path) -> Path:
    """Write the folder that `inference.bone_model.BoneModel` reads; the card beside it is written by hand.

    Raises:
        BundleError: the result is damaged.
    """
    prior, content = load_anatomy(result).prior, read_description(result)
    names = [name for name, split in read_labels(data)[1].items() if split == "train"]
    limits = contour_limits(labelled_shares(prior, data, names))
    target.mkdir(parents=True, exist_ok=True)
    for file in (ENCODER, DECODER):
        tensors = {name: values.half().contiguous() for name, values in load_file(result / file).items()}
        save_file(tensors, target / file)
    # In single precision: its smallest probabilities are too small for half of it.
    save_file(load_file(result / ATLAS), target / ATLAS)
    figures = json.loads((result / "figures.json").read_text(encoding="utf-8"))
    about = {"recipe": content["name"], "data": data.name, "limits_from": f"{len(names)} films of the split train"}
    hashes = {name: sha256(target / name) for name in (ATLAS, DECODER, ENCODER)}
    kept = {key: value for key, value in content.items() if key not in ("name", "terms", "sae", "sha256")}
    more = {"sae": None, "contour_limits": limits.tolist(), "training": about, "figures": figures, "sha256": hashes}
    write_json(target / DESCRIPTION, ABOUT | kept | more)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("result", "data", "target"):
        parser.add_argument(name, type=Path)
    publish(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
