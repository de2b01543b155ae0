"""Environments by name."""

from typing import Any

from orchestra import plugins
from orchestra.environments.protocol import Environment
from orchestra.errors import InputError

GROUP = "orchestra.environments"
"""Entry point group of environments: a function from options to an `Environment`."""


def environment(name: str, **options: Any) -> Environment:
    """The environment called `name`.

    Args:
        name: such as `kuhn-poker`, `openspiel:breakthrough(rows=5,columns=5)` or `package.module:attribute`.
        options: as it takes them, such as `thinking=True`.

    Raises:
        InputError: there is none, or it does not take such options.
    """
    kind, colon, rest = name.partition(":")
    known = plugins.names(GROUP)
    whole = colon and kind in known
    opener: Any = plugins.load(GROUP, kind if whole else name)
    try:
        opened = opener(rest, **options) if whole else opener(**options)
    except TypeError as cause:
        raise InputError(f"environment {name!r} cannot be opened with {sorted(options)}: {cause}") from cause
    if not isinstance(opened, Environment):
        raise InputError(f"{name!r} opened a {type(opened).__name__}, which is no environment")
    return opened
