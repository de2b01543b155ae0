"""Tic-tac-toe in words."""

from orchestra.environments.games.texts import History, State

MARKS = "XO"


class TicTacToe:
    """Three in a row on three by three."""

    title = "tic-tac-toe"
    history: History = "full"
    draws = True

    def rules(self) -> tuple[str, ...]:
        """In four lines."""
        return (
            "Two players take turns on a grid of 3 rows and 3 columns; X begins.",
            "A turn puts your mark on one empty cell.",
            "Whoever first has three marks in one row, column or diagonal wins.",
            "When the grid is full and nobody has, the game is a draw.",
        )

    def player(self, seat: int) -> str:
        """The mark, and how cells are counted."""
        return (
            f"You are player {seat} and play {MARKS[seat]}. The state is the grid, one row a line, with _ for an empty "
            f"cell. <{MARKS[seat]}(r,c)> puts your mark in row r and column c, both counted from 0 at the top left."
        )

    def state(self, state: State, seat: int) -> str:
        """The grid."""
        return str(state.observation_string(0)).replace(".", "_").replace("x", "X").replace("o", "O").strip()

    def action(self, state: State, seat: int, action: int) -> str:
        """`<X(r,c)>`."""
        return f"<{MARKS[seat]}({action // 3},{action % 3})>"

    def stake(self, state: State, seat: int) -> float:
        """A lost game."""
        return 1.0

    def key(self, state: State, seat: int) -> str:
        """The grid: both see it."""
        return self.state(state, seat)
