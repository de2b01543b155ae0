"""Tools that live on MCP servers, called through the protocol's own SDK.

A server is started, or connected to, when one of its tools is first needed; it serves any number of calls at once and
is closed with the pool that owns it. One that dies fails the calls it was answering and is started again for the next.

This is the one module that imports the SDK on the client's side.
"""

import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp_types import CONNECTION_CLOSED, CallToolResult, TextContent

from graphs import Tool
from orchestra.agents.mcp_config import PREFIX, McpServer, check_mcp, named, read_servers, server_of, shown
from orchestra.errors import ToolError, Untrusted
from orchestra.plugins import closest

START_SECONDS = 60.0
"""A server that has not answered the handshake by then will not."""


@dataclass(slots=True)
class _Connection:
    """A client kept open by a task of its own: its context must be left by the task that entered it."""

    server: McpServer
    tools: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    """JSON Schema of the arguments, by tool."""
    descriptions: dict[str, str] = field(default_factory=dict)
    client: Client | None = None
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _task: "asyncio.Task[None] | None" = None

    @property
    def alive(self) -> bool:
        return self._task is not None and not self._task.done()

    async def open(self) -> None:
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._held(ready), name=f"mcp {self.server.name}")
        try:
            async with asyncio.timeout(START_SECONDS):
                await asyncio.shield(ready)
        except TimeoutError:
            await self.close()
            raise ToolError(
                f"MCP server {self.server.name!r} did not answer within {START_SECONDS:g} s; check {shown(self.server)}"
            ) from None
        except asyncio.CancelledError:
            await self.close()
            raise

    async def close(self) -> None:
        self._ended.set()
        if self._task is not None and self.client is None:  # it has not come to where it would see that
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        elif self._task is not None:
            try:
                async with asyncio.timeout(10):
                    await asyncio.shield(self._task)
            except TimeoutError:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)

    async def _held(self, ready: "asyncio.Future[None]") -> None:
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
            try:
                async with Client(_target(self.server, log)) as client:
                    await self._list(client)
                    self.client = client
                    ready.set_result(None)
                    await self._ended.wait()
            except Exception as cause:
                if not ready.done():
                    ready.set_exception(self._unreachable(cause, log))
            finally:
                self.client = None

    async def _list(self, client: Client) -> None:
        cursor: str | None = None
        while True:
            page = await client.list_tools(cursor=cursor)
            for tool in page.tools:
                self.tools[tool.name] = tool.input_schema
                self.descriptions[tool.name] = tool.description or tool.title or tool.name
            cursor = page.next_cursor
            if cursor is None:
                return

    def _unreachable(self, cause: Exception, log: IO[str]) -> ToolError:
        log.seek(0)
        last = log.read().strip().rpartition("\n")[2]
        reason = _first_cause(cause) + (f"; it wrote {last[-300:]!r}" if last else "")
        return ToolError(f"MCP server {self.server.name!r} cannot be reached: {reason}; check {shown(self.server)}")


class McpServers:
    """The MCP servers of a run, opened when they are first needed.

    Args:
        trust: whether they may be; a server is a program from elsewhere.
    """

    def __init__(self, *, trust: bool = False) -> None:
        self._trust = trust
        self._open: dict[McpServer, _Connection] = {}
        self._opening: dict[McpServer, asyncio.Lock] = {}
        self._failed: dict[McpServer, tuple[str, float]] = {}
        """Why a server could not be opened, and until when that is taken for granted."""

    async def call(self, tool: Tool, text: str, folders: tuple[Path, ...]) -> str | None:
        """What the tool answers; `None` when it answers with nothing.

        Args:
            tool: its `call` is `mcp:SERVER/TOOL`.
            text: a JSON object of arguments, or the value of the one argument that the tool takes.
            folders: where `mcp.json` is looked for, in order.

        Raises:
            ToolError: when the tool failed, did not answer in time, or cannot take `text`.
            InputError: when the server is not listed or not trusted.
        """
        wanted = named(tool.call).tool
        connection = await self._connected(tool, folders)
        arguments = arguments_of(text, connection.tools[wanted], tool)
        assert connection.client is not None, "it is open"
        try:
            async with asyncio.timeout(tool.timeout_seconds):
                result = await connection.client.call_tool(wanted, arguments)
        except TimeoutError:
            raise ToolError(
                f"tool {tool.name!r} ({tool.call}) hung: no answer within {tool.timeout_seconds:g} s"
            ) from None
        except MCPError as cause:
            if cause.error.code == CONNECTION_CLOSED:
                await self._drop(connection)
            raise ToolError(f"tool {tool.name!r} ({tool.call}) failed: {cause}") from cause
        except Exception as cause:  # the SDK's transports raise their own kinds when a server dies
            await self._drop(connection)
            raise ToolError(f"tool {tool.name!r} ({tool.call}) failed: {_first_cause(cause)}") from cause
        said = text_of(result)
        if result.is_error:
            raise ToolError(f"tool {tool.name!r} ({tool.call}) failed: {said or 'it did not say why'}")
        return said

    async def parameters(self, tool: Tool, folders: tuple[Path, ...]) -> Mapping[str, Any]:
        """JSON Schema of the tool's arguments, as its server states it.

        Raises:
            ToolError: when the server cannot be reached, or has no such tool.
            InputError: when it is not listed or not trusted.
        """
        connection = await self._connected(tool, folders)
        return connection.tools[named(tool.call).tool]

    async def listed(self, server: McpServer) -> dict[str, str]:
        """Descriptions of everything `server` offers, by name.

        Raises:
            ToolError: when it cannot be reached.
        """
        return dict((await self._opened(server)).descriptions)

    async def close(self) -> None:
        """End every connection, and the servers that were started."""
        for connection in self._open.values():
            await connection.close()
        self._open.clear()

    async def _drop(self, connection: _Connection) -> None:
        """Forget a connection whose server is gone; the next call opens another."""
        if self._open.get(connection.server) is connection:
            del self._open[connection.server]
            await connection.close()

    async def _connected(self, tool: Tool, folders: tuple[Path, ...]) -> _Connection:
        check_mcp(tool, folders, trust=self._trust)
        connection = await self._opened(server_of(tool.call, folders))
        wanted = named(tool.call)
        if wanted.tool not in connection.tools:
            hint = closest(wanted.tool, sorted(connection.tools))
            raise ToolError(f"tool call {tool.call!r}: server {wanted.server!r} has no such tool; {hint}")
        return connection

    async def _opened(self, server: McpServer) -> _Connection:
        async with self._opening.setdefault(server, asyncio.Lock()):
            failure, until = self._failed.get(server, ("", 0.0))
            if time.monotonic() < until:  # whoever waited for their turn would wait as long again
                raise ToolError(failure)
            connection = self._open.get(server)
            if connection is None or not connection.alive:
                connection = _Connection(server)
                try:
                    await connection.open()
                except ToolError as error:
                    self._failed[server] = str(error), time.monotonic() + START_SECONDS
                    raise
                self._open[server] = connection
            return connection


async def offered(file: Path, *, trust: bool = False) -> list[tuple[str, str, str]]:
    """Name, call and description of every tool of every server that `file` lists.

    Raises:
        InputError: when the file is malformed, or its servers are not trusted.
        ToolError: when a server cannot be reached.
    """
    servers = McpServers(trust=trust)
    listed = read_servers(file)
    if listed and not trust:
        commands = "; ".join(shown(server) for server in listed.values())
        raise Untrusted(
            f"{str(file)!r} starts or reaches programs from elsewhere ({commands}); pass --trust to allow it"
        )
    try:
        return [
            (f"{server.name}-{tool}", f"{PREFIX}{server.name}/{tool}", description.strip())
            for server in listed.values()
            for tool, description in sorted((await servers.listed(server)).items())
        ]
    finally:
        await servers.close()


def arguments_of(text: str, schema: Mapping[str, Any], tool: Tool) -> dict[str, Any]:
    """The arguments that `text` stands for: a JSON object as it is, else the value of the tool's one argument.

    Raises:
        ToolError: when the tool takes several arguments and `text` is not an object of them.
    """
    properties: Mapping[str, Any] = schema.get("properties", {})
    required = [name for name in schema.get("required", ()) if name in properties]
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, dict) and set(value) <= set(properties) and set(required) <= set(value):
        return value
    if not properties:
        return {}
    single = required or list(properties)
    if len(single) != 1:
        raise ToolError(
            f"tool {tool.name!r} ({tool.call}) takes {', '.join(properties)}; give them as one JSON object, "
            f"got {text[:100]!r}"
        )
    stated = properties[single[0]].get("type", "string")
    if stated != "string" and value is not None and not isinstance(value, dict):
        return {single[0]: value}
    return {single[0]: text}


def text_of(result: CallToolResult) -> str | None:
    """What a result says: its texts, a line each; else its structured content as JSON; `None` where it has neither."""
    texts = [block.text for block in result.content if isinstance(block, TextContent)]
    if texts:
        return "\n".join(texts) or None
    if result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    kinds = sorted({block.type for block in result.content})
    return f"({', '.join(kinds)}; only text can be passed on)" if kinds else None


def _target(server: McpServer, log: IO[str]) -> Any:
    if server.url is not None:
        return server.url
    program = sys.executable if server.command[0] in ("python", "python3") else server.command[0]
    parameters = StdioServerParameters(
        command=program, args=list(server.command[1:]), env=dict(server.env), cwd=server.folder
    )
    return stdio_client(parameters, errlog=log)  # type: ignore[arg-type]  # it wants a file, which this is


def _first_cause(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__
