"""`orchestra run`: partial replies, pauses and interruptions, as a person meets them."""

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time

import pytest

from graphs.motifs import MOTIFS
from graphs.serialisation import write
from orchestra.cli import execute
from orchestra.cli.run import _onward
from orchestra.execution.answered import Answered
from orchestra.execution.people import Question
from orchestra.testing import Answer, FaultyServer
from orchestra.traces.store import Store
from orchestra.traces.summary import run_episodes, summary

ASKING = """\
name: asking
output: writer
nodes:
  - {id: drafter, kind: agent, role: Draft.}
  - {id: boss, kind: tool, tool: {name: boss, call: person}}
  - {id: writer, kind: agent, role: Write.}
channels: [{source: drafter, target: boss}, {source: boss, target: writer}]
"""
SLEEPING = """\
name: sleeping
output: t
nodes:
  - {id: a, kind: agent}
  - {id: t, kind: tool, tool: {name: sleep, call: "tools:sleep", timeout_seconds: 50}}
channels: [{source: a, target: t}]
"""
PAIR = """\
name: pair
output: a
nodes: [{id: drafter, kind: agent}, {id: a, kind: agent}]
channels: [{source: drafter, target: a}]
"""
SLEEP = """\
import pathlib, time

def sleep(text):
    pathlib.Path(__file__).with_name("begun").touch()
    time.sleep(60)
"""
COMMON = ["--store", "store.sqlite", "--model", "scripted/echo"]
ORCHESTRA = [sys.executable, "-m", "orchestra"]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    (tmp_path / "asking.yaml").write_text(ASKING)
    (tmp_path / "sleeping.yaml").write_text(SLEEPING)
    (tmp_path / "tools.py").write_text(SLEEP)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_that_asks_a_person_exits_4_and_prints_the_command_that_goes_on(desk, capsys):
    assert execute(["run", "asking.yaml", "it's late", *COMMON]) == 4
    out, err = capsys.readouterr()
    assert out == ""
    assert "1. question, boss: drafter: it's late" in err
    (command,) = [line for line in err.splitlines() if line.startswith("orchestra run")]
    words = shlex.split(command)
    assert words[:4] == ["orchestra", "run", "asking.yaml", "it's late"]
    assert words[-2:] == ["--answer", "TEXT"]
    assert execute([*words[1:-1], "go ahead"]) == 0
    assert capsys.readouterr().out == "it's late\n\nboss: go ahead\n"


def test_resumed_without_an_answer_it_asks_again_and_exits_4(desk, capsys):
    assert execute(["run", "asking.yaml", "hi", *COMMON, "--json"]) == 4
    first = json.loads(capsys.readouterr().out)
    again = shlex.split(first["resume"])[1:-2]
    assert execute(again) == 4
    second = json.loads(capsys.readouterr().out)
    assert second["questions"] == first["questions"]
    assert second["resume"] == first["resume"]
    assert second["paid_usd"] == first["paid_usd"]


def test_a_wrong_number_of_answers_is_bad_input(desk, capsys):
    assert execute(["run", "asking.yaml", "hi", *COMMON, "--json"]) == 4
    run_id = json.loads(capsys.readouterr().out)["run_id"]
    assert execute(["run", "asking.yaml", "hi", *COMMON, "--resume", run_id, "--answer", "a", "--answer", "b"]) == 2
    assert "waits for 1 answer, and 2 answers came" in capsys.readouterr().err


def test_traces_say_that_a_run_is_paused(desk, capsys):
    execute(["run", "asking.yaml", "hi", *COMMON])
    capsys.readouterr()
    assert execute(["traces", "list", "--store", "store.sqlite"]) == 0
    assert "paused" in capsys.readouterr().out


def test_a_reply_that_is_partial_is_printed_and_said_to_be(desk, capsys):
    (desk / "script.txt").write_text("a draft\n")
    (desk / "pair.yaml").write_text(ASKING.replace("kind: tool, tool: {name: boss, call: person}", "kind: agent"))
    words = ["run", "pair.yaml", "hi", "--store", "store.sqlite", "--model", "scripted/script.txt"]
    assert execute(words) == 1
    out, err = capsys.readouterr()
    assert out == "a draft\n"
    assert "(the reply is what there was of one)" in err
    assert execute([*words, "--json"]) == 1
    (row,) = json.loads(capsys.readouterr().out)["episodes"]
    assert (row["reply"], row["partial"], row["state"]) == ("a draft", True, "failed")


def test_a_run_out_of_time_exits_3_with_what_there_is(desk, capsys):
    assert execute(["run", "sleeping.yaml", "hi", *COMMON, "--run-seconds", "1"]) == 3
    out, err = capsys.readouterr()
    assert out == "hi\n"
    assert "the run took longer than 1 s" in err
    assert "go on with more of what ran out and --resume" in err
    assert execute(["run", "sleeping.yaml", "hi", *COMMON, "--node-seconds", "1", "--json"]) == 3
    assert "'t' took longer than 1 s" in json.loads(capsys.readouterr().out)["episodes"][0]["error"]


def test_off_a_terminal_nothing_but_the_footer_is_written_beside_the_reply(desk, capfd):
    (desk / "solo.yaml").write_text("name: solo\noutput: a\nnodes: [{id: a, kind: agent}]\n")
    done = subprocess.run([*ORCHESTRA, "run", "solo.yaml", "hi", *COMMON], capture_output=True, text=True, timeout=60)
    assert done.stdout == "hi\n"
    assert all("traces show" in line or line.startswith("foreseen") for line in done.stderr.splitlines())
    assert "\x1b" not in done.stderr


def test_on_a_terminal_what_happens_is_shown_and_the_reply_alone_is_printed(desk):
    (desk / "pair.yaml").write_text(PAIR)
    terminal, theirs = pty.openpty()
    command = [*ORCHESTRA, "run", "pair.yaml", "hi", *COMMON]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, env=os.environ | {"TERM": "xterm"}
    ) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                piece = os.read(terminal, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            shown += piece
        assert process.stdout.read() == b"hi\n\ndrafter: hi\n"
        assert process.wait(30) == 0
    os.close(terminal)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "✓ drafter hi" in plain


@pytest.mark.parametrize("command", [["run", "hi"], ["evaluate", "--tasks", "tasks.jsonl"]], ids=["run", "evaluate"])
def test_ctrl_c_exits_130_names_the_run_ends_the_worker_and_the_trace_says_cancelled(desk, command):
    (desk / "tasks.jsonl").write_text('{"id": "q", "input": "hi", "target": "hi"}\n')
    words = [*ORCHESTRA, command[0], "sleeping.yaml", *command[1:], *COMMON]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    for _ in range(600):
        if (desk / "begun").exists():
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == ""
    with Store.open(desk / "store.sqlite", read_only=True) as store:
        (run,) = store.runs()
        assert summary(store, run).state == "cancelled"
        spans = store.spans(run.run_id)
    assert f"--resume {run.run_id}" in err
    (tool,) = [span for span in spans if span.name.startswith("execute_tool")]
    assert tool.status_message == "cancelled"


def test_what_matches_is_written_nowhere(tmp_path, capsys):
    write(MOTIFS["chain"](["You answer.", "You check."]), tmp_path / "team.yaml")
    store = tmp_path / "store.sqlite"
    with FaultyServer([Answer(text="the key is sk-12345, as asked")]).in_process() as server:
        model = f"vllm/loopback@{server.url.removesuffix('/v1')}?token_ids=false"
        words = ["run", str(tmp_path / "team.yaml"), "say sk-12345", "--model", model, "--store", str(store)]
        assert execute([*words, "--redact", r"sk-\d+", "--redact", "nobody"]) == 0
    assert "sk-12345" in capsys.readouterr().out
    with Store.open(str(store), read_only=True) as opened:
        (episode,) = run_episodes(opened, opened.runs()[0].run_id)
    assert episode.output == "the key is ***, as asked"
    assert all(turn.redacted and turn.reply_token_ids is None for turn in episode.turns)
    assert not [file for file in tmp_path.iterdir() if b"sk-12345" in file.read_bytes()]


def test_a_redactor_that_is_no_expression_or_beside_a_recording_is_refused(tmp_path, capsys):
    write(MOTIFS["solo"](["You answer."]), tmp_path / "team.yaml")
    words = ["run", str(tmp_path / "team.yaml"), "go", "--model", "scripted/x"]
    assert execute([*words, "--redact", "("]) == 2
    assert "no regular expression" in capsys.readouterr().err
    assert execute([*words, "--redact", "x", "--record", str(tmp_path / "all.jsonl")]) == 2
    assert "--record" in capsys.readouterr().err


def test_the_command_that_goes_on_keeps_what_follows_two_dashes():
    question = Question(key="k", text="?", node="n", episode_id="e")
    paused = Answered(run_id="r1", rows=(), paid_nano=0, questions=(question,))
    assert _onward(["team.yaml", "--seed", "3", "--", "--what?"], paused) == (
        "orchestra run team.yaml --seed 3 --resume r1 --answer TEXT -- '--what?'"
    )


def test_a_redactor_takes_out_what_was_said_and_no_id(desk, capsys):
    rows = [{"id": f"case-{n}", "input": f"Is {n} right?"} for n in range(1000, 1004)]
    (desk / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write(MOTIFS["solo"](["You answer."]), desk / "solo.yaml")
    (desk / "short.txt").write_text("fine\nfine\n")
    words = ["run", "solo.yaml", "--tasks", "tasks.jsonl", "--store", "store.sqlite", "--redact", r"\d{3,}", "--json"]
    assert execute([*words, "--model", "scripted/short.txt"]) == 1  # two tasks, and the script is at its end
    first = json.loads(capsys.readouterr().out)
    (desk / "short.txt").write_text("fine\n" * 4)
    assert execute([*words, "--model", "scripted/short.txt", "--resume", first["run_id"]]) == 0
    capsys.readouterr()
    with Store.open(desk / "store.sqlite", read_only=True) as store:
        told = run_episodes(store, first["run_id"])
        journal = store.journal(first["run_id"])
    assert sorted(episode.task_id for episode in told) == [row["id"] for row in rows]
    assert [(episode.turns[-1].redacted, episode.error) for episode in told] == [(True, None)] * 4
    assert all('prompt_token_ids": [' not in json.dumps(entry.reply) for entry in journal)


def test_a_person_can_be_asked_in_a_task_whose_number_a_redactor_takes_out(desk, capsys):
    (desk / "tasks.jsonl").write_text(json.dumps({"id": "case-20261", "input": "late"}) + "\n")
    words = ["run", "asking.yaml", "--tasks", "tasks.jsonl", *COMMON, "--redact", r"\d{4,}", "--json"]
    assert execute(words) == 4
    told = json.loads(capsys.readouterr().out)
    assert len(told["questions"]) == 1
    assert execute([*words, "--resume", told["run_id"], "--answer", "yes"]) == 0


@pytest.mark.parametrize(("patterns", "said"), [([r"a(b)c9", r"(['])\w+\1"], "'abc'"), (["(?i)KEY"], "key")])
def test_every_pattern_of_a_redactor_is_itself(desk, capsys, patterns, said):
    write(MOTIFS["solo"](["You answer."]), desk / "solo.yaml")
    redacted = [word for pattern in patterns for word in ("--redact", pattern)]
    assert execute(["run", "solo.yaml", f"tell {said}", *COMMON, *redacted]) == 0
    with Store.open(desk / "store.sqlite", read_only=True) as store:
        (episode,) = run_episodes(store, store.runs()[0].run_id)
    assert episode.output == "tell ***"


@pytest.mark.parametrize("said", ["ratio 1:100:3", ":x: and [bold]", "a\ttab", "x" * 300])
def test_a_reply_is_printed_letter_by_letter(desk, said):
    write(MOTIFS["solo"](["You answer."]), desk / "solo.yaml")
    (desk / "rules.yaml").write_text(f"rules:\n- {{match: '', reply: {json.dumps(said)}}}\n")
    words = ["run", "solo.yaml", "go", "--store", "store.sqlite", "--model", "scripted/rules.yaml"]
    done = subprocess.run([*ORCHESTRA, *words], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == said + "\n"


def test_what_a_terminal_in_another_encoding_gives_is_refused(desk, capsys):
    assert execute(["run", "asking.yaml", "caf\udce9", *COMMON]) == 2  # as Python reads a letter of Latin-1
    assert "the question is no UTF-8 text (letter 4)" in capsys.readouterr().err
    assert execute(["run", "asking.yaml", "hi", *COMMON, "--json"]) == 4
    words = shlex.split(json.loads(capsys.readouterr().out)["resume"])[1:-1]
    assert execute([*words, "caf\udce9"]) == 2
    assert "an answer is no UTF-8 text" in capsys.readouterr().err
    assert execute([*words, "café"]) == 0
