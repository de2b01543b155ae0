"""Who gets credit for what: one pure function per published estimator, and what is true of each.

Every estimator takes the same record (`SeatTurns`) and gives one advantage for each turn of each seat. What holds of it
is declared in `ADVANTAGES` and tested there, with a counterexample where it does not hold.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from inspect import Parameter, signature
from typing import Any, Literal

from training.advantages.gae import gae
from training.advantages.groups import dr_grpo, grpo, rloo, role_baseline
from training.advantages.mars import length_reward, mars, mars_released
from training.advantages.record import Floats, SeatTurns
from training.advantages.spiral import Baselines, spiral

__all__ = [
    "ADVANTAGES",
    "Baselines",
    "Estimator",
    "Floats",
    "Property",
    "SeatTurns",
    "dr_grpo",
    "gae",
    "grpo",
    "length_reward",
    "mars",
    "mars_released",
    "rloo",
    "role_baseline",
    "spiral",
]

Property = Literal["constant", "permutation", "isolation"]
"""`constant`: adding a constant to every return (to the last reward of every episode) changes no advantage.
`permutation`: the order of the episodes does not matter.
`isolation`: what one seat earns does not change another seat's advantages."""


@dataclass(frozen=True, slots=True)
class Estimator:
    """An estimator as recipes name it."""

    function: Callable[..., Any]
    holds: frozenset[Property]
    """What is true of it."""
    unit: Literal["turn", "episode"]
    """Whether turns of one episode get credit of their own."""
    needs_values: bool = False
    """Whether a critic's values must be there."""
    keeps_state: bool = False
    """Whether it takes what the last call returned."""
    by_task: bool = False
    """Whether it compares episodes of the same task alone, so that one without others of its task teaches nothing."""

    def __call__(self, batch: Sequence[SeatTurns], state: Any = None) -> tuple[tuple[Floats, ...], Any]:
        """Advantages of a batch, and the state for the next."""
        if self.keeps_state:
            result: tuple[tuple[Floats, ...], Any] = (
                self.function(batch) if state is None else self.function(batch, state)
            )
            return result
        return self.function(batch), state

    @property
    def options(self) -> tuple[str, ...]:
        """Names of its keyword arguments."""
        kinds = signature(self.function).parameters.values()
        return tuple(one.name for one in kinds if one.kind is Parameter.KEYWORD_ONLY)

    def using(self, **options: float) -> "Estimator":
        """This estimator with some of its keyword arguments set."""
        return replace(self, function=partial(self.function, **options))


_ALL: frozenset[Property] = frozenset({"constant", "permutation", "isolation"})

ADVANTAGES: Mapping[str, Estimator] = {
    "dr-grpo": Estimator(dr_grpo, _ALL, "episode", by_task=True),
    "gae": Estimator(gae, frozenset({"permutation", "isolation"}), "turn", needs_values=True),
    "grpo": Estimator(grpo, _ALL, "episode", by_task=True),
    "mars": Estimator(mars, _ALL, "turn"),
    "mars-released": Estimator(mars_released, frozenset({"permutation"}), "turn"),
    "rloo": Estimator(rloo, _ALL, "episode", by_task=True),
    "role-baseline": Estimator(role_baseline, frozenset({"constant", "permutation"}), "episode", by_task=True),
    "spiral": Estimator(spiral, frozenset({"isolation"}), "episode", keeps_state=True),
}
