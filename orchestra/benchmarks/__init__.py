"""Benchmarks: tasks with their answers, and how an answer is scored.

Importing this package loads nothing else: a name is looked up in the table below when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestra.benchmarks.scorers import SCORERS, score
    from orchestra.benchmarks.tasks import Split, Task, of_split, read_tasks, split_of, tasks_hash

_HOMES = {
    "SCORERS": "orchestra.benchmarks.scorers",
    "Split": "orchestra.benchmarks.tasks",
    "Task": "orchestra.benchmarks.tasks",
    "of_split": "orchestra.benchmarks.tasks",
    "read_tasks": "orchestra.benchmarks.tasks",
    "score": "orchestra.benchmarks.scorers",
    "split_of": "orchestra.benchmarks.tasks",
    "tasks_hash": "orchestra.benchmarks.tasks",
}

__all__ = ["SCORERS", "Split", "Task", "of_split", "read_tasks", "score", "split_of", "tasks_hash"]

if not TYPE_CHECKING:  # a type checker must still notice a name that does not exist

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value

    def __dir__():
        return __all__
