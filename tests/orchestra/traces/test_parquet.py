import json
import sys

import pytest
from typer.testing import CliRunner

from orchestra.cli.traces import traces_app
from orchestra.errors import InputError, MissingExtra
from orchestra.traces.parquet import EPISODE_COLUMNS, TURN_COLUMNS, write_parquet
from orchestra.traces.summary import run_episodes

parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def tables(store, play_run, tmp_path):
    for run_id in ("r1", "r2"):
        play_run(store, run_id)
    assert write_parquet(store, ["r1", "r2"], tmp_path / "out") == {"episodes": 2, "turns": 2}
    return {
        name: parquet.read_table(tmp_path / "out" / f"{name}.parquet").to_pylist() for name in ("episodes", "turns")
    }


def test_every_episode_is_a_row_with_its_figures(tables, store):
    first, second = tables["episodes"]
    (episode,) = run_episodes(store, "r1")
    assert (first["run_id"], first["episode_id"], first["task_id"]) == ("r1", "r1/t", "t")
    assert (first["score"], first["output"], first["error"]) == (1.0, "4", None)
    assert (first["calls"], first["input_tokens"], first["paid_nano"], first["list_nano"]) == (1, 9, 1234, None)
    assert json.loads(first["scores"])[0]["source"] == "scorer:x"
    assert first["started_ns"] == episode.started_ns
    assert second["run_id"] == "r2"


def test_every_turn_is_a_row_that_names_its_span(tables, store):
    (turn,) = run_episodes(store, "r1")[0].turns
    row = tables["turns"][0]
    assert row["span_id"] == turn.span_id in {span.span_id for span in store.spans("r1")}
    assert (row["episode_id"], row["node"], row["seat"], row["turn"], row["round"]) == ("r1/t", "writer", 0, 0, 1)
    assert (row["prompt_token_ids"], row["reply_token_ids"], row["logprobs"]) == ([1, 2], [52], [-0.1])
    assert row["reply"] == "of r1: lone \\ud800, 4"  # a surrogate is no text to anybody else
    assert json.loads(row["messages"])[0]["content"] == "What is 2 + 2?"
    assert row["cached"] is None


def test_columns_and_their_order_are_those_documented(store, tmp_path):
    write_parquet(store, [], tmp_path)
    for name, columns in (("episodes", EPISODE_COLUMNS), ("turns", TURN_COLUMNS)):
        assert parquet.read_schema(tmp_path / f"{name}.parquet").names == list(columns)


def test_a_folder_that_cannot_be_made_is_an_input_error(store, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_parquet(store, [], tmp_path / "file" / "out")


def test_without_pyarrow_the_extra_is_named(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"orchestra-mas\[parquet\]"):
        write_parquet(store, [], tmp_path)


def test_the_command_writes_both_tables(store, file, play_run, tmp_path):
    play_run(store, "r1")
    words = ["export", "r1", "--format", "parquet", "--out", str(tmp_path / "out"), "--store", str(file), "--json"]
    told = json.loads(CliRunner().invoke(traces_app, words).stdout)
    assert told["rows"] == {"episodes": 1, "turns": 1}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"episodes.parquet", "turns.parquet"}
