"""A bundle says what it is, proves it, and refuses a rig it was not made for."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from tiny_bundles import manifest_for, policy_bundle, policy_model, progress_bundle

from tacit.bundle import (
    MANIFEST_KEY,
    Manifest,
    PlaySpec,
    check_rig,
    describe,
    golden_inputs,
    load_bundle,
    parse_bundle,
    save_bundle,
    save_playing,
    verify,
)
from tacit.bundle.onnx_file import graph_sha256, read_metadata, with_metadata
from tacit.errors import BundleError
from tacit.rig import Rig, canonical_hash, parse_rig


def changed_rig(rig: Rig, path: str, value: object) -> Rig:
    data = rig.model_dump(mode="json")
    *parents, last = path.split(".")
    node = data
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node[key]
    node[last] = value
    return parse_rig(data, "test")


def edited(bundle_bytes: bytes, **changes: object) -> bytes:
    manifest = json.loads(read_metadata(bundle_bytes)[MANIFEST_KEY])
    return with_metadata(bundle_bytes, {MANIFEST_KEY: json.dumps(manifest | changes)})


def test_saved_bundle_reads_back_equal_and_verifies(tmp_path: Path, rig: Rig) -> None:
    saved = policy_bundle(tmp_path, rig)
    loaded = load_bundle(tmp_path / "policy.onnx", sha256=saved.sha256)
    assert loaded.manifest == saved.manifest
    assert verify(loaded) == 0.0


def test_golden_rows_are_what_the_graph_computes_from_the_golden_state(tmp_path: Path, rig: Rig) -> None:
    manifest = policy_bundle(tmp_path, rig).manifest
    state = golden_inputs(manifest)["state"][0]
    np.testing.assert_allclose(manifest.golden.first_row, state, rtol=1e-6)
    np.testing.assert_allclose(manifest.golden.last_row, state * 1.04, rtol=1e-6)


def test_metadata_is_what_the_onnx_library_reads(tmp_path: Path, rig: Rig) -> None:
    bundle = policy_bundle(tmp_path, rig)
    model = onnx.load(tmp_path / "policy.onnx")
    assert {p.key: p.value for p in model.metadata_props} == read_metadata(bundle.model_bytes)
    onnx.checker.check_model(model)


def test_manifest_lies_under_the_key_that_older_files_carry(tmp_path: Path, rig: Rig) -> None:
    model = onnx.load_from_string(policy_bundle(tmp_path, rig).model_bytes)
    assert [prop.key for prop in model.metadata_props] == ["tacit.manifest"]


def test_way_of_playing_travels_in_the_bundle_and_can_be_changed(tmp_path: Path, rig: Rig) -> None:
    way = PlaySpec(mode="blend", every_ticks=2, blend=3)
    saved = policy_bundle(tmp_path, rig, play=way)
    path = tmp_path / "policy.onnx"
    assert load_bundle(path).manifest.playing == way and "blend" in describe(saved.manifest)
    other = save_playing(saved, PlaySpec(decay=0.2), path)
    assert load_bundle(path).manifest.playing == PlaySpec(decay=0.2)
    assert graph_sha256(other.model_bytes) == graph_sha256(saved.model_bytes) and verify(other) == 0.0
    assert [file.name for file in tmp_path.iterdir()] == ["policy.onnx"]


def test_bundle_from_before_says_nothing_of_playing_and_gets_the_default(tmp_path: Path, rig: Rig) -> None:
    saved = policy_bundle(tmp_path, rig)
    # What an older release wrote: no such field, and a digest over the fields that it had.
    fields = json.loads(read_metadata(saved.model_bytes)[MANIFEST_KEY])
    assert "play" not in fields
    del fields["digest"]
    fields["digest"] = hashlib.sha256(
        json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    ).hexdigest()
    old = parse_bundle(with_metadata(saved.model_bytes, {MANIFEST_KEY: json.dumps(fields)}), "old")
    assert (old.manifest.playing.mode, old.manifest.playing.every_ticks) == ("temporal_ensemble", 1)
    assert "the bundle does not say" in describe(old.manifest)


def test_way_of_playing_that_lets_chunks_run_out_is_refused(rig: Rig) -> None:
    with pytest.raises(ValueError, match="play.every_ticks: 7 ticks .* a chunk ends after 5"):
        manifest_for(rig, play=PlaySpec(mode="replace", every_ticks=7))


def test_a_progress_bundle_has_nothing_to_play(tmp_path: Path, rig: Rig) -> None:
    with pytest.raises(BundleError, match="no chunks to play"):
        save_playing(progress_bundle(tmp_path, rig), PlaySpec(), tmp_path / "x.onnx")


def test_graph_digest_ignores_the_metadata_and_nothing_else(rig: Rig) -> None:
    model = policy_model(manifest_for(rig))
    assert graph_sha256(with_metadata(model, {"a": "b"})) == graph_sha256(model)
    assert graph_sha256(model[:-1] + bytes([model[-1] ^ 1])) != graph_sha256(model)


def test_manifest_edited_by_hand_is_refused(tmp_path: Path, rig: Rig) -> None:
    data = policy_bundle(tmp_path, rig).model_bytes
    with pytest.raises(BundleError, match="digest"):
        parse_bundle(edited(data, rate_hz=50.0), "edited")


def test_changed_weights_are_refused(tmp_path: Path, rig: Rig) -> None:
    bundle = policy_bundle(tmp_path, rig)
    model = onnx.load_from_string(bundle.model_bytes)
    rows = next(item for item in model.graph.initializer if item.name == "rows")
    rows.raw_data = (np.frombuffer(rows.raw_data, np.float32) * 2).tobytes()
    with pytest.raises(BundleError, match="parameters_sha256"):
        parse_bundle(model.SerializeToString(), "weights")


def test_manifest_of_another_graph_fails_its_golden_sample(tmp_path: Path, rig: Rig) -> None:
    bundle = policy_bundle(tmp_path, rig)
    golden = bundle.manifest.golden.model_copy(update={"first_row": (9.0,) * 7})
    forged = bundle.manifest.model_copy(update={"golden": golden}).seal()
    data = with_metadata(bundle.model_bytes, {MANIFEST_KEY: forged.model_dump_json()})
    with pytest.raises(BundleError, match="golden"):
        verify(parse_bundle(data, "forged"))


def test_other_version_unknown_key_and_missing_manifest_are_refused(tmp_path: Path, rig: Rig) -> None:
    data = policy_bundle(tmp_path, rig).model_bytes
    with pytest.raises(BundleError, match="schema_version is 'tacit-bundle 2'"):
        parse_bundle(edited(data, schema_version="tacit-bundle 2"), "newer")
    with pytest.raises(BundleError, match="rate_hertz: unknown key; did you mean 'rate_hz'"):
        parse_bundle(edited(data, rate_hertz=1), "typo")
    with pytest.raises(BundleError, match="tacit export"):
        parse_bundle(with_metadata(data, {}), "bare")


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.3, 0.6, 0.99])
def test_cut_off_file_is_refused_without_running_it(tmp_path: Path, rig: Rig, kept: float) -> None:
    data = policy_bundle(tmp_path, rig).model_bytes
    (tmp_path / "cut.onnx").write_bytes(data[: int(kept * len(data))])
    with pytest.raises(BundleError, match=r"cut\.onnx"):
        load_bundle(tmp_path / "cut.onnx")


def test_missing_file_and_wrong_hash_are_named(tmp_path: Path, rig: Rig) -> None:
    policy_bundle(tmp_path, rig)
    with pytest.raises(BundleError, match="no such bundle"):
        load_bundle(tmp_path / "absent.onnx")
    with pytest.raises(BundleError, match="expected 00ff"):
        load_bundle(tmp_path / "policy.onnx", sha256="00ff")


def test_graph_that_does_not_keep_the_manifest_is_not_saved(tmp_path: Path, rig: Rig) -> None:
    manifest = manifest_for(rig)
    with pytest.raises(BundleError, match="top"):
        other = manifest.model_copy(update={"cameras": {"top": manifest.cameras["wrist"]}})
        save_bundle(tmp_path / "x.onnx", policy_model(manifest), other)
    assert not (tmp_path / "x.onnx").exists()


def test_binding_follows_names_not_positions(rig: Rig) -> None:
    turned = rig.state_names[::-1]
    manifest = manifest_for(rig, state_names=turned, action_names=turned)
    binding = check_rig(manifest, rig)
    state = np.arange(7.0)
    assert binding.state(state).tolist() == state[::-1].tolist()
    assert binding.action(binding.state(state)).tolist() == state.tolist()


def test_missing_and_surplus_joints_are_named(rig: Rig) -> None:
    names = ("elbow", *rig.state_names[1:])
    with pytest.raises(BundleError, match="state_names: no joint 'elbow'"):
        check_rig(manifest_for(rig, state_names=names), rig)
    fewer = rig.state_names[:-1]
    small = {"state_names": fewer, "state_min": (-1,) * 6, "state_max": (1,) * 6}
    with pytest.raises(BundleError, match="'gripper' is not expected"):
        check_rig(manifest_for(rig, **small), rig)


def test_camera_of_another_name_or_size_is_refused(rig: Rig) -> None:
    spec = manifest_for(rig).cameras["wrist"]
    with pytest.raises(BundleError, match="cameras.wrst: did you mean 'wrist'"):
        check_rig(manifest_for(rig, cameras={"wrst": spec}), rig)
    with pytest.raises(BundleError, match=r"cameras\.wrist: the rig gives 240x160"):
        check_rig(manifest_for(rig), changed_rig(rig, "cameras.wrist.height", 240))


def moved(rig: Rig, camera: str, metres: float) -> Rig:
    T = np.array(rig.cameras[camera].T_parent_camera)
    T[0, 3] += metres
    return changed_rig(rig, f"cameras.{camera}.T_parent_camera", T.tolist())


def test_calibration_may_differ_by_the_tolerance_and_not_by_more(rig: Rig) -> None:
    manifest = manifest_for(rig)
    check_rig(manifest, moved(rig, "wrist", 0.002))
    with pytest.raises(BundleError, match=r"calibration\.cameras\.wrist\.T_parent_camera: moved by 4\.0 mm"):
        check_rig(manifest, moved(rig, "wrist", 0.004))


def test_camera_that_is_no_input_may_move(rig: Rig) -> None:
    check_rig(manifest_for(rig), moved(rig, "top", 0.5))


def test_joint_offset_is_part_of_the_calibration(rig: Rig) -> None:
    other = changed_rig(rig, "arms.arm.joints.1.offset", 0.1)
    with pytest.raises(BundleError, match=r"joints\.joint2\.offset: differs by 0\.1"):
        check_rig(manifest_for(rig), other)


def test_a_gripper_that_counts_in_fine_steps_is_compared_by_the_ratio_of_its_steps(rig: Rig) -> None:
    counts = changed_rig(rig, "arms.arm.gripper.scale", 8e-5)
    check_rig(manifest_for(counts), changed_rig(rig, "arms.arm.gripper.scale", 8.0001e-5))
    with pytest.raises(BundleError, match=r"gripper\.scale: differs by 1e-05, allowed 8e-08"):
        check_rig(manifest_for(counts), changed_rig(rig, "arms.arm.gripper.scale", 9e-5))


def test_limits_and_topics_are_not_calibration(rig: Rig) -> None:
    other = changed_rig(rig, "cameras.wrist.topic", "/elsewhere")
    check_rig(manifest_for(rig), changed_rig(other, "arms.arm.joints.0.velocity", 0.5))


def test_description_names_kind_rig_and_rate(tmp_path: Path, rig: Rig) -> None:
    text = describe(progress_bundle(tmp_path, rig).manifest)
    assert "progress" in text and "nova2_sim" in text and "25 Hz" in text


def test_inconsistent_manifest_is_refused(rig: Rig) -> None:
    with pytest.raises(ValueError, match="expected 7 values"):
        manifest_for(rig, state_min=(0.0,))
    with pytest.raises(ValueError, match="chunk_size"):
        manifest_for(rig, chunk_size=0)


def test_reading_a_bundle_needs_neither_torch_nor_onnx() -> None:
    code = "import sys, tacit.bundle; sys.exit(bool({'torch', 'onnx', 'rclpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_manifest_survives_json(rig: Rig) -> None:
    manifest = manifest_for(rig, train={"git": "abc", "metrics": {"l1": 0.1}}).seal()
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def depth_input(**changes: object) -> dict[str, object]:
    image = {
        "height": 60,
        "width": 80,
        "source_height": 120,
        "source_width": 160,
        "depth_range_m": (0.1, 1.5),
    }
    return {"wrist": image | changes}


def test_a_policy_that_sees_depth_wants_a_depth_camera_and_no_other_does(rig: Rig) -> None:
    depth_rig = changed_rig(rig, "cameras.wrist.kind", "depth")
    check_rig(manifest_for(rig, cameras=depth_input()), depth_rig)
    with pytest.raises(
        BundleError, match=r"cameras.wrist: the rig gives colour, the bundle was trained on depth"
    ):
        check_rig(manifest_for(rig, cameras=depth_input()), rig)
    with pytest.raises(
        BundleError, match=r"cameras.wrist: the rig gives depth, the bundle was trained on colour"
    ):
        check_rig(manifest_for(rig), depth_rig)
    with pytest.raises(ValueError, match="near < far"):
        manifest_for(rig, cameras=depth_input(depth_range_m=(1.5, 0.1)))


def test_bundles_without_depth_keep_the_digest_they_had_before_there_was_any(
    tmp_path: Path, rig: Rig
) -> None:
    manifest = manifest_for(rig)
    said = json.loads(manifest.text())
    assert all("depth_range_m" not in image for image in (*said["cameras"].values(), *said["touch"].values()))
    assert manifest.expected_digest() == canonical_hash({k: v for k, v in said.items() if k != "digest"})
    bundle = policy_bundle(tmp_path, rig, cameras=depth_input())
    assert load_bundle(tmp_path / "policy.onnx").manifest == bundle.manifest
    assert bundle.manifest.expected_digest() != manifest.expected_digest()
