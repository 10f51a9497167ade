"""Streams with clocks of their own become ticks with one time.

Imports point down this list only: aligner > counts, interpolation.
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

__all__ = [
    "TIMER",
    "Aligner",
    "Arrival",
    "JointReading",
    "Sample",
    "StreamCounts",
    "StreamPlan",
    "Tick",
    "Value",
    "align",
    "plans_of",
]
