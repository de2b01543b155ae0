"""Progress bars on standard error, for commands that take a while."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orchestra.cli.console import errors

Started = Callable[[str, int], Callable[[], None]]
"""Takes a title and a number of steps; what it returns is called after each step."""


@contextmanager
def bars() -> Iterator[Started]:
    """A live display; each call of what it yields adds a bar."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description:<34}"), BarColumn(28), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=errors()) as display:

        def start(title: str, total: int) -> Callable[[], None]:
            bar = display.add_task(title, total=total)
            return lambda: display.advance(bar)

        yield start
