"""Generalised advantage estimation over turns, for who has a critic."""

from collections.abc import Sequence

import numpy as np

from training.advantages.record import Floats, SeatTurns


def gae(batch: Sequence[SeatTurns], *, gamma: float = 1.0, lam: float = 0.95) -> tuple[Floats, ...]:
    """`[K]` for each seat: discounted sum of the turns' temporal-difference errors.

    Args:
        batch: every seat with `values_K`.
        gamma: discount of rewards, in [0, 1].
        lam: discount of errors, in [0, 1]; 1 trusts returns alone, 0 the critic alone.

    Source: Schulman et al. 2016, "High-Dimensional Continuous Control Using Generalized Advantage Estimation",
        arXiv:1506.02438, equation 16.
    Deviation: a step is a turn, not a token; an episode that ended is worth nothing afterwards.

    Raises:
        ValueError: when a seat has no values, or a discount is outside [0, 1].
    """
    if not (0 <= gamma <= 1 and 0 <= lam <= 1):
        raise ValueError(f"discounts are in [0, 1], got {gamma=}, {lam=}")
    return tuple(_discounted(seat, gamma, lam) for seat in batch)


def _discounted(seat: SeatTurns, gamma: float, lam: float) -> Floats:
    if seat.values_K is None:
        raise ValueError(f"seat {seat.seat} of group {seat.group!r} has no values; gae needs a critic's, as `values_K`")
    errors_K = seat.rewards_K + gamma * np.append(seat.values_K[1:], 0.0) - seat.values_K
    advantages_K = np.zeros_like(errors_K)
    ahead = 0.0
    for at in reversed(range(len(errors_K))):
        ahead = errors_K[at] + gamma * lam * ahead
        advantages_K[at] = ahead
    return advantages_K
