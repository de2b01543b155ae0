"""A recorded run repeats byte for byte, with the server gone, tools untouched and every socket blocked."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest

from orchestra.cli import execute
from orchestra.execution import Settings
from orchestra.execution.recording import Recording, RecordingDiffers, Replay
from orchestra.execution.runner import run
from orchestra.testing import NEVER, Answer, FaultyServer
from orchestra.traces.store import Store

TEAM = """\
name: office
nodes:
  - {id: writer, kind: agent, role: You write.}
  - {id: counter, kind: tool, tool: {name: count, call: "tools:count"}}
  - {id: broken, kind: tool, tool: {name: boom, call: "tools:boom"}}
  - {id: editor, kind: agent, role: You edit.}
channels:
  - {source: writer, target: counter}
  - {source: writer, target: broken}
  - {source: writer, target: editor}
  - {source: counter, target: editor}
  - {source: broken, target: editor}
output: editor
"""
SOLO = "name: solo\nnodes:\n  - {id: a, kind: agent}\noutput: a\n"
TOOLS = """\
import pathlib

def count(text):
    with (pathlib.Path(__file__).parent / "called.txt").open("a") as file:
        file.write("x")
    return f"{len(text)} letters"

def boom(text):
    raise ValueError("no licence")
"""
INVENTORY = """\
components:
  - {name: calculator, kind: tool, description: Works out products, price_usd: 5, call: "tools:product"}
  - {name: reverser, kind: tool, description: Reverses words, price_usd: 3, call: "tools:backwards"}
"""
SKILLS = """
import re

def product(text):
    found = re.search(r"(\\d+) \\* (\\d+)", text)
    return found and f"{found[0]} = {int(found[1]) * int(found[2])}"

def backwards(text):
    found = re.search(r"Reverse (\\w+)", text)
    return found and found[1][::-1]
"""
RULES = (
    "rules:\n"
    "  - {match: '(?s)\\n[\\w.-]+: (.+)\\nAnswer:', reply: '\\1'}\n"
    "  - {match: '', reply: ['no idea', '4', '7']}\n"
)
PLAN = [Answer(status=429, headers=(("retry-after", "0.01"),)), *(Answer(text=f"{at} it is") for at in range(40))]
SECRET = "sk-very-secret-4711"


class NoSockets:
    """An audit hook that lets nothing connect while it is closed, not even to this machine."""

    closed = False

    def __call__(self, event, arguments):
        if self.closed and event in ("socket.connect", "socket.sendto", "socket.getaddrinfo"):
            raise RuntimeError(f"{event}: a replay needs no network")


_no_sockets = NoSockets()
sys.addaudithook(_no_sockets)


@pytest.fixture
def office(tmp_path, monkeypatch):
    (tmp_path / "team.yaml").write_text(TEAM)
    (tmp_path / "solo.yaml").write_text(SOLO)
    (tmp_path / "tools.py").write_text(TOOLS + SKILLS)
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    (tmp_path / "rules.yaml").write_text(RULES)
    rows = []
    for at in range(4):
        split = ("trial", "heldout")[at % 2]
        a, b, word = 11 + at, 23 + at, "abcdefgh"[at:] + "xy"
        rows.append({"id": f"m{at}", "input": f"What is {a} * {b}?", "target": str(a * b), "skills": ["sums"]})
        rows.append({"id": f"r{at}", "input": f"Reverse {word}", "target": word[::-1], "skills": ["reversal"]})
        for row in rows[-2:]:
            row["split"] = split
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    return tmp_path


@pytest.fixture
def command(capsys):
    """Carries out a command line: its exit code and what it printed; `offline` blocks every socket."""

    def carry_out(*words, offline=False):
        _no_sockets.closed = offline
        try:
            code = execute([str(word) for word in words])
        finally:
            _no_sockets.closed = False
        return code, capsys.readouterr().out

    return carry_out


RUN = ("run", "team.yaml", "--tasks", "tasks.jsonl", "--max-cost", "1", "--json", "--price", "0.1,0.4")
EVALUATE = ("evaluate", "team.yaml", "solo.yaml", "--tasks", "tasks.jsonl", "--samples", "2", "--json")
COMPOSE = (
    *("compose", "tasks.jsonl", "--inventory", "inventory.yaml", "--budget", "9", "--queries", "2", "--json"),
    *("--similarity", "bm25", "--report", "made.json", "--report", "made.html", "--out", "made.yaml"),
)


DIRECT = "vllm/loopback@URL?token_ids=false"
SERVED = {
    "run": (*RUN, "--model", DIRECT),
    "evaluate": (*EVALUATE, "--max-cost", "1", "--price", "0.1,0.4", "--model", DIRECT),
    "run-through-litellm": (*RUN, "--model", "openai/test"),
}


@pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")  # litellm's own use of pydantic
@pytest.mark.parametrize("kind", SERVED)
def test_what_a_server_said_is_told_again_when_it_is_gone(kind, office, command, monkeypatch):
    if "litellm" in kind and find_spec("litellm") is None:
        pytest.skip("the server is reached through litellm")
    with FaultyServer(PLAN).in_process() as server:
        monkeypatch.setenv("OPENAI_API_BASE", server.url)
        words = tuple(word.replace("URL", server.url) for word in SERVED[kind])
        recorded = command(*words, "--record", "run.jsonl")
        requests = server.counts().requests
    assert recorded[0] == 0, recorded[1]
    called = (office / "called.txt").read_text()
    assert requests > 8
    assert SECRET not in (office / "run.jsonl").read_text()
    for _ in range(2):
        assert command(*words, "--replay", "run.jsonl", offline=True) == recorded
    assert (office / "called.txt").read_text() == called, "no tool is executed"


@pytest.mark.parametrize("words", [("--call-seconds", "0.5"), ("--node-seconds", "0.5"), ("--run-seconds", "1")])
def test_what_a_time_limit_cut_off_is_cut_off_again(words, office, command):
    slow = [Answer(text="4 it is"), Answer(delay_seconds=NEVER)]
    with FaultyServer(slow).in_process() as server:
        model = f"vllm/loopback@{server.url}?token_ids=false"
        asked = ("run", "team.yaml", "why", "--json", "--model", model, *words)
        recorded = command(*asked, "--record", "run.jsonl")
    assert recorded[0] in (1, 3), recorded[1]
    assert command(*asked, "--replay", "run.jsonl", offline=True) == recorded


@pytest.mark.parametrize("budget", ["1", "0.00002"])
def test_a_recorded_search_is_told_again_with_its_files(budget, office, command):
    words = (*COMPOSE, "--model", "scripted/rules.yaml", "--search-budget", budget)
    code, printed = command(*words, "--record", "search.jsonl")
    made = [(office / name).read_bytes() for name in ("made.yaml", "made.json", "made.html")]
    (office / "rules.yaml").unlink()
    for _ in range(2):
        assert command(*words, "--replay", "search.jsonl", offline=True) == (code, printed)
        assert [(office / name).read_bytes() for name in ("made.yaml", "made.json", "made.html")] == made
    assert code == (0 if budget == "1" else 3)


def test_a_search_that_found_answers_in_the_store_is_told_again_without_it(office, command):
    words = (*COMPOSE, "--model", "scripted/rules.yaml")
    command(*words)
    recorded = command(*words, "--record", "search.jsonl")
    (office / "rules.yaml").unlink()
    assert command(*words, "--replay", "search.jsonl", "--store", "other.sqlite") == recorded
    run_id = json.loads(recorded[1])["run_id"]
    with Store.open("other.sqlite", read_only=True) as store:
        assert [run.run_id for run in store.runs()] == [run_id]
    code, printed = command(*words, "--replay", "search.jsonl", "--store", "other.sqlite")
    assert (code, "in that store already" in printed) == (2, True)


def test_a_resumed_run_is_recorded_whole_with_what_it_had_paid(office, command):
    words = ("run", "team.yaml", "a question", "--model", "scripted/rules.yaml", "--json")
    run_id = json.loads(command(*words)[1])["run_id"]
    recorded = command(*words, "--resume", run_id, "--record", "again.jsonl")
    (office / "rules.yaml").unlink()
    assert command(*words, "--replay", "again.jsonl") == recorded
    assert json.loads(recorded[1])["paid_usd"] != "0"


def test_people_are_not_asked_again(office, command):
    (office / "ask.yaml").write_text(
        "name: ask\nnodes:\n  - {id: boss, kind: tool, tool: {name: boss, call: person}}\n"
        "  - {id: out, kind: agent}\nchannels:\n  - {source: boss, target: out}\noutput: out\n"
    )
    words = ("run", "ask.yaml", "May I?", "--model", "scripted/echo", "--json")
    paused = command(*words, "--record", "paused.jsonl")
    assert paused[0] == 4
    assert command(*words, "--replay", "paused.jsonl") == paused
    run_id = json.loads(paused[1])["run_id"]
    answered = command(*words, "--resume", run_id, "--answer", "you may", "--record", "answered.jsonl")
    assert "you may" in answered[1]
    assert command(*words, "--replay", "answered.jsonl") == answered


def test_another_question_or_command_is_refused(office, command):
    words = ("run", "solo.yaml", "--model", "scripted/echo", "--json")
    command(*words, "a question", "--record", "run.jsonl")
    for changed, complaint in (
        ((*words, "another"), "recorded with other tasks"),
        ((*words, "a question", "--seed", "3"), "recorded with other seed"),
        (("evaluate", "solo.yaml", "--tasks", "tasks.jsonl", "--json"), "is a recorded 'run', not a 'evaluate'"),
        ((*words, "a question", "--resume", "2026"), "without --record and --resume"),
        ((*words, "a question", "--record", "other.jsonl"), "without --record and --resume"),
    ):
        code, printed = command(*changed, "--replay", "run.jsonl")
        assert (code, complaint in printed) == (2, True), printed
    code, printed = command(*words, "a question", "--record", "run.jsonl")
    assert (code, "exists already" in printed) == (2, True)
    code, printed = command(*words, "a question", "--replay", "team.yaml")
    assert (code, "is no recording" in printed) == (2, True)


@pytest.mark.parametrize(
    ("mend", "complaint"),
    [
        (lambda line: None, "model call 'question/a/1/0' is not in the recording"),
        (lambda line: line["asked"].update(seed=8), "its seed differs; recorded 8, now None"),
        (lambda line: line["asked"]["messages"][-1].reverse(), "message 1 (user) was another one; now it begins 'why'"),
        (lambda line: line["asked"]["messages"].append(["user", ""]), "it has 1 messages, recorded 2"),
    ],
)
async def test_the_first_difference_is_named(mend, complaint, office):
    path = office / "run.jsonl"
    await run("solo.yaml", "why", settings=Settings(model="scripted/echo", record=path))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    (call,) = (line for line in lines if "call" in line)
    if mend(call) is None and "not in" in complaint:
        lines.remove(call)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(RecordingDiffers) as caught:
        await run("solo.yaml", "why", settings=Settings(model="scripted/echo", replay=path))
    assert complaint in str(caught.value)


async def test_a_library_run_is_told_again_with_its_episode(office):
    path = office / "run.jsonl"
    first = await run("team.yaml", "why", settings=Settings(model="scripted/rules.yaml", record=path))
    (office / "rules.yaml").unlink()
    again = await run("team.yaml", "why", settings=Settings(model="scripted/rules.yaml", replay=path))
    assert again.run_id == first.run_id
    assert [turn.reply for turn in again.turns] == [turn.reply for turn in first.turns]


async def test_a_recording_cut_off_by_a_kill_is_read_to_its_last_whole_line(office):
    replies = [Answer(text="a fine draft"), Answer(delay_seconds=NEVER)]
    async with FaultyServer(replies) as server:
        code = "import sys; from orchestra.cli import main; main(sys.argv[1:])"
        model = f"vllm/loopback@{server.url}?token_ids=false"
        words = ("run", "team.yaml", "why", "--model", model, "--record", "cut.jsonl", "--store", "store.sqlite")
        process = subprocess.Popen([sys.executable, "-c", code, *words], cwd=office, stdout=subprocess.DEVNULL)
        give_up = time.monotonic() + 60
        while len(server.served) < 2 and time.monotonic() < give_up:
            await asyncio.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    lines = (office / "cut.jsonl").read_text().splitlines()
    assert Replay(office / "cut.jsonl").ending == (
        f"it ends after line {len(lines)}: the recorded run was interrupted there"
    )
    with (office / "cut.jsonl").open("a") as file:
        file.write('{"call":"half')
    with pytest.raises(RecordingDiffers, match=rf"ends after line {len(lines)}, in the middle of the next"):
        await run_again(office, model)


async def test_a_call_that_a_limit_cut_off_is_not_waited_for_for_ever_without_the_limit(office, monkeypatch):
    monkeypatch.setattr("orchestra.execution.recording.CUT_SECONDS", 0.5)
    (office / "tools.py").write_text("import time\n\ndef slow(text):\n    time.sleep(30)\n")
    (office / "slow.yaml").write_text(
        "name: slow\nnodes:\n  - {id: t, kind: tool, tool: {name: slow, call: 'tools:slow'}}\noutput: t\n"
    )
    path = office / "limited.jsonl"
    await run("slow.yaml", "why", settings=Settings(record=path, node_seconds=0.5))
    again = await run("slow.yaml", "why", settings=Settings(replay=path, node_seconds=0.2))
    assert "OutOfTime" in str(again.error_type)
    with pytest.raises(RecordingDiffers, match=r"cut off, and nothing cuts it off now.*--node-seconds"):
        await run("slow.yaml", "why", settings=Settings(replay=path))


async def run_again(office, model):
    from orchestra.benchmarks.tasks import Task
    from orchestra.execution.runner import answer

    settings = Settings(model=model, replay=office / "cut.jsonl")
    await answer("team.yaml", [Task(id="question", input="why")], settings=settings)


def test_recorder_and_replay_are_the_two_kinds_of_recording():
    assert {kind.__name__ for kind in Recording.__args__} == {"Recorder", "Replay"}
