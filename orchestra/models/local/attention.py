"""Attention of a packed pass: each piece of the sequence writes its keys and values in place and reads its own rows'.

It is swapped in through transformers' attention registry, so it serves every architecture that uses the registry.
"""

import threading
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from orchestra.models.local.places import Arena, Place

ATTENTION = "orchestra-packed"
"""Name in transformers' attention registry."""
BLOCK_TOKENS = 128
"""Queries whose scores exist at once on a CPU: few enough for a core's cache."""


@dataclass(frozen=True, slots=True)
class How:
    """What one layer asks of attention."""

    scale: float | None
    window: int | None


@dataclass(slots=True)
class Singles:
    """Rows of one arena that add one token each, in the order of their indices.

    A view of the rows from the first to the last serves as keys where nearly all take part: those that do not are
    read for nothing, which costs less than copying the others together.
    """

    arena: Arena
    rows: Tensor
    positions: Tensor
    begin: int
    """Where their tokens begin in the sequence."""
    longest: int
    span: slice | None
    """The rows from the first to the last; `None` where too few of them take part."""
    masks: dict[int | None, Tensor | None] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """Where their tokens end in the sequence."""
        return self.begin + self.rows.shape[0]

    def attend(self, layer: int, query_THD: Tensor, key_TKD: Tensor, value_TKD: Tensor, how: How) -> Tensor:
        """Write the new keys and values, then attend; `[T, H, D]` of these tokens alone."""
        keys, values = self.arena.keys[layer], self.arena.values[layer]
        keys[self.rows, :, self.positions] = key_TKD
        values[self.rows, :, self.positions] = value_TKD
        count, heads, size = query_THD.shape
        groups = query_THD.reshape(count, keys.shape[1], heads // keys.shape[1], size)
        if self.span is None:
            keys = keys[:, :, : self.longest].index_select(0, self.rows)
            values = values[:, :, : self.longest].index_select(0, self.rows)
        else:
            keys, values = keys[self.span, :, : self.longest], values[self.span, :, : self.longest]
            groups = self._spread(groups)
        out = functional.scaled_dot_product_attention(
            groups, keys, values, attn_mask=self._mask(how.window, query_THD.dtype), scale=how.scale
        )
        if out.shape[0] > count and self.span is not None:
            out = out[self.rows - self.span.start]
        return out.reshape(count, heads, values.shape[-1])

    def _spread(self, known: Tensor) -> Tensor:
        """`known` of the rows that take part, as rows of the whole span; zeros elsewhere."""
        assert self.span is not None
        length = self.span.stop - self.span.start
        if length == known.shape[0]:
            return known
        spread = known.new_zeros(length, *known.shape[1:])
        spread[self.rows - self.span.start] = known
        return spread

    def _mask(self, window: int | None, dtype: torch.dtype) -> Tensor | None:
        if window not in self.masks:
            positions = self.positions if self.span is None else self._spread(self.positions)
            places_L = torch.arange(self.longest, device=positions.device)
            visible = places_L <= positions[:, None]
            if window is not None:
                visible &= places_L > positions[:, None] - window
            mask = torch.zeros(visible.shape, dtype=dtype, device=visible.device).masked_fill_(~visible, -torch.inf)
            self.masks[window] = None if bool(visible.all()) else mask[:, None, None]
        return self.masks[window]


@dataclass(slots=True)
class Chunk:
    """One row that adds several tokens."""

    place: Place
    start: int
    begin: int
    count: int
    masks: dict[int | None, Tensor | None] = field(default_factory=dict)
    block_masks: dict[tuple[int, int | None, int | None], Tensor] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """Where its tokens end in the sequence."""
        return self.begin + self.count

    def attend(self, layer: int, query_THD: Tensor, key_TKD: Tensor, value_TKD: Tensor, how: How) -> Tensor:
        """Write the new keys and values, then attend; `[T, H, D]` of these tokens alone."""
        arena, row, total = self.place.arena, self.place.index, self.start + self.count
        arena.keys[layer, row, :, self.start : total] = key_TKD.transpose(0, 1)
        arena.values[layer, row, :, self.start : total] = value_TKD.transpose(0, 1)
        if query_THD.device.type == "cpu" and query_THD.dtype == torch.bfloat16:
            return self._in_blocks(query_THD, arena.keys[layer, row], arena.values[layer, row], how)
        mask = self._mask(how.window, query_THD.device)
        out = functional.scaled_dot_product_attention(
            query_THD.transpose(0, 1)[None],
            arena.keys[layer, row : row + 1, :, :total],
            arena.values[layer, row : row + 1, :, :total],
            attn_mask=mask,
            is_causal=mask is None and self.count > 1,
            scale=how.scale,
            enable_gqa=True,
        )
        return out[0].transpose(0, 1)

    def _in_blocks(self, query_THD: Tensor, keys_KLD: Tensor, values_KLD: Tensor, how: How) -> Tensor:
        """Attention as plain products of a block of queries at a time.

        torch has no fused kernel for processors that multiplies in bfloat16: this takes half its time. Scores are
        rounded to bfloat16, as in transformers' own unfused attention and in the trainer's.
        """
        count, heads, size = query_THD.shape
        shared = keys_KLD.shape[0]
        groups = heads // shared
        out_THD = query_THD.new_empty(count, heads, values_KLD.shape[-1])
        asked_KGTD = (query_THD * (size**-0.5 if how.scale is None else how.scale)).view(count, shared, groups, size)
        asked_KGTD = asked_KGTD.permute(1, 2, 0, 3)
        for begin in range(0, count, BLOCK_TOKENS):
            end = min(begin + BLOCK_TOKENS, count)
            last = self.start + end
            scores = asked_KGTD[:, :, begin:end].reshape(shared, -1, size) @ keys_KLD[:, :last].transpose(1, 2)
            mask = self._block_mask(begin, end, how.window, query_THD.device)
            scores.view(shared, groups, end - begin, last)[..., -mask.shape[1] :].add_(mask)
            read = torch.softmax(scores, dim=-1) @ values_KLD[:, :last]
            out_THD[begin:end] = read.view(heads, end - begin, -1).transpose(0, 1)
        return out_THD

    def _block_mask(self, begin: int, end: int, window: int | None, device: torch.device) -> Tensor:
        """`[B, L]` to be added to the scores of the last `L` keys before `end`; all keys before them are seen."""
        last = self.start + end
        if window is not None and last <= window:
            window = None
        # Without a window only distances count, so that the masks of most blocks are one.
        key = (end - begin, None if window is None else begin, window)
        if key not in self.block_masks:
            keys = end - begin if window is None else last
            places_L = torch.arange(last - keys, last, device=device)
            mine_B = torch.arange(last - (end - begin), last, device=device)[:, None]
            hidden = places_L > mine_B
            if window is not None:
                hidden |= places_L <= mine_B - window
            mask = torch.zeros(hidden.shape, dtype=torch.bfloat16, device=device)
            self.block_masks[key] = mask.masked_fill_(hidden, -torch.inf)
        return self.block_masks[key]

    def _mask(self, window: int | None, device: torch.device) -> Tensor | None:
        total = self.start + self.count
        if window is not None and total <= window:
            window = None
        if window not in self.masks:
            if self.start == 0 and window is None:
                self.masks[window] = None
            else:
                places_L = torch.arange(total, device=device)
                mine_T = torch.arange(self.start, total, device=device)[:, None]
                visible = places_L <= mine_T
                if window is not None:
                    visible &= places_L > mine_T - window
                self.masks[window] = visible
        return self.masks[window]


class _Step(threading.local):
    """The pieces of the pass this thread is in; attention functions have no other way to hear of them."""

    pieces: tuple[Singles | Chunk, ...] = ()


STEP = _Step()
"""Set around every pass by whoever runs it."""


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention over rows laid end to end, in the signature of transformers' registry."""
    if softcap is not None or s_aux is not None:
        raise NotImplementedError("capped scores and attention sinks run row by row")
    how = How(scaling, sliding_window)
    query_THD, key_TKD, value_TKD = query[0].transpose(0, 1), key[0].transpose(0, 1), value[0].transpose(0, 1)
    outs = [
        piece.attend(
            int(module.layer_idx),
            query_THD[piece.begin : piece.end],
            key_TKD[piece.begin : piece.end],
            value_TKD[piece.begin : piece.end],
            how,
        )
        for piece in STEP.pieces
    ]
    return (outs[0] if len(outs) == 1 else torch.cat(outs))[None], None
