"""Encoders and heads are causal, and a stream gives what the whole sequence gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tacit_learning.alignment.model.encoder import DropNetwork, make_encoder
from tacit_learning.alignment.model.heads import HeadInputs, ProgressHead
from tacit_learning.alignment.model.protas import Protas, ProtasTargets, precedence, protas_loss
from tacit_learning.alignment.settings import AlignmentEncoderConfig, HeadConfig, ProtasConfig

FEATURES, DIM, CLASSES, FRAMES = 10, 8, 4, 40
SMALL = {"dim": DIM, "width": 12, "head_widths": (16, 8)}


def encoder(kind: str) -> torch.nn.Module:
    return make_encoder(AlignmentEncoderConfig(kind=kind, **SMALL), FEATURES, 3).eval()


def head(**changes: object) -> ProgressHead:
    config = HeadConfig(width=12, hidden=10, class_dim=4, **changes)
    return ProgressHead(config, DIM, CLASSES).eval()


def head_inputs(videos: int = 2) -> HeadInputs:
    elapsed = torch.arange(FRAMES).expand(videos, -1) / 10
    condition = torch.randint(0, CLASSES + 1, (videos, FRAMES))
    return HeadInputs(
        torch.randn(videos, FRAMES, DIM), elapsed, torch.rand(videos, FRAMES).cumsum(1) / FRAMES, condition
    )


def protas() -> Protas:
    model = Protas(ProtasConfig(stages=2, layers=3, maps=8), FEATURES, CLASSES).eval()
    model.set_graph(precedence([[1, 2, 3], [1, 3, 2], [1, 2]], CLASSES))
    return model


def stream(step: Callable[..., tuple], size: int, videos: int, garbage: float) -> list:
    """Run frame by frame, from a memory full of garbage: the first frame must not read it."""
    memory, outputs = torch.full((videos, size), garbage), []
    for t in range(FRAMES):
        out, memory = step(t, memory, torch.full((videos, 1), t == 0))
        outputs.append(out)
    return outputs


@pytest.mark.parametrize("kind", ["causal", "multi_head"])
def test_streamed_embeddings_equal_the_whole_sequence(kind: str) -> None:
    net, x = encoder(kind), torch.randn(2, FRAMES, FEATURES)
    with torch.no_grad():
        parts = stream(lambda t, m, first: net.step(x[:, t], m, first), net.state_size, 2, 9.0)
        torch.testing.assert_close(torch.stack(parts, 1), net(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["causal", "multi_head"])
def test_embeddings_do_not_depend_on_the_future_nor_on_the_length(kind: str) -> None:
    net, x = encoder(kind), torch.randn(1, FRAMES, FEATURES)
    with torch.no_grad():
        torch.testing.assert_close(net(x[:, :7]), net(x)[:, :7], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["causal", "multi_head"])
def test_the_embedding_of_a_frame_sees_that_frame(kind: str) -> None:
    net, x = encoder(kind), torch.randn(1, FRAMES, FEATURES)
    changed = x.clone()
    changed[:, 20] += 1.0
    with torch.no_grad():
        moved = (net(changed) - net(x)).abs().amax(-1)[0]
    assert float(moved[20]) > 1e-4 and float(moved[:20].max()) == 0.0


def test_embeddings_have_unit_norm_and_heads_are_not_mixed_across_frames() -> None:
    net, x = encoder("multi_head"), torch.randn(1, FRAMES, FEATURES)
    with torch.no_grad():
        base = net.base(x)
        shuffled = torch.randperm(FRAMES)
        torch.testing.assert_close(net.mix(base[:, shuffled]), net.mix(base)[:, shuffled])
        torch.testing.assert_close(net(x).norm(dim=-1), torch.ones(1, FRAMES))


def test_the_drop_vector_is_a_mean_over_frames() -> None:
    net = DropNetwork(DIM, 2)
    x = torch.randn(6, DIM)
    torch.testing.assert_close(net(x, 1), net(torch.cat([x, x]), 1))
    assert net(x).shape == (DIM + 1,) and not torch.allclose(net(x, 0), net(x, 1))


@pytest.mark.parametrize("changes", [{}, {"recurrent": "none"}, {"per_class": True, "distance": False}])
def test_streamed_progress_equals_the_whole_sequence(changes: dict[str, object]) -> None:
    net, inputs = head(**changes), head_inputs()
    with torch.no_grad():
        whole = net(inputs)
        parts = stream(
            lambda t, m, first: net.step(HeadInputs(*(x[:, t : t + 1] for x in inputs)), m, first),
            net.state_size,
            2,
            9.0,
        )
    for streamed, batch in zip(zip(*parts, strict=True), whole, strict=True):
        torch.testing.assert_close(torch.cat(streamed, 1), batch, rtol=0, atol=1e-5)


def test_progress_lies_in_its_range_and_starts_low() -> None:
    outputs = head()(head_inputs())
    assert float(outputs.action.detach().max()) <= 1 and float(outputs.video.detach().mean()) < 0.25
    assert float(outputs.remaining.detach().min()) >= 0 and outputs.classes.shape == (2, FRAMES, CLASSES)


def test_streamed_protas_equals_the_whole_sequence_with_its_graph() -> None:
    net, x = protas(), torch.randn(2, FRAMES, FEATURES)
    with torch.no_grad():
        whole = net(x)[-1]
        parts = stream(lambda t, m, first: net.step(x[:, t], m, first), net.state_size, 2, 9.0)
        logits = torch.cat([part.logits for part in parts], 1)
        torch.testing.assert_close(logits, net.decide(whole), rtol=0, atol=1e-5)
        progress = torch.cat([part.progress for part in parts], 1)
        torch.testing.assert_close(progress, whole.progress, rtol=0, atol=1e-5)
        torch.testing.assert_close(net(x[:, :9])[-1].logits, whole.logits[:, :9], rtol=0, atol=1e-5)


def test_precedence_is_the_share_of_occurrences_that_came_after() -> None:
    graph = precedence([[1, 2, 3], [1, 3, 2], [1, 2]], CLASSES)
    assert graph[2].tolist() == [0, 1, 0, 0]  # after 3 in one of three: no order
    assert graph[3].tolist() == [0, 1, 0, 0]  # after 2 in one of two: no order


def test_the_graph_objects_to_a_class_whose_predecessor_is_unfinished() -> None:
    net = protas()
    nothing, first_done = torch.zeros(CLASSES), torch.tensor([0.0, 1.0, 0.0, 0.0])
    with torch.no_grad():
        assert net.graph_cost(nothing)[2] == 1.0 and net.graph_cost(first_done)[2] == 0.0
        assert net.graph_cost(torch.tensor([0.0, 1.0, 1.0, 0.0]))[1] == 1.0  # its successor has begun


def test_protas_learns_what_is_constant() -> None:
    torch.manual_seed(0)
    net, x = protas().train(), torch.randn(1, FRAMES, FEATURES)
    labels = (torch.arange(FRAMES) // 10)[None]
    x[..., :CLASSES] += 3 * torch.nn.functional.one_hot(labels, CLASSES)
    targets = ProtasTargets(labels, (torch.arange(FRAMES) % 10 + 1)[None] / 10, torch.ones(1, FRAMES).bool())
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        terms = protas_loss(net, net(x), targets)
        optimizer.zero_grad()
        terms["protas"].backward()
        optimizer.step()
        losses.append(float(terms["protas"]))
    assert losses[-1] < 0.6 * losses[0]


def test_every_gradient_of_protas_reaches_its_weights() -> None:
    net, x = protas(), torch.randn(1, FRAMES, FEATURES)
    targets = ProtasTargets(
        torch.ones(1, FRAMES, dtype=torch.long), torch.rand(1, FRAMES), torch.ones(1, FRAMES) > 0
    )
    protas_loss(net, net(x), targets)["protas"].backward()
    assert [name for name, p in net.named_parameters() if p.grad is None] == []
