"""The rig contract: one YAML that says what a robot cell is, and the scene that it spans.

Imports point down this list only: frames, units > contract > scene > specs > topics.
"""

from tacit.rig.contract import RIGS_FOLDER, Rig, canonical_hash, load_rig, parse_rig, shipped_rigs
from tacit.rig.scene import RigGeometry
from tacit.rig.specs import (
    AlignmentSpec,
    ArmSpec,
    CalibrationRecord,
    DhRow,
    DriverSpec,
    GripperSpec,
    HeartbeatSpec,
    JointSpec,
    SafetySpec,
    SimulationSpec,
)
from tacit.rig.topics import (
    COMMAND_TYPES,
    NAME_PATTERN,
    NUMBER_TYPES,
    CameraSpec,
    CommandSpec,
    DeviceSpec,
    Name,
    Positive,
    QosSpec,
    Rate,
    StreamBase,
    StreamSpec,
    TactileSpec,
    is_depth,
)

__all__ = [
    "COMMAND_TYPES",
    "NAME_PATTERN",
    "NUMBER_TYPES",
    "RIGS_FOLDER",
    "AlignmentSpec",
    "ArmSpec",
    "CalibrationRecord",
    "CameraSpec",
    "CommandSpec",
    "DeviceSpec",
    "DhRow",
    "DriverSpec",
    "GripperSpec",
    "HeartbeatSpec",
    "JointSpec",
    "Name",
    "Positive",
    "QosSpec",
    "Rate",
    "Rig",
    "RigGeometry",
    "SafetySpec",
    "SimulationSpec",
    "StreamBase",
    "StreamSpec",
    "TactileSpec",
    "canonical_hash",
    "is_depth",
    "load_rig",
    "parse_rig",
    "shipped_rigs",
]
