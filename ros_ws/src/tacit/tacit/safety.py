"""Public face of `tacit.control.safety`: faults, gates and the motion limiter."""

from tacit.control.safety import (
    Fault,
    MotionLimiter,
    check_age,
    check_chunk,
    check_finite,
    check_range,
    check_skew,
    check_tracking,
    first_fault,
)
