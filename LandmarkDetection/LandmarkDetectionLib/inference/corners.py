"""The vertebra stage: the four corners of every vertebra, each from a window turned along it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..heatmaps import cell_to_index, covariance, expected_radial_error, local_expectation, log_probabilities
from ..preprocessing.intensity import normalise
from ..preprocessing.oriented import oriented_crops, vertebra_pose
from .chain import Chain
from .networks import Ensemble, mixture
from .vertebrae import Vertebrae

_LOOKS = 2
_SAME = 0.5  # pixels of the film by which a vertebra may differ from one that was looked at, to be taken for it


@dataclass(frozen=True, eq=False)
class Corners:
    """Corners (V, 4, 2), covariances (V, 4, 2, 2) and expected radii (V, 4), in pixels of the film that was given."""

    points: np.ndarray
    covariances: np.ndarray
    radii: np.ndarray


class CornerStage:
    """The networks of the vertebra stage, for one film.

    Args:
        ensemble: networks from windows ``(V, h, w)`` to heatmaps of four corners.
        film: (H, W) gray values.
    """

    def __init__(self, ensemble: Ensemble, film: np.ndarray) -> None:
        self.ensemble, self.film = ensemble, torch.from_numpy(np.ascontiguousarray(film))[None, None]
        self._known = Corners(np.empty((0, 4, 2)), np.empty((0, 4, 2, 2)), np.empty((0, 4)))
        self._asked = np.empty((0, 4, 2))

    def refine(self, quads: np.ndarray) -> Corners:
        """Corners near estimated ones (V, 4, 2); a vertebra that was asked for before is not computed again."""
        apart = np.abs(self._asked[None] - quads[:, None]).max(axis=(2, 3), initial=0.0)
        nearest = apart.argmin(axis=1) if apart.shape[1] else np.zeros(len(quads), dtype=int)
        new = apart.min(axis=1, initial=np.inf) > _SAME
        if new.any():
            added = self.look(quads[new])
            nearest[new] = len(self._asked) + np.arange(new.sum())
            self._asked = np.concatenate([self._asked, quads[new]])
            pairs = zip(vars(self._known).values(), vars(added).values(), strict=True)
            self._known = Corners(*(np.concatenate(pair) for pair in pairs))
        return Corners(*(values[nearest] for values in vars(self._known).values()))

    def look(self, quads: np.ndarray) -> Corners:
        """Corners of all vertebrae at once, the second look about what the first one found."""
        found = torch.from_numpy(np.asarray(quads, dtype=np.float32))
        plan = self.ensemble.plan
        middle = (torch.tensor(plan.size) - 1) / 2
        for _ in range(_LOOKS):
            matrix, centre = vertebra_pose(found, plan.extent, plan.size[0])
            heatmaps = self.heatmaps(oriented_crops(self.film, matrix, centre, plan.size))
            cells = local_expectation(heatmaps)
            found = (cell_to_index(cells, self.ensemble.stride) - middle) @ matrix + centre
        turn = self.ensemble.stride * matrix.double()
        spread = covariance(heatmaps, cells).double()
        spread = torch.einsum("vij,vkil,vlm->vkjm", turn, spread, turn)
        # One factor for both axes: the window is turned and scaled, not stretched.
        radii = expected_radial_error(heatmaps, cells).double() * turn[:, :1].norm(dim=-1)
        return Corners(found.double().numpy(), spread.numpy(), radii.numpy())

    def heatmaps(self, crops: Tensor) -> Tensor:
        """Log-probabilities ``(V, 4, h, w)``, the members' mean."""
        plan = self.ensemble.plan
        inputs = np.stack([normalise(crop, plan.percentiles) for crop in crops[:, 0].numpy()])
        members = [log_probabilities(self.ensemble.logits(member, inputs)) for member in self.ensemble.members]
        return mixture(members)


def refined(vertebrae: Vertebrae, chain: Chain, stage: CornerStage, to_film: np.ndarray) -> Vertebrae:
    """The same vertebrae, those of the chain with the corners that their own windows show.

    Args:
        to_film: (2, 3) from cells to pixels of the stage's film.
    """
    rows = chain.members[chain.members >= 0]
    matrix, offset = to_film[:, :-1], to_film[:, -1]
    found = stage.refine(vertebrae.corners[rows] @ matrix.T + offset)
    back = np.linalg.inv(matrix)
    corners, covariances, radii = vertebrae.corners.copy(), vertebrae.covariances.copy(), vertebrae.radii.copy()
    corners[rows] = (found.points - offset) @ back.T
    covariances[rows] = back @ found.covariances @ back.T
    radii[rows] = found.radii / np.sqrt(abs(np.linalg.det(matrix)))
    return replace(vertebrae, corners=corners, covariances=covariances, radii=radii)
