"""Label maps grow and never renumber; the same text has the same id however the data are read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benches.drawn_clips import SyntheticConfig, example_tasks, write_dataset
from tacit import cli
from tacit.errors import ConfigError
from tacit_learning.data.labels import LabelMaps, embodiment_of, load_labels, mutual_information
from tacit_learning.vace_e.config import DataOptions
from tacit_learning.vace_e.data.dataset import VaceEDataset
from tacit_learning.vace_e.data.label_check import check_labels

SMALL = SyntheticConfig(height=16, width=16, num_frames=5, num_objects=1)
texts = st.lists(st.text(max_size=4), max_size=6)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("labels")
    write_dataset(root, example_tasks(), SMALL)
    return root


def options(root: Path, **changes: object) -> DataOptions:
    base = {"height": 16, "width": 16, "num_frames": 5, "task_metadata_path": str(root / "metadata.json")}
    return DataOptions.model_validate({"dataset_base_path": str(root), **base, **changes})


@given(texts, texts, texts)
def test_growing_keeps_every_id_and_leaves_no_gap(
    first: list[str], second: list[str], third: list[str]
) -> None:
    old = LabelMaps.build(first)
    new = old.extended(second, third)
    assert {text: new.task[text] for text in old.task} == old.task
    assert sorted(new.task.values()) == list(range(len(set(first) | set(second))))
    new.check_extends(old)


@given(texts)
def test_maps_do_not_depend_on_the_order_of_the_texts(found: list[str]) -> None:
    assert LabelMaps.build(found).sha256 == LabelMaps.build(found[::-1] + found).sha256


def test_human_and_robot_are_always_0_and_1() -> None:
    assert LabelMaps.build([], ["zebra", "apple"]).embodiment == {
        "human": 0,
        "robot": 1,
        "apple": 2,
        "zebra": 3,
    }


def test_an_unknown_text_is_minus_one_and_never_class_zero() -> None:
    labels = LabelMaps.build(["a"])
    assert labels.task_id("b") == labels.embodiment_id("cat") == -1


def test_a_map_that_would_renumber_is_refused_with_the_text_that_moves() -> None:
    old = LabelMaps.build(["pour", "wipe"])
    with pytest.raises(ConfigError, match=r"renumbered \('pour': 0 -> 1"):
        LabelMaps.build(["grasp", "pour", "wipe"]).check_extends(old, "resume")


def test_maps_come_back_from_the_file_as_they_were(tmp_path: Path) -> None:
    labels = LabelMaps.build(["b", "a"]).extended(["Ä", "0"])
    labels.save(tmp_path / "labels.json")
    assert load_labels(tmp_path / "labels.json") == labels
    content = json.loads((tmp_path / "labels.json").read_text())
    assert content["task"] == {"a": 0, "b": 1, "0": 2, "Ä": 3}
    assert set(content) == {"task", "embodiment", "version", "sha256"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": {"a": 1, "b": 0}}, "sha256"),
        ({"task": {"a": 0, "b": 2}}, "0..1"),
        ({"task": {"a": 0, "b": 0}}, "each once"),
        ({"task": {"a": "0", "b": 1}}, "integer id"),
        ({"version": 9}, "version 9"),
        ({"sha256": None}, "sha256"),
    ],
)
def test_an_edited_file_is_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps({**LabelMaps.build(["a", "b"]).as_json(), **change}))
    with pytest.raises(ConfigError, match=message):
        load_labels(path)


@pytest.mark.parametrize(
    ("text", "message"), [(None, "no such file"), ("{", "not valid JSON"), ("[]", "keys")]
)
def test_a_missing_or_broken_file_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "labels.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_labels(path)


@pytest.mark.parametrize(
    ("kind", "mode", "text"),
    [
        ("human_glasses", "coarse", "human"),
        ("Human", "coarse", "human"),
        ("h9_claw", "coarse", "robot"),
        ("h9_claw", "fine", "h9_claw"),
        (None, "coarse", None),
    ],
)
def test_embodiment_is_what_the_metadata_say(kind: str | None, mode: str, text: str | None) -> None:
    assert embodiment_of(kind, mode) == text  # type: ignore[arg-type]


def test_mutual_information_of_a_copy_is_its_entropy_and_of_strangers_zero() -> None:
    coin = [0, 1] * 8
    assert mutual_information(coin, coin) == pytest.approx((np.log(2), np.log(2)))
    assert mutual_information([0, 0, 1, 1], [0, 1, 0, 1]).information == pytest.approx(0, abs=1e-12)


def test_twenty_five_human_and_sixteen_robot_folders_have_two_thirds_of_a_nat() -> None:
    bodies = ["human"] * 25 + ["robot"] * 16
    assert mutual_information(range(41), bodies) == pytest.approx((0.669, 0.669), abs=5e-4)
    assert mutual_information(["same"] * 41, bodies) == pytest.approx((0, 0.669), abs=5e-4)


def test_mutual_information_is_entropies_minus_joint_entropy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, 200), rng.integers(0, 3, 200)

    def entropy(labels: np.ndarray) -> float:
        p = np.unique(labels, return_counts=True)[1] / len(labels)
        return float(-(p * np.log(p)).sum())

    found = mutual_information(a.tolist(), b.tolist())
    assert found.information == pytest.approx(entropy(a) + entropy(b) - entropy(a * 10 + b), abs=1e-12)
    assert found.entropy == pytest.approx(entropy(b))


def test_labels_of_a_data_set_are_the_same_for_part_of_its_folders(root: Path, tmp_path: Path) -> None:
    """The metadata name all tasks, so a process that sees one folder numbers them alike."""
    whole = VaceEDataset(options(root))
    name = whole.records[-1].task
    (tmp_path / name).symlink_to(root / name)
    part = VaceEDataset(options(tmp_path, task_metadata_path=str(root / "metadata.json")))
    assert part.labels.sha256 == whole.labels.sha256
    assert part.task_label(0) == whole.task_label(len(whole) - 2)


def test_episodes_of_one_prompt_share_a_label_across_folders_and_bodies(root: Path) -> None:
    dataset = VaceEDataset(options(root))
    pouring = [i for i in range(len(dataset)) if dataset.prompt(i).startswith("Pouring")]
    assert len({dataset.records[i].task for i in pouring}) == 2
    assert len({dataset.task_label(i) for i in pouring}) == 1
    assert {dataset.embodiment_label(i) for i in pouring} == {0, 1}


def test_digits_before_a_name_do_not_make_it_human(root: Path) -> None:
    dataset = VaceEDataset(options(root))
    by_folder = {r.task: dataset.embodiment_label(i) for i, r in enumerate(dataset.records)}
    assert {by_folder[t] for t in by_folder if t.startswith("10")} == {0, 1}


def test_evaluation_leaves_an_unknown_task_at_minus_one(root: Path) -> None:
    labels = LabelMaps.build(["Left hand picking orange."])
    fixed = VaceEDataset(options(root), labels=labels, extend=False)
    grown = VaceEDataset(options(root), labels=labels)
    assert set(fixed.label_arrays()[0].tolist()) == {-1, 0}
    assert grown.labels.task_id("Left hand picking orange.") == 0 and -1 not in grown.label_arrays()[0]


def test_a_folder_without_metadata_has_no_known_body(root: Path) -> None:
    dataset = VaceEDataset(options(root, task_metadata_path=None))
    assert set(dataset.label_arrays()[1].tolist()) == {-1}
    assert dataset.report.note_counts == {"task without metadata": 6}
    assert "metadata.json is there" in dataset.report.notes[0].message
    assert dataset.item(0, video=False).prompt.startswith("Robot manipulation task: ")
    by_type = VaceEDataset(options(root, task_metadata_path=None, task_label_by="task_type"))
    assert set(by_type.label_arrays()[0].tolist()) == {-1}


def test_the_check_finds_labels_that_depend_on_the_batch(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault of numbering texts as they come: the same episode has another label next time."""
    dataset = VaceEDataset(options(root))
    assert check_labels(dataset).ok
    seen: list[str] = []

    def as_they_come(i: int) -> int:
        seen.append(dataset.prompt(i))
        return list(dict.fromkeys(seen[-3:])).index(dataset.prompt(i))

    monkeypatch.setattr(dataset, "task_label", as_they_come)
    failed = [check.name for check in check_labels(dataset).checks if not check.ok]
    assert "equal in every batch and shuffle" in failed


def test_the_check_finds_a_subset_that_numbers_anew(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = VaceEDataset(options(root))
    taken = VaceEDataset.subset

    def renumbered(self: VaceEDataset, indices: list[int]) -> VaceEDataset:
        part = taken(self, indices)
        part.labels = LabelMaps.build({part.prompt(i) for i in range(len(part))})
        return part

    monkeypatch.setattr(VaceEDataset, "subset", renumbered)
    failed = [check.name for check in check_labels(dataset).checks if not check.ok]
    assert failed == ["equal in every subset"]


def test_check_labels_reports_and_writes_the_maps(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written, report = tmp_path / "labels.json", tmp_path / "report.json"
    words = ["check", "labels", str(root), "--write", str(written), "--json", str(report)]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert "I(task; embodiment)" in out and "pull against each other" in out
    assert load_labels(written) == VaceEDataset(options(root)).labels
    assert json.loads(report.read_text())["ok"] is True


def test_check_labels_fails_where_an_earlier_run_numbered_otherwise(root: Path, tmp_path: Path) -> None:
    older = tmp_path / "labels.json"
    LabelMaps.build(["zzz"]).save(older)
    assert cli.main(["check", "labels", str(root), "--older", str(older)]) == 1
    assert cli.main(["check", "labels", str(root), "--older", str(older), "--labels", str(tmp_path)]) == 0
    assert cli.main(["check", "labels", str(tmp_path / "nothing")]) == 2
