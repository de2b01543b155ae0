"""Which MCP servers there are: the file `mcp.json` beside an inventory or a team, in the form other MCP clients read.

```json
{"mcpServers": {"clock": {"command": "python", "args": ["clock.py"]}, "wiki": {"url": "http://127.0.0.1:8000/mcp"}}}
```

A tool of such a server is a component like any other: `kind: tool` with `call: mcp:clock/now`. Reading the file starts
nothing. A server is a program from elsewhere, so its tools run only with `--trust`.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

from graphs import Tool
from orchestra.errors import InputError, Untrusted
from orchestra.plugins import closest

PREFIX = "mcp:"
"""How the `call` of a tool that lives on an MCP server begins."""
FILE = "mcp.json"
_KEYS = {"command", "args", "env", "cwd", "url", "type"}
_IGNORED = {"disabled", "description", "timeout", "alwaysAllow", "autoApprove"}
"""Keys that other clients write and that decide nothing here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class McpServer:
    """How one server is reached: a command that is started, or the address of one that runs."""

    name: str
    command: tuple[str, ...] = ()
    """Program and arguments; empty where `url` is set."""
    env: tuple[tuple[str, str], ...] = ()
    """Variables it is given besides the few that every program needs."""
    folder: Path | None = None
    """Its working directory."""
    url: str | None = None
    """Address of a server that speaks streamable HTTP."""


@dataclass(frozen=True, slots=True)
class McpTool:
    """What a tool's `call` names."""

    server: str
    tool: str
    call: str = field(compare=False)


def named(call: str) -> McpTool:
    """The server and the tool in `mcp:SERVER/TOOL`.

    Raises:
        InputError: when it is not of that form.
    """
    server, slash, tool = call.removeprefix(PREFIX).partition("/")
    if not call.startswith(PREFIX) or not slash or not server or not tool:
        raise InputError(f"tool call {call!r} is not of the form mcp:SERVER/TOOL; write for example 'mcp:clock/now'")
    return McpTool(server, tool, call)


def server_of(call: str, folders: tuple[Path, ...]) -> McpServer:
    """The server that `call` names, from the first of `folders` whose `mcp.json` has it.

    Raises:
        InputError: when no such file is there, is malformed, or knows no server of that name.
    """
    wanted = named(call)
    known: list[str] = []
    files = [folder / FILE for folder in folders if (folder / FILE).is_file()]
    for file in files:
        servers = read_servers(file)
        if wanted.server in servers:
            return servers[wanted.server]
        known.extend(servers)
    if not files:
        where = " or ".join(repr(str(folder)) for folder in folders) or "an inventory's folder (none was given)"
        raise InputError(
            f"tool call {call!r}: there is no {FILE!r} in {where}; list the server {wanted.server!r} there"
        )
    where = " or ".join(repr(str(file)) for file in files)
    raise InputError(f"tool call {call!r}: {where} lists no server {wanted.server!r}; {closest(wanted.server, known)}")


def read_servers(file: Path) -> dict[str, McpServer]:
    """Every server that `file` lists, by name.

    Raises:
        InputError: when it cannot be read; the message lists every mistake.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as cause:
        raise InputError(f"{str(file)!r} cannot be read: {cause.strerror or cause}") from cause
    except ValueError as cause:
        raise InputError(f"{str(file)!r} is not JSON: {cause}") from cause
    listed = data.get("mcpServers") if isinstance(data, dict) else None
    if not isinstance(listed, dict):
        raise InputError(f'{str(file)!r} has no servers; write {{"mcpServers": {{"NAME": {{"command": ...}}}}}}')
    mistakes = [f"{name}: {mistake}" for name, entry in listed.items() for mistake in _mistakes(name, entry)]
    if mistakes:
        raise InputError(f"{str(file)!r}:" + "".join(f"\n  - {mistake}" for mistake in mistakes))
    return {name: _server(name, entry, file.parent.resolve()) for name, entry in listed.items()}


def check_mcp(tool: Tool, folders: tuple[Path, ...], *, trust: bool) -> None:
    """Refuse a tool whose server is not listed or not trusted; nothing is started.

    Raises:
        Untrusted: without `trust`.
        InputError: when no `mcp.json` lists its server.
    """
    server = server_of(tool.call, folders)
    if not trust:
        raise Untrusted(
            f"tool {tool.name!r} ({tool.call}) runs on the MCP server {server.name!r} ({shown(server)}), a program "
            f"from elsewhere; pass --trust to allow it"
        )


def shown(server: McpServer) -> str:
    """How `server` is reached, for messages."""
    return server.url or " ".join(server.command)


def _mistakes(name: str, entry: object) -> list[str]:
    if not isinstance(entry, dict):
        return ["is not an object; give it a `command` or a `url`"]
    found = [f"unknown key {key!r}; {closest(key, sorted(_KEYS))}" for key in entry if key not in _KEYS | _IGNORED]
    if "/" in name:
        found.append("a slash in its name cannot be told from the one before the tool; rename it")
    if ("command" in entry) == ("url" in entry):
        found.append("give it either a `command` to start or a `url` to reach")
    if entry.get("type", "stdio") not in ("stdio", "http", "streamable-http", "streamableHttp"):
        found.append(f"type {entry['type']!r} is not supported; use 'stdio' or 'http'")
    for key, good in (("command", str), ("url", str), ("cwd", str)):
        if key in entry and not isinstance(entry[key], good):
            found.append(f"`{key}` is not a text")
    arguments, variables = entry.get("args", []), entry.get("env", {})
    if not isinstance(arguments, list) or not all(isinstance(each, str) for each in arguments):
        found.append("`args` is not a list of texts")
    if not isinstance(variables, dict) or not all(isinstance(each, str) for each in variables.values()):
        found.append("`env` is not an object of texts")
    return found


def _server(name: str, entry: dict[str, object], folder: Path) -> McpServer:
    if "url" in entry:
        return McpServer(name=name, url=str(entry["url"]))
    arguments, variables = entry.get("args", []), entry.get("env", {})
    assert isinstance(arguments, list), "checked before"
    assert isinstance(variables, dict), "checked before"
    return McpServer(
        name=name,
        command=(str(entry["command"]), *arguments),
        env=tuple(variables.items()),
        folder=folder / str(entry.get("cwd", ".")),
    )
