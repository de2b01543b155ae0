"""A vLLM server as a child process: started in its own environment, waited for, and ended with everything it started.

Always true: when the block of `serving` is left, by whatever way, no process of the server is left; and none outlives
this process, even one that is killed (`guard.py` sees to both).
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestra.errors import InputError, OrchestraError
from orchestra.models import calibration, weights
from orchestra.models.serving import guard
from orchestra.models.serving.adapters import Adapters
from orchestra.models.serving.environment import Environment, environment
from orchestra.models.serving.publishing import admitted
from orchestra.models.serving.record import Record

HOST = "127.0.0.1"
START_SECONDS = 900.0
"""A server that does not answer after this long has failed: large weights take minutes to read."""
LOG_LINES = 15
"""Last lines of a failed server's log that an error repeats."""
LORA_RANK = 32
LORAS = 4
"""Adapters that one batch may mix."""
HERMES = "hermes"
"""Format of tool calls of most templates that know tools."""


class ServerFailed(OrchestraError):
    """The server ended by itself, or never answered; the message ends with the last lines of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that answers."""

    url: str
    """Such as `http://127.0.0.1:8000`."""
    model: str
    """Name of the base weights on it."""
    record: Record
    adapters: Adapters
    loaded: tuple[str, ...]
    """Adapters it was started with, with their versions."""
    log: Path
    """What it wrote."""
    process: "subprocess.Popen[bytes]"
    """The guard that holds it."""

    @property
    def name(self) -> str:
        """What `orchestra run --model` takes."""
        return f"vllm/{self.model}@{self.url}"

    async def ended(self) -> None:
        """Wait until it ends by itself, which it should not.

        Raises:
            ServerFailed: when it does.
        """
        while self.process.poll() is None:
            await asyncio.sleep(0.2)
        raise _failed(f"the vLLM server at {self.url} ended with code {self.process.returncode}", self.log)


@asynccontextmanager
async def serving(
    model: str,
    *,
    adapters: Mapping[str, Path] | None = None,
    port: int = 0,
    python: str | None = None,
    tool_parser: str | None = None,
    lora_rank: int = LORA_RANK,
    options: tuple[str, ...] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> AsyncIterator[Server]:
    """A running server of `model`; ended when the block is left.

    Args:
        model: a Hugging Face folder, a pulled model such as `smollm2-135m-instruct`, or a hub id on this machine.
        adapters: name -> folder of adapters loaded before it is handed over; one with a probe beside it must pass it.
        port: of loopback; 0 takes a free one.
        python: interpreter of an environment with vLLM; `None` looks at `ORCHESTRA_VLLM_PYTHON`, then at this one.
        tool_parser: vLLM's name for the format of tool calls; `None` takes `hermes` if the chat template knows tools.
        lora_rank: largest rank of an adapter.
        options: more arguments for vLLM, as on its command line.
        tell: hears what is being done, a line at a time.

    Raises:
        InputError: no such weights, no vLLM, or the port is taken; nothing was started.
        ServerFailed: it did not come up.
    """
    place = environment(python)
    folder, name = await asyncio.to_thread(served_folder, model, tell)
    port = _free_port(port)
    parser = tool_parser or (HERMES if _knows_tools(folder) else None)
    record = Record(
        url=f"http://{HOST}:{port}",
        model=name,
        root=str(folder),
        weights_sha256=await asyncio.to_thread(weights.content_hash, folder),
        packed_sha256=await asyncio.to_thread(_packed_hash, model),
        dtype=_dtype(folder),
        device=f"vllm {place.version} on {'cpu' if place.on_cpu else 'gpu'}",
        threads=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        tools=parser is not None,
        processed_logprobs=True,
        pid=os.getpid(),
        started_at=calibration.now(),
    )
    log = weights.cache_dir() / "servers" / f"{port}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [*_command(place, record, port, parser, lora_rank), *options]
    tell(f"starting vLLM {place.version} on {'the CPU' if place.on_cpu else 'the GPU'}")
    process = _started(command, place, log)
    control = Adapters(record.url, base=name, root=folder)
    try:
        await _answers(control, process, log, tell)
        record.write()
        loaded = []
        for adapter, path in (adapters or {}).items():
            tell(f"loading adapter {adapter}")
            loaded.append((await admitted(path, control, name=adapter)).served)
        yield Server(
            url=record.url,
            model=name,
            record=record,
            adapters=control,
            loaded=tuple(loaded),
            log=log,
            process=process,
        )
    finally:
        record.forget()
        await control.close()
        await asyncio.shield(asyncio.to_thread(_end, process))


def served_folder(model: str, tell: Callable[[str], None]) -> tuple[Path, str]:
    """The folder vLLM reads for `model`, and the name it is served under; a GGUF file is unpacked to bfloat16 first.

    Raises:
        InputError: no such weights are here.
    """
    wanted = model.removeprefix("local/")
    path = weights.path_of(wanted)
    named = Path(wanted).expanduser()
    name = (named.stem if named.suffix == ".gguf" else named.name) if named.exists() else wanted
    if weights.gguf_in(path) is None:
        return path.resolve(), name
    from orchestra.models.local import prepare

    tell(f"unpacking {name} to bfloat16")
    return prepare(path).resolve(), name


def _packed_hash(model: str) -> str:
    """SHA-256 of the GGUF file that `model` is; empty when it is none. Trainers over it call their base by it."""
    path = weights.path_of(model.removeprefix("local/"))
    return "" if weights.gguf_in(path) is None else weights.content_hash(path)


def _command(place: Environment, record: Record, port: int, parser: str | None, lora_rank: int) -> list[str]:
    command = [place.python, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", record.root, "--served-model-name", record.model, "--host", HOST, "--port", str(port)]
    command += ["--dtype", record.dtype, "--seed", "0"]
    # Log-probabilities of what is drawn from, and no sampling defaults of the model's own behind the request's back.
    command += ["--logprobs-mode", "processed_logprobs", "--generation-config", "vllm"]
    command += ["--enable-lora", "--max-lora-rank", str(lora_rank), "--max-loras", str(LORAS)]
    command += ["--enable-prompt-tokens-details", "--disable-uvicorn-access-log"]
    if place.on_cpu:
        command += ["--enforce-eager"]
        # vLLM 0.32 sets a seeded request's generator back when its prompt is read in pieces, which a CPU's cannot: the
        # server dies ("CPU Generator does not use offset").
        command += ["--no-enable-chunked-prefill"]
    if parser is not None:
        command += ["--enable-auto-tool-choice", "--tool-call-parser", parser]
    return command


def _started(command: list[str], place: Environment, log: Path) -> "subprocess.Popen[bytes]":
    variables = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    if place.on_cpu:
        variables["VLLM_CPU_KVCACHE_SPACE"] = os.environ.get("VLLM_CPU_KVCACHE_SPACE", "2")
    with log.open("wb") as sink:
        return subprocess.Popen(
            [sys.executable, "-I", str(guard.__file__), *command],
            stdin=subprocess.PIPE,
            stdout=sink,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env={**os.environ, **variables},
            start_new_session=True,  # Ctrl-C at a terminal reaches us alone, and we end it in order
        )


async def _answers(
    control: Adapters, process: "subprocess.Popen[bytes]", log: Path, tell: Callable[[str], None]
) -> None:
    """Wait until the server answers.

    Raises:
        ServerFailed: it ended, or took too long.
    """
    began, told = time.monotonic(), ""
    while not await control.is_up():
        if process.poll() is not None:
            raise _failed(f"the vLLM server did not start (it ended with code {process.returncode})", log)
        if time.monotonic() - began > START_SECONDS:
            raise _failed(f"the vLLM server did not answer within {START_SECONDS:.0f} s", log)
        doing = _doing(log)
        if doing and doing != told:
            tell(doing)
            told = doing
        await asyncio.sleep(0.2)


_PHASES = {
    "Resolved architecture": "reading the model's configuration",
    "Starting to load model": "loading weights",
    "Loading weights took": "making room for transcripts",
    "Starting vLLM": "opening the port",
}
"""Words in vLLM's log, in order, and what they mean to a person."""


def _doing(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace")
    return next((said for words, said in reversed(_PHASES.items()) if words in text), "")


def _failed(what: str, log: Path) -> ServerFailed:
    with contextlib.suppress(OSError):
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        tail = "".join(f"\n  {line[:300]}" for line in lines[-LOG_LINES:])
        return ServerFailed(f"{what}; the whole log is {log}; it ends:{tail}")
    return ServerFailed(f"{what}; it left no log")


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    try:
        process.wait(guard.PATIENCE_SECONDS + 10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as cause:
            raise InputError(
                f"port {port} of {HOST} cannot be used ({cause.strerror}); choose another --port"
            ) from cause
        return int(probe.getsockname()[1])


def _knows_tools(folder: Path) -> bool:
    template = folder / "chat_template.jinja"
    if template.is_file():
        return "tool" in template.read_text(encoding="utf-8")
    config = weights.remembered(folder / "tokenizer_config.json") or {}
    return "tool" in str(config.get("chat_template") or "")


def _dtype(folder: Path) -> str:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
    return dtype if dtype in ("bfloat16", "float16", "float32") else "bfloat16"
