"""KNEEL's augmentation: a painted dot and its point stay together, chance is seeded, constants are the paper's."""

from __future__ import annotations

import dataclasses
import math

import numpy
import pytest
from LandmarkDetectionLib.inference.networks import build_network
from LandmarkDetectionLib.inference.published.kneel import KneelPlan
from LandmarkDetectionLib.training.kneel import geometry, textures
from LandmarkDetectionLib.training.kneel.augmentation import TEXTURES, KneelAugmentation, normalised, only_inside
from LandmarkDetectionLib.training.kneel.mixup import ALPHA
from LandmarkDetectionLib.training.recipe import load_recipe

SIZE = (466, 440)
POINT = numpy.array([[301.3, 197.8]])


def dot(size: tuple[int, int], at: numpy.ndarray, sigma: float = 2.5) -> numpy.ndarray:
    """A Gaussian dot painted at a fractional pixel."""
    columns, rows = numpy.meshgrid(numpy.arange(size[0]), numpy.arange(size[1]))
    return 200 * numpy.exp(-((columns - at[0]) ** 2 + (rows - at[1]) ** 2) / (2 * sigma**2))


def center(image: numpy.ndarray) -> numpy.ndarray:
    """Center of mass of the only dot in an image, (x, y)."""
    rows, columns = numpy.indices(image.shape)
    return numpy.array([(image * columns).sum(), (image * rows).sum()]) / image.sum()


def start() -> geometry.Geometry:
    return geometry.Geometry.identity(SIZE)


STEPS = {
    "identity": lambda g: g,
    "flip": geometry.flip,
    "enlarge": lambda g: geometry.rescale(g, 2.5),
    "reduce": lambda g: geometry.rescale(g, 0.5),
    "odd scale": lambda g: geometry.rescale(g, 0.837),
    "pad": lambda g: geometry.pad(g, 521),
    "crop": lambda g: geometry.crop(g, (120, 31), 320),
    "center crop": lambda g: geometry.center_crop(geometry.pad(g, 520), 450),
    "rotate": lambda g: geometry.homography(g, 1.0, 37.0, (0.0, 0.0), (0.0, 0.0)),
    "rotate back": lambda g: geometry.homography(g, 1.0, -90.0, (0.0, 0.0), (0.0, 0.0)),
    "shear": lambda g: geometry.homography(g, 1.0, 0.0, (0.1, -0.1), (0.0, 0.0)),
    "perspective": lambda g: geometry.homography(g, 1.3, 0.0, (0.0, 0.0), (2e-3, 2e-3)),
    "homography": lambda g: geometry.homography(g, 0.8, 61.0, (-0.1, 0.06), (1e-3, 1e-5)),
}


@pytest.mark.parametrize("name", STEPS)
def test_dot_and_point_stay_together(name):
    moved = STEPS[name](start())
    image = moved.image(dot(SIZE, POINT[0]))
    assert image.shape == moved.size[::-1] and image.dtype == numpy.float32
    assert math.dist(center(image), moved.points(POINT)[0]) < 0.05


def test_whole_sequences_keep_dot_and_point_together():
    """Every random sequence of the paper, resampled once; sequences that lose the dot are counted, not scored."""
    augmentation, generator = KneelAugmentation(), numpy.random.default_rng(3)
    scored = 0
    for _ in range(60):
        moved = augmentation.draw_geometry(SIZE, generator)
        expected = moved.points(POINT)[0]
        if ((expected < 25) | (expected > 425)).any():
            continue
        scored += 1
        assert math.dist(center(moved.image(dot(SIZE, POINT[0]))), expected) < 0.05
    assert scored >= 20


def test_steps_compose_to_one_matrix():
    stepwise = POINT
    composed = start()
    for step in (geometry.flip, STEPS["homography"], STEPS["odd scale"], STEPS["pad"]):
        alone = step(geometry.Geometry.identity(composed.size))
        stepwise = alone.points(stepwise)
        composed = step(composed)
    numpy.testing.assert_allclose(composed.points(POINT), stepwise, atol=1e-9)


def test_flip_is_exact_and_keeps_the_order_of_the_points():
    points = numpy.array([[0.0, 5.0], [100.25, 7.0], [SIZE[0] - 1.0, 9.0]])
    moved = geometry.flip(start())
    numpy.testing.assert_allclose(moved.points(points), points * [-1, 1] + [SIZE[0] - 1, 0], atol=1e-12)
    image = numpy.random.default_rng(0).random(SIZE[::-1]).astype(numpy.float32)
    numpy.testing.assert_allclose(moved.image(image), image[:, ::-1], atol=1e-5)


def test_scaling_keeps_the_outer_edges():
    """Index -0.5 is the edge and stays it; scaling the indices instead would shift the image by half a pixel."""
    moved = geometry.rescale(start(), 2.0)
    numpy.testing.assert_allclose(moved.points([[-0.5, -0.5]]), [[-0.5, -0.5]], atol=1e-12)
    numpy.testing.assert_allclose(moved.points([[465.5, 439.5]]), [[931.5, 879.5]], atol=1e-9)


@pytest.mark.parametrize("angle", [-90.0, -33.0, 0.0, 90.0])
def test_homography_shows_the_whole_image_and_is_finite(angle):
    moved = geometry.homography(start(), 1.3, angle, (0.1, 0.1), (2e-3, 2e-3))
    corners = moved.points([[-0.5, -0.5], [465.5, -0.5], [-0.5, 439.5], [465.5, 439.5]]) + 0.5
    assert (corners > -1e-9).all() and (corners < numpy.array(moved.size) + 1e-5).all()
    numpy.testing.assert_allclose(corners.min(axis=0), 0, atol=1e-9)


def test_padding_is_black_and_centered():
    moved = geometry.pad(start(), 520)
    image = moved.image(numpy.full(SIZE[::-1], 90.0))
    assert moved.size == (520, 520)
    assert image[:40].max() == image[-40:].max() == image[:, :27].max() == image[:, -27:].max() == 0
    assert image[40:480, 27:493].min() == 90


def test_validation_crops_the_middle():
    image = dot(SIZE, POINT[0])
    result, points = KneelAugmentation(mean=10, deviation=4).validation(image, POINT)
    # 466 to 520 adds 27 on each side, 520 to 450 takes 35; 440 to 520 adds 40 and takes 35.
    numpy.testing.assert_allclose(points, POINT + [27 - 35, 40 - 35], atol=1e-12)
    assert math.dist(center(result * 4 + 10), points[0]) < 0.05


def test_points_left_outside_are_absent():
    points = numpy.array([[-0.6, 3.0], [-0.5, 3.0], [449.5, 0.0], [2.0, 449.6], [numpy.nan, 1.0]])
    assert numpy.isnan(only_inside(points, 450)).all(axis=1).tolist() == [True, False, False, True, True]


def test_normalised_coordinates_are_shares_of_the_extent():
    shares = normalised(numpy.array([[-0.5, 449.5], [224.5, 0.0]]), 450)
    numpy.testing.assert_allclose(shares, [[0, 1], [0.5, 0.5 / 450]])


def test_same_seed_same_sample_and_other_seed_another():
    image = numpy.random.default_rng(1).uniform(0, 255, SIZE[::-1])
    augmentation = KneelAugmentation(jitter=0.003)
    first, again = (augmentation(image, POINT, numpy.random.default_rng(11)) for _ in range(2))
    other = augmentation(image, POINT, numpy.random.default_rng(12))
    numpy.testing.assert_array_equal(first[0], again[0])
    numpy.testing.assert_array_equal(first[1], again[1])
    assert not numpy.array_equal(first[0], other[0])
    assert first[0].shape == (450, 450) and numpy.isfinite(first[0]).all()


def test_jitter_moves_every_target_alone_and_by_three_permille_at_most():
    augmentation = KneelAugmentation(jitter=0.003, jitter_probability=1.0)
    points = numpy.tile(POINT, (500, 1))
    offsets = augmentation.jitter_targets(points, SIZE, numpy.random.default_rng(0)) - points
    assert (numpy.abs(offsets) <= 0.003 * numpy.array(SIZE)).all()
    assert (numpy.abs(offsets).max(axis=0) > 0.0028 * numpy.array(SIZE)).all()
    assert KneelAugmentation(jitter=0.0).jitter_targets(points, SIZE, numpy.random.default_rng(0)) is points


def test_probabilities_are_the_published_ones():
    """Share of drawn geometries that leave the image upright and unscaled: 1 - 0.7 (1 - 0.5 ** 3)."""
    augmentation, generator = KneelAugmentation(), numpy.random.default_rng(5)
    matrices = [augmentation.draw_geometry(SIZE, generator).matrix for _ in range(4000)]
    untouched = sum(numpy.array_equal(matrix[:2, :2], numpy.eye(2)) for matrix in matrices) / 4000
    assert untouched == pytest.approx(1 - 0.7 * (1 - 0.5**3), abs=0.025)
    perspective = sum(matrix[2, 0] != 0 for matrix in matrices) / 4000
    assert perspective == pytest.approx(0.35, abs=0.025)


def test_constants_are_the_published_ones():
    values = dataclasses.asdict(KneelAugmentation())
    assert (values["side"], values["padded_side"]) == (450, 520)
    assert (values["scale"], values["rotation"], values["shear"]) == ((0.8, 1.3), (-90, 90), (-0.1, 0.1))
    assert (values["projective"], values["rescale"], values["gamma"]) == ((1e-5, 2e-3), (0.5, 2.5), (0.5, 1.5))
    assert (values["light_salt"], values["heavy_salt"], values["noise"], values["cutout"]) == (0.01, 0.05, 0.5, 0.1)
    assert len(TEXTURES) == 7


def test_recipe_holds_the_published_constants():
    recipe = load_recipe("kneel")
    assert (recipe.kind, recipe.seed, recipe.folds) == ("kneel", 42, 5)
    assert recipe.built("plan", KneelPlan) == KneelPlan()
    assert set(recipe["plan"]) == {field.name for field in dataclasses.fields(KneelPlan)}
    assert recipe.built("augmentation", KneelAugmentation) == KneelAugmentation()
    not_constant = {"mean", "deviation", "side", "padded_side"}
    assert set(recipe["augmentation"]) == {field.name for field in dataclasses.fields(KneelAugmentation)} - not_constant
    published = {"epochs": 100, "batch": 16, "rate": 1e-3, "weight_decay": 0, "optimizer": "adam", "constant": True}
    for stage in ("low_cost", "high_cost"):
        assert published.items() <= recipe[stage].items()
        assert recipe[stage]["average"] == 0 and math.isinf(recipe[stage]["clip"])
    assert recipe["mixup"] == {"form": "kneel", "alpha": ALPHA}
    assert recipe["loss"] == {"name": "wing", "width": 15, "curvature": 3}
    counted = build_network(recipe["network"] | {"out_channels": 16})
    assert sum(parameter.numel() for parameter in counted.parameters()) == 3_026_704


@pytest.mark.parametrize("name", TEXTURES)
def test_each_texture_keeps_size_and_range(name):
    image = numpy.random.default_rng(0).uniform(0, 255, (60, 70)).astype(numpy.float32)
    result = KneelAugmentation(median_probability=1.0).texture(image, name, numpy.random.default_rng(4))
    assert result.shape == image.shape and result.dtype == numpy.float32
    assert result.min() >= -1e-3 and result.max() <= 255.001
    assert numpy.array_equal(result, image) == (name == "none")


def test_salt_and_pepper_touches_its_share_half_and_half():
    image = numpy.full((400, 400), 100.0)
    result = textures.salt_and_pepper(image, 0.05, numpy.random.default_rng(0))
    assert (result == 0).mean() == pytest.approx(0.025, abs=0.003)
    assert (result == 255).mean() == pytest.approx(0.025, abs=0.003)
    assert numpy.isin(result, (0, 100, 255)).all()


@pytest.mark.parametrize("kernel", [3, 5])
def test_gaussian_blur_spreads_a_dot_over_its_kernel(kernel):
    image = numpy.zeros((21, 21))
    image[10, 10] = 1
    result = textures.gaussian_blur(image, kernel)
    assert result.sum() == pytest.approx(1) and (result > 0).sum() == kernel**2
    assert result[10, 11] / result[10, 10] == pytest.approx(math.exp(-0.5), rel=1e-5)


@pytest.mark.parametrize("kernel", [3, 5])
def test_median_blur_is_the_median_and_keeps_fractions(kernel):
    image = numpy.random.default_rng(2).uniform(0, 255, (31, 29)).astype(numpy.float32)
    result = textures.median_blur(image, kernel)
    half = kernel // 2
    for row, column in [(8, 9), (15, 20), (22, 4)]:
        patch = image[row - half : row + half + 1, column - half : column + half + 1]
        assert result[row, column] == numpy.median(patch)


def test_noise_blends_and_stays_in_range():
    image = numpy.full((200, 200), 40.0)
    result = textures.additive_noise(image, 0.5, numpy.random.default_rng(0))
    assert result.min() == pytest.approx(20) and result.max() == pytest.approx(20 + 127.5)
    numpy.testing.assert_array_equal(textures.additive_noise(image, 0.0, numpy.random.default_rng(0)), image)


def test_gamma_brightens_above_one_and_keeps_the_ends():
    image = numpy.array([[0.0, 64.0, 255.0]])
    numpy.testing.assert_allclose(textures.gamma(image, 1.0), image, atol=1e-4)
    bright = textures.gamma(image, 1.5)
    numpy.testing.assert_allclose(bright, [[0, 255 * (64 / 255) ** (1 / 1.5), 255]], rtol=1e-5)
    assert textures.gamma(image, 0.5)[0, 1] < 64 < bright[0, 1]


def test_cutout_blackens_one_square_of_its_share():
    result = textures.cutout(numpy.full((450, 450), 7.0), 0.1, numpy.random.default_rng(8))
    rows, columns = numpy.nonzero(result == 0)
    assert len(rows) == 45 * 45
    assert numpy.ptp(rows) == numpy.ptp(columns) == 44
