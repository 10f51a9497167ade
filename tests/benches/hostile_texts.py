"""Hostile texts: YAML, JSON, URDF and tables that grow, go deep, or name what is not theirs."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml

from benches.hostile_cases import MB, SECRET, Case, case
from tacit.config import load_json
from tacit.config.documents import json_of, yaml_of
from tacit.record.samples import load_samples
from tacit.rig import RIGS_FOLDER, load_rig
from tacit_calibration.lens_files import read_lens
from tacit_calibration.samples import picture, read_table
from tacit_learning.data.annotation_files import load_annotation_set, load_features
from tacit_learning.data.annotation_importers import lerobot
from tacit_learning.data.annotation_importers.common import ImportOptions


def bomb(levels: int = 9, width: int = 10) -> str:
    """YAML lines whose last anchor `a<levels>` stands for width ** levels values."""
    lines = [f"a0: &a0 [{', '.join(['x'] * width)}]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * width)}]" for i in range(1, levels + 1)]
    return "\n".join(lines) + "\n"


def merged(i: int) -> str:
    """A mapping that takes nine times all of the one before."""
    return f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n"


# --- YAML and JSON --------------------------------------------------------------------------------


def rig_with(text: str | bytes) -> Case:
    """A rig file of this content."""

    def make(folder: Path) -> Callable[[], object]:
        path = folder / "rig.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return lambda: load_rig(path)

    return make


def changed_rig(*keys: str, value: object) -> Case:
    """The simulated rig with another value at a key path."""

    def make(folder: Path) -> Callable[[], object]:
        data = yaml.safe_load((RIGS_FOLDER / "nova2_sim.yaml").read_text())
        node = data
        for key in keys[:-1]:
            node = node[key]
        node[keys[-1]] = value
        return rig_with(yaml.safe_dump(data))(folder)

    return make


def rig_text(old: str, new: str) -> Case:
    """The simulated rig with some of its text replaced."""
    text = (RIGS_FOLDER / "nova2_sim.yaml").read_text()
    assert old in text
    return rig_with(text.replace(old, new, 1))


case("yaml: aliases of aliases", "stands for more than")(rig_with(bomb()))
case("yaml: aliases as camera matrix K", "stands for more than")(
    rig_with(bomb() + "cameras: {wrist: {K: *a9}}\n")
)
case("yaml: an alias inside itself", "inside what it names")(rig_with("a: &a [*a, *a]\n"))
case("yaml: merge keys of merge keys", "stands for more than")(
    rig_with(
        "a0: &a0 {x: 1}\n"
        + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12))
    )
)
case("yaml: a list in a list, 100,000 deep", "nested deeper")(rig_with("a: " + "[" * 100_000))
case("yaml: a mapping in a mapping, 100,000 deep", "nested deeper")(rig_with("{a: " * 100_000))
case("yaml: 50 MB of text", "larger than 4 MB")(rig_with("a: " + "x" * (50 * MB)))
case("yaml: a million empty lists", "stands for more than")(rig_with("a: [" + "[]," * 1_000_000 + "]"))
case("yaml: a million names", "stands for more than")(rig_with("\n".join(f"k{i}: 1" for i in range(300_000))))
case("yaml: a number of a million digits", "not valid YAML")(rig_with("width: " + "9" * 1_000_000))
case("yaml: the 99th of month 99", "not valid YAML")(rig_with("date: 2024-99-99"))
case("yaml: 20,000 unknown keys", "and 199")(rig_with("\n".join(f"k{i}: 1" for i in range(20_000))))
case("yaml: a key of 1 MB", "unknown key")(rig_with("? " + "k" * MB + "\n: 1\n"))
case("yaml: a tag that runs code", "not valid YAML")(
    rig_with('a: !!python/object/apply:os.system ["echo ' + SECRET + '"]')
)
case("yaml: bytes that are no text", "not utf-8 text")(rig_with(b"name: \xff\xfe\x00"))
case("yaml: mapping as K", "three rows of three numbers")(
    changed_rig("cameras", "wrist", "K", value={"a": 1})
)
case("yaml: date as transform", "T_parent_camera: transform: expected numbers")(
    rig_text("T_parent_camera:", "T_parent_camera: 2024-01-01\n    x:")
)
case("yaml: infinite rate", "rate_hz")(changed_rig("cameras", "wrist", "rate_hz", value=float("inf")))
case("yaml: 1e300 frames a second", "rate_hz")(changed_rig("cameras", "wrist", "rate_hz", value=1e300))
case("yaml: camera a million pixels wide", "cameras.wrist.width")(
    changed_rig("cameras", "wrist", "width", value=10**6)
)


@case("yaml: a pipe that nobody writes to", "not a regular file")
def pipe(folder: Path) -> Callable[[], object]:
    os.mkfifo(folder / "rig.yaml")
    return lambda: load_rig(folder / "rig.yaml")


@case("json: 100,000 deep", "nested too deeply")
def deep_json(folder: Path) -> Callable[[], object]:
    (folder / "labels.json").write_text("[" * 100_000)
    return lambda: load_json(folder / "labels.json")


@case("json: 60 MB of empty lists", "larger than 6 MB")
def wide_json(folder: Path) -> Callable[[], object]:
    (folder / "labels.json").write_text("[" + "[]," * (20 * MB) + "[]]")
    return lambda: load_json(folder / "labels.json")


@case("json: 6 MB of empty lists, in full", "expected a mapping")
def allowed_json(folder: Path) -> Callable[[], object]:
    (folder / "labels.json").write_text("[" + "[]," * (6 * MB // 3 - 8) + "[]]")
    return lambda: load_json(folder / "labels.json")


@case("json: a number of a million digits", "not valid JSON")
def long_json(folder: Path) -> Callable[[], object]:
    return lambda: json_of("9" * 1_000_000, "text")


# --- paths ----------------------------------------------------------------------------------------


def urdf_rig(folder: Path, urdf: str) -> Callable[[], object]:
    """The shipped UR5e with another `urdf:`; the secret lies beside the rig's folder."""
    (folder / "secret.txt").write_text(SECRET)
    (folder / "rig").mkdir()
    text = (RIGS_FOLDER / "ur5e.yaml").read_text().replace("urdf: ur5e.urdf", f"urdf: {urdf}")
    (folder / "rig/rig.yaml").write_text(text)
    return lambda: load_rig(folder / "rig/rig.yaml")


case("path: urdf: /etc/passwd", "leads out of the folder")(lambda folder: urdf_rig(folder, "/etc/passwd"))
case("path: urdf: /etc/shadow", "leads out of the folder")(lambda folder: urdf_rig(folder, "/etc/shadow"))
case("path: urdf: /dev/zero", "leads out of the folder")(lambda folder: urdf_rig(folder, "/dev/zero"))
case("path: urdf: ../secret.txt", "leads out of the folder")(lambda folder: urdf_rig(folder, "../secret.txt"))
case("path: urdf with a NUL", "leads out of the folder")(lambda folder: urdf_rig(folder, '"a\\0b"'))


@case("path: urdf is a link out of the folder", "leads out of the folder")
def link_out(folder: Path) -> Callable[[], object]:
    read = urdf_rig(folder, "arm.urdf")
    (folder / "rig/arm.urdf").symlink_to(folder / "secret.txt")
    return read


@case("path: urdf through a linked folder", "leads out of the folder")
def folder_link(folder: Path) -> Callable[[], object]:
    read = urdf_rig(folder, "meshes/secret.txt")
    (folder / "rig/meshes").symlink_to(folder)
    return read


@case("path: links in a circle", "leads out of the folder")
def link_loop(folder: Path) -> Callable[[], object]:
    read = urdf_rig(folder, "arm.urdf")
    (folder / "rig/arm.urdf").symlink_to("arm.urdf")
    return read


@case("path: urdf in the folder is a text of others", "is no URDF")
def no_urdf(folder: Path) -> Callable[[], object]:
    read = urdf_rig(folder, "notes.txt")
    (folder / "rig/notes.txt").write_text(SECRET)
    return read


@case("path: samples.yaml names ../secret.txt", "leads out of the folder")
def sample_out(folder: Path) -> Callable[[], object]:
    (folder / "secret.txt").write_text(SECRET)
    (folder / "s").mkdir()
    entry = "{image: ../secret.txt, q: [0, 0]}"
    (folder / "s/samples.yaml").write_text(f"arm: arm\njoint_names: [a, b]\nsamples: [{entry}]\n")
    return lambda: picture(folder / "s", load_samples(folder / "s").samples[0])


@case("path: annotations name ../secret.npy", "leads out of the folder")
def features_out(folder: Path) -> Callable[[], object]:
    (folder / "set").mkdir()
    np.save(folder / "secret.npy", np.zeros((4, 2), np.float32))
    return _features(folder / "set", "../secret.npy")


# --- URDF -----------------------------------------------------------------------------------------


def urdf_of(text: str) -> Case:
    """A rig whose URDF is this text."""

    def make(folder: Path) -> Callable[[], object]:
        read = urdf_rig(folder, "arm.urdf")
        (folder / "rig/arm.urdf").write_text(text)
        return read

    return make


ENTITIES = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10))
case("urdf: entities of entities", "DOCTYPE")(
    urdf_of(f'<!DOCTYPE r [<!ENTITY e0 "lol">{ENTITIES}]><robot name="r">&e9;</robot>')
)
case("urdf: entity of another file", "DOCTYPE")(
    urdf_of('<!DOCTYPE r [<!ENTITY e SYSTEM "file:///etc/passwd">]><robot name="r">&e;</robot>')
)
case("urdf: 300,000 deep", "deeper than 32")(urdf_of('<robot name="r">' + "<a>" * 300_000))
case("urdf: a million elements", "more than 100000 elements")(
    urdf_of('<robot name="r">' + "<a/>" * 1_000_000 + "</robot>")
)
case("urdf: 60 MB", "larger than 4 MB")(urdf_of('<robot name="r">' + " " * (60 * MB) + "</robot>"))


# --- tables and arrays ----------------------------------------------------------------------------


@case("csv: one field of 1 MB", "no CSV")
def long_field(folder: Path) -> Callable[[], object]:
    (folder / "clicks.csv").write_text("a,b\n" + "x" * MB + ",1\n")
    return lambda: list(read_table(folder / "clicks.csv", ("a", "b"), "click some"))


@case("csv: 100 MB", "larger than 64 MB")
def long_table(folder: Path) -> Callable[[], object]:
    (folder / "clicks.csv").write_text("a,b\n" + "1,2\n" * (25 * MB))
    return lambda: list(read_table(folder / "clicks.csv", ("a", "b"), "click some"))


@case("camera_info: aliases of aliases", "stands for more")
def camera_info(folder: Path) -> Callable[[], object]:
    (folder / "info.yaml").write_text(bomb())
    return lambda: read_lens(folder / "info.yaml")


@case("samples.yaml: a million samples", "larger than 4 MB")
def many_samples(folder: Path) -> Callable[[], object]:
    lines = "- {image: a.png, q: [0, 0]}\n" * 1_000_000
    (folder / "samples.yaml").write_text("arm: arm\njoint_names: [a, b]\nsamples:\n" + lines)
    return lambda: load_samples(folder)


def _npy(path: Path, shape: tuple[int, ...], dtype: str = "<f4") -> None:
    """A `.npy` file whose header declares this shape, with 64 bytes of data."""
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64))


def _features(folder: Path, features: str) -> Callable[[], object]:
    video = {"name": "v", "num_frames": 4, "features": features}
    video |= {"step": [], "start_frame": [], "end_frame": []}
    (folder / "annotations.json").write_text(
        json.dumps(
            {
                "schema": "tacit-annotations 1",
                "fps": 10.0,
                "background": [],
                "labels": ["a"],
                "videos": [video],
            }
        )
    )

    def read() -> None:
        annotations = load_annotation_set(folder)
        load_features(folder, annotations.videos[0])

    return read


@case("features: 28 GB declared", "cannot be read as an array")
def huge_features(folder: Path) -> Callable[[], object]:
    _npy(folder / "f.npy", (500_000_000, 14))
    return _features(folder, "f.npy")


@case("features: objects (pickle)", "cannot be read as an array")
def pickled(folder: Path) -> Callable[[], object]:
    np.save(folder / "f.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    return _features(folder, "f.npy")


def _lerobot(folder: Path) -> Callable[[], object]:
    (folder / "meta").mkdir(exist_ok=True)
    (folder / "meta/info.json").write_text('{"fps": 30}')
    return lambda: lerobot.read(folder, ImportOptions())


@case("lerobot: episode list 100,000 deep", "nested too deeply")
def deep_lerobot(folder: Path) -> Callable[[], object]:
    read = _lerobot(folder)
    (folder / "meta/episodes.jsonl").write_text("[" * 100_000 + "\n")
    return read


@case("lerobot: 200 million episodes in one table", "200000000 episodes")
def long_lerobot(folder: Path) -> Callable[[], object]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    read = _lerobot(folder)
    (folder / "meta/episodes").mkdir()
    table = pa.table({"episode_index": pa.array(np.zeros(2_000_000, np.int8))})
    with pq.ParquetWriter(folder / "meta/episodes/file.parquet", table.schema) as writer:
        for _ in range(100):
            writer.write_table(table)
    return read


@case("override: aliases of aliases", "stands for more")
def override(folder: Path) -> Callable[[], object]:
    return lambda: yaml_of("{" + bomb().replace("\n", ", ") + "}", "override x")
