"""What a model call needs before it is sent, and what becomes of that when it ends: a passage and a reservation.

The passage through the model's turnstile comes first, the reservation second: a call that waits for its turn holds no
money that another could use. When the money is not there, the call steps aside: it gives its passage back before it
waits, so that a sibling whose own ledger has room is not held up, and then enters first, because it was at the front
before. So whoever holds a passage never waits for money, and whoever waits for a passage with money in hand waits only
for calls that are on their way and need nothing more: no ring of waiting can close.

How a call ends decides what is booked. Answered with a count that can be true: that count. Answered without: the whole
reservation, as unknown. Failed: the whole reservation, unless the server refused or was never reached; then nothing was
served, and all is given back.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from orchestra.errors import ModelError
from orchestra.ledger import Ledger, Reservation
from orchestra.models.limits import ALL_MODELS, Limits, Passage, Turnstile


@dataclass(slots=True)
class Turnstiles:
    """One turnstile per model, made when the model is first asked.

    Limits under `ALL_MODELS` hold for each model by itself.
    """

    limits: Mapping[str, Limits] = field(default_factory=dict)
    patience_seconds: float = math.inf
    """A server that asks for a longer wait holds nobody back: each is refused by itself, and gives up."""
    _made: dict[str, Turnstile] = field(default_factory=dict)

    def of(self, model: str) -> Turnstile:
        """The turnstile of the model called `model`."""
        turnstile = self._made.get(model)
        if turnstile is None:
            limits = self.limits.get(model) or self.limits.get(ALL_MODELS)
            turnstile = self._made[model] = Turnstile(limits, patience_seconds=self.patience_seconds)
        return turnstile


@dataclass(slots=True)
class Admission:
    """A call's passage and reservation; ended exactly once, by one of `withdraw`, `fail` and `answer`."""

    ledger: Ledger
    reservation: Reservation
    turnstile: Turnstile
    passage: Passage

    @classmethod
    async def of(
        cls,
        turnstile: Turnstile,
        ledger: Ledger,
        worst_nano: int,
        what: str,
        *,
        tokens: int,
        waits: Callable[[], None],
    ) -> "Admission":
        """Both, when there are both; cancelling the wait leaves neither.

        Args:
            turnstile: of the model.
            ledger: pays.
            worst_nano: most the call can cost.
            what: names the call in the books.
            tokens: most the call can come to.
            waits: called before it waits for the first time.

        Raises:
            CannotAfford: the call could never fit under the cap.
        """
        passage = turnstile.enter_now(tokens)
        if passage is None:
            waits()
            passage = await turnstile.enter(tokens)
        try:
            reservation = ledger.reserve_now(worst_nano, what)
        except BaseException:
            passage.leave()
            raise
        if reservation is None:
            passage.leave()
            waits()
            reservation = await ledger.reserve(worst_nano, what)
            try:
                passage = await turnstile.enter(tokens, first=True)
            except BaseException:
                ledger.release(reservation)
                raise
        return cls(ledger, reservation, turnstile, passage)

    def withdraw(self) -> None:
        """The call was never sent."""
        self.passage.leave()
        self.ledger.release(self.reservation)

    def fail(self, error: BaseException) -> int:
        """The call failed or was cut; nano-USD that stay booked for it."""
        if isinstance(error, ModelError) and error.retry_after_seconds is not None:
            self.turnstile.hold_back(error.retry_after_seconds)
        self.passage.leave()
        if isinstance(error, ModelError) and error.served is False:
            self.ledger.release(self.reservation)
            return 0
        self.ledger.unknown(self.reservation)
        return self.reservation.nano

    def answer(self, cost_nano: int | None, tokens: int | None) -> int:
        """The call was answered at that cost; `None` where it is not known. Nano-USD that are booked for it."""
        if tokens is not None:
            self.passage.used(tokens)
        self.passage.leave()
        if cost_nano is None:
            self.ledger.unknown(self.reservation)
            return self.reservation.nano
        self.ledger.settle(self.reservation, cost_nano)
        return cost_nano
