"""The cell agrees with the rig it was built from, and with itself."""

from __future__ import annotations

import numpy as np
import pytest

from tacit.control.free_gels import OPEN_FRACTION
from tacit.errors import ConfigError, RigError
from tacit.geometry.robot import Robot
from tacit.rig import Rig, load_rig, parse_rig
from tacit.rig.scene import RigGeometry
from tacit_sim.cell import HOME, Cell
from tacit_sim.model import build_mjcf, pose
from tacit_sim.rendering import mujoco
from tacit_sim.tasks import TASKS

pytestmark = pytest.mark.sim

TICK_NS = 40_000_000


def random_states(rig: Rig, count: int, reach: float = 1.0) -> np.ndarray:
    random = np.random.default_rng(3)
    lower, upper = rig.limits("lower"), rig.limits("upper")
    return random.uniform(lower, upper, (count, len(lower))) * [*[reach] * 6, 1.0]


def flange_pose(cell: Cell) -> np.ndarray:
    """T_world_flange (4, 4)."""
    site = cell.data.site("flange")
    return pose(site.xpos, site.xmat)


def test_flange_is_where_the_kinematics_of_the_core_put_it(cube_cell: Cell, rig: Rig) -> None:
    robot = Robot.from_rig(rig)
    for state in random_states(rig, 200):
        cube_cell.place(state)
        np.testing.assert_allclose(flange_pose(cube_cell), robot.forward(state[:6]), atol=1e-9)


def test_flange_of_known_joints_is_the_measured_anchor(cube_cell: Cell) -> None:
    cube_cell.place([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.0])
    np.testing.assert_allclose(flange_pose(cube_cell)[:3, 3], [-0.21068, -0.21684, 0.80292], atol=1e-5)


def test_sensors_and_cameras_are_where_the_rig_says(cube_cell: Cell, rig: Rig) -> None:
    geometry = RigGeometry(rig)
    mujoco_to_optical = np.diag([1.0, -1.0, -1.0])
    for state in random_states(rig, 30):
        cube_cell.place(state)
        for name, expected in geometry.sensor_poses(state).items():
            np.testing.assert_allclose(cube_cell.sensor_pose(name), expected, atol=1e-9)
        for name, expected in geometry.camera_poses(state).items():
            camera = cube_cell.data.camera(name)
            np.testing.assert_allclose(camera.xpos, expected[:3, 3], atol=1e-6)
            rotation = camera.xmat.reshape(3, 3) @ mujoco_to_optical
            np.testing.assert_allclose(rotation, expected[:3, :3], atol=1e-6)


def test_same_seed_gives_the_same_bits(cube_cell: Cell) -> None:
    def play() -> list[np.ndarray]:
        cube_cell.reset(11)
        seen = [cube_cell.render("top"), cube_cell.touch("left")]
        target = cube_cell.state() + [0.1, 0.1, 0, 0, 0, 0, -0.02]
        for _ in range(10):
            cube_cell.command(target)
            cube_cell.step(TICK_NS)
        return [*seen, cube_cell.state(), cube_cell.object_pose(), cube_cell.render("wrist")]

    cube_cell.disturbed = True
    for first, second in zip(play(), play(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_seeds_start_parts_inside_the_square_of_the_task(cube_cell: Cell) -> None:
    task = TASKS["place_cube"]
    starts = []
    for seed in range(50):
        cube_cell.reset(seed)
        starts.append(cube_cell.object_pose()[:2, 3])
    offsets = np.abs(np.array(starts) - task.start_xy)
    assert offsets.max() <= task.start_spread[0] / 2 + 1e-4
    assert np.ptp(starts, axis=0).min() > 0.6 * task.start_spread[0]


def test_arm_stands_still_where_it_is_told(cube_cell: Cell) -> None:
    target = np.array([*HOME, 0.04])
    for _ in range(50):
        cube_cell.command(target)
        cube_cell.step(TICK_NS)
    arrived = cube_cell.tool_pose()[:3, 3].copy()
    cube_cell.place(target)
    assert np.linalg.norm(arrived - cube_cell.tool_pose()[:3, 3]) < 1e-4


def test_fingers_stay_symmetric_while_they_squeeze(cube_cell: Cell) -> None:
    for _ in range(25):
        cube_cell.command([*HOME, 0.0])
        cube_cell.step(TICK_NS)
    left, right = (cube_cell.data.joint(f"finger_{side}").qpos[0] for side in ("left", "right"))
    assert abs(left - right) < 1e-4


def test_measured_opening_is_the_distance_between_the_gel_faces(cube_cell: Cell) -> None:
    cube_cell.place([*HOME, 0.05])
    faces = [cube_cell.sensor_pose(name)[:3, 3] for name in ("left", "right")]
    assert np.linalg.norm(faces[0] - faces[1]) == pytest.approx(0.05, abs=1e-9)
    assert cube_cell.state()[-1] == pytest.approx(0.05, abs=1e-12)


def test_time_never_goes_back_and_never_starts_at_zero(cube_cell: Cell) -> None:
    before = cube_cell.time_ns
    cube_cell.step(TICK_NS)
    cube_cell.reset(1)
    assert cube_cell.time_ns > before + TICK_NS > 0


def test_commands_beyond_the_limits_are_clipped_to_them(cube_cell: Cell, rig: Rig) -> None:
    cube_cell.command(rig.limits("upper") + 5.0)
    assert cube_cell.data.ctrl[:6] == pytest.approx(rig.limits("upper")[:6])
    assert cube_cell.data.ctrl[6] == pytest.approx(rig.limits("upper")[6] / 2)


@pytest.mark.parametrize("bad", [np.zeros(6), np.full(7, np.nan), np.full(7, np.inf)])
def test_a_command_that_is_no_command_is_refused(cube_cell: Cell, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="7 finite numbers"):
        cube_cell.command(bad)


def test_held_arm_does_not_go_on_to_its_target(cube_cell: Cell) -> None:
    start = cube_cell.state()
    cube_cell.command(start + [0.5, 0, 0, 0, 0, 0, 0])
    cube_cell.step(20_000_000)
    cube_cell.hold()
    cube_cell.step(1_000_000_000)
    assert abs(cube_cell.state()[0] - start[0]) < 0.1


def test_gripper_keeps_its_grip_while_the_arm_is_held(cube_cell: Cell) -> None:
    cube_cell.command([*HOME, 0.01])
    cube_cell.hold()
    cube_cell.step(1_000_000_000)
    assert cube_cell.state()[-1] == pytest.approx(0.01, abs=5e-4)


def test_model_renders_without_shadows(rig: Rig) -> None:
    model = mujoco.MjModel.from_xml_string(build_mjcf(rig, TASKS["place_cube"]))
    assert model.vis.quality.shadowsize == 0
    assert model.vis.quality.offsamples == 0
    assert not model.light_castshadow.any()


def test_images_have_the_sizes_of_the_rig(cube_cell: Cell, rig: Rig) -> None:
    for name, spec in rig.cameras.items():
        assert cube_cell.render(name).shape == (spec.height, spec.width, 3)
    for name, sensor in rig.tactile.items():
        assert cube_cell.touch(name).shape == (sensor.height, sensor.width, 3)


@pytest.mark.parametrize("distortion", [(), (-0.1, 0.05, 0.0, 0.0)])
def test_depth_is_how_far_along_its_axis_the_camera_sees_the_table(distortion: tuple[float, ...]) -> None:
    data = load_rig("nova2_sim").model_dump(mode="python")
    data["cameras"]["top"] |= {"kind": "depth", "D": distortion}
    depth_rig = parse_rig(data, "test")
    cell = Cell(depth_rig, "place_cube")
    try:
        cell.reset(0)
        mm, on_table = cell.render("top"), cell.segmentation("top") == cell.model.geom("table").id
    finally:
        cell.close()
    spec = depth_rig.cameras["top"]
    assert mm.dtype == np.uint16 and mm.shape == (spec.height, spec.width)
    rows, columns = np.nonzero(on_table)
    assert len(rows) > 3000
    # The ray of each pixel meets the plane z = 0 of the table: z_world = (T p)_z with p = depth (x, y, 1).
    rays = depth_rig.geometry.camera("top").undistort(np.stack([columns, rows], axis=1).astype(float))
    down = spec.T_parent_camera[2]
    expected = -down[3] / (rays @ down[:2] + down[2])
    error = np.abs(mm[on_table] - 1000 * expected)
    assert np.median(error) < 2 and np.quantile(error, 0.9) < 5


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_camera_sees_the_part_at_each_of_100_resets(
    task: str, shared_cube_cell: Cell, shared_peg_cell: Cell
) -> None:
    cell = shared_cube_cell if task == "place_cube" else shared_peg_cell
    part = cell.model.geom("part").id
    fewest = dict.fromkeys(cell.rig.cameras, 10**6)
    for seed in range(100):
        cell.reset(seed)
        for camera in fewest:
            fewest[camera] = min(fewest[camera], int((cell.segmentation(camera) == part).sum()))
    assert min(fewest.values()) >= 25, fewest


def test_unknown_task_and_camera_are_named_with_the_valid_ones(rig: Rig, cube_cell: Cell) -> None:
    with pytest.raises(ConfigError, match="place_cube"):
        Cell(rig, "place_cub")
    with pytest.raises(ConfigError, match="wrist"):
        cube_cell.render("wirst")


def test_lens_too_wide_for_the_cell_is_refused() -> None:
    wide = load_rig("nova2_sim").model_dump(mode="python")
    wide["cameras"]["top"] |= {"model": "fisheye", "K": [[45.0, 0, 79.5], [0, 45.0, 59.5], [0, 0, 1]]}
    with pytest.raises(RigError, match=r"cameras\.top: its lens sees"):
        build_mjcf(Rig.model_validate(wide), TASKS["place_cube"])


def test_the_gripper_starts_open_enough_for_a_touch_reference(cube_cell: Cell, rig: Rig) -> None:
    cube_cell.reset(0)
    opening = cube_cell.state()[rig.gripper_indices[0]]
    assert opening >= OPEN_FRACTION * rig.arms["arm"].gripper.upper
