import json
from importlib.resources import files

import pytest

from orchestra.cli.schema import FORMATS, schema, schema_command, schema_text
from orchestra.errors import InputError


@pytest.mark.parametrize("name", FORMATS)
def test_a_schema_is_printed_as_one_json_document(name, capsys):
    schema_command(name)
    printed = capsys.readouterr().out
    assert printed == schema_text(name)
    document = json.loads(printed)
    assert document["title"] == name
    assert "description" in document


@pytest.mark.parametrize("name", FORMATS)
def test_the_schema_that_ships_is_current(name):
    shipped = files("orchestra").joinpath("schemas", f"{name}.json").read_text(encoding="utf-8")
    assert shipped == schema_text(name), f"write it again: orchestra schema {name} > orchestra/schemas/{name}.json"


def test_a_schema_says_what_fields_mean():
    component = schema("inventory")["$defs"]["Component"]["properties"]
    assert component["description"]["description"].startswith("What it does")
    assert "path" not in schema("inventory")["properties"]
    agent = schema("team")["$defs"]["AgentNode"]["properties"]
    assert agent["id"]["description"].startswith("Name of the node")
    assert agent["layout"]["description"].startswith("User prompt")


def test_a_line_of_tasks_is_a_task_or_the_schema_version():
    line, header = schema("tasks")["anyOf"]
    assert set(line["required"]) == {"id", "input"}
    assert header["required"] == ["schema_version"]


def test_an_unknown_format_is_answered_with_the_closest():
    with pytest.raises(InputError, match="did you mean 'inventory'"):
        schema("inventorie")
