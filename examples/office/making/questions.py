"""What a question is, and how it is phrased; who makes them is in `numbers.py`, `words.py` and `facts.py` beside this.

Targets are worked out here and not by the tools, so that a tool and a target agree only when both are right.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from making.tables import Tables


@dataclass(frozen=True)
class Question:
    """One question with its answer."""

    text: str
    target: str
    scorer: str = "numeric"
    """`numeric` (the last number said), `contains`, or `regex` (then `target` is the pattern)."""


@dataclass(frozen=True)
class Office:
    """What the makers draw from."""

    seed: int
    tables: Tables

    def say(self, rng: Random, *phrasings: str, **values: object) -> str:
        """One of `phrasings` with `values` filled in; each seed knows about two thirds of them."""
        known = Random(f"{self.seed} {phrasings[0]}").sample(phrasings, (2 * len(phrasings) + 2) // 3)
        return rng.choice(known).format(**values)


Maker = Callable[[Random, Office, int], Question]
"""Makes a question; the number chooses among the kinds that a skill has."""


def decimal(value: float, places: int = 2) -> str:
    """`value` rounded, without trailing zeros."""
    return f"{value:.{places}f}".rstrip("0").rstrip(".") if places else f"{value:.0f}"
