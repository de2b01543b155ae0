"""Keys and values of transcripts that have ended, kept for whoever goes on from them, within a bound of memory.

Source:
    Kwon et al. 2023, "Efficient Memory Management for Large Language Model Serving with PagedAttention",
    arXiv:2309.06180, section 4.4 (shared prefixes).
    Deviation: whole transcripts are kept and copied into a row instead of blocks shared by reference; copying a token
    costs thousands of times less than computing it on a CPU, and attention then reads rows that lie in one piece.
"""

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor

from orchestra.models.local.lora import Lora

WORTH_COPYING = 8
"""Tokens; a shorter match is computed again."""


def shared_length(left: tuple[int, ...], right: tuple[int, ...]) -> int:
    """How many leading ids two sequences have in common."""
    limit = min(len(left), len(right))
    low, step = 0, 16
    while low < limit:
        high = min(low + step, limit)
        if left[low:high] != right[low:high]:
            return next(i for i in range(low, high) if left[i] != right[i])
        low, step = high, step * 2
    return limit


@dataclass(frozen=True, slots=True)
class Kept:
    """A transcript's ids, and its keys and values."""

    token_ids: tuple[int, ...]
    tensors: tuple[Tensor, Tensor]
    lora: Lora | None = None
    """What they were computed with; they say nothing to a row of another adapter, or of none."""

    @property
    def bytes(self) -> int:
        """Memory it holds."""
        return sum(t.numel() * t.element_size() for t in self.tensors)

    @property
    def key(self) -> "Key":
        """What it is found by."""
        return self.token_ids, self.lora


Key = tuple[tuple[int, ...], Lora | None]


class PrefixStore:
    """Kept transcripts, the least recently used dropped first.

    Args:
        limit_bytes: most memory of all of them together; 0 keeps none.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.bytes = self.dropped_bytes = 0
        self._kept: OrderedDict[Key, Kept] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def match(self, token_ids: tuple[int, ...], lora: Lora | None = None) -> tuple[int, Kept | None]:
        """Length of the longest beginning of `token_ids` kept of the same adapter, and who holds it."""
        best_length, best = 0, None
        for kept in self._kept.values():
            if kept.lora is not lora:
                continue
            length = shared_length(kept.token_ids, token_ids)
            if length > best_length:
                best_length, best = length, kept
        return (best_length, best) if best_length >= WORTH_COPYING else (0, None)

    def touch(self, kept: Kept) -> None:
        """Mark `kept` as used just now."""
        if kept.key in self._kept:
            self._kept.move_to_end(kept.key)

    def add(self, kept: Kept, *, instead_of: Key | None = None) -> None:
        """Keep a transcript; `instead_of` is the shorter one it grew from, dropped when it says nothing more."""
        if kept.bytes > self.limit_bytes:
            return
        if instead_of is not None and kept.token_ids[: len(instead_of[0])] == instead_of[0]:
            self._drop(instead_of)
        self._drop(kept.key)
        self._kept[kept.key] = kept
        self.bytes += kept.bytes
        while self.bytes > self.limit_bytes:
            self._drop(next(iter(self._kept)))

    def forget(self, lora: Lora) -> None:
        """Keep nothing that was computed with `lora`."""
        for key in [key for key in self._kept if key[1] is lora]:
            self._drop(key)

    def clear(self) -> None:
        """Keep nothing."""
        self._kept.clear()
        self.bytes = 0

    def _drop(self, key: Key) -> None:
        old = self._kept.pop(key, None)
        if old is not None:
            self.bytes -= old.bytes
            self.dropped_bytes += old.bytes
