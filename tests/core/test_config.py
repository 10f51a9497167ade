"""Configuration: typos are named with their place and the likely cure."""

from __future__ import annotations

import pytest
from pydantic import Field

from tacit.config import Config, apply_overrides, load, load_json, load_yaml, parse, save, to_yaml
from tacit.errors import ConfigError, RigError, did_you_mean


class Wheel(Config):
    radius: float = Field(default=0.1, gt=0)
    width: float = 0.02


class Spare(Config):
    tread: str = "deep"


class Car(Config):
    name: str
    wheels: dict[str, Wheel] = {}
    axles: tuple[Wheel, ...] = ()
    spare: Spare | None = None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"nam": "a"}, r"f.yaml: nam: unknown key; did you mean 'name'\?"),
        ({}, "f.yaml: name: required key is missing"),
        ({"name": "a", "wheels": {"left": {"radios": 1}}}, r"wheels.left.radios: unknown key.*'radius'"),
        ({"name": "a", "wheels": {"name": {"radios": 1}}}, r"wheels.name.radios: unknown key.*'radius'"),
        ({"name": "a", "wheels": {"spare": {"widht": 1}}}, r"wheels.spare.widht: unknown key.*'width'"),
        ({"name": "a", "wheels": {"radius": {"widht": 1}}}, r"wheels.radius.widht: unknown key.*'width'"),
        ({"name": "a", "axles": [{}, {"widht": 1}]}, r"axles.1.widht: unknown key; did you mean 'width'"),
        ({"name": "a", "spare": {"tred": "x"}}, r"spare.tred: unknown key; did you mean 'tread'"),
        ({"name": "a", "spare": {"zzz": "x"}}, r"spare.zzz: unknown key; valid: tread"),
        ({"name": "a", "axles": [{"radius": -1}]}, r"axles.0.radius: .*greater than 0, found -1"),
        ({"name": 3}, r"name: .*string, found 3"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_cure(data, message):
    with pytest.raises(ConfigError, match=message):
        parse(Car, data, "f.yaml")


def test_every_mistake_is_listed_at_once():
    with pytest.raises(ConfigError) as caught:
        parse(Car, {"colour": "red", "axles": [{"radius": 0}]}, "f.yaml")
    assert len(str(caught.value).splitlines()) == 3


def test_yaml_there_and_back(tmp_path):
    car = Car(name="a", wheels={"l": Wheel(radius=0.3)}, spare=Spare())
    save(car, tmp_path / "car.yaml")
    assert load(Car, tmp_path / "car.yaml") == car
    assert to_yaml(car).splitlines()[0] == "name: a"


@pytest.mark.parametrize(
    ("text", "message"), [("a: [", "not valid YAML"), ("- a", "found list"), ("", "found")]
)
def test_what_is_no_mapping_is_refused(tmp_path, text, message):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(RigError, match=message):
        load_yaml(tmp_path / "x.yaml", RigError)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: no such file"):
        load_yaml(tmp_path / "nowhere.yaml")


def test_overrides_reach_into_sections_and_leave_the_input_alone():
    data = {"name": "a", "wheels": {"l": {"radius": 0.1}}}
    changed = apply_overrides(data, ["wheels.l.radius=0.4", "wheels.r.width=0.01", "name=b"])
    assert changed == {"name": "b", "wheels": {"l": {"radius": 0.4}, "r": {"width": 0.01}}}
    assert data == {"name": "a", "wheels": {"l": {"radius": 0.1}}}
    assert parse(Car, changed, "x").wheels["r"].width == 0.01


@pytest.mark.parametrize(("override", "message"), [("name", "key.path=value"), ("name.x=1", "not a section")])
def test_an_override_that_goes_nowhere_is_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        apply_overrides({"name": "a"}, [override])


def test_far_names_list_what_is_valid():
    assert did_you_mean("xyz", ["b", "a"]) == "valid: a, b"
    assert did_you_mean("topik", ["topic", "type"]) == "did you mean 'topic'?"
    assert did_you_mean("x", []) == "valid: (none)"


def test_a_byte_order_mark_is_passed_over_and_another_encoding_is_named(tmp_path):
    path = tmp_path / "car.yaml"
    path.write_text("name: a\n", encoding="utf-8-sig")
    assert load(Car, path).name == "a"
    data = tmp_path / "car.json"
    data.write_text('{"name": "a"}', encoding="utf-8-sig")
    assert load_json(data) == {"name": "a"}
    path.write_text("name: a\n", encoding="utf-16")
    with pytest.raises(ConfigError, match="car.yaml: not valid YAML: .*utf-8"):
        load(Car, path)
