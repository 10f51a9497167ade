"""Run a policy bundle over a recording, without torch: `run_bundle.py policy.onnx episode.hdf5`."""

import sys

from tacit.episode import EpisodeReader
from tacit.runtime import OnnxPolicy
from tacit.view.replay import replay


def main(bundle: str, episode: str) -> None:
    """Print how far from the recorded commands its chunks are along a recording."""
    with EpisodeReader(episode) as reader:
        found = replay(OnnxPolicy(bundle, reader.rig), reader, every=5)
        for index, joint in enumerate(reader.rig.state_names):
            first, *_, last = found.error_by_horizon([index])
            print(f"{joint}: mean error {first:.4f} at once, {last:.4f} at the end of a chunk")


if __name__ == "__main__":
    main(*sys.argv[1:3])
