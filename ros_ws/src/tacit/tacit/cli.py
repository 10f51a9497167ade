"""The command line: `tacit <verb> ...`, a table of verbs that are imported only when called.

Verbs name other packages as strings, so the core never imports them; a verb may have two words. Each
is a function `main(argv) -> exit code`: 0 done, 1 done and the answer is no, 2 the user has something
to mend.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tacit import __version__
from tacit.errors import MissingDependencyError, TacitError, did_you_mean

HELP = {"-h", "--help"}
EXIT_OK, EXIT_NO, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


FIRST_DAY = """\
usage: tacit <verb> [options]

The first day:
  tacit doctor                               what this machine misses, and the cure
  tacit demo --quick                         the whole loop in the simulated cell, with tiny numbers
  tacit rig new my_robot --from ur5e         a rig file for your robot; then: tacit rig check my_robot.yaml
  tacit up record --rig my_robot.yaml --desk record demonstrations, with a page for the operator
  tacit check data                           what was recorded, and what to look at first

tacit --help lists all verbs; tacit <verb> --help says more.
"""


class Verb(NamedTuple):
    """One word of the command line: where it lives, what it is for, and its options, `module:Class`, where
    the verb itself takes seconds to import: its help is shown without it."""

    target: str
    help: str
    group: str
    options: str = ""


VERBS: dict[str, Verb] = {
    "doctor": Verb("tacit.tools.doctor:main", "check this machine, or (--rig) a running robot", "Start"),
    "doctor vace_e": Verb(
        "tacit_learning.vace_e.plan_command:main", "estimate what a run of VACE-E needs", "Learn"
    ),
    "demo": Verb("tacit_ros.demo.main:main", "record, train, export and act in the simulated cell", "Start"),
    "up": Verb(
        "tacit_ros.run.up:main", "start a stack of ROS 2 nodes: simulate, record, policy, ...", "Collect"
    ),
    "record": Verb("tacit_ros.run.record_client:main", "start, stop, redo or discard an episode", "Collect"),
    "teleop": Verb("tacit_ros.run.teleop_keys:main", "move the robot with the keys of a terminal", "Collect"),
    "simulate": Verb("tacit_sim.cli:simulate", "write scripted demonstrations without ROS", "Collect"),
    "simulate videos": Verb(
        "tacit.tools.bench:simulate_videos", "write demonstrations of the cell as video data", "Learn"
    ),
    "simulate vace_e": Verb(
        "tacit.tools.bench:simulate_vace_e", "draw a small video data set of hands and blocks", "Learn"
    ),
    "calibrate": Verb(
        "tacit_calibration.cli:main", "calibrate cameras, tactile sensors and gripper", "Collect"
    ),
    "episodes": Verb(
        "tacit.tools.episodes:main", "list, label, trim, split, merge, copy, delete, restore", "Collect"
    ),
    "recompute-boxes": Verb(
        "tacit.tools.mend:main_recompute", "bring recorded episodes to a new calibration", "Collect"
    ),
    "convert": Verb(
        "tacit.convert.command:main", "turn data sets of others into episodes, and back", "Collect"
    ),
    "rig new": Verb(
        "tacit.convert.rig_new:main", "begin a rig file: after a shipped one, a data set, a robot", "Start"
    ),
    "rig check": Verb("tacit.tools.rig_check:main", "say what is wrong in a rig file, by line", "Start"),
    "rig show": Verb("tacit.view.rig_page:main", "draw a rig: arm, cameras, tactile sensors", "Start"),
    "convert vace_e": Verb("tacit.convert.vace_e:main", "turn episodes into video data for VACE-E", "Learn"),
    "check": Verb("tacit.tools.check:main", "check episodes: structure, time, images, boxes", "Look"),
    "check vace_e": Verb(
        "tacit_learning.vace_e.data.data_check:main",
        "check a video data set",
        "Look",
        "tacit_learning.vace_e.arguments:CheckArguments",
    ),
    "check labels": Verb(
        "tacit_learning.vace_e.data.label_check:main",
        "labels of a video data set, equal however read",
        "Look",
        "tacit_learning.vace_e.arguments:CheckLabels",
    ),
    "check progress": Verb(
        "tacit.tools.check_progress:main", "rank episodes: hesitation, retries, likely failures", "Look"
    ),
    "recover": Verb("tacit.tools.mend:main_recover", "make an interrupted recording readable", "Look"),
    "view": Verb("tacit.view.cli:main", "write a page that shows an episode, boxes included", "Look"),
    "view alignment": Verb(
        "tacit_learning.alignment.commands.view_alignment:main",
        "plots and overlay videos of an alignment run",
        "Look",
        "tacit_learning.alignment.arguments:ViewAlignment",
    ),
    "view touch": Verb(
        "tacit_learning.act_hsa.view_touch:main",
        "where a trained policy takes touch to be",
        "Look",
        "tacit_learning.act_hsa.arguments:ViewTouch",
    ),
    "view progress": Verb(
        "tacit.view.progress_video:main", "run a progress bundle over an episode and film it", "Look"
    ),
    "convert annotations": Verb(
        "tacit_learning.alignment.commands.data:convert_annotations",
        "read step annotations of other formats, or of our episodes",
        "Learn",
    ),
    "annotate": Verb(
        "tacit_learning.annotate.command:main",
        "label the steps of two episodes on a page, and bring them to the rest",
        "Learn",
    ),
    "simulate alignment": Verb(
        "tacit.tools.bench:simulate_alignment",
        "make a synthetic set whose true progress is known at every frame",
        "Learn",
    ),
    "simulate kinematics": Verb(
        "tacit.tools.bench:simulate_kinematics",
        "draw robot kinematics with step labels, as MS-TCN's files",
        "Learn",
    ),
    "train": Verb("tacit_learning.cli:train", "train a policy or a progress model", "Learn"),
    "evaluate alignment": Verb(
        "tacit_learning.alignment.commands.evaluate_alignment:main",
        "score an alignment model beside simple baselines",
        "Learn",
        "tacit_learning.alignment.arguments:EvaluateAlignment",
    ),
    "evaluate progress": Verb(
        "tacit_learning.alignment.commands.evaluate_progress:main",
        "judge done, failure and progress on whole episodes; fit the thresholds",
        "Learn",
        "tacit_learning.alignment.arguments:EvaluateProgress",
    ),
    "sample vace_e": Verb(
        "tacit_learning.vace_e.commands:sample",
        "generate videos with a trained model",
        "Learn",
        "tacit_learning.vace_e.arguments:SampleArguments",
    ),
    "evaluate vace_e": Verb(
        "tacit_learning.vace_e.commands:evaluate",
        "measure a trained video model: loss, videos, probes",
        "Learn",
        "tacit_learning.vace_e.arguments:EvaluateArguments",
    ),
    "study control": Verb(
        "tacit.tools.bench:study_control", "does a drawn hand follow the motion it is told?", "Learn"
    ),
    "export signals": Verb(
        "tacit_learning.alignment.commands.export_signals:main",
        "write progress as rewards and weights to parquet",
        "Learn",
        "tacit_learning.alignment.arguments:ExportSignals",
    ),
    "export": Verb("tacit_learning.cli:export", "pack a checkpoint into one self-describing ONNX", "Learn"),
    "study touch": Verb(
        "tacit_sim.study.command:main",
        "policies with and without touch: train, play the same starts, compare",
        "Learn",
    ),
    "evaluate": Verb("tacit_sim.evaluate:main", "count how often a bundle succeeds in the cell", "Act"),
    "replay": Verb("tacit_ros.run.up:replay", "do again what an episode commanded, robot or cell", "Act"),
    "replay bundle": Verb(
        "tacit.view.replay_page:main", "run a policy over a recording: error by horizon, a page", "Look"
    ),
    "run": Verb("tacit_ros.run.up:run", "run a policy bundle on the robot", "Act"),
    "bench": Verb("tacit.tools.bench:main", "measure speeds on this machine", "Look"),
}

# Which extra brings a library, for the message when its import fails.
_LIBRARIES = {
    "ros": "rclpy builtin_interfaces diagnostic_msgs geometry_msgs rcl_interfaces rosgraph_msgs sensor_msgs "
    "std_msgs std_srvs trajectory_msgs tacit_ros",
    "bags": "rosbags apsw",
    "zarr": "zarr numcodecs",
    "rerun": "rerun",
    "desk": "aiohttp",
    "sim": "mujoco tacit_sim",
    "calibration": "scipy tacit_calibration",
    "learning": "torch accelerate transformers safetensors onnx onnxscript tensorboard numba sklearn "
    "tacit_learning",
    "lerobot": "av pyarrow",
    "vace_e": "diffusers ftfy peft sentencepiece",
    "dev": "psutil",
}
_CURES = {
    errno.ENOENT: "give one that exists",
    errno.EACCES: "choose another, or change who may use it",
    errno.EPERM: "choose another, or change who may use it",
    errno.EROFS: "choose a place that can be written",
    errno.EISDIR: "give the name of a file",
    errno.ENOTDIR: "a part of that path is a file; give a name in a folder",
    errno.ENOSPC: "free some space and run it again",
    errno.EDQUOT: "free some space and run it again",
    errno.EMFILE: "raise the limit of open files: ulimit -n 4096",
}
"""What to do about what the system refuses."""
EXTRA_OF = {library: extra for extra, names in _LIBRARIES.items() for library in names.split()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: The words after `tacit`; those of the process when left out.

    Returns:
        0, 1 or 2 as the module says; 130 after ctrl-c.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        sys.stdout.write(FIRST_DAY)
        return EXIT_USAGE
    if words[0] in ("-h", "--help", "help"):
        _print_help()
        return EXIT_OK
    if words[0] in ("-V", "--version"):
        print(f"tacit {__version__}")
        return EXIT_OK
    verb, rest = _split(words)
    try:
        if HELP & set(rest) and verb in VERBS and VERBS[verb].options:
            _show_options(verb, rest)
        return resolve(verb)(rest)
    except ModuleNotFoundError as error:
        return _fail(str(_explain(verb, error)))
    except TacitError as error:
        return _fail(str(error))
    except BrokenPipeError:  # whoever read our output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as error:
        return _fail(_disk_words(verb, error))
    except KeyboardInterrupt:
        return _fail("interrupted", EXIT_INTERRUPTED)


def _show_options(verb: str, words: list[str]) -> None:
    """Print the help of a verb without importing the verb, and end."""
    from tacit.config.arguments import parse_words

    module, _, name = VERBS[verb].options.partition(":")
    options: type[object] = getattr(importlib.import_module(module), name)
    parse_words(options, words, f"tacit {verb}")


def _split(words: list[str]) -> tuple[str, list[str]]:
    """Take the verb off `words`: two words where the table has both, such as `evaluate alignment`."""
    both = " ".join(words[:2])
    return (both, words[2:]) if both in VERBS else (words[0], words[1:])


def resolve(verb: str) -> Callable[[list[str]], int]:
    """Import the function behind `verb`.

    Raises:
        TacitError: There is no such verb; the message names close ones.
        ModuleNotFoundError: A library that the verb needs is not installed.
    """
    longer = [name for name in VERBS if name.startswith(f"{verb} ")]
    if verb not in VERBS and longer:
        commands = ", ".join(f"`tacit {name}`" for name in longer)
        raise TacitError(f"tacit {verb}: one more word says what to {verb}; type one of {commands}")
    if verb not in VERBS:
        raise TacitError(f"tacit {verb}: no such verb; {did_you_mean(verb, VERBS)} (tacit --help lists all)")
    return load_target(VERBS[verb].target)


def load_target(target: str) -> Callable[[list[str]], int]:
    """Import `module:function` and return the function."""
    module, _, function = target.partition(":")
    return getattr(importlib.import_module(module), function)


def _explain(verb: str, error: ModuleNotFoundError) -> MissingDependencyError:
    """Name the extra that brings the missing library; a module that no extra brings is our own bug."""
    library, _, inside = (error.name or "").partition(".")
    extra = EXTRA_OF.get(library)
    if extra is None or (inside and library.startswith("tacit")):
        raise error
    return MissingDependencyError(
        f"tacit {verb}: {error.name} is not installed here; install the extra that brings it, in the root "
        f"of the repository: pip install -c constraints.txt -e '.[{extra}]' (tacit doctor lists all)"
    )


def _disk_words(verb: str, error: OSError) -> str:
    """Say which file the system refused, and why; what may be missing, full, or of another kind."""
    places = " -> ".join(str(place) for place in (error.filename, error.filename2) if place)
    cure = _CURES.get(error.errno or 0, "look at its name, its kind and who may use it")
    return f"tacit {verb}: {places or 'a file'}: {error.strerror or error}; {cure}"


def _fail(message: str, code: int = EXIT_USAGE) -> int:
    print(message, file=sys.stderr)
    return code


def _print_help() -> None:
    """Print the verbs in their groups, in the order of a day's work."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"[bold]tacit[/] {__version__}  from touching a robot to deploying a touch-aware policy\n")
    console.print("usage: tacit [bold]<verb>[/] \\[options]     tacit <verb> --help says more\n")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column()
    for group in ("Start", "Collect", "Look", "Learn", "Act"):
        members = [(name, verb) for name, verb in VERBS.items() if verb.group == group]
        for row, (name, verb) in enumerate(members):
            table.add_row(group if row == 0 else "", name, verb.help)
    console.print(table)


if __name__ == "__main__":
    raise SystemExit(main())
