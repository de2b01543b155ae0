"""What the books hold, and what a ledger asks of those outside it: who keeps its entries, who lends it money."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from orchestra.errors import OrchestraError

Event = Literal["reserve", "settle", "unknown", "release", "overrun"]


class ReservationClosed(OrchestraError, ValueError):
    """A reservation was settled, released or given up before, or belongs to another ledger."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the books."""

    ledger: str
    """Path of the ledger reserved on, such as `run/search/trial-3`; it counts on every ledger above it as well."""
    reservation_id: str
    event: Event
    nano: int
    """Nano-USD: what was reserved, settled, kept as unknown or refunded; of `overrun`, what the call cost too much."""
    what: str
    at: float
    """Unix seconds."""


Sink: TypeAlias = Callable[[Entry], None]
"""Takes every entry as it is made, in order, while the tree is locked: it queues and returns."""


class Lender(Protocol):
    """Where a root's cap comes from when it is lent in parts. Asked while the tree is locked: it answers at once."""

    @property
    def most(self) -> int:
        """Nano-USD the cap could grow to, as far as is known; a call that would need more is refused."""
        ...

    @property
    def lost(self) -> str | None:
        """Why nothing may be reserved any more; `None` while it may."""
        ...

    def ask(self) -> None:
        """Take notice that somebody waits who might be helped by a larger cap."""
        ...
