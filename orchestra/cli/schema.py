"""`orchestra schema`: the JSON Schema of a file format, with what each field means."""

import ast
import inspect
import json
import textwrap
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

FORMATS = {
    "team": ("graphs.model:AgentGraph", "A team: an agent graph, in YAML or JSON."),
    "inventory": (
        "orchestra.agents.inventory:Inventory",
        "Components to choose from and their prices, in YAML or JSON.",
    ),
    "tasks": ("orchestra.benchmarks.tasks:Task", "One line of a tasks file, which is JSONL."),
    "certificate": ("orchestra.evaluation.certificate:Certificate", "What a composition is worth and what it cost."),
}
"""By name, the model a file is read with and what the file is."""


def schema_command(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(FORMATS)}.", metavar="NAME")],
) -> None:
    """Print the JSON Schema of a file format."""
    typer.echo(schema_text(name), nl=False)


def schema_text(name: str) -> str:
    """`schema(name)` as indented JSON."""
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of the file format called `name`.

    Raises:
        InputError: when there is none of that name.
    """
    from pydantic import BaseModel

    from orchestra.errors import InputError
    from orchestra.plugins import closest, load

    if name not in FORMATS:
        raise InputError(f"there is no file format {name!r}; {closest(name, FORMATS)}")
    where, summary = FORMATS[name]
    model = load("file formats", where)
    assert isinstance(model, type), f"{where} is not a class"
    assert issubclass(model, BaseModel), f"{where} is not a pydantic model"
    found = model.model_json_schema()
    for record in _records(model):
        part = found if record is model else found.get("$defs", {}).get(record.__name__, {})
        for field, info in record.model_fields.items():
            if info.exclude:  # known to the program only; no file says it
                part.get("properties", {}).pop(field, None)
        for field, meaning in _meanings(record).items():
            if field in part.get("properties", {}):
                part["properties"][field].setdefault("description", meaning)
    if name == "tasks":
        header = {"type": "object", "properties": {"schema_version": {"const": 1}}, "required": ["schema_version"]}
        line = {key: found.pop(key) for key in list(found) if key != "$defs"}
        found = {"anyOf": [line, {**header, "additionalProperties": False, "title": "First line"}], **found}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": name, "description": summary}
    return head | {key: value for key, value in found.items() if key not in head}


def _records(model: "type[BaseModel]") -> "list[type[BaseModel]]":
    """`model` and every model its fields mention, each once."""
    from pydantic import BaseModel

    found: list[type[BaseModel]] = []
    waiting: list[Any] = [model]
    while waiting:
        item = waiting.pop()
        if isinstance(item, type) and issubclass(item, BaseModel):
            if item not in found:
                found.append(item)
                waiting.extend(field.annotation for field in item.model_fields.values())
        else:
            waiting.extend(getattr(item, "__args__", ()))
    return found


def _meanings(model: "type[BaseModel]") -> dict[str, str]:
    """The string under each field, by field; nearer classes win."""
    from pydantic import BaseModel

    meanings: dict[str, str] = {}
    for cls in reversed(model.__mro__):
        if not (issubclass(cls, BaseModel) and cls is not BaseModel):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        lines = body.body if isinstance(body, ast.ClassDef) else []
        for field, below in pairwise(lines):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                match below:
                    case ast.Expr(value=ast.Constant(value=str(meaning))):
                        meanings[field.target.id] = inspect.cleandoc(meaning)
    return meanings
