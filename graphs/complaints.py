"""Pydantic's errors as sentences a person can act on: where in the document, what is wrong, what to do.

Private to `graphs.documents`. Every error is told, in document order. A location names a record by its `id` or `name`
as well as by its position, and leaves out the tags pydantic adds for unions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from graphs.errors import nearest

Location = tuple[int | str, ...]
"""Keys and positions from the root of a document."""


def complaints(
    error: ValidationError, model: type[BaseModel], data: object, lines: Mapping[Location, int]
) -> list[str]:
    """One sentence for each mistake `error` found in `data`.

    Args:
        error: what validating `data` as `model` raised.
        model: record the document should have been.
        data: the parsed document.
        lines: line number by location; empty when there is no text.
    """
    schema = model.model_json_schema()
    told = []
    for mistake in error.errors(include_url=False):
        place = _place(mistake["loc"], data, keep_last=mistake["type"] == "missing")
        line = next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), None)
        parts = [f"line {line}"] if line is not None else []
        if shown := _shown(place, data):
            parts.append(shown)
        message = _message(mistake, schema)
        told.append((line or 0, f"{', '.join(parts)}: {message}" if parts else message))
    return [sentence for _, sentence in sorted(told, key=lambda item: item[0])]


def _place(loc: Location, data: Any, *, keep_last: bool) -> Location:
    """`loc` without union tags: only steps that exist in `data`, and the missing key itself."""
    place: list[int | str] = []
    for position, step in enumerate(loc):
        in_mapping = isinstance(data, Mapping) and step in data
        in_list = isinstance(data, Sequence) and isinstance(step, int) and step < len(data)
        if in_mapping or in_list:
            data = data[step]
        elif not (keep_last and position == len(loc) - 1):
            continue
        place.append(step)
    return tuple(place)


def _shown(place: Location, data: object) -> str:
    shown = ""
    for step in place:
        if isinstance(step, int):
            data = data[step] if isinstance(data, Sequence) else None
            shown += f"[{step}]"
            name = (data.get("id") or data.get("name")) if isinstance(data, Mapping) else None
            shown += f" ({name})" if isinstance(name, str) else ""
        else:
            data = data.get(step) if isinstance(data, Mapping) else None
            shown += f".{step}" if shown else step
    return shown


def _message(mistake: Any, schema: dict[str, Any]) -> str:
    kind, loc, context = mistake["type"], mistake["loc"], mistake.get("ctx", {})
    value = _short(mistake.get("input"))
    match kind:
        case "extra_forbidden":
            return f"unknown key {loc[-1]!r}; {nearest(str(loc[-1]), _keys(schema, loc[:-1]))}"
        case "missing":
            return "is required; add it"
        case "union_tag_not_found":
            key = str(context["discriminator"]).strip("'")
            return f"needs a {key!r}; one of: {', '.join(sorted(_tags(schema, loc)))}"
        case "union_tag_invalid":
            key = str(context["discriminator"]).strip("'")
            return f"unknown {key} {context['tag']!r}; {nearest(str(context['tag']), _tags(schema, loc))}"
        case "literal_error":
            return f"must be {context['expected']}; got {value}"
        case "value_error" | "assertion_error":
            return str(context.get("error", mistake["msg"]))
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"must be a mapping of keys to values; got {value}"
        case "tuple_type" | "list_type":
            return f"must be a list; got {value}"
    message = str(mistake["msg"]).replace("Input should be", "must be")
    message = message.replace("String should", "must").replace("Input should", "must")
    return f"{message[0].lower()}{message[1:]}; got {value}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _resolved(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return node


def _options(node: dict[str, Any], schema: dict[str, Any]) -> list[dict[str, Any]]:
    """The alternatives of a union, or the node itself."""
    node = _resolved(node, schema)
    alternatives = node.get("anyOf") or node.get("oneOf")
    if not alternatives:
        return [node]
    return [option for alternative in alternatives for option in _options(alternative, schema)]


def _step(node: dict[str, Any], step: int | str, schema: dict[str, Any]) -> dict[str, Any] | None:
    node = _resolved(node, schema)
    mapping = node.get("discriminator", {}).get("mapping", {})
    if step in mapping:  # a tag, not a key: it only says which alternative was tried
        return {"$ref": mapping[step]}
    for option in _options(node, schema):
        if isinstance(step, int) and "items" in option:
            return dict(option["items"])
        if step in option.get("properties", {}):
            return dict(option["properties"][step])
        if isinstance(step, str) and isinstance(option.get("additionalProperties"), dict):
            return dict(option["additionalProperties"])
        if step == option.get("title"):
            return option
    return None


def _at(schema: dict[str, Any], loc: Location) -> dict[str, Any]:
    node: dict[str, Any] | None = schema
    for step in loc:
        node = _step(node, step, schema) if node is not None else None
    return node or {}


def _keys(schema: dict[str, Any], loc: Location) -> list[str]:
    return [key for option in _options(_at(schema, loc), schema) for key in option.get("properties", {})]


def _tags(schema: dict[str, Any], loc: Location) -> list[str]:
    node = _resolved(_at(schema, loc), schema)
    if not (mapping := node.get("discriminator", {}).get("mapping", {})):
        for alternative in node.get("anyOf", []):  # an optional union
            mapping = mapping or _resolved(alternative, schema).get("discriminator", {}).get("mapping", {})
    return list(mapping)
