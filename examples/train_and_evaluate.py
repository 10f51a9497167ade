"""Simulate, train, export and count successes: `python examples/train_and_evaluate.py runs/example`."""

import sys
from pathlib import Path

from tacit import cli


def tacit(*words: str) -> None:
    """Run one verb; stop where it fails."""
    if code := cli.main(list(words)):
        raise SystemExit(code)


def main(folder: str, *options: str, episodes: int = 60, trials: int = 20) -> None:
    """Go once around the loop, in one folder; `options` are KEY=VALUE of the training."""
    root = Path(folder)
    data, run, bundle = root / "data", root / "run", root / "policy.onnx"
    tacit("simulate", "--out", str(data), "--episodes", str(episodes))
    places = (f"data.datasets=[{data / 'place_cube'}]", f"train.output={run}")
    tacit("train", "act_hsa", "--config", "act_hsa_demo", *places, *options)
    tacit("export", str(run), "--out", str(bundle))
    tacit("evaluate", "--bundle", str(bundle), "--episodes", str(trials))


if __name__ == "__main__":
    main(*(sys.argv[1:] or ("runs/example",)))
