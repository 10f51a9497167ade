"""What a run of ACT-HSA says when its alignment goes wrong: it stays at chance, or takes the step."""

from __future__ import annotations

from collections.abc import Mapping

from tacit_learning.engine.job import Course

AT_CHANCE = 0.9  # of the loss that knows nothing
PATIENCE = 1000  # steps after the warm-up; an alignment that can be learnt is below it by then
TAKES_OVER = 3.0  # times the pull of L1; what was meant is about 1

ADVICE = {
    "blind": "has no usable box: no camera sees a sensor, so nothing is aligned; look at the boxes "
    "(tacit view EPISODE), name other hsa.cameras, or set hsa.weight=0",
    "takes over": "takes over: it pulls {pull:.1f} times as hard as L1 at the shared tokens; set "
    "hsa.balance=gradient, or a smaller hsa.weight",
    "at chance": "is not learning: its loss is {ratio:.2f} of what a blind guess has; look at the boxes and "
    "the touch images (tacit view EPISODE), then raise hsa.weight or hsa.temperature",
}


class HsaCourse(Course):
    """Watch the logged numbers of HSA, and say each kind of trouble once.

    Args:
        warmup_steps: During which the weight of HSA grows.
    """

    def __init__(self, warmup_steps: int) -> None:
        self.first = warmup_steps + PATIENCE
        self._said: set[str] = set()

    def remark(self, step: int, means: Mapping[str, float]) -> str | None:
        """Return what to do about an HSA that has no rows, pulls far harder than L1, or stays at chance."""
        if "hsa_ratio" not in means:
            return None
        pull, ratio = means.get("hsa_pull", 0.0), means["hsa_ratio"]
        found = {
            "blind": means.get("hsa_valid") == 0,
            "takes over": pull > TAKES_OVER,
            "at chance": step >= self.first and ratio > AT_CHANCE,
        }
        kind = next((kind for kind, is_so in found.items() if is_so and kind not in self._said), None)
        if kind is None:
            return None
        self._said.add(kind)
        return f"step {step}: hsa {ADVICE[kind].format(pull=pull, ratio=ratio)}"
