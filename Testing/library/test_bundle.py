"""Bundles: what is loaded is what was published, and everything else is refused in one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from LandmarkDetectionLib.errors import BundleError
from LandmarkDetectionLib.inference.bundle import BUNDLED_MODELS, MODEL_FILE, Bundle, find_bundle, list_bundles
from LandmarkDetectionLib.inference.detector import Detector
from LandmarkDetectionLib.landmarks import load_schema
from LandmarkDetectionLib.networks.fusion import fused
from LandmarkDetectionLib.networks.hourglass import Hourglass
from safetensors.numpy import load_file

NAME = "knee-ap-radiograph"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the bundled model that a test may damage, in a folder as users have them."""
    folder = tmp_path / "Zoë Müller cache" / NAME
    shutil.copytree(BUNDLED_MODELS / NAME, folder)
    return folder


def test_bundled_model_is_complete_small_and_described():
    bundle = find_bundle(NAME)
    assert bundle.schema == load_schema("knee-ap")
    assert "non-commercial" in bundle.licence and "Research use only" in bundle.terms
    files = [path for path in bundle.folder.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 6_000_000
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".md"}
    for path in bundle.folder.glob("landmarks-*.safetensors"):
        assert {array.dtype for array in load_file(path).values()} == {np.dtype("float16")}


def test_own_models_come_first_and_may_lie_under_any_name(copy, monkeypatch):
    monkeypatch.setenv("LANDMARK_MODELS", str(copy.parent))
    assert list_bundles()[NAME] == copy
    assert find_bundle(NAME).sha256 == Bundle.load(BUNDLED_MODELS / NAME).sha256
    assert Detector(find_bundle(NAME), "cpu").device == "cpu"


def test_unknown_model_names_the_known_ones():
    with pytest.raises(BundleError, match=f"no model 'hip'.*{NAME}"):
        find_bundle("hip")


@pytest.mark.parametrize("file", ["landmarks-3.safetensors", "region.safetensors", "shape.safetensors"])
def test_altered_file_is_refused_by_name(copy, file):
    content = bytearray((copy / file).read_bytes())
    content[-1] ^= 1
    (copy / file).write_bytes(bytes(content))
    with pytest.raises(BundleError, match=f"'{file}'.*was altered"):
        Bundle.load(copy)


def test_missing_weights_are_refused_by_name(copy):
    (copy / "landmarks-0.safetensors").unlink()
    with pytest.raises(BundleError, match="'landmarks-0.safetensors'.*cannot be read"):
        Bundle.load(copy)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda model: model.update(format=99), "has format 99"),
        (lambda model: model.pop("terms"), "is damaged"),
        (lambda model: model["calibration"].pop("temperature"), "is damaged"),
        (lambda model: model["sha256"].pop("region.safetensors"), "have no hash"),
        (lambda model: model["sha256"].update({"../elsewhere": "0"}), "outside its folder|cannot be read"),
    ],
)
def test_altered_description_is_refused(copy, change, sentence):
    model = json.loads((copy / MODEL_FILE).read_text(encoding="utf-8"))
    change(model)
    (copy / MODEL_FILE).write_text(json.dumps(model), encoding="utf-8")
    with pytest.raises(BundleError, match=sentence):
        Bundle.load(copy)


def test_description_that_is_no_json_is_refused(copy):
    (copy / MODEL_FILE).write_text("{", encoding="utf-8")
    with pytest.raises(BundleError, match="is damaged"):
        Bundle.load(copy)


def test_unknown_network_is_refused(copy):
    model = json.loads((copy / MODEL_FILE).read_text(encoding="utf-8"))
    model["stages"]["region"]["network"]["kind"] = "transformer"
    (copy / MODEL_FILE).write_text(json.dumps(model), encoding="utf-8")
    with pytest.raises(BundleError, match="'transformer' is not known"):
        Detector(Bundle.load(copy), "cpu")


@pytest.mark.parametrize("dims", [2, 3])
def test_folded_normalization_computes_the_same(dims):
    torch.manual_seed(1)
    network = Hourglass(1, 3, width=4, depth=2, dims=dims)
    image = torch.randn(2, 1, *(32,) * dims)
    for _ in range(3):
        network(image)  # moves the running statistics away from their start
    with torch.no_grad():
        expected = network.eval()(image)
        result = fused(network)(image)
    assert not any("norm" in type(module).__name__.lower() for module in network.modules())
    torch.testing.assert_close(result, expected, rtol=1e-3, atol=1e-4)
