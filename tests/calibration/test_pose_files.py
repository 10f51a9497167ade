"""Every usual file of robot poses is read as its writer meant it, ROS bags among them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from tacit.errors import CalibrationError
from tacit_calibration.poses.bags import is_bag, read_bag
from tacit_calibration.poses.files import read_poses

M = np.eye(4)
M[:3, 3] = 0.1, 0.2, 0.3
ROWS_4X4, ROWS_3X4 = M.ravel().tolist(), M[:3].ravel().tolist()
POSE = "{translation: {x: .1, y: .2, z: .3}, rotation: {x: 0, y: 0, z: 0, w: 1}}"
SEVEN = [0.1, 0.2, 0.3, 0, 0, 0, 1]
ROS_POSE = "pose:\n  position: {x: .1, y: .2, z: .3}\n  orientation: {x: 0.0, y: 0.0, z: 0.0, w: 1.0}\n"
RAPID = """MODULE Cal
  PERS tooldata t:=[TRUE,[[0,0,100],[1,0,0,0]],[1,[0,0,1],[1,0,0,0],0,0,0]];
  CONST robtarget p10:=[[600,0,4e2],[1,0,0,0],[0,0,0,0],[9E9,9E9,9E9,9E9,9E9,9E9]];
  CONST jointtarget j1:=[[0,0,0,0,30,0],[9E9,9E9,9E9,9E9,9E9,9E9]];
  PROC main()
    MoveL p10, v100, fine, t;
  ENDPROC
ENDMODULE"""
WRAPPED_RAPID = """CONST robtarget p10:=[[600,0,400],
  [1,0,0,0],[0,0,0,0],
  [9E9,9E9,9E9,9E9,9E9,9E9]];"""
FANUC = """/PROG CAL
   1:L P[1] 100mm/sec FINE ;
/POS
P[1]{
   GP1:
  UF : 0, UT : 1,  CONFIG : 'N U T, 0, 0, 0',
  X =   473.000  mm,  Y =     0.000  mm,  Z =   500.500  mm,
  W =   180.000 deg,  P =     0.000 deg,  R =   -90.000 deg
};
/END"""
YASKAWA = (
    "/JOB\n//POS\n///NPOS 0,0,0,1,0,0\n///USER 1\nP00000=473.000,0.000,500.500,180.0000,0.0000,-90.0000\n"
)
RTDE = "timestamp " + " ".join(f"actual_TCP_pose_{i}" for i in range(6)) + "\n.5 1 2 3 4 5 6\n"
URSCRIPT = "def cal():\n  movej([0.1,0.2,0.3,0.4,0.5,0.6], a=1.4)\n  movel(p[.1,.2,.3,0,0,1], a=1.2)\nend"
KRL = """DEFDAT CAL
DECL E6POS XP1={X 380.1,Y -120.0,Z 410.0,A 90.0,B 0.0,C 180.0,S 2,T 35,E1 0.0,E2 0.0}
DECL E6AXIS XH={A1 0.0,A2 -90.0,A3 90.0,A4 0.0,A5 0.0,A6 0.0}
DECL FDAT FP1={TOOL_NO 1,BASE_NO 0}
ENDDAT"""
ECHO = """At time 1.0
- Translation: [0.1, 0.2, 0.3]
- Rotation: in Quaternion (xyzw) [0, 0, 0, 1]
- Rotation: in RPY (radian) [0, 0, 0]
- Rotation: in RPY (degree) [0, 0, 0]
- Matrix:
 1 0 0 0.1
"""
OPENCV = """%YAML:1.0
---
pose0: !!opencv-matrix
   rows: 4
   cols: 4
   dt: d
   data: [ 1., 0., 0., 0.1, 0., 1., 0., 0.2, 0., 0., 1., 0.3, 0., 0., 0., 1. ]
"""


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("program.mod", RAPID, [600, 0, 400, 1, 0, 0, 0]),
        ("cal.script", URSCRIPT, [0.1, 0.2, 0.3, 0, 0, 1]),
        ("cal.dat", KRL, [380.1, -120, 410, 180, 0, 90]),
        ("log.txt", "0,{1,2,3,4,5,6},GetAngle();\n0,{7,8,9,1,2,3},GetPose();\n", [7, 8, 9, 1, 2, 3]),
        ("echo.txt", ECHO, SEVEN),
        ("echo_ros1.txt", ECHO.replace(" (xyzw)", ""), SEVEN),
        ("topic.yaml", f"---\n{ROS_POSE}", SEVEN),
        ("saved.txt", "\n".join(" ".join(map(str, row)) for row in M), ROWS_4X4),
        ("printed.txt", str(M), ROWS_4X4),
        ("three.txt", str(M[:3]), ROWS_3X4),
        ("matrix.yml", OPENCV, ROWS_4X4),
        ("tum.txt", "# timestamp tx ty tz qx qy qz qw\n1305031098.6 .1 .2 .3 0 0 0 1\n", SEVEN),
        (
            "comma.csv",
            "X [mm];Y [mm];Z [mm];A [deg];B [deg];C [deg]\n1,5;2;3;4;5;6,25\n",
            [1.5, 2, 3, 4, 5, 6.25],
        ),
        ("bare.csv", "1,5;2,0;3,0;4,0;5,0;6,25\n", [1.5, 2, 3, 4, 5, 6.25]),
        ("fanuc.csv", "x,y,z,w,p,r\n1,2,3,4,5,6\n", [1, 2, 3, 4, 5, 6]),
        ("twice_y.csv", "x,y,z,r,p,y\n1,2,3,4,5,6\n", [1, 2, 3, 4, 5, 6]),
        (
            "logger.csv",
            "tcp_x [mm],tcp_y [mm],tcp_z [mm],tcp_roll [deg],tcp_pitch [deg],tcp_yaw [deg]\n1,2,3,4,5,6\n",
            [1, 2, 3, 4, 5, 6],
        ),
        ("abb.csv", "q1,q2,q3,q4,x,y,z\n1,0,0,0,.1,.2,.3\n", [0.1, 0.2, 0.3, 1, 0, 0, 0]),
        ("w.tsv", "x\ty\tz\tqw\tqx\tqy\tqz\n.1\t.2\t.3\t1\t0\t0\t0\n", SEVEN),
        (
            "ros.csv",
            "t,pose.position.x,pose.position.y,pose.position.z,pose.orientation.x,pose.orientation.y,"
            "pose.orientation.z,pose.orientation.w\n1,.1,.2,.3,0,0,0,1\n",
            SEVEN,
        ),
        ("r.csv", "r11,r12,r13,r21,r22,r23,r31,r32,r33,tx,ty,tz\n1,0,0,0,1,0,0,0,1,.1,.2,.3\n", ROWS_3X4),
        ("named.json", json.dumps({"00.png": M.tolist()}), ROWS_4X4),
        ("wxyz.json", json.dumps([{"t": [0.1, 0.2, 0.3], "quat_wxyz": [1, 0, 0, 0]}]), SEVEN),
        ("rpy.json", '[{"x": 1, "y": 2, "z": 3, "roll": 4, "pitch": 5, "yaw": 6}]', [1, 2, 3, 4, 5, 6]),
        ("wrapped.mod", WRAPPED_RAPID, [600, 0, 400, 1, 0, 0, 0]),
        ("fanuc.ls", FANUC, [473, 0, 500.5, 180, 0, -90]),
        ("job.jbi", YASKAWA, [473, 0, 500.5, 180, 0, -90]),
        ("state.xml", '<Rob>\n<RIst X="1" Y="2" Z="3" A="4" B="5" C="6"/>\n</Rob>', [1, 2, 3, 6, 5, 4]),
        ("p.py", "movel(posx(1, 2, 3, 4, 5, 6), vel=[100, 50], acc=[9, 9])", [1, 2, 3, 4, 5, 6]),
        ("list.txt", "poses = [\n[1, 2, 3, 4, 5, 6],\n]\n", [1, 2, 3, 4, 5, 6]),
        ("tabs.txt", "1,5\t2,0\t3\t4\t5\t6,25\n", [1.5, 2, 3, 4, 5, 6.25]),
        ("picture.txt", "a.png 1,5 2,0 3 4 5 6,25\n", [1.5, 2, 3, 4, 5, 6.25]),
        ("oat.csv", "x,y,z,o,a,t\n1,2,3,4,5,6\n", [1, 2, 3, 4, 5, 6]),
        ("rtde.csv", RTDE, [1, 2, 3, 4, 5, 6]),
        ("euler.json", '[{"t": [1, 2, 3], "euler": {"roll": 4, "pitch": 5, "yaw": 6}}]', [1, 2, 3, 4, 5, 6]),
        ("kuka.json", '[{"X": 1, "Y": 2, "Z": 3, "A": 4, "B": 5, "C": 6}]', [1, 2, 3, 6, 5, 4]),
    ],
)
def test_one_pose_is_read_as_it_was_meant(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    assert read_poses(tmp_path / name).robot.tolist() == [pytest.approx(expected)]


def lists_of_opencv(T: np.ndarray) -> dict[str, np.ndarray]:
    two = np.stack([T, T])
    return {
        "R_gripper2base": two[:, :3, :3],
        "t_gripper2base": two[:, :3, 3:],
        "R_target2cam": two[:, :3, :3],
        "t_target2cam": two[:, :3, 3:],
    }


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("moveit.yaml", f"- effector_wrt_world: {ROWS_4X4}\n  object_wrt_sensor: {ROWS_4X4}\n" * 2, ROWS_4X4),
        (
            "handeye2.samples",
            f"samples:\n{f'- robot: {POSE}{chr(10)}  tracking: {POSE}{chr(10)}' * 2}",
            SEVEN,
        ),
        (
            "handeye1.yaml",
            f"samples:\n  hand_world_samples: [{POSE}, {POSE}]\n  camera_marker_samples: [{POSE}, {POSE}]\n",
            SEVEN,
        ),
        (
            "handeye0.yaml",
            f"hand_world_samples: {{transforms: [{POSE}, {POSE}]}}\n"
            f"camera_marker_samples: {{transforms: [{POSE}, {POSE}]}}\n",
            SEVEN,
        ),
        (
            "frames.json",
            json.dumps({"T_base_flange": [M.tolist()] * 2, "T_cam_target": [M.tolist()] * 2}),
            ROWS_4X4,
        ),
        ("opencv.json", json.dumps({k: v.tolist() for k, v in lists_of_opencv(M).items()}), ROWS_3X4),
    ],
)
def test_pairs_of_every_tool_are_read(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    table = read_poses(tmp_path / name)
    assert table.robot.tolist() == [pytest.approx(expected)] * 2
    assert table.boards is not None and table.boards.tolist() == table.robot.tolist()


def test_arrays_of_numpy_are_read_without_pickles(tmp_path):
    np.save(tmp_path / "poses.npy", np.stack([M, M, M]))
    np.savez(tmp_path / "opencv.npz", **lists_of_opencv(M))
    np.save(tmp_path / "evil.npy", np.array([{}, {}]), allow_pickle=True)
    with (tmp_path / "large.npy").open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
        np.lib.format.write_array_header_1_0(file, header)
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04 and nothing else")
    assert read_poses(tmp_path / "poses.npy").robot.shape == (3, 16)
    table = read_poses(tmp_path / "opencv.npz")
    assert table.robot.shape == (2, 12) and table.boards is not None
    for name in ("evil.npy", "large.npy", "damaged.npz"):
        with pytest.raises(CalibrationError, match="no NumPy file of numbers"):
            read_poses(tmp_path / name)


def test_names_of_pictures_and_joints_go_with_their_poses(tmp_path):
    (tmp_path / "a.txt").write_text(f"00.png\n{M}\n01.png\n{M}\n")
    assert [row.picture for row in read_poses(tmp_path / "a.txt").rows] == ["00.png", "01.png"]
    lines = [json.dumps({"O_T_EE": M.T.ravel().tolist(), "q": [1, 2, 3, 4, 5, 6, 7]})] * 2
    (tmp_path / "b.txt").write_text("\n".join(lines))
    joints = read_poses(tmp_path / "b.txt").joints
    assert joints is not None and joints.tolist() == [[1, 2, 3, 4, 5, 6, 7]] * 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "1 2 3 4\n5 6 7 8\n", "a.txt:1: 4 numbers"),
        ("a.txt", "1 2 3 4 5 6\nlost\n1 2 3 4 5 6\n", "a.txt:2: 0 numbers"),
        ("a.csv", "x,y,z,rx,ry,rz\n1,2,3,4,5,six\n", "a.csv:2: expected 6 numbers"),
        ("a.json", '{"a": 1}', "no robot pose"),
        (
            "a.json",
            json.dumps({"robot_poses": [M.tolist()], "camera_poses": []}),
            "1 robot poses, 0 of the board",
        ),
        ("a.yaml", f"- {ROWS_4X4}\n- [1, 2]\n", "entry 1: no robot pose"),
        ("a.yaml", "%YAML:1.0\n---\nK: 3\n", "no robot pose"),
    ],
)
def test_what_is_no_pose_is_named_with_its_place(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(CalibrationError, match=message):
        read_poses(tmp_path / name)


PLACES = [np.eye(4) for _ in range(5)]
for _i, _T in enumerate(PLACES):
    _T[:3, :3] = Rotation.from_rotvec([0.2 * _i, 0.1, -0.3 * _i]).as_matrix()
    _T[:3, 3] = 0.1 * _i, 0.2, 0.3
TOOL = M
START_NS, STEP_NS, MOVING, STEPS = 1_700_000_000_000_000_000, 20_000_000, 20, 60
"""The arm moves for .4 s to each of five places and stands there for .8 s."""


def board_at(link: np.ndarray) -> np.ndarray:
    return np.linalg.inv(link @ TOOL) @ M


def write_bag(folder: Path, plugin: str) -> Path:
    """A drive over five places: tf of a link and of a board, pictures as bright as their place is late."""
    writers = pytest.importorskip("rosbags.rosbag2")
    typesys = pytest.importorskip("rosbags.typesys")
    store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
    types = store.types

    def header(ns: int, frame: str):
        stamp = types["builtin_interfaces/msg/Time"](ns // 10**9, ns % 10**9)
        return types["std_msgs/msg/Header"](stamp, frame)

    def said(parent: str, child: str, T: np.ndarray, ns: int):
        place = types["geometry_msgs/msg/Vector3"](*T[:3, 3])
        turn = types["geometry_msgs/msg/Quaternion"](*Rotation.from_matrix(T[:3, :3]).as_quat())
        transform = types["geometry_msgs/msg/Transform"](place, turn)
        return types["geometry_msgs/msg/TransformStamped"](header(ns, parent), child, transform)

    with writers.Writer(folder, version=9, storage_plugin=getattr(writers.StoragePlugin, plugin)) as writer:

        def write(connection, message) -> None:
            writer.write(connection, now, store.serialize_cdr(message, connection.msgtype))

        tf, static = (
            writer.add_connection(topic, "tf2_msgs/msg/TFMessage", typestore=store)
            for topic in ("/tf", "/tf_static")
        )
        camera = writer.add_connection("/camera/image_raw", "sensor_msgs/msg/Image", typestore=store)
        now, message = START_NS, types["tf2_msgs/msg/TFMessage"]
        write(static, message([said("link6", "tool0", TOOL, now)]))
        for i, place in enumerate(PLACES):
            for step in range(STEPS):
                share = min(step / MOVING, 1.0) if i else 1.0
                ends = [PLACES[max(i - 1, 0)], place]
                link = np.eye(4)
                link[:3, :3] = Slerp([0, 1], Rotation.from_matrix([T[:3, :3] for T in ends]))(
                    share
                ).as_matrix()
                link[:3, 3] = (1 - share) * ends[0][:3, 3] + share * ends[1][:3, 3]
                told = [said("base_link", "link6", link, now)]
                told += [said("tool0", "board", board_at(link), now)] if step % 3 == 0 else []
                write(tf, message(told))
                if step % 10 == 5:
                    pixels = np.full(12, 10 * i, np.uint8)
                    image = types["sensor_msgs/msg/Image"](header(now, "c"), 2, 2, "bgr8", 0, 6, pixels)
                    write(camera, image)
                now += STEP_NS
    return folder


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bags")
    return {plugin: write_bag(folder / plugin, plugin) for plugin in ("MCAP", "SQLITE3")}


@pytest.mark.parametrize("plugin", ["MCAP", "SQLITE3"])
def test_a_bag_gives_each_place_where_the_arm_stood_still_once(bags, plugin):
    path = bags[plugin]
    single = next(file for file in path.iterdir() if file.suffix in (".mcap", ".db3"))
    assert is_bag(path) and is_bag(single)
    moments = read_bag(single, ("base_link", "tool0"))
    flange = np.array(PLACES) @ TOOL
    np.testing.assert_allclose(moments.table.robot[:, :3], flange[:, :3, 3], atol=1e-12)
    assert [int(image[0, 0, 0]) for _, image in moments.pictures] == [0, 10, 20, 30, 40]
    assert [row.picture for row in moments.table.rows] == [name for name, _ in moments.pictures]
    pairs = read_bag(path, ("base_link", "tool0", "tool0", "board"))
    assert pairs.table.boards is not None and not pairs.pictures
    np.testing.assert_allclose(pairs.table.boards[:, :3], [board_at(T)[:3, 3] for T in PLACES], atol=1e-12)


@pytest.mark.parametrize(
    ("frames", "topic", "message"),
    [
        ((), "", "base and flange.* tf has base_link, board, link6, tool0"),
        (("base", "tool0"), "", "no frame 'base'; did you mean 'base_link'"),
        (("base_link", "tool0"), "/image", "one of the topics with pictures, /camera/image_raw"),
        (("base_link", "tool0", "link6", "tool0"), "", "'tool0' is fixed in 'link6'"),
    ],
)
def test_what_a_bag_lacks_is_named(bags, frames, topic, message):
    with pytest.raises(CalibrationError, match=message):
        read_bag(bags["MCAP"], frames, topic)


def test_a_damaged_bag_is_named(bags, tmp_path):
    for path in bags.values():
        whole = next(file for file in path.iterdir() if file.suffix in (".mcap", ".db3"))
        data = bytearray(whole.read_bytes())
        data[len(data) // 3 : 2 * len(data) // 3] = bytes(len(data) // 3)
        for i, damaged in enumerate((data, data[: len(data) // 3])):
            (tmp_path / f"{i}{whole.suffix}").write_bytes(damaged)
            with pytest.raises(CalibrationError, match=r"no ROS bag that can be read .* `mcap recover`"):
                read_bag(tmp_path / f"{i}{whole.suffix}", ("base_link", "tool0"))


def test_a_file_that_is_no_bag_is_named(tmp_path):
    for suffix in ("mcap", "db3", "bag"):
        (tmp_path / f"a.{suffix}").write_bytes(b"no bag at all")
        with pytest.raises(CalibrationError, match="no ROS bag that can be read"):
            read_bag(tmp_path / f"a.{suffix}", ("a", "b"))
