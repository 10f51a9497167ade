"""`tacit bench load`: training samples per second from episodes, beside video as LeRobot keeps it.

Both read the same frames in the same random order, resize them to the policy's input and cut the same chunks
of actions; what differs is how pictures are stored. With `--episodes` a large set is made of copies, to see
how long the first batch takes and what a process holds.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from rich.console import Console
from torch.utils.data import DataLoader

from tacit.config.arguments import NewFile, parse_words
from tacit.episode import EpisodeReader, EpisodeWriter
from tacit.images import encode_jpeg
from tacit.rig import Rig, load_rig, parse_rig
from tacit.streams import Sample, Tick
from tacit_learning.data.episodes import EpisodeTable, find_training_episodes, load_table
from tacit_learning.data.view import DataConfig, View
from tacit_learning.data.windows import ChunkWindows, StepSampler, make_loader

T = TypeVar("T")
HEIGHT, WIDTH = 480, 640
FPS = 25
CHUNK = 100
TOUCH_SIZE = (120, 160)
BAR = 2.5
CODECS = {"av1": ("libsvtav1", {"crf": "30", "preset": "12"}), "h264": ("libx264", {"crf": "23"})}
"""Encoders and their options as LeRobot 0.4 sets them; a key frame every second frame."""


@dataclass(frozen=True)
class Args:
    """Measure how fast episodes are read for training, beside LeRobot-style video of the same frames."""

    seconds: float = 6.0
    """How long each way is measured [s]."""
    batch_size: int = 16
    """Samples in one batch."""
    workers: tuple[int, ...] = (0, 2)
    """Numbers of loading processes; 0 reads in the process itself."""
    ticks: int = 200
    """Ticks of each of the two episodes that are read at random."""
    codecs: tuple[str, ...] = ("av1", "h264")
    """Codecs to compare with."""
    episodes: int = 0
    """Also read a set of so many copies, twice: first batch, open files, memory."""
    folder: Path | None = None
    """Where the data are made; a temporary folder when left out."""
    json: NewFile | None = None
    """Write the numbers to this file too."""


@dataclass(frozen=True)
class Row:
    """One measurement."""

    what: str
    workers: int
    samples_per_s: float


@dataclass(frozen=True)
class Large:
    """What reading a large set costs."""

    episodes: int
    first_batch_s: float
    open_files: int
    rss_mb: float
    samples_per_s: float


def main(argv: list[str]) -> int:
    """Measure, print a table and return 0."""

    args = parse_words(Args, argv, "tacit bench load")
    with tempfile.TemporaryDirectory(prefix="bench_load_") as temporary:
        root = args.folder or Path(temporary)
        rows = compare(args, root)
        times = ("for the first time", "again") if args.episodes else ()
        large = {when: _alone(measure_large, root / "large", args) for when in times}
    _print(rows, large)
    if args.json is not None:
        numbers = {
            "rows": [asdict(row) for row in rows],
            "large": {when: asdict(found) for when, found in large.items()},
        }
        args.json.write_text(json.dumps(numbers, indent=1))
    return 0


def compare(args: Args, root: Path) -> list[Row]:
    """Return the samples per second of each way of storing pictures, from the same frames."""
    rig = vga_rig()
    paths = [write_episode(root / "set", rig, args.ticks, seed) for seed in range(2)]
    rows = [
        Row("episodes (JPEG)", workers, _alone(_episode_rate, paths, workers, args))
        for workers in args.workers
    ]
    for codec in args.codecs:
        videos = [_alone(write_videos, path, root / codec / path.stem, codec) for path in paths]
        rows += [
            Row(f"video ({codec})", workers, _alone(_video_rate, paths, videos, workers, args))
            for workers in args.workers
        ]
    return rows


def _alone(measure: Callable[..., T], *arguments: object) -> T:
    """Call in a process of its own: loading processes of one that has used codecs die of what it left."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        return pool.submit(measure, *arguments).result()


def _table(paths: list[Path]) -> EpisodeTable:
    return load_table(paths, DataConfig(datasets=(str(paths[0].parent),), trim_idle=False))


def _episode_rate(paths: list[Path], workers: int, args: Args) -> float:
    table = _table(paths)
    sampler = StepSampler(len(table), args.batch_size, seed=0)
    return _rate(iter(make_loader(ChunkWindows(table, CHUNK), sampler, workers)), args)


def _video_rate(paths: list[Path], videos: list[list[Path]], workers: int, args: Args) -> float:
    table = _table(paths)
    sampler = StepSampler(len(table), args.batch_size, seed=0)
    source = VideoWindows(table, videos)
    loader = DataLoader(source, batch_sampler=sampler, num_workers=workers, collate_fn=_same)  # type: ignore[arg-type]
    return _rate(iter(loader), args)


def _rate(batches: Iterator[object], args: Args) -> float:
    """Return samples per second, from the third batch on."""
    for _ in range(2):
        next(batches)
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < args.seconds:
        next(batches)
        count += args.batch_size
    return count / (time.perf_counter() - begun)


# -- the same frames as video ------------------------------------------------------------------


class VideoWindows(ChunkWindows):
    """Windows whose camera images come from videos; touch stays where it is, as in LeRobot's image features.

    Args:
        table: The frames.
        videos: Of each episode, its cameras' videos in order.
    """

    def __init__(self, table: EpisodeTable, videos: list[list[Path]]) -> None:
        super().__init__(table, CHUNK)
        self.table = _with_images(table, VideoImages(videos, table))


class VideoImages:
    """Frames decoded from videos whose decoders stay open: the fastest way that LeRobot has."""

    def __init__(self, videos: list[list[Path]], table: EpisodeTable) -> None:
        self._videos, self._table = videos, table
        self._decoders: dict[Path, Decoder] = {}
        self._pid = self._parent = os.getpid()

    def __call__(self, episode: int, frame: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return camera (N of H, W, 3) and touch images (S of h, w, 3) of one frame."""
        if self._pid != os.getpid():
            self._decoders, self._pid = {}, os.getpid()
        view: View = self._table.view
        pictures = []
        for path, transform in zip(self._videos[episode], view.cameras.values(), strict=True):
            if path not in self._decoders:
                # One process decodes by all threads, as PyAV does unasked; loading processes by one each.
                self._decoders[path] = Decoder(path, 0 if self._pid == self._parent else 1)
            pictures.append(transform.image(self._decoders[path].frame(frame)))
        source = self._table._images._sources[episode]  # type: ignore[attr-defined]
        reader, _ = self._table._images._reader(episode)  # type: ignore[attr-defined]
        touch = [source.reading.picture(reader, name, frame) for name in view.sensors]
        return pictures, touch


class Decoder:
    """An open video: seeks to the key frame before, decodes up to the frame asked for."""

    def __init__(self, path: Path, threads: int) -> None:
        import av

        self._container = av.open(str(path))
        self._stream = self._container.streams.video[0]
        self._stream.codec_context.thread_count = threads

    def frame(self, number: int) -> np.ndarray:
        """Return frame `number` as RGB (H, W, 3)."""
        base, rate = self._stream.time_base, self._stream.average_rate
        assert base is not None and rate is not None
        wanted = round(Fraction(number) / rate / base)
        self._container.seek(wanted, stream=self._stream)
        for frame in self._container.decode(self._stream):
            if frame.pts is not None and frame.pts >= wanted:
                return frame.to_ndarray(format="rgb24")
        raise ValueError(f"no frame {number}")


def write_videos(path: Path, folder: Path, codec: str) -> list[Path]:
    """Write the camera images of an episode as one video each, and return their paths."""
    os.environ.setdefault("SVT_LOG", "1")  # errors alone
    import av

    name, options = CODECS[codec]
    folder.mkdir(parents=True)
    videos = []
    with EpisodeReader(path) as reader:
        for camera in reader.cameras:
            videos.append(folder / f"{camera}.mp4")
            with av.open(str(videos[-1]), "w") as container:
                stream = container.add_stream(name, rate=FPS, options=options | {"g": "2"})
                stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
                stream.codec_context.gop_size = 2
                for picture in reader.pictures(camera, slice(None)):
                    container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
                container.mux(stream.encode())
    return videos


def _with_images(table: EpisodeTable, images: Callable) -> EpisodeTable:
    return EpisodeTable(table.episodes, table.rig, table.view, table.references, images)


def _same(batch: object) -> object:
    return batch


# -- episodes ----------------------------------------------------------------------------------


def vga_rig() -> Rig:
    """Return the simulated cell with three cameras of 640 x 480 and touch of 160 x 120."""
    data = load_rig("nova2_sim").model_dump(mode="json")
    for name, spec in list(data["cameras"].items()):
        scale = WIDTH / spec["width"]
        K = np.array(spec["K"])
        K[:2] *= scale
        spec |= {"height": HEIGHT, "width": WIDTH, "K": K.tolist()}
        data["cameras"][name] = spec
    data["cameras"]["side"] = data["cameras"]["top"] | {"topic": "/camera/side/image"}
    for spec in data["tactile"].values():
        spec |= {"height": TOUCH_SIZE[0], "width": TOUCH_SIZE[1]}
    return parse_rig(data, "bench")


def write_episode(root: Path, rig: Rig, ticks: int, seed: int, plain: bool = False) -> Path:
    """Write an episode of a moving scene with the noise of a camera, and return its path.

    Args:
        root: Where to.
        rig: Of `vga_rig`.
        ticks: How many.
        seed: Of the scene.
        plain: One picture per stream, again and again, and small: for sets of many.
    """
    rng = np.random.default_rng(seed)
    reference = {name: _scene(rng, 0, *TOUCH_SIZE) for name in rig.tactile}
    writer = EpisodeWriter(root, rig, task="bench", sim=True, references=reference, sync=False)
    scenes = {name: _scene(rng, 0, HEIGHT, WIDTH, plain) for name in rig.cameras}
    kept: dict[str, np.ndarray] = {}
    for i in range(ticks):
        stamp = 1_000_000_000 + i * 1_000_000_000 // FPS
        joints = np.array([0.0, -0.3, 1.2, 0.3, -1.57, 0.0]) + 0.2 * np.sin(0.05 * i + np.arange(6))
        values: dict[str, object] = {"joints": joints, "gripper_state": np.array([0.04]), "stage": 0}
        values["command"] = np.append(joints + 0.01, 0.04)
        for name in rig.cameras:
            if not plain or name not in kept:
                kept[name] = encode_jpeg(_moved(scenes[name], i, rng, plain))
            values[name] = kept[name]
        for name in rig.tactile:
            values[name] = encode_jpeg(reference[name], 95)
        writer.append(Tick(stamp, i, {n: Sample(v, stamp, stamp, i, True) for n, v in values.items()}))
    return writer.close(True)


def _scene(rng: np.random.Generator, number: int, height: int, width: int, plain: bool = False) -> np.ndarray:
    """Return a picture of soft shapes with some edges, as a table with objects has."""
    coarse = rng.integers(40, 220, (max(height // 60, 2), max(width // 60, 2), 3), dtype=np.uint8)
    image = np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC))
    for _ in range(0 if plain else 25):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        color = tuple(int(c) for c in rng.integers(0, 255, 3))
        cv2.rectangle(image, (x, y), (x + width // 10, y + height // 12), color, -1)
    return image


def _moved(scene: np.ndarray, i: int, rng: np.random.Generator, plain: bool) -> np.ndarray:
    if plain:
        return scene
    noisy = np.roll(scene, 3 * i, axis=1).astype(np.int16)
    noisy += rng.integers(-4, 5, scene.shape, dtype=np.int16)  # of a camera: about 2 grey levels
    return np.clip(noisy, 0, 255).astype(np.uint8)


# -- a large set -------------------------------------------------------------------------------


def measure_large(root: Path, args: Args) -> Large:
    """Return what reading a large set costs: list it, read its rows, draw the first batches at random."""
    import psutil

    if not root.exists():
        first = write_episode(root, vga_rig(), 100, 0, plain=True)
        for number in range(1, args.episodes):
            shutil.copyfile(first, first.with_name(f"episode_{number}.hdf5"))
    process = psutil.Process()
    begun = time.perf_counter()
    config = DataConfig(datasets=(str(root),), trim_idle=False)
    table = load_table(find_training_episodes(config), config)
    loader = make_loader(ChunkWindows(table, CHUNK), StepSampler(len(table), args.batch_size, 0), 2)
    batches = iter(loader)
    next(batches)
    first_batch_s = time.perf_counter() - begun
    rate = _rate(batches, args)
    family = [process, *process.children(recursive=True)]
    return Large(
        episodes=len(table.episodes),
        first_batch_s=first_batch_s,
        open_files=sum(p.num_fds() for p in family),
        rss_mb=max(p.memory_info().rss for p in family) / 1e6,
        samples_per_s=rate,
    )


def _print(rows: list[Row], large: Mapping[str, Large]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for row in rows:
        console.print(f"{row.what:<18}{row.workers} workers  {row.samples_per_s:7.0f} samples/s")
    ours = {row.workers: row.samples_per_s for row in rows if row.what.startswith("episodes")}
    for row in itertools.filterfalse(lambda r: r.what.startswith("episodes"), rows):
        ratio = ours[row.workers] / row.samples_per_s
        bar = f" (the bar is {BAR:g}: LeRobot stores AV1)" if "av1" in row.what else ""
        console.print(f"{ratio:.1f} times as many as {row.what} with {row.workers} workers{bar}")
    for when, found in large.items():
        console.print(
            f"{found.episodes} episodes {when}: first batch after {found.first_batch_s:.1f} s, "
            f"{found.open_files} open files in all processes, at most {found.rss_mb:.0f} MB in one, "
            f"{found.samples_per_s:.0f} samples/s"
        )
