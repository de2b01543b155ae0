"""Environments: games and tasks that teams play, and playing them.

An environment declares its nature as data and never sees a model. A team at a seat is any agent graph; a program such
as a tree search may hold a seat too. `play` yields episodes, many games at a time; `match` says what came of them for
each team and seat.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestra.environments.games.exploiting import Exploitability, exploitability
    from orchestra.environments.matches import Match, match
    from orchestra.environments.opening import environment
    from orchestra.environments.opponents import Opponent, opponent
    from orchestra.environments.playing import Team, play, player
    from orchestra.environments.protocol import Environment, Nature, Outcome, Table
    from orchestra.environments.results import GameResult, SeatResult, normalised, seat_results
    from orchestra.environments.rules import Rules

_HOMES = {
    "Environment": "protocol",
    "Exploitability": "games.exploiting",
    "GameResult": "results",
    "Match": "matches",
    "Nature": "protocol",
    "Opponent": "opponents",
    "Outcome": "protocol",
    "Rules": "rules",
    "SeatResult": "results",
    "Table": "protocol",
    "Team": "playing",
    "environment": "opening",
    "exploitability": "games.exploiting",
    "match": "matches",
    "normalised": "results",
    "opponent": "opponents",
    "play": "playing",
    "player": "playing",
    "seat_results": "results",
}

__all__ = [
    "Environment",
    "Exploitability",
    "GameResult",
    "Match",
    "Nature",
    "Opponent",
    "Outcome",
    "Rules",
    "SeatResult",
    "Table",
    "Team",
    "environment",
    "exploitability",
    "match",
    "normalised",
    "opponent",
    "play",
    "player",
    "seat_results",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"orchestra.environments.{_HOMES[name]}"), name)
