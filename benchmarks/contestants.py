"""The two contestants behind one interface: load, detect, and where there is such a thing, correct."""

from __future__ import annotations

from typing import Protocol

from LandmarkDetectionLib.images import Image
from LandmarkDetectionLib.inference.session import Session

MODEL = "knee-ap-radiograph"


class Contestant(Protocol):
    """What `latency.py` measures."""

    def detect(self, image: Image) -> object:
        """From a loaded image to landmarks."""

    def session(self, found: object) -> Session | None:
        """A session that can be corrected, or None."""

    def parameters(self) -> int:
        """Number of weights that are used for one film."""


class Ours:
    """The bundle that this project ships, on the CPU."""

    def __init__(self) -> None:
        from LandmarkDetectionLib.inference.bundle import find_bundle
        from LandmarkDetectionLib.inference.detector import Detector

        self.bundle = find_bundle(MODEL)
        self.detector = Detector(self.bundle, device="cpu")

    def detect(self, image: Image) -> object:
        return self.detector.detect(image)

    def session(self, found: object) -> Session:
        return Session(found)

    def parameters(self) -> int:
        from safetensors import safe_open

        files = [self.bundle.folder / name for stage in self.bundle.stages.values() for name in stage.weights]
        total = 0
        for path in files:
            with safe_open(path, "np") as file:
                total += sum(file.get_tensor(name).size for name in file.keys())  # noqa: SIM118
        return total


class Kneel:
    """KNEEL as published, with random weights: two stages of five networks at 450 x 450, re-centered once."""

    FOLDS = 5

    def __init__(self) -> None:
        import torch
        from LandmarkDetectionLib.inference.published.fold_ensemble import FoldEnsemble, FoldModel
        from LandmarkDetectionLib.inference.published.kneel import TwoStageKneel
        from LandmarkDetectionLib.networks.hourglass import Hourglass

        torch.manual_seed(42)
        self.networks = [
            [Hourglass(3, count, width=24, depth=4, proj_kernel=3, block="hmp") for _ in range(self.FOLDS)]
            for count in (1, 16)
        ]
        stages = [FoldEnsemble([FoldModel(network, 128, 64) for network in stage]) for stage in self.networks]
        self.inference = TwoStageKneel(*stages)

    def detect(self, image: Image) -> object:
        (knee,) = self.inference.detect(image, layout="right")
        if knee.is_absent:
            raise RuntimeError("KNEEL stopped after its first stage, so its time says nothing.")
        return knee

    def session(self, found: object) -> None:
        return None

    def parameters(self) -> int:
        return sum(weight.numel() for stage in self.networks for network in stage for weight in network.parameters())


CONTESTANTS = {"ours": Ours, "kneel": Kneel}
