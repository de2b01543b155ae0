"""One agent for the same money: how many samples it may draw per task, and which of two baselines to face.

A team that spends five calls per task is compared with one agent that answers five times and votes. `k`, the number
of samples, is the team's list cost per task over that of a single call. It is rarely whole, so each task draws the
floor or the ceiling of `k`, such that the expectation is exactly `k`. Fewer than one sample answers nothing: where the
team is cheaper than one call of the single agent, `k` is 1 and the baseline's higher spend is printed beside the
team's.

Source:
    Self-consistency as the equal-cost baseline: Wang et al. 2022, "Self-Consistency Improves Chain of Thought Reasoning
    in Language Models", arXiv:2203.11171; equal-cost comparison as in arXiv:2606.13003 and arXiv:2510.06711.
    Systematic sampling: Madow and Madow 1944, "On the theory of systematic sampling", Annals of Mathematical
    Statistics 15.
    Deviation: where a single answer does at least as well on the trial tasks as `k` samples and a vote, it is the
    baseline (`composers.certify`): two samples at a temperature are worse than one without, and cost twice as much;
    fractional `k`, by systematic sampling over the tasks in a seeded random order, so that every task
    expects exactly `k` samples *and* the total over `n` tasks is within one of `n * k`. The vote and the extraction
    are the team's own (`orchestra.execution.votes`) rather than a fixed answer format.
"""

import math
import random
from collections.abc import Sequence
from fractions import Fraction

from orchestra.evaluation.breakeven import mean_list_nano
from orchestra.evaluation.outcomes import Arm


def expected_samples(team: Arm, single_call: Arm) -> Fraction:
    """`k`: the team's list cost per task over that of one call of the single agent, never below 1.

    Raises:
        ValueError: when an arm has no outcomes, or the single call is free while the team is not.
    """
    team_nano, call_nano = mean_list_nano(team), mean_list_nano(single_call)
    if not call_nano:
        if team_nano:
            raise ValueError(
                f"one call of {single_call.name!r} lists at nothing and the team at {float(team_nano):,.0f} nano-USD "
                "per task; no number of samples costs the same: give the model a price"
            )
        return Fraction(1)
    return max(Fraction(1), team_nano / call_nano)


def samples_by_task(task_ids: Sequence[str], expected: Fraction, *, seed: int) -> dict[str, int]:
    """How many samples each task gets: the floor or the ceiling of `expected`, which every task expects exactly.

    The same tasks in the same order with the same seed draw the same counts, so a resumed run repeats nothing.

    Raises:
        ValueError: when `expected` is below 1.

    >>> sum(samples_by_task([f"t{i}" for i in range(10)], Fraction(5, 2), seed=1).values())
    25
    """
    if expected < 1:
        raise ValueError(f"a task needs at least one sample, got {expected=}")
    rng = random.Random(seed)
    shuffled = rng.sample(list(task_ids), len(task_ids))
    start = Fraction(rng.randrange(2**53), 2**53)
    marks = [math.floor(start + expected * i) for i in range(len(shuffled) + 1)]
    counts = {task: after - before for task, before, after in zip(shuffled, marks, marks[1:], strict=False)}
    return {task: counts[task] for task in task_ids}


def better_baseline(first: Arm, second: Arm) -> Arm:
    """The baseline the team must face: higher success on the trial split, then the cheaper one, then `first`.

    Args:
        first: a baseline's outcomes on *trial* tasks; choosing on the held-out ones would favour the baseline.
        second: the other's.

    Raises:
        ValueError: when one was measured on no task.
    """
    for arm in (first, second):
        if arm.success is None:
            raise ValueError(f"baseline {arm.name!r} was measured on no trial task, so nobody can say how good it is")
    return max((first, second), key=_merit)


def _merit(arm: Arm) -> tuple[float, Fraction]:
    assert arm.success is not None, "checked by the caller"
    return arm.success, -mean_list_nano(arm)
