"""What single agents and tools of a team may use up in one episode, below what the run may spend.

An agent's cap is a child of its episode's ledger, named after the node: what it spends counts on the episode, on the
purse that pays for it and on the run, and none of them can be exceeded through it. A tool costs nothing unless a price
per call is stated; then its calls are reserved and settled like a model's. A tool that was called as often as it may be
fails like any tool: its agent hears why, and goes on without it.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from orchestra.errors import InputError, ToolError
from orchestra.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowances:
    """Caps below the run's, by name.

    Raises:
        InputError: an amount is negative.
    """

    agent_nano: Mapping[str, int] = field(default_factory=dict)
    """By node, the most nano-USD that its calls may cost in an episode, its tools' included."""
    tool_calls: Mapping[str, int] = field(default_factory=dict)
    """By tool, how often it may be called in an episode."""
    tool_nano: Mapping[str, int] = field(default_factory=dict)
    """By tool, the price of a call in nano-USD; absent means that it costs nothing."""

    def __post_init__(self) -> None:
        for kind, amounts in (("agent", self.agent_nano), ("tool", self.tool_calls), ("tool", self.tool_nano)):
            for name, amount in amounts.items():
                if amount < 0:
                    raise InputError(f"what {kind} {name!r} may use is at least zero, got {amount}")


@asynccontextmanager
async def paid(purse: Ledger | None, nano: int, what: str) -> AsyncIterator[Callable[[], None]]:
    """A call of fixed price: reserved before the block, settled after it; yields what to call once it is sent.

    A tool that fails was called, and is paid. A call that was cut off after it was sent stays booked as unknown.

    Args:
        purse: pays; `None` pays nothing.
        nano: the price in nano-USD.
        what: names the call in the books.

    Raises:
        CannotAfford: it does not fit under a cap.
    """
    if purse is None or not nano:
        yield lambda: None
        return
    reservation = await purse.reserve(nano, what)
    sent: list[bool] = []
    try:
        yield lambda: sent.append(True)
    except ToolError:
        purse.settle(reservation, nano)
        raise
    except BaseException:
        if sent:
            purse.unknown(reservation)
        else:
            purse.release(reservation)
        raise
    purse.settle(reservation, nano)
