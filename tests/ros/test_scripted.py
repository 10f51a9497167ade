"""One scripted demonstration by command: a start that is refused once is asked for again."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")

from tacit_ros.run import scripted
from tacit_ros.wire.session import SessionError

pytestmark = pytest.mark.ros


class FalteringRecorder:
    """Says that it is ready, and refuses the first `refusals` starts."""

    def __init__(self, refusals: int) -> None:
        self.refusals, self.starts = refusals, 0

    def trigger(self, service: str, seconds: float = 0.0) -> dict[str, object]:
        if service.endswith("status"):
            return {"ready": True}
        self.starts += 1
        if self.starts <= self.refusals:
            raise SessionError("not started: wrist runs at 20 Hz")
        return {}

    def spin_for(self, seconds: float) -> None:
        """Time passes elsewhere."""


def test_a_stream_that_falters_at_the_start_is_waited_for() -> None:
    recorder = FalteringRecorder(refusals=2)
    scripted.start_when_ready(recorder)  # type: ignore[arg-type]
    assert recorder.starts == 3


def test_a_recorder_that_never_starts_is_quoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scripted, "ANSWER_S", 0.05)
    with pytest.raises(SessionError, match="wrist runs at 20 Hz"):
        scripted.start_when_ready(FalteringRecorder(refusals=10**9))  # type: ignore[arg-type]
