"""One forward pass over the new tokens of many rows, laid end to end, with each row's keys and values kept in place.

The model's own layers run once over a sequence of all new tokens, so a step costs what its tokens cost: no padding, and
prompts and single tokens share the weights' trip through memory. Only attention knows of rows. It is swapped in through
transformers' attention registry, so it serves every architecture that uses the registry; whether it truly does for the
model at hand is *checked* when it is opened, against the model's own forward pass.

Source:
    Yu et al. 2022, "Orca: A Distributed Serving System for Transformer-Based Generative Models", OSDI 2022, section 4
    (iteration-level scheduling, selective batching).
    Deviation: keys and values lie in one tensor per capacity class, rows close together, where Orca allots slots; so
    attention of all single-token rows of a class is one call.
"""

import inspect
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from orchestra.models.local.lora import Group, Lora, applied

ATTENTION = "orchestra-packed"
"""Name in transformers' attention registry."""
SMALLEST_CAPACITY = 256
"""Tokens; rows are sorted into capacities of this times a power of two."""


@dataclass(slots=True, eq=False)
class Place:
    """Where a row's keys and values lie; `index` changes when a neighbour leaves."""

    arena: "Arena"
    index: int


@dataclass(frozen=True, slots=True)
class Part:
    """New tokens of one row."""

    place: Place
    token_ids: Sequence[int]
    start: int
    """Position of the first of them; everything before is in place already."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model keeps per token."""

    layers: int
    heads: int
    key_size: int
    value_size: int
    dtype: torch.dtype
    device: torch.device

    @property
    def bytes_per_token(self) -> int:
        """Of keys and values over all layers."""
        return self.layers * self.heads * (self.key_size + self.value_size) * self.dtype.itemsize


class Arena:
    """Keys and values of all rows of one capacity and one adapter, rows 0 to n-1 without a hole."""

    def __init__(self, shape: Shape, capacity: int, lora: Lora | None = None) -> None:
        self.capacity, self.lora = capacity, lora
        self.places: list[Place] = []
        self._shape = shape
        self.keys, self.values = self._empty(4)

    def _empty(self, rows: int) -> tuple[Tensor, Tensor]:
        s = self._shape
        # Zeroed, not merely allotted: stale bits may be NaN, and a masked NaN is still a NaN.
        return (
            torch.zeros(s.layers, rows, s.heads, self.capacity, s.key_size, dtype=s.dtype, device=s.device),
            torch.zeros(s.layers, rows, s.heads, self.capacity, s.value_size, dtype=s.dtype, device=s.device),
        )

    def enter(self) -> Place:
        """A new row at the end."""
        used, rows = len(self.places), self.keys.shape[1]
        if used == rows:
            keys, values = self._empty(2 * rows)
            keys[:, :used], values[:, :used] = self.keys, self.values
            self.keys, self.values = keys, values
        place = Place(self, used)
        self.places.append(place)
        return place

    def leave(self, place: Place, last_length: int) -> None:
        """Close the hole `place` leaves with the last row, of which `last_length` tokens count."""
        last = self.places.pop()
        if last is not place:
            self.keys[:, place.index, :, :last_length] = self.keys[:, last.index, :, :last_length]
            self.values[:, place.index, :, :last_length] = self.values[:, last.index, :, :last_length]
            last.index = place.index
            self.places[place.index] = last


@dataclass(slots=True)
class Singles:
    """Rows of one arena that add one token each, in the order of their indices."""

    arena: Arena
    rows: Tensor
    positions: Tensor
    begin: int
    """Where their tokens begin in the sequence."""
    longest: int
    neighbours: slice | None
    """Their rows when no other lies between them, so that a view serves as keys; else `None`."""
    masks: dict[int | None, Tensor | None] = field(default_factory=dict)

    @property
    def end(self) -> int:
        """Where their tokens end in the sequence."""
        return self.begin + self.rows.shape[0]

    def attend(self, layer: int, query_THD: Tensor, key_TKD: Tensor, value_TKD: Tensor, how: "How") -> Tensor:
        """Write the new keys and values, then attend; `[T, H, D]` of these tokens alone."""
        keys, values = self.arena.keys[layer], self.arena.values[layer]
        keys[self.rows, :, self.positions] = key_TKD
        values[self.rows, :, self.positions] = value_TKD
        if self.neighbours is not None:
            keys = keys[self.neighbours, :, : self.longest]
            values = values[self.neighbours, :, : self.longest]
        else:
            keys = keys[:, :, : self.longest].index_select(0, self.rows)
            values = values[:, :, : self.longest].index_select(0, self.rows)
        count, heads, size = query_THD.shape
        groups = query_THD.reshape(count, keys.shape[1], heads // keys.shape[1], size)
        out = functional.scaled_dot_product_attention(
            groups, keys, values, attn_mask=self._mask(how.window, query_THD.dtype), scale=how.scale
        )
        return out.reshape(count, heads, values.shape[-1])

    def _mask(self, window: int | None, dtype: torch.dtype) -> Tensor | None:
        if window not in self.masks:
            places_L = torch.arange(self.longest, device=self.positions.device)
            visible = places_L <= self.positions[:, None]
            if window is not None:
                visible &= places_L > self.positions[:, None] - window
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

    @property
    def end(self) -> int:
        """Where its tokens end in the sequence."""
        return self.begin + self.count

    def attend(self, layer: int, query_THD: Tensor, key_TKD: Tensor, value_TKD: Tensor, how: "How") -> Tensor:
        """Write the new keys and values, then attend; `[T, H, D]` of these tokens alone."""
        arena, row, total = self.place.arena, self.place.index, self.start + self.count
        arena.keys[layer, row, :, self.start : total] = key_TKD.transpose(0, 1)
        arena.values[layer, row, :, self.start : total] = value_TKD.transpose(0, 1)
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


@dataclass(frozen=True, slots=True)
class How:
    """What one layer asks of attention."""

    scale: float | None
    window: int | None


class _Step(threading.local):
    """The pieces of the pass this thread is in; attention functions have no other way to hear of them."""

    pieces: tuple[Singles | Chunk, ...] = ()


_STEP = _Step()


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
        for piece in _STEP.pieces
    ]
    return (outs[0] if len(outs) == 1 else torch.cat(outs))[None], None


class PackedDecoder:
    """Rows of one model, decoded together.

    Args:
        network: a causal language model of transformers whose attention is already `packed_attention`.
        shape: what it keeps per token.
    """

    def __init__(self, network: Any, shape: Shape) -> None:
        self._network = network
        self._keeps_last = takes_logits_to_keep(network)
        self.shape = shape
        self._arenas: dict[tuple[int, Lora | None], Arena] = {}

    def enter(self, capacity: int, lora: Lora | None = None) -> Place:
        """Room for a row of up to `capacity` tokens, changed by `lora`."""
        size = SMALLEST_CAPACITY
        while size < capacity:
            size *= 2
        if (size, lora) not in self._arenas:
            self._arenas[size, lora] = Arena(self.shape, size, lora)
        return self._arenas[size, lora].enter()

    def leave(self, place: Place, lengths: dict[Place, int]) -> None:
        """Free a row; `lengths` tells how many tokens of each place count."""
        arena = place.arena
        arena.leave(place, lengths.get(arena.places[-1], arena.capacity))
        if not arena.places:
            del self._arenas[arena.capacity, arena.lora]

    def snapshot(self, place: Place, length: int) -> tuple[Tensor, Tensor]:
        """A copy of the first `length` tokens' keys and values."""
        arena, row = place.arena, place.index
        return arena.keys[:, row, :, :length].clone(), arena.values[:, row, :, :length].clone()

    def restore(self, place: Place, kept: tuple[Tensor, Tensor], length: int) -> None:
        """Put the first `length` tokens of a snapshot in place."""
        arena, row = place.arena, place.index
        arena.keys[:, row, :, :length] = kept[0][:, :, :length]
        arena.values[:, row, :, :length] = kept[1][:, :, :length]

    def share(self, source: Place, target: Place, length: int) -> None:
        """Copy the first `length` tokens from row to row."""
        self.restore(target, (source.arena.keys[:, source.index], source.arena.values[:, source.index]), length)

    def forward(self, parts: Sequence[Part]) -> Tensor:
        """Logits after the last token of each part, `[R, V]` in the order of `parts`."""
        order, pieces, groups = _arranged(parts, self.shape.device)
        ids: list[int] = []
        positions: list[int] = []
        lasts = [0] * len(parts)
        for number in order:
            part = parts[number]
            ids.extend(part.token_ids)
            positions.extend(range(part.start, part.start + len(part.token_ids)))
            lasts[number] = len(ids) - 1
        return self._logits(ids, positions, lasts, pieces, groups)

    def forward_all(self, part: Part) -> Tensor:
        """Logits after every token of `part`, `[T, V]`."""
        _, pieces, groups = _arranged([part], self.shape.device)
        places = list(range(len(part.token_ids)))
        return self._logits(list(part.token_ids), [part.start + at for at in places], places, pieces, groups)

    def _logits(
        self,
        ids: list[int],
        positions: list[int],
        wanted: list[int],
        pieces: "tuple[Singles | Chunk, ...]",
        groups: Sequence[Group],
    ) -> Tensor:
        device = self.shape.device
        keep = torch.tensor(wanted, device=device)
        inputs: dict[str, Any] = {"logits_to_keep": keep} if self._keeps_last else {}
        _STEP.pieces = pieces
        try:
            with applied(groups, len(ids)):
                out = self._network(
                    input_ids=torch.tensor([ids], device=device),
                    position_ids=torch.tensor([positions], device=device),
                    use_cache=False,
                    **inputs,
                )
        finally:
            _STEP.pieces = ()
        logits: Tensor = out.logits[0]
        return logits if self._keeps_last else logits[keep]


def takes_logits_to_keep(network: Any) -> bool:
    """Whether the head can be asked for some positions alone."""
    return "logits_to_keep" in inspect.signature(network.forward).parameters


def _arranged(
    parts: Sequence[Part], device: torch.device
) -> tuple[list[int], tuple[Singles | Chunk, ...], tuple[Group, ...]]:
    """The order of parts in the sequence, attention's pieces, and the adapters' slices of it.

    Parts without an adapter come first, then those of each adapter; among them single tokens, by arena and index.
    """
    by_lora: dict[Lora | None, list[int]] = {None: []}
    for number, part in enumerate(parts):
        by_lora.setdefault(part.place.arena.lora, []).append(number)
    order: list[int] = []
    pieces: list[Singles | Chunk] = []
    groups: list[Group] = []
    begin = 0
    for lora, numbers in by_lora.items():
        first = begin
        for piece, members in _pieces(parts, numbers, begin, device):
            pieces.append(piece)
            order.extend(members)
            begin = piece.end
        if lora is not None:
            groups.append((first, begin, lora))
    return order, tuple(pieces), tuple(groups)


def _pieces(
    parts: Sequence[Part], numbers: Sequence[int], begin: int, device: torch.device
) -> Iterator[tuple[Singles | Chunk, list[int]]]:
    """The pieces of the parts called `numbers`, laid from `begin` on, each with its parts in order."""
    singles: dict[int, list[int]] = {}
    chunks: list[int] = []
    for number in numbers:
        if len(parts[number].token_ids) == 1:
            singles.setdefault(parts[number].place.arena.capacity, []).append(number)
        else:
            chunks.append(number)
    for members in singles.values():
        members.sort(key=lambda n: parts[n].place.index)
        rows = [parts[n].place.index for n in members]
        starts = [parts[n].start for n in members]
        yield (
            Singles(
                arena=parts[members[0]].place.arena,
                rows=torch.tensor(rows, device=device),
                positions=torch.tensor(starts, device=device),
                begin=begin,
                longest=max(starts) + 1,
                neighbours=slice(rows[0], rows[-1] + 1) if rows[-1] - rows[0] + 1 == len(rows) else None,
            ),
            members,
        )
        begin += len(members)
    for number in chunks:
        part = parts[number]
        yield Chunk(part.place, part.start, begin, len(part.token_ids)), [number]
        begin += len(part.token_ids)
