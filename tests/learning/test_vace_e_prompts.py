"""Prompts are made from the metadata, word by word as the format says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tacit.errors import ConfigError
from tacit_learning.vace_e.data.prompts import TaskMetadata, load_metadata, make_prompt


def task(kind: str, left: bool, right: bool, objects: object) -> TaskMetadata:
    return TaskMetadata.model_validate(
        {"task_type": kind, "left_hand": left, "right_hand": right, "objects": objects}
    )


@pytest.mark.parametrize(
    ("kind", "left", "right", "objects", "prompt"),
    [
        ("pouring", True, True, "cup, bottle.", "Pouring, left hand cup, right hand bottle"),
        ("pouring", True, True, ["cup", "bottle"], "Pouring, left hand cup, right hand bottle"),
        ("pouring", True, True, "kettle, bowl.", "Pouring, left hand kettle, right hand bowl"),
        ("passing_over", True, True, "red box, tray.", "Passing over, left hand red box, right hand tray"),
        ("passing_over", True, True, "box.", "Both hands passing over box."),
        ("folding", True, True, "a, b, c.", "Both hands folding a, b, c."),
        (
            "grasping",
            False,
            True,
            "white bottle with black lid.",
            "Right hand grasping white bottle with black lid.",
        ),
        ("picking", True, False, "orange.", "Left hand picking orange."),
        ("put_down", False, False, "cup.", "Put down cup."),
        ("waving", False, True, "", "Right hand waving"),
    ],
)
def test_prompt_says_hands_type_and_objects(
    kind: str, left: bool, right: bool, objects: object, prompt: str
) -> None:
    assert make_prompt(task(kind, left, right, objects), "any folder") == prompt


def test_pouring_names_its_own_objects_and_not_a_cup() -> None:
    assert "cup" not in make_prompt(task("pouring", True, True, "jug, glass."), "902-pouring")


def test_a_capital_inside_a_type_stays() -> None:
    assert make_prompt(task("USB_plugging", False, False, "stick."), "x") == "USB plugging stick."


def test_a_folder_without_metadata_is_named_as_it_is() -> None:
    name = "12 odd name_2024_11_18-18_49_25"
    assert make_prompt(None, name) == f"Robot manipulation task: {name}"


def test_metadata_may_say_more_than_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    attributes = {"a b": {"task_type": "picking", "embodiment_type": "h9", "notes": [1], "objects": None}}
    path.write_text(json.dumps({"metadata": {"fps": 30}, "per_task_attributes": attributes, "extra": 1}))
    assert load_metadata(path).per_task_attributes["a b"] == TaskMetadata(
        task_type="picking", embodiment_type="h9"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("{", "not valid JSON"),
        ("[]", "an object"),
        ("{}", "per_task_attributes: required key is missing"),
        ('{"per_task_attributes": {"a": {}}}', "per_task_attributes.a.task_type: required key"),
        ('{"per_task_attributes": {"a": {"task_type": "x", "left_hand": "maybe"}}}', "a.left_hand"),
    ],
)
def test_metadata_that_cannot_be_read_names_the_place(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "m.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_metadata(path)
