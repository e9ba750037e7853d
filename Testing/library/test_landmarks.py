"""Schemas and landmark sets."""

from __future__ import annotations

import json

import numpy as np
import pytest
from LandmarkDetectionLib.errors import LandmarkDetectionError
from LandmarkDetectionLib.geometry import Frame
from LandmarkDetectionLib.landmarks import LandmarkSchema, LandmarkSet, load_schema


@pytest.fixture
def schema() -> LandmarkSchema:
    return load_schema("knee-ap")


def landmark_set(schema: LandmarkSchema, frame: Frame, **changes) -> LandmarkSet:
    n = len(schema.ids)
    fields = {
        "positions": np.arange(2.0 * n).reshape(n, 2),
        "covariances": np.tile(np.eye(2), (n, 1, 1)),
        "expected_errors": np.full(n, 2.0),
        "statuses": ("predicted",) * n,
        "sources": ("knee-ap-radiograph 1.0.0",) * n,
    }
    return LandmarkSet(schema=schema, frame=frame, **{**fields, **changes})


def test_knee_schema_describes_sixteen_points(schema: LandmarkSchema) -> None:
    tibia, femur = tuple(f"T{i}" for i in range(9)), tuple(f"F{i}" for i in range(7))
    assert schema.ids == tibia + femur
    assert schema.chains == {"tibia": tibia, "femur": femur}
    assert schema.mirror_pairs == ()  # lateral to medial on both sides: names do not change under mirroring
    assert "lateral to the medial" in schema.side_rule
    for landmark in schema.landmarks:
        assert landmark.definition.endswith(".") and len(landmark.definition.split()) > 6
        assert 0 < len(landmark.abbreviation) <= 4
        assert landmark.code["value"] == {"T": "12611008", "F": "71341001"}[landmark.id[0]]
    for field in ("title", "abbreviation", "definition"):
        assert len({getattr(landmark, field) for landmark in schema.landmarks}) == 16


def test_knee_names_are_those_of_the_data(schema: LandmarkSchema, landmark_data) -> None:
    columns = (landmark_data / "knee_xray" / "landmarks.csv").read_text().splitlines()[0].split(",")
    assert tuple(column[:-2] for column in columns if column.endswith("_x")) == schema.ids


def test_lateral_names_lie_on_the_side_of_the_fibula(schema: LandmarkSchema, landmark_data) -> None:
    lines = (landmark_data / "knee_xray" / "landmarks.csv").read_text().splitlines()
    header = lines[0].split(",")
    for line in lines[1:]:
        row = dict(zip(header, line.split(","), strict=True))
        medial_is_right_of_lateral = float(row["T8_x"]) > float(row["T0_x"])
        assert medial_is_right_of_lateral == row["image"].endswith("R.png")


def test_schema_description_is_lossless(schema: LandmarkSchema) -> None:
    assert LandmarkSchema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


def test_unknown_names_are_refused_with_the_choices(schema: LandmarkSchema) -> None:
    with pytest.raises(LandmarkDetectionError, match="'T9' is not a landmark of 'knee-ap'; choose one of T0, T1"):
        schema.index("T9")
    with pytest.raises(LandmarkDetectionError, match=r"no landmark schema '\.\./x'; choose one of .*knee-ap"):
        load_schema("../x")


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.pop("landmarks"),
        lambda d: d["landmarks"].append(d["landmarks"][0]),
        lambda d: d["chains"].update(patella=["P0"]),
        lambda d: d["landmarks"][0].update(colour="red"),
        lambda d: d["mirror_pairs"].append(["T0", "T99"]),
    ],
)
def test_damaged_schema_is_refused(schema: LandmarkSchema, damage) -> None:
    description = schema.to_dict()
    damage(description)
    with pytest.raises(LandmarkDetectionError):
        LandmarkSchema.from_dict(description)


def test_set_speaks_millimetres_only_where_known(schema: LandmarkSchema) -> None:
    known = landmark_set(schema, Frame.film((100, 100), 0.25, "calibrated"))
    assert known.expected_errors_mm() == pytest.approx(0.5)
    assert known.physical()[1] == pytest.approx([0.5, 0.75, 0.0])
    assert landmark_set(schema, Frame.film((100, 100))).expected_errors_mm() is None


def test_absent_points_stay_absent(schema: LandmarkSchema) -> None:
    positions = np.ones((16, 2))
    positions[3] = np.nan
    found = landmark_set(schema, Frame.film((100, 100)), positions=positions)
    assert np.isnan(found.physical()[3]).all() and np.isfinite(np.delete(found.physical(), 3, 0)).all()


def test_set_is_a_value(schema: LandmarkSchema) -> None:
    positions = np.zeros((16, 2))
    before = landmark_set(schema, Frame.film((100, 100)), positions=positions)
    positions[0] = 7
    assert (before.positions == 0).all()
    with pytest.raises(ValueError, match="read-only"):
        before.positions[0] = 1
    after = before.replace(positions=positions)
    assert (after.positions[0] == 7).all() and (before.positions == 0).all()
    assert after.statuses == before.statuses


@pytest.mark.parametrize(
    "wrong",
    [
        {"positions": np.zeros((15, 2))},
        {"covariances": np.zeros((16, 3, 3))},
        {"expected_errors": np.zeros((16, 1))},
        {"statuses": ("predicted",) * 15},
        {"statuses": ("lost",) * 16},
        {"sources": ()},
    ],
)
def test_wrong_shapes_are_refused(schema: LandmarkSchema, wrong: dict) -> None:
    with pytest.raises(LandmarkDetectionError):
        landmark_set(schema, Frame.film((100, 100)), **wrong)


def test_mirrored_rows_exchange_the_pairs_and_undo_themselves():
    schema = load_schema("spine-ap")
    rows = schema.mirrored_rows
    assert [schema.ids[row] for row in rows[:4]] == ["T1_TR", "T1_TL", "T1_BR", "T1_BL"]
    assert (rows[rows] == range(len(rows))).all()
    assert (load_schema("knee-ap").mirrored_rows == range(16)).all()
