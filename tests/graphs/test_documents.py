import json
import pickle
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs import AgentGraph, AgentNode, InvalidFile, Provenance, Usd, Value
from graphs.documents import document, parsed, read_value, to_json, to_yaml, value_from, write_value


class Newer(Value):
    schema_version: int = 3
    colour: str
    price_usd: Usd | None = None


MIGRATIONS = (
    lambda data: {("color" if key == "couleur" else key): held for key, held in data.items()},
    lambda data: {("colour" if key == "color" else key): held for key, held in data.items()},
)


def complaints_of(text, tmp_path, name="team.yaml"):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InvalidFile) as caught:
        read_value(tmp_path / name, AgentGraph)
    return caught.value.complaints


def test_every_mistake_is_told_with_its_line_and_its_mend(tmp_path):
    text = """
round: 3
nodes:
  - {id: a, kind: agnet}
  - id: b
    kind: agent
    rol: x
    sampling: {temperature: -1}
  - {id: t, kind: tool, tool: {name: t}}
  - {id: q}
channels: {a: b}
"""
    assert complaints_of(text, tmp_path) == (
        "output: is required; add it",
        "line 2, round: unknown key 'round'; did you mean 'rounds'?",
        "line 4, nodes[0] (a): unknown kind 'agnet'; did you mean 'agent'?",
        "line 7, nodes[1] (b).rol: unknown key 'rol'; did you mean 'role'?",
        "line 8, nodes[1] (b).sampling.temperature: must be greater than or equal to 0; got -1",
        "line 9, nodes[2] (t).tool.call: is required; add it",
        "line 10, nodes[3] (q): needs a 'kind'; one of: agent, router, tool, vote",
        "line 11, channels: must be a list; got {'a': 'b'}",
    )


def test_json_mistakes_have_lines_too(tmp_path):
    text = '{\n "output": "a",\n "nodes": [\n  {"id": "a", "kind": "agent", "memroy": "none"}]}'
    assert complaints_of(text, tmp_path, "team.json") == (
        "line 4, nodes[0] (a).memroy: unknown key 'memroy'; did you mean 'memory'?",
    )


def test_a_closed_choice_lists_what_may_stand_there(tmp_path):
    (complaint,) = complaints_of("output: a\nnodes:\n- {id: a, kind: agent, memory: all}", tmp_path)
    assert complaint == "line 3, nodes[0] (a).memory: must be 'none' or 'transcript'; got 'all'"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("t.yaml", "a: [1", "line 2, column 1: is not YAML: did not find expected ',' or ']'"),
        ("t.yaml", "a: 1\nb: 2\na: 3", "line 3, column 1: is not YAML: key 'a' is written twice"),
        ("t.json", '{"a": }', "line 1, column 7: is not JSON: expecting value"),
        ("t.json", '{"a": 1, "a": 2}', "key 'a' is written twice"),
        ("t.yaml", "- 1", "must be a mapping of keys to values; got list"),
        ("t.yaml", "  \n", "is empty; a team was expected"),
        ("t.toml", "a = 1", "unknown suffix '.toml'; use one of .yaml, .yml, .json"),
        ("t.yaml", "a: \x07", "is not YAML"),
        ("t.yaml", "schema_version: 9\noutput: a", "schema_version 9 is newer than this program knows (1); update"),
        ("t.yaml", "schema_version: one\noutput: a", "schema_version must be a whole number from 1 to 1; got 'one'"),
        ("t.yaml", "output: !!python/name:os.system a", "is not YAML: could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_document_says_why(name, text, told, tmp_path):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InvalidFile) as caught:
        read_value(tmp_path / name, AgentGraph)
    assert told in str(caught.value)
    assert name in str(caught.value)


def test_a_missing_file_a_folder_and_bytes_are_named(tmp_path):
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff")
    for name, told in [("none.yaml", "no such team file"), ("", "is a folder"), ("bytes.yaml", "is not UTF-8")]:
        with pytest.raises(InvalidFile, match=told):
            read_value(tmp_path / name, AgentGraph)


def test_plain_words_are_text_and_numbers_are_what_they_look_like():
    text = "{a: on, b: no, c: 12:30, d: 010, e: 1e3, f: true, g: ~, h: 2024-01-01, i: 0x1f, j: -.5, k: 1_000}"
    assert parsed(text, "t", is_json=False) == {
        **{"a": "on", "b": "no", "c": "12:30", "d": 10, "e": 1000.0, "f": True, "g": None, "h": "2024-01-01"},
        **{"i": 31, "j": -0.5, "k": "1_000"},
    }


def test_an_older_document_is_lifted_version_by_version(tmp_path):
    (tmp_path / "old.yaml").write_text("couleur: red")
    assert read_value(tmp_path / "old.yaml", Newer, migrations=MIGRATIONS) == Newer(colour="red")
    assert value_from({"schema_version": 2, "color": "red"}, Newer, "x", migrations=MIGRATIONS).schema_version == 3


def test_parsed_data_is_told_with_the_place_it_came_from():
    with pytest.raises(InvalidFile, match=r"^tasks.jsonl, line 3: colour: is required; add it$"):
        value_from({}, Newer, "tasks.jsonl, line 3")


def test_defaults_are_left_out_but_versions_and_tags_are_not():
    graph = AgentGraph(output="a", nodes=[AgentNode(id="a")])
    assert document(graph) == {"schema_version": 1, "nodes": [{"id": "a", "kind": "agent"}], "output": "a"}


def test_long_texts_are_written_as_blocks_and_channels_on_one_line():
    graph = AgentGraph(
        output="b",
        nodes=[AgentNode(id="a", role="First line.\nSecond line.\n"), AgentNode(id="b")],
        channels=[{"source": "a", "target": "b"}],
    )
    assert "    role: |\n      First line.\n      Second line.\n" in to_yaml(graph)
    assert "\n  - {source: a, target: b}\n" in to_yaml(graph)


@given(st.decimals(min_value=0, allow_nan=False, allow_infinity=False))
def test_prices_are_read_back_exactly(price):
    value = Newer(colour="red", price_usd=price)
    assert value_from(json.loads(to_json(value)), Newer, "x") == value
    assert value_from(parsed(to_yaml(value), "x", is_json=False), Newer, "x") == value


def test_a_price_a_float_cannot_hold_is_written_as_digits():
    assert document(Newer(colour="", price_usd=Decimal("0.1")))["price_usd"] == 0.1
    exact = "0.12345678901234567890123"
    assert document(Newer(colour="", price_usd=Decimal(exact)))["price_usd"] == exact


@given(st.text())
def test_any_text_survives_yaml(text):
    value = Newer(colour=text)
    assert value_from(parsed(to_yaml(value), "x", is_json=False), Newer, "x") == value


@pytest.mark.parametrize(
    "text", ["on", "null", "1e3", "0o7", "010", "2024-01-01", "1:30", "<<", " a", "\ta\n b", "=", ""]
)
def test_text_that_looks_like_something_else_stays_text(text):
    assert parsed(to_yaml(Newer(colour=text)), "x", is_json=False)["colour"] == text


def test_writing_leaves_either_the_old_file_or_the_whole_new_one(tmp_path):
    graph = AgentGraph(output="a", provenance=Provenance(composer="identity", price_usd=8))
    for name in ("a.yaml", "a.json"):
        write_value(graph, tmp_path / name)
        assert read_value(tmp_path / name, AgentGraph) == graph
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.yaml"]


def test_what_cannot_be_written_is_told(tmp_path):
    graph = AgentGraph(output="a")
    with pytest.raises(InvalidFile, match=r"unknown suffix '\.txt'"):
        write_value(graph, tmp_path / "a.txt")
    with pytest.raises(InvalidFile, match="cannot be written"):
        write_value(graph, tmp_path / "none" / "a.yaml")


def test_the_error_survives_pickling():
    error = pickle.loads(pickle.dumps(InvalidFile("team.yaml", ["one", "two"])))
    assert (error.where, error.complaints) == ("team.yaml", ("one", "two"))
    assert str(error) == "team.yaml: 2 mistakes\n  - one\n  - two"
