"""Every error this package raises on purpose, in one tree.

    GraphError
    ├── InvalidFile (ValueError)     a file is missing, malformed, or says something its kind of document does not allow
    ├── InvalidGraph (ValueError)    an agent graph cannot run; every reason is listed
    └── InvalidEdit (ValueError)     an edit names something that is not there, or that is there already

Leaves carry their data as attributes and survive pickling. A message has three parts: what is wrong, where, and what
to do about it.
"""

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class GraphError(Exception):
    """Anything this package raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One defect."""

    rule: str
    """Name of the rule it breaks, in kebab-case."""
    where: str
    """Node, channel or field; for a document, its place in the file."""
    message: str
    """What is wrong and what to do about it."""

    def __str__(self) -> str:
        return f"[{self.rule}] {self.where}: {self.message}"


class InvalidFile(GraphError, ValueError):
    """A file is missing, malformed, or says something its kind of document does not allow.

    Attributes:
        where: the file, and the line where one is known.
        complaints: one line for each defect.
    """

    def __init__(self, where: str, complaints: Sequence[str]) -> None:
        self.where, self.complaints = where, tuple(complaints)
        if len(self.complaints) == 1:
            super().__init__(f"{where}: {self.complaints[0]}")
        else:
            lines = "".join(f"\n  - {complaint}" for complaint in self.complaints)
            super().__init__(f"{where}: {len(self.complaints)} mistakes{lines}")

    def __reduce__(self) -> tuple[type["InvalidFile"], tuple[str, tuple[str, ...]]]:
        return type(self), (self.where, self.complaints)


class InvalidGraph(GraphError, ValueError):
    """An agent graph cannot run.

    Attributes:
        problems: every defect, in rule order.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("the agent graph is not runnable:" + "".join(f"\n  - {p}" for p in self.problems))

    def __reduce__(self) -> tuple[type["InvalidGraph"], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class InvalidEdit(GraphError, ValueError):
    """An edit names something that is not there, or that is there already."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint towards the name that was meant: the closest of `known`, or all of them.

    >>> nearest("critc", ["writer", "critic"])
    "did you mean 'critic'?"
    >>> nearest("x", ["writer", "critic"])
    'there are: critic, writer'
    """
    names = sorted(set(known))
    if close := difflib.get_close_matches(name, names, n=1):
        return f"did you mean {close[0]!r}?"
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"there are: {shown}" if names else "there are none"
