"""Progress of a task while it runs: done, failed, stalled, fallen back; live and along a recording.

Imports point down this list only: watch, follow > detector > course, decimator, doubts, recorded.
"""

from tacit.progress.decimator import Decimator
from tacit.progress.detector import (
    CompletionDetector,
    DetectorConfig,
    StopOn,
    TaskState,
    detector_of,
    stopping_states,
)
