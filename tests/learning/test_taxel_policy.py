"""Facts about policies that feel arrays of taxels: rows, encoder, HSA, and the exported graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from taxel_kit import reading_at, taxel_rig, write_taxel_episode
from tiny_world import tiny_config

from tacit.bundle.player import PlayFlags
from tacit.bundle.runtime import Observation, OnnxPolicy
from tacit.episode import EpisodeReader
from tacit.errors import BundleError, EpisodeError
from tacit.rig import parse_rig
from tacit_learning.act_hsa.policy import ActHsaPolicy
from tacit_learning.act_hsa.train import TrainedPolicy
from tacit_learning.act_hsa.view_touch import heat_maps
from tacit_learning.data import keys
from tacit_learning.data.episodes import EpisodeTable, load_table
from tacit_learning.data.spec import make_spec
from tacit_learning.data.windows import ChunkWindows
from tacit_learning.export import export_policy
from tacit_learning.layers.inputs import prepare_taxels
from tacit_learning.layers.taxels import TaxelEncoder

NUM_TICKS = 24


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("skins")
    for _ in range(2):
        write_taxel_episode(root, NUM_TICKS)
    return root


@pytest.fixture(scope="module")
def table(root: Path) -> EpisodeTable:
    return load_table(sorted(root.glob("*/*.hdf5")), tiny_config(root, data__datasets=[str(root)]).data)


@pytest.fixture(scope="module")
def trained(table: EpisodeTable) -> TrainedPolicy:
    torch.manual_seed(0)
    config, spec = tiny_config(Path("unused")), make_spec(table)
    policy = ActHsaPolicy(config, spec).eval()
    again = ActHsaPolicy(config, spec, policy.model.identities())  # as a checkpoint is read
    again.load_state_dict(policy.state_dict())
    return TrainedPolicy(again.eval(), config, spec, 25.0, {})


def test_rows_are_the_readings_against_the_offset_of_their_episode(table: EpisodeTable) -> None:
    assert table.taxels.shape == (len(table), 12 * 10 + 4 * 4 * 3) and table.boxes.shape[1:] == (2, 2, 4)
    batch = ChunkWindows(table, 5).__getitems__([3])
    first = table.episodes[0].first
    with EpisodeReader(table.episodes[0].path) as reader:
        stamp_ns = int(reader.tick_ns[3 + first])
        box = reader.boxes("top", "right")[3 + first]
    expected = [(reading_at(name, stamp_ns) - 0.1).ravel() for name in ("left", "right")]
    np.testing.assert_allclose(batch[keys.TAXELS][0], np.concatenate(expected), atol=1e-6)
    place = batch[keys.BOXES][0, list(table.view.cameras).index("top"), 1] - 0.5
    np.testing.assert_allclose(
        place, box * np.tile([32 / 160, 32 / 120], 2), atol=0.6
    )  # pixel centres move by half


def test_an_episode_without_an_offset_is_refused_and_sensors_may_be_left_out(
    root: Path, tmp_path: Path
) -> None:
    path = write_taxel_episode(tmp_path, 6, references=False)
    with pytest.raises(EpisodeError, match="tactile/left: no no-contact reference"):
        load_table([path], tiny_config(root).data)
    view = load_table([path], tiny_config(root, data__sensors=[]).data).view
    assert view.touch == () and view.shapes[1][0] == 0


def test_shares_of_the_range_are_lifted_and_contact_counts_in_255ths() -> None:
    taxels, spans = torch.tensor([[0.5, -0.02, 0.0, 3.0]]), torch.tensor([2.0, 2.0, 2.0, 12.0])
    shares, contact = prepare_taxels(taxels, spans, (3, 1))
    torch.testing.assert_close(shares, torch.tensor([[0.5, -0.1, 0.0, 0.5]]))
    torch.testing.assert_close(contact, torch.tensor([[255 * 0.26 / 3, 255 * 0.25]]))


def test_tokens_of_an_array_lie_where_its_taxels_lie() -> None:
    encoder = TaxelEncoder([(6, 4, 1), (1, 1, 6)], 8, (3, 2))
    rows = encoder.get_buffer("pooling_0").reshape(6, 6, 4)
    expected = torch.zeros(6, 4)
    expected[2:4, 2:] = 0.25  # token (1, 1) of a grid of 3 x 2
    torch.testing.assert_close(rows[3], expected)
    tokens = encoder(torch.randn(5, 30))
    assert tokens.shape == (5, 2, 6, 8)
    torch.testing.assert_close(
        tokens[:, 1], tokens[:, 1, :1].expand(-1, 6, -1)
    )  # one taxel says it everywhere


def test_actions_that_only_touch_tells_are_learnt_from_taxels(table: EpisodeTable) -> None:
    torch.manual_seed(0)
    config = tiny_config(Path("unused"), model__latent_dim=0, hsa__weight=0.0)
    policy = ActHsaPolicy(config, make_spec(table))
    batch = ChunkWindows(table, 5).__getitems__(list(range(0, 2 * NUM_TICKS, 6)))
    batch[keys.STATE] = batch[keys.STATE][:1].expand_as(batch[keys.STATE])
    batch[keys.IMAGES] = batch[keys.IMAGES][:1].expand_as(batch[keys.IMAGES])
    optimizer = torch.optim.AdamW(policy.parameters(), 2e-3)
    for _ in range(60):
        optimizer.zero_grad()
        loss, _ = policy(batch)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        learnt, blind = policy(batch)[0], policy({**batch, keys.TAXELS: 0 * batch[keys.TAXELS]})[0]
    assert learnt < 0.35 * blind


def test_hsa_aligns_arrays_with_the_images_as_it_does_gels(table: EpisodeTable) -> None:
    torch.manual_seed(0)
    policy = ActHsaPolicy(tiny_config(Path("unused")), make_spec(table))
    batch = ChunkWindows(table, 5).__getitems__([0, 8, 16, NUM_TICKS + 4])
    _, metrics = policy(batch)
    assert policy.alignment is not None and float(metrics["hsa_w"]) > 0
    _, contact = policy.run(batch)
    span = np.array([2.5] * 120)
    expected = 255 * np.abs(batch[keys.TAXELS][:, :120].numpy() / span).mean(1)
    np.testing.assert_allclose(contact[:, 0], expected, rtol=1e-5)
    policy.alignment(policy.run(batch)[0].tokens, batch, contact)[0].backward()
    assert all(p.grad is not None for p in policy.model.taxel_encoder.parameters())


def test_the_graph_reads_arrays_as_torch_does_and_refuses_others(
    trained: TrainedPolicy, tmp_path: Path
) -> None:
    exported = export_policy(trained, tmp_path / "policy.onnx", PlayFlags())
    assert exported.max_difference < 1e-5
    rig = taxel_rig()
    policy = OnnxPolicy(exported.path, rig)
    random = np.random.default_rng(0)
    images = {n: random.integers(0, 256, (s.height, s.width, 3), np.uint8) for n, s in rig.cameras.items()}
    taxels = {n: random.random(s.array.shape, np.float32) for n, s in rig.taxels.items()}
    state = np.array([0.0, -0.3, 1.2, 0.3, -1.57, 0.0, 0.04])
    chunk = policy.act(Observation(1, state, images, taxels=taxels))
    view = trained.spec.view
    seen = torch.from_numpy(np.stack([view.cameras[n].image(images[n]) for n in view.cameras]))[None]
    flat = torch.from_numpy(np.concatenate([taxels[n].ravel() for n in view.taxels]))[None]
    touch = torch.zeros(1, 0, 32, 32, 3, dtype=torch.uint8)
    with torch.no_grad():
        expected = trained.policy.predict(torch.tensor(state[None], dtype=torch.float32), seen, touch, flat)
    np.testing.assert_allclose(chunk, expected[0], atol=2e-5)
    with pytest.raises(BundleError, match=r"taxels.left: missing"):
        policy.act(Observation(1, state, images))
    data = rig.model_dump(mode="json")
    data["tactile"]["left"]["array"]["range"] = [[0, 1]]
    with pytest.raises(BundleError, match=r"taxels.left: the rig gives .* correct `array`"):
        OnnxPolicy(exported.path, parse_rig(data, "other"))


def test_heat_maps_name_the_arrays_whose_touch_they_show(trained: TrainedPolicy, table: EpisodeTable) -> None:
    tiles = heat_maps(trained, ChunkWindows(table, 5).__getitems__([0, 9]), 2)
    assert {tile.caption.split(",")[0] for tile in tiles} == {"left in wrist", "right in wrist"}
