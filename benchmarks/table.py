"""Markdown tables, as the README shows them."""

from collections.abc import Iterable, Sequence


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with an empty line after it.

    >>> print(table(("name", "time"), [("run", "3 µs")]), end="")
    | name | time |
    |---|---|
    | run | 3 µs |
    """
    lines = [headings, *rows]
    shown = ["| " + " | ".join(line) + " |" for line in lines]
    shown.insert(1, "|" + "---|" * len(headings))
    return "\n".join(shown) + "\n"
