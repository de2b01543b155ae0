"""Role-conditioned advantages: a running mean of returns for each game and seat."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from training.advantages.record import Floats, SeatTurns

Baselines = Mapping[tuple[str, int], float]
"""Running mean of returns, by game and seat."""

NONE_YET: Baselines = MappingProxyType({})


def spiral(
    batch: Sequence[SeatTurns], baselines: Baselines = NONE_YET, *, decay: float = 0.95
) -> tuple[tuple[Floats, ...], Baselines]:
    """`[K]` for each seat, its return minus the running mean of its game and seat; and the means after this batch.

    Args:
        batch: in the order the episodes ended, since each moves the mean that the next is compared with.
        baselines: as the last call returned them; a mean that is not there yet is 0.
        decay: how much of the old mean each episode leaves, in [0, 1).

    Source: Liu et al. 2025, "SPIRAL", arXiv:2506.24119, role-conditioned advantage estimation; released code.
    Deviation: none from the released code, which compares with the mean *before* the episode moves it.

    Raises:
        ValueError: when `decay` is outside [0, 1).
    """
    if not 0 <= decay < 1:
        raise ValueError(f"a decay is in [0, 1), got {decay=}")
    means = dict(baselines)
    advantages = []
    for seat in batch:
        mean = means.get((seat.game, seat.seat), 0.0)
        means[seat.game, seat.seat] = decay * mean + (1 - decay) * seat.total
        advantages.append(np.full(len(seat.rewards_K), seat.total - mean))
    return tuple(advantages), means
