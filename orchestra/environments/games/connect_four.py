"""Connect Four in words."""

from orchestra.environments.games.texts import History, State

MARKS = "XO"


class ConnectFour:
    """Four in a row on six by seven."""

    title = "Connect Four"
    history: History = "full"
    draws = True

    def rules(self) -> tuple[str, ...]:
        """In four lines."""
        return (
            "Two players take turns on an upright grid of 6 rows and 7 columns; X begins.",
            "A turn drops your disc into a column that is not full; it falls to the lowest free cell.",
            "Whoever first has four discs in one row, column or diagonal wins.",
            "When the grid is full and nobody has, the game is a draw.",
        )

    def player(self, seat: int) -> str:
        """The disc, and how columns are counted."""
        return (
            f"You are player {seat}, and your discs are {MARKS[seat]}. The state is the grid, top row first, "
            f"with _ for an empty cell. <{MARKS[seat]}(c)> drops your disc into column c, counted from 0 at the left."
        )

    def state(self, state: State, seat: int) -> str:
        """The grid."""
        return str(state.observation_string(0)).replace(".", "_").replace("x", "X").replace("o", "O").strip()

    def action(self, state: State, seat: int, action: int) -> str:
        """`<X(c)>`."""
        return f"<{MARKS[seat]}({action})>"

    def stake(self, state: State, seat: int) -> float:
        """A lost game."""
        return 1.0

    def key(self, state: State, seat: int) -> str:
        """The grid: both see it."""
        return self.state(state, seat)
