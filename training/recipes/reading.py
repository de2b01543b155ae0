"""From a TOML file, or the name of a recipe that comes along, to a `Recipe`."""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from orchestra.errors import InputError
from orchestra.plugins import closest
from training.recipes.model import Recipe


def names() -> tuple[str, ...]:
    """Recipes that come along, in order."""
    found = (entry.name for entry in files("training.recipes").iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in found if name.endswith(".toml")))


def read(recipe: str | Path, settings: Iterable[str] = ()) -> Recipe:
    """The recipe in a file, or of a name.

    A recipe may begin with `like = "mars-generalist"`: it says what is otherwise, and that one says the rest.

    Args:
        recipe: path of a TOML file, or one of `names()`.
        settings: changes such as `steps.count=20`, later ones win.

    Raises:
        InputError: there is none, or it says something that is not understood; the closest is offered.
    """
    return _checked(changed(_document(recipe), settings), str(recipe))


def _document(recipe: str | Path, above: Sequence[str] = ()) -> dict[str, Any]:
    """What a recipe says, over what the recipe says that it is `like`."""
    path = Path(recipe)
    if path.suffix == ".toml" or path.is_file():
        if not path.is_file():
            raise InputError(f"no recipe file {str(path)!r}")
        text = path.read_text(encoding="utf-8")
    elif str(recipe) in names():
        text = files("training.recipes").joinpath(f"{recipe}.toml").read_text(encoding="utf-8")
    else:
        raise InputError(f"no recipe {str(recipe)!r}; {closest(str(recipe), names())}; or give the path of a TOML file")
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as cause:
        raise InputError(f"recipe {str(recipe)!r} is no TOML: {cause}") from cause
    like = document.pop("like", None)
    if like is None:
        return document
    if not isinstance(like, str) or like in (*above, str(recipe)):
        raise InputError(f"recipe {str(recipe)!r}: like = {like!r} must name another recipe, one that is not like this")
    merged: dict[str, Any] = _merged(_document(like, (*above, str(recipe))), document)
    return merged


def _merged(below: Any, above: Any) -> Any:
    """Tables key by key, lists of tables place by place; all else is what `above` says."""
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: _merged(below[key], value) if key in below else value for key, value in above.items()}
    if isinstance(below, list) and isinstance(above, list) and all(isinstance(one, dict) for one in (*below, *above)):
        return [*map(_merged, below, above), *below[len(above) :], *above[len(below) :]]
    return above


def changed(document: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """`document` with settings such as `optimiser.learning_rate=1e-4` in place of its own.

    >>> changed({"steps": {"count": 3}}, ["steps.count=5", "name=mine"])
    {'steps': {'count': 5}, 'name': 'mine'}

    Raises:
        InputError: one is not written KEY=VALUE, or its key lies below what is no table.
    """
    new: dict[str, Any] = _copied(document)
    for setting in settings:
        key, equals, text = setting.partition("=")
        *above, last = [part.strip() for part in key.split(".")]
        if not equals or not last:
            raise InputError(f"{setting!r} is no setting; write KEY=VALUE like steps.count=20")
        place: Any = new
        for part in above:
            place = _below(place, part, setting)
        if isinstance(place, list):
            place[_index(place, last, setting)] = _value(text)
        elif not isinstance(place, dict):
            raise InputError(f"{setting!r}: {place!r} holds no keys")
        else:
            place[last] = _value(text)
    return new


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def _below(place: Any, part: str, setting: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, part, setting)]
    inner = place.setdefault(part, {})
    if not isinstance(inner, dict | list):
        raise InputError(f"{setting!r}: {part!r} is {inner!r} and holds no keys")
    return inner


def _index(place: list[Any], part: str, setting: str) -> int:
    if not part.isdecimal() or int(part) >= len(place):
        raise InputError(f"{setting!r}: {part!r} is none of the {len(place)} places of a list, counted from 0")
    return int(part)


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text.strip()


def _checked(document: dict[str, Any], where: str) -> Recipe:
    try:
        return Recipe.model_validate(document)
    except ValidationError as cause:
        lines = [_said(error["loc"], error["type"], error["msg"]) for error in cause.errors()]
        raise InputError(f"recipe {where!r}: " + "; ".join(lines)) from cause


def _said(place: Sequence[int | str], kind: str, message: str) -> str:
    key = ".".join(map(str, place))
    if kind == "extra_forbidden":
        return f"no key {key!r}; {closest(str(place[-1]), _keys(place[:-1]))}"
    return f"{key}: {message.removeprefix('Value error, ')}"


def _keys(place: Sequence[int | str]) -> list[str]:
    """Keys of the table at `place`."""
    kind: Any = Recipe
    for part in place:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = kind.model_fields[str(part)].annotation
        else:
            kind = next((inner for inner in get_args(kind) if inner not in (str, int, Ellipsis)), None)
        kind = next((inner for inner in get_args(kind) if _is_model(inner) and type(None) in get_args(kind)), kind)
    return list(kind.model_fields) if _is_model(kind) else []


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
