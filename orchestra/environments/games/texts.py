"""What a module of texts says of a game, and the generic one for games that have none."""

import re
from typing import Any, Literal, Protocol

from orchestra.environments.games.spiel import pyspiel

State = Any
"""A state of OpenSpiel, which has no types."""
History = Literal["full", "actions", "none"]
"""What a seat is shown of others' moves: with state and choices, the move alone, or nothing."""


class Texts(Protocol):
    """The words of one game."""

    title: str
    """As a player calls it."""
    history: History
    """How others' moves are shown: in full only where nothing of state and choices is private."""
    draws: bool
    """Whether a game in which nobody gains is a draw, and rewarded as one."""

    def rules(self) -> tuple[str, ...]:
        """The rules, one a line."""
        ...

    def player(self, seat: int) -> str:
        """Who a seat is, and what the state's text means."""
        ...

    def state(self, state: State, seat: int) -> str:
        """What `seat` may know of a state."""
        ...

    def action(self, state: State, seat: int, action: int) -> str:
        """A move of `seat`, as it is written."""
        ...

    def stake(self, state: State, seat: int) -> float:
        """What `seat` has at stake, which it loses by a reply that is no move."""
        ...

    def key(self, state: State, seat: int) -> str:
        """What `seat` knows, as text."""
        ...


class Generic:
    """Words for any game, from OpenSpiel's own.

    Nobody can say in general whether the moves of a game with secrets are among them, so none are shown there: the
    state tells a seat what it may know.

    Args:
        game: a game of OpenSpiel.
    """

    draws = False

    def __init__(self, game: Any) -> None:
        kind = game.get_type()
        perfect = kind.information == pyspiel.GameType.Information.PERFECT_INFORMATION
        self.title = str(kind.long_name)
        self.history: History = "full" if perfect else "none"
        self._least = abs(float(game.min_utility()))
        self._whole = bool(kind.provides_information_state_string) and not (
            perfect and kind.provides_observation_string
        )
        """Whether the information state is what a seat knows; where there are no secrets, the observation is."""

    def rules(self) -> tuple[str, ...]:
        """OpenSpiel says no rules in words; a player sees the state and its choices."""
        return (
            f"This is {self.title}.",
            "At every turn you are shown the state and every action you may choose, as OpenSpiel writes them.",
        )

    def player(self, seat: int) -> str:
        """Its number."""
        return f"You are player {seat}; players are counted from 0."

    def state(self, state: State, seat: int) -> str:
        """The information state, or the observation where nothing is hidden or there is no other."""
        return str(state.information_state_string(seat) if self._whole else state.observation_string(seat)).rstrip()

    def action(self, state: State, seat: int, action: int) -> str:
        """As OpenSpiel writes it, between angle brackets."""
        return f"<{bare(state, seat, action)}>"

    def stake(self, state: State, seat: int) -> float:
        """The most that can be lost."""
        return self._least

    def key(self, state: State, seat: int) -> str:
        """The state as it is shown."""
        return self.state(state, seat)


def bare(state: State, seat: int, action: int) -> str:
    """OpenSpiel's name of a move, without brackets around it."""
    return re.sub(r"^\((.*)\)$", r"\1", str(state.action_to_string(seat, action)))
