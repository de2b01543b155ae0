"""Composers: who should play. Each turns tasks and a budget into an agent graph.

A composer is a plug-in of the group `orchestra.composers`; the built-in ones live in `composers.knapsack`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from composers.composing import compose, forecast
    from composers.composition import Composer, Composition
    from composers.problem import Problem, Search

_HOMES = {
    "Composer": "composers.composition",
    "Composition": "composers.composition",
    "Problem": "composers.problem",
    "Search": "composers.problem",
    "compose": "composers.composing",
    "forecast": "composers.composing",
}

__all__ = ["Composer", "Composition", "Problem", "Search", "compose", "forecast"]

if not TYPE_CHECKING:  # a type checker must still notice a name that does not exist

    def __getattr__(name):
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOMES[name]), name)
        return value

    def __dir__():
        return __all__
