"""Clips of a hand or a gripper on true paths beside a moving block: what `tacit study control` learns from.

The hand follows a Bezier path over the whole picture, the block a straight one; nothing but the motion tells
where they go. One centimetre is one pixel, so the wrist of a trajectory is its place in the picture.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from tacit.convert.vace_e_files import (
    METADATA_NAME,
    EpisodeContent,
    HandTrack,
    ObjectTrack,
    TaskAttributes,
    write_episode,
    write_metadata,
)
from tacit.geometry.rotations import rotation_to_6d
from tacit.images import Image

HEIGHT, WIDTH, FRAMES, FPS = 32, 48, 9, 16.0
METRES = 0.01  # per pixel
RADIUS, BLOCK = 5.0, 3.0  # of the hand and half the side of the block [px]
BODIES = {"human": (235, 175, 140), "claw": (70, 110, 235)}
BLOCKS = {"green": (60, 200, 70), "yellow": (225, 215, 60)}
TASKS = [(body, colour) for body in BODIES for colour in BLOCKS]
REFERENCE = 48  # side of the end effector's picture [px]
DEPTH = 100.0  # of everything under the camera [m]: so far that heights do not show
CAMERA = {
    "width": WIDTH,
    "height": HEIGHT,
    "K": [[DEPTH / METRES, 0, (WIDTH - 1) / 2], [0, DEPTH / METRES, (HEIGHT - 1) / 2], [0, 0, 1]],
    "T_world_camera": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -DEPTH], [0, 0, 0, 1]],
}
STILL = rotation_to_6d(np.eye(3))


class Truth(NamedTuple):
    """What an episode shows: body, colour, and the places of hand and block (F, 2) as x, y [px]."""

    body: str
    colour: str
    hand: np.ndarray
    block: np.ndarray


def write_clips(root: Path, count: int, seed: int) -> Path:
    """Write `count` episodes, bodies and colours in turn; returns the path of the metadata."""
    for number in range(count):
        truth = draw_truth(number, seed)
        folder = root / task_name(truth) / f"episode_{number // len(TASKS)}"
        write_episode(folder, make_episode(truth))
    tasks = {
        f"{colour}_{body}": TaskAttributes(f"pushing_{colour}", body, False, True, f"{colour} block.")
        for body, colour in TASKS
    }
    write_metadata(root / METADATA_NAME, tasks, {"top": CAMERA})
    return root / METADATA_NAME


def task_name(truth: Truth) -> str:
    """Return the task folder of an episode."""
    return f"{truth.colour}_{truth.body}"


def draw_truth(number: int, seed: int) -> Truth:
    """Draw what episode `number` shows."""
    rng = np.random.default_rng([seed, number])
    body, colour = TASKS[number % len(TASKS)]
    corners = np.array([[RADIUS + 1, RADIUS + 1], [WIDTH - RADIUS - 2, HEIGHT - RADIUS - 2]])
    points = rng.uniform(corners[0], corners[1], size=(4, 2))
    share = np.linspace(0, 1, FRAMES)[:, None]
    weights = [(1 - share) ** 3, 3 * share * (1 - share) ** 2, 3 * share**2 * (1 - share), share**3]
    hand = sum(weight * point for weight, point in zip(weights, points, strict=True))
    start = rng.uniform(corners[0], corners[1])
    end = np.clip(start + rng.uniform(-8, 8, 2), *corners)
    return Truth(body, colour, np.asarray(hand), start + share * (end - start))


def make_episode(truth: Truth) -> EpisodeContent:
    """Draw an episode; its mask is the box of the hand, as converters write it."""
    frames = [draw_frame(truth, t) for t in range(FRAMES)]
    hand = HandTrack(_metres(truth.hand, 0.1), np.tile(STILL, (FRAMES, 1)), np.ones(FRAMES, np.int64))
    block = ObjectTrack(0, _metres(truth.block, 0.0), np.tile(STILL, (FRAMES, 1)))
    masks = boxes(truth.hand, RADIUS + 1)
    return EpisodeContent(frames, masks, FPS, {"right": hand}, [block], {"top": reference(truth.body)})


def draw_frame(truth: Truth, t: int) -> Image:
    """Draw one picture; edges are smooth, so that a place between two pixels shows."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    image = np.stack([80 + 0 * rows, 80 + 20 * rows / HEIGHT, 85 + 20 * columns / WIDTH], axis=-1)
    dx, dy = columns - truth.block[t, 0], rows - truth.block[t, 1]
    image = _paint(image, BLOCK - np.maximum(abs(dx), abs(dy)), BLOCKS[truth.colour])
    dx, dy = columns - truth.hand[t, 0], rows - truth.hand[t, 1]
    image = _paint(image, body_depth(truth.body, dx, dy, RADIUS), BODIES[truth.body])
    return image.round().astype(np.uint8)


def body_depth(body: str, dx: np.ndarray, dy: np.ndarray, radius: float) -> np.ndarray:
    """How far inside a body a place is: a disc, or two fingers with a palm."""
    if body == "human":
        return radius - np.hypot(dx, dy)
    fingers = np.minimum(0.3 * radius - abs(abs(dx) - 0.65 * radius), radius - abs(dy))
    palm = np.minimum(0.9 * radius - abs(dx), 0.3 * radius - abs(dy + 0.7 * radius))
    return np.maximum(fingers, palm)


def boxes(path: np.ndarray, half: float) -> np.ndarray:
    """Return the boxes about a path (F, H, W) bool."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    dx, dy = columns - path[:, 0, None, None], rows - path[:, 1, None, None]
    return np.maximum(abs(dx), abs(dy)) <= half


def reference(body: str) -> Image:
    """Draw the picture of an end effector."""
    rows, columns = np.mgrid[:REFERENCE, :REFERENCE] - (REFERENCE - 1) / 2
    image = np.full((REFERENCE, REFERENCE, 3), 245.0)
    return _paint(image, body_depth(body, columns, rows, REFERENCE / 3), BODIES[body]).astype(np.uint8)


def _paint(image: np.ndarray, depth: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    cover = np.clip(depth + 0.5, 0, 1)[..., None]
    return image * (1 - cover) + cover * np.array(colour, float)


def _metres(path: np.ndarray, height: float) -> np.ndarray:
    """Return places of the picture about its middle as positions [m]."""
    middle = (np.array([WIDTH, HEIGHT]) - 1) / 2
    return np.column_stack([METRES * (path - middle), np.full(len(path), height)])
