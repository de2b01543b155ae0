"""What an environment is: its nature as data, and a table at which one game of it is played.

Environments know nothing of models, teams, ledgers or traces: texts go out to whoever sits at the table, texts come
back, and rewards follow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class Nature:
    """Facts about an environment that players, trainers and evaluations rely on."""

    name: str
    """As it is opened."""
    seats: int
    """Teams at the table."""
    low: float
    """Least that a seat's return can be, in the units of the game, without bonuses and penalties; a seat that broke
    the rules has this."""
    high: float
    """Most that it can be."""
    zero_sum: bool
    """The returns of all seats are together zero, where nobody broke the rules."""
    cooperative: bool
    """Every seat has the same return."""
    deterministic: bool
    """Nothing is drawn: the same moves always give the same game."""
    steps: int
    """Most moves of one game, those of all seats together."""
    open_answers: bool = False
    """Every answer of the right form is a move, and `Table.legal` holds only an example; otherwise it holds all."""
    draws: bool | None = None
    """A game in which nobody gains is rewarded as a draw; `None` means not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one reply."""

    action: str | None
    """The move that was made; `None` means none was."""
    rewards: tuple[float, ...]
    """What each seat earned by it, bonuses and penalties included."""
    violation: str | None = None
    """Why it was no move: the game is over then."""

    @property
    def valid(self) -> bool:
        """Whether it was a move."""
        return self.violation is None


@runtime_checkable
class Table(Protocol):
    """One game under way."""

    @property
    def to_move(self) -> int | None:
        """The seat whose turn it is; `None` means the game is over."""
        ...

    @property
    def returns(self) -> tuple[float, ...]:
        """What each seat has come to in the units of the game, without bonuses and penalties."""
        ...

    def opening(self, seat: int) -> str:
        """What a seat is told before its first move: rules, who it is, and how to answer."""
        ...

    def observation(self, seat: int) -> str:
        """What has happened since the last move of `seat`, and what it is to decide now; asking changes nothing."""
        ...

    def legal(self) -> tuple[str, ...]:
        """Every move that may be made now; of open answers, one or more that are good. Empty when the game is over."""
        ...

    def state_key(self, seat: int) -> str:
        """Equal wherever `seat` knows the same; says nothing that it does not know."""
        ...

    def answer(self, action: str) -> str:
        """A reply that makes the move `action`, in the form the seat is asked for."""
        ...

    def reply(self, text: str | None, tokens: int | None = None) -> Outcome:
        """Take the reply of the seat whose turn it is.

        Args:
            text: what it said; `None` means nothing, which is no move.
            tokens: how many tokens that took, for rewards that depend on length: those of all members of a team;
                `None` means not known.
        """
        ...


@runtime_checkable
class Environment(Protocol):
    """A game or a task that can be played."""

    @property
    def nature(self) -> Nature:
        """What is true of it."""
        ...

    @property
    def role(self) -> str:
        """A system prompt for whoever plays it."""
        ...

    def begin(self, seed: int) -> Table:
        """A new game; the same seed draws the same."""
        ...


Options = dict[str, Any]
"""What an environment is opened with."""


def check_seats(nature: Nature, given: Sequence[object]) -> None:
    """Refuse a table with empty or surplus seats.

    Raises:
        orchestra.errors.InputError: saying how many seats there are.
    """
    from orchestra.errors import InputError

    if len(given) != nature.seats:
        raise InputError(f"{nature.name!r} has {nature.seats} seats, and {len(given)} teams were given")
