"""Before a stack is started: what its files and names already say that would end a node at once.

The nodes check all of it again, and more. Here it costs no process, and the answer is one sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from tacit.bundle import load_bundle
from tacit.bundle.binding import bind
from tacit.config.arguments import Writes
from tacit.episode import EpisodeReader
from tacit.errors import BundleError, ConfigError, EpisodeError
from tacit.rig import Rig, load_rig
from tacit.rig.topics import name_problem
from tacit_ros.run.nodes import NodeSpec
from tacit_ros.run.stacks import Stack


def require_ready(stack: Stack) -> None:
    """Refuse a stack that cannot run.

    Raises:
        TacitError: A name that ROS does not take, a bundle or an episode that is none or of another robot, a
            folder in which nothing can be written.
    """
    rig = load_rig(stack.rig)
    for node in stack.nodes:
        require_name("--namespace", f"/{node.namespace.strip('/')}" if node.namespace else "/ok")
        for key, look in LOOKS.items():
            if text := str(node.parameters.get(key, "")):
                look(node, text, rig)


def require_name(flag: str, name: str) -> None:
    """Refuse what is no name of a node or topic.

    Raises:
        ConfigError: Other characters than ROS allows.
    """
    if problem := name_problem(name):
        raise ConfigError(f"{flag} {name!r}: no name that ROS takes; {problem}")


def _bundle(node: NodeSpec, text: str, rig: Rig) -> None:
    manifest = load_bundle(text).manifest
    wanted = "progress" if node.name == "progress" else "act_hsa"
    if manifest.kind != wanted:
        raise BundleError(f"{text}: kind is {manifest.kind!r}; the node {node.name} takes {wanted!r}")
    if wanted == "act_hsa":
        bind(manifest, rig)


def _episode(node: NodeSpec, text: str, rig: Rig) -> None:
    if not Path(text).is_file():
        raise EpisodeError(f"{text}: no such file; give the path of a recording (.hdf5)")
    with EpisodeReader(text) as reader:
        names = reader.state_names
    if set(names) != set(rig.state_names):
        raise EpisodeError(
            f"{text}: recorded with the joints {', '.join(names)}; rig {rig.name} has "
            f"{', '.join(rig.state_names)}; give the rig it was recorded with"
        )


def _root(node: NodeSpec, text: str, rig: Rig) -> None:
    if problem := Writes("folder").problem(Path(text)):
        raise ConfigError(f"{node.name}: root={text}: {problem}")


LOOKS: Mapping[str, Callable[[NodeSpec, str, Rig], None]] = {
    "bundle": _bundle,
    "episode": _episode,
    "root": _root,
}
"""By parameter: what is looked at."""
