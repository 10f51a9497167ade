"""`tacit doctor`: look at this machine, or at a running robot, and say what is missing and how to cure it.

Three profiles: `robot` records and runs policies, `workstation` trains and exports, `demo` does it
all in the simulated cell. Exit code 1 when something that the profile requires is missing. With a rig
it listens to the robot instead, through `tacit_ros`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tacit.config.arguments import Seconds
from tacit.tools import probes

RIG_DOCTOR = ("tacit_ros.run.rig_doctor", "examine_rig")  # a string: the core imports no ROS

Profile = Literal["robot", "workstation", "demo"]
State = Literal["ok", "note", "missing"]

INSTALL = "in the root of the repository: pip install -c constraints.txt -e '.[{extra}]'"
GL_INSTALL = "sudo apt-get install -y libegl1 libgl1 libgl1-mesa-dri"
# Jazzy's wheels bring a ros-rclpy too, of version 7.
KILTED_RCLPY = "9."
PYTHON_RANGE = ((3, 10), (3, 15))
# An hour at an assumed 10 MB/s (two 640x480 JPEG cameras and two sensors).
FREE_DISK_GIB = 40.0
DEMO_DISK_GIB = 3.0

PACKAGES: dict[str, tuple[str, ...]] = {
    "": (
        "numpy",
        "h5py",
        "opencv-python-headless",
        "pydantic",
        "tyro",
        "onnxruntime",
        "roboticstoolbox-python",
    ),
    "sim": ("mujoco",),
    "calibration": ("scipy",),
    "learning": ("torch", "accelerate", "transformers", "safetensors", "onnx", "scikit-learn", "numba"),
    "vace_e": ("diffusers", "peft", "ftfy", "sentencepiece"),
}
EXTRAS_OF: dict[Profile, tuple[str, ...]] = {
    "robot": ("",),
    "workstation": ("", "calibration", "learning", "vace_e"),
    "demo": ("", "sim", "learning"),
}


@dataclass(frozen=True)
class Check:
    """One line of the table: `missing` fails the profile, `note` only informs."""

    name: str
    state: State
    found: str
    cure: str = ""


@dataclass(frozen=True)
class DoctorArgs:
    """Check this machine, or with --rig a running robot (exit code 1: something would stop you).

    With --rig the topics of the robot are listened to and measured: publishers, rate, jitter, latency, the
    offset of each clock from the others, and what the recorder would refuse or doubt. At the end stand the
    lines of the rig to change, and why a start would be refused. Nothing is published.
    """

    profile: Profile = "demo"
    """robot: record and run. workstation: train and export. demo: everything, in the simulated cell."""
    path: Path = Path()
    """Folder whose disk will hold the recordings."""
    rig: str = ""
    """Shipped rig or rig.yaml of a running robot: measure its topics instead of this machine."""
    seconds: Seconds = 10.0
    """With --rig: how long to listen [s]."""


def main(argv: list[str]) -> int:
    """Print what was found and return 0, or 1 when something required is missing."""
    from tacit.config.arguments import parse_words  # late: a library that it needs may be what is missing

    args = parse_words(DoctorArgs, argv, "tacit doctor")
    if args.rig:
        module, function = RIG_DOCTOR
        return int(getattr(importlib.import_module(module), function)(args.rig, args.seconds))
    checks = examine(args.profile, args.path)
    _print_table(args.profile, checks)
    return 1 if any(check.state == "missing" for check in checks) else 0


def examine(profile: Profile, path: Path = Path()) -> list[Check]:
    """Run every check of `profile`.

    Args:
        profile: What the machine is for.
        path: Folder whose disk will hold the recordings.
    """
    checks = [check_python(sys.version_info[:2])]
    for extra in EXTRAS_OF[profile]:
        checks += [check_package(name, extra) for name in PACKAGES[extra]]
    checks += check_clashes(_installed_requirements())
    if profile != "workstation":
        checks += [check_rclpy(), check_discovery(os.environ)]
    if profile == "demo":
        checks.append(check_rendering(os.environ.get("MUJOCO_GL")))
    checks += [check_disk(path, DEMO_DISK_GIB if profile == "demo" else FREE_DISK_GIB), check_cpu()]
    if profile == "workstation":
        checks.append(check_gpu())
    return checks


def check_python(version: Sequence[int]) -> Check:
    """Compare the (major, minor) of this Python with what the packages support."""
    lowest, beyond = PYTHON_RANGE
    found = ".".join(str(part) for part in version)
    if lowest <= tuple(version) < beyond:
        return Check("python", "ok", found)
    return Check("python", "missing", found, "use Python 3.10 to 3.14, for example python3.11 -m venv .venv")


def check_package(name: str, extra: str) -> Check:
    """Look one distribution up in this environment."""
    found = version_of(name)
    if found is not None:
        return Check(name, "ok", found)
    where = INSTALL.format(extra=extra).replace("[]", "")
    return Check(name, "missing", "not installed", where)


def version_of(name: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def check_clashes(requirements: dict[str, str]) -> list[Check]:
    """Name packages that are known to break each other in one environment.

    Args:
        requirements: What each installed distribution that matters demands of torch.
    """
    checks = []
    torch = version_of("torch")
    wanted = requirements.get("torchvision", "")
    if torch and wanted.startswith("torch==") and not torch.startswith(wanted.removeprefix("torch==")):
        cure = "tacit does not use torchvision: pip uninstall torchvision"
        checks.append(Check("torchvision", "missing", f"built for {wanted}, here is torch {torch}", cure))
    doubles = [name for name in ("opencv-python", "opencv-contrib-python") if version_of(name)]
    if doubles:
        cure = f"pip uninstall {' '.join(doubles)}; pip install --force-reinstall opencv-python-headless"
        checks.append(Check("cv2", "note", f"{doubles[0]} overwrites opencv-python-headless", cure))
    kilted = (version_of("ros-rclpy") or "").startswith(KILTED_RCLPY)
    if kilted and version_of("ros-jazzy-rclpy"):
        cure = "use one environment per distro: python3 -m venv, then the wheels of one"
        checks.append(Check("ros distros", "missing", "Kilted and Jazzy wheels side by side", cure))
    return checks


def check_rclpy() -> Check:
    """Create a node on the loopback in a process of its own."""
    try:
        answer = probes.ask(probes.RCLPY, {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"})
    except probes.ProbeError as error:
        cure = f"source /opt/ros/<distro>/setup.bash, or {INSTALL.format(extra='ros')}"
        return Check("rclpy", "missing", str(error), cure)
    wheel = version_of("ros-rclpy")
    origin = f"wheel {wheel}" if wheel and sys.prefix in answer["file"] else answer["file"]
    return Check("rclpy", "ok", f"{origin}, {answer['rmw']}, node in {answer['seconds']:.1f} s")


def check_discovery(environment: Mapping[str, str]) -> Check:
    """Say who can see, and command, the robot's topics."""
    range_ = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "")
    domain = environment.get("ROS_DOMAIN_ID", "0")
    if range_ == "OFF":
        return Check(
            "ROS discovery", "missing", "OFF: nodes of this host do not meet", "unset it or LOCALHOST"
        )
    if range_ in ("", "LOCALHOST"):
        stated = "LOCALHOST" if range_ else "not set: tacit nodes use LOCALHOST"
        return Check("ROS discovery", "ok", f"{stated}, domain {domain}")
    cure = "export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST unless other hosts must join"
    return Check("ROS discovery", "note", f"{range_}: hosts on it can command the robot", cure)


def check_rendering(backend: str | None) -> Check:
    """Render a red box without a screen, by the chosen GL backend or the first that works."""
    complaints = []
    for candidate in [backend] if backend else ["egl", "osmesa"]:
        try:
            answer = probes.ask(probes.RENDER, {"MUJOCO_GL": candidate})
        except probes.ProbeError as error:
            complaints.append(f"{candidate}: {error}")
            continue
        if answer["red_pixels"] > 100:
            return Check("rendering", "ok", f"MUJOCO_GL={candidate}, {answer['ms']:.1f} ms for 160x120")
        complaints.append(f"{candidate}: rendered an empty image")
    return Check("rendering", "missing", "; ".join(complaints), GL_INSTALL)


def check_disk(path: Path, wanted_gib: float) -> Check:
    """Compare the free space under `path` with what recordings take."""
    free = shutil.disk_usage(path).free / 2**30
    if free >= wanted_gib:
        return Check("disk", "ok", f"{free:.0f} GiB free")
    return Check("disk", "note", f"{free:.1f} GiB free", f"{wanted_gib:.0f} GiB let you record without worry")


def check_cpu() -> Check:
    """Say how many CPUs this process may use."""
    cpus = len(os.sched_getaffinity(0))
    if cpus >= 2:
        return Check("cpu", "ok", f"{cpus} threads")
    return Check("cpu", "note", "1 thread", "the simulator and a node at once want two")


def check_gpu() -> Check:
    """Ask torch for its devices; training works without one, slower."""
    try:
        gpus = probes.ask(probes.TORCH)["gpus"]
    except probes.ProbeError as error:
        return Check("gpu", "note", str(error), "torch did not start; reinstall the learning extra")
    if gpus:
        return Check("gpu", "ok", ", ".join(gpus))
    return Check("gpu", "note", "none: training runs on the CPU", "a GPU needs a CUDA build of torch")


def _installed_requirements() -> dict[str, str]:
    """Return what torchvision asks of torch, as 'torch==2.13.0'; empty when it is not installed."""
    try:
        wanted: Iterable[str] = importlib.metadata.requires("torchvision") or ()
    except importlib.metadata.PackageNotFoundError:
        return {}
    pins = [line.replace(" ", "") for line in wanted if line.startswith("torch")]
    return {"torchvision": pins[0]} if pins else {}


def _print_table(profile: Profile, checks: list[Check]) -> None:
    from rich.console import Console
    from rich.table import Table

    colour = {"ok": "green", "note": "yellow", "missing": "red"}
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    table = Table(title=f"tacit doctor, profile {profile}", box=None, title_justify="left")
    for heading in ("", "what", "found"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        table.add_row(f"[{colour[check.state]}]{check.state}[/]", check.name, check.found)
    console.print(table)
    for check in (check for check in checks if check.state != "ok"):
        console.print(f"{check.name}: {check.cure}", markup=False)
    missing = sum(check.state == "missing" for check in checks)
    console.print(f"{missing} missing" if missing else "nothing required is missing")
