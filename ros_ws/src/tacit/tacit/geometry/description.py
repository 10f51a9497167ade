"""Files that describe robots, as ROS users name them: a path, `package://`, a xacro not yet expanded.

xacro runs in a process of its own, for it evaluates expressions, includes files and may never end.
"""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tacit.config.documents import MAX_URDF_BYTES, read_text
from tacit.errors import MissingDependencyError, RigError, TacitError

PACKAGE = "package://"
FOLDERS_VARIABLE = "ROS_PACKAGE_PATH"
PREFIXES_VARIABLE = "AMENT_PREFIX_PATH"
EXPANSION_TIMEOUT_S = 30.0
MAX_EXPANSION_BYTES = 2 << 30
"""The largest public descriptions expand in 2 s and 100 MB; what takes more calls itself."""
NOTE_LINES = 4
COLOUR = re.compile(r"\x1b\[[\d;]*m")

Arguments = Mapping[str, str | float | bool]
"""Arguments of a xacro, as in `xacro FILE prefix:=left_`."""


def read_description(path: Path, arguments: Arguments | None = None) -> str:
    """Return the URDF in a file, expanded if it is a xacro.

    Args:
        path: The file.
        arguments: What the xacro takes; none for a plain URDF.

    Raises:
        RigError: It is missing, no description of a robot, or its xacro fails; the message has the reason.
        MissingDependencyError: It is a xacro, and that package is not installed.
    """
    text = read_text(path, MAX_URDF_BYTES, "URDF", RigError)
    if path.suffix == ".xacro" or "<xacro:" in text:
        text = _expanded(path, arguments or {})
    elif arguments:
        raise RigError(f"{path}: takes no arguments, it is no xacro; found {', '.join(arguments)}")
    if "<robot" not in text:
        raise RigError(f"{path}: is no URDF: it has no <robot> element")
    return text


def in_package(name: str) -> Path:
    """Return the file that `package://name/path/in/it` means.

    Raises:
        RigError: No such package, not that file in it, or a path that leads out of it.
    """
    package, _, inner = name.removeprefix(PACKAGE).partition("/")
    # By its words, not by where links lead: `colcon build --symlink-install` links each file to its source.
    if ".." in Path(inner).parts or Path(inner).is_absolute():
        raise RigError(f"{name}: leads out of the package; expected {PACKAGE}NAME/path/in/it")
    path = package_folder(package) / inner
    if not path.is_file():
        raise RigError(f"{name}: no file {str(path)!r}")
    return path


def package_folder(name: str) -> Path:
    """Return the folder of a ROS package: below $ROS_PACKAGE_PATH, else installed in $AMENT_PREFIX_PATH.

    Raises:
        RigError: It is in neither.
        MissingDependencyError: rospkg, which searches the former, is not installed.
    """
    if folders := _listed(FOLDERS_VARIABLE):
        try:
            import rospkg
        except ImportError:
            raise MissingDependencyError(
                f"${FOLDERS_VARIABLE} is searched by rospkg: pip install rospkg"
            ) from None
        try:
            return Path(rospkg.RosPack(ros_paths=folders).get_path(name))
        except rospkg.ResourceNotFound:
            pass
    for prefix in _listed(PREFIXES_VARIABLE):
        if (folder := Path(prefix) / "share" / name).is_dir():
            return folder
    raise RigError(
        f"{PACKAGE}{name}: no such ROS package below ${FOLDERS_VARIABLE} "
        f"({':'.join(_listed(FOLDERS_VARIABLE)) or 'not set'}) nor in ${PREFIXES_VARIABLE} "
        f"({':'.join(_listed(PREFIXES_VARIABLE)) or 'not set'}); source the workspace, or set "
        f"{FOLDERS_VARIABLE} to the folder that holds the package"
    )


def _listed(variable: str) -> list[str]:
    return [part for part in os.environ.get(variable, "").split(os.pathsep) if part]


def _expanded(path: Path, arguments: Arguments) -> str:
    given = [f"{name}:={_word(value)}" for name, value in arguments.items()]
    if importlib.util.find_spec("xacro") is None:
        by_hand = " ".join(["xacro", str(path), *given, ">", str(path.with_suffix(""))])
        raise MissingDependencyError(f"{path}: to expand it, pip install xacro; or by hand: {by_hand}")
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__, str(path), *given],
            capture_output=True,
            text=True,
            timeout=EXPANSION_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RigError(f"{path}: xacro has not ended after {EXPANSION_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        said = " / ".join(COLOUR.sub("", done.stderr).split("\n")[:NOTE_LINES]).strip(" /")
        raise RigError(f"{path}: xacro says: {said}; arguments given: {' '.join(given) or '(none)'}")
    if len(done.stdout) > MAX_URDF_BYTES:
        raise RigError(f"{path}: expands to more than {MAX_URDF_BYTES >> 20} MB")
    return done.stdout


def _word(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _expand(words: Sequence[str]) -> None:
    """Write the URDF of `FILE [name:=value ...]` to the standard output; in a process of its own."""
    import xacro
    from xacro import substitution_args

    resource.setrlimit(resource.RLIMIT_AS, (MAX_EXPANSION_BYTES, MAX_EXPANSION_BYTES))

    def find(package: str) -> str:
        try:
            return str(package_folder(package))
        except TacitError as problem:
            raise xacro.XacroException(str(problem)) from None

    # $(find ...) asks ament alone, and fails with a traceback where ROS is not installed.
    substitution_args._eval_find = find
    substitution_args._eval_dict["find"] = find
    path, *given = words
    # It says on the standard error what is wrong, and in which of the files it includes.
    sys.stdout.write(xacro.process(path, mappings=dict(word.split(":=", 1) for word in given)))


if __name__ == "__main__":
    _expand(sys.argv[1:])
