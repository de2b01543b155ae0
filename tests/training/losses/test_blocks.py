"""Attention in blocks: equal to attention over the whole row under a mask, in value and gradient."""

import numpy as np
import pytest
import torch

from training.losses.attention import Layout, strands_attention
from training.losses.blocks import BLOCK_TOKENS, BlockAttention
from training.samples import Segment

HEADS, SHARED, SIZE = 6, 2, 8
FOREST = (
    Segment(0, 300, 0, ()),
    Segment(300, 340, 300, (0,)),
    Segment(340, 620, 300, (0,)),
    Segment(620, 650, 580, (0, 2)),
    Segment(650, 700, 0, ()),
)
"""Longer than a block in one segment, with a branch of a branch."""


def whole(query, key, value, window):
    """Every token sees what its strand holds before it."""
    count = query.shape[2]
    visible = torch.zeros(count, count, dtype=torch.bool)
    for segment in FOREST:
        above = [place for at in segment.above for place in range(FOREST[at].begin, FOREST[at].end)]
        for place in range(segment.begin, segment.end):
            seen = [*above, *range(segment.begin, place + 1)]
            visible[place, seen if window is None else seen[-window:]] = True
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=visible, scale=0.4, enable_gqa=True
    )


def states(dtype=torch.float64):
    torch.manual_seed(0)
    return [torch.randn(1, heads, 700, SIZE, dtype=dtype, requires_grad=True) for heads in (HEADS, SHARED, SHARED)]


@pytest.mark.parametrize("window", [None, 50, 320])
def test_blocks_equal_the_whole(window):
    assert FOREST[0].end > BLOCK_TOKENS
    given = states()
    layout = Layout(FOREST, torch.device("cpu"))
    got, expected = BlockAttention.apply(*given, layout, 0.4, window), whole(*given, window)
    torch.testing.assert_close(got, expected)
    slope = torch.randn_like(expected)
    # Gradients of keys are summed in float32.
    torch.testing.assert_close(
        torch.autograd.grad(got, given, slope), torch.autograd.grad(expected, given, slope), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("window", [None, 50, 320])
def test_fused_segments_equal_the_whole(window):
    given = states(torch.float32)
    layout = Layout(FOREST, torch.device("cpu"))
    got, _ = strands_attention(None, *given, None, scaling=0.4, sliding_window=window, layout=layout)
    expected = whole(*given, window).transpose(1, 2)
    torch.testing.assert_close(got, expected)
    slope = torch.randn_like(expected)
    torch.testing.assert_close(torch.autograd.grad(got, given, slope), torch.autograd.grad(expected, given, slope))


def test_half_precision_is_as_near_as_rounded_scores_allow():
    exact = whole(*states(), None).detach()
    given = [each.detach().to(torch.bfloat16) for each in states()]
    layout = Layout(FOREST, torch.device("cpu"))
    got, _ = strands_attention(None, *given, None, scaling=0.4, layout=layout)
    error = (got.transpose(1, 2).double() - exact).square().mean().sqrt() / exact.std()
    assert float(error) < 0.02


@pytest.mark.parametrize("odd", [{"softcap": 30.0}, {"s_aux": torch.zeros(HEADS)}])
def test_what_is_not_plain_attention_is_refused(odd):
    layout = Layout(FOREST, torch.device("cpu"))
    with pytest.raises(ValueError, match="cannot be packed"):
        strands_attention(None, *states(), None, layout=layout, **odd)


def test_masks_are_made_once():
    layout = Layout(FOREST, torch.device("cpu"))
    assert layout.mask(1, None, torch.float32) is layout.mask(1, None, torch.float32)
    assert layout.mask(0, None, torch.float32) is None
    assert np.array_equal(layout.reads(3), [*range(300), *range(340, 620), *range(620, 650)])
