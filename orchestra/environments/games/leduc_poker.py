"""Leduc hold'em in words."""

import re

from orchestra.environments.games.texts import History, State

CARDS = "JQK"
MOVES = ("FOLD", "CALL", "RAISE")
RAISES = (2, 4)
"""Chips by which a raise goes above the call, in the first and in the second round."""


class LeducPoker:
    """Six cards, two rounds."""

    title = "Leduc hold'em"
    history: History = "actions"
    draws = False

    def rules(self) -> tuple[str, ...]:
        """In six lines."""
        return (
            "The deck is J, J, Q, Q, K, K. Two players pay an ante of 1 chip each and get one card each.",
            "There are two rounds of betting; player 0 decides first in each. Between them one card is laid open.",
            "CALL puts in what you have put in less than the other, which may be nothing. RAISE puts that in and "
            f"{RAISES[0]} chips more in the first round, {RAISES[1]} more in the second; both players together raise "
            f"at most twice a round.",
            "FOLD gives the pot to the other player; it is allowed only when you have put in less.",
            "A round is over when a raise is called, or when both call without a raise. After the second, whoever has "
            "the same card as the open one takes the pot; if nobody has, the higher card does, K above Q above J.",
            "Equal cards share the pot.",
        )

    def player(self, seat: int) -> str:
        """The number, and what the state tells."""
        return (
            f"You are player {seat}. The state is your own card, the open card once there is one, the chips each "
            f"player has put in, and every move of both. You do not see the other player's card."
        )

    def state(self, state: State, seat: int) -> str:
        """What this seat may know."""
        told = str(state.information_state_string(seat))
        card, public, chips = _number(told, "Private"), _number(told, "Public"), _chips(state)
        assert card is not None, "cards are dealt before anybody decides"
        lines = [
            f"Your card is {CARDS[card // 2]}.",
            "No card is open yet." if public is None else f"The open card is {CARDS[public // 2]}.",
            f"Chips in the pot: {chips[0]} from player 0, {chips[1]} from player 1.",
        ]
        for number in (1, 2):
            moves = [f"player {at % 2} chose {MOVES[move]}" for at, move in enumerate(_moves(told, number))]
            if moves:
                lines.append(f"Round {number}: {', '.join(moves)}.")
        return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))

    def action(self, state: State, seat: int, action: int) -> str:
        """`<FOLD>`, `<CALL>` or `<RAISE>`."""
        return f"<{MOVES[action]}>"

    def stake(self, state: State, seat: int) -> float:
        """The chips this seat has put into the pot."""
        return float(_chips(state)[seat])

    def key(self, state: State, seat: int) -> str:
        """Cards that are known, and moves; which of two equal cards it is nobody is told."""
        return self.state(state, seat)


def _chips(state: State) -> tuple[int, int]:
    """What each has put into the pot."""
    found = re.search(r"\[Ante: (\d+) (\d+)\]", str(state.observation_string(0)))
    assert found is not None, "OpenSpiel writes it so"
    return int(found[1]), int(found[2])


def _number(told: str, name: str) -> int | None:
    found = re.search(rf"\[{name}: (-?\d+)\]", told)
    return None if found is None or int(found[1]) < 0 else int(found[1])


def _moves(told: str, number: int) -> list[int]:
    found = re.search(rf"\[Round{number}: ([\d ]*)\]", told)
    return [] if found is None else [int(move) for move in found[1].split()]
