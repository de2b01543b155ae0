"""What a team is doing right now, on a terminal's standard error; it is gone when the reply is printed.

Off a terminal, and with `--json`, nothing of it is written.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestra.cli.console import errors

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from orchestra.execution.events import Event

MOST_LINES = 4
"""Of a reply that is being made, its last lines are shown."""


@dataclass(slots=True)
class _Line:
    """One turn of a node."""

    node: str
    round: int
    text: str = ""
    notes: list[str] = field(default_factory=list)
    """Tools it used, and questions it asks."""
    state: str = "speaking"
    """`speaking`, `done` or `asking`."""


class Board:
    """The turns of a play so far, told by events; rich asks it what to show.

    Args:
        width: columns of the terminal.
        height: its lines.
    """

    def __init__(self, width: Callable[[], int], height: Callable[[], int]) -> None:
        self._width, self._height = width, height
        self._lines: list[_Line] = []
        self._latest: dict[str, _Line] = {}
        self._paid_nano = 0
        self._list_nano = 0

    def hear(self, event: "Event") -> None:
        """Take one event."""
        from orchestra.execution import events

        if isinstance(event, events.NodeStarted):
            self._latest[event.node] = line = _Line(event.node, event.round)
            self._lines.append(line)
        elif isinstance(event, events.Cost):
            self._paid_nano, self._list_nano = event.paid_nano, event.list_nano
        elif not isinstance(event, events.Done):
            self._hear_of(self._latest[event.node], event)

    def _hear_of(self, line: _Line, event: "Event") -> None:
        from orchestra.execution import events

        if isinstance(event, events.Token):
            line.text = event.text if event.anew else line.text + event.text
        elif isinstance(event, events.ToolUsed):
            line.notes.append(f"{event.tool}: {event.error or event.said or 'nothing to say'}")
            line.text = ""
        elif isinstance(event, events.Asked):
            line.state = "asking"
            line.notes.append(f"asks: {event.question}")
        elif isinstance(event, events.Said):
            line.state, line.text = "done", event.text or ""

    def __rich__(self) -> "RenderableType":
        from rich.console import Group
        from rich.text import Text

        from orchestra.ledger import show_usd

        if not self._lines:
            return Text("starting", style="dim")
        rows = [row for line in self._lines for row in self._rows(line)]
        room = max(1, self._height() - 2)
        listed = "" if self._paid_nano == self._list_nano else f" paid of {show_usd(self._list_nano)}"
        cost = Text(f"{show_usd(self._paid_nano)}{listed}", style="dim")
        return Group(*rows[-room:], cost)

    def _rows(self, line: _Line) -> "Iterator[Text]":
        from rich.text import Text

        mark, style = {"speaking": ("●", "cyan"), "done": ("✓", "green"), "asking": ("?", "yellow")}[line.state]
        turn = f" {line.round}" if line.round > 1 else ""
        said = line.text.split("\n") if line.text else []
        if line.state == "done":
            yield self._row(Text.assemble((f"{mark} ", style), f"{line.node}{turn} ", (" ".join(said), "dim")))
            return
        yield self._row(Text.assemble((f"{mark} ", style), (f"{line.node}{turn}", "bold")))
        for note in line.notes:
            yield self._row(Text(f"  {' '.join(note.split())}", style="dim"))
        width = max(20, self._width() - 3)
        folded = [piece[at : at + width] for piece in said for at in range(0, max(1, len(piece)), width)]
        for piece in folded[-MOST_LINES:]:
            yield self._row(Text(f"  {piece}"))

    def _row(self, text: "Text") -> "Text":
        text.truncate(max(20, self._width() - 1), overflow="ellipsis")
        text.no_wrap = True
        return text


@contextmanager
def live() -> "Iterator[Callable[[Event], None] | None]":
    """A live display of one play; what it yields takes its events, or is `None` where nobody watches."""
    if not errors().is_terminal:
        yield None
        return
    from rich.live import Live

    screen = errors()
    board = Board(lambda: screen.width, lambda: screen.height)
    with Live(board, console=screen, transient=True, refresh_per_second=10):
        yield board.hear
