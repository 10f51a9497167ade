"""Streams with clocks of their own become ticks with one time.

Imports point down this list only:
aligner, intake > counts, interpolation, numbers, pictures, stamps, taxels >
findings, trajectory.
"""

from tacit.streams.aligner import (
    TIMER,
    Aligner,
    Arrival,
    JointReading,
    Sample,
    StreamPlan,
    Tick,
    Value,
    align,
    plans_of,
)
from tacit.streams.counts import StreamCounts
from tacit.streams.findings import Finding, Kind
from tacit.streams.intake import Intake, IntakeEvent, clock_difference, clock_finding
from tacit.streams.trajectory import Follower, Trajectory
