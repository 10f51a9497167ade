"""`tacit export --from-lerobot` and `--from-act`: an ACT policy of others becomes a bundle for a rig."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import Tensor

from tacit.bundle.manifest import ImageInput, Manifest
from tacit.bundle.player import PlayFlags
from tacit.config.arguments import Count, NewFile
from tacit.errors import ConfigError, did_you_mean
from tacit.rig import Rig, is_depth, load_rig
from tacit_learning.export import Exported, export_graph
from tacit_learning.foreign_act.act import HEADS, read_act
from tacit_learning.foreign_act.lerobot import read_lerobot
from tacit_learning.foreign_act.policy import ForeignPolicy, Imported, Scale


@dataclass(frozen=True, kw_only=True)
class ForeignArguments:
    """Pack an ACT policy of LeRobot or of the original ACT code into one ONNX file for your rig.

    The policy must have been trained on this rig's joints, in the units of its rig file, as after
    `tacit convert --to lerobot`.

    Example: tacit export --from-lerobot outputs/act_cube --rig my_rig.yaml --out act_cube.onnx
    """

    out: NewFile
    """File to write, ending in .onnx."""
    rig: str
    """Rig by name or path: whose joints and cameras the policy saw."""
    from_lerobot: Path | None = None
    """Folder of a LeRobot policy: config.json, model.safetensors, its processor files."""
    from_act: Path | None = None
    """Folder of an ACT policy: policy_best.ckpt and dataset_stats.pkl; or the checkpoint."""
    joints: tuple[str, ...] = ()
    """Order of the elements of state and action, where it is not the rig's."""
    cameras: tuple[str, ...] = ()
    """Cameras of the rig for those of the policy, as policy=rig; for ACT the names of the rig alone."""
    grippers: Literal["metres", "normalised"] = "metres"
    """What the policy says of grippers: the opening, or 0 closed to 1 open, as ALOHA does."""
    heads: Count = HEADS
    """Heads of the attention of an ACT policy."""
    play: Annotated[PlayFlags, tyro.conf.arg(name="")] = PlayFlags()


def export_foreign(arguments: ForeignArguments) -> Exported:
    """Write the bundle of a policy of others.

    Raises:
        TacitError: A damaged or unknown policy, one of other joints or cameras than the rig's.
        BundleError: The graph differs from torch by more than 1e-5.
    """
    rig = load_rig(arguments.rig)
    policy = _read(arguments, rig)
    names = arguments.joints or rig.state_names
    _require_joints(policy, names, rig)
    if arguments.grippers == "normalised":
        policy = _in_metres(policy, names, rig)
    graph = ForeignPolicy(policy).eval()
    manifest = _manifest(policy, names, rig, arguments.play)
    inputs = ["state", *(_input_name(name, rig) for name in policy.pictures)]
    return export_graph(graph, manifest, inputs, ["chunk"], arguments.out)


def _read(arguments: ForeignArguments, rig: Rig) -> Imported:
    """Return the policy; its pictures under the names of the rig."""
    if (arguments.from_lerobot is None) == (arguments.from_act is None):
        raise ConfigError("tacit export: give one of --from-lerobot and --from-act")
    if arguments.from_act is not None:
        colours = [name for name, spec in rig.cameras.items() if not is_depth(spec)]
        cameras = {name: _size(name, rig) for name in arguments.cameras or colours}
        return read_act(arguments.from_act, cameras, arguments.heads)
    assert arguments.from_lerobot is not None
    policy = read_lerobot(arguments.from_lerobot)
    pairs = dict(_pair(word) for word in arguments.cameras)
    for name in pairs:
        if name not in policy.pictures:
            hint = did_you_mean(name, policy.pictures)
            raise ConfigError(f"--cameras {name}=...: the policy reads no {name!r}; {hint}")
    pictures = {pairs.get(name, name): item for name, item in policy.pictures.items()}
    for name in pictures:
        _size(name, rig)
    if len(pictures) < len(policy.pictures):
        raise ConfigError("--cameras: one camera of the rig stands for two of the policy")
    return replace(policy, pictures=pictures)


def _pair(word: str) -> tuple[str, str]:
    name, equals, ours = word.partition("=")
    if not (name and equals and ours):
        raise ConfigError(f"--cameras {word}: expected policy=rig, such as top=front")
    return name, ours


def _size(name: str, rig: Rig) -> tuple[int, int]:
    """Return (height, width) of a colour camera or sensor of the rig [px]."""
    if name not in rig.images:
        hint = did_you_mean(name, rig.images)
        raise ConfigError(f"rig {rig.name}: no camera or sensor {name!r} ({hint}); name its own by --cameras")
    spec = rig.images[name]
    if is_depth(spec):
        raise ConfigError(f"rig {rig.name}: {name} is a depth camera; such a policy reads colours")
    return spec.height, spec.width


def _require_joints(policy: Imported, names: Sequence[str], rig: Rig) -> None:
    if sorted(names) != sorted(rig.state_names):
        raise ConfigError(f"--joints {' '.join(names)}: expected each once of {', '.join(rig.state_names)}")
    shape = policy.network.shape
    for label, count in (("state", shape.state), ("action", shape.action)):
        if count != len(names):
            raise ConfigError(
                f"the policy has {count} elements of {label}, rig {rig.name} has {len(names)}: "
                f"{', '.join(names)}; give the rig that it was trained on"
            )
    sizes = {len(s) for s in (policy.state_min, policy.state_max)}
    for scale in (policy.state, policy.action):
        sizes |= {len(part) for part in (scale.offset, scale.divisor)} - {1}
    if sizes != {len(names)}:
        raise ConfigError(
            f"the statistics of the policy are of {sorted(sizes)} elements, expected {len(names)}"
        )


def _in_metres(policy: Imported, names: Sequence[str], rig: Rig) -> Imported:
    """Return a policy of which grippers are in metres, where it was trained on shares of their range.

    With u = (q - lower) / (upper - lower), (u - offset) / divisor is again such a map of q.
    """
    low, reach = torch.zeros(len(names)), torch.ones(len(names))
    for index in (names.index(rig.state_names[i]) for i in rig.gripper_indices):
        gripper = rig.joint(names[index])
        low[index], reach[index] = gripper.lower, gripper.upper - gripper.lower

    def stretched(scale: Scale) -> Scale:
        return Scale(low + scale.offset * reach, scale.divisor * reach, scale.factor * reach)

    return replace(
        policy,
        state=stretched(policy.state),
        action=stretched(policy.action),
        state_min=low + policy.state_min * reach,
        state_max=low + policy.state_max * reach,
    )


def _manifest(policy: Imported, names: Sequence[str], rig: Rig, play: PlayFlags) -> Manifest:
    chunk = policy.network.shape.chunk
    inputs: dict[str, ImageInput] = {}
    for name, (_, (height, width)) in policy.pictures.items():
        stored = _size(name, rig)
        inputs[name] = ImageInput(
            height=height, width=width, source_height=stored[0], source_width=stored[1], mode="squash"
        )
    return Manifest(
        kind="act_hsa",
        rig_name=rig.name,
        rig_id=rig.rig_id,
        calibration_id=rig.calibration_id,
        calibration=rig.calibration,
        state_names=tuple(names),
        action_names=tuple(names),
        cameras={name: item for name, item in inputs.items() if name in rig.cameras},
        touch={name: item for name, item in inputs.items() if name in rig.gels},
        chunk_size=chunk,
        rate_hz=rig.alignment.rate_hz,
        state_min=_floats(policy.state_min),
        state_max=_floats(policy.state_max),
        play=play.applied(policy.play, chunk),
        train=dict(policy.told),
    )


def _input_name(name: str, rig: Rig) -> str:
    return f"image.{name}" if name in rig.cameras else f"touch.{name}"


def _floats(values: Tensor) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
