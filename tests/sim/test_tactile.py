"""Tactile images: exact geometry of the imprint, and a picture that shows shape and force."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tacit.rig import load_rig
from tacit_sim.cell import HOME, Cell
from tacit_sim.experts import Expert
from tacit_sim.rendering import mujoco
from tacit_sim.tactile import CAMERA_DISTANCE_M, GEL_THICKNESS_M, TactileCamera, gel_rays, shading

pytestmark = pytest.mark.sim

SIZE_M = (0.020, 0.024, 0.008)


def sphere_scene(radius: float, depth: float, offset: tuple[float, float]) -> tuple:
    """A sphere that stands `depth` into the plane z = 0, seen by a sensor at the origin."""
    xml = f"""<mujoco><worldbody><geom type="sphere" size="{radius}"
     pos="{offset[0]!r} {offset[1]!r} {radius - depth!r}"/></worldbody></mujoco>"""
    model = mujoco.MjModel.from_xml_string(xml)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    return model, data


@pytest.mark.parametrize(
    ("depth", "offset"), [(0.0008, (0.0, 0.0)), (0.0014, (0.003, -0.004)), (0.0003, (-0.006, 0.002))]
)
def test_imprint_of_a_sphere_is_the_closed_form_one(depth: float, offset: tuple[float, float]) -> None:
    radius, rays = 0.012, (40, 30)
    model, data = sphere_scene(radius, depth, offset)
    camera = TactileCamera(model, SIZE_M, rays, 80, 60)
    found = camera.indentation(data, np.eye(4))

    # |o + t v - c|^2 = r^2 with the pinhole o behind the gel; depth along z is t v_z.
    x = (np.arange(rays[0]) + 0.5) / rays[0] * SIZE_M[0] - SIZE_M[0] / 2
    y = (np.arange(rays[1]) + 0.5) / rays[1] * SIZE_M[1] - SIZE_M[1] / 2
    X, Y = np.meshgrid(x, y)
    v = np.stack([X, Y, np.full_like(X, CAMERA_DISTANCE_M)], axis=-1)
    v /= np.linalg.norm(v, axis=-1, keepdims=True)
    centre = np.array([*offset, radius - depth + CAMERA_DISTANCE_M])
    along = v @ centre
    inside = along**2 - centre @ centre + radius**2
    hit = along - np.sqrt(np.maximum(inside, 0.0))
    expected = np.where(inside >= 0, CAMERA_DISTANCE_M - hit * v[..., 2], 0.0)
    np.testing.assert_allclose(found, np.clip(expected, 0.0, GEL_THICKNESS_M), atol=1e-9)
    assert found.max() > 0.9 * depth


def test_rays_go_through_the_centres_of_the_gels_pixels() -> None:
    rays = gel_rays(SIZE_M, (4, 2))
    on_gel = rays * (CAMERA_DISTANCE_M / rays[:, 2:])
    np.testing.assert_allclose(on_gel[0], [-0.0075, -0.006, CAMERA_DISTANCE_M])
    np.testing.assert_allclose(on_gel[-1], [0.0075, 0.006, CAMERA_DISTANCE_M])


def test_equal_slopes_shade_equally_whatever_the_pitch() -> None:
    fine, coarse = np.arange(9)[None, :] * 1e-5 * np.ones((5, 1)), np.arange(9)[:, None] * 2e-5 * np.ones(5)
    along_x = shading(fine, (0.25e-3, 0.40e-3))[2, 4]
    along_y = shading(coarse, (0.25e-3, 0.50e-3))[4, 2]
    # The slope is 0.04 both times; the red light stands along x, so it alone sees only one of them.
    assert along_x[0] < along_y[0]
    norm_x = np.linalg.norm(along_x - along_x.mean())
    norm_y = np.linalg.norm(along_y - along_y.mean())
    assert norm_x == pytest.approx(norm_y, rel=0.15)


def test_untouched_sensor_shows_exactly_its_reference(cube_cell: Cell) -> None:
    for sensor in ("left", "right"):
        np.testing.assert_array_equal(cube_cell.touch(sensor), cube_cell.reference(sensor))


def squeezed(cell: Cell, opening: float) -> np.ndarray:
    """Put the part between the fingers, in the air, and close to `opening`."""
    cell.place([*HOME, 0.06])
    address = int(cell.model.joint("part").qposadr[0])
    cell.data.qpos[address : address + 3] = cell.tool_pose()[:3, 3]
    cell.data.qpos[address + 3 : address + 7] = (1.0, 0.0, 0.0, 0.0)
    cell.model.opt.gravity[:] = 0.0
    try:
        for _ in range(20):
            cell.command([*HOME, opening])
            cell.step(40_000_000)
        return cell.touch("left").astype(int) - cell.reference("left").astype(int)
    finally:
        cell.model.opt.gravity[:] = (0.0, 0.0, -9.81)


def test_a_round_peg_colours_its_flanks(peg_cell: Cell) -> None:
    change = squeezed(peg_cell, 0.0)
    assert np.abs(change).max() > 40
    red = change[30, :, 0]
    assert red[:40].mean() * red[40:].mean() < 0, "the red light stands on one side"


def test_more_force_makes_a_larger_imprint(peg_cell: Cell) -> None:
    light = np.abs(squeezed(peg_cell, 0.0225)).sum()
    peg_cell.reset(0)
    hard = np.abs(squeezed(peg_cell, 0.0)).sum()
    assert hard > 1.3 * light > 0


def test_full_grip_does_not_saturate_the_gel(peg_cell: Cell) -> None:
    squeezed(peg_cell, 0.0)
    depth = peg_cell.indentation("left").max()
    assert 0.3e-3 < depth < GEL_THICKNESS_M


def test_flat_face_with_relief_leaves_a_cross_in_the_gel() -> None:
    """A face wider than the gel fills it evenly; the cross on it stands out along both axes."""
    cell = Cell(load_rig("nova2_sim"), "place_cube")
    expert = Expert(cell.rig, dataclasses.replace(cell.task, grasp_spread=(0.0, 0.0, 0.0)))
    cell.reset(3)
    expert.start(cell.state(), cell.object_pose())
    for tick in range(53):
        cell.command(expert.target(tick))
        cell.step(40_000_000)
    difference = cell.touch("left").astype(float) - cell.reference("left")
    rows, columns = difference.shape[:2]
    middle = np.ptp(difference[:, :, 0], axis=1)
    assert np.ptp(difference[rows // 4 : 3 * rows // 4, columns // 4 : 3 * columns // 4]) > 30
    assert middle[0] < 0.5 * middle.max(), "the rim of the gel is flat"
    cell.close()
