"""Programs that hold a seat: a random player, and by name those that know how to search or to solve."""

import random
from typing import Any, Protocol, runtime_checkable

from orchestra.environments.protocol import Environment, Table
from orchestra.errors import InputError
from orchestra.plugins import closest, load

KNOWN = ("random", "mcts:N", "cfr", "cfr:N")
"""How opponents are named; N is simulations, or iterations."""


@runtime_checkable
class Opponent(Protocol):
    """A program at a seat."""

    @property
    def name(self) -> str:
        """As it is asked for."""
        ...

    def choose(self, table: Table, rng: random.Random) -> str:
        """One of the table's legal moves, for the seat whose turn it is."""
        ...


class RandomPlayer:
    """Every legal move alike."""

    name = "random"

    def choose(self, table: Table, rng: random.Random) -> str:
        """One of them."""
        return rng.choice(table.legal())


def opponent(name: str, environment: Environment) -> Opponent:
    """The program called `name`, for games of `environment`.

    Args:
        name: `random`; `mcts:N`, tree search of N simulations a move; `cfr` or `cfr:N`, the average policy of
            counterfactual regret minimisation after N iterations, 1,000 unless said.
        environment: what it is to play.

    Raises:
        InputError: there is none, or it cannot play this.
    """
    kind, _, number = name.partition(":")
    if kind not in {known.partition(":")[0] for known in KNOWN} or (number and not number.isdecimal()):
        raise InputError(f"no opponent {name!r}; {closest(name, KNOWN)}")
    if kind == "random":
        return RandomPlayer()
    maker: Any = load("orchestra.environments", f"orchestra.environments.games.bots:{kind}")
    made = maker(environment, int(number) if number else None)
    assert isinstance(made, Opponent), "it is made of our classes"
    return made
