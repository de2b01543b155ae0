"""Kuhn poker in words."""

from orchestra.environments.games.texts import History, State

CARDS = "JQK"
MOVES = ("PASS", "BET")


class KuhnPoker:
    """Three cards, one bet."""

    title = "Kuhn poker"
    history: History = "actions"
    draws = False

    def rules(self) -> tuple[str, ...]:
        """In five lines."""
        return (
            "The deck is three cards: J, Q and K; K is highest. Two players pay a blind ante of 1 chip each and get "
            "one card each.",
            "Player 0 decides first, then player 1. PASS adds nothing to the pot, BET adds 1 chip.",
            "Two passes, or two bets: the game is over, and the higher card takes the pot.",
            "A bet and then a pass: the game is over, and whoever bet takes the pot.",
            "A pass and then a bet: player 0 decides once more.",
        )

    def player(self, seat: int) -> str:
        """The number, and what the state tells."""
        return (
            f"You are player {seat}. The state is everything that has happened, in order: the antes, your own card, "
            f"and every move of both. You do not see the other player's card."
        )

    def state(self, state: State, seat: int) -> str:
        """What has happened, numbered, with this seat's card."""
        deals, moves = state.history()[:2], state.history()[2:]
        lines = ["Both players paid a blind ante of 1 chip.", f"Your card is {CARDS[deals[seat]]}."]
        lines += [f"Player {at % 2} chose {MOVES[move]}." for at, move in enumerate(moves)]
        return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))

    def action(self, state: State, seat: int, action: int) -> str:
        """`<PASS>` or `<BET>`."""
        return f"<{MOVES[action]}>"

    def stake(self, state: State, seat: int) -> float:
        """The chips this seat has put into the pot."""
        moves = state.history()[2:]
        return 1.0 + float(sum(move for at, move in enumerate(moves) if at % 2 == seat))

    def key(self, state: State, seat: int) -> str:
        """Card and moves."""
        return str(state.information_state_string(seat))
