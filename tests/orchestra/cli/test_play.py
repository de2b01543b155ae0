"""`orchestra play`, as a person meets it: tables, JSON, refusals, kills and interruptions."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pytest

from orchestra.cli import execute
from orchestra.cli.play import CALL_SECONDS
from orchestra.cli.several import several, spelled_out
from orchestra.environments import matches
from orchestra.errors import InputError
from orchestra.models.weights import path_of
from orchestra.testing import Answer, FaultyServer
from orchestra.traces.store import Store

ORCHESTRA = [sys.executable, "-m", "orchestra"]
STORE = ["--store", "store.sqlite"]
BETS = "rules:\n- match: '(?s).*LEGAL ACTIONS:\\n.*(<[^>]*>)'\n  reply: '<answer>\\1</answer>'\n"


@pytest.fixture
def desk(tmp_path, monkeypatch):
    (tmp_path / "bets.yaml").write_text(BETS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def document(capsys, words, code=0):
    assert execute([*words, *STORE, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_programs_play_and_a_table_says_what_came_of_it(desk, capsys):
    assert execute(["play", "tic-tac-toe", "--teams", "mcts:50", "random", "--games", "6", *STORE]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("tic-tac-toe: 6 games; a return lies between -1 and 1\n")
    assert "mcts:50" in out
    assert "valid" not in out, "programs make no other moves"
    assert re.search(r"\$0\.00 · orchestra traces show \S+", err)


def test_both_seats_are_told_each_way_and_together(desk, capsys):
    words = ["play", "kuhn-poker", "--teams", "scripted/bets.yaml", "random", "--games", "5", "--both-seats"]
    told = document(capsys, words)
    assert told["seatings"] == [["scripted/bets.yaml", "random"], ["random", "scripted/bets.yaml"]]
    assert [(row["team"], row["seat"]) for row in told["results"]][-2:] == [
        ("scripted/bets.yaml", None),
        ("random", None),
    ]
    assert (told["games_asked"], told["games_finished"], told["games_failed"], told["ran_out"]) == (10, 10, 0, None)
    assert execute([*words, *STORE]) == 0
    assert "5 games each way" in capsys.readouterr().out


def test_a_model_s_valid_moves_and_tokens_are_shown(desk, capsys):
    assert execute(["play", "kuhn-poker", "--teams", "scripted/bets.yaml", "--games", "4", *STORE]) == 0
    out = capsys.readouterr().out
    assert "valid" in out
    assert re.search(r"100\.0 % +4\n.* 51–100 *\n", out), "of four games, with the interval below"


@pytest.mark.parametrize(("columns", "called"), [("80", "A"), ("120", "scripted/bets.yaml")])
def test_where_names_do_not_fit_letters_stand_for_them(desk, capsys, monkeypatch, columns, called):
    monkeypatch.setenv("COLUMNS", columns)
    (desk / "bets.yaml").write_text("rules:\n- match: ''\n  reply: I would rather not, if it is all the same to you.\n")
    assert execute(["play", "tic-tac-toe", "--teams", "scripted/bets.yaml", "random", "--games", "2", *STORE]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= int(columns) for line in lines)
    assert any(line.startswith(f"{called}  ") for line in lines)
    assert ("A is scripted/bets.yaml" in lines) == (called == "A")


def test_what_can_be_won_of_a_team_is_told_below_the_table(desk, capsys):
    words = ["play", "kuhn-poker", "--teams", "scripted/bets.yaml", "random", "--games", "2", "--exploitability", "16"]
    assert execute([*words, *STORE]) == 0
    told = " ".join(capsys.readouterr().out.split())
    # Who always bets wins a chip of a jack that folds and loses two to a king: (-1 + 0 + 2) / 3 from either seat.
    won = "exploitability of scripted/bets.yaml: 0.333 chips a game (0.333 to 0.333)"
    assert f"{won}, estimated from 16 replies at each decision" in told
    assert "up to 0.0 % of replies are no move" in told
    assert list(document(capsys, words)["exploitability"]) == ["scripted/bets.yaml"]


def test_a_mean_and_its_intervals_are_numbers_of_the_game(desk, capsys):
    row, _ = document(capsys, ["play", "kuhn-poker", "--teams", "cfr", "random", "--games", "50"])["results"]
    low, high = row["return"]["interval_95"]
    assert -2 <= low < row["return"]["mean"] < high <= 2
    assert row["normalised"]["mean"] == pytest.approx(25 * (row["return"]["mean"] + 2))
    assert row["wins"] + row["draws"] + row["losses"] == row["games"] == 50
    assert row["won"]["mean"] == row["wins"] / 50
    low, high = row["won"]["interval_95"]
    assert 0 <= low < row["won"]["mean"] < high <= 1
    assert row["drawn"]["interval_95"] == [0.0, pytest.approx(0.0711, abs=1e-4)], "none of 50 is not never"


def test_options_reach_the_environment_and_the_player(desk, capsys):
    words = ["play", "kuhn-poker", "--teams", "scripted/bets.yaml", "random", "--games", "2", "--thinking"]
    told = document(capsys, [*words, "--option", "length=none", "--temperature", "0.5"])
    assert told["options"] == {"thinking": True, "length": "none"}
    assert told["results"][0]["valid"]["mean"] == 0.0, "the script does not think"
    with Store.open("store.sqlite", read_only=True) as store:
        (chat, *_) = [span for span in store.spans(told["run_id"]) if span.name.startswith("chat")]
    assert chat.attributes["gen_ai.request.temperature"] == 0.5
    assert chat.attributes["gen_ai.request.max_tokens"] == matches.THINKING_TOKENS


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["kuhn-pokr", "--teams", "random"], "did you mean 'kuhn-poker'"),
        (["kuhn-poker:x", "--teams", "random"], "takes nothing after ':'"),
        (["kuhn-poker", "--teams", "random", "--option", "draw=0.5"], "leave it out"),
        (["kuhn-poker"], "--teams"),
        (["kuhn-poker", "--teams", "--games", "3"], "--teams needs at least one word"),
        (["kuhn-poker", "--teams", "a.yaml", "b.yaml", "c.yaml"], "2 seats, and 3 teams"),
        (["kuhn-poker", "--teams", "nowhere.yaml", "random"], "no such team file"),
        (["kuhn-poker", "--teams", "mcts:10", "random"], "others' secrets"),
        (["kuhn-poker", "--teams", "random", "--option", "histroy=full"], "did you mean 'history'"),
        (["kuhn-poker", "--teams", "random", "--games", "0"], "--games"),
        (["kuhn-poker", "--teams", "random", "--exploitability", "9"], "programs alone are seated"),
        (["tic-tac-toe", "--teams", "openai/mine", "--exploitability", "9"], "not for 'tic-tac-toe'"),
        (["kuhn-poker", "--teams", "openai/mine", "--exploitability", "exactly"], "not 'exactly'"),
        (["kuhn-poker", "--teams", "openai/mine", "--exploitability", "0"], "at least one reply"),
        (["kuhn-poker", "--teams", "random", "--resume", "never"], "no run"),
        (["kuhn-poker", "--teams", "openai/gpt-4.1-mini", "random"], "--max-cost"),
        (["kuhn-poker", "--teams", "openai/mine", "random", "--max-cost", "1"], "--price"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(desk, capsys, words, message):
    assert execute(["play", *words, *STORE]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert told.out == ""
    assert "Traceback" not in told.err


def test_a_cap_that_runs_out_exits_3_with_what_was_played_and_how_to_go_on(desk, capsys):
    words = ["play", "kuhn-poker", "--teams", "scripted/bets.yaml", "--games", "9", "--concurrency", "1", *STORE]
    assert execute([*words, "--max-cost", "0.0003"]) == 3
    out, err = capsys.readouterr()
    played, run_id = re.search(r"(\d+) of 9 games were played", err)[1], re.search(r"--resume (\S+)", err)[1]
    assert 0 < int(played) < 9
    assert re.search(rf" 0 +{played} ", out), "games are counted where some are missing"
    assert execute([*words, "--max-cost", "1", "--resume", run_id]) == 0


def test_a_match_of_nothing_but_failures_exits_1_and_says_the_first(desk, capsys):
    (desk / "fails.yaml").write_text("rules:\n- match: ''\n  error: out of order\n")
    assert execute(["play", "kuhn-poker", "--teams", "scripted/fails.yaml", "random", "--games", "3", *STORE]) == 1
    out, err = capsys.readouterr()
    assert "3 of 3 games failed, seating-1/0 with: " in err
    assert "out of order" in err
    assert "failed" in out


def moves_of_the_card(record):
    """A move that depends on what was asked alone, a moment later."""
    card = re.search(r"[Yy]our (?:own )?card is (\w)", record.body["messages"][-1]["content"])
    text = "<answer><BET></answer>" if card and card[1] == "K" else "<answer><PASS></answer>"
    return Answer(text=text, delay_seconds=0.05)


@pytest.fixture
def server():
    with FaultyServer(moves_of_the_card).in_process() as running:
        yield running


def model_of(server):
    return f"vllm/loopback@{server.url.removesuffix('/v1')}?token_ids=false"


def begun(words, count, server):
    """The command in a process of its own, when the server has been asked so often."""
    process = subprocess.Popen([*ORCHESTRA, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(2400):
        if server.counts().requests >= count or process.poll() is not None:
            break
        time.sleep(0.025)
    return process


def test_a_killed_match_goes_on_where_it_was_and_comes_to_the_same(desk, capsys, server):
    words = ["play", "kuhn-poker", "--teams", model_of(server), "cfr", "--games", "20", "--concurrency", "2", "--json"]
    assert execute([*words, "--store", "whole.sqlite"]) == 0
    whole, asked = json.loads(capsys.readouterr().out), server.counts().requests
    process = begun([*words, *STORE], asked + asked // 2, server)
    process.kill()
    process.communicate(timeout=30)
    with Store.open("store.sqlite", read_only=True) as store:
        (run,) = store.runs()
        answered = sum(entry.event == "finish" for entry in store.journal(run.run_id))
    assert 0 < answered < asked
    before = server.counts().requests
    again = document(capsys, [*words[:-1], "--resume", run.run_id])
    assert again["results"] == whole["results"]
    assert server.counts().requests - before == asked - answered, "what was answered is not asked again"


def test_ctrl_c_exits_130_and_names_the_run_to_go_on_with(desk, server):
    words = ["play", "kuhn-poker", "--teams", model_of(server), "random", "--games", "99", "--concurrency", "2", *STORE]
    process = begun(words, 4, server)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    with Store.open("store.sqlite", read_only=True) as store:
        (run,) = store.runs()
    assert f"go on with the same command and --resume {run.run_id}" in err
    assert out == ""


def test_on_a_terminal_progress_is_shown_and_the_table_is_alone_on_the_output(desk):
    terminal, theirs = pty.openpty()
    command = [*ORCHESTRA, "play", "kuhn-poker", "--teams", "cfr:10", "random", "--games", "4", *STORE]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, env=os.environ | {"TERM": "xterm"}
    ) as process:
        os.close(theirs)
        shown = b""
        while piece := _read(terminal):
            shown += piece
        out = process.stdout.read().decode()
    os.close(terminal)
    assert "cfr:10 against random" in shown.decode()
    assert "4/4" in shown.decode()
    assert "━" not in out


def _read(terminal):
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x", "--teams", "a", "b", "--json"], ["x", "--teams", "a", "--teams", "b", "--json"]),
        (["--teams=a", "b", "x"], ["--teams=a", "--teams", "b", "--teams", "x"]),
        (["--teams", "a", "--teams", "b"], ["--teams", "a", "--teams", "b"]),
        (["--games", "3", "x"], ["--games", "3", "x"]),
        (["--teams", "a", "--", "--teams", "x"], ["--teams", "a", "--", "--teams", "x"]),
    ],
)
def test_an_option_of_several_words_is_written_before_each(words, said):
    assert spelled_out(words, several("--teams")(lambda: None)) == said
    assert spelled_out(words, lambda: None) == words


def test_an_option_of_several_words_needs_one():
    with pytest.raises(InputError, match="--teams needs at least one word"):
        spelled_out(["--teams"], several("--teams")(lambda: None))


def test_a_call_may_take_as_long_as_in_python():
    assert CALL_SECONDS == matches.CALL_SECONDS


def _pulled():
    try:
        path_of("smollm2-135m-instruct")
    except InputError:
        return False
    return find_spec("transformers") is not None


@pytest.mark.model
@pytest.mark.skipif(not _pulled(), reason="needs the embedded model's weights")
def test_the_embedded_model_sits_down_to_a_few_games(desk, capsys):
    words = ["play", "kuhn-poker", "--teams", "local/smollm2-135m-instruct", "cfr", "--games", "4"]
    told = document(capsys, words)
    row = told["results"][0]
    assert (row["team"], row["games"], told["games_failed"]) == ("local/smollm2-135m-instruct", 4, 0)
    assert row["output_tokens"] > 0
    assert float(told["paid_usd"]) > 0
    assert document(capsys, [*words, "--resume", told["run_id"]])["results"] == told["results"]


@pytest.mark.model
@pytest.mark.skipif(not _pulled(), reason="needs the embedded model's weights")
def test_what_can_be_won_of_the_embedded_model_is_told_beside_its_games(desk, capsys):
    words = [
        "kuhn-poker",
        "--teams",
        "local/smollm2-135m-instruct",
        "random",
        "--games",
        "2",
        "--exploitability",
        "exact",
    ]
    (found,) = document(capsys, ["play", *words])["exploitability"].values()
    assert found["exact"]
    assert 0 <= found["chips"] <= 2
    assert len(found["states"]) == 12
