"""Plug-ins: one way in for what is shipped and for a stranger's own.

An open set is a group of entry points. Only the plug-in that is named gets imported; wherever a plug-in's name is
accepted, `package.module:attribute` is too; nothing registers itself by being imported.
"""

import difflib
import importlib
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points

from orchestra.errors import InputError, MissingExtra, UnknownPlugin

EXTRAS = {
    "accelerate": "local",
    "bm25s": "retrieval",
    "gguf": "local",
    "litellm": "providers",
    "matplotlib": "draw",
    "ortools": "solver",
    "pyspiel": "games",
    "sentence_transformers": "embeddings",
    "torch": "local",
    "transformers": "local",
}
"""Which extra brings a library that a plug-in may find missing."""


def names(group: str) -> tuple[str, ...]:
    """Names of the plug-ins installed in `group`, such as `orchestra.models`, in order."""
    return tuple(sorted({point.name for point in entry_points(group=group)}))


def load(group: str, name: str) -> object:
    """The plug-in called `name`, or what `package.module:attribute` names.

    Raises:
        UnknownPlugin: when there is none; the closest name is offered.
        MissingExtra: when it needs a library of an extra that is not installed.
        InputError: when two distributions claim the name.
    """
    if ":" in name:
        module, _, attribute = name.partition(":")
        return _attribute(EntryPoint(name, f"{module}:{attribute}", group))
    found = {point.value: point for point in entry_points(group=group) if point.name == name}
    if not found:
        raise UnknownPlugin(f"no plug-in named {name!r} in {group}; {closest(name, names(group))}")
    if len(found) > 1:
        raise InputError(
            f"plug-in {name!r} in {group} is claimed by {' and by '.join(sorted(found))}; "
            f"uninstall one, or name the one you mean as package.module:attribute"
        )
    return _attribute(next(iter(found.values())))


def closest(name: str, known: Iterable[str]) -> str:
    """A hint for a name that is not among `known`: the closest one, else all of them.

    >>> closest("calculater", ["calculator", "clock"])
    "did you mean 'calculator'?"
    """
    options = sorted(known)
    near = difflib.get_close_matches(name, options, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there is {', '.join(options) or 'none'}"


def _attribute(point: EntryPoint) -> object:
    try:
        module = importlib.import_module(point.module)
    except ModuleNotFoundError as missing:
        top = (missing.name or "").partition(".")[0]
        if top in EXTRAS:
            raise MissingExtra(EXTRAS[top], f"{point.group} {point.name!r}") from missing
        if missing.name and (point.module == missing.name or point.module.startswith(f"{missing.name}.")):
            raise UnknownPlugin(
                f"{point.name!r}: there is no module {missing.name!r}; correct the name, or install what holds it"
            ) from missing
        raise
    value: object = module
    for part in point.attr.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            hint = closest(part, (known for known in dir(value) if not known.startswith("_")))
            raise UnknownPlugin(f"{point.name!r}: {point.module} has no {part!r}; {hint}") from None
    return value
