"""Driver units to metres and radians and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tacit.errors import RigError
from tacit.rig import Rig, load_rig
from tacit.rig.units import (
    claw_coefficient,
    claw_half_opening,
    efforts_to_canonical,
    from_canonical,
    rates_from_canonical,
    rates_to_canonical,
    to_canonical,
    vector_from_canonical,
    vector_to_canonical,
)


def rig_with(gripper: dict | None = None, joint: dict | None = None) -> Rig:
    data = load_rig("nova2_sim").model_dump(mode="json")
    data["arms"]["arm"]["gripper"] |= gripper or {}
    data["arms"]["arm"]["joints"][1] |= joint or {}
    return Rig.model_validate(data)


TABLE = [[0.0, 0.085], [100.0, 0.060], [255.0, 0.0]]  # raw rises, the gripper closes


@pytest.mark.parametrize(
    ("coefficient", "millimetres"), [(0, 12.50), (0.25, 16.82), (0.5, 25.26), (0.75, 38.45), (1, 53.14)]
)
def test_the_claw_opens_as_measured(coefficient, millimetres):
    assert claw_half_opening(coefficient) * 1e3 == pytest.approx(millimetres, abs=0.006)


@given(st.floats(0, 1))
def test_claw_goes_there_and_back(coefficient):
    assert claw_coefficient(claw_half_opening(coefficient)) == pytest.approx(coefficient, abs=1e-9)


def test_claw_stops_at_its_ends():
    assert claw_coefficient(0.0) == 0.0
    assert claw_coefficient(0.2) == 1.0


def test_the_state_is_the_opening_between_both_pads():
    rig = load_rig("xtrainer")
    assert to_canonical(rig, "left_gripper", 0.5) == pytest.approx(2 * 0.02526, abs=2e-5)


@given(st.floats(-3, 3))
def test_joint_sign_and_offset_apply_in_that_order(raw):
    rig = rig_with(joint={"sign": -1, "offset": 0.25})
    assert to_canonical(rig, "joint2", raw) == 0.25 - raw
    assert from_canonical(rig, "joint2", to_canonical(rig, "joint2", raw)) == pytest.approx(raw, abs=1e-12)
    assert to_canonical(rig, "joint1", raw) == raw


@given(st.floats(0, 1))
def test_every_gripper_model_inverts(fraction):
    models = [
        ({"raw": "linear", "scale": 0.08, "offset": 0.001}, fraction),
        ({"raw": "linear", "scale": -0.0003, "offset": 0.08}, 255 * fraction),
        ({"raw": "table", "table": TABLE}, 255 * fraction),
        ({"raw": "claw", "offset": -0.02}, fraction),
    ]
    for model, raw in models:
        rig = rig_with(model)
        back = from_canonical(rig, "gripper", to_canonical(rig, "gripper", raw))
        assert back == pytest.approx(raw, abs=1e-7)


def test_a_table_is_linear_between_its_rows_and_holds_at_the_ends():
    rig = rig_with({"raw": "table", "table": TABLE})
    assert to_canonical(rig, "gripper", 50.0) == pytest.approx(0.0725)
    assert to_canonical(rig, "gripper", 300.0) == 0.0
    assert from_canonical(rig, "gripper", 0.5) == 0.0
    assert from_canonical(rig, "gripper", -0.1) == 255.0


def test_vectors_follow_the_names_they_come_with():
    rig = rig_with({"raw": "linear", "scale": 0.08}, {"offset": 1.0})
    canonical = vector_to_canonical(rig, ["gripper", "joint2"], [0.5, 0.1])
    np.testing.assert_allclose(canonical, [0.04, 1.1])
    np.testing.assert_allclose(vector_from_canonical(rig, ["gripper", "joint2"], canonical), [0.5, 0.1])
    with pytest.raises(ValueError, match="zip"):
        vector_to_canonical(rig, ["gripper", "joint2"], [0.5])


def test_an_unknown_name_is_named():
    with pytest.raises(RigError, match="did you mean 'joint2'"):
        to_canonical(load_rig("nova2_sim"), "joint_2", 0.0)


@pytest.mark.parametrize(
    ("gripper", "raw"),
    [({"scale": 0.001}, 40.0), ({"raw": "table", "table": TABLE}, 150.0), ({"raw": "claw"}, 0.4)],
)
def test_a_velocity_is_the_derivative_of_the_conversion(gripper, raw):
    rig, step = rig_with(gripper, {"sign": -1, "offset": 0.25}), 1e-5
    names = ["joint2", "gripper"]
    moved = vector_to_canonical(rig, names, np.array([0.3, raw]) + step)
    slope = (moved - vector_to_canonical(rig, names, [0.3, raw])) / step
    np.testing.assert_allclose(
        rates_to_canonical(rig, names, [2.0, 3.0], [0.3, raw]), slope * [2, 3], rtol=1e-3
    )


def test_rates_go_there_and_back():
    rig = rig_with({"raw": "table", "table": TABLE}, {"sign": -1})
    names, raw, rates = ["joint2", "gripper"], [0.3, 150.0], [2.0, 3.0]
    canonical = rates_to_canonical(rig, names, rates, raw)
    np.testing.assert_allclose(rates_from_canonical(rig, names, canonical, raw), rates, rtol=1e-12)
    assert (canonical < 0).all()


def test_effort_keeps_its_unit_and_turns_with_the_joint():
    rig = rig_with({"raw": "table", "table": TABLE}, {"sign": -1})
    efforts = efforts_to_canonical(rig, ["joint1", "joint2", "gripper"], [5.0, 5.0, 5.0], [0, 0, 150.0])
    assert efforts.tolist() == [5.0, -5.0, -5.0]  # this gripper's raw value rises as it closes
