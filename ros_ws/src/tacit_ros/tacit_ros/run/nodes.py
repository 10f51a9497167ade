"""The nodes that a stack may start, with every parameter that it may set and its value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Value = str | int | float | bool


MANAGED = ("policy", "progress", "recorder")
"""Nodes that can be managed ones; see `tacit_ros.managed_node`."""


@dataclass(frozen=True)
class NodeSpec:
    """One process: `python -m module`, or `executable` of `package` under `ros2 launch`.

    Attributes:
        name: Node name, unique in a stack.
        package: ROS package.
        module: Python module with `main()`.
        parameters: Every parameter that a stack may set, with its value; the type is binding.
        required: Parameters that have no usable default.
        arguments: Words before `--ros-args`.
        namespace: Of the node, its services and topics without a leading slash.
        remaps: Names that are replaced, as `from:=to`.
    """

    name: str
    package: str
    module: str
    parameters: Mapping[str, Value] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    namespace: str = ""
    remaps: tuple[str, ...] = ()

    @property
    def executable(self) -> str:
        """Name of the wrapper in `lib/<package>`: the last part of the module."""
        return self.module.rpartition(".")[2]


PERSON: dict[str, Value] = {
    "arm": "",
    "jog_frame": "world",
    "jog_linear": 0.1,
    "jog_angular": 0.6,
    "jog_gripper": 0.1,
    "pad": "gamepad",
    "leader": "",
    "leader_tolerance": 0.1,
    "speed_limit": 1.0,
}
"""How a person moves the robot: of every node that may be moved through."""

NODES = {
    "simulator": NodeSpec(
        "simulator",
        "tacit_sim",
        "tacit_sim.simulator_node",
        {
            "rig": "",
            "task": "place_cube",
            "seed": 0,
            "disturbance": False,
            "real_time_factor": 1.0,
            "lockstep": False,
            "board": "",
            "hidden_seed": 0,
            "joint_error_deg": 0.0,
            "zero_error_deg": 0.0,
            "wire_log": "",
        },
    ),
    "mover": NodeSpec(
        "mover",
        "tacit_sim",
        "tacit_sim.mover_node",
        {
            "rig": "",
            "board": "",
            "hidden_seed": 0,
            "plan": "views",
            "camera": "wrist",
            "views": 20,
            "seed": 0,
        },
    ),
    "capture": NodeSpec(
        "capture",
        "tacit_ros",
        "tacit_ros.capture_node",
        {"rig": "", "camera": "wrist", "arm": "", "out": "calibration/samples"},
    ),
    "dobot": NodeSpec(
        "dobot",
        "tacit_ros",
        "tacit_ros.dobot_node",
        {
            "rig": "",
            "arm": "",
            "host": "192.168.5.1",
            "dashboard_port": 29999,
            "feedback_port": 30004,
            "servo_hz": 100 / 3,
            "servo_time_s": 0.06,
            "speed_percent": 0,
            "payload_kg": 0.0,
            "command_timeout_s": 0.2,
            "auto_enable": False,
            "gripper": "none",
        },
    ),
    "tactile_camera": NodeSpec(
        "tactile_camera", "tacit_ros", "tacit_ros.tactile_camera_node", {"rig": "", "sensor": ""}
    ),
    "expert": NodeSpec("expert", "tacit_sim", "tacit_sim.expert_node", {"rig": ""}),
    "recorder": NodeSpec(
        "recorder",
        "tacit_ros",
        "tacit_ros.recorder_node",
        {
            "rig": "",
            "root": "data",
            "task": "place_cube",
            "instruction": "",
            "operator": "",
            "session": "",
            "jpeg_quality": 90,
            "tactile_quality": 95,
            "stamps": "header",
        },
    ),
    "overlay": NodeSpec("overlay", "tacit_ros", "tacit_ros.overlay_node", {"rig": "", "rate_hz": 10.0}),
    "description": NodeSpec(
        "description", "tacit_ros", "tacit_ros.description_node", {"rig": "", "tf_hz": 30.0}
    ),
    "desk": NodeSpec(
        "desk", "tacit_ros", "tacit_ros.desk_node", {"rig": "", "port": 8420, "instructions": "", "keys": ""}
    ),
    "policy": NodeSpec(
        "policy",
        "tacit_ros",
        "tacit_ros.policy_node",
        {
            "rig": "",
            "bundle": "",
            "mode": "",
            "replan_ticks": 0,
            "dry_run": False,
            "lockstep": False,
            "teleop": False,
            **PERSON,
        },
        ("bundle",),
    ),
    "teleop": NodeSpec(
        "teleop",
        "tacit_ros",
        "tacit_ros.teleop_node",
        {"rig": "", **PERSON, "command_hz": 0.0, "dry_run": False},
    ),
    "replay": NodeSpec(
        "replay",
        "tacit_ros",
        "tacit_ros.replay_node",
        {"rig": "", "episode": "", "speed": 1.0, "begin": False, "speed_limit": 1.0, "dry_run": False},
        ("episode",),
    ),
    "progress": NodeSpec(
        "progress",
        "tacit_ros",
        "tacit_ros.progress_node",
        {
            "rig": "",
            "bundle": "",
            # Thresholds: 0 leaves each to the bundle, to whose validation episodes they were fitted.
            "success_above": 0.0,
            "failure_above": 0.0,
            "done_above": 0.0,
            "done_below": 0.0,
            "dwell_s": 0.0,
            "stall_after_s": 0.0,
            "stall_gain": 0.0,
            "regression_drop": 0.0,
            "motion_gain_s": 0.0,
            "motion_drop_s": 0.0,
            "stop_on": "nothing",
            "stop_policy": "/policy/hold",
            "stop_recorder": "/recorder/stop",
        },
        ("bundle",),
    ),
}
