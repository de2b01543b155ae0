"""The door to OpenSpiel, a compiled library without types; whoever comes through it without the extra is told so."""

from importlib import import_module
from typing import Any

from orchestra.errors import MissingExtra

try:
    pyspiel: Any = import_module("pyspiel")
except ModuleNotFoundError as missing:
    raise MissingExtra("games", "a game of OpenSpiel") from missing
