"""Read recorded episodes into numpy and torch: `python examples/read_episodes.py data/place_cube`."""

import sys
from pathlib import Path

import numpy as np

from tacit.episode import EpisodeReader, find_episodes


def main(root: str) -> None:
    """Print what each episode holds, and the shapes of one batch."""
    for path in find_episodes(Path(root)):
        with EpisodeReader(path) as episode:
            qpos, action = np.asarray(episode.qpos), np.asarray(episode.action)
            picture = episode.image(episode.cameras[0], 0)
            print(f"{path.name}: {episode.num_ticks} ticks, qpos {qpos.shape}, picture {picture.shape}")
    try:
        import torch
    except ModuleNotFoundError:
        print("torch is not installed: numpy only")
        return
    print("as tensors:", torch.from_numpy(qpos).shape, torch.from_numpy(action).shape)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "data")
