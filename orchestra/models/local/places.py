"""Where the keys and values of rows lie: in arenas, one for each capacity and adapter, close together."""

from dataclasses import dataclass

import torch
from torch import Tensor

from orchestra.models.local.lora import Lora

LEAST_ROWS = 1
"""Of an arena that is not empty."""


@dataclass(slots=True, eq=False)
class Place:
    """Where a row's keys and values lie; `index` changes when a neighbour leaves."""

    arena: "Arena"
    index: int


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
        self.keys, self.values = self._empty(LEAST_ROWS)

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
            self._resize(rows + max(LEAST_ROWS, rows // 2))
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
        used, rows = len(self.places), self.keys.shape[1]
        if used < rows // 3 and rows > LEAST_ROWS:  # transcripts grow into larger rooms, and all may have moved on
            self._resize(max(LEAST_ROWS, rows // 2))

    def _resize(self, rows: int) -> None:
        used = len(self.places)
        keys, values = self._empty(rows)
        keys[:, :used], values[:, :used] = self.keys[:, :used], self.values[:, :used]
        self.keys, self.values = keys, values
