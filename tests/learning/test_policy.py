"""The policy: what its output depends on, and where every loss term sends its gradient."""

from __future__ import annotations

import base64
import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_world import tiny_config, tiny_rig, tiny_table

from tacit.errors import ConfigError
from tacit.images import decode_image
from tacit_learning.act_hsa.config import ActHsaConfig
from tacit_learning.act_hsa.evaluate import evaluate
from tacit_learning.act_hsa.model import Tokens
from tacit_learning.act_hsa.negatives import Bank, draw_tokens, may_differ, rows_of
from tacit_learning.act_hsa.policy import ActHsaPolicy
from tacit_learning.act_hsa.probes import alignment_probes, touch_of_others
from tacit_learning.act_hsa.touch_alignment import TouchAlignment, ViewPairs, view_pairs
from tacit_learning.act_hsa.train import TrainedPolicy
from tacit_learning.data import keys
from tacit_learning.data.spec import make_spec
from tacit_learning.data.view import NO_TOUCH_SIZE
from tacit_learning.data.windows import Batch, ChunkWindows
from tacit_learning.export import free_gels, make_manifest
from tacit_learning.layers.inputs import prepare_touch

CPU = torch.device("cpu")


@pytest.fixture
def table():
    return tiny_table()


def make_policy(table, tmp_path: Path, **changes: object) -> ActHsaPolicy:
    torch.manual_seed(0)
    return ActHsaPolicy(tiny_config(tmp_path, **changes), make_spec(table))


def make_batch(table, rows: list[int] | None = None) -> Batch:
    return ChunkWindows(table, 5).__getitems__(rows or [0, 11, 35, 47, 62, 88])


def predict(policy: ActHsaPolicy, batch: Batch) -> torch.Tensor:
    with torch.no_grad():
        return policy.eval().predict(batch[keys.STATE], batch[keys.IMAGES], batch[keys.TOUCH])


@pytest.mark.parametrize("key", [keys.STATE, keys.IMAGES, keys.TOUCH])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_the_action_depends_on_every_sense(table, tmp_path: Path, key: str, norm: str) -> None:
    policy, batch = make_policy(table, tmp_path, model__norm=norm), make_batch(table)
    before = predict(policy, batch)
    changed = {**batch, key: batch[key].roll(1, 0)}
    assert (predict(policy, changed) - before).abs().max() > 1e-5


def test_touch_without_contact_is_the_reference(table, tmp_path: Path) -> None:
    policy = make_policy(table, tmp_path)
    reference = torch.from_numpy(table.references)[None]
    touch, contact = prepare_touch(reference, policy.references)
    assert torch.equal(touch, torch.full_like(touch, 0.5))
    assert torch.equal(contact, torch.zeros(1, 2))


def test_a_policy_of_the_runs_own_gels_takes_grey_for_no_contact(table, tmp_path: Path) -> None:
    spec = make_spec(table)
    seen = dataclasses.replace(spec, view=dataclasses.replace(spec.view, touch_reference="run"))
    policy = ActHsaPolicy(tiny_config(tmp_path), seen)
    assert (policy.references == 128).all() and torch.equal(policy.free_gels, spec.references)
    trained = TrainedPolicy(policy.eval(), policy.config, seen, 25.0, {})
    manifest = make_manifest(seen, 25.0, {}, kind="act_hsa", chunk_size=5, free_gels=free_gels(trained))
    assert manifest.touch_reference == "run"
    for name, gel in zip(("left", "right"), table.references, strict=True):
        png = np.frombuffer(base64.b64decode(manifest.free_gels[name]), np.uint8)
        np.testing.assert_array_equal(decode_image(png), gel)
    assert "free_gels" not in ActHsaPolicy(tiny_config(tmp_path), spec).state_dict()


def test_permuting_a_batch_permutes_actions_and_keeps_the_loss(table, tmp_path: Path) -> None:
    policy = make_policy(table, tmp_path, hsa__negatives=["batch"])
    batch, order = make_batch(table), torch.tensor([3, 0, 5, 1, 4, 2])
    permuted = {key: value[order] for key, value in batch.items()}
    torch.testing.assert_close(predict(policy, permuted), predict(policy, batch)[order], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(policy(permuted)[0], policy(batch)[0], rtol=1e-4, atol=1e-5)


def test_padding_of_the_chunk_is_ignored(table, tmp_path: Path) -> None:
    policy = make_policy(table, tmp_path).eval()
    batch = make_batch(table, [28, 29, 59])
    assert batch[keys.ACTION_IS_PAD].any()
    changed = batch[keys.ACTION].clone()
    changed[batch[keys.ACTION_IS_PAD]] += 100
    for name in ("l1", "kl"):
        torch.testing.assert_close(
            policy({**batch, keys.ACTION: changed})[1][name], policy(batch)[1][name], rtol=1e-5, atol=1e-6
        )


def gradient_of(module: torch.nn.Module) -> float:
    return sum(float(p.grad.abs().sum()) for p in module.parameters() if p.grad is not None)


def test_l1_reaches_the_whole_network_but_not_the_alignment_heads(table, tmp_path: Path) -> None:
    policy = make_policy(table, tmp_path, loss__kl_weight=0.0, hsa__weight=1e-20)
    policy(make_batch(table))[0].backward()
    model = policy.model
    parts = [
        model.backbone,
        model.touch_backbone,
        model.encoder,
        model.decoder,
        model.head,
        model.latent_encoder,
    ]
    assert all(gradient_of(part) > 1e-8 for part in parts)
    assert gradient_of(policy.alignment) < 1e-12


def test_alignment_trains_what_the_policy_reads(table, tmp_path: Path) -> None:
    policy = make_policy(table, tmp_path)
    batch = make_batch(table)
    output, contact = policy.run(batch)
    loss, _ = policy.alignment(output.tokens, batch, contact)
    loss.backward()
    model = policy.model
    assert gradient_of(model.backbone) > 0
    assert gradient_of(model.touch_backbone) > 0
    assert gradient_of(policy.alignment) > 0
    assert gradient_of(model.encoder) == gradient_of(model.decoder) == 0


def test_the_touch_feature_tells_the_sensor_and_nothing_but_the_gel(table, tmp_path: Path) -> None:
    policy, batch = make_policy(table, tmp_path).eval(), make_batch(table)
    reference = policy.references[None].expand(len(batch[keys.STATE]), -1, -1, -1, -1)
    blank = {**batch, keys.TOUCH: reference}  # the same grey in both gels; states and images differ
    features = policy.alignment.touch_features(policy.run(blank)[0].tokens.touch)
    assert (features[:, 0] - features[:, 1]).abs().max() > 1e-3
    torch.testing.assert_close(features, features[:1].expand_as(features), rtol=1e-4, atol=1e-5)


def test_hard_negatives_are_the_tokens_most_like_the_touch() -> None:
    features, touch = torch.randn(3, 20, 8), torch.randn(3, 2, 8)
    outside = torch.rand(3, 2, 20) < 0.7
    chosen, mask = draw_tokens(features, touch, outside, 5, hard_share=1.0)
    assert chosen.shape == (6, 5, 8) and mask.all()
    for row, (b, s) in enumerate(itertools.product(range(3), range(2))):
        likeness = torch.nn.functional.cosine_similarity(touch[b, s], features[b], dim=-1)
        likeness[~outside[b, s]] = -2
        best = features[b, likeness.argsort(descending=True)[:5]]
        assert {tuple(x.tolist()) for x in chosen[row]} == {tuple(x.tolist()) for x in best}
    few, mask = draw_tokens(features, touch, torch.zeros_like(outside), 64, hard_share=0.5)
    assert few.shape == (6, 20, 8) and not mask.any()


def test_a_learnt_temperature_moves_and_stays_within_limits(table, tmp_path: Path) -> None:
    policy = make_policy(table, tmp_path, hsa__learn_temperature=True, hsa__temperature=0.1)
    loss, metrics = policy(make_batch(table))
    loss.backward()
    assert policy.alignment.log_temperature.grad.abs() > 0
    assert float(metrics["hsa_temperature"]) == pytest.approx(0.1)
    with torch.no_grad():
        policy.alignment.log_temperature.fill_(-9.0)
    assert policy.alignment.temperature().item() == pytest.approx(0.01)
    assert "hsa_temperature" not in make_policy(table, tmp_path)(make_batch(table))[1]


def test_tokens_behind_a_layer_are_refused_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"hsa.source: 'policy' is gone: .* leave out hsa.source and hsa.layer"
    ):
        tiny_config(tmp_path, hsa__source="policy", hsa__layer=1)
    assert tiny_config(tmp_path, hsa__source="backbone", hsa__layer=0) == tiny_config(tmp_path)


@pytest.mark.parametrize("kind", ["wrist", "third"])
def test_each_view_adds_to_the_loss(table, tmp_path: Path, kind: str) -> None:
    policy, batch = make_policy(table, tmp_path), make_batch(table)
    both = policy(batch)[1]
    getattr(policy.alignment, kind).zero_()
    one = policy(batch)[1]
    gone, kept = ("hsa_w", "hsa_tp") if kind == "wrist" else ("hsa_tp", "hsa_w")
    assert both[gone] > 0
    assert one[gone] == 0
    assert one[kept] > 0


def test_a_sensor_that_no_camera_ever_sees_teaches_nothing_and_spoils_nothing(table, tmp_path: Path) -> None:
    policy, batch = make_policy(table, tmp_path, hsa__negatives=["batch"]), make_batch(table)
    batch[keys.BOX_VALID][:, :, 0] = False
    batch[keys.BOXES][:, :, 0] = float("nan")
    policy(batch)[0].backward()
    code = policy.alignment.sensor.grad
    assert (code[0] == 0).all() and code[1].abs().max() > 0
    assert all(torch.isfinite(p.grad).all() for p in policy.parameters() if p.grad is not None)
    assert {"hsa_pointing", "hsa_valid"} <= set(found := evaluate(policy.eval(), [batch], CPU))
    assert found["hsa_valid"] == pytest.approx(0.5)


def test_invisible_boxes_give_no_alignment_loss(table, tmp_path: Path) -> None:
    policy, batch = make_policy(table, tmp_path), make_batch(table)
    batch[keys.BOX_VALID] = torch.zeros_like(batch[keys.BOX_VALID])
    batch[keys.BOXES] = torch.full_like(batch[keys.BOXES], float("nan"))
    loss, metrics = policy(batch)
    loss.backward()
    assert metrics["hsa_w"] == 0
    assert metrics["hsa_tp"] == 0
    assert all(torch.isfinite(p.grad).all() for p in policy.parameters() if p.grad is not None)


def test_visibility_weights_the_third_person_term(table, tmp_path: Path) -> None:
    policy, batch = make_policy(table, tmp_path, hsa__negatives=["batch"]), make_batch(table)
    full = policy(batch)[1]
    half = policy({**batch, keys.VISIBILITY: batch[keys.VISIBILITY] / 2})[1]
    torch.testing.assert_close(half["hsa_tp"], full["hsa_tp"] / 2)
    torch.testing.assert_close(half["hsa_w"], full["hsa_w"])


def test_a_gel_that_touches_is_no_row_of_a_camera_in_the_world(table, tmp_path: Path) -> None:
    policy, batch = make_policy(table, tmp_path, hsa__third_person="seen"), make_batch(table)
    metrics = policy(batch)[1]
    assert metrics["hsa_tp"] == 0 and metrics["hsa_w"] > 0
    batch[keys.TOUCH][:3] = policy.references  # these touch nothing, and are seen
    assert policy(batch)[1]["hsa_tp"] > 0


def test_neighbours_fingers_and_blank_pairs_of_a_sensor_are_no_negatives() -> None:
    episode, frame = torch.tensor([0, 0, 0, 1]), torch.tensor([5, 15, 40, 5])
    touching = torch.tensor([[True, True], [True, True], [True, False], [True, False]])
    rows = rows_of(episode, frame, touching)
    mask = may_differ(rows, rows, time_gap=20)
    for i, j in itertools.product(range(8), range(8)):
        a, b = i // 2, j // 2
        near = episode[a] == episode[b] and abs(int(frame[a] - frame[b])) <= 20
        alike = i % 2 == j % 2 and not touching.flatten()[i] and not touching.flatten()[j]
        assert bool(mask[i, j]) == (not near and not alike)


def test_a_bank_holds_the_newest_rows_and_offers_those_that_may_differ() -> None:
    bank, pushed = Bank(6, 3), []
    for step in range(3):
        episode, frame = torch.tensor([step, 1]), torch.tensor([7, 9])
        rows, valid = rows_of(episode, frame, torch.rand(2, 2) < 0.5), torch.rand(4) < 0.8
        features = torch.randn(4, 3)
        held, mask = bank.negatives(rows, time_gap=20)
        before = {tuple(f.tolist()): tag for f, *tag in pushed[-6:]}
        for q in range(6):
            kept = before.get(tuple(held[q].tolist()))
            for r in range(4):
                blank = kept and not kept[3] and not rows.touching[r] and kept[2] == rows.sensor[r]
                expected = kept and kept[4] and kept[0] != rows.episode[r] and not blank
                assert bool(mask[r, q]) == bool(expected)
        bank.push(features, rows, valid)
        pushed += list(zip(features, *rows, valid, strict=True))


def test_other_wrists_are_negatives_of_the_same_moment(table, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="this policy has 1; leave it out"):
        make_policy(table, tmp_path, hsa__negatives=["tokens", "camera"])
    policy, batch = make_policy(table, tmp_path, hsa__negatives=["batch"]), make_batch(table, [0, 31, 62])
    options = policy.config.hsa.model_copy(update={"negatives": ("batch", "camera"), "time_gap": 100})
    each = torch.eye(2, dtype=torch.bool)  # two arms, a camera and a sensor on each
    alignment = TouchAlignment(options, 32, ViewPairs(each, each & False), (32, 32), (4, 4))
    alignment.touch_head, alignment.vision_head = torch.nn.Identity(), torch.nn.Identity()
    torch.nn.init.zeros_(alignment.sensor)
    batch[keys.EPISODE][:] = 0  # neighbours all: rows of other samples are no negatives
    batch[keys.BOXES][:] = torch.tensor([0.0, 0.0, 32.0, 32.0])
    batch[keys.BOX_VALID][2, 1, 1] = False  # of the last sample the second wrist sees nothing
    image, touch = torch.randn(3, 2, 16, 32), torch.randn(3, 2, 1, 32)
    found = alignment(Tokens(image, touch), batch, torch.full((3, 2), 9.0))[1]
    unit = [
        x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (touch.numpy()[:, :, 0], image.numpy().mean(2))
    ]
    scores = np.einsum("bsf,bnf->bsn", *unit) / 0.07
    rows = [np.log1p(np.exp(scores[b, s, 1 - s] - scores[b, s, s])) for s in (0, 1) for b in range(3)]
    rows[2] = 0.0  # nothing to compare with
    assert float(found["hsa_w"]) == pytest.approx((np.mean(rows[:3]) + np.mean(rows[3:5])) / 2, rel=1e-4)


def test_wrist_camera_pairs_with_its_own_arm_and_the_world_with_all() -> None:
    pairs = view_pairs(tiny_rig(), ["wrist", "top"], ["left", "right"], None)
    assert pairs.wrist.tolist() == [[True, True], [False, False]]
    assert pairs.third.tolist() == [[False, False], [True, True]]
    with pytest.raises(ConfigError, match="did you mean 'wrist'"):
        view_pairs(tiny_rig(), ["wrist", "top"], ["left"], ("wirst",))


def test_controls_align_touch_with_another_place_or_another_sample(table, tmp_path: Path) -> None:
    batch = make_batch(table, [0, 31, 62])  # of three episodes
    batch[keys.BOXES][:] = torch.tensor([0.0, 0.0, 12.0, 12.0])  # within the first 2 x 2 of 4 x 4 tokens
    found = {}
    for control in ("none", "shuffled", "displaced"):
        policy = make_policy(table, tmp_path, hsa__negatives=["batch"], hsa__control=control)
        alignment = policy.alignment
        alignment.touch_head, alignment.vision_head = torch.nn.Identity(), torch.nn.Identity()
        torch.nn.init.zeros_(alignment.sensor)
        image, touch = torch.zeros(3, 2, 4, 4, 32), torch.zeros(3, 2, 1, 32)
        for b in range(3):
            image[b, :, :2, :2, b] = touch[b, ..., b] = 1.0  # the tokens of a box tell the sample
        contact = torch.full((3, 2), 9.0)
        found[control] = float(alignment(Tokens(image.flatten(2, 3), touch), batch, contact)[1]["hsa_w"])
    assert found["none"] < 1e-4
    # four rows of others, two of which are just like the touch that was taken for one's own
    assert found["shuffled"] == pytest.approx(np.log(3 + 2 * np.exp(1 / 0.07)), rel=1e-5)
    assert found["displaced"] == pytest.approx(np.log(5), rel=1e-5)  # nothing is there: chance


def test_token_negatives_lie_outside_the_box(table, tmp_path: Path) -> None:
    policy, batch = make_policy(table, tmp_path), make_batch(table)
    weights, outside = policy.alignment.weights(batch[keys.BOXES][:, 0])
    assert not (outside & (weights > 0)).any()
    assert (weights.sum((-2, -1)) > 0.999).all()


def test_one_batch_is_learnt_by_heart(table, tmp_path: Path) -> None:
    policy = make_policy(table, tmp_path, hsa__weight=0.0, loss__kl_weight=0.0)
    batch = make_batch(table, [0, 40, 80])
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    for _ in range(250):
        optimizer.zero_grad()
        loss, _ = policy.train()(batch)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05


def test_alignment_of_one_batch_is_learnt_below_chance(table, tmp_path: Path) -> None:
    policy, batch = make_policy(table, tmp_path, hsa__negatives=["batch"]), make_batch(table)
    optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
    for _ in range(120):
        optimizer.zero_grad()
        loss, metrics = policy.train()(batch)
        loss.backward()
        optimizer.step()
    assert metrics["hsa_ratio"] < 0.3
    assert metrics["hsa_top1"] > 0.9


def test_loss_follows_its_equation(table, tmp_path: Path) -> None:
    policy, batch = make_policy(table, tmp_path, hsa__negatives=["batch"]).eval(), make_batch(table)
    loss, m = policy(batch)
    expected = m["l1"] + 10.0 * m["kl"] + 0.5 * (m["hsa_w"] + 0.5 * m["hsa_tp"])
    torch.testing.assert_close(loss, expected)


def test_warm_up_starts_without_alignment(table, tmp_path: Path) -> None:
    policy = make_policy(table, tmp_path, hsa__warmup_steps=100, hsa__negatives=["batch"]).eval()
    batch = make_batch(table)
    first, last = policy(batch, 0)[0], policy(batch, 99)[0]
    assert first < last
    torch.testing.assert_close(last, policy(batch)[0])


def test_chunk_is_in_canonical_units(table, tmp_path: Path) -> None:
    policy = make_policy(table, tmp_path)
    with torch.no_grad():
        policy.model.head.weight.zero_()
        policy.model.head.bias.zero_()
    chunk = predict(policy, make_batch(table))
    np.testing.assert_allclose(chunk[0, 0], table.action.mean(0), rtol=1e-5)


def test_policy_without_latent_or_alignment_still_trains(table, tmp_path: Path) -> None:
    policy = make_policy(table, tmp_path, model__latent_dim=0, hsa__weight=0.0)
    loss, metrics = policy(make_batch(table))
    loss.backward()
    assert "kl" not in metrics
    assert "active_units" not in evaluate(policy.eval(), [make_batch(table)], CPU)


def test_a_policy_without_sensors_is_one_of_vision_whatever_the_weight_of_hsa(table, tmp_path: Path) -> None:
    spec = make_spec(table)
    blind = dataclasses.replace(spec, view=dataclasses.replace(spec.view, sensors={}), references=None)
    policy = ActHsaPolicy(tiny_config(tmp_path, hsa__weight=1.0), blind)
    assert policy.alignment is None
    batch = make_batch(table)
    chunk = predict(policy, {**batch, keys.TOUCH: batch[keys.TOUCH].new_zeros(6, 0, *NO_TOUCH_SIZE, 3)})
    assert chunk.shape == batch[keys.ACTION].shape


def test_evaluation_puts_baselines_beside_the_error(table, tmp_path: Path) -> None:
    policy, batch = make_policy(table, tmp_path).eval(), make_batch(table)
    metrics = evaluate(policy, [batch], CPU)
    std = policy.action_std
    error = ((batch[keys.STATE][:, None] - batch[keys.ACTION]) / std).abs()
    expected = error[~batch[keys.ACTION_IS_PAD]].mean()
    assert metrics["l1_copy"] == pytest.approx(float(expected), rel=1e-4)
    chunk = predict(policy, batch)
    for k in (1, 3, 5):
        keep = ~batch[keys.ACTION_IS_PAD][:, k - 1]
        expected = ((chunk - batch[keys.ACTION]) / std)[keep, k - 1].abs().mean()
        assert metrics[f"l1_at_{k}"] == pytest.approx(float(expected), rel=1e-4)
    keep = ~batch[keys.ACTION_IS_PAD]
    for name, error in zip(policy.state_names, (chunk - batch[keys.ACTION])[keep].abs().mean(0), strict=True):
        assert metrics[f"l1_of_{name}"] == pytest.approx(float(error), rel=1e-4)
    assert {"l1", "l1_z0", "spread", "hsa_chance", "hsa_ratio", "hsa_top1", "hsa_pointing"} <= set(metrics)
    assert metrics == evaluate(policy, [batch], CPU)
    alone = evaluate(policy, [make_batch(table, [0, 5, 11])], CPU)  # one episode: there is no other touch
    assert "l1_touch_own" in metrics and not {"l1_touch_own", "hsa_gallery_top1"} & set(alone)


def test_touch_of_another_episode_is_of_another_episode_and_has_contact(table, tmp_path: Path) -> None:
    policy, batch = make_policy(table, tmp_path).eval(), make_batch(table, [0, 5, 31, 36, 62, 70])
    touching = torch.tensor([[1, 0], [0, 0], [1, 1], [0, 1], [0, 0], [0, 1]], dtype=torch.bool)
    rows, partners = touch_of_others(batch, touching)
    assert rows.tolist() == [0, 2, 3, 5] and partners.tolist() == [2, 5, 5, 0]
    two = make_batch(table, [0, 62])  # each gets the touch of the other
    metrics = evaluate(policy, [two], CPU)
    for name, touch in (("own", two[keys.TOUCH]), ("other", two[keys.TOUCH].flip(0))):
        chunk = predict(policy, {**two, keys.TOUCH: touch})
        error = (chunk - two[keys.ACTION]) / policy.action_std
        assert metrics[f"l1_touch_{name}"] == pytest.approx(float(error.abs().mean()), rel=1e-4)


def test_pointing_and_gallery_are_right_for_features_made_by_hand(table, tmp_path: Path) -> None:
    policy, batch = make_policy(table, tmp_path).eval(), make_batch(table, [0, 31, 62])
    alignment = policy.alignment
    alignment.touch_head, alignment.vision_head = torch.nn.Identity(), torch.nn.Identity()
    torch.nn.init.zeros_(alignment.sensor)
    inside = alignment.weights(batch[keys.BOXES][:, 0])[0].flatten(2) > 0  # of the wrist camera
    rows, columns = alignment.image_grid
    image = torch.zeros(3, 2, rows * columns, 32)
    touch = torch.zeros(3, 2, 1, 32)
    for b, s in itertools.product(range(3), range(2)):
        image[b, 0, inside[b, s], 2 * b + s] = 1.0  # the tokens of a box tell sample and sensor
        touch[b, s, 0, 2 * b + s] = 1.0
    touching = torch.ones(3, 2, dtype=torch.bool)
    right = alignment_probes(alignment, Tokens(image, touch), batch, touching)
    assert right["hsa_pointing"] == right["hsa_gallery_top1"] == 1
    assert float(right["hsa_gallery_chance"]) == pytest.approx(1 / 3)
    assert float(right["hsa_pointing_chance"]) == pytest.approx(float(inside.float().mean()))
    wrong = alignment_probes(alignment, Tokens(image, touch.roll(1, 0)), batch, touching)
    assert wrong["hsa_gallery_top1"] == 0


def test_empty_negatives_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="negatives is empty"):
        tiny_config(tmp_path, hsa__negatives=[])
    assert isinstance(tiny_config(tmp_path, hsa__negatives=[], hsa__weight=0.0), ActHsaConfig)
    with pytest.raises(ValueError, match="name batch or tokens too"):
        tiny_config(tmp_path, hsa__negatives=["queue"])
    with pytest.raises(ValueError, match="name batch too"):
        tiny_config(tmp_path, hsa__negatives=["tokens", "time"])
