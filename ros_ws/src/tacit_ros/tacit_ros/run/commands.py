"""What a recorder can be asked; the names are those of its services."""

from __future__ import annotations

import enum


class Command(enum.Enum):
    """What to ask of the recorder."""

    start = "start"
    stop = "stop"
    discard = "discard"
    redo = "redo"
    delete_last = "delete_last"
    mark = "mark"
    status = "status"
    demonstrate = "demonstrate"
    keys = "keys"
