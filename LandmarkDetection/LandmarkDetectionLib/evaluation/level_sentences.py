"""What an evaluation says about the levels of a column, as plain sentences in the rows of a table."""

from __future__ import annotations


def level_sentences(levels: dict | None) -> list[tuple[str, str]]:
    """What was asked and what came out, from ``levels`` of ``metrics.json``; no rows for schemas without levels."""
    if levels is None:
        return []
    return [*_vertebra_rows(levels), *_image_rows(levels), *_landmark_rows(levels["landmarks"])]


def _vertebra_rows(levels: dict) -> list[tuple[str, str]]:
    inside, outside = levels["in_view"], levels["out_of_view"]
    rows = [
        ("Vertebrae in view", f"{inside['count']}, {inside['whole']} of them with all their landmarks"),
        ("Vertebrae in view found on their level", f"{inside['on_its_level']}{_share(inside)}"),
        (
            "Vertebrae in view found on another level",
            f"{inside['on_another_level']}, {inside['on_none']} of them on no vertebra at all",
        ),
        ("Vertebrae in view not found", str(inside["missed"])),
    ]
    if outside["count"]:
        rows.append(
            (
                "Vertebrae out of view",
                f"{outside['count']}; reported absent {outside['reported_absent']}{_share(outside)}, "
                f"reported present {outside['reported_present']}",
            )
        )
    else:
        rows.append(("Vertebrae out of view", "none: the truth has every vertebra in every image"))
    return rows


def _image_rows(levels: dict) -> list[tuple[str, str]]:
    images, wrong = levels["images"], levels["wrong"]
    total = sum(images.values())
    shifted = f"{images['shifted']} of {total}"
    if levels["shifts"]:
        shifted += "; " + ", ".join(_shift(int(by), count) for by, count in levels["shifts"].items())
    rows = [
        ("Images with every level right", f"{images['all_right']} of {total}"),
        (
            "Images with no level wrong, but vertebrae missed or made up",
            f"{images['missed_or_invented']} of {total}",
        ),
        ("Images with the whole column shifted", shifted),
        ("Images with some levels wrong", f"{images['some_wrong']} of {total}"),
    ]
    if wrong["images"]:
        rows.append(("Images with wrong levels that were flagged", f"{wrong['flagged']} of {wrong['images']}"))
    if wrong["other_images"]:
        rows.append(
            ("Other images with a note that levels may be wrong", f"{wrong['other_noted']} of {wrong['other_images']}")
        )
    return rows


def _landmark_rows(landmarks: dict) -> list[tuple[str, str]]:
    return [
        (f"Landmarks {words} view reported absent", f"{landmarks[f'{key}_reported_absent']} of {landmarks[key]}")
        for key, words in (("in_view", "in"), ("out_of_view", "out of"))
        if landmarks[key]
    ]


def _shift(by: int, count: int) -> str:
    return f"named {abs(by)} too {'high' if by > 0 else 'low'} in {count}"


def _share(group: dict) -> str:
    if group["share"] is None:
        return ""
    low, high = group["ci95"]
    return f" ({100 * group['share']:.1f} %, 95 % interval {100 * low:.1f} to {100 * high:.1f} %)"
