"""Public face of `tacit.bundle.runtime`: run a policy bundle without torch."""

from tacit.bundle.player import ChunkPlayer, TemporalEnsembler
from tacit.bundle.runtime import Observation, OnnxPolicy, OnnxProgress, ProgressEstimate
