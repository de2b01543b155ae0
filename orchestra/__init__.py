"""The runtime: an agent graph and a task in, an episode out, one ledger that pays for all of it.

Importing this package loads nothing else: a name is looked up in the table below and its module imported when it is
first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestra.benchmarks import Task, read_tasks
    from orchestra.errors import (
        BudgetError,
        CannotAfford,
        EpisodeError,
        InputError,
        MissingExtra,
        ModelError,
        OrchestraError,
        TeamError,
        ToolError,
        UnknownPlugin,
        UnknownPrice,
        Untrusted,
    )
    from orchestra.evaluation.sweep import evaluate
    from orchestra.execution import Settings, run, run_sync
    from orchestra.execution.embedding import to_langgraph
    from orchestra.execution.foreign import from_langgraph

__version__ = "0.1.0"

_HOMES = {
    "BudgetError": "orchestra.errors",
    "CannotAfford": "orchestra.errors",
    "EpisodeError": "orchestra.errors",
    "InputError": "orchestra.errors",
    "MissingExtra": "orchestra.errors",
    "ModelError": "orchestra.errors",
    "OrchestraError": "orchestra.errors",
    "TeamError": "orchestra.errors",
    "ToolError": "orchestra.errors",
    "UnknownPlugin": "orchestra.errors",
    "UnknownPrice": "orchestra.errors",
    "Settings": "orchestra.execution",
    "Task": "orchestra.benchmarks",
    "Untrusted": "orchestra.errors",
    "evaluate": "orchestra.evaluation.sweep",
    "from_langgraph": "orchestra.execution.foreign",
    "read_tasks": "orchestra.benchmarks",
    "run": "orchestra.execution",
    "run_sync": "orchestra.execution",
    "to_langgraph": "orchestra.execution.embedding",
}
"""The module each public name lives in."""

__all__ = [
    "BudgetError",
    "CannotAfford",
    "EpisodeError",
    "InputError",
    "MissingExtra",
    "ModelError",
    "OrchestraError",
    "Settings",
    "Task",
    "TeamError",
    "ToolError",
    "UnknownPlugin",
    "UnknownPrice",
    "Untrusted",
    "evaluate",
    "from_langgraph",
    "read_tasks",
    "run",
    "run_sync",
    "to_langgraph",
]


def __getattr__(name: str) -> object:
    """The public `name`, imported now.

    Raises:
        AttributeError: when it is not in the table.
    """
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
