"""Tools: plain functions `str -> str | None`, run in worker processes that can be killed, and tools of MCP servers.

Always true: a call ends within its time limit with text, with `None` (the tool has nothing to say) or with a
`ToolError` that says what happened; whatever a tool does to its worker, the next call is answered; a tool that hangs
holds up its own worker only. A worker is a clean interpreter that imports no part of Orchestra, and is reused until a
tool breaks it. Its memory limit is the growth of its address space during one call; only Linux enforces it. What an MCP
server does is not limited but in time.

This keeps mistakes in, not malice: a tool runs with the rights of the user, which is why code from outside the
inventory's folder and the installed plug-ins has to be trusted by name.
"""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from graphs import Tool
from orchestra.agents import tool_worker
from orchestra.agents.mcp_config import PREFIX
from orchestra.agents.tool_sources import Source, check_trusted, source_hash, source_of
from orchestra.errors import MissingExtra, ToolError

if TYPE_CHECKING:
    from orchestra.agents.mcp import McpServers

__all__ = ["ToolPool", "check_trusted", "source_hash"]

START_SECONDS = 60.0
"""A worker that has not reported by then will not: a loaded machine takes two or three."""
MOST_GROWN_MIB = 1024
"""A worker that has grown by more is replaced: what earlier tools left behind must not add up."""
_MOST_LINE_BYTES = 16 * tool_worker.MOST_OUTPUT_BYTES


class ToolPool:
    """Worker processes for tools; an async context manager of one event loop.

    Args:
        folders: where tools' modules are looked up for calls that name no folder of their own, in order.
        trust: whether code from elsewhere may run.
        workers: how many calls run at once; more of them wait.
    """

    def __init__(self, folders: Sequence[Path] = (), *, trust: bool = False, workers: int = 2) -> None:
        if workers < 1:
            raise ValueError(f"a pool needs at least one worker, got {workers=}")
        self.folders = tuple(folders)
        self.trust = trust
        self._free = asyncio.Semaphore(workers)
        self._idle: list[_Worker] = []
        self._closed = False
        self._reaping: set[asyncio.Task[None]] = set()
        self._mcp: McpServers | None = None
        self._source = lru_cache(maxsize=4096)(source_of)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every idle worker; calling it twice is harmless."""
        self._closed = True
        if self._mcp is not None:
            await self._mcp.close()
        while self._idle:
            self._retire(self._idle.pop())
        while self._reaping:
            await asyncio.gather(*self._reaping)

    async def call(self, tool: Tool, text: str, *, folder: Path | None = None) -> str | None:
        """What the tool answers to `text`; `None` when it has nothing to say.

        Cancelling the call kills its worker.

        Args:
            tool: which function, and its limits.
            text: its input.
            folder: where its module is looked up first; `None` takes the pool's folders.

        Raises:
            ToolError: when it raised, hung, crashed, or answered with something that is not text.
            InputError: when its code is not trusted, or its `call` names nothing.
        """
        folders = self.folders if folder is None else (folder,)
        if tool.call.startswith(PREFIX):
            return await self._servers().call(tool, text, folders)
        source = self._source(tool.call, folders, trust=self.trust)
        async with self._free:
            worker = await self._worker(tool)
            try:
                reply = await worker.ask(tool, source, text)
            except BaseException:
                self._retire(worker)
                raise
            broken = reply.get("error") == "memory" or reply["grown_mib"] > MOST_GROWN_MIB
            if broken or self._closed:
                self._retire(worker)
            else:
                self._idle.append(worker)
        if "error" in reply:
            raise ToolError(f"{_titled(tool)} {_told(tool, reply)}{_quoted(reply)}")
        answer: str | None = reply["text"]
        return answer

    async def parameters(self, tool: Tool, *, folder: Path | None = None) -> Mapping[str, Any] | None:
        """JSON Schema of the tool's arguments; `None` means it takes one text.

        Raises:
            ToolError: when its MCP server cannot be reached, or has no such tool.
            InputError: when that server is not listed or not trusted.
        """
        if not tool.call.startswith(PREFIX):
            return None
        return await self._servers().parameters(tool, self.folders if folder is None else (folder,))

    def _servers(self) -> "McpServers":
        if self._mcp is None:
            try:
                from orchestra.agents.mcp import McpServers
            except ModuleNotFoundError as cause:
                raise MissingExtra("mcp", "a tool of an MCP server") from cause
            self._mcp = McpServers(trust=self.trust)
        return self._mcp

    async def _worker(self, tool: Tool) -> "_Worker":
        while self._idle:
            worker = self._idle.pop()
            if worker.process.poll() is None:
                return worker
            self._retire(worker)
        started: _Worker | None = None
        try:
            started = worker = _Worker()
            await worker.start()
        except BaseException as error:
            if started is not None:
                self._retire(started)
            if isinstance(error, OSError | TimeoutError):
                raise ToolError(f"{_titled(tool)} cannot run: its worker process did not start ({error!r})") from error
            raise
        return worker

    def _retire(self, worker: "_Worker") -> None:
        worker.kill()
        task = asyncio.get_running_loop().create_task(worker.reap())
        self._reaping.add(task)
        task.add_done_callback(self._reaping.discard)


class _Worker:
    """One process and the socket it is spoken to through."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._ids = itertools.count(1)
        one_thread = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        # A second arena of glibc takes 64 MiB of addresses when its thread first allocates: out of a tool's own growth,
        # when the thread that watches its time is late to begin.
        one_thread["MALLOC_ARENA_MAX"] = "1"
        try:
            # A session of its own: Ctrl-C does not reach it, and killing its group takes the tool's children along.
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-B", tool_worker.__file__, str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=one_thread | os.environ,
                start_new_session=True,
            )
        except BaseException:
            self._socket.close()
            raise
        finally:
            theirs.close()

    async def start(self) -> None:
        """Wait until it reports."""
        self._streams = await asyncio.open_connection(sock=self._socket, limit=_MOST_LINE_BYTES)
        async with asyncio.timeout(START_SECONDS):
            line = await self._exchange({"search_path": [place for place in sys.path if place]})
        if not line:
            raise ChildProcessError(f"it ended with code {self.process.wait()}")

    async def ask(self, tool: Tool, source: Source, text: str) -> dict[str, Any]:
        """The worker's reply to one call.

        Raises:
            ToolError: when it hung or died; the worker is of no more use.
        """
        request = {
            "id": next(self._ids),
            "module": source.module,
            "function": source.function,
            "folder": None if source.folder is None else str(source.folder),
            "text": text,
            "takes": tool.takes,
            "timeout_seconds": tool.timeout_seconds,
            "memory_mib": tool.memory_mib,
        }
        try:
            async with asyncio.timeout(tool.timeout_seconds):
                line = await self._exchange(request)
        except TimeoutError:
            raise ToolError(
                f"{_titled(tool)} hung: no answer within {tool.timeout_seconds:g} s; its worker was killed"
            ) from None
        except (OSError, ValueError):
            line = b""
        try:
            reply = json.loads(line)
            if reply["id"] == request["id"]:
                return dict(reply)
        except (ValueError, LookupError, TypeError):
            pass
        raise ToolError(f"{_titled(tool)} {await self._death()}")

    def kill(self) -> None:
        """End the process and whatever it started."""
        if self._streams is not None:
            self._streams[1].close()
        else:
            self._socket.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    async def reap(self) -> None:
        """Wait for the end of the process and of the connection."""
        if self._streams is not None:
            with contextlib.suppress(OSError):
                await self._streams[1].wait_closed()
        await asyncio.get_running_loop().run_in_executor(None, self.process.wait)

    async def _exchange(self, message: dict[str, object]) -> bytes:
        assert self._streams is not None, "start() comes first"
        reader, writer = self._streams
        writer.write(json.dumps(message).encode() + b"\n")
        await writer.drain()
        return await reader.readline()

    async def _death(self) -> str:
        for _ in range(100):  # the socket closes a moment before the process is gone
            code = self.process.poll()
            if code is not None:
                break
            await asyncio.sleep(0.01)
        else:
            return "disturbed its worker: the answer was not the worker's; the worker was killed"
        if code < 0:
            return f"crashed its worker ({signal.Signals(-code).name}); a new one takes over"
        return f"ended its worker with exit code {code}; return a text instead of exiting"


def _titled(tool: Tool) -> str:
    return f"tool {tool.name!r} ({tool.call})"


def _told(tool: Tool, reply: dict[str, Any]) -> str:
    detail = reply["detail"]
    match reply["error"]:
        case "missing":
            return f"does not exist: {detail}; correct `call`"
        case "import":
            return f"could not be imported: {detail}"
        case "memory":
            return f"ran out of memory: it may grow by {tool.memory_mib} MiB; use less, or raise `memory_mib`"
        case "rubbish":
            return f"answered with {detail}, not text; return a str, or None for nothing to say"
        case "huge":
            most = tool_worker.MOST_OUTPUT_BYTES // 1024
            return f"answered with {detail}; {most} KiB is the most, so return only what was asked for"
    return f"raised {detail}"


def _quoted(reply: dict[str, Any]) -> str:
    printed = reply.get("printed", "").strip()
    return f"; it printed: {printed[-300:]!r}" if printed else ""
