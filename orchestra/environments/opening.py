"""Environments by name."""

import inspect
from collections.abc import Mapping
from typing import Any

from orchestra import plugins
from orchestra.environments.protocol import Environment
from orchestra.errors import InputError

GROUP = "orchestra.environments"
"""Entry point group of environments: a function from options to an `Environment`."""

POSITIONAL = frozenset(
    {
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    }
)
"""Kinds of parameters that take what stands behind the colon."""


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
    if kind in known:
        _check_rest(kind, opener, colon, rest, options)
    try:
        opened = opener(rest, **options) if whole else opener(**options)
    except TypeError as cause:
        raise InputError(f"environment {name!r} cannot be opened with {sorted(options)}: {cause}") from cause
    if not isinstance(opened, Environment):
        raise InputError(f"{name!r} opened a {type(opened).__name__}, which is no environment")
    return opened


def _check_rest(kind: str, opener: Any, colon: str, rest: str, options: Mapping[str, Any]) -> None:
    """Refuse a name that lacks what its environment is told behind the colon, or has what it cannot be told."""
    try:
        told = [one for one in inspect.signature(opener).parameters.values() if one.kind in POSITIONAL]
    except (TypeError, ValueError):  # a stranger's, which does not tell what it takes
        return
    if colon and not told:
        raise InputError(f"environment {kind!r} takes nothing after ':'; write {kind}")
    if rest or not told or told[0].name in options or told[0].kind is inspect.Parameter.VAR_POSITIONAL:
        return
    if told[0].default is inspect.Parameter.empty:
        raise InputError(f"environment {kind!r} has to be told which; write {kind}:{told[0].name.upper()}")
