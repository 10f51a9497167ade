"""Quality of service: from the rig's words to rclpy profiles.

Images are best effort and shallow where they drive a policy, reliable and deep where they are
recorded: the rig states what the driver offers, `for_recording` what the recorder asks for.
"""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy

from tacit.rig import QosSpec

LIVE_DEPTH = 1  # a deeper queue shows the policy the past (244 ms at depth 30, measured)
COMMAND_LIFESPAN_TICKS = 3  # an old command must never reach the robot late
STATE_LEASE_S = 1.0  # a node that was killed is known to be gone after so long; its last state stays readable


def profile(spec: QosSpec, *, depth: int | None = None) -> QoSProfile:
    """Return the profile of a topic as the rig describes it; `depth` overrides its queue."""
    reliable = spec.reliability == "reliable"
    lasting = spec.durability == "transient_local"
    return QoSProfile(
        depth=depth or spec.depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if lasting else DurabilityPolicy.VOLATILE,
    )


def live(spec: QosSpec) -> QoSProfile:
    """Return the profile for images that drive a policy: only the newest counts."""
    return profile(
        QosSpec(reliability="best_effort", depth=LIVE_DEPTH, durability=spec.durability), depth=LIVE_DEPTH
    )


def command(spec: QosSpec, rate_hz: float | None) -> QoSProfile:
    """Return the profile of a command publisher: depth 1, dead after three ticks.

    Args:
        spec: What the rig says of the topic.
        rate_hz: Rate of the commands; None where time stands still until each has come: then none is late.
    """
    result = profile(spec, depth=1)
    if rate_hz is not None:
        result.lifespan = Duration(nanoseconds=round(COMMAND_LIFESPAN_TICKS * 1e9 / rate_hz))
    return result


def latched() -> QoSProfile:
    """Return the profile of a value that late joiners must see (`/progress/done`)."""
    return profile(QosSpec(reliability="reliable", depth=1, durability="transient_local"))


def state() -> QoSProfile:
    """Return the profile of what a node says of itself (`/policy/state`): latched, with a liveliness lease.

    The middleware tells a subscriber with this profile within `STATE_LEASE_S` that the process is gone; one
    that asks for no lease is never told, and goes on reading RUNNING.
    """
    result = latched()
    result.liveliness = LivelinessPolicy.AUTOMATIC
    result.liveliness_lease_duration = Duration(nanoseconds=round(STATE_LEASE_S * 1e9))
    return result
