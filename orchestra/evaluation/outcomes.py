"""What one arm of a comparison did on each task: the only thing the statistics below this package read.

An *arm* is one way to answer: the team, `retrieval`, `identity`, or a single agent at equal cost. A task that was never
attempted (the budget ran out before it) has no outcome; a task whose episode failed has one, with an error on it, and
counts as not solved. So an arm cannot look better by breaking on the hard tasks.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestra.errors import InputError

ScoresN = NDArray[np.float64]
"""`[N]`, one score per task, each in [0, 1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One task, attempted once by one arm."""

    task_id: str
    score: float | None
    """In [0, 1]; `None` means the reply was not scored, which is not a score of zero."""
    list_nano: int
    """What its calls cost uncached, in nano-USD."""
    paid_nano: int
    """What the ledger paid for them, in nano-USD; a cache hit pays 0."""
    latency_seconds: float
    error: str | None = None
    """Why the episode failed; `None` means that it did not."""
    reply: str | None = None
    """The arm's answer; `None` means that it gave none."""

    def __post_init__(self) -> None:
        """Refuse a score outside [0, 1] and negative money."""
        if self.score is not None and not 0.0 <= self.score <= 1.0:
            raise InputError(
                f"task {self.task_id!r} was scored {self.score!r}; a scorer returns a number from 0 to 1, or None"
            )
        if self.list_nano < 0 or self.paid_nano < 0:
            raise InputError(
                f"task {self.task_id!r} cost {self.list_nano} (list) and {self.paid_nano} (paid) nano-USD; "
                "money is never negative"
            )

    @property
    def success(self) -> float | None:
        """Its score; 0 when the episode failed unscored; `None` when nobody measured."""
        return 0.0 if self.score is None and self.error is not None else self.score


@dataclass(frozen=True, slots=True)
class Arm:
    """Every outcome of one way to answer, by task id, in the order the tasks came."""

    name: str
    outcomes: Mapping[str, Outcome]

    @classmethod
    def of(cls, name: str, outcomes: Iterable[Outcome]) -> "Arm":
        """The arm called `name` with these outcomes.

        Raises:
            InputError: when a task appears twice.
        """
        by_task: dict[str, Outcome] = {}
        for outcome in outcomes:
            if outcome.task_id in by_task:
                raise InputError(f"arm {name!r} has two outcomes for task {outcome.task_id!r}; keep one")
            by_task[outcome.task_id] = outcome
        return cls(name, by_task)

    def __len__(self) -> int:
        return len(self.outcomes)

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self.outcomes.values())

    @property
    def list_nano(self) -> int:
        """List cost of all its tasks together, in nano-USD."""
        return sum(outcome.list_nano for outcome in self)

    @property
    def paid_nano(self) -> int:
        """What the ledger paid for all its tasks together, in nano-USD."""
        return sum(outcome.paid_nano for outcome in self)

    @property
    def failures(self) -> int:
        """Number of tasks whose episode ended in an error."""
        return sum(outcome.error is not None for outcome in self)

    @property
    def measured(self) -> tuple[Outcome, ...]:
        """Its outcomes whose success is known."""
        return tuple(outcome for outcome in self if outcome.success is not None)

    @property
    def scores(self) -> ScoresN:
        """`[N]` successes of its measured tasks, in their order."""
        return np.array([outcome.success for outcome in self.measured], dtype=np.float64)

    @property
    def success(self) -> float | None:
        """Mean success over its measured tasks; `None` when there are none."""
        scores_N = self.scores
        return math.fsum(scores_N) / len(scores_N) if len(scores_N) else None


def shared_tasks(first: Arm, second: Arm) -> tuple[str, ...]:
    """Ids of the tasks that both arms were measured on, in the order of `first`."""
    there = {outcome.task_id for outcome in second.measured}
    return tuple(outcome.task_id for outcome in first.measured if outcome.task_id in there)


def only(arm: Arm, task_ids: Iterable[str]) -> Arm:
    """`arm` with nothing but these tasks, in the order given."""
    return Arm(arm.name, {task_id: arm.outcomes[task_id] for task_id in task_ids})
