"""Attention of packed rows: each segment of a row sees the segments above it and its own past, and nothing else.

It is swapped in through transformers' attention registry; `prepared` does so and *checks* on the model at hand that a
packed row with a shared prefix gives what the model gives each strand by itself. Segments reach it as an argument that
transformers hands down to every layer, so gradient checkpointing, which runs layers again in another thread, works.

Memory: bfloat16 on a CPU goes through in blocks. Everywhere else, on CUDA too, a segment below a shared prefix (and one
longer than a window of attention) has a dense mask of its own tokens times those it sees, in the queries' number format
and kept for the row: 4,096 tokens after 28,672 shared ones are 256 MiB in bfloat16. Copies of the keys and values it
sees come on top, and torch's flash kernel takes no mask. A segment with nothing above it has none of this. torch's
`flex_attention` would do with masks of blocks; it is not used, since no GPU was at hand to measure it on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.losses.blocks import BlockAttention
from training.samples import Batch, Segment

ATTENTION = "orchestra-strands"
"""Name in transformers' attention registry."""


@dataclass(slots=True, eq=False)
class Layout:
    """The segments of one row, and the masks that were made for them."""

    segments: Sequence[Segment]
    device: torch.device
    _masks: dict[tuple[object, ...], Tensor] = field(default_factory=dict)
    _reads: dict[int, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, batch: Batch, device: torch.device) -> "Layout":
        """The layout of `batch`."""
        return cls(batch.segments, device)

    def reads(self, at: int) -> Tensor | None:
        """`[L]` places in the row that segment `at` sees, itself last; `None` where it sees itself alone."""
        segment = self.segments[at]
        if not segment.above:
            return None
        if at not in self._reads:
            parts = [self.segments[i] for i in segment.above] + [segment]
            places = np.concatenate([np.arange(part.begin, part.end) for part in parts])
            self._reads[at] = torch.from_numpy(places).to(self.device)
        return self._reads[at]

    def mask(self, at: int, window: int | None, dtype: torch.dtype) -> Tensor | None:
        """`[M, L]` to be added to the scores of segment `at`; `None` where causal order is all there is."""
        segment = self.segments[at]
        total = segment.position + segment.end - segment.begin
        if window is not None and total <= window:
            window = None
        if window is None and not segment.above:
            return None
        return self.added(segment.position, total, total, window, dtype)

    def added(self, first: int, last: int, keys: int, window: int | None, dtype: torch.dtype) -> Tensor:
        """`[B, keys]` to be added to the scores of positions `first` to `last` for the `keys` positions before `last`.

        Segments above cover every position before a segment's own, so the places of keys are their positions.
        """
        # Without a window only distances count, so that the masks of most blocks are one.
        key = (last - first, keys, None if window is None else first, window, dtype)
        if key not in self._masks:
            keys_L = torch.arange(last - keys, last, device=self.device)
            mine_M = torch.arange(first, last, device=self.device)[:, None]
            visible = keys_L <= mine_M
            if window is not None:
                visible &= keys_L > mine_M - window
            self._masks[key] = torch.zeros(visible.shape, dtype=dtype, device=self.device).masked_fill_(
                ~visible, -torch.inf
            )
        return self._masks[key]


def strands_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    layout: Layout | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention over the segments of one row, in the signature of transformers' registry."""
    if softcap is not None or s_aux is not None:
        # `prepared` tries this out, and where it is refused leaves the model the attention it had.
        raise ValueError("capped scores and attention sinks cannot be packed; compute the rows one by one")
    if layout is None or query.shape[0] != 1:
        raise ValueError("a network prepared for packed rows takes one row with its layout; call `token_logprobs`")
    if query.device.type == "cpu" and query.dtype == torch.bfloat16 and dropout == 0.0:
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        attended: Any = BlockAttention.apply  # torch leaves it untyped
        blocked: Tensor = attended(query, key, value, layout, scale, sliding_window)
        return blocked.transpose(1, 2).contiguous(), None
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        # Slower kernels are chosen where heads are shared inside the call.
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    outs = []
    for at, segment in enumerate(layout.segments):
        own = slice(segment.begin, segment.end)
        reads = layout.reads(at)
        mask = layout.mask(at, sliding_window, query.dtype)
        out = functional.scaled_dot_product_attention(
            query[:, :, own],
            key[:, :, own] if reads is None else key.index_select(2, reads),
            value[:, :, own] if reads is None else value.index_select(2, reads),
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=mask is None and segment.end - segment.begin > 1,
            scale=scaling,
        )
        outs.append(out)
    joined = outs[0] if len(outs) == 1 else torch.cat(outs, dim=2)
    return joined.transpose(1, 2).contiguous(), None
