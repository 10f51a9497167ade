"""The cell draws real lenses: its board is found where the projection of the rig says."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("tacit_sim.rendering", reason="mujoco is not installed")

from tacit.geometry.camera import FisheyeCamera, PinholeCamera
from tacit.geometry.transforms import invert, pose_error, transform_points
from tacit.rig import Rig, load_rig, parse_rig
from tacit_sim import board
from tacit_sim.as_built import JointError, as_built
from tacit_sim.cell import Cell
from tacit_sim.lens import Lens, is_plain
from tacit_sim.motion import Tour
from tacit_sim.poses import ViewPlanner

pytestmark = pytest.mark.sim

D = [0.05, -0.1, 0.001, -0.0005, 0.02]
FISHEYE = {
    "model": "fisheye",
    "D": [-0.02, 0.01, -0.005, 0.001],
    "K": [[420.0, 0, 317], [0, 421.0, 243], [0, 0, 1]],
}


def changed(**camera: object) -> Rig:
    """The VGA cell with another lens on both cameras."""
    data = load_rig("nova2_sim_vga").model_dump(mode="json")
    for spec in data["cameras"].values():
        spec.update(camera)
    return parse_rig(data, "changed")


def found_corners(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners that OpenCV finds: pixels (N, 2) and points on the board (N, 3) [m]."""
    target = cv2.aruco.CharucoBoard(
        (board.COLUMNS, board.ROWS),
        board.SQUARE_M,
        board.MARKER_M,
        cv2.aruco.getPredefinedDictionary(board.DICTIONARY),
    )
    corners, ids, _, _ = cv2.aruco.CharucoDetector(target).detectBoard(
        cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    )
    return corners.reshape(-1, 2), np.asarray(target.getChessboardCorners())[np.ravel(ids)]


@pytest.mark.parametrize(
    ("lens", "place", "camera"),
    [({"D": D}, "table", "wrist"), (FISHEYE, "gripper", "top")],
    ids=["bent", "fisheye"],
)
def test_board_is_drawn_where_the_lens_projects_it(lens: dict, place: str, camera: str) -> None:
    rig = changed(**lens)
    cell = Cell(rig, board_at=place)  # type: ignore[arg-type]
    views = ViewPlanner(cell, camera, seed=3).views(3)
    pictures = []
    for view in views:
        cell.place(view)
        pictures.append(found_corners(cell.render(camera)))
    best = int(np.argmax([len(points) for _, points in pictures]))  # fingers hide the board in some
    (pixels, points), state = pictures[best], views[best]
    T_world_board = board.WORLD_BOARD
    if place == "gripper":
        T_world_board = rig.geometry.flange_poses(state)["arm"] @ board.FLANGE_BOARD
    T_camera_board = invert(rig.geometry.camera_poses(state)[camera]) @ T_world_board
    error = pixels - rig.geometry.camera(camera).project(transform_points(T_camera_board, points))
    cell.close()
    assert len(points) >= 12
    assert np.abs(error.mean(axis=0)).max() < 0.1
    assert error.std(axis=0).max() < 0.25


def test_labels_of_a_bent_lens_enclose_the_computed_boxes() -> None:
    rig = changed(D=D)
    cell = Cell(rig)
    footprint = rig.sensor_boxes(cell.state(), "wrist")["left"]
    rows, columns = np.nonzero(cell.pad_mask("wrist", "left", occluded=False))
    drawn = [columns.min() - 0.5, rows.min() - 0.5, columns.max() + 0.5, rows.max() + 0.5]
    cell.close()
    assert np.abs(footprint.box - drawn).max() < 1.01


def test_plain_pinhole_is_drawn_as_it_is() -> None:
    K = np.array([[100.0, 0, 79.5], [0, 100.0, 59.5], [0, 0, 1]])
    plain = PinholeCamera(K, (), 160, 120)
    image = np.zeros((120, 160, 3), np.uint8)
    assert Lens.of(plain, "x").image(image) is image
    assert not is_plain(FisheyeCamera(K, (), 160, 120))
    assert not is_plain(PinholeCamera(K + [[0, 0, 2], [0, 0, 0], [0, 0, 0]], (), 160, 120))


def test_a_drawn_point_comes_back_at_its_pixel() -> None:
    """Through the lookup of a strong lens: a white spot drawn at a ray shows at that ray's pixel."""
    camera = PinholeCamera(
        np.array([[400.0, 0, 300], [0, 402.0, 250], [0, 0, 1]]), (-0.2, 0.05, 0, 0, 0), 640, 480
    )
    lens = Lens.of(camera, "x")
    ray = np.array([0.35, -0.2])
    drawn = np.zeros((lens.height, lens.width, 3), np.uint8)
    centre = ray * lens.focal_px + [(lens.width - 1) / 2, (lens.height - 1) / 2]
    cv2.circle(drawn, tuple(np.rint(centre).astype(int)), 9, (255, 255, 255), -1)
    rows, columns = np.nonzero(lens.image(drawn)[..., 0] > 127)
    assert [columns.mean(), rows.mean()] == pytest.approx(camera.project([*ray, 1.0]), abs=0.4)


@pytest.mark.parametrize("lens", [{"D": D}, FISHEYE], ids=["bent", "fisheye"])
def test_rays_between_the_computed_ones_are_those_of_the_lens(lens: dict) -> None:
    camera = changed(**lens).geometry.camera("wrist")
    drawn = Lens.of(camera, "wrist")
    u, v = drawn._lookup(1)
    pixels = np.random.default_rng(0).integers(0, [640, 480], (300, 2))
    exact = camera.undistort(pixels) * drawn.focal_px + [(drawn.width - 1) / 2, (drawn.height - 1) / 2]
    found = np.stack([u[pixels[:, 1], pixels[:, 0]], v[pixels[:, 1], pixels[:, 0]]], axis=-1)
    assert np.abs(found - exact).max() < 0.03  # of the drawn picture, two to four of whose pixels are one


def test_a_cell_as_built_differs_from_its_rig_by_a_stated_amount() -> None:
    rig = load_rig("nova2_sim_vga")
    built = as_built(rig, 5)
    assert as_built(rig, 0) is rig and as_built(rig, 5).rig_id == built.rig_id
    assert built.state_names == rig.state_names and built.calibration_id != rig.calibration_id
    for name, camera in rig.cameras.items():
        error = pose_error(camera.T_parent_camera, built.cameras[name].T_parent_camera)
        assert 3e-3 < error.translation < 8.1e-3 and 0.9 < np.rad2deg(error.rotation) < 2.6
        assert len(built.cameras[name].D) == 5
    for name, sensor in rig.tactile.items():
        assert (
            0.5e-3
            < pose_error(sensor.T_mount_sensor, built.tactile[name].T_mount_sensor).translation
            < 1.6e-3
        )


def test_a_fisheye_as_built_stays_a_fisheye() -> None:
    built = as_built(changed(**FISHEYE), 5)
    assert {(camera.model, len(camera.D)) for camera in built.cameras.values()} == {("fisheye", 4)}


def test_joint_errors_have_their_size_and_belong_to_the_pose() -> None:
    error = JointError.draw(6, zero_deg=0.0, pose_deg=0.05, seed=1)
    q = np.random.default_rng(0).uniform(-2, 2, (4000, 6))
    difference = np.rad2deg(error.measured(q) - q)
    assert np.std(difference) == pytest.approx(0.05, rel=0.05)
    assert np.array_equal(error.measured(q[0]), error.measured(q)[0])
    assert np.rad2deg(np.abs(error.measured(q + 1e-4) - error.measured(q) - 1e-4)).max() < 1e-3
    state = np.append(q[0], 0.03)
    assert error.measured_state(state)[-1] == 0.03


def test_a_tour_rests_at_each_stop_and_keeps_the_pace() -> None:
    stops = np.array([[0.0, 0.0], [0.5, -0.2], [0.5, 0.3]])
    tour = Tour(stops, np.array([1.0, 1.0]), rate_hz=25.0, rest_s=0.4)
    targets = []
    while not tour.is_over:
        targets.append(tour.next(np.zeros(2)))
    track = np.array(targets)
    for stop in stops:
        assert (np.abs(track - stop).max(axis=1) < 1e-12).sum() >= 10
    assert np.abs(np.diff(track, axis=0)).max() * 25 < 0.55
    assert np.array_equal(tour.next(np.zeros(2)), stops[-1])


def test_views_show_most_of_the_board_without_touching_the_table() -> None:
    cell = Cell(load_rig("nova2_sim"), board_at="table")
    planner = ViewPlanner(cell, "wrist", seed=1)
    views = planner.views(6)
    assert views.shape == (6, 7)
    for state in views:
        assert planner.is_free(state)
    assert not planner.is_free(np.array([-0.34, 0.75, 2.05, -1.2, -1.57, 1.2, 0.06]))  # fingers in the table
