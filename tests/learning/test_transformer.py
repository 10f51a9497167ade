"""The transformer: against torch's own attention, and facts about positions and depth."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tacit_learning.layers.transformer import Attention, Decoder, Encoder, EncoderLayer


def test_attention_equals_torch_multihead_attention() -> None:
    torch.manual_seed(0)
    ours, theirs = Attention(8, 2, 0.0), nn.MultiheadAttention(8, 2, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.output.state_dict())
    query, key, value = torch.randn(3, 4, 8), torch.randn(3, 6, 8), torch.randn(3, 6, 8)
    padding = torch.tensor([[False] * 6, [False] * 5 + [True], [False] * 3 + [True] * 3])
    expected, _ = theirs(query, key, value, key_padding_mask=padding)
    torch.testing.assert_close(ours(query, key, value, padding), expected)


@pytest.mark.parametrize("order", ["pre", "post"])
def test_encoder_layer_equals_torch_without_positions(order: str) -> None:
    torch.manual_seed(0)
    ours = EncoderLayer(8, 2, 16, 0.0, order)
    theirs = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=order == "pre")
    attention = ours.attention
    with torch.no_grad():
        parts = (attention.query, attention.key, attention.value)
        theirs.self_attn.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
        theirs.self_attn.out_proj.load_state_dict(attention.output.state_dict())
        theirs.linear1.load_state_dict(ours.feed_forward[0].state_dict())
        theirs.linear2.load_state_dict(ours.feed_forward[3].state_dict())
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(ours(x, torch.zeros(5, 8)), theirs(x))


@pytest.mark.parametrize("order", ["pre", "post"])
def test_every_decoder_layer_changes_the_output_and_gets_a_gradient(order: str) -> None:
    torch.manual_seed(0)
    decoder = Decoder(3, 8, 2, 16, 0.0, order)
    queries, memory, position = torch.randn(4, 8), torch.randn(2, 6, 8), torch.randn(6, 8)
    # a plain sum after a LayerNorm is constant, its square is not
    decoder(queries, memory, position).pow(3).sum().backward()
    for layer in decoder.layers:
        assert all(p.grad.abs().sum() > 0 for p in layer.feed_forward.parameters())


def test_positions_never_enter_values() -> None:
    torch.manual_seed(0)
    layer = EncoderLayer(8, 2, 16, 0.0, "post")
    with torch.no_grad():
        for part in (layer.attention.query, layer.attention.key):
            part.weight.zero_()
    x = torch.randn(2, 5, 8)
    torch.testing.assert_close(layer(x, torch.randn(5, 8)), layer(x, torch.zeros(5, 8)))


def test_without_positions_the_encoder_does_not_know_the_order() -> None:
    torch.manual_seed(0)
    encoder = Encoder(2, 8, 2, 16, 0.0, "pre")
    x, order = torch.randn(1, 5, 8), torch.tensor([3, 1, 4, 0, 2])
    zero = torch.zeros(5, 8)
    torch.testing.assert_close(encoder(x, zero)[:, order], encoder(x[:, order], zero))


def test_padded_keys_change_nothing() -> None:
    torch.manual_seed(0)
    encoder = Encoder(2, 8, 2, 16, 0.0, "post")
    x, position = torch.randn(1, 5, 8), torch.randn(5, 8)
    padding = torch.tensor([[False, False, False, True, True]])
    changed = x.clone()
    changed[:, 3:] += 10
    kept = encoder(x, position, padding)[:, :3]
    torch.testing.assert_close(encoder(changed, position, padding)[:, :3], kept)
    torch.testing.assert_close(encoder(x[:, :3], position[:3]), kept)


def test_width_must_divide_by_heads() -> None:
    with pytest.raises(ValueError, match="multiple"):
        Attention(10, 3, 0.0)
