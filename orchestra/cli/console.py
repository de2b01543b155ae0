"""Where commands write: results to standard output, everything about them to standard error."""

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@cache
def console() -> "Console":
    """Standard output."""
    from rich.console import Console

    return Console(highlight=False)


@cache
def errors() -> "Console":
    """Standard error: progress, footers, warnings."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)
