"""The rig contract: one YAML that says what a robot cell is, and the scene that it spans.

Imports point down this list only:
frames, review, template, units > contract > scene > specs, taxels > topics.
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
from tacit.rig.taxels import ArraySpec, TaxelSpec
from tacit.rig.topics import (
    COMMAND_TYPES,
    NAME_PATTERN,
    NUMBER_TYPES,
    CameraSpec,
    CommandSpec,
    DeviceSpec,
    GelSpec,
    Name,
    Positive,
    QosSpec,
    Rate,
    StreamBase,
    StreamSpec,
    TactileSpec,
    is_depth,
)
