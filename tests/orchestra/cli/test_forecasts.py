"""`--dry-run`, and what became of a forecast: on the screen, in JSON, and in the trace."""

import json

import pytest

from orchestra.cli import execute
from orchestra.traces.store import Store

TEAM = """\
name: pair
output: judge
rounds: 2
sampling: {max_tokens: 20}
nodes:
  - {id: a, kind: agent, role: You are careful.}
  - {id: b, kind: agent, tools: [{name: shout, call: "tools:shout", description: shouts}]}
  - {id: judge, kind: agent}
channels: [{source: a, target: b}, {source: b, target: a, next_round: true}, {source: b, target: judge}]
"""


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with a team, its tool, tasks and a scripted model."""
    (tmp_path / "team.yaml").write_text(TEAM)
    (tmp_path / "tools.py").write_text("def shout(text):\n    return text.upper()\n")
    (tmp_path / "rules.yaml").write_text("rules: [{match: '', reply: nope}]")
    rows = [{"id": f"t{i}", "input": "How many?", "target": "nope", "split": "trial"} for i in range(4)]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMON = ["--store", "store.sqlite", "--model", "scripted/rules.yaml"]


def told(capsys, *words):
    """The JSON document of a command."""
    assert execute([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_dry_run_spends_nothing_and_leaves_nothing(desk, capsys):
    foreseen = told(capsys, "run", "team.yaml", "Why?", "--dry-run", *COMMON)
    assert foreseen["model_calls"] == {"lower": 5, "expected": foreseen["model_calls"]["expected"], "upper": 19}
    assert set(foreseen["list_usd"]) == {"lower", "expected", "upper"}
    assert not (desk / "store.sqlite").exists()
    assert execute(["run", "team.yaml", "Why?", "--dry-run", *COMMON]) == 0
    assert "nothing was called" in capsys.readouterr().out


def test_a_run_is_compared_with_its_forecast_on_the_screen_in_json_and_in_its_trace(desk, capsys):
    document = told(capsys, "run", "team.yaml", "--tasks", "tasks.jsonl", *COMMON)
    calls = document["forecast"]["model_calls"]
    assert (calls["lower"], calls["actual"], calls["inside"]) == (20, 20, True)
    assert document["forecast"]["list_usd"]["inside"]
    shown = told(capsys, "traces", "show", document["run_id"], "--store", "store.sqlite")
    assert shown["forecast"] == document["forecast"]
    assert execute(["traces", "show", document["run_id"], "--store", "store.sqlite"]) == 0
    assert "as foreseen" in capsys.readouterr().out
    assert execute(["run", "team.yaml", "Why?", *COMMON]) == 0
    assert "as foreseen" in capsys.readouterr().err


def test_an_evaluation_is_foreseen_over_all_teams_and_samples(desk, capsys):
    words = ["evaluate", "team.yaml", "team.yaml", "--tasks", "tasks.jsonl", "--samples", "2", *COMMON]
    foreseen = told(capsys, *words, "--dry-run")
    document = told(capsys, *words)
    assert foreseen["model_calls"]["lower"] == 2 * 2 * 4 * 5
    assert document["forecast"]["model_calls"]["inside"]
    assert document["forecast"]["basis"] == foreseen["basis"]


def test_a_resumed_run_keeps_the_forecast_it_began_with(desk, capsys):
    first = told(capsys, "run", "team.yaml", "Why?", *COMMON)
    again = told(capsys, "run", "team.yaml", "Why?", "--resume", first["run_id"], *COMMON)
    assert again["forecast"] == first["forecast"]
    with Store.open(desk / "store.sqlite", read_only=True) as store:
        assert sum(fact.name == "forecast" for fact in store.facts(first["run_id"])) == 1


def test_a_dry_run_under_a_cap_refuses_a_model_without_a_price(desk, capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    words = ["run", "team.yaml", "Why?", "--dry-run", "--max-cost", "1", "--model", "openai/no-such-model"]
    assert execute(words) in (2, 3)
    assert "--price" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-cost-agent", "jugde=0.1"], "did you mean 'judge'"),
        (["--max-cost-agent", "judge"], "write it like --max-cost-agent critic=0.25"),
        (["--max-cost-agent", "judge=much"], "not an amount"),
        (["--max-calls-tool", "shout=-1"], "not a number of calls"),
        (["--max-calls-tool", "shout=1", "--max-calls-tool", "shout=2"], "given twice"),
        (["--price-tool", "shuot=0.1"], "did you mean 'shout'"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["run", "dry run"])
def test_a_cap_that_is_written_wrong_is_one_message_and_exit_code_2(desk, capsys, words, message, dry):
    assert execute(["run", "team.yaml", "Why?", *COMMON, *words, *dry]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_an_agent_that_may_spend_nothing_is_exit_code_3_with_what_the_others_said(desk, capsys):
    words = ["run", "team.yaml", "Why?", *COMMON, "--max-cost-agent", "judge=0"]
    assert execute([*words, "--json"]) == 3
    row = json.loads(capsys.readouterr().out)["episodes"][0]
    assert (row["reply"], row["partial"]) == ("nope", True)
    assert "run/question/judge" in row["error"]
