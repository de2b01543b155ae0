"""What training costs: calls are paid as they are made, and this machine's time by the hour."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
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

    def nano(self, seconds: float) -> int:
        """What `seconds` cost, rounded up to a whole nano-USD."""
        return -int(-(self.usd_per_hour * NANO_PER_USD * Decimal(seconds) / 3600) // 1)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Put money aside for a step before it begins, and pay for its time at its end.

        Raises:
            CannotAfford: there is not enough left for a step like the last one.
        """
        reserved = self._reserved(what)
        began = time.perf_counter()
        try:
            yield
        finally:
            self.last_seconds = time.perf_counter() - began
            self.ledger.settle(reserved, self._owed(reserved))

    def _reserved(self, what: str) -> Reservation:
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

    def _owed(self, reserved: Reservation) -> int:
        """A slow step under a cap pays what was put aside: the cap is a promise, a second more is not."""
        owed = self.nano(self.last_seconds)
        return owed if self.ledger.remaining is None else min(owed, reserved.nano)
