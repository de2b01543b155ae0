"""How one team becomes another: every edit takes a graph and returns a new one.

These are the moves of every composer, so each is small, checked against the graph it is given, and closed: what leads
to a dropped node goes with it. An edited graph may still be unable to run, because two edits may be needed to mend one
defect; `graphs.check` says when it can. Provenance is kept: the graph still came from there.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from graphs.errors import InvalidEdit, nearest
from graphs.model import AgentGraph, AgentNode, Channel, Node, RouterNode, Sampling, Tool, Value, VoteNode

ValueT = TypeVar("ValueT", bound=Value)


def add_node(graph: AgentGraph, node: Node) -> AgentGraph:
    """`graph` plus one node, which nobody hears yet.

    Raises:
        InvalidEdit: when its id is taken.
    """
    if any(other.id == node.id for other in graph.nodes):
        raise InvalidEdit(f"there is a node {node.id!r} already; choose another id or use replace_node")
    return _with(graph, nodes=(*graph.nodes, node))


def drop_node(graph: AgentGraph, node_id: str) -> AgentGraph:
    """`graph` without a node, its channels, and what votes and routers say about it.

    Raises:
        InvalidEdit: when there is no such node, or it is the output.
    """
    _found(graph, node_id)
    if node_id == graph.output:
        raise InvalidEdit(f"{node_id!r} is the output; call set_output with another node first")
    return _with(
        graph,
        nodes=tuple(_forgetting(node, node_id) for node in graph.nodes if node.id != node_id),
        channels=tuple(c for c in graph.channels if node_id not in (c.source, c.target)),
    )


def replace_node(graph: AgentGraph, node: Node) -> AgentGraph:
    """`graph` with `node` in the place of the node of that id; channels stay.

    Raises:
        InvalidEdit: when there is no such node.
    """
    _found(graph, node.id)
    return _with(graph, nodes=tuple(node if other.id == node.id else other for other in graph.nodes))


def rename_node(graph: AgentGraph, node_id: str, new_id: str) -> AgentGraph:
    """`graph` with another id for a node, wherever it is named.

    Raises:
        InvalidEdit: when there is no such node, or the new id is taken.
    """
    _found(graph, node_id)
    if new_id != node_id and any(node.id == new_id for node in graph.nodes):
        raise InvalidEdit(f"there is a node {new_id!r} already; choose another id")

    def renamed(name: str) -> str:
        return new_id if name == node_id else name

    nodes: list[Node] = []
    for node in graph.nodes:
        changes: dict[str, Any] = {"id": renamed(node.id)}
        if isinstance(node, VoteNode):
            changes["weights"] = {renamed(sender): weight for sender, weight in node.weights.items()}
        elif isinstance(node, RouterNode):
            changes["default"] = tuple(renamed(target) for target in node.default)
        nodes.append(_with(node, **changes))
    channels = tuple(_with(c, source=renamed(c.source), target=renamed(c.target)) for c in graph.channels)
    return _with(graph, nodes=tuple(nodes), channels=channels, output=renamed(graph.output))


def connect(graph: AgentGraph, source: str, target: str, *, next_round: bool = False) -> AgentGraph:
    """`graph` plus a channel from `source` to `target`, heard after those that lead there already.

    Raises:
        InvalidEdit: when either node is missing, or the channel is there.
    """
    _found(graph, source)
    _found(graph, target)
    if any((c.source, c.target) == (source, target) for c in graph.channels):
        raise InvalidEdit(f"there is a channel {source!r} -> {target!r} already; disconnect it first")
    return _with(graph, channels=(*graph.channels, Channel(source=source, target=target, next_round=next_round)))


def disconnect(graph: AgentGraph, source: str, target: str) -> AgentGraph:
    """`graph` without the channel from `source` to `target`; a router's default no longer names it.

    Raises:
        InvalidEdit: when there is no such channel.
    """
    kept = tuple(c for c in graph.channels if (c.source, c.target) != (source, target))
    if len(kept) == len(graph.channels):
        targets = [c.target for c in graph.channels if c.source == source]
        raise InvalidEdit(f"there is no channel {source!r} -> {target!r}; from there, {nearest(target, targets)}")
    nodes: list[Node] = []
    for node in graph.nodes:
        touched = (isinstance(node, RouterNode) and node.id == source, isinstance(node, VoteNode) and node.id == target)
        lost = target if touched[0] else source
        nodes.append(_forgetting(node, lost) if any(touched) else node)
    return _with(graph, nodes=tuple(nodes), channels=kept)


def set_role(graph: AgentGraph, node_id: str, role: str) -> AgentGraph:
    """`graph` with another system prompt for an agent, or a router that asks a model.

    Raises:
        InvalidEdit: when there is no such node.
    """
    return _set(graph, node_id, (AgentNode, RouterNode), role=role)


def set_model(graph: AgentGraph, model: str | None, node_id: str | None = None) -> AgentGraph:
    """`graph` with another model for one node, or for the team when no node is named.

    Raises:
        InvalidEdit: when there is no such node, or it asks no model.
    """
    return _with(graph, model=model) if node_id is None else _set(graph, node_id, (AgentNode, RouterNode), model=model)


def set_sampling(graph: AgentGraph, sampling: Sampling | None, node_id: str | None = None) -> AgentGraph:
    """`graph` with other sampling for one node, or for the team when no node is named (`None`: the defaults).

    Raises:
        InvalidEdit: when there is no such node, or it asks no model.
    """
    if node_id is None:
        return _with(graph, sampling=sampling or Sampling())
    return _set(graph, node_id, (AgentNode, RouterNode), sampling=sampling)


def set_tools(graph: AgentGraph, node_id: str, tools: Sequence[Tool]) -> AgentGraph:
    """`graph` with exactly these tools for an agent.

    Raises:
        InvalidEdit: when there is no such agent.
    """
    return _set(graph, node_id, (AgentNode,), tools=tuple(tools))


def set_weights(graph: AgentGraph, node_id: str, weights: Mapping[str, float]) -> AgentGraph:
    """`graph` with exactly these weights for a vote.

    Raises:
        InvalidEdit: when there is no such vote.
    """
    return _set(graph, node_id, (VoteNode,), weights=dict(weights))


def set_output(graph: AgentGraph, node_id: str) -> AgentGraph:
    """`graph` with another node to speak for it.

    Raises:
        InvalidEdit: when there is no such node.
    """
    _found(graph, node_id)
    return _with(graph, output=node_id)


def set_rounds(graph: AgentGraph, rounds: int) -> AgentGraph:
    """`graph` with another number of rounds for its cycles.

    Raises:
        InvalidEdit: when it is below 1.
    """
    if rounds < 1:
        raise InvalidEdit(f"a cycle runs at least once; got {rounds=}")
    return _with(graph, rounds=rounds)


def _found(graph: AgentGraph, node_id: str) -> Node:
    try:
        return graph.node(node_id)
    except KeyError:
        ids = [node.id for node in graph.nodes]
        raise InvalidEdit(f"there is no node {node_id!r}; {nearest(node_id, ids)}") from None


def _set(graph: AgentGraph, node_id: str, kinds: tuple[type[Value], ...], **changes: Any) -> AgentGraph:
    node = _found(graph, node_id)
    if not isinstance(node, kinds):
        fields = " or ".join(changes)
        raise InvalidEdit(f"{node_id!r} is a {node.kind} node, which has no {fields}")
    return replace_node(graph, _with(node, **changes))


def _forgetting(node: Node, gone: str) -> Node:
    if isinstance(node, VoteNode) and gone in node.weights:
        return _with(node, weights={sender: weight for sender, weight in node.weights.items() if sender != gone})
    if isinstance(node, RouterNode) and gone in node.default:
        return _with(node, default=tuple(target for target in node.default if target != gone))
    return node


def _with(value: ValueT, **changes: Any) -> ValueT:
    """`value` with some fields changed, checked like a new one."""
    return type(value)(**{**dict(value), **changes})
