"""The twelve information states of Kuhn poker, and how a seat comes to each in a game that is played in words."""

from collections.abc import Mapping
from dataclasses import dataclass

from orchestra.environments.games.openspiel import SpielEnvironment, SpielTable

DEALS = 64
"""Seeds looked through for every card in every seat; each of the six deals is among the first few."""


@dataclass(frozen=True, slots=True)
class Situation:
    """One information state, and how a seat comes to it."""

    key: str
    seat: int
    told: tuple[str, ...]
    """Before each of its own decisions so far; the last is the one to take."""
    said: tuple[str, ...]
    """Its own actions in between."""
    actions: Mapping[str, int]
    """Legal ones, by their text, to OpenSpiel's numbers."""


def situations(environment: SpielEnvironment) -> tuple[Situation, ...]:
    """Every information state once, first decisions before second ones."""
    found: dict[str, Situation] = {}
    for seed in range(DEALS):
        for moves in ((), (0,), (1,), (0, 1)):
            table = environment.begin(seed)
            told: dict[int, list[str]] = {0: [], 1: []}
            said: dict[int, list[str]] = {0: [], 1: []}
            for move in moves:
                seat = _hear(table, told)
                said[seat].append(environment.texts.action(table.state, seat, move))
                table.apply(move)
            seat = _hear(table, told)
            key = str(table.state.information_state_string(seat))
            legal = {environment.texts.action(table.state, seat, move): move for move in table.state.legal_actions()}
            found.setdefault(key, Situation(key, seat, tuple(told[seat]), tuple(said[seat]), legal))
    assert len(found) == 12, "every deal is among the first seeds"
    return tuple(sorted(found.values(), key=lambda situation: (len(situation.told), situation.seat, situation.key)))


def _hear(table: SpielTable, told: dict[int, list[str]]) -> int:
    seat = table.to_move
    assert seat is not None, "no move that is asked for ends the game"
    opening = [] if told[seat] else [table.opening(seat)]
    told[seat].append("\n\n".join([*opening, table.observation(seat)]))
    return seat
