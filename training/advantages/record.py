"""What an estimator of advantages is given: the turns of one seat in one episode, with their rewards."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeatTurns:
    """One seat's turns of one episode, in order.

    Raises:
        ValueError: when there is no turn, lengths differ, or a figure is not finite.
    """

    group: str
    """Episodes of one group are compared with each other: the same task, asked several times."""
    game: str
    """Environment that was played; seats are compared within a game."""
    seat: int
    """From 0."""
    rewards_K: Floats
    """`[K]` reward that each turn earned, in units of the environment; what came later on the other's turn included."""
    tokens_K: NDArray[np.int64]
    """`[K]` tokens that were sampled in each turn, at least 1."""
    role: str = ""
    """Functional group that shares a baseline, such as attackers and defenders; empty where there is one role."""
    values_K: Floats | None = None
    """`[K]` what a critic expected at the beginning of each turn, finite; `None` means there is no critic."""

    def __post_init__(self) -> None:
        turns = len(self.rewards_K)
        if turns == 0 or self.tokens_K.shape != (turns,) or self.rewards_K.shape != (turns,):
            shapes = f"rewards {self.rewards_K.shape}, tokens {self.tokens_K.shape}"
            raise ValueError(f"seat {self.seat} of group {self.group!r}: need one figure a turn, got {shapes}")
        if self.values_K is not None and self.values_K.shape != (turns,):
            raise ValueError(
                f"seat {self.seat} of group {self.group!r}: need one value a turn, got {self.values_K.shape}"
            )
        if not np.isfinite(self.rewards_K).all() or (self.tokens_K < 1).any():
            raise ValueError(f"seat {self.seat} of group {self.group!r}: rewards are finite and turns have tokens")
        if self.values_K is not None and not np.isfinite(self.values_K).all():
            at = int(np.flatnonzero(~np.isfinite(self.values_K))[0])
            raise ValueError(
                f"seat {self.seat} of group {self.group!r}: turn {at} of {turns} has the value {self.values_K[at]}; "
                "ask the critic about every turn, or give `values_K=None` where there is no critic"
            )

    @property
    def total(self) -> float:
        """Return of the whole episode for this seat."""
        return float(self.rewards_K.sum())

    def returns_K(self) -> Floats:  # noqa: N802  # the axis is part of the name
        """`[K]` sum of the rewards from each turn to the end."""
        return np.cumsum(self.rewards_K[::-1])[::-1]
