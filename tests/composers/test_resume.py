"""A search that is killed without warning, again and again, and goes on: the server counts what it was asked."""

import asyncio
import json
import os
import random
import re
import signal
import sqlite3
import sys
from contextlib import closing
from importlib.util import find_spec

import pytest

from orchestra.evaluation.certificate import read_certificate
from orchestra.ledger import nano
from orchestra.testing import Answer, FaultyServer
from orchestra.traces.store import Store

ATTEMPTS = """\
import json, os, sys
import composers.composing, orchestra.models.litellm
from orchestra.cli import execute

for line in sys.stdin:
    words = json.loads(line)
    child = os.fork()
    if child == 0:
        with open("told.txt", "a") as told:
            os.dup2(told.fileno(), 1), os.dup2(told.fileno(), 2)
        os._exit(execute(words))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def copied(asked):
    """The tool's message, copied out of the prompt where there is one."""
    prompt = asked.body["messages"][-1]["content"]
    found = re.search(r"\n[\w.-]+: (.+)\nAnswer:", prompt)
    return Answer(text=found[1] if found else "no idea", delay_seconds=0.01)


@pytest.mark.skipif(find_spec("litellm") is None, reason="the server is reached through litellm")
async def test_a_search_killed_again_and_again_ends_as_if_it_had_not_been(office):
    (office / "tools.py").write_text(
        (office / "tools.py").read_text().replace("(text):\n", "(text):\n    import time; time.sleep(0.01)\n")
    )
    async with FaultyServer(copied) as server:
        process = await _attempts(office, server.url)
        try:
            assert await _attempt(process, _words(office, "whole")) == 0
            whole_requests = len(server.served)
            assert whole_requests > 50
            rng = random.Random(20)
            words = _words(office, "killed")
            kills = 0
            store = office / "killed.sqlite"
            while (code := await _attempt(process, words, store, rng.randint(8, whole_requests // 3))) != 0:
                assert code == -signal.SIGKILL
                kills += 1
                with Store.open(store, read_only=True) as left:
                    words = _words(office, "killed", "--resume", left.runs()[0].run_id)
            assert kills >= 2
        finally:
            process.kill()
            await process.wait()
        requests = len(server.served) - whole_requests
    whole, killed = (read_certificate(office / f"{name}.json") for name in ("whole", "killed"))
    assert killed.verdict == whole.verdict
    assert killed.team.components == whole.team.components
    assert killed.components == whole.components
    _books_agree(office / "killed.sqlite", killed, requests, kills)
    search = next(row for row in killed.spend.rows if row.category == "search")
    assert search.calls == next(row for row in whole.spend.rows if row.category == "search").calls
    assert {entry.search_usd for entry in killed.break_even} == {search.paid_usd}


def _books_agree(store_file, certificate, requests, kills):
    """Every request is in the journal before it is sent, and nothing that was answered was asked again."""
    with Store.open(store_file, read_only=True) as store:
        (run,) = store.runs()
        calls = [entry for entry in store.journal(run.run_id) if entry.kind == "model"]
        booked = [record.entry for record in store.ledger_entries(run.run_id)]
    begun = [entry.key for entry in calls if entry.event == "begin"]
    finished = [entry.key for entry in calls if entry.event == "finish"]
    assert len(finished) == len(set(finished))
    assert len(finished) <= requests <= len(begun)
    assert len(begun) - len(finished) <= 32 * kills  # in flight at the kills
    paid = sum(entry.nano for entry in booked if entry.event in ("settle", "unknown"))
    assert nano(certificate.spend.paid_usd) == paid


def _words(office, name, *more):
    return [
        *("compose", str(office / "tasks.jsonl"), "--inventory", str(office / "inventory.yaml"), "--budget", "10"),
        *("--model", "openai/test", "--price", "0.10,0.40", "--search-budget", "1", "--similarity", "bm25"),
        *("--store", str(office / f"{name}.sqlite"), "--out", str(office / f"{name}.yaml")),
        *("--report", str(office / f"{name}.json"), *more),
    ]


async def _attempts(office, url):
    env = os.environ | {"OPENAI_API_BASE": url, "OPENAI_API_KEY": "none", "NO_PROXY": "127.0.0.1"}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ATTEMPTS),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=office,
        env=env,
    )


def _finished(store_file):
    """Calls that are in the journal with their replies."""
    if not store_file.exists():
        return 0
    with closing(sqlite3.connect(store_file)) as store:
        try:
            return store.execute("SELECT count(*) FROM journal WHERE event = 'finish'").fetchone()[0]
        except sqlite3.OperationalError:  # it is being made
            return 0


async def _attempt(process, words, store_file=None, calls=0):
    """The exit code of one attempt; with a store, killed when it has so many calls more."""
    before = 0 if store_file is None else _finished(store_file)
    process.stdin.write(json.dumps(words).encode() + b"\n")
    child = int(await process.stdout.readline())
    ended = asyncio.ensure_future(process.stdout.readline())
    if store_file is not None:
        async with asyncio.timeout(120):
            while _finished(store_file) < before + calls and not ended.done():
                await asyncio.sleep(0.01)
        if not ended.done():  # else it was done before it could be killed
            os.kill(child, signal.SIGKILL)
    return int(await ended)
