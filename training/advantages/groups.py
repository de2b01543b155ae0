"""Advantages of whole episodes within a group: every turn of an episode gets the same.

A group is what was asked several times; seats of a group are compared with the same seat of its other episodes.
"""

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

import numpy as np

from training.advantages.record import Floats, SeatTurns


def grpo(batch: Sequence[SeatTurns], *, floor: float = 1e-4) -> tuple[Floats, ...]:
    """`[K]` for each seat: its return minus the group's mean, over the group's standard deviation.

    Args:
        batch: any number of groups.
        floor: added to the deviation, in units of return; keeps a constant group at zero.

    Source: Shao et al. 2024, "DeepSeekMath", arXiv:2402.03300, section 4.1.
    Deviation: the sample deviation (n - 1), as common code takes it; a group of one gets zero. Seats of a game are
        groups of their own, since the paper has one agent.
    """

    def z_score(returns: Floats) -> Floats:
        if len(returns) < 2:
            return np.zeros_like(returns)
        scored: Floats = (returns - returns.mean()) / (returns.std(ddof=1) + floor)
        return scored

    return _within(batch, _same_seat, z_score)


def dr_grpo(batch: Sequence[SeatTurns]) -> tuple[Floats, ...]:
    """`[K]` for each seat: its return minus the group's mean.

    Source: Liu et al. 2025, "Understanding R1-Zero-Like Training", arXiv:2503.20783 ("Dr. GRPO").
    Deviation: none here; its other half, a loss that is not divided by the reply's length, is the loss's to choose.
    """
    return _within(batch, _same_seat, lambda returns: returns - returns.mean())


def rloo(batch: Sequence[SeatTurns]) -> tuple[Floats, ...]:
    """`[K]` for each seat: its return minus the mean return of the *others* of the group.

    Source: Kool et al. 2019, "Buy 4 REINFORCE Samples, Get a Baseline for Free!"; Ahmadian et al. 2024,
        "Back to Basics", arXiv:2402.14740, equation 8.
    Deviation: a group of one has no others and gets zero.
    """

    def left_out(returns: Floats) -> Floats:
        if len(returns) < 2:
            return np.zeros_like(returns)
        compared: Floats = returns - (returns.sum() - returns) / (len(returns) - 1)
        return compared

    return _within(batch, _same_seat, left_out)


def role_baseline(batch: Sequence[SeatTurns]) -> tuple[Floats, ...]:
    """`[K]` for each seat: its return minus the mean return of everybody of the same role in the group.

    Source: 2025, "AdvEvo-MARL", arXiv:2510.01586, the public baseline.
    Deviation: whether the paper divides by a deviation or averages by query was not found; this does neither.
    """
    return _within(batch, lambda seat: (seat.group, seat.role), lambda returns: returns - returns.mean())


def _same_seat(seat: SeatTurns) -> Hashable:
    return (seat.group, seat.seat)


def _within(
    batch: Sequence[SeatTurns], cell: Callable[[SeatTurns], Hashable], credit: Callable[[Floats], Floats]
) -> tuple[Floats, ...]:
    members: dict[Hashable, list[int]] = defaultdict(list)
    for at, seat in enumerate(batch):
        members[cell(seat)].append(at)
    advantages_G = np.zeros(len(batch))
    for places in members.values():
        advantages_G[places] = credit(np.array([batch[at].total for at in places]))
    return tuple(np.full(len(seat.rewards_K), advantage) for seat, advantage in zip(batch, advantages_G, strict=True))
