"""Importers: tiny files of every foreign format, written here by hand, and what each refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from episode_kit import append_native, tick_at, write_episode, writer_at

from tacit.cli import main
from tacit.errors import AnnotationError
from tacit_learning.data.annotation_files import load_annotation_set, load_features
from tacit_learning.data.annotation_importers import ImportOptions, read, write
from tacit_learning.data.annotation_importers.common import seconds_to_frames
from tacit_learning.data.annotation_policies import SegmentPolicy
from tacit_learning.data.annotations import Segment

ONE_FPS = ImportOptions(fps=1.0)


def save_features(folder: Path, **lengths: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, length in lengths.items():
        np.save(folder / f"{name}.npy", np.arange(length * 3.0).reshape(length, 3))
    return folder


# -- GTCC --------------------------------------------------------------------------------------


def gtcc(tmp_path: Path, **changes: object) -> Path:
    entry = {
        "handles": ["v1", "v2"],
        "hdl_actions": [["0", "cut", "0"], ["cut", "fry"]],
        "hdl_start_times": [[0, 2, 6], [0, 3]],
        "hdl_end_times": [[2, 6, 8], [3, 5]],
        **changes,
    }
    path = tmp_path / "set.json"
    path.write_text(json.dumps({"salad": entry}))
    return path


def test_gtcc_ends_are_the_next_starts_and_zero_is_background(tmp_path: Path) -> None:
    found = read("gtcc-json", gtcc(tmp_path), ONE_FPS).annotations
    assert found.videos[0].segments() == (Segment("0", 0, 1), Segment("cut", 2, 5), Segment("0", 6, 7))
    assert found.videos[0].action_segments() == (Segment("cut", 2, 5),)
    assert found.labels == ("cut", "fry") and {v.task for v in found.videos} == {"salad"}


def test_gtcc_features_travel_into_the_folder_of_the_trainer(tmp_path: Path) -> None:
    features = save_features(tmp_path / "features", v1=8, v2=5)
    imported = read("gtcc-json", gtcc(tmp_path), ONE_FPS.model_copy(update={"features": features}))
    write(imported, tmp_path / "out")
    loaded = load_annotation_set(tmp_path / "out")
    np.testing.assert_array_equal(
        load_features(tmp_path / "out", loaded.videos[1]), np.arange(15.0).reshape(5, 3)
    )


def test_gtcc_a_step_beyond_the_features_is_an_error_or_dropped(tmp_path: Path) -> None:
    features = save_features(tmp_path / "features", v1=7, v2=5)
    options = ONE_FPS.model_copy(update={"features": features})
    with pytest.raises(AnnotationError, match="'v1'.*ends after the last frame 6"):
        read("gtcc-json", gtcc(tmp_path), options)
    dropping = options.model_copy(update={"policy": SegmentPolicy(beyond="drop")})
    imported = read("gtcc-json", gtcc(tmp_path), dropping)
    assert len(imported.annotations.videos[0].steps) == 2 and len(imported.repairs.dropped) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hdl_actions": [["0"]]}, "lists of different lengths"),
        ({"hdl_actions": [["0"], ["cut", "fry"]]}, "1 actions, 3 starts, 3 ends"),
        ({"hdl_start_times": [[0, 6, 2], [0, 3]], "hdl_end_times": [[2, 8, 6], [3, 5]]}, "starts before"),
        ({"hdl_start_times": [[0, 1, 6], [0, 3]]}, "overlaps"),
        ({"hdl_start_times": [[0, 6, 6], [0, 3]]}, "expected 0 <= start <= end"),
        ({"hdl_start_times": [[0, 2.5, 6], [0, 3]]}, "v1: start: frames must be whole numbers"),
    ],
)
def test_gtcc_contradictions_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(AnnotationError, match=message):
        read("gtcc-json", gtcc(tmp_path, **changes), ONE_FPS)


def test_gtcc_tasks_whose_lists_match_no_video_can_be_left_out(tmp_path: Path) -> None:
    path = gtcc(tmp_path)
    entry = json.loads(path.read_text())["salad"]
    path.write_text(json.dumps({"salad": entry, "brownie": {**entry, "handles": ["w1"]}}))
    with pytest.raises(AnnotationError, match="brownie: lists of different lengths: handles 1"):
        read("gtcc-json", path, ONE_FPS)
    chosen = read("gtcc-json", path, ONE_FPS.model_copy(update={"tasks": ("salad",)}))
    assert len(chosen.annotations.videos) == 2
    with pytest.raises(AnnotationError, match="no task 'salat'; did you mean 'salad'"):
        read("gtcc-json", path, ONE_FPS.model_copy(update={"tasks": ("salat",)}))


def test_gtcc_times_are_frames_at_any_rate(tmp_path: Path) -> None:
    slow, fast = (read("gtcc-json", gtcc(tmp_path), ImportOptions(fps=fps)) for fps in (1.0, 30.0))
    assert slow.annotations.videos[0].segments() == fast.annotations.videos[0].segments()


def test_gtcc_times_of_the_video_are_recognised_and_brought_to_the_features(tmp_path: Path) -> None:
    changes = {"hdl_start_times": [[0, 60, 180], [0, 90]], "hdl_end_times": [[60, 180, 240], [90, 150]]}
    path = gtcc(tmp_path, **changes)
    options = ONE_FPS.model_copy(update={"features": save_features(tmp_path / "features", v1=8, v2=5)})
    with pytest.raises(AnnotationError, match=r"up to frame 240 at 1 fps.* native-fps \(here probably 30\)"):
        read("gtcc-json", path, options)
    found = read("gtcc-json", path, options.model_copy(update={"native_fps": 30.0})).annotations
    assert found.videos[0].segments() == (Segment("0", 0, 1), Segment("cut", 2, 5), Segment("0", 6, 7))
    hours = {key: [[30 * t for t in row] for row in rows] for key, rows in changes.items()}
    with pytest.raises(AnnotationError, match=r"'v1': annotated over .* hours at 0.2 fps"):
        read("gtcc-json", gtcc(tmp_path, **hours), ImportOptions(fps=0.2))


def test_gtcc_repairs_are_told_by_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = gtcc(tmp_path)
    entry = json.loads(path.read_text())["salad"]
    tasks = {
        "salad": entry,
        "soup": entry | {"handles": ["w1", "w2"], "hdl_end_times": [[3, 6, 8], [3, 5]]},
        "brownie": entry | {"handles": ["x1"]},
    }
    path.write_text(json.dumps(tasks))
    words = [str(path), "--from", "gtcc-json", "--to", str(tmp_path / "out"), "--fps", "1"]
    assert main(["convert", "annotations", *words, "--overlap", "trim", "--missing", "drop"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    told = {row[1]: row[3::2] for row in rows if len(row) > 4 and row[1] in tasks}
    assert told["salad"][0] == "2" and "1 steps trimmed" not in " ".join(told["salad"])
    assert any("soup" in row and "trimmed" in row for row in rows)
    assert any("brownie" in row and "left" in row for row in rows)


def test_gtcc_needs_a_rate_and_its_keys(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="give the frames per second"):
        read("gtcc-json", gtcc(tmp_path), ImportOptions())
    (tmp_path / "other.json").write_text(json.dumps({"salad": {"handles": []}}))
    with pytest.raises(AnnotationError, match="expected the keys handles"):
        read("gtcc-json", tmp_path / "other.json", ONE_FPS)


# -- EgoProceL ---------------------------------------------------------------------------------


def egoprocel(tmp_path: Path) -> Path:
    folder = tmp_path / "annotations" / "tent"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("start_sec,end_sec,step_id\n0.5,2.0,1\n2.0,3.25,7\n")
    (folder / "b.csv").write_text("1,4,7\n\n")
    return tmp_path / "annotations"


def test_egoprocel_seconds_become_frames_by_true_time(tmp_path: Path) -> None:
    found = read("egoprocel-csv", egoprocel(tmp_path), ImportOptions(fps=4.0)).annotations
    assert found.videos[0].segments() == (Segment("1", 2, 7), Segment("7", 8, 12))
    assert found.videos[1].segments() == (Segment("7", 4, 15),) and found.videos[0].task == "tent"


def test_egoprocel_names_replace_ids(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("1 raise poles\n7 peg down\n")
    options = ImportOptions(fps=4.0, names=tmp_path / "names.txt")
    assert read("egoprocel-csv", egoprocel(tmp_path), options).annotations.labels == (
        "raise poles",
        "peg down",
    )
    (tmp_path / "names.txt").write_text("1 raise poles\n")
    with pytest.raises(AnnotationError, match="video 'a': step '7' .* is not in .*names.txt"):
        read("egoprocel-csv", tmp_path / "annotations", options)


def test_egoprocel_videos_without_features_are_named_or_left_out(tmp_path: Path) -> None:
    features = save_features(tmp_path / "features", a=14, c=9)
    options = ImportOptions(fps=4.0, features=features)
    with pytest.raises(AnnotationError, match="2 videos .* such as 'b'"):
        read("egoprocel-csv", egoprocel(tmp_path), options)
    imported = read("egoprocel-csv", tmp_path / "annotations", options.model_copy(update={"missing": "drop"}))
    assert [v.name for v in imported.annotations.videos] == ["a"]
    assert imported.repairs.missing == ["b", "c"] and imported.annotations.videos[0].num_frames == 14


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"1,4,7\n5,x,7\n", "b.csv:2"),
        (b"1,4,7\nnan,6,7\n", "b.csv:2"),
        ("1,4,7\n".encode("utf-16"), "b.csv: not valid table"),  # as Excel saves "Unicode text"
        (b"1,4," + b"7" * 200_000, "b.csv: no CSV"),
    ],
)
def test_egoprocel_what_is_no_row_is_named(tmp_path: Path, data: bytes, said: str) -> None:
    folder = egoprocel(tmp_path)
    (folder / "tent" / "b.csv").write_bytes(data)
    with pytest.raises(AnnotationError, match=said):
        read("egoprocel-csv", folder, ImportOptions(fps=4.0))


@pytest.mark.parametrize("text", ["7", "7.", "7 peg down", "7. Peg it down"])
def test_egoprocel_the_id_counts_and_not_the_text_beside_it(tmp_path: Path, text: str) -> None:
    folder = egoprocel(tmp_path)
    (folder / "tent" / "b.csv").write_text(f"1,4,{text}\n")
    assert read("egoprocel-csv", folder, ImportOptions(fps=4.0)).annotations.labels == ("1", "7")


def test_egoprocel_a_byte_order_mark_does_not_cost_the_first_row(tmp_path: Path) -> None:
    folder = egoprocel(tmp_path)
    (folder / "tent" / "b.csv").write_text("1,4,7\n4,5,1\n", encoding="utf-8-sig")  # as spreadsheets save it
    found = read("egoprocel-csv", folder, ImportOptions(fps=4.0)).annotations
    assert found.videos[1].segments() == (Segment("7", 4, 15), Segment("1", 16, 19))


@pytest.mark.parametrize("first", ["1s,4,7", "x1,4,7", "0:01,0:04,7", "one,4,7"])
def test_egoprocel_a_first_row_that_is_no_header_is_not_dropped(tmp_path: Path, first: str) -> None:
    folder = egoprocel(tmp_path)
    (folder / "tent" / "b.csv").write_text(f"{first}\n4,5,1\n")
    with pytest.raises(AnnotationError, match="b.csv:1"):
        read("egoprocel-csv", folder, ImportOptions(fps=4.0))


def test_egoprocel_frames_of_the_video_need_their_rate(tmp_path: Path) -> None:
    folder = egoprocel(tmp_path)
    for name, row in (("a", "15,59,1"), ("b", "30,119,7")):
        (folder / "tent" / f"{name}.csv").write_text(f"start_frame,end_frame,step_id\n{row}\n")
    with pytest.raises(AnnotationError, match="a.csv:2: frames 15 to 59.*native-fps"):
        read("egoprocel-csv", folder, ImportOptions(fps=4.0))
    found = read("egoprocel-csv", folder, ImportOptions(fps=4.0, native_fps=30.0)).annotations
    assert found.videos[0].segments() == (Segment("1", 2, 7),)
    assert found.videos[1].segments() == (Segment("7", 4, 15),)


def test_tenths_of_seconds_fall_on_their_frames() -> None:
    assert [seconds_to_frames(i / 10, i / 10 + 0.1, 10.0) for i in range(100)] == [(i, i) for i in range(100)]


# -- MS-TCN ------------------------------------------------------------------------------------


def mstcn(tmp_path: Path, first: str = "0 0 1 1 1 2 2 0") -> Path:
    root = tmp_path / "gtea"
    for folder in ("groundTruth", "splits", "features"):
        (root / folder).mkdir(parents=True)
    (root / "mapping.txt").write_text("0 background\n1 take\n2 pour\n")
    names = ("background", "take", "pour")
    (root / "groundTruth" / "a.txt").write_text("".join(f"{names[int(i)]}\n" for i in first.split()))
    (root / "groundTruth" / "b.txt").write_text("take\n" * 4)
    (root / "splits" / "train.split1.bundle").write_text("a.txt\n")
    (root / "splits" / "test.split1.bundle").write_text("b.txt\n")
    np.save(root / "features" / "a.npy", np.arange(24.0).reshape(3, 8))
    np.save(root / "features" / "b.npy", np.zeros((3, 4)))
    return root


def test_mstcn_labels_keep_the_order_of_the_mapping_and_features_are_turned(tmp_path: Path) -> None:
    imported = read("ms-tcn", mstcn(tmp_path), ImportOptions(fps=15.0))
    found = imported.annotations
    assert found.labels == ("take", "pour") and [v.split for v in found.videos] == ["train", "test"]
    assert found.videos[0].action_segments() == (Segment("take", 2, 4), Segment("pour", 5, 6))
    write(imported, tmp_path / "out")
    loaded = load_annotation_set(tmp_path / "out").videos[0]
    np.testing.assert_array_equal(load_features(tmp_path / "out", loaded)[1], [1.0, 9.0, 17.0])


def test_mstcn_lists_may_have_comments_paths_and_byte_order_marks(tmp_path: Path) -> None:
    root = mstcn(tmp_path)
    (root / "splits" / "train.split1.bundle").write_text("#bundle\n.\\\\data\\\\groundTruth\\\\a.txt\n\n")
    for name in ("splits/test.split1.bundle", "mapping.txt", "groundTruth/a.txt", "groundTruth/b.txt"):
        (root / name).write_text((root / name).read_text(), encoding="utf-8-sig")
    found = read("ms-tcn", root, ImportOptions(fps=15.0)).annotations
    assert [(v.name, v.split) for v in found.videos] == [("a", "train"), ("b", "test")]
    assert found.videos[0].action_segments() == (Segment("take", 2, 4), Segment("pour", 5, 6))


def test_mstcn_an_unknown_label_names_file_line_and_cure(tmp_path: Path) -> None:
    root = mstcn(tmp_path)
    (root / "groundTruth" / "b.txt").write_text("take\npuor\n")
    with pytest.raises(AnnotationError, match=r"b.txt:2: unknown label 'puor'; did you mean 'pour'"):
        read("ms-tcn", root, ImportOptions(fps=15.0))


def test_mstcn_features_may_lie_either_way_and_a_set_may_have_no_splits(tmp_path: Path) -> None:
    root = mstcn(tmp_path)
    for file in (root / "features").glob("*.npy"):
        np.save(file, np.load(file).T)
    for file in (root / "splits").iterdir():
        file.unlink()
    (root / "splits").rmdir()
    imported = read("ms-tcn", root, ImportOptions(fps=15.0, train_share=0.5))
    write(imported, tmp_path / "out")
    loaded = load_annotation_set(tmp_path / "out")
    assert sorted(video.split for video in loaded.videos) == ["test", "train"]
    of_a = next(video for video in loaded.videos if video.name == "a")
    np.testing.assert_array_equal(load_features(tmp_path / "out", of_a)[1], [1.0, 9.0, 17.0])


def test_mstcn_labels_of_another_rate_are_recognised_and_resampled(tmp_path: Path) -> None:
    root = mstcn(tmp_path, " ".join("00111220"[i // 2] for i in range(16)))
    (root / "groundTruth" / "b.txt").write_text("take\n" * 8)
    with pytest.raises(AnnotationError, match=r"16 labels, 8 frames.*native-fps \(here 30\)"):
        read("ms-tcn", root, ImportOptions(fps=15.0, length="cut"))
    found = read("ms-tcn", root, ImportOptions(fps=15.0, native_fps=30.0)).annotations
    assert found.videos[0].action_segments() == (Segment("take", 2, 4), Segment("pour", 5, 6))


@pytest.mark.parametrize(("labels", "frames"), [("0 0 1 1 1 2 2 0 0 0", 8), ("0 0 1 1 1 0", 6)])
def test_mstcn_other_lengths_are_an_error_or_cut(tmp_path: Path, labels: str, frames: int) -> None:
    root = mstcn(tmp_path, labels)
    with pytest.raises(AnnotationError, match="8 frames of features"):
        read("ms-tcn", root, ImportOptions(fps=15.0))
    imported = read("ms-tcn", root, ImportOptions(fps=15.0, length="cut"))
    write(imported, tmp_path / "out", cut=True)
    assert imported.annotations.videos[0].num_frames == frames and len(imported.repairs.cut) == 1
    assert len(load_features(tmp_path / "out", load_annotation_set(tmp_path / "out").videos[0])) == frames


def test_mstcn_a_video_in_both_splits_is_refused(tmp_path: Path) -> None:
    root = mstcn(tmp_path)
    (root / "splits" / "test.split1.bundle").write_text("a.txt\n")
    with pytest.raises(AnnotationError, match="'a' is in two splits"):
        read("ms-tcn", root, ImportOptions(fps=15.0))


@pytest.mark.parametrize(
    "part", ["mapping.txt", "splits/test.split1.bundle", "groundTruth/b.txt", "features/b.npy"]
)
def test_mstcn_a_missing_part_is_named(tmp_path: Path, part: str) -> None:
    root = mstcn(tmp_path)
    (root / part).unlink()
    with pytest.raises(AnnotationError, match=part):
        read("ms-tcn", root, ImportOptions(fps=15.0))


# -- LeRobot -----------------------------------------------------------------------------------


def lerobot(tmp_path: Path, ends: list[list[int] | None], prefix: str = "dense_") -> Path:
    folder = tmp_path / "meta" / "episodes" / "chunk-000"
    folder.mkdir(parents=True)
    (tmp_path / "meta" / "info.json").write_text(json.dumps({"fps": 30}))
    rows = {
        "episode_index": list(range(len(ends))),
        "length": [20] * len(ends),
        "tasks": [["stack"]] * len(ends),
        f"{prefix}subtask_names": [None if e is None else ["reach", "grasp"] for e in ends],
        f"{prefix}subtask_start_frames": [None if e is None else [0, 8] for e in ends],
        f"{prefix}subtask_end_frames": ends,
    }
    pq.write_table(pa.table(rows), folder / "file-000.parquet")
    return tmp_path


@pytest.mark.parametrize("prefix", ["dense_", ""])
def test_lerobot_shared_boundaries_make_ends_exclusive_for_the_whole_set(tmp_path: Path, prefix: str) -> None:
    found = read("lerobot", lerobot(tmp_path, [[8, 20], [7, 19]], prefix), ImportOptions()).annotations
    assert found.videos[0].segments() == (Segment("reach", 0, 7), Segment("grasp", 8, 19))
    assert found.fps == 30 and found.videos[0].task == "stack" and found.videos[0].name == "episode_000000"


def test_lerobot_inclusive_ends_are_kept(tmp_path: Path) -> None:
    root = lerobot(tmp_path, [[7, 19], [6, 18]])
    assert read("lerobot", root, ImportOptions()).annotations.videos[1].end_frames == (6, 18)
    forced = read("lerobot", root, ImportOptions(ends="exclusive")).annotations
    assert forced.videos[1].end_frames == (5, 17)


def test_lerobot_episodes_without_subtasks_are_named_or_left_out(tmp_path: Path) -> None:
    root = lerobot(tmp_path, [[7, 19], None, [7, 19]])
    with pytest.raises(AnnotationError, match="1 of 3 episodes have no subtasks, such as episode_000001"):
        read("lerobot", root, ImportOptions())
    imported = read("lerobot", root, ImportOptions(missing="drop"))
    assert len(imported.annotations.videos) == 2 and imported.repairs.missing == ["episode_000001"]


def test_lerobot_other_columns_are_asked_for(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="no columns dense_subtask_names"):
        read("lerobot", lerobot(tmp_path, [[7, 19]], "sparse_"), ImportOptions())


# -- the table ---------------------------------------------------------------------------------


def test_names_replace_the_steps_of_every_format_and_an_unknown_step_is_named(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("take|take the cup\npour | pour it\nreach|go\ngrasp|hold\n")
    root = lerobot(tmp_path / "l", [[7, 19]])
    for name, path, labels in (
        ("ms-tcn", mstcn(tmp_path), ("take the cup", "pour it")),
        ("lerobot", root, ("go", "hold")),
    ):
        options = ImportOptions(fps=15.0, names=tmp_path / "names.txt")
        assert read(name, path, options).annotations.labels == labels
    with pytest.raises(AnnotationError, match="'v1': step 'cut' .* is not in .*names.txt"):
        read("gtcc-json", gtcc(tmp_path), options)
    with pytest.raises(AnnotationError, match="native-fps: lerobot says its own rate"):
        read("lerobot", root, ImportOptions(native_fps=30.0))


def test_an_unknown_format_is_answered_with_the_close_one(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="did you mean 'lerobot'"):
        read("lerobots", tmp_path, ImportOptions())
    with pytest.raises(AnnotationError, match="no such file or folder"):
        read("ms-tcn", tmp_path / "nowhere", ImportOptions())


# -- our own episodes --------------------------------------------------------------------------


def test_episode_steps_are_imported_on_an_even_clock(tmp_path: Path) -> None:
    writer = writer_at(tmp_path)
    for i in (j for j in range(50) if not 12 <= j < 17):  # the camera loses five frames inside step 1
        append_native(writer, i)
        writer.append(tick_at(i))
    writer.close(True, outcome="placed")
    found = read("episodes", tmp_path, ImportOptions())
    assert found.annotations.fps == 25
    assert [(s.start, s.end) for s in found.annotations.videos[0].segments()] == [
        (10 * n, 10 * n + 9) for n in range(5)
    ]
    slower = read("episodes", tmp_path, ImportOptions(fps=5.0)).annotations.videos[0]
    assert slower.num_frames == 10 and slower.start_frames == (0, 2, 4, 6, 8)


def test_episodes_without_steps_are_named_or_left_out(tmp_path: Path) -> None:
    write_episode(tmp_path, 20)
    bare = writer_at(tmp_path)
    for i in range(5):
        bare.append(tick_at(i, stage=False))
    path = bare.close(True, outcome="placed")
    with pytest.raises(AnnotationError, match=f"{path.name}.*steps is empty"):
        read("episodes", tmp_path, ImportOptions())
    assert len(read("episodes", tmp_path, ImportOptions(missing="drop")).annotations.videos) == 1


def test_a_folder_without_episodes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="holds no episode"):
        read("episodes", tmp_path, ImportOptions())


# -- the command line --------------------------------------------------------------------------


def test_the_command_converts_and_reports_repairs(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    features = save_features(tmp_path / "features", v1=7, v2=5)
    arguments = [str(gtcc(tmp_path)), "--from", "gtcc-json", "--to", str(tmp_path / "out"), "--fps", "1"]
    arguments += ["--features", str(features)]
    assert main(["convert", "annotations", *arguments]) == 2
    assert "ends after the last frame 6" in capsys.readouterr().err
    assert main(["convert", "annotations", *arguments, "--beyond", "drop"]) == 0
    assert "1 steps beyond the end" in capsys.readouterr().out
    assert load_annotation_set(tmp_path / "out").labels == ("cut", "fry")
