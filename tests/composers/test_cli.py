import json
import os
import signal
import subprocess
import sys
import time

import pytest

from graphs.serialisation import read
from orchestra.cli import execute
from orchestra.errors import InputError
from orchestra.traces.store import Store


def words(office, *more):
    return [
        "compose",
        str(office / "tasks.jsonl"),
        "--inventory",
        str(office / "inventory.yaml"),
        "--budget",
        "10",
        "--model",
        f"scripted/{office / 'rules.yaml'}",
        "--store",
        str(office / "store.sqlite"),
        "--out",
        str(office / "team.yaml"),
        "--similarity",
        "bm25",
        *more,
    ]


def test_compose_writes_a_team_and_says_how_good_it_is(office, capsys):
    assert execute(words(office, "--report", str(office / "certificate.html"))) == 0
    assert "Team better" in capsys.readouterr().out
    assert read(office / "team.yaml").provenance.price_usd <= 10
    assert (office / "certificate.html").read_text().startswith("<!")


def test_json_is_one_document_and_nothing_else(office, capsys):
    assert execute(words(office, "--json")) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["forecast"]["list_usd"]["inside"]
    assert "reverser" in document["chosen"]
    assert document["certificate"]["schema_version"] == 1


def test_a_dry_run_writes_nothing(office, capsys):
    assert execute(words(office, "--dry-run")) == 0
    assert "nothing was called" in capsys.readouterr().out
    assert not (office / "team.yaml").exists()


def test_a_search_budget_that_runs_out_is_exit_code_3(office, capsys):
    assert execute(words(office, "--search-budget", "0.0006")) == 3
    assert "--resume" in capsys.readouterr().err
    assert (office / "team.yaml").exists()


def test_a_search_out_of_time_is_exit_code_3_and_can_be_gone_on_with(office, capsys):
    tools = (office / "tools.py").read_text()
    (office / "tools.py").write_text("import time\n" + tools.replace("    return None\n", "    time.sleep(600)\n"))
    began = time.monotonic()
    assert execute(words(office, "--try-all", "--run-seconds", "3")) == 3
    assert time.monotonic() - began < 60
    said = " ".join(capsys.readouterr().err.split())
    assert "the run took longer than 3 s" in said
    (office / "tools.py").write_text(tools)
    with Store.open(office / "store.sqlite", read_only=True) as store:
        (short,) = store.runs()
    assert execute(words(office, "--try-all", "--resume", short.run_id, "--json")) == 0
    assert json.loads(capsys.readouterr().out)["run_id"] == short.run_id
    assert (office / "team.yaml").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--budget", "-1"], "at least zero"),
        (["--budget", "much"], "not an amount"),
        (["--budget", "1"], "below the cheapest"),
        (["--inventory", "nowhere.yaml"], "nowhere.yaml"),
        (["--composer", "online-knapsak"], "did you mean 'online-knapsack'"),
        (["--motif", "stra"], "did you mean 'star'"),
        (["--model", "local/nowhere"], "orchestra models pull"),
        (["--report", "certificate.pdf"], ".json or .html"),
        (["--resume", "never"], "no run"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(office, capsys, change, message):
    assert execute(words(office, *change)) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert not (office / "team.yaml").exists()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("tasks.jsonl", '{"id": "a", "input": "x", "target": "y"}\n{oops\n', "line 2"),
        ("tasks.jsonl", '{"id": "a", "input": "x", "target": "y", "scorer": "nummeric"}\n', "did you mean 'numeric'"),
        ("tasks.jsonl", '{"id": "a", "input": "x", "targte": "y"}\n', "target"),
        ("inventory.yaml", "components: []\n", "inventory is empty"),
        (
            "inventory.yaml",
            "components: [{name: a, kind: tool, description: d, price_usd: -3, call: 'tools:x'}]",
            "price",
        ),
        (
            "inventory.yaml",
            "components:\n" + 2 * "  - {name: a, kind: tool, description: d, price_usd: 3, call: 't:x'}\n",
            "a",
        ),
    ],
)
def test_a_wrong_file_is_named_with_what_is_wrong(office, capsys, file, text, message):
    (office / file).write_text(text)
    assert execute(words(office)) == 2
    told = capsys.readouterr().err
    assert file in told
    assert message in told


def test_interrupting_leaves_a_search_that_goes_on(office):
    (office / "tools.py").write_text("import time\n" + (office / "tools.py").read_text())
    text = (office / "tools.py").read_text()
    (office / "tools.py").write_text(text.replace("(text):\n", "(text):\n    time.sleep(0.03)\n"))
    command = [sys.executable, "-m", "orchestra", *words(office)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ, start_new_session=True
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.2)
        if (office / "store.sqlite").exists() and _calls(office) >= 3:
            break
    process.send_signal(signal.SIGINT)
    try:
        _, told = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, told
    assert "Traceback" not in told
    run_id = told.rsplit("--resume ", 1)[1].split()[0]
    assert execute(words(office, "--resume", run_id)) == 0


def _calls(office):
    try:
        with Store.open(office / "store.sqlite", read_only=True) as store:
            return sum(len(store.journal(record.run_id)) for record in store.runs())
    except InputError:  # the other process has only begun to write it
        return 0
