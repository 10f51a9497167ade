"""`tacit calibrate capture`: samples from ROS topics, from a recorded episode, or from a folder."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from tacit.config import load_yaml
from tacit.config.arguments import Count, NewFolder, Seconds
from tacit.errors import CalibrationError
from tacit.geometry.robot import Robot
from tacit.images import encode_png
from tacit.record.samples import FILE_NAME, Sample, SampleFile, load_samples
from tacit.rig import Rig, load_rig
from tacit_calibration.board import Board
from tacit_calibration.commands.place import say, say_next
from tacit_calibration.coverage import coverage_map, hint
from tacit_calibration.detection import View, detect_images
from tacit_calibration.imports import import_episode, import_folder
from tacit_calibration.rig_update import known
from tacit_calibration.samples import joints_in_order, picture
from tacit_calibration.session import Session

POLL_S = 0.5
STOP_S = 20.0
TAIL_LINES = 12


@dataclass(frozen=True)
class CaptureArgs:
    """Take calibration pictures: a node takes one whenever the arm stands still in a new pose.

    Shows after each picture what is still lacking. On a simulated rig the cell and somebody who moves
    its arm are started too. Further words are options of the stack `calibrate` as key=value
    (`tacit up calibrate --list`).
    """

    session: Annotated[NewFolder, tyro.conf.arg(help="Session folder.")]
    camera: Annotated[str, tyro.conf.arg(help="Whose pictures.")]
    options: tyro.conf.Positional[tuple[str, ...]] = ()
    arm: Annotated[str, tyro.conf.arg(help="Arm that moves; the camera's, or the only one.")] = ""
    name: Annotated[
        str, tyro.conf.arg(help="Name of the set: the camera's if left out, `openings`, `verify-<camera>`.")
    ] = ""
    views: Annotated[Count, tyro.conf.arg(help="Stop at so many pictures that show the board.")] = 20
    anything: Annotated[
        bool, tyro.conf.arg(help="Count pictures without a board too, as for gripper openings.")
    ] = False
    idle_s: Annotated[Seconds, tyro.conf.arg(help="Stop when no picture has come for so long [s].")] = 120.0
    episode: Annotated[Path | None, tyro.conf.arg(help="Take still moments of this episode instead.")] = None
    folder: Annotated[
        Path | None, tyro.conf.arg(help="Take pictures and joints.csv of this folder instead.")
    ] = None

    def run(self) -> int:
        """Collect until there is enough; 1 when there is not."""
        session = Session.open(self.session)
        rig = load_rig(session.folder / "rig_before.yaml")
        known(rig, "camera", self.camera, rig.cameras)
        target = session.samples(self.name or self.camera)
        watch = Watch(rig, self.camera, session.board, target, self.anything)
        if self.episode is not None:
            say(f"{import_episode(self.episode, rig, self.camera, target, self.arm)} still moments taken")
        elif self.folder is not None:
            say(f"{import_folder(self.folder, rig, self.camera, target, self.arm)} pictures taken")
        else:
            self._from_topics(session, target, watch)
        watch.look()
        say(f"{watch.count} of {self.views} wanted; {target}")
        say_next(session)
        return 0 if watch.count >= self.views else 1

    def _from_topics(self, session: Session, target: Path, watch: Watch) -> None:
        watch.look()
        if watch.count >= self.views:
            return
        log = session.folder / "logs" / f"capture-{target.name}.log"
        options = [f"camera={self.camera}", f"arm={self.arm}", f"out={target}", *self.options]
        with running_stack(session.folder / "rig_before.yaml", options, log) as child:
            since, before = time.monotonic(), 0
            while watch.count < self.views:
                if child.poll() is not None:
                    tail = "\n".join(log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
                    raise CalibrationError(f"the nodes ended with code {child.returncode}:\n{tail}")
                watch.look()
                if watch.num_samples != before:
                    since, before = time.monotonic(), watch.num_samples
                elif time.monotonic() - since > self.idle_s:
                    say(f"no new picture for {self.idle_s:g} s")
                    return
                time.sleep(POLL_S)


@dataclass
class Watch:
    """Looks at a folder of samples, reports new pictures, keeps a map of what they cover."""

    rig: Rig
    camera: str
    board: Board
    folder: Path
    anything: bool = False
    views: list[View] = field(default_factory=list)
    num_samples: int = 0

    @property
    def count(self) -> int:
        """Pictures that count."""
        return self.num_samples if self.anything else len(self.views)

    def look(self) -> None:
        """Take in what is new."""
        if not (self.folder / FILE_NAME).is_file() or not load_yaml(self.folder / FILE_NAME).get("samples"):
            return
        listed = load_samples(self.folder)
        new = listed.samples[self.num_samples :]
        self.num_samples = len(listed.samples)
        for sample in new:
            self._take(sample)
        if new and not self.anything:
            self._advise(listed, picture(self.folder, new[-1]))

    def _take(self, sample: Sample) -> None:
        found = detect_images([(sample.image, picture(self.folder, sample))], self.board)
        self.views += found.views
        reason = found.reasons.get(sample.image)
        say(f"  {sample.image}: {reason or f'{len(found.views[0].points_m)} corners'}")

    def _advise(self, listed: SampleFile, newest: np.ndarray) -> None:
        lens = self.rig.geometry.camera(self.camera)
        path = self.folder / "coverage.png"
        sheet = coverage_map(self.views, lens.width, lens.height, newest)
        path.write_bytes(encode_png(sheet).tobytes())
        names = {view.name for view in self.views}
        joints = joints_in_order(listed, self.rig, self.folder)
        q = [row for sample, row in zip(listed.samples, joints, strict=True) if sample.image in names]
        poses = Robot.from_rig(self.rig, listed.arm).forward_batch(np.array(q)) if q else None
        advice = hint(self.views, lens, poses)
        say(f"  {len(self.views)} views" + (f"; next: {advice}" if advice else "; nothing is lacking"))


@contextlib.contextmanager
def running_stack(rig: Path, options: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Keep `tacit up calibrate` running inside the block."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "tacit.cli", "up", "calibrate", "--rig", str(rig), *options]
    with log.open("wb") as sink:
        child = subprocess.Popen(command, stdout=sink, stderr=subprocess.STDOUT)
        try:
            yield child
        finally:
            if child.poll() is None:
                child.send_signal(signal.SIGINT)  # as Ctrl-C: nodes close their files
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
