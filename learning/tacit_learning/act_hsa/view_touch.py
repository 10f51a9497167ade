"""`tacit view touch`: where on held-out wrist pictures a touch is taken to be, and what the policy would do.

The heat is the cosine of the touch feature with every token of the picture, the box is where the sensor is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from tacit.config.arguments import parse_words
from tacit.errors import ConfigError
from tacit.images import Image
from tacit.view.draw import draw_box, enlarge
from tacit.view.page import Cell, Judged, Page, Tile
from tacit_learning.act_hsa.arguments import ViewTouch as Arguments
from tacit_learning.act_hsa.evaluate import evaluate
from tacit_learning.act_hsa.policy import ActHsaPolicy
from tacit_learning.act_hsa.probes import likeness
from tacit_learning.act_hsa.touch_alignment import TouchAlignment
from tacit_learning.act_hsa.train import TrainedPolicy, load_policy, windows_of
from tacit_learning.act_hsa.view_actions import courses, error_by_step, plot_course, plot_errors
from tacit_learning.data import keys
from tacit_learning.data.episodes import EpisodeTable, find_training_episodes, load_table, split_episodes
from tacit_learning.data.windows import Batch, ChunkWindows, fixed_batches
from tacit_learning.layers.pooling import PIXEL_CENTRE

SHOWN_PX = 320
HEAT = 0.55
"""Part of the picture that the heat covers."""
BATCH, BATCHES = 32, 8
NUMBERS = (
    ("hsa_pointing", "share of touches that point into their box"),
    ("hsa_pointing_chance", "the same of a blind guess"),
    ("hsa_gallery_top1", "share of touches that find their moment among other episodes"),
    ("hsa_gallery_chance", "the same of a blind guess"),
    ("l1_touch_own", "error of actions on frames with contact, L1 of standardised targets"),
    ("l1_touch_other", "the same with the touch of another episode"),
)

RIVALS = {
    "hsa_pointing": "hsa_pointing_chance",
    "hsa_gallery_top1": "hsa_gallery_chance",
    "l1_touch_own": "l1_touch_other",
}
"""What a number is held against."""


def main(argv: Sequence[str]) -> int:
    """Run `tacit view touch`; returns the exit code."""
    arguments = parse_words(Arguments, argv, "tacit view touch")
    trained = load_policy(arguments.run)
    if trained.policy.alignment is None:
        raise ConfigError(f"{arguments.run}: was trained without HSA; there is nothing to point with")
    data = trained.config.data
    chosen, held_out = split_episodes(find_training_episodes(data), data.train_ratio, data.split_seed)
    table = load_table(held_out or chosen, data.model_copy(update={"cache": "none"}))
    page = make_page(trained, table, arguments.frames, "held-out" if held_out else "training")
    Console(highlight=False, soft_wrap=True).print(str(page.save(arguments.out)))
    return 0


def make_page(trained: TrainedPolicy, table: EpisodeTable, frames: int, split: str) -> Page:
    """Put the numbers of touch and its heat maps on a page.

    Args:
        trained: With alignment.
        table: Frames that it did not learn from, if there are any.
        frames: How many to show.
        split: What to call them.
    """
    windows = windows_of(trained.config, table)
    page = Page("Touch in the picture", f"{len(table)} {split} frames of {len(table.episodes)} episodes")
    metrics = evaluate(trained.policy, fixed_batches(windows, BATCH, BATCHES), torch.device("cpu"))
    page.section("Numbers", "On frames of several episodes at once.")
    page.table(("what", "value"), [(text, _judged(metrics, key)) for key, text in NUMBERS if key in metrics])
    page.section("Heat", "Cosine of the touch with each token, red at its highest; the box is the sensor's.")
    batch = next(fixed_batches(windows, BATCH, 1))
    page.gallery(heat_maps(trained, batch, frames))
    _actions(page, trained.policy, windows)
    return page


def _actions(page: Page, policy: ActHsaPolicy, windows: ChunkWindows) -> None:
    """Put on the page where in the chunk and in which joint the error is, and how one episode went."""
    names = policy.state_names
    errors = error_by_step(policy, fixed_batches(windows, BATCH, BATCHES))
    page.section("Error by horizon and joint", "Of what the robot does (z = 0).")
    page.plot(plot_errors(errors, names))
    end = int(windows.table.starts[1])
    rows = [list(range(start, min(start + BATCH, end))) for start in range(0, end, BATCH)]
    predicted, true = courses(policy, map(windows.__getitems__, rows))
    page.section("Predicted and demonstrated", "The first action of each chunk along the first episode.")
    for i, name in enumerate(names):
        page.plot(plot_course(name, predicted[:, i], true[:, i]))


def _judged(metrics: Mapping[str, float], key: str) -> Cell:
    """Hold a metric against its guess or its control, where it has one; one that is missing is not judged."""
    rival = metrics.get(RIVALS.get(key, ""))
    value = metrics[key]
    if rival is None or not (np.isfinite(value) and np.isfinite(rival)):
        return float(value)
    if key.startswith("l1"):
        return Judged(float(value), value < rival, f"less than {rival:.4g}")
    return Judged(float(value), value > rival, f"more than {rival:.4g}")


@torch.no_grad()
def heat_maps(trained: TrainedPolicy, batch: Batch, frames: int) -> list[Tile]:
    """Return the heat of each touch over the pictures of its wrist cameras; frames with contact first."""
    alignment = trained.policy.alignment
    assert isinstance(alignment, TouchAlignment)
    output, contact = trained.policy.eval().run(batch)
    touching = contact > trained.config.hsa.contact_threshold
    order = torch.argsort(touching.any(1).float(), descending=True, stable=True)[:frames].tolist()
    heats = []
    for n in torch.nonzero(alignment.wrist.any(1)).flatten().tolist():
        maps = likeness(alignment, output.tokens, n).unflatten(-1, alignment.image_grid)
        for b in order:
            for s in torch.nonzero(alignment.wrist[n] & batch[keys.BOX_VALID][b, n]).flatten().tolist():
                heats.append(_heat(trained, batch, maps[b, s], (b, n, s), bool(touching[b, s])))
    return heats


def _heat(
    trained: TrainedPolicy, batch: Batch, values: Tensor, place: tuple[int, int, int], touches: bool
) -> Tile:
    b, n, s = place
    box = batch[keys.BOXES][b, n, s].numpy()
    picture = overlay(batch[keys.IMAGES][b, n].numpy(), values.numpy(), box)
    names = list(trained.spec.view.cameras)[n], trained.spec.view.touch[s]
    where = f"episode {int(batch[keys.EPISODE][b])}, frame {int(batch[keys.FRAME][b])}"
    return Tile(picture, f"{names[1]} in {names[0]}, {'touching' if touches else 'free'}; {where}")


def overlay(image: Image, values: NDArray[np.float32], box: NDArray[np.float32]) -> Image:
    """Lay token values (h, w) as heat over a picture (H, W, 3), with a box of edges [px] in it."""
    factor = max(1, SHOWN_PX // image.shape[1])
    large = enlarge(image, factor)
    low, high = float(values.min()), float(values.max())
    grey = np.uint8(255 * (values - low) / max(high - low, 1e-6))
    size = (large.shape[1], large.shape[0])
    tokens = cv2.resize(grey, size, interpolation=cv2.INTER_NEAREST)
    heat = cv2.cvtColor(cv2.applyColorMap(tokens, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    mixed = np.asarray(cv2.addWeighted(heat, HEAT, large, 1 - HEAT, 0.0), np.uint8)
    return draw_box(mixed, box - PIXEL_CENTRE, factor=factor)
