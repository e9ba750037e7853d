"""The pipeline of patch models, with networks of random weights: geometry, refusals, and what a detection holds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from LandmarkDetectionLib.errors import Cancelled, LandmarkDetectionError, NotThisAnatomyError
from LandmarkDetectionLib.geometry import Frame
from LandmarkDetectionLib.images import Image
from LandmarkDetectionLib.inference.bundle import FORMAT, MODEL_FILE, Bundle, Calibration
from LandmarkDetectionLib.inference.decoding import decode
from LandmarkDetectionLib.inference.detection import Heatmaps
from LandmarkDetectionLib.inference.detector import Detector
from LandmarkDetectionLib.inference.finer import FINER
from LandmarkDetectionLib.inference.networks import build_network
from LandmarkDetectionLib.inference.region import Candidate
from LandmarkDetectionLib.inference.session import Session
from LandmarkDetectionLib.landmarks import load_schema
from LandmarkDetectionLib.networks.fusion import fused
from LandmarkDetectionLib.preprocessing.crop import centroid_size
from LandmarkDetectionLib.preprocessing.patches import patches, reduced
from LandmarkDetectionLib.priors import ErrorModel, ShapePrior
from LandmarkDetectionLib.training.patch.likelihood import PatchGeometry, find_in_patches, normalised_views
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter

LANDMARKS = 19
PATCH = 32
REGION = {"kind": "hourglass", "in_channels": 1, "out_channels": LANDMARKS + 1, "width": 8, "depth": 2}
MEMBER = {
    "kind": "resnet_unet",
    "in_channels": 2,
    "out_channels": LANDMARKS,
    "widths": [8, 12],
    "blocks": [1, 1],
    "decoder": [12, 8],
}


def network(description: dict, seed: int, sharpness: float):
    """Random weights; the last layer is made stronger, so that a heatmap has one peak."""
    torch.manual_seed(seed)
    built = build_network(description)
    last = [module for module in built.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    with torch.no_grad():
        last.weight *= sharpness
    return built.eval()


def points_of_a_head(scale: float = 1.0, seed: int = 5) -> np.ndarray:
    """(19, 2) points about the origin."""
    return scale * np.random.default_rng(seed).uniform(-1, 1, size=(LANDMARKS, 2))


def write_bundle(folder: Path, members: int = 2, extent: float = 0.8) -> Path:
    folder.mkdir(parents=True)
    weights = {"region.safetensors": network(REGION, 1, 30.0)}
    weights |= {f"landmarks-{k}.safetensors": network(MEMBER, 10 + k, 10.0) for k in range(members)}
    for name, built in weights.items():
        save_file({key: value.half().contiguous() for key, value in fused(built).state_dict().items()}, folder / name)
    shapes = points_of_a_head() + np.random.default_rng(0).normal(scale=0.05, size=(30, LANDMARKS, 2))
    save_arrays(ShapePrior.fit(shapes, folds=3).to_tensors(), folder / "shape.safetensors")
    save_arrays(ErrorModel(np.eye(2 * LANDMARKS)).to_tensors(), folder / "errors.safetensors")
    stages = {
        "region": (REGION, ["region.safetensors"], {"size": [56, 64], "extent": 4.2}),
        "landmarks": (MEMBER, list(weights)[1:], {"size": [PATCH, PATCH], "crop": "none", "extent": extent}),
    }
    content = {
        "format": FORMAT,
        "kind": "patch",
        **dict.fromkeys(("version", "title", "description", "licence", "terms"), "1"),
        "name": "tiny",
        "title": "head from the side",
        "schema": load_schema("cephalogram-lateral").to_dict(),
        "mirrored_side": None,
        "stages": {key: dict(zip(("network", "weights", "plan"), stage, strict=True)) for key, stage in stages.items()},
        "decoding": {},
        "calibration": Calibration.neutral(LANDMARKS, -1e9).to_dict(),
        "prior": "shape.safetensors",
        "errors": "errors.safetensors",
        "figures": {},
        "training": {},
        "sha256": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.safetensors")},
    }
    (folder / MODEL_FILE).write_text(json.dumps(content), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return Bundle.load(write_bundle(tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture(scope="module")
def detector(bundle) -> Detector:
    return Detector(bundle, "cpu")


def calibrated(bundle: Bundle, **changes) -> Detector:
    return Detector(replace(bundle, calibration=replace(bundle.calibration, **changes)), "cpu")


def smooth_film(size=(360, 440), seed: int = 2, width: float = 8.0) -> np.ndarray:
    """(h, w) float32 in 0..255, all of it smooth."""
    noise = np.random.default_rng(seed).normal(size=(size[1], size[0]))
    film = gaussian_filter(noise, width) + 2 * gaussian_filter(noise[::-1], 4 * width)
    return (255 * (film - film.min()) / np.ptp(film)).astype(np.float32)


def film(array: np.ndarray) -> Image:
    return Image.from_array(array, name="film.png")


def test_a_detection_holds_every_landmark_and_no_side(detector):
    image = film(smooth_film())
    before = image.array.copy()
    detection = detector.detect(image)
    landmarks = detection.landmarks
    assert landmarks.frame == image.frame and landmarks.schema.name == "cephalogram-lateral"
    assert detection.side is None and detection.side_probability is None and 0 <= detection.presence <= 1
    assert (landmarks.expected_errors > 0).all() and (np.linalg.eigvalsh(landmarks.covariances) > 0).all()
    assert detection.heatmaps.logits.shape == (LANDMARKS, FINER * PATCH // 2, FINER * PATCH // 2)
    np.testing.assert_array_equal(image.array, before)


def test_a_declared_side_changes_nothing(detector):
    image = film(smooth_film())
    found = [detector.detect(image, side=side).landmarks.positions for side in ("auto", "left", "right")]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])
    assert detector.bundle.mirrored_side is None
    assert list(detector.pipeline.region.candidates(image, lambda: False)) == [None]


def test_a_film_without_sides_is_never_shown_mirrored(detector):
    image = film(smooth_film())
    stage = detector.pipeline.region
    shown = []

    def look(image, windows, cancelled):
        shown.extend(windows.values())
        return type(stage).look(stage, image, windows, cancelled)

    stage.look = look
    try:
        stage.candidates(image, lambda: False)
    finally:
        del stage.look
    assert len(shown) == 2 and all(window.direction()[0, 0] == image.frame.direction()[0, 0] for window in shown)


@pytest.mark.parametrize("seed", [2, 3, 4])
def test_a_film_and_its_half_give_the_same_points(detector, seed):
    array = smooth_film((720, 880), seed=seed, width=16.0)
    half = array.reshape(440, 2, 360, 2).mean(axis=(1, 3))
    whole, small = (detector.detect(film(pixels)).landmarks for pixels in (array, half))
    assert whole.statuses == small.statuses and np.isfinite(whole.positions).all(axis=1).sum() > LANDMARKS / 2
    np.testing.assert_allclose(2 * small.positions + 0.5, whole.positions, atol=0.5)
    np.testing.assert_allclose(2 * small.expected_errors, whole.expected_errors, rtol=0.05)
    np.testing.assert_allclose(4 * small.covariances, whole.covariances, rtol=0.2, atol=0.5)


def test_pixels_that_are_not_square_are_measured_in_millimeters(detector):
    array = smooth_film((360, 440), width=16.0)
    flat = array.reshape(220, 2, 360).mean(axis=1)
    square = Image(array, Frame.film((360, 440), 0.5, "given"), "square.png")
    oblong = Image(flat, Frame.film((360, 220), (0.5, 1.0), "given"), "oblong.png")
    found, other = (detector.detect(image).landmarks for image in (square, oblong))
    apart = np.linalg.norm(other.positions * [1, 2] + [0, 0.5] - found.positions, axis=1)
    known = np.isfinite(apart)
    # The heatmaps of networks that learnt nothing have many bumps, of which two may be equally high.
    same = known & (np.nan_to_num(apart) < 0.5)
    assert known.sum() > LANDMARKS / 2 and same.sum() > 0.75 * known.sum()
    np.testing.assert_allclose(other.expected_errors_mm()[same], found.expected_errors_mm()[same], rtol=0.02)


def test_sixteen_bits_say_what_eight_say(detector):
    array = np.round(smooth_film()).astype(np.uint8)
    plain, deep = (detector.detect(film(pixels)).landmarks for pixels in (array, array.astype(np.uint16) * 257))
    np.testing.assert_allclose(deep.positions, plain.positions, atol=1e-2)


def test_heatmaps_lie_where_the_landmarks_are(detector):
    """Each heatmap has a grid of its own; a peak of it, taken to the film, is near the landmark decoded from it."""
    image = film(smooth_film())
    detection = detector.detect(image)
    heatmaps, landmarks = detection.heatmaps, detection.landmarks
    cells = heatmaps.cells(landmarks.physical())
    known = np.isfinite(cells).all(axis=1)
    assert known.any()
    for row in np.flatnonzero(known):
        logits = heatmaps.logits[row]
        x, y = (slice(max(0, round(c - 4.5 * FINER)), round(c + 4.5 * FINER) + 1) for c in cells[row])
        assert logits[y, x].max() > logits.max() - 0.1, "as high as the highest, which may be another one"
        place = image.frame.to_index(heatmaps.frame_of(row).to_physical(cells[row]))
        np.testing.assert_allclose(place, landmarks.positions[row], atol=1e-6)


def test_views_are_those_of_the_training(tmp_path):
    """Where a pixel of the film is one of a patch, and the grids coincide, both make the same views."""
    points = points_of_a_head(50.0) + 200
    low, high = points.min(axis=0), points.max(axis=0)
    # The outermost points make a film about the patches begin at a pixel that is a multiple of four.
    points = (points - low) / (high - low) * 100.5 + 152.25
    extent = PATCH / centroid_size(points)
    pipeline = Detector(Bundle.load(write_bundle(tmp_path / "exact", members=1, extent=extent)), "cpu").pipeline
    image = film(np.round(smooth_film((400, 400), width=3.0)))
    views, windows = pipeline.views(image, image.frame.to_physical(points))

    gray = torch.from_numpy(image.array / 255)[None, None]
    near = torch.tensor(points, dtype=torch.float32)
    geometry = PatchGeometry((PATCH, PATCH), extent)
    taught = patches(gray, reduced(gray), torch.eye(2).expand(LANDMARKS, 2, 2), near[:, None], geometry.size)
    np.testing.assert_allclose(views / 255, taught.numpy(), atol=1e-4)
    for window, point in zip(windows, points, strict=True):
        np.testing.assert_allclose(window.to_physical([(PATCH - 1) / 2] * 2)[:2], point, atol=1e-9)

    apart = pipeline.normalised(views) - normalised_views(taught).numpy()
    assert np.abs(apart).mean() < 0.02
    heatmaps, grids = pipeline.locate(image, image.frame.to_physical(points), lambda: False)
    found = decode(pipeline.bundle, image, heatmaps, grids).landmarks
    with torch.no_grad():
        expected = find_in_patches(pipeline.landmarks.members[0], gray, near, geometry, pipeline.landmarks.stride)
    assert np.median(np.abs(found.positions - expected.numpy())) < 0.1


def test_views_of_a_finer_film_are_nearly_those_of_the_training(detector):
    """As in use: the film is sampled from another resolution, and its grid lies anywhere."""
    array = smooth_film((800, 800), width=14.0)
    small = array.reshape(400, 2, 400, 2).mean(axis=(1, 3))
    points = points_of_a_head(60.0) + 200
    image = film(array)
    views, _ = detector.pipeline.views(image, image.frame.to_physical(2 * points + 0.5))
    gray, near = torch.from_numpy(small)[None, None], torch.tensor(points, dtype=torch.float32)
    step = detector.pipeline.landmarks.plan.extent * centroid_size(points) / PATCH
    matrix = (step * torch.eye(2)).expand(LANDMARKS, 2, 2)
    taught = patches(gray, reduced(gray), matrix, near[:, None], (PATCH, PATCH)).numpy()
    assert np.abs(views - taught).mean() < 0.01 * np.ptp(taught)


def candidate_with(image: Image, points: np.ndarray) -> Candidate:
    return Candidate(None, image.frame.to_physical(points), 3.0)


def test_landmarks_beyond_the_film_are_absent(detector):
    image, pipeline = film(smooth_film()), detector.pipeline
    points = points_of_a_head(60.0) + [180, 220]
    points[[4, 11]] = [-90, 200], [200, 530]
    candidate = candidate_with(image, points)
    heatmaps, grids = pipeline.locate(image, candidate.points, lambda: False)
    landmarks = pipeline.describe(image, candidate, heatmaps, grids).landmarks
    absent = np.array([status == "absent" for status in landmarks.statuses])
    assert absent[[4, 11]].all() and absent.sum() == 2
    np.testing.assert_array_equal(np.isnan(landmarks.positions).any(axis=1), absent)


def test_a_calibration_scales_each_landmark_by_itself(bundle, detector):
    image = film(smooth_film())
    plain = detector.detect(image).landmarks
    double = tuple(2.0 if row == 7 else 1.0 for row in range(LANDMARKS))
    scaled = calibrated(bundle, error_scale=double, covariance_scale=double).detect(image).landmarks
    factor = np.array(double)
    np.testing.assert_array_equal(scaled.positions, plain.positions)
    np.testing.assert_allclose(scaled.expected_errors, factor * plain.expected_errors)
    np.testing.assert_allclose(scaled.covariances, factor[:, None, None] * plain.covariances)
    blurred = calibrated(bundle, temperature=double).detect(image)
    np.testing.assert_array_equal(blurred.landmarks.positions, plain.positions)
    logits = detector.detect(image).heatmaps.logits
    np.testing.assert_allclose(blurred.heatmaps.logits, logits / factor[:, None, None], rtol=1e-5)


def test_films_of_other_anatomy_are_refused_and_can_be_forced(bundle):
    image = film(smooth_film())
    for changes in ({"presence_threshold": 1e9}, {"refusal_threshold": 1e-9}):
        strict = calibrated(bundle, **changes)
        with pytest.raises(NotThisAnatomyError, match=r"'film.png' does not look like .*head from the side"):
            strict.detect(image)
        assert strict.detect(image, force=True).landmarks.schema.name == "cephalogram-lateral"


def test_doubtful_landmarks_are_to_be_reviewed(bundle):
    detection = calibrated(bundle, review_threshold=1e-6).detect(film(smooth_film()))
    assert set(detection.landmarks.statuses) <= {"review", "absent"}
    assert (detection.landmarks.expected_errors > detection.review_threshold).all()


def test_progress_rises_and_cancelling_stops_between_any_two_networks(detector):
    image = film(smooth_film())
    heard, asked = [], []
    detector.detect(
        image,
        progress=lambda share, what: heard.append((share, what)),
        cancelled=lambda: bool(asked.append(1)),
    )
    shares = [share for share, _ in heard]
    assert shares == sorted(shares) and len(shares) >= 3 and all(what for _, what in heard)
    assert len(asked) == 4  # two looks at the whole view, two members
    for last in range(4):
        answers = iter([False] * last + [True])
        with pytest.raises(Cancelled):
            detector.detect(image, cancelled=lambda answers=answers: next(answers))


def test_a_correction_starts_from_the_detection(detector):
    detection = detector.detect(film(smooth_film()), force=True)
    known = np.flatnonzero([status != "absent" for status in detection.landmarks.statuses])
    name = detection.landmarks.schema.ids[known[0]]
    session = Session(detection)
    place = detection.landmarks.positions[known[0]] + [3.0, -2.0]
    moved = session.move(name, place)
    np.testing.assert_allclose(moved.positions[known[0]], place)
    again = Session.from_dict(json.loads(json.dumps(session.to_dict())), detection)
    np.testing.assert_allclose(again.landmarks.positions, session.landmarks.positions)


def test_heatmaps_need_one_grid_or_one_for_each():
    grids = tuple(Frame.film((6, 4)).cropped((k, 0), (6, 4)) for k in range(3))
    heatmaps = Heatmaps(np.zeros((3, 4, 6)), grids)
    np.testing.assert_allclose(heatmaps.cells(np.tile([5.0, 2.0, 0.0], (3, 1))), [[5, 2], [4, 2], [3, 2]])
    shared = Heatmaps(np.zeros((3, 4, 6)), grids[0])
    assert shared.frame_of(2) == grids[0]
    with pytest.raises(LandmarkDetectionError, match="3 heatmaps do not fit 2 grids"):
        Heatmaps(np.zeros((3, 4, 6)), grids[:2])
    with pytest.raises(LandmarkDetectionError, match="do not fit a grid of size"):
        Heatmaps(np.zeros((3, 4, 6)), (*grids[:2], Frame.film((6, 5))))


def test_the_schema_names_the_points_of_the_data(landmark_data):
    schema = load_schema("cephalogram-lateral")
    described = json.loads((landmark_data / "cephalogram" / "dataset.json").read_text(encoding="utf-8"))
    assert list(schema.ids) == described["landmarks"]
    assert {landmark.id: landmark.title for landmark in schema.landmarks} == described["titles"]
