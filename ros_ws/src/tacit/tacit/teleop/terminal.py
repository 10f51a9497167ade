"""What a terminal sends, as keys."""

from __future__ import annotations

from tacit.teleop.devices import DOWN, HIGHER, LEFT, LOWER, RIGHT, UP

SEQUENCES = {"[A": UP, "[B": DOWN, "[D": LEFT, "[C": RIGHT, "[5~": HIGHER, "[6~": LOWER} | {
    "OA": UP,
    "OB": DOWN,
    "OD": LEFT,
    "OC": RIGHT,
}
"""What terminals send after ESC for arrows and page keys, in both of their modes."""
ESCAPE = "\x1b"


def keys_of(text: str) -> str:
    """Return what a terminal has sent as one character per key, each once; ESC alone is none."""
    keys: list[str] = []
    while text:
        if text[0] == ESCAPE:
            sequence = next((s for s in SEQUENCES if text.startswith(s, 1)), "")
            keys += [SEQUENCES[sequence]] if sequence else []
            text = text[1 + len(sequence) :]
        else:
            keys.append(text[0].lower())
            text = text[1:]
    return "".join(dict.fromkeys(keys))
