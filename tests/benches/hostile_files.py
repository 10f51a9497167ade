"""Hostile episodes, pictures and bundles: they declare what they do not hold, or reach elsewhere."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from benches.hostile_cases import MB, SECRET, Case, case
from benches.hostile_texts import bomb
from tacit.bundle import load_bundle
from tacit.bundle.onnx_file import with_metadata
from tacit.episode import EpisodeReader, check_episode, recover
from tacit.errors import EpisodeError
from tacit.images import decode_image, encode_jpeg

# --- episodes -------------------------------------------------------------------------------------


def episode(fill: Callable[[h5py.File], object], **options: object) -> Case:
    """A file that calls itself an episode, and what is wrong with it."""

    def make(folder: Path) -> Callable[[], object]:
        path = folder / "episode_0.hdf5"
        with h5py.File(path, "w", **options) as file:
            file.attrs.update({"schema": "tacit-episode", "schema_version": "1.0.0", "state": "complete"})
            fill(file)
            _complete(file)
        (folder / "secret.bin").write_text(SECRET)
        return lambda: read_episode(path)

    return make


def _complete(file: h5py.File) -> None:
    """Add what an episode must have, where the case has not put something else there."""
    for path in ("action", "observations/qpos"):
        if path not in file:
            file.create_dataset(path, data=np.zeros((4, 2), np.float32))
        if isinstance(file[path], h5py.Dataset) and "names" not in file[path].attrs:
            file[path].attrs["names"] = '["a", "b"]'


def read_episode(path: Path) -> None:
    """Check it, recover it and read all of it; the first refusal is the answer."""
    report = check_episode(path, full=True)
    with EpisodeReader(path) as reader:
        _ = reader.state_names
        for name in reader.cameras:
            reader.image(name, 0)
        _ = (reader.rig, reader.qpos, reader.action, reader.targets, reader.tick_ns, reader.events)
        _ = (reader.steps, reader.drops, reader.qvel)
    if not report.ok:
        raise EpisodeError("; ".join(finding.message for finding in report.errors)[:400])


def _bytes_of(file: h5py.File, data: bytes) -> None:
    images = file.create_dataset("observations/images/top", (4,), dtype=h5py.vlen_dtype(np.uint8))
    for row in range(4):
        images[row] = np.frombuffer(data, np.uint8)


def _chunk_bomb(file: h5py.File) -> None:
    """One chunk of 1 GiB of zeros, which is 1 MB in the file: compressed by hand, not in memory."""
    data = file.create_dataset(
        "action", (1 << 14, 1 << 14), "f4", chunks=(1 << 14, 1 << 14), compression="gzip"
    )
    squeeze = zlib.compressobj(9)
    first, more = (squeeze.compress(bytes(MB)) + squeeze.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    packed = first + 1023 * more + b"\x03\x00" + struct.pack(">HH", (1 << 30) % 65521, 1)  # end; Adler-32
    data.id.write_direct_chunk((0, 0), packed)


def _ratio_bomb(file: h5py.File) -> None:
    """Half a gigabyte of zeros in rows: 28,000 chunks that each look honest."""
    file.create_dataset("action", (1 << 25, 4), "f4", chunks=(1 << 14, 4), compression="gzip", fillvalue=0)


def _external(file: h5py.File) -> None:
    file.create_dataset(
        "action", (4, 2), "f4", external=[(str(Path(file.filename).parent / "secret.bin"), 0, 32)]
    )


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((4, 2), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4, 2))
    file.create_virtual_dataset("action", layout)


def _nested(file: h5py.File) -> None:
    group = file
    for _ in range(200):
        group = group.create_group("g")


def _crowd(file: h5py.File) -> None:
    for number in range(12_000):
        file.create_group(f"g{number}")


def _crowded_attributes(file: h5py.File) -> None:
    for number in range(2_000):
        file.attrs[f"a{number}"] = number


def _huge_attribute(file: h5py.File) -> None:
    file.attrs.create("notes", np.zeros(1 << 26, np.float64))


case("episode: /action of 28 GB that nobody wrote", "declares shape")(
    episode(lambda f: f.create_dataset("action", (500_000_000, 14), "f4"))
)
case("episode: /action of 28 GB, compressed", "declares shape")(
    episode(
        lambda f: f.create_dataset("action", (500_000_000, 14), "f4", chunks=(1000, 14), compression="gzip")
    )
)
case("episode: half a GB of zeros in honest chunks", "never written")(episode(_ratio_bomb))
case("episode: one chunk of 1 GB", "chunks of 1024 MB")(episode(_chunk_bomb))
case("episode: a string of 4 GB", "declares shape")(
    episode(lambda f: f.create_dataset("note", (2,), f"S{(1 << 31) - 8}"))
)
case("episode: a raw picture of 300 GB", "declares shape")(
    episode(lambda f: f.create_dataset("observations/images/top", (4, 100_000, 100_000, 3), "u1"))
)
case("episode: data in another file", "in another file")(episode(_external))
case("episode: virtual data", "in another file")(episode(_virtual))
case("episode: link to another file", "link to another file")(
    episode(lambda f: f.__setitem__("cameras", h5py.ExternalLink("secret.hdf5", "/x")))
)
case("episode: soft link", "soft link")(episode(lambda f: f.__setitem__("cameras", h5py.SoftLink("/action"))))
case("episode: filter from a plug-in", "filters")(
    episode(lambda f: f.create_dataset("x", data=np.zeros((8, 8)), compression="lzf"))
)
case("episode: 200 groups deep", "nested deeper")(episode(_nested))
case("episode: 12,000 groups", "objects")(episode(_crowd))
case("episode: 2,000 attributes", "attributes")(episode(_crowded_attributes, track_order=True))
case("episode: attribute of half a GB", "MB of attributes")(episode(_huge_attribute, libver="latest"))
case("episode: rig text of 16 MB", "contract_yaml: larger than")(
    episode(lambda f: f.attrs.update(contract_yaml="a: " + "x" * (16 * MB)))
)
case("episode: rig text of aliases", "contract_yaml: stands for more")(
    episode(lambda f: f.attrs.update(contract_yaml=bomb()))
)
case("episode: rig names a file", "contract_yaml")(
    episode(lambda f: f.attrs.update(contract_yaml="arms: {a: {urdf: /etc/passwd}}"))
)
case("episode: names that are no JSON", "attribute names")(
    episode(
        lambda f: f.create_dataset("observations/qpos", data=np.zeros((4, 2))).attrs.update(names="[" * 5000)
    )
)
case("episode: /action is a group", "/action")(episode(lambda f: f.create_group("action")))
case("episode: /action is one number", "/action has shape")(
    episode(lambda f: f.create_dataset("action", data=1.0))
)
case("episode: references instead of numbers", "type object")(
    episode(lambda f: f.create_dataset("x", (2,), h5py.ref_dtype))
)
case("episode: picture of 40,000 x 40,000", "image states 40000x40000")(
    episode(lambda f: _bytes_of(f, png_of(40_000, 40_000)))
)


@case("episode: no HDF5 at all", "cannot be opened as HDF5")
def noise(folder: Path) -> Callable[[], object]:
    (folder / "episode_0.hdf5").write_bytes(np.random.default_rng(0).bytes(100_000))
    return lambda: read_episode(folder / "episode_0.hdf5")


@case("episode: cut off in the middle", "cannot be opened as HDF5")
def cut(folder: Path) -> Callable[[], object]:
    episode(lambda f: f.create_dataset("x", data=np.zeros(50_000)))(folder)
    path = folder / "episode_0.hdf5"
    path.write_bytes(path.read_bytes()[:100_000])
    return lambda: read_episode(path)


@case("episode: interrupted, 28 GB declared (recover)", "declares shape")
def recovered(folder: Path) -> Callable[[], object]:
    episode(lambda f: f.create_dataset("timestamps/tick_ns", (3_500_000_000,), "i8"))(folder)
    part = folder / "episode_0.hdf5.part"
    (folder / "episode_0.hdf5").rename(part)
    return lambda: recover(part)


# --- pictures -------------------------------------------------------------------------------------


def png_of(width: int, height: int) -> bytes:
    """A PNG that states a size and holds the first bytes of so many zeros."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(4 * MB), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg_of(width: int, height: int) -> bytes:
    """A small JPEG whose frame header states another size."""
    data = bytes(encode_jpeg(np.zeros((16, 16, 3), np.uint8)))
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def many_scans() -> bytes:
    """A JPEG with 20,000 scans of nothing."""
    data = bytes(encode_jpeg(np.zeros((4000, 4000, 3), np.uint8)))
    place = data.index(b"\xff\xda")
    return data[:place] + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" * 20_000 + data[place:]


def picture_of(data: bytes) -> Case:
    """Encoded bytes that are decoded."""
    return lambda folder: lambda: decode_image(data)


case("picture: PNG of 40,000 x 40,000", "image states")(picture_of(png_of(40_000, 40_000)))
case("picture: PNG one pixel high, 2 billion wide", "image states")(picture_of(png_of(2**31 - 1, 1)))
case("picture: JPEG of 65,500 x 65,500", "image states")(picture_of(jpeg_of(65_500, 65_500)))
case("picture: JPEG of 20,000 scans", "scans")(
    lambda folder: _later(lambda data: decode_image(data), many_scans())
)
case("picture: PNM of 30,000 x 30,000", "cannot be decoded")(picture_of(b"P6 30000 30000 255\n" + bytes(100)))
case("picture: nothing", "cannot be decoded")(picture_of(b""))
case("picture: largest that is decoded, cut off", "cannot be decoded")(picture_of(png_of(8192, 4096)))


def _later(act: Callable[[bytes], object], data: bytes) -> Callable[[], object]:
    return lambda: act(data)


# --- bundles --------------------------------------------------------------------------------------


def manifest(**changes: object) -> dict[str, object]:
    """A manifest that is believable but for `changes`."""
    image = {"height": 48, "width": 64, "source_height": 480, "source_width": 640}
    plain: dict[str, object] = {
        "schema_version": "tacit-bundle 1",
        "kind": "act_hsa",
        "rig_name": "nova2_sim",
        "rig_id": "0",
        "calibration_id": "0",
        "calibration": {},
        "state_names": ["a", "b"],
        "action_names": ["a", "b"],
        "cameras": {"top": image},
        "chunk_size": 10,
        "rate_hz": 25.0,
        "state_min": [0.0, 0.0],
        "state_max": [1.0, 1.0],
    }
    return plain | changes


def varint(value: int) -> bytes:
    """A number as protobuf writes it, seven bits a byte."""
    tail = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(byte | 0x80 for byte in tail[:-1]), tail[-1]])


def bundle(text: str | Callable[[], str]) -> Case:
    """An ONNX file with this manifest and no graph: nothing of the graph may be looked at before."""

    def make(folder: Path) -> Callable[[], object]:
        said = text if isinstance(text, str) else text()
        (folder / "policy.onnx").write_bytes(with_metadata(b"", {"tacit.manifest": said}))
        return lambda: load_bundle(folder / "policy.onnx")

    return make


def sparse_bundle(head: bytes, size: int) -> Case:
    """A file that is mostly a hole."""

    def make(folder: Path) -> Callable[[], object]:
        with (folder / "policy.onnx").open("wb") as file:
            file.write(head)
            file.truncate(size)
        return lambda: load_bundle(folder / "policy.onnx")

    return make


WIDE = {"height": 1, "width": 10**6, "source_height": 1, "source_width": 10**6}
LARGE = {"height": 4000, "width": 4000, "source_height": 480, "source_width": 640}
case("bundle: chunk of a billion actions", "chunk_size")(bundle(json.dumps(manifest(chunk_size=10**9))))
case("bundle: camera a million pixels wide", "cameras.top.width")(
    bundle(json.dumps(manifest(cameras={"top": WIDE})))
)
case("bundle: 30 cameras of 16 megapixels", "pixels in all")(
    bundle(json.dumps(manifest(cameras={f"c{i}": LARGE for i in range(30)})))
)
case("bundle: a million names", "more than 4 MB")(
    bundle(lambda: json.dumps(manifest(state_names=[f"j{i}" for i in range(1_000_000)])))
)
case("bundle: 60,000 names", "state_names")(
    bundle(json.dumps(manifest(state_names=[f"j{i}" for i in range(60_000)])))
)
case("bundle: memory of 1e12 numbers", "hidden_size")(
    bundle(json.dumps(manifest(kind="progress", hidden_size=10**12, chunk_size=0)))
)
case("bundle: 1e300 actions a second", "rate_hz")(bundle(json.dumps(manifest(rate_hz=1e300))))
case("bundle: manifest 100,000 deep", "nested too deeply")(bundle("[" * 100_000))
case("bundle: a number of 100,000 digits", "not valid JSON")(
    bundle('{"schema_version": ' + "9" * 100_000 + "}")
)
case("bundle: 3 GB", "3072 MB")(sparse_bundle(b"", 3 << 30))
case("bundle: one field of 1.9 GB, no manifest", "no 'tacit.manifest'")(
    sparse_bundle(b"\x3a" + varint((1900 << 20) - 6), 1900 << 20)
)
case("bundle: 30 million fields", "10000 fields")(
    lambda folder: bundle_bytes(folder, b"\x08\x00" * 30_000_000)
)
case("bundle: entry of 2**60 bytes", "not a protobuf")(
    lambda folder: bundle_bytes(folder, b"\x72" + b"\x80" * 8 + b"\x10")
)


def bundle_bytes(folder: Path, data: bytes) -> Callable[[], object]:
    """A file of these bytes, opened as a bundle."""
    (folder / "policy.onnx").write_bytes(data)
    return lambda: load_bundle(folder / "policy.onnx")
