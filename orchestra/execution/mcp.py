"""A team as a tool of the Model Context Protocol: what any MCP client can call, and what it pays with.

The server is one run: one ledger, one trace, one store. Each call of its only tool is one episode of that run, so what
clients ask for is capped, traced and journalled like anything else.

This is the one module that imports the SDK on the server's side.
"""

import itertools
import re
from decimal import Decimal
from pathlib import Path

from mcp.server.mcpserver import MCPServer
from mcp_types import CallToolResult, TextContent

from graphs import AgentGraph
from orchestra.execution.runner import open_team
from orchestra.execution.runtime import Runtime
from orchestra.execution.settings import Settings
from orchestra.ledger import nano, usd
from orchestra.traces.store import Store


def team_server(runtime: Runtime, graph: AgentGraph, *, description: str | None = None) -> MCPServer:
    """A server whose only tool, named after the team, answers a task with it.

    Args:
        runtime: pays for the calls and keeps their trace; it must stay open while the server runs.
        graph: the team.
        description: what the tool is for, as the client's model reads it; `None` says who is in the team.

    Raises:
        InputError: the team cannot run; nothing was spent.
        InvalidGraph: likewise, with every defect.
    """
    runtime.prepare(graph)
    server = MCPServer(graph.name, log_level="ERROR")
    numbers = itertools.count(1)

    async def answer(task: str) -> CallToolResult:
        played = await runtime.play(graph, task, key=f"call-{next(numbers)}")
        said = played.reply or ""
        if played.error is not None:
            said = f"{played.error}\nWhat it had by then: {said}" if said else str(played.error)
        return CallToolResult(
            content=[TextContent(type="text", text=said)],
            structured_content={
                "reply": played.reply,
                "error": None if played.error is None else str(played.error),
                "paid_usd": str(usd(played.paid_nano)),
                "run_id": runtime.run_id,
                "episode_id": played.episode_id,
            },
            is_error=played.error is not None,
        )

    server.add_tool(
        answer, name=tool_name(graph.name), description=description or _described(graph), structured_output=False
    )
    return server


async def serve_team(
    team: AgentGraph | str | Path,
    *,
    max_cost_usd: Decimal | str | int | None = None,
    settings: Settings | None = None,
    store: str | Path | None = None,
    folder: Path | None = None,
    description: str | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
) -> None:
    """Serve `team` to MCP clients until the client leaves or the task is cancelled.

    Args:
        max_cost_usd: most that all calls may cost together; `None` sets no cap.
        port: serves streamable HTTP on it; `None` speaks over standard input and output.

    Raises:
        InputError: something is wrong or missing; nothing was spent.
    """
    graph, folder = open_team(team, folder)
    cap = None if max_cost_usd is None else nano(max_cost_usd)
    with Store.open(store) as opened:
        async with Runtime.opened(
            "serve",
            store=opened,
            settings=settings or Settings(),
            folder=folder,
            cap_nano=cap,
            inputs={"team": graph.name},
        ) as runtime:
            server = team_server(runtime, graph, description=description)
            runtime.refuse_uncapped("--max-cost")
            if port is None:
                await server.run_stdio_async()
            else:
                await server.run_streamable_http_async(host=host, port=port)


def tool_name(team: str) -> str:
    """`team` as MCP clients accept it.

    >>> tool_name("sums & facts")
    'sums_facts'
    """
    return re.sub(r"[^A-Za-z0-9-]+", "_", team).strip("_")[:64] or "team"


def _described(graph: AgentGraph) -> str:
    members = ", ".join(node.id for node in graph.nodes)
    return f"Answers a task with the team {graph.name!r} ({members})."
