"""Where commands write: results to standard output, everything about them to standard error."""

import os
import sys
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console() -> "Console":
    """Standard output."""
    return _opened(os.environ.get("COLUMNS"), stderr=False)


def errors() -> "Console":
    """Standard error: progress, footers, warnings."""
    return _opened(os.environ.get("COLUMNS"), stderr=True)


def say(text: str) -> None:
    """Write what a team said to standard output, letter by letter as it is; a terminal gets no control characters."""
    from rich.text import Text

    if console().is_terminal:
        console().print(Text(text), soft_wrap=True)
    else:
        sys.stdout.write(text + "\n")


@cache
def _opened(columns: str | None, *, stderr: bool) -> "Console":
    """One console for each stream; rich reads the width that is asked for once, so another width is another one."""
    from rich.console import Console

    return Console(stderr=stderr, highlight=False, emoji=False)
