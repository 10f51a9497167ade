"""`tacit bench calibration-sim`: a cell that is not its rig, calibrated through ROS, then asked for boxes.

Every step is the command a user types, in a process of its own; this module plays the person (who
measures the gripper with a caliper and clicks gel corners, both with an error) and the judge.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tacit.config.arguments import Count, NewFolder, Seed, parse_words
from tacit.errors import TacitError
from tacit.geometry.footprint import INTERSECTS
from tacit.geometry.transforms import FloatArray, pose_error
from tacit.images import encode_png
from tacit.images.depth import to_look_at
from tacit.record.samples import load_samples
from tacit.rig import Rig, load_rig, parse_rig
from tacit.rig.units import from_canonical, to_canonical
from tacit.view.draw import draw_box, draw_label, film_strip
from tacit_sim.as_built import JointError, as_built
from tacit_sim.cell import HOME, Cell
from tacit_sim.model import only_arm

BAR_MEDIAN_PX, BAR_P95_PX = 2.0, 4.0
CALIPER_M, CLICK_PX = 1e-4, 1.2
"""What a caliper and a hand on a mouse are off by, one sigma."""
CALIPER_VALUES = 6
NUM_STATES = 1000
FISHEYE_RIG = "believed.yaml"
REACH_RAD = 0.35
BEFORE_RGB, AFTER_RGB, TRUE_RGB = (255, 90, 80), (90, 230, 110), (255, 255, 255)
VISIBLE = 0.25


@dataclass(frozen=True)
class CalibrationSimArguments:
    """Calibrate the simulated cell end to end through ROS and measure where its boxes land.

    Takes 10-20 minutes on two cores. Samples that are there already are kept, so it can be resumed.
    """

    out: Annotated[NewFolder, tyro.conf.arg(help="Session folder.")] = Path("runs/calibration-sim")
    rig: Annotated[str, tyro.conf.arg(help="Simulated rig that the cell is believed to be.")] = (
        "nova2_sim_vga"
    )
    seed: Annotated[Seed, tyro.conf.arg(help="Decides how the cell differs from its rig; not 0.")] = 5
    views: Annotated[Count, tyro.conf.arg(help="Pictures per camera.")] = 20
    joint_error_deg: Annotated[
        float, tyro.conf.arg(help="Joint error that depends on the pose, one sigma [deg].")
    ] = 0.02
    detect: Annotated[bool, tyro.conf.arg(help="Detect gels by colour instead of clicking them.")] = False
    fisheye: Annotated[bool, tyro.conf.arg(help="Give every camera of the rig a fisheye lens.")] = False
    zero_error_deg: Annotated[float, tyro.conf.arg(help="Joint zero error, one sigma [deg].")] = 0.02


class CalibrationBench:
    """The session, the truth behind it, and the person who measures and clicks."""

    def __init__(self, arguments: CalibrationSimArguments, console: Console) -> None:
        """Draw the cell that really stands there."""
        self._arguments, self._console = arguments, console
        self.believed = _with_fisheyes(arguments) if arguments.fisheye else load_rig(arguments.rig)
        self.truth = as_built(self.believed, arguments.seed)
        self.arm = only_arm(self.believed)[0]
        joints = len(self.believed.arms[self.arm].joints)
        errors = (arguments.zero_error_deg, arguments.joint_error_deg)
        self.joint_error = JointError.draw(joints, *errors, seed=arguments.seed)
        self.random = np.random.default_rng([arguments.seed, 17])

    def run(self) -> None:
        """Capture, calibrate, verify."""
        folder = self._arguments.out
        if not (folder / "session.yaml").is_file():
            rig = str(folder / FISHEYE_RIG) if self._arguments.fisheye else self._arguments.rig
            self._calibrate("session", str(folder), "--rig", rig)
        for name, camera in self.believed.cameras.items():
            board = "gripper" if camera.parent == "world" else "table"
            self._capture(name, name, self._arguments.views, board=board)
            model = "fisheye" if camera.model == "fisheye" else "plumb_bob"
            self._on_session("intrinsics", name, "--model", model)
            self._on_session("handeye", name)
        wrist = next(name for name, camera in self.believed.cameras.items() if camera.parent != "world")
        self._capture(wrist, "openings", 8, plan="openings", board="")
        self._measure_gripper()
        self._calibrate("gripper", "--session", str(folder), "--measured", str(folder / "caliper.csv"))
        if self._arguments.detect:
            self._on_session("sensor", wrist, "--detect")
        else:
            self._click(wrist)
            self._on_session("sensor", wrist)
        for name, camera in self.believed.cameras.items():
            board = "gripper" if camera.parent == "world" else "table"
            self._capture(name, f"verify-{name}", 6, board=board, seed="1")
            self._on_session("verify", name, *(["--detect"] if name == wrist else []))

    def _capture(self, camera: str, name: str, views: int, **options: str) -> None:
        a = self._arguments
        given = {
            "hidden_seed": a.seed,
            "joint_error_deg": a.joint_error_deg,
            "zero_error_deg": a.zero_error_deg,
            "views": views if "plan" in options else views + max(4, views // 3),
            "lockstep": "true",
            "real_time_factor": 2.0,
        } | options
        words = ["--anything"] if "plan" in options else []
        pairs = [f"{key}={value}" for key, value in given.items()]
        self._calibrate(
            "capture",
            "--session",
            str(a.out),
            "--camera",
            camera,
            "--name",
            name,
            "--views",
            str(views),
            *words,
            *pairs,
        )

    def _on_session(self, command: str, camera: str, *words: str) -> None:
        self._calibrate(command, "--session", str(self._arguments.out), "--camera", camera, *words)

    def _calibrate(self, *words: str) -> None:
        """Run `tacit calibrate <words>` and show what it says.

        Raises:
            TacitError: It failed.
        """
        self._console.print(f"[bold]tacit calibrate {' '.join(words)}[/]", highlight=False, soft_wrap=True)
        child = subprocess.run([sys.executable, "-m", "tacit.cli", "calibrate", *words], env=dict(os.environ))
        if child.returncode != 0:
            raise TacitError(f"tacit calibrate {words[0]} ended with code {child.returncode}")

    def _measure_gripper(self) -> None:
        """Hold a caliper between the gels at a few of the driver's values."""
        gripper = only_arm(self.truth)[2]
        openings = np.linspace(gripper.lower, gripper.upper, CALIPER_VALUES)
        with (self._arguments.out / "caliper.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["raw", "opening_mm"])
            for opening in openings:
                raw = from_canonical(self.truth, gripper.name, float(opening))
                writer.writerow([raw, 1e3 * (opening + CALIPER_M * self.random.standard_normal())])

    def _click(self, camera: str) -> None:
        """Click the corners of every gel in the pictures of the openings."""
        folder = self._arguments.out / "samples/openings"
        gripper = only_arm(self.truth)[2]
        with (folder / "corners.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["image", "sensor", *(f"{axis}{i}" for i in range(4) for axis in "uv")])
            for sample in load_samples(folder).samples:
                assert sample.gripper_raw is not None
                opening = to_canonical(self.truth, gripper.name, sample.gripper_raw)
                boxes = self.truth.sensor_boxes(np.append(sample.q, opening), camera)
                for name, footprint in boxes.items():
                    pixels = footprint.corners + self.random.normal(0, CLICK_PX, (4, 2))
                    writer.writerow([sample.image, name, *pixels.ravel().round(2)])

    def states(self) -> FloatArray:
        """Return true states (N, S) about the start pose."""
        random = np.random.default_rng([self._arguments.seed, 19])
        gripper = only_arm(self.truth)[2]
        joints = np.asarray(HOME) + random.uniform(-REACH_RAD, REACH_RAD, (NUM_STATES, len(HOME)))
        openings = random.uniform(gripper.lower, gripper.upper, (NUM_STATES, 1))
        return np.concatenate([joints, openings], axis=1)

    def measured(self, states: FloatArray, rig: Rig) -> FloatArray:
        """Return what a rig makes of what the drivers say at true states (N, S)."""
        name = only_arm(self.truth)[2].name
        raws = [from_canonical(self.truth, name, float(opening)) for opening in states[:, -1]]
        openings = np.array([to_canonical(rig, name, raw) for raw in raws])
        return np.concatenate([self.joint_error.measured(states[:, :-1]), openings[:, None]], axis=1)

    def centre_errors(self, rig: Rig) -> dict[str, FloatArray]:
        """Return {camera: distances [px] between box centres of a rig and the true ones}, where seen."""
        states = self.states()
        true = self.truth.geometry.footprint_tracks(states)
        found = rig.geometry.footprint_tracks(self.measured(states, rig))
        errors: dict[str, list[FloatArray]] = {name: [] for name in rig.cameras}
        for (camera, sensor), footprints in true.items():
            seen = (footprints.visibility >= VISIBLE) & ((footprints.flags & INTERSECTS) != 0)
            moved = _centres(found[camera, sensor].box) - _centres(footprints.box)
            errors[camera].append(np.linalg.norm(moved, axis=1)[seen])
        return {camera: np.concatenate(parts) for camera, parts in errors.items()}

    def pictures(self, after: Rig, count: int = 3) -> np.ndarray:
        """Return what the cameras really see, with the boxes of the rig before (red) and after (green)."""
        cell = Cell(self.truth)
        tiles = []
        for camera in self.truth.cameras:
            for state in self.states()[:count]:
                cell.place(state)
                image = to_look_at(cell.render(camera))
                for rig, colour in ((self.believed, BEFORE_RGB), (after, AFTER_RGB)):
                    measured = self.measured(state[None], rig)[0]
                    for footprint in rig.sensor_boxes(measured, camera).values():
                        image = draw_box(image, footprint.box, colour)
                tiles.append(draw_label(image, f"{camera}: red before, green after", (4, 16)))
        cell.close()
        return film_strip(tiles, columns=count)


def _with_fisheyes(arguments: CalibrationSimArguments) -> Rig:
    """Return the rig with equidistant lenses of the same focal length; write it beside the session."""
    data = load_rig(arguments.rig).model_dump(mode="json")
    for camera in data["cameras"].values():
        camera |= {"model": "fisheye", "D": [0.0] * 4}
    rig = parse_rig(data, f"{arguments.rig} with fisheyes")
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / FISHEYE_RIG).write_text(rig.to_yaml(), encoding="utf-8")
    return rig


def _centres(boxes: FloatArray) -> FloatArray:
    return np.asarray((boxes[:, :2] + boxes[:, 2:]) / 2)


def compare(bench: CalibrationBench, after: Rig) -> dict[str, dict[str, float]]:
    """Return numbers of the rig before and after against the truth, by what they are of."""
    numbers: dict[str, dict[str, float]] = {}
    for label, rig in (("before", bench.believed), ("after", after)):
        for camera, errors in bench.centre_errors(rig).items():
            numbers.setdefault(f"{camera}: box centre, median [px]", {})[label] = float(np.median(errors))
            numbers.setdefault(f"{camera}: box centre, 95 % [px]", {})[label] = float(
                np.quantile(errors, 0.95)
            )
        for name, spec in bench.truth.cameras.items():
            error = pose_error(spec.T_parent_camera, rig.cameras[name].T_parent_camera)
            numbers.setdefault(f"{name}: camera place [mm]", {})[label] = 1e3 * float(error.translation)
            numbers.setdefault(f"{name}: camera turn [deg]", {})[label] = float(np.rad2deg(error.rotation))
            focal = rig.cameras[name].K[0, 0] / spec.K[0, 0] - 1
            numbers.setdefault(f"{name}: focal length [%]", {})[label] = 100 * abs(float(focal))
        for name, sensor in bench.truth.tactile.items():
            error = pose_error(sensor.T_mount_sensor, rig.tactile[name].T_mount_sensor)
            numbers.setdefault(f"{name}: gel place [mm]", {})[label] = 1e3 * float(error.translation)
            numbers.setdefault(f"{name}: gel turn [deg]", {})[label] = float(np.rad2deg(error.rotation))
    return numbers


def passes(numbers: dict[str, dict[str, float]]) -> bool:
    """Tell whether every camera's boxes are within the bars."""
    medians = [row["after"] for name, row in numbers.items() if "median" in name]
    tails = [row["after"] for name, row in numbers.items() if "95 %" in name]
    return max(medians) < BAR_MEDIAN_PX and max(tails) < BAR_P95_PX


def main(argv: Sequence[str] | None = None) -> int:
    """Run `tacit bench calibration-sim`.

    Returns:
        0 when box centres are below 2 px in the median and 4 px in 95 %, in every camera, else 1.
    """
    arguments = parse_words(CalibrationSimArguments, argv, "tacit bench calibration-sim")
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 101))
    console = Console()
    started = time.perf_counter()
    bench = CalibrationBench(arguments, console)
    bench.run()
    after = load_rig(arguments.out / "rig.yaml")
    numbers = compare(bench, after)
    sheet = arguments.out / "boxes.png"
    sheet.write_bytes(encode_png(bench.pictures(after)).tobytes())
    table = Table("against the truth", "before", "after", title="calibration of the simulated cell")
    for name, row in numbers.items():
        table.add_row(escape(name), f"{row['before']:.2f}", f"{row['after']:.2f}")
    console.print(table)
    seconds = time.perf_counter() - started
    report = {"numbers": numbers, "seconds": seconds, "passed": passes(numbers)}
    (arguments.out / "report.json").write_text(json.dumps(report, indent=1) + "\n")
    console.print(f"{seconds:.0f} s; pictures: {sheet}", highlight=False)
    return 0 if passes(numbers) else 1
