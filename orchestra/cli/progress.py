"""Progress on standard error, for commands that take a while, and how to go on with one that was interrupted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orchestra.cli.console import errors

Started = Callable[[str, int], Callable[[], None]]
"""Takes a title and a number of steps; what it returns is called after each step."""


@contextmanager
def resumable() -> Iterator[Callable[[str], None]]:
    """Takes the id of a run that begins; interrupted, says how to go on with it."""
    begun: list[str] = []
    try:
        yield begun.append
    except KeyboardInterrupt:
        for run_id in begun:
            errors().print(f"nothing is lost; go on with the same command and --resume {run_id}", markup=False)
        raise


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
