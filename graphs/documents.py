"""How a file becomes a value, and a value a file.

One way of reading for every kind of document (teams, inventories, certificates): YAML or JSON by suffix, migrated to
the newest `schema_version`, checked by a pydantic model, and every mistake told at once with its line and its mend.
What is always true: what `write_value` writes, `read_value` reads back as an equal value; a key written twice is a
mistake, not a silent choice; plain words such as `on`, `no` or `12:30` are text, as in YAML 1.2, and only `true` and
`false` are truth values.
"""

import json
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeVar, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from graphs.complaints import Location, complaints
from graphs.errors import InvalidFile

ModelT = TypeVar("ModelT", bound=BaseModel)
Migration = Callable[[dict[str, Any]], dict[str, Any]]
"""Lifts a document by one `schema_version`; the version itself is set by the reader."""

SUFFIXES = (".yaml", ".yml", ".json")
"""File names `read_value` and `write_value` accept end in one of these."""


def read_value(
    path: Path | str, model: type[ModelT], what: str = "team", *, migrations: Sequence[Migration] = ()
) -> ModelT:
    """The value written in the file at `path`.

    Args:
        path: a file that ends in one of `SUFFIXES`.
        model: record it must be.
        what: kind of document, for messages.
        migrations: `migrations[i]` lifts a document from `schema_version` i + 1 to i + 2.

    Raises:
        InvalidFile: when it is missing, malformed, or not such a record; every mistake is listed.
    """
    path = Path(path)
    text = _text(path, what)
    data = parsed(text, str(path), is_json=path.suffix.lower() == ".json")
    return _value(data, model, str(path), migrations, text)


def value_from(data: object, model: type[ModelT], where: str, *, migrations: Sequence[Migration] = ()) -> ModelT:
    """The value that parsed `data` describes, with the same messages as `read_value`.

    Args:
        data: what a YAML or JSON reader made of a document.
        model: record it must be.
        where: where the data came from, for messages, e.g. `tasks.jsonl, line 3`.
        migrations: as in `read_value`.

    Raises:
        InvalidFile: when it is not such a record; every mistake is listed.
    """
    return _value(data, model, where, migrations, None)


def write_value(value: BaseModel, path: Path | str) -> None:
    """Write `value` to `path`, as YAML or JSON by suffix, leaving defaults out.

    Raises:
        InvalidFile: when the suffix is neither, or the file cannot be written.
    """
    path = Path(path)
    write_text(to_json(value) if _suffix(path) == ".json" else to_yaml(value), path)


def write_text(text: str, path: Path | str) -> None:
    """Write `text` to `path` as UTF-8; the file appears whole or not at all.

    Raises:
        InvalidFile: when it cannot be written.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        aside.write_text(text, encoding="utf-8", newline="\n")
        os.replace(aside, path)
    except OSError as cause:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        raise InvalidFile(str(path), [f"cannot be written: {cause.strerror or cause}"]) from cause


def to_json(value: BaseModel) -> str:
    """`value` as indented JSON, defaults left out."""
    return json.dumps(document(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_yaml(value: BaseModel) -> str:
    """`value` as YAML, defaults left out."""
    return yaml.dump(
        _Root(document(value)), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=False
    )


def document(value: BaseModel) -> dict[str, Any]:
    """`value` as plain data in field order: what a JSON reader would give for its file.

    Fields at their default are left out, except the `schema_version` and what tells the members of a union apart.
    """
    plain: dict[str, Any] = {}
    for name, field in type(value).model_fields.items():
        held = getattr(value, name)
        if field.exclude:
            continue
        if field.is_required() or _always_written(name, field) or held != field.get_default(call_default_factory=True):
            plain[name] = _plain(held)
    return plain


def parsed(text: str, where: str, *, is_json: bool) -> object:
    """What YAML or JSON `text` says, as plain data.

    Raises:
        InvalidFile: when it is malformed, or says a key twice; the line is named.
    """
    try:
        if is_json:
            return json.loads(text, object_pairs_hook=_unrepeated)
        return yaml.load(text, Loader=_Loader)
    except json.JSONDecodeError as cause:
        place = f"{where}, line {cause.lineno}, column {cause.colno}"
        raise InvalidFile(place, [f"is not JSON: {cause.msg[0].lower()}{cause.msg[1:]}"]) from cause
    except yaml.MarkedYAMLError as cause:
        mark = cause.problem_mark or cause.context_mark
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        raise InvalidFile(place, [f"is not YAML: {cause.problem or cause.context}"]) from cause
    except yaml.YAMLError as cause:
        raise InvalidFile(where, [f"is not YAML: {' '.join(str(cause).split())}"]) from cause
    except (RecursionError, ValueError) as cause:
        reason = str(cause) if isinstance(cause, _RepeatedKeyError) else f"cannot be read: {cause}"
        raise InvalidFile(where, [reason]) from cause


class _RepeatedKeyError(ValueError):
    """A JSON object says a key twice."""


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, held in pairs:
        if key in found:
            raise _RepeatedKeyError(f"key {key!r} is written twice in one object; keep one")
        found[key] = held
    return found


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InvalidFile(str(path), [f"unknown suffix {path.suffix!r}; use one of {', '.join(SUFFIXES)}"])
    return suffix


def _text(path: Path, what: str) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as cause:
        raise InvalidFile(str(path), [f"no such {what} file; check the path"]) from cause
    except IsADirectoryError as cause:
        raise InvalidFile(str(path), [f"is a folder; name the {what} file in it"]) from cause
    except UnicodeDecodeError as cause:
        raise InvalidFile(str(path), [f"is not UTF-8 text (byte {cause.start}); save it as UTF-8"]) from cause
    except OSError as cause:
        raise InvalidFile(str(path), [f"cannot be read: {cause.strerror or cause}"]) from cause
    _suffix(path)
    if not text.strip():
        raise InvalidFile(str(path), [f"is empty; a {what} was expected"])
    return text


def _value(data: object, model: type[ModelT], where: str, migrations: Sequence[Migration], text: str | None) -> ModelT:
    if not isinstance(data, Mapping):
        raise InvalidFile(where, [f"must be a mapping of keys to values; got {type(data).__name__}"])
    migrated = _migrated(dict(data), model, where, migrations)
    try:
        return model.model_validate(migrated)
    except ValidationError as cause:
        # Lines are looked up only now: reading a good file must not pay for explaining a bad one.
        lines = _lines(text) if text is not None and migrated == data else {}
        raise InvalidFile(where, complaints(cause, model, migrated, lines)) from cause


def _migrated(
    data: dict[str, Any], model: type[BaseModel], where: str, migrations: Sequence[Migration]
) -> dict[str, Any]:
    field = model.model_fields.get("schema_version")
    if field is None:
        return data
    newest, version = field.default, data.get("schema_version", 1)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise InvalidFile(where, [f"schema_version must be a whole number from 1 to {newest}; got {version!r}"])
    if version > newest:
        complaint = f"schema_version {version} is newer than this program knows ({newest}); update orchestra-mas"
        raise InvalidFile(where, [complaint])
    for lift in migrations[version - 1 : newest - 1]:
        data = lift(data)
    return data if version == newest else {**data, "schema_version": newest}


def _lines(text: str) -> dict[Location, int]:
    """Line number of every key and item of a YAML (or JSON) text."""
    lines: dict[Location, int] = {}

    def walk(node: yaml.Node | None, place: Location) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, held in node.value:
                lines[(*place, key.value)] = key.start_mark.line + 1
                walk(held, (*place, key.value))
        elif isinstance(node, yaml.SequenceNode):
            for position, held in enumerate(node.value):
                lines[(*place, position)] = held.start_mark.line + 1
                walk(held, (*place, position))

    with suppress(yaml.YAMLError, RecursionError):  # JSON with tabs is no YAML: then there are no line numbers
        walk(yaml.compose(text, Loader=_Loader), ())
    return lines


def _always_written(name: str, field: FieldInfo) -> bool:
    return name == "schema_version" or (get_origin(field.annotation) is Literal and _is_tag(field))


def _is_tag(field: FieldInfo) -> bool:
    return field.annotation is not None and len(getattr(field.annotation, "__args__", ())) == 1


def _plain(held: object) -> Any:
    match held:
        case BaseModel():
            return document(held)
        case None | bool() | int() | str():
            return held
        case float():
            return held if math.isfinite(held) else str(held)
        case Decimal():
            return _plain_number(held)
        case Mapping():
            return {str(key): _plain(item) for key, item in held.items()}
        case Sequence():
            return [_plain(item) for item in held]
    return to_jsonable_python(held)


def _plain_number(amount: Decimal) -> int | float | str:
    """A number where a reader gets exactly `amount` back, else its digits as text."""
    if not amount.is_finite() or abs(amount.adjusted()) > 15:
        return str(amount)
    if amount == amount.to_integral_value():
        return int(amount)
    return float(amount) if Decimal(repr(float(amount))) == amount else str(amount)


class _Root(dict[str, Any]):
    """The outermost mapping, which is never written on one line."""


# The C loader is the same, faster, where it was built.
class _Loader(yaml.CSafeLoader if hasattr(yaml, "CSafeLoader") else yaml.SafeLoader):  # type: ignore[misc]  # chosen here
    """Reads what YAML 1.2 calls its core schema; a key written twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping at `node`."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    message = f"key {key.value!r} is written twice in one mapping; keep one"
                    raise yaml.constructor.ConstructorError(None, None, message, key.start_mark)
                seen.add(key.value)
        return dict(super().construct_mapping(node, deep=deep))


class _Dumper(yaml.SafeDumper):
    """Quotes whatever any YAML version would not read as text."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent lists under their key."""
        super().increase_indent(flow, False)


def _whole(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    digits = node.value.lower()
    return int(digits, 0) if digits.startswith(("0x", "0o")) else int(digits)


def _fraction(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None
    if not text.replace("\n", "").replace("\t", "").isprintable():
        style = '"'  # line separators and the like: YAML readers fold them wherever they stand unescaped
    elif "\n" in text:
        style = "|" if "\n" in text.strip("\n") else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _mapping_node(dumper: yaml.SafeDumper, mapping: dict[str, Any]) -> yaml.MappingNode:
    # Short records such as channels read best as one line each.
    short = all(held is None or isinstance(held, bool | int | float | str) for held in mapping.values())
    on_one_line = short and len(str(mapping)) <= 100 and "\\n" not in str(mapping)
    return dumper.represent_mapping("tag:yaml.org,2002:map", mapping, flow_style=on_one_line)


def _root_node(dumper: yaml.SafeDumper, mapping: _Root) -> yaml.MappingNode:
    return dumper.represent_mapping("tag:yaml.org,2002:map", dict(mapping), flow_style=False)


_CORE = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+0123456789."),
    ),
    "merge": (r"<<", ["<"]),
}
_Loader.yaml_implicit_resolvers = {}
for _name, (_pattern, _first) in _CORE.items():
    _tag, _compiled = f"tag:yaml.org,2002:{_name}", re.compile(rf"^(?:{_pattern})$")
    _Loader.add_implicit_resolver(_tag, _compiled, _first)
    _Dumper.add_implicit_resolver(_tag, _compiled, _first)
_Loader.add_constructor("tag:yaml.org,2002:int", _whole)
_Loader.add_constructor("tag:yaml.org,2002:float", _fraction)
_Dumper.add_representer(str, _text_node)
_Dumper.add_representer(dict, _mapping_node)
_Dumper.add_representer(_Root, _root_node)
