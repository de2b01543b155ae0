"""Environments with options as people write them, `key=value`, and what is wrong with one that is not understood."""

import json
import typing
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from orchestra.environments.opening import environment
from orchestra.environments.protocol import Environment
from orchestra.environments.rules import Rules
from orchestra.errors import InputError
from orchestra.plugins import closest

OPTIONS = tuple(field.name for field in fields(Rules))
"""Of every game here; an environment of somebody else's may have others."""


def opened(name: str, options: Mapping[str, Any]) -> Environment:
    """The environment called `name`, as `orchestra.environments.environment`.

    Raises:
        InputError: there is none, or it has no such option; the closest name is offered.
    """
    try:
        return environment(name, **options)
    except InputError as error:
        strange = next((option for option in options if option not in OPTIONS), None)
        if strange is not None and isinstance(error.__cause__, TypeError):
            raise InputError(f"{name!r} has no option {strange!r}; {closest(strange, OPTIONS)}") from error
        raise


def check_draw(places: Sequence[Environment], options: Mapping[str, Any]) -> None:
    """Refuse what a draw is worth where none of `places` can be drawn, and it would change nothing.

    Raises:
        InputError: naming them.
    """
    if "draw" in options and all(place.nature.draws is False for place in places):
        told = ", ".join(repr(place.nature.name) for place in places)
        raise InputError(
            f"no game of {told} counts as a draw, so that option 'draw' would change nothing; leave it out"
        )


def read_options(pairs: Sequence[str]) -> dict[str, Any]:
    """Options from `key=value`, each value of the type that `orchestra.environments.Rules` gives it.

    An option that is not there is a number or a truth value where it looks like one, else text.

    Raises:
        InputError: one is written otherwise, has another type, or is given twice.

    >>> read_options(["thinking=true", "violation=2", "history=full"])
    {'thinking': True, 'violation': 2.0, 'history': 'full'}
    """
    kinds = typing.get_type_hints(Rules)
    found: dict[str, Any] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        if not (name and text):
            raise InputError(f"{pair!r} is not an option and its value; write it like length=none")
        if name in found:
            raise InputError(f"option {name!r} is given twice; keep one")
        found[name] = _value(name, text, kinds.get(name))
    return found


def _value(name: str, text: str, kind: object) -> object:
    choices = _choices(kind)
    if choices:
        if text not in choices:
            raise InputError(f"option {name!r} cannot be {text!r}; {closest(text, choices)}")
        return text
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    if kind is bool and not isinstance(value, bool):
        raise InputError(f"option {name!r} is true or false, not {text!r}")
    if kind is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InputError(f"option {name!r} is a number, not {text!r}")
        return float(value)
    return value


def _choices(kind: object) -> tuple[str, ...]:
    """The texts that a `Literal` allows, inside of a union too; empty for any other type."""
    found: list[str] = []
    for part in typing.get_args(kind):
        found.extend([part] if isinstance(part, str) else _choices(part))
    return tuple(found)
