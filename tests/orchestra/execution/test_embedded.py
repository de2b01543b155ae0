"""Resuming, recording and replaying on the real embedded model."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest

from orchestra.cli import execute
from orchestra.errors import InputError
from orchestra.execution.settings import DEFAULT_MODEL
from orchestra.models.weights import path_of
from orchestra.traces.store import Store

TEAM = """\
name: office
sampling: {max_tokens: 12}
nodes:
  - {id: writer, kind: agent, role: You are a poet.}
  - {id: critic, kind: agent, role: You object.}
  - {id: editor, kind: agent, role: You edit.}
channels:
  - {source: writer, target: critic}
  - {source: writer, target: editor}
  - {source: critic, target: editor}
output: editor
"""
INVENTORY = """\
components:
  - {name: reverser, kind: tool, description: Reverses words, price_usd: 3, call: "tools:backwards"}
"""
TOOLS = """\
import re

def backwards(text):
    found = re.search(r"Reverse (\\w+)", text)
    return found and found[1][::-1]
"""
KILLS = 2


def _pulled():
    try:
        path_of(DEFAULT_MODEL.partition("/")[2])
    except InputError:
        return False
    return find_spec("transformers") is not None


pytestmark = pytest.mark.skipif(not _pulled(), reason="needs the embedded model's weights")


@pytest.fixture
def office(tmp_path, monkeypatch):
    (tmp_path / "team.yaml").write_text(TEAM)
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    (tmp_path / "tools.py").write_text(TOOLS)
    rows = [
        {"id": f"r{at}", "input": f"Reverse {word}", "target": word[::-1], "split": ("trial", "heldout")[at % 2]}
        for at, word in enumerate(("abcd", "bcde"))
    ]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


COMMANDS = {
    "run": ("run", "team.yaml", "Write about rain.", "--json"),
    "evaluate": ("evaluate", "team.yaml", "--tasks", "tasks.jsonl", "--json"),
    "compose": (
        *("compose", "tasks.jsonl", "--inventory", "inventory.yaml", "--budget", "5", "--queries", "1", "--json"),
        *("--similarity", "bm25", "--report", "made.json", "--report", "made.html", "--out", "made.yaml"),
    ),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_what_the_embedded_model_said_is_told_again_without_its_weights(command, office, capsys, monkeypatch):
    words = list(COMMANDS[command])
    assert execute([*words, "--record", "heard.jsonl"]) == 0
    printed = capsys.readouterr().out
    made = {path.name: path.read_bytes() for path in office.glob("made.*")}
    monkeypatch.setenv("XDG_CACHE_HOME", str(office / "nothing"))
    for _ in range(2):
        assert execute([*words, "--replay", "heard.jsonl"]) == 0
        assert capsys.readouterr().out == printed
        assert {path.name: path.read_bytes() for path in office.glob("made.*")} == made


def test_a_deterministic_run_that_was_killed_ends_as_it_would_have(office, capsys):
    words = ["run", "team.yaml", "Write about rain.", "--deterministic", "--json"]
    assert execute([*words, "--store", "whole.sqlite"]) == 0
    whole = replies(capsys.readouterr().out)
    words += ["--store", "killed.sqlite"]
    resume = []
    for kill in range(1, KILLS + 1):
        killed_when(office / "killed.sqlite", [*words, *resume], finished=kill)
        with Store.open(office / "killed.sqlite", read_only=True) as store:
            resume = ["--resume", store.runs(1)[0].run_id]
    assert execute([*words, *resume]) == 0
    assert replies(capsys.readouterr().out) == whole


def replies(printed):
    return [(row["task"], row["reply"]) for row in json.loads(printed)["episodes"]]


def killed_when(path, words, finished):
    """Start a command and kill it when its run has so many replies in the journal."""
    code = "import sys; from orchestra.cli import main; main(sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.DEVNULL)
    try:
        give_up = time.monotonic() + 300
        while time.monotonic() < give_up and process.poll() is None and finishes(path) < finished:
            time.sleep(0.02)
        assert process.poll() is None, "it ended before it could be killed"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def finishes(path):
    """Replies in the journal of the only run of the store."""
    if not path.exists():
        return 0
    try:
        with Store.open(path, read_only=True) as store:
            return sum(entry.event == "finish" for run in store.runs() for entry in store.journal(run.run_id))
    except InputError:  # it is being made
        return 0
