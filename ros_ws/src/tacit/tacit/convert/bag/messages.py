"""ROS messages without ROS: built by the `rosbags` package, which also knows their definitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tacit.geometry.camera import Camera
from tacit.geometry.camera_info import camera_to_info
from tacit.geometry.rotations import rotation_to_quaternion

SECOND = 1_000_000_000
JOINT_STATE, TRAJECTORY = "sensor_msgs/msg/JointState", "trajectory_msgs/msg/JointTrajectory"
COMPRESSED, CAMERA_INFO = "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo"
TRANSFORMS, TEXT = "tf2_msgs/msg/TFMessage", "std_msgs/msg/String"
ANNOTATIONS = "foxglove_msgs/msg/ImageAnnotations"
DEPTH_FORMAT = "16UC1; compressedDepth png"
DEPTH_HEADER = bytes(12)
"""What the transport compressedDepth puts before its PNG; zero where nothing was quantised."""
DEFINITIONS = {
    "Color": "float64 r\nfloat64 g\nfloat64 b\nfloat64 a",
    "Point2": "float64 x\nfloat64 y",
    "CircleAnnotation": "builtin_interfaces/Time timestamp\nfoxglove_msgs/Point2 position\nfloat64 diameter\n"
    "float64 thickness\nfoxglove_msgs/Color fill_color\nfoxglove_msgs/Color outline_color",
    "PointsAnnotation": "uint8 UNKNOWN=0\nuint8 POINTS=1\nuint8 LINE_LOOP=2\nuint8 LINE_STRIP=3\n"
    "uint8 LINE_LIST=4\nbuiltin_interfaces/Time timestamp\nuint8 type\nfoxglove_msgs/Point2[] points\n"
    "foxglove_msgs/Color outline_color\nfoxglove_msgs/Color[] outline_colors\n"
    "foxglove_msgs/Color fill_color\nfloat64 thickness",
    "TextAnnotation": "builtin_interfaces/Time timestamp\nfoxglove_msgs/Point2 position\nstring text\n"
    "float64 font_size\nfoxglove_msgs/Color text_color\nfoxglove_msgs/Color background_color",
    "ImageAnnotations": "foxglove_msgs/CircleAnnotation[] circles\nfoxglove_msgs/PointsAnnotation[] points\n"
    "foxglove_msgs/TextAnnotation[] texts",
}
"""Annotations of pictures as Foxglove defines them for ROS 2; they come with no distribution."""
LINE_LOOP = 2
TAXEL_AXES = ("rows", "columns", "channels")
LINE_PX, FONT_PX = 1.5, 8.0
OUTLINE = (1.0, 0.75, 0.0, 1.0)


class Messages:
    """Makes messages of the standard packages and of Foxglove.

    Attributes:
        store: Definitions, and how each type is serialised.
    """

    def __init__(self) -> None:
        from rosbags.typesys import Stores, get_types_from_msg, get_typestore

        self.store = get_typestore(Stores.ROS2_JAZZY)
        for name, text in DEFINITIONS.items():
            self.store.register(get_types_from_msg(text, f"foxglove_msgs/msg/{name}"))

    def picture(self, data: np.ndarray, stamp_ns: int, frame_id: str, kind: str) -> Any:
        """Return a CompressedImage of encoded bytes (N,); `kind` is jpeg, png or `DEPTH_FORMAT`."""
        head = np.frombuffer(DEPTH_HEADER if kind == DEPTH_FORMAT else b"", np.uint8)
        return self._make(
            COMPRESSED,
            header=self._header(stamp_ns, frame_id),
            format=kind,
            data=np.concatenate([head, data]),
        )

    def camera_info(self, camera: Camera, stamp_ns: int, frame_id: str) -> Any:
        """Return the CameraInfo of a stored picture."""
        info = camera_to_info(camera)
        numbers = {name: np.asarray(info[name], np.float64) for name in "dkrp"}
        return self._make(
            CAMERA_INFO,
            header=self._header(stamp_ns, frame_id),
            width=info["width"],
            height=info["height"],
            distortion_model=info["distortion_model"],
            **numbers,
            binning_x=info["binning_x"],
            binning_y=info["binning_y"],
            roi=self._make("sensor_msgs/msg/RegionOfInterest", **info["roi"]),
        )

    def numbers(
        self, kind: str, names: Sequence[str], fields: Mapping[str, np.ndarray], stamp_ns: int
    ) -> Any:
        """Return numbers as a message of the type that a rig gives to their topic.

        Args:
            kind: One of `tacit.rig.NUMBER_TYPES`.
            names: What the numbers are called.
            fields: `position` (n,), velocity and effort where known, of a JointState; else `data` (n,).
            stamp_ns: Header stamp, where the type has one.
        """
        values = np.asarray(fields.get("position", fields.get("data")), np.float64)
        header, plain = self._header(stamp_ns, ""), values.tolist()
        empty = np.empty(0)
        match kind:
            case "sensor_msgs/msg/JointState":
                rates = {name: np.asarray(fields.get(name, empty)) for name in ("velocity", "effort")}
                return self._make(kind, header=header, name=list(names), position=values, **rates)
            case "trajectory_msgs/msg/JointTrajectory":
                at_once = self._make("builtin_interfaces/msg/Duration", sec=0, nanosec=0)
                rest = dict.fromkeys(("velocities", "accelerations", "effort"), empty)
                point = self._make(f"{kind}Point", positions=values, time_from_start=at_once, **rest)
                return self._make(kind, header=header, joint_names=list(names), points=[point])
            case "std_msgs/msg/Float64MultiArray":
                size = {"size": len(values), "stride": len(values)}
                label = self._make("std_msgs/msg/MultiArrayDimension", label=",".join(names), **size)
                layout = self._make("std_msgs/msg/MultiArrayLayout", dim=[label], data_offset=0)
                return self._make(kind, layout=layout, data=values)
            case "std_msgs/msg/Float32" | "std_msgs/msg/Float64":
                return self._make(kind, data=plain[0])
            case "std_msgs/msg/Int32":
                return self._make(kind, data=round(plain[0]))
            case "std_msgs/msg/Bool":
                return self._make(kind, data=bool(plain[0]))
            case "geometry_msgs/msg/WrenchStamped":
                parts = {"force": self._vector(plain[:3]), "torque": self._vector(plain[3:])}
                return self._make(kind, header=header, wrench=self._make("geometry_msgs/msg/Wrench", **parts))
            case "geometry_msgs/msg/TwistStamped":
                parts = {"linear": self._vector(plain[:3]), "angular": self._vector(plain[3:])}
                return self._make(kind, header=header, twist=self._make("geometry_msgs/msg/Twist", **parts))
            case "geometry_msgs/msg/PoseStamped":
                place = self._make("geometry_msgs/msg/Point", **dict(zip("xyz", plain[:3], strict=True)))
                parts = {"position": place, "orientation": self._quaternion(plain[3:])}
                return self._make(kind, header=header, pose=self._make("geometry_msgs/msg/Pose", **parts))
        raise ValueError(f"no message {kind} of numbers")

    def taxels(self, kind: str, reading: np.ndarray, stamp_ns: int) -> Any:
        """Return a reading (R, C, K) of touch as a message of the type that a rig gives to its topic."""
        if kind == "geometry_msgs/msg/WrenchStamped":
            return self.numbers(kind, (), {"data": reading.reshape(-1)}, stamp_ns)
        strides = (reading.size, reading.shape[1] * reading.shape[2], reading.shape[2])
        dims = [
            self._make("std_msgs/msg/MultiArrayDimension", label=label, size=size, stride=stride)
            for label, size, stride in zip(
                ("rows", "columns", "channels"), reading.shape, strides, strict=True
            )
        ]
        layout = self._make("std_msgs/msg/MultiArrayLayout", dim=dims, data_offset=0)
        values = reading.reshape(-1).astype(np.float32 if "Float32" in kind else np.float64)
        return self._make(kind, layout=layout, data=values)

    def transforms(self, poses: Mapping[str, np.ndarray], stamp_ns: int) -> Any:
        """Return a TFMessage of T_world_child (4, 4) by child."""
        found = [
            self._make(
                "geometry_msgs/msg/TransformStamped",
                header=self._header(stamp_ns, "world"),
                child_frame_id=child,
                transform=self._make(
                    "geometry_msgs/msg/Transform",
                    translation=self._vector(T[:3, 3].tolist()),
                    rotation=self._quaternion(rotation_to_quaternion(T[:3, :3]).tolist()),
                ),
            )
            for child, T in poses.items()
        ]
        return self._make(TRANSFORMS, transforms=found)

    def annotations(self, quads: Mapping[str, np.ndarray], stamp_ns: int) -> Any:
        """Return ImageAnnotations: an outline (4, 2) [px] and a name for each sensor in a picture."""
        stamp, colour, none = self._time(stamp_ns), self._colour(*OUTLINE), self._colour(0.0, 0.0, 0.0, 0.0)
        points, texts = [], []
        for name, quad in quads.items():
            corners = [self._point(x, y) for x, y in quad.tolist()]
            points.append(
                self._make(
                    "foxglove_msgs/msg/PointsAnnotation",
                    timestamp=stamp,
                    type=LINE_LOOP,
                    points=corners,
                    outline_color=colour,
                    outline_colors=[],
                    fill_color=none,
                    thickness=LINE_PX,
                )
            )
            texts.append(
                self._make(
                    "foxglove_msgs/msg/TextAnnotation",
                    timestamp=stamp,
                    position=corners[0],
                    text=name,
                    font_size=FONT_PX,
                    text_color=colour,
                    background_color=none,
                )
            )
        return self._make(ANNOTATIONS, circles=[], points=points, texts=texts)

    def text(self, text: str) -> Any:
        """Return a String."""
        return self._make(TEXT, data=text)

    def _make(self, kind: str, **fields: Any) -> Any:
        return self.store.types[kind](**fields)

    def _time(self, stamp_ns: int) -> Any:
        seconds, nanoseconds = divmod(int(stamp_ns), SECOND)
        return self._make("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)

    def _header(self, stamp_ns: int, frame_id: str) -> Any:
        return self._make("std_msgs/msg/Header", stamp=self._time(stamp_ns), frame_id=frame_id)

    def _vector(self, xyz: Sequence[float]) -> Any:
        return self._make("geometry_msgs/msg/Vector3", **dict(zip("xyz", xyz, strict=True)))

    def _quaternion(self, xyzw: Sequence[float]) -> Any:
        return self._make("geometry_msgs/msg/Quaternion", **dict(zip("xyzw", xyzw, strict=True)))

    def _point(self, x: float, y: float) -> Any:
        return self._make("foxglove_msgs/msg/Point2", x=x, y=y)

    def _colour(self, *rgba: float) -> Any:
        return self._make("foxglove_msgs/msg/Color", **dict(zip("rgba", rgba, strict=True)))
