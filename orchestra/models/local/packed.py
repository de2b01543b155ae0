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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from orchestra.models.local.attention import STEP, Chunk, Singles
from orchestra.models.local.lora import Group, Lora, applied
from orchestra.models.local.places import Arena, Place, Shape

SMALLEST_CAPACITY = 256
"""Tokens; rows are sorted into capacities of this times a power of two."""


@dataclass(frozen=True, slots=True)
class Part:
    """New tokens of one row."""

    place: Place
    token_ids: Sequence[int]
    start: int
    """Position of the first of them; everything before is in place already."""


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

    @staticmethod
    def room(capacity: int) -> int:
        """Tokens that there is room for where a row of up to `capacity` lies."""
        return SMALLEST_CAPACITY << max(0, (capacity - 1) // SMALLEST_CAPACITY).bit_length()

    def enter(self, capacity: int, lora: Lora | None = None) -> Place:
        """Room for a row of up to `capacity` tokens, changed by `lora`."""
        size = self.room(capacity)
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
        pieces: tuple[Singles | Chunk, ...],
        groups: Sequence[Group],
    ) -> Tensor:
        device = self.shape.device
        keep = torch.tensor(wanted, device=device)
        inputs: dict[str, Any] = {"logits_to_keep": keep} if self._keeps_last else {}
        STEP.pieces = pieces
        try:
            with applied(groups, len(ids)):
                out = self._network(
                    input_ids=torch.tensor([ids], device=device),
                    position_ids=torch.tensor([positions], device=device),
                    use_cache=False,
                    **inputs,
                )
        finally:
            STEP.pieces = ()
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
                span=slice(rows[0], rows[-1] + 1) if 8 * len(rows) > 7 * (rows[-1] - rows[0]) else None,
            ),
            members,
        )
        begin += len(members)
    for number in chunks:
        part = parts[number]
        yield Chunk(part.place, part.start, begin, len(part.token_ids)), [number]
        begin += len(part.token_ids)
