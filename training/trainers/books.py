"""What training costs: calls are paid as they are made, and this machine's time by the hour."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal

from orchestra.errors import CannotAfford
from orchestra.ledger import NANO_PER_USD, Ledger, Reservation

FIRST_GUESS_SECONDS = 60.0
"""Machine time put aside for the first step, whose length nobody knows."""
MARGIN = 1.5
"""How much longer than the last one a step may take before it overruns what was put aside."""


@dataclass(slots=True)
class Compute:
    """Machine time on a ledger.

    Time that the embedded engine plays in is paid by its tokens, so this books what comes after the play: credit,
    update and publication.
    """

    ledger: Ledger
    usd_per_hour: Decimal
    last_seconds: float = FIRST_GUESS_SECONDS
    commit: Callable[[], Awaitable[None]] | None = None
    """Returns when everything booked so far is in the store; `None` where no store keeps it."""

    def nano(self, seconds: float) -> int:
        """What `seconds` cost, rounded up to a whole nano-USD."""
        return -int(-(self.usd_per_hour * NANO_PER_USD * Decimal(seconds) / 3600) // 1)

    def reserve(self, what: str) -> Reservation:
        """Money put aside for a step before it begins.

        Raises:
            CannotAfford: there is not enough left for a step like the last one.
        """
        wanted = self.nano(self.last_seconds * MARGIN)
        left = self.ledger.remaining
        if left is not None and self.last_seconds == FIRST_GUESS_SECONDS:
            wanted = min(wanted, left)
        if left is not None and (left == 0 or wanted > left) and self.usd_per_hour:
            raise CannotAfford(
                f"{what}: a step costs about {wanted / NANO_PER_USD:.6f} USD of machine time and "
                f"{left / NANO_PER_USD:.6f} USD is left; everything up to here is saved, go on with --resume and a "
                "higher --max-cost"
            )
        booked = self.ledger.reserve_now(wanted, what)
        assert booked is not None, "calls are settled before a step is paid for, so nothing is in the way"
        return booked

    async def kept(self) -> None:
        """See to it that a kill from now on loses nothing that was booked: an update lets no store write until its end.

        Raises:
            orchestra.traces.store.StoreFailed: it could not be written.
        """
        if self.commit is not None:
            await self.commit()

    def pay(self, reserved: Reservation, what: str, seconds: float) -> None:
        """Pay for a step that took `seconds`, as far as there is money: the cap is a promise, a second more is not."""
        self.last_seconds = seconds
        owed = self.nano(seconds)
        # Never more than was put aside: a call that costs more is one a ledger no longer trusts, with a cap or without.
        self.ledger.settle(reserved, min(owed, reserved.nano))
        rest, left = owed - reserved.nano, self.ledger.remaining
        rest = rest if left is None else min(rest, left)
        more = self.ledger.reserve_now(rest, what) if rest > 0 else None
        if more is not None:
            self.ledger.settle(more, rest)
