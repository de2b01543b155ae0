"""`orchestra serve` with the real vLLM: it measures, serves, and leaves no process behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from orchestra.ledger import Price
from orchestra.models.vllm import open_vllm

pytestmark = pytest.mark.live

START_SECONDS = 300.0
END_SECONDS = 60.0


def processes(group):
    """Ids of the processes of a session or group that are alive."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp, session = stat.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z" and group in (int(pgrp), int(session)):
            found.append(int(stat.parent.name))
    return found


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_it_measures_serves_and_leaves_no_process_when_interrupted(vllm_python, tmp_path):
    command = [sys.executable, "-m", "orchestra", "serve", "smollm2-135m-instruct", "--port", "0", "--calibrate"]
    command += ["--python", vllm_python, "--json", "--vllm=--max-model-len", "--vllm=1024"]
    serve = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        said = ""
        while not said.endswith("\n}\n") and (line := serve.stdout.readline()):
            said += line
        document = json.loads(said)
        (guard,) = children(serve.pid)
        (server,) = children(guard)
        held = processes(server)
        assert len(held) >= 2  # the server and its engine
        asyncio.run(priced(document))
        serve.send_signal(signal.SIGINT)
        assert serve.wait(END_SECONDS) == 0, serve.stderr.read()
    finally:
        serve.kill()
        serve.communicate()
    assert processes(server) == []
    assert not any(os.path.exists(f"/proc/{pid}") for pid in held)


async def priced(document):
    """The measured speed, its date and the price that follows, in the client too."""
    speed = document["calibration"]
    read, written = speed["input_tokens_per_second"], speed["output_tokens_per_second"]
    assert read > written > 0
    assert speed["measured_at"][:4].isdigit()
    expected = Price.from_speed("0.10", read, written, source="here")
    model = open_vllm(document["model"].removeprefix("vllm/"))
    assert model.price.cost(10**6, 10**6) == expected.cost(10**6, 10**6)
    assert model.price.source.endswith(f"measured {speed['measured_at'][:10]}")
    dearer = open_vllm(document["model"].removeprefix("vllm/"), machine_usd_per_hour=Decimal("1.00"))
    assert dearer.price.cost(10**9, 0) == pytest.approx(10 * model.price.cost(10**9, 0), rel=1e-6)
    await model.meet()
    await model.close()
    assert model.capabilities.context_tokens == 1024
