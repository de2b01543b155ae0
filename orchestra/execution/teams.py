"""What a team needs before it can be played: its tools, its models, and its graph as an application."""

import difflib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graphs import PERSON, AgentGraph, AgentNode, RouterNode, Tool, ToolNode
from graphs.documents import document
from orchestra.errors import InputError
from orchestra.execution.allowances import Allowances
from orchestra.execution.langgraph import Application


@dataclass(frozen=True, slots=True)
class Team:
    """A graph that was checked, ready to be played any number of times."""

    graph: AgentGraph
    application: Application
    hash: str
    folder: Path | None
    document: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "document", document(self.graph))


def tools_of(graph: AgentGraph) -> tuple[Tool, ...]:
    """Every function that `graph` may call; a person is none."""
    return tuple(tool for _, tool in _used(graph) if tool.call != PERSON)


def askers_of(graph: AgentGraph) -> tuple[str, ...]:
    """The nodes that may ask a person."""
    return tuple(dict.fromkeys(node_id for node_id, tool in _used(graph) if tool.call == PERSON))


def _used(graph: AgentGraph) -> Iterator[tuple[str, Tool]]:
    for node in graph.nodes:
        if isinstance(node, ToolNode):
            yield node.id, node.tool
        elif isinstance(node, AgentNode):
            yield from ((node.id, tool) for tool in node.tools)
        elif isinstance(node, RouterNode) and node.call is not None:
            yield node.id, node.call


def check_allowances(allowances: Allowances, graphs: Iterable[AgentGraph]) -> None:
    """Refuse a cap or a price for a name that none of the teams has: a cap on nobody keeps nothing.

    Raises:
        InputError: naming the closest there is.
    """
    graphs = tuple(graphs)
    _check_known("agent", allowances.agent_nano, {node.id for graph in graphs for node in graph.nodes})
    tools = {tool.name for graph in graphs for tool in tools_of(graph)}
    _check_known("tool", (*allowances.tool_calls, *allowances.tool_nano), tools)


def _check_known(kind: str, named: Collection[str], there: Collection[str]) -> None:
    for name in named:
        if name not in there:
            close = difflib.get_close_matches(name, there, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(sorted(there)) or 'none'}"
            raise InputError(f"no {kind} {name!r} in the team, so it cannot be given a cap or a price; {hint}")


def models_of(graph: AgentGraph, default: str) -> frozenset[str]:
    """Names of the models that `graph` may ask, where `default` stands for those it leaves open."""
    return frozenset(
        node.model or graph.model or default
        for node in graph.nodes
        if isinstance(node, AgentNode) or (isinstance(node, RouterNode) and node.call is None)
    )
