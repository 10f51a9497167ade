"""Pages drawn from small made-up results: for tests of how a page looks, not of what is true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from episode_kit import drawn_image, write_episode

Rows = list[dict[str, Any]]


def write_metrics(run: Path, rows: Rows, steps: int) -> None:
    """Leave what a training leaves: rows of metrics, and the steps that it was to take."""
    (run / "checkpoints" / "last").mkdir(parents=True)
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run / "checkpoints" / "last" / "config.yaml").write_text(f"train:\n  steps: {steps}\n")


def demo_page(folder: Path) -> Path:
    """The report of a demo whose policy ran out of time, with one success and one failure."""
    pytest.importorskip("rclpy")
    from tacit_ros.demo.numbers import collect
    from tacit_ros.demo.report import write_report
    from tacit_ros.demo.settings import full

    settings = full(folder)
    write_episode(settings.episodes, 12)
    paths = [write_episode(settings.closed_loop, 12, success) for success in (True, False)]
    learned = {"l1": 0.5, "hsa": 1.0, "hsa_chance": 4.0, "loss": 0.7}
    rows = [{"kind": "train", "step": step, **learned} for step in (200, 400, 1600)]
    rows.append({"kind": "val", "step": 1600, "l1_z0": 0.1, "l1_copy": 0.5, "loss": 0.3, "mae": 0.04})
    write_metrics(folder / "act_hsa", rows, 2200)
    write_metrics(folder / "progress", rows, 1600)
    stages = ("reach", "lift", "carry", "place", "retreat")
    stamps = [40_000_000 * i for i in range(180)]
    acted = [
        {
            "seed": 10_000 + i,
            "success": not i,
            "seconds": 7.2,
            "error_m": 0.0021,
            "path": str(path),
            "progress": [[stamp, stamp / stamps[-1]] for stamp in stamps[3:]],
            "truth": [[stamp, min(k // 36, 4)] for k, stamp in enumerate(stamps)],
        }
        for i, path in enumerate(paths)
    ]
    node = {"inference_p50_ms": "1.64", "inference_p95_ms": "44.35"}
    results: dict[str, dict[str, Any]] = {
        "record": {
            "seconds": 184.3,
            "recorded_episodes": 60,
            "successful_episodes": 60,
            "recorded_ticks": 10842,
            "dropped_ticks": 15,
            "recording_speed": 2.36,
        },
        "train_policy": {"seconds": 300.1},
        "train_progress": {"seconds": 88.2},
        "export": {"seconds": 9.1, "policy_max_diff": 6.6e-07, "progress_max_diff": 1e-7},
        "act": {"seconds": 160.0, "closed_loop": acted, "diagnostics": {"policy": node}},
    }
    facts = {"demo": "full", "machine": "x86_64, 2 threads, 24 GiB of memory, Linux", "rig_hz": 25.0}
    numbers = facts | collect(results, folder / "act_hsa", folder / "progress", stages)
    return write_report(settings, numbers, results, stages)


def alignment_pages(folder: Path) -> dict[str, Path]:
    """The pages of `tacit evaluate progress` and `tacit view alignment`, of an estimator that half knows."""
    from tiny_videos import ACTIONS, tiny_failing

    from tacit.progress import DetectorConfig
    from tacit_learning.alignment.commands.progress_page import save_page
    from tacit_learning.alignment.commands.view_alignment import Shown, make_page
    from tacit_learning.alignment.data.videos import make_videos
    from tacit_learning.alignment.judge.predict import Prediction

    annotated = tiny_failing(4)
    videos = make_videos(annotated, annotated.annotations.videos, "video")
    said = []
    for video in videos.videos:
        value = np.linspace(0, 0.9, len(video), dtype=np.float32)
        failure = np.stack([1 - value, value], axis=1)
        embeddings = video.features.numpy()
        said.append(Prediction(embeddings, {"online": value}, value, None, None, None, value, failure))
    share, kinds = [12, 13, 0.6669, 0.9863], {"wrong place": [1, 1, 0.2065, 1.0], "drop": [0, 0, 0.0, 1.0]}
    names = ("done_recall", "done_precision", "false_done", "early", "found", "named", "alarm_precision")
    tally = dict.fromkeys((*names, "false_alarms"), share)
    tally |= {"done_delay_s": 0.16, "alarm_delay_s": float("nan"), "by_kind": kinds, "found_by_kind": kinds}
    rivals = ("always 0.25", "frame count with class", "raw travelled distance")
    report = {
        "ours": tally,
        "baselines": dict.fromkeys(rivals, tally),
        "warps": dict.fromkeys(("half speed", "double speed", "pause", "retry"), tally),
        "errors": {"ours": 0.0448, **{name: 0.1 + 0.123 * i for i, name in enumerate(rivals)}},
        "error_by_step": dict.fromkeys(("between steps", *ACTIONS), 0.01234),
        "calibration": {"success": [(0.1, 0.0, 8), (0.8, 0.35, 6)], "failure": [(0.5, 1.0, 3)]},
        "detector": DetectorConfig().model_dump(),
    }
    judged = save_page(folder / "progress.html", "runs/progress", report, videos, said, DetectorConfig())
    shown = [Shown(video, one, None) for video, one in list(zip(videos.videos, said, strict=True))[:2]]
    aligned = make_page("Alignment and progress: run", "split test", shown).save(folder / "alignment.html")
    return {"progress": judged, "alignment": aligned}


def touch_page(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page of `tacit view touch`, of a policy that was not trained."""
    from tiny_world import tiny_config, tiny_table

    from tacit.view.page import Tile
    from tacit_learning.act_hsa import view_touch
    from tacit_learning.act_hsa.policy import ActHsaPolicy
    from tacit_learning.data.spec import make_spec

    numbers = {key: 0.1 * i for i, (key, _) in enumerate(view_touch.NUMBERS)}
    picture = drawn_image(3, 240, 320)
    tiles = [Tile(picture, f"left in wrist, touching; episode {i}, frame 12") for i in range(5)]
    monkeypatch.setattr(view_touch, "evaluate", lambda *_: numbers)
    monkeypatch.setattr(view_touch, "heat_maps", lambda *_: tiles)
    config, table = tiny_config(folder), tiny_table(2)
    policy = ActHsaPolicy(config, make_spec(table)).eval()
    trained: Any = type("Trained", (), {"config": config, "policy": policy})()
    return view_touch.make_page(trained, table, 5, "held-out").save(folder / "touch.html")


def vace_e_page(folder: Path) -> Path:
    """The report of a VACE-E run of two stages that was validated once, and drew one clip."""
    from tacit_learning.vace_e.judge.report import write_page
    from tacit_learning.vace_e.sampling.from_dataset import SampledClip, save_clip

    train = {"flow": 1.3, "task_excess": 0.5, "embodiment_excess": 0.4, "club_mi": 0.1, "lr": 1e-4}
    rows: Rows = [{"kind": "train", "step": step, "samples_per_s": 5.5, **train} for step in range(1, 6)]
    probes = {
        f"{a}_of_{b}_{probe}": 0.5
        for a in ("task", "embodiment")
        for b in ("task", "embodiment")
        for probe in ("linear", "knn", "prototype", "chance")
    }
    scores: dict[str, Any] = {"flow": 1.2, "psnr_inside": 12.4, "ssim_outside": 0.65, **probes}
    rows.append({"kind": "val", "step": 5, **scores})
    write_metrics(folder, rows, 12)
    stages = [
        {"name": name, "groups": ["vace_e"], "first_step": first, "steps": 6}
        for name, first in (("first", 0), ("second", 6))
    ]
    (folder / "stages.json").write_text(json.dumps(stages))
    scores["fvd"] = "unavailable: no weights of its network that load without pickle"
    (folder / "validation.json").write_text(json.dumps({"step": 5, "num_samples": 2, "scores": scores}))
    labels = {"task": {"0": "Pouring, left hand cup, right hand bottle."}, "embodiment": {"0": "g1 humanoid"}}
    (folder / "labels.json").write_text(json.dumps(labels))
    (folder / "config.yaml").write_text("data:\n  folder: data/a_long_name_of_a_folder/of_a_data_set\n")
    film = np.stack([drawn_image(i, 48, 64) for i in range(8)])
    clip = SampledClip("clip", film, film, film, film[..., 0] > 0, 8.0)
    save_clip(folder / "samples", "step_0000005_104-ada-grasping_2024-05-08_15-23-40_episode_0", clip)
    return write_page(folder, "VACE-E")


def study_page(folder: Path) -> Path:
    """The page of `tacit study touch` of two arms and two trainings."""
    pytest.importorskip("mujoco")
    from tacit_sim.study.command import Options, make_plan
    from tacit_sim.study.report import write
    from tacit_sim.study.runs import Study

    plan = make_plan(Options(episodes=4, demonstrations=2, steps=3, films=1, out=folder / "study"))
    study = Study(plan, lambda _: None, lambda *_: None)
    for arm, seed, touch in study.plays():
        rows = [{"seed": start, "success": arm.feels and touch == "real"} for start in range(4)]
        path = plan.evaluation(arm, seed, touch)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"rollouts": rows, "right_mark": 3, "placed_on_any_mark": 4}))
    for arm in plan.arms:
        for seed in plan.seeds:
            write_metrics(plan.run(arm, seed), [{"kind": "train", "step": s, "l1": 1 / s} for s in (1, 2)], 3)
        plan.film_folder(arm).mkdir(parents=True)
        film = np.full((8 * 120, 480, 3), 90, np.uint8)
        cv2.imwrite(str(plan.film_folder(arm) / "seed_70000_success.png"), film)
    logs = plan.out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    (logs / "train_a.cost.json").write_text('{"cpu_s": 1234.5, "wall_s": 2345.6}')
    return write(study)[0]


def control_page(folder: Path) -> Path:
    """The page of the study of control, with two kinds of masks."""
    from benches.control_page import SHOWN, WORDS, write_study_page

    table = {kind: {name: [1.234, 0.987, 1.5, 1.2, 1.3] for name in WORDS} for kind in ("loose", "tight")}
    seed = folder / "seed_0" / "loose"
    seed.mkdir(parents=True)
    film = np.stack([np.stack([drawn_image(i, 32, 48) for i in range(5)])])
    np.savez(seed / "strips.npz", **dict.fromkeys(SHOWN, film))
    return write_study_page(folder, table, (0, 1))


def corners_page(folder: Path) -> Path:
    """The page on which gel corners are clicked."""
    from tacit.images import encode_png
    from tacit.record.samples import SampleFolder
    from tacit.rig import load_rig
    from tacit_calibration.touch.click_page import write_click_page

    rig = load_rig("nova2_sim_vga")
    names = tuple(joint.name for joint in rig.arms["arm"].joints)
    samples = SampleFolder(folder, "arm", names, "wrist")
    home = (-0.3424, 0.0643, 2.0576, -0.5511, -1.5708, 1.2284)
    samples.add(encode_png(drawn_image(0, 480, 640)).tobytes(), home, 0.5, None)
    return write_click_page(rig, "wrist", folder)
