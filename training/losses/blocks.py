"""Attention of packed rows for processors that multiply fast in half precision and have no fused kernel that does.

Queries go through in blocks; a block's scores are made against the keys up to its end, used and dropped, and made again
for the gradient. Nothing above the diagonal is computed but each block's own corner, and heads that share keys are rows
of one product. Scores are rounded to the number format, as in transformers' own unfused attention; gradients of keys
and values are summed in float32.

Source: Dao 2023, "FlashAttention-2", arXiv:2307.08691, section 3.1 (blocks, recomputation).
Deviation: whole rows of scores at a time, so that softmax needs no running maximum.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from training.losses.attention import Layout

BLOCK_TOKENS = 256


class BlockAttention(torch.autograd.Function):
    """`[1, H, T, D]` attention of a row; the number of heads of keys and values divides that of queries."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: "Layout", scale: float, window: int | None
    ) -> Tensor:
        """Attention; nothing but its inputs is kept."""
        out = torch.empty_like(query)
        groups = query.shape[1] // key.shape[1]
        with torch.autocast(query.device.type, enabled=False):
            for at in range(len(layout.segments)):
                keys, values = _read(key, layout, at), _read(value, layout, at)
                for rows, last, mask in _blocks(layout, at, window, query.dtype):
                    odds = _odds(_folded(query[0, :, rows], groups), keys[:, :last], scale, mask, groups)
                    out[0, :, rows] = _unfolded(odds @ values[:, :last], groups)
        ctx.save_for_backward(query, key, value)
        ctx.how = (layout, scale, window)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of query, key and value."""
        query, key, value = ctx.saved_tensors
        layout, scale, window = ctx.how
        groups = query.shape[1] // key.shape[1]
        of_query = torch.empty_like(query)
        of_key, of_value = (torch.zeros(x.shape[1:], dtype=torch.float32, device=x.device) for x in (key, value))
        with torch.autocast(query.device.type, enabled=False):
            for at in range(len(layout.segments)):
                keys, values = _read(key, layout, at), _read(value, layout, at)
                of_keys, of_values = torch.zeros_like(keys, dtype=torch.float32), torch.zeros_like(values).float()
                for rows, last, mask in _blocks(layout, at, window, query.dtype):
                    asked, moved = _folded(query[0, :, rows], groups), _folded(gradients[0][0, :, rows], groups)
                    odds = _odds(asked, keys[:, :last], scale, mask, groups)
                    of_odds = moved @ values[:, :last].transpose(1, 2)
                    of_scores = torch._softmax_backward_data(of_odds, odds, -1, odds.dtype)
                    of_query[0, :, rows] = _unfolded(of_scores @ keys[:, :last], groups).mul_(scale)
                    of_keys[:, :last] += of_scores.transpose(1, 2) @ asked
                    of_values[:, :last] += odds.transpose(1, 2) @ moved
                _add(of_key, of_keys.mul_(scale), layout, at)
                _add(of_value, of_values, layout, at)
        return of_query, of_key.to(key.dtype)[None], of_value.to(value.dtype)[None], None, None, None


def _blocks(
    layout: "Layout", at: int, window: int | None, dtype: torch.dtype
) -> Iterator[tuple[slice, int, Tensor | None]]:
    """Places of a block's queries in the row, how many keys they read, and what is added to the last scores."""
    segment = layout.segments[at]
    for begin in range(segment.begin, segment.end, BLOCK_TOKENS):
        end = min(begin + BLOCK_TOKENS, segment.end)
        first, last = segment.position + begin - segment.begin, segment.position + end - segment.begin
        if window is not None and last > window:
            yield slice(begin, end), last, layout.added(first, last, last, window, dtype)
        else:
            yield slice(begin, end), last, layout.added(first, last, end - begin, None, dtype)


def _odds(asked: Tensor, keys: Tensor, scale: float, mask: Tensor | None, groups: int) -> Tensor:
    """`[K, G*B, L]` what each query gives each key."""
    scores = (asked * scale) @ keys.transpose(1, 2)
    if mask is not None:
        heads, rows, length = scores.shape
        scores.view(heads, groups, rows // groups, length)[..., -mask.shape[1] :].add_(mask)
    return torch.softmax(scores, dim=-1)


def _folded(states: Tensor, groups: int) -> Tensor:
    """`[H, B, D]` as `[K, G*B, D]`: heads that share keys are rows of one product."""
    heads, rows, size = states.shape
    return states.reshape(heads // groups, groups * rows, size)


def _unfolded(states: Tensor, groups: int) -> Tensor:
    heads, rows, size = states.shape
    return states.reshape(heads * groups, rows // groups, size)


def _read(states: Tensor, layout: "Layout", at: int) -> Tensor:
    """`[K, L, D]` of what segment `at` sees."""
    reads = layout.reads(at)
    segment = layout.segments[at]
    return states[0, :, segment.begin : segment.end] if reads is None else states[0].index_select(1, reads)


def _add(total: Tensor, part: Tensor, layout: "Layout", at: int) -> None:
    reads = layout.reads(at)
    if reads is None:
        segment = layout.segments[at]
        total[:, segment.begin : segment.end] += part
    else:
        total.index_add_(1, reads, part)
