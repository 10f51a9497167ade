"""What may be wrong with a message: the words that nodes, episodes and `tacit check` share.

A judge either refuses a sample, which then never reaches anyone, or doubts it: the sample is used, but
no episode starts and no policy moves while the doubt lasts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal[
    "no_stamp",
    "duplicate",
    "out_of_order",
    "stamp_ahead",
    "clock_step",
    "clock_offset",
    "not_finite",
    "out_of_limits",
    "jump",
    "stuck",
    "zeros",
    "names",
    "frozen",
    "black",
    "truncated",
    "undecodable",
    "encoding",
    "size",
    "message",
    "qos",
    "two_publishers",
    "second_commander",
    "robot_state",
]


@dataclass(frozen=True)
class Finding:
    """What is wrong with a sample or a stream.

    Attributes:
        kind: One word, the same in diagnostics, in `/drops` of an episode and as the reason of a hold.
        text: What is wrong and what to do, for people.
        refused: Whether the sample is kept from everyone; else it is used, and named.
    """

    kind: Kind
    text: str
    refused: bool = True
