"""What people get wrong on the command line: one message that says what to do, exit code 2, nothing spent."""

import json

import pytest

from orchestra.benchmarks.tasks import read_tasks
from orchestra.cli import execute
from orchestra.evaluation.sweep import evaluate
from orchestra.execution.settings import Settings
from orchestra.traces.store import Store

TEAM = """\
name: {name}
output: answerer
nodes:
  - {{id: tool, kind: tool, tool: {{name: tool, call: "tools:say"}}}}
  - {{id: answerer, kind: agent, layout: "{{task}}\\n{{messages}}"}}
channels: [{{source: tool, target: answerer}}]
"""
DEFECTS = """\
name: broken
output: nobody
nodes:
  - {id: a, kind: agent}
  - {id: a, kind: agent}
  - {id: loner, kind: agent}
channels: [{source: a, target: missing}]
"""


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with two teams of two folders whose tools' modules have one name, tasks, and a scripted model."""
    for name, said in (("one", "11"), ("two", "22")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "team.yaml").write_text(TEAM.format(name=name))
        (tmp_path / name / "tools.py").write_text(f"def say(text):\n    return '{said}'\n")
    rows = [{"id": f"t{i}", "input": "How many?", "target": "11", "split": "trial"} for i in range(4)]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "rules.yaml").write_text(
        "rules:\n  - {match: 'tool: (.+)', reply: '\\1'}\n  - {match: '', reply: no}\n"
    )
    (tmp_path / "broken.yaml").write_text(DEFECTS)
    (tmp_path / "odd.yaml").write_text(TEAM.format(name="odd").replace("output:", "outptu:"))
    (tmp_path / "escape.yaml").write_text(TEAM.format(name="escape").replace("tools:say", "posixpath:join"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMON = ["--store", "store.sqlite", "--model", "scripted/rules.yaml"]


def test_two_teams_of_different_folders_are_compared_with_their_own_tools(desk, capsys):
    words = [
        "evaluate",
        "one/team.yaml",
        "two/team.yaml",
        "--tasks",
        "tasks.jsonl",
        "--samples",
        "2",
        "--json",
        *COMMON,
    ]
    assert execute(words) == 0
    document = json.loads(capsys.readouterr().out)
    first, second = document["teams"]
    assert (first["success"], second["success"]) == (1.0, 0.0)
    assert second["difference_to_first"] | {"interval_95": None} == {
        "mean": -1.0,
        "interval_95": None,
        "wins": 0,
        "losses": 4,
        "ties": 0,
    }
    assert document["ran_out"] is None
    with Store.open(desk / "store.sqlite", read_only=True) as store:
        chats = [s for s in store.spans(document["run_id"]) if s.name.startswith("chat")]
    assert len(chats) == 2 * 2 * 4


def test_episodes_that_failed_are_told_beside_the_table(desk, capsys):
    (desk / "rules.yaml").write_text("rules:\n  - {match: '', error: the server fell over}\n")
    assert execute(["evaluate", "one/team.yaml", "--tasks", "tasks.jsonl", *COMMON]) == 0
    assert "4 episodes failed and scored 0" in capsys.readouterr().err


def test_a_resumed_evaluation_asks_nothing_again_and_must_be_the_same(desk, capsys):
    words = ["evaluate", "one/team.yaml", "--tasks", "tasks.jsonl", "--json", *COMMON]
    assert execute(words) == 0
    first = json.loads(capsys.readouterr().out)
    assert execute([*words, "--resume", first["run_id"]]) == 0
    assert json.loads(capsys.readouterr().out)["paid_usd"] == first["paid_usd"]
    assert execute([*words, "--resume", first["run_id"], "--model", "scripted/echo"]) == 2
    assert "other model" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_a_cap_that_runs_out_is_exit_code_3_with_what_was_measured(desk, capsys):
    words = ["evaluate", "one/team.yaml", "--tasks", "tasks.jsonl", "--max-cost", "0.00000001", "--json", *COMMON]
    assert execute(words) == 3
    document = json.loads(capsys.readouterr().out)
    assert document["ran_out"]
    [team] = document["teams"]
    nothing = ("success", "interval_95", "list_usd_per_task", "cost_of_pass_usd", "difference_to_first")
    assert (team["measured"], team["tasks"], *(team[key] for key in nothing)) == (0, 4, *[None] * 5)


@pytest.fixture
def dear(desk):
    """The desk with a fifth task whose question alone is too dear for the cap."""
    row = {"id": "t4", "input": "How many? " * 5000, "target": "11", "split": "trial"}
    with (desk / "tasks.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    return ["--tasks", "tasks.jsonl", "--max-cost", "0.0005", *COMMON]


def test_a_team_cut_short_keeps_what_was_measured_and_is_not_compared(dear, capsys):
    assert execute(["evaluate", "one/team.yaml", "two/team.yaml", "--json", *dear]) == 3
    document = json.loads(capsys.readouterr().out)
    first, second = document["teams"]
    assert document["ran_out"].startswith("1: team: ")
    assert (first["measured"], first["tasks"], first["success"], first["interval_95"]) == (4, 5, 1.0, None)
    assert (second["measured"], second["success"], second["difference_to_first"]) == (0, None, None)


def test_the_table_says_how_many_tasks_of_a_team_cut_short_were_measured(dear, capsys):
    assert execute(["evaluate", "one/team.yaml", *dear]) == 3
    told = capsys.readouterr()
    assert "4 of 5" in told.out
    assert "1: team: measured 4 of 5 tasks" in " ".join(told.err.split())


async def test_a_later_team_cut_short_is_not_compared_with_the_first_that_was_not(desk):
    task = "{task}\\n{messages}"
    text = (desk / "two" / "team.yaml").read_text()
    (desk / "two" / "team.yaml").write_text(text.replace(task, "{task} " * 9000 + task))
    teams, tasks = ["one/team.yaml", "two/team.yaml"], read_tasks(desk / "tasks.jsonl")
    settings = Settings(model="scripted/rules.yaml")
    first, second = (await evaluate(teams, tasks, settings=settings, max_cost_usd="0.0005", store="store.sqlite")).teams
    assert (first.complete, second.complete, second.asked) == (True, False, 4)
    assert first.success is not None
    assert (second.success, second.against_first, second.cost_of_pass_nano) == (None, None, None)


def test_every_task_of_a_file_is_answered_and_scored(desk, capsys):
    assert execute(["run", "two/team.yaml", "--tasks", "tasks.jsonl", "--json", *COMMON]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["score"] for row in document["episodes"]] == [0.0] * 4
    assert {row["reply"] for row in document["episodes"]} == {"22"}


@pytest.mark.parametrize(
    ("words", "messages"),
    [
        (["run", "nowhere.yaml", "hello"], ["nowhere.yaml"]),
        (["run", "one/team.yaml"], ["either a question or --tasks"]),
        (["run", "one/team.yaml", "hello", "--tasks", "tasks.jsonl"], ["either a question or --tasks"]),
        (["run", "one/team.yaml", ""], ["the question is empty"]),
        (["run", "broken.yaml", "hello"], ["'nobody'", "'missing'", "a"]),
        (["run", "odd.yaml", "hello"], ["outptu", "'output'"]),
        (["run", "escape.yaml", "hello"], ["--trust"]),
        (["run", "one/team.yaml", "hello", "--model", "scriptde"], ["scripted"]),
        (["run", "one/team.yaml", "hello", "--model", "local/smollm2-135m-instrct"], ["smollm2-135m-instruct"]),
        (["run", "one/team.yaml", "hello", "--max-cost", "much"], ["not an amount"]),
        (["run", "one/team.yaml", "hello", "--price", "1"], ["0.15,0.60"]),
        (["run", "one/team.yaml", "hello", "--resume", "never"], ["no run"]),
        (["run", "one/team.yaml", "hello", "--max-csot", "1"], ["--max-cost"]),
        (["rnu", "one/team.yaml", "hello"], ["did you mean 'run'"]),
        (["evaluate", "one/team.yaml", "--tasks", "nowhere.jsonl"], ["nowhere.jsonl"]),
        (["evaluate", "one/team.yaml", "--tasks", "tasks.jsonl", "--split", "heldout"], ["no task"]),
        (["evaluate", "one/team.yaml", "--tasks", "tasks.jsonl", "--samples", "0"], ["samples"]),
        (["evaluate", "one/team.yaml", "--tasks", "one/team.yaml"], ["line 1"]),
        (["evaluate", "one/team.yaml", "--tasks", "tasks.jsonl", "--model", "openai/gpt-4.1-mini"], ["--max-cost"]),
        (
            ["evaluate", "one/team.yaml", "--tasks", "tasks.jsonl", "--model", "openai/mine", "--max-cost", "1"],
            ["price of model 'openai/mine' is not known", "--price"],
        ),
        (["graph", "broken.yaml"], ["'nobody'", "'missing'"]),
        (["graph", "nowhere.yaml"], ["nowhere.yaml"]),
        (["graph", "one/team.yaml", "--format", "pgn"], ["png"]),
        (["traces", "show", "never", "--store", "empty.sqlite"], ["never"]),
        (["traces", "list", "--store", "store.sqlite"], ["does not exist"]),
        (["traces", "list", "--store", "nowhere/store.sqlite"], ["nowhere"]),
        (["schema", "taem"], ["team"]),
    ],
)
def test_bad_input_is_one_message_and_nothing_is_spent(desk, capsys, words, messages):
    plays = words[0] in ("run", "evaluate")
    common = ([] if "--model" in words else COMMON[2:]) + COMMON[:2] if plays else []
    Store.open("empty.sqlite").close()
    assert execute([*words, *common]) == 2
    told = capsys.readouterr()
    for message in messages:
        assert message in told.err, told.err
    assert "Traceback" not in told.err
    assert told.out == ""
    if (desk / "store.sqlite").exists():
        with Store.open(desk / "store.sqlite", read_only=True) as store:
            assert not any(store.journal(record.run_id) for record in store.runs())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "a", "input": "x", "target": "1", "scorer": "nummeric"}', "did you mean 'numeric'"),
        ('{"id": "a", "input": "x", "target": "1", "scorer": "posixpath:samefile"}', "--trust"),
        ('{"id": "a", "input": "x", "target": "1", "split": "held-out"}', "heldout"),
        ('{"id": "a", "input": "x"}', "target"),
    ],
)
def test_tasks_that_cannot_be_scored_are_refused(desk, capsys, line, message):
    (desk / "tasks.jsonl").write_text(line + "\n")
    assert execute(["evaluate", "one/team.yaml", "--tasks", "tasks.jsonl", *COMMON]) == 2
    assert message in capsys.readouterr().err
