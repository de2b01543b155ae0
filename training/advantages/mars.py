"""Turn-level advantages with a baseline for each seat: MARS, later renamed MARSHAL.

Source: 2025, "MARSHAL" (first posted as "MARS"), arXiv:2510.15414, ICLR 2026; the released code (thu-nics/MARSHAL).
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence

import numpy as np

from training.advantages.record import Floats, SeatTurns

_EPSILON = 1e-8
"""Added to a variance before its root is taken, as the released code does."""
_SAME = 1e-6
"""Whitened values that are nearer than this are one value: the order of a sum must not make two of one."""


def mars(batch: Sequence[SeatTurns], *, by_turn: bool = True, by_seat: bool = True) -> tuple[Floats, ...]:
    """`[K]` for each seat: the turn's return minus the mean return of all turns of the same seat and game.

    First sum, then subtract: with gamma = lambda = 1 it is GAE whose value is the batch's mean.

    Args:
        batch: of any number of games.
        by_turn: `False` gives every turn the return of the whole episode, minus the mean over episodes, each counted
            once however many turns it has: the paper's ablation without turn-level credit.
        by_seat: `False` subtracts the mean of all seats of a game: the ablation without agent-specific normalisation.

    Source: 2025, MARSHAL, arXiv:2510.15414, turn-level advantage with agent-specific normalisation (mean only).
    Deviation: none known; the paper's box was read in notes of the paper. The ablations are ours to read: their code
        is not published.
    """
    returns = [seat.returns_K() for seat in batch]
    counted = returns
    if not by_turn:
        counted = [each[:1] for each in returns]
        returns = [np.full_like(each, each[0]) for each in returns]
    cells = [(seat.game, seat.seat if by_seat else None) for seat in batch]
    means = _means(zip(cells, counted, strict=True))
    return tuple(each - means[cell] for cell, each in zip(cells, returns, strict=True))


def mars_released(batch: Sequence[SeatTurns]) -> tuple[Floats, ...]:
    """`[K]` for each seat, in the released code's order: centre, whiten, sum, centre by seat, whiten.

    1. From each turn's reward, the mean turn reward of its (game, seat) is subtracted.
    2. All rewards of the batch are whitened over sampled tokens; a reward sits on the last token of its turn.
    3. They are summed from the end.
    4. Per seat, across games, the mean of the *distinct* values is subtracted, the padding's zero among them.
    5. The result is whitened over sampled tokens.

    Source: 2025, MARSHAL, arXiv:2510.15414; released code, `agentic_pipeline.py` and `functionals.py`.
    Deviation: the released code tells values apart bit by bit in float32; here values within 1e-6 are one. A batch
        without variance gives zeros in place of an error.
    """
    means = _means(((seat.game, seat.seat), seat.rewards_K) for seat in batch)
    rewards = [seat.rewards_K - means[seat.game, seat.seat] for seat in batch]
    tokens = np.concatenate([seat.tokens_K for seat in batch])
    # Every token but a turn's last carries a reward of zero.
    scale, shift = _whitening(np.concatenate([*rewards, [0.0]]), np.append(np.ones(len(tokens)), (tokens - 1).sum()))
    summed = []
    for seat, reward in zip(batch, rewards, strict=True):
        # The zeros are shifted as well, token by token; the shift is zero up to rounding, as the sum of rewards is.
        whitened = (reward + shift * seat.tokens_K) * scale
        summed.append(np.cumsum(whitened[::-1])[::-1])
    distinct: dict[int, set[float]] = defaultdict(lambda: {0.0})
    for seat, values in zip(batch, summed, strict=True):
        distinct[seat.seat].update(values.tolist())
    centred = [values - _mean_of_distinct(distinct[seat.seat]) for seat, values in zip(batch, summed, strict=True)]
    scale, shift = _whitening(np.concatenate(centred), tokens.astype(float))
    return tuple((values + shift) * scale for values in centred)


def length_reward(
    tokens: int, *, alpha: float = 0.5, shortest: int = 11, longest: int = 2048, released: bool = True
) -> float:
    """What the length of a reply of `tokens` adds to its turn's reward.

    The released form is a penalty that begins at `longest` tokens; the paper's is a bonus for short replies.

    >>> round(length_reward(3000), 4), length_reward(500), length_reward(11, released=False)
    (-0.2337, 0.0, 0.5)

    Source: 2025, MARSHAL, arXiv:2510.15414; released code (`released`), notes of the paper (otherwise).
    Deviation: none; the two sources disagree, so both are here.
    """
    share = 1.0 - (tokens - shortest) / (longest - shortest)
    if released:
        return alpha * min(share, 0.0)
    return alpha * max(share, 0.0)


def _means(cells: Iterable[tuple[Hashable, Floats]]) -> dict[Hashable, float]:
    found: dict[Hashable, list[Floats]] = defaultdict(list)
    for cell, values in cells:
        found[cell].append(values)
    return {cell: float(np.concatenate(values).mean()) for cell, values in found.items()}


def _mean_of_distinct(values: set[float]) -> float:
    ordered = np.sort(np.array(list(values)))
    first = np.append(True, np.diff(ordered) > _SAME)
    return float(ordered[first].mean())


def _whitening(values: Floats, weights: Floats) -> tuple[float, float]:
    """Scale and shift that give `values`, each counted `weights` times, mean 0 and variance 1."""
    count = weights.sum()
    mean = float((values * weights).sum() / count)
    if count < 2:
        return 0.0, -mean
    variance = float((weights * (values - mean) ** 2).sum() / (count - 1))
    return 1.0 / float(np.sqrt(variance + _EPSILON)), -mean
