"""LangGraph applications as agent graphs: `from_langgraph` reads those whose meaning ours can keep.

Read is a graph over one channel, `messages`, whose nodes and conditions are functions that can be imported by name.
Each node becomes a tool node that calls its function with the messages so far; each condition becomes a router. What
would come out otherwise in our schedule is refused, with every reason at once: a join that LangGraph runs twice, state
besides the messages, retry policies, interrupts. The library itself is not imported here: the builder is looked at.

What differs: a function hears every earlier node as an assistant message signed with that node's name, and adds at most
one assistant message itself. A cycle runs at most `rounds` times and then ends with what was said last, where LangGraph
raises at its recursion limit.
"""

from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any

import networkx

from graphs import AgentGraph, Channel, RouterNode, Tool, ToolNode, check
from orchestra.errors import InputError

START, END = "__start__", "__end__"
ADDED_UP = "_add_messages"
"""Name of the function by which LangGraph's `MessagesState` adds messages to those before."""


def from_langgraph(application: Any, *, name: str = "team", rounds: int = 25) -> AgentGraph:
    """The agent graph that says what `application` says.

    Args:
        application: a `StateGraph`, or what its `compile()` returned.
        name: of the team.
        rounds: how often a cycle runs at most.

    Raises:
        InputError: with every reason why it cannot be read.
    """
    builder = getattr(application, "builder", application)
    if not all(hasattr(builder, part) for part in ("nodes", "edges", "waiting_edges", "branches", "channels")):
        raise InputError(
            f"a {type(application).__name__} is no LangGraph StateGraph; give the builder or what it compiled"
        )
    reasons = [reason for rule in RULES for reason in rule(builder)]
    reasons += _settings_of(application)
    if not reasons:
        reasons = [reason for rule in SHAPE_RULES for reason in rule(builder)]
    if reasons:
        told = "".join(f"\n  - {reason}" for reason in reasons)
        raise InputError(f"this LangGraph application cannot be read as an agent graph:{told}")
    graph = _translated(builder, name, rounds)
    check(graph)
    return graph


def only_messages(builder: Any) -> Iterator[str]:
    """State that messages cannot carry."""
    for channel in sorted(set(builder.channels) - {"messages"}):
        yield f"state: {channel!r} is kept besides `messages`; put what it holds into messages"
    if "messages" not in builder.channels:
        yield "state: it has no `messages`; build it over MessagesState"
    elif getattr(getattr(builder.channels["messages"], "operator", None), "__name__", "") != ADDED_UP:
        yield "state: its `messages` are not added up by `add_messages`, so a node may hear others; use MessagesState"
    for managed in sorted(builder.managed):
        yield f"state: {managed!r} is managed by LangGraph; drop it"


def functions_are_importable(builder: Any) -> Iterator[str]:
    """Nodes and conditions that no other process could import."""
    for what, runnable in _functions_of(builder):
        yield from _unimportable(what, runnable)


def functions_take_the_state_alone(builder: Any) -> Iterator[str]:
    """Nodes and conditions that LangGraph hands something besides the state."""
    for what, runnable in _functions_of(builder):
        for handed in sorted(getattr(runnable, "func_accepts", None) or ()):
            yield f"{what}: it takes {handed!r} besides the state, which nobody hands it here; drop the parameter"


def _functions_of(builder: Any) -> Iterator[tuple[str, Any]]:
    """Every node and condition: what it is called, and what LangGraph made of its function."""
    for node_id, spec in builder.nodes.items():
        yield f"node {node_id!r}", spec.runnable
    for source, branches in builder.branches.items():
        for branch_name, branch in branches.items():
            yield f"condition {branch_name!r} after {source!r}", branch.path


def nodes_are_plain(builder: Any) -> Iterator[str]:
    """Settings of nodes that our runtime would not keep."""
    settings = ("retry_policy", "cache_policy", "error_handler_node", "timeout", "defer", "is_error_handler")
    for node_id, spec in builder.nodes.items():
        for setting in settings:
            if getattr(spec, setting, None):
                yield f"node {node_id!r}: its {setting} would be lost; drop it, the runtime has limits of its own"
        if spec.ends:
            yield f"node {node_id!r}: it returns Command(goto=...); use add_conditional_edges instead"
        if not all(part.isalnum() or part in "_.-" for part in node_id):
            yield f"node {node_id!r}: only letters, digits, dot, dash and underscore are allowed; rename it"


def conditions_name_nodes(builder: Any) -> Iterator[str]:
    """Conditions whose answers are not names of nodes."""
    for source, branches in builder.branches.items():
        if source == START:
            yield "a condition at the start has no node that speaks before it; begin with a node"
        if len(branches) > 1:
            yield f"node {source!r}: {len(branches)} conditions follow it; merge them into one that returns a list"
        if source != START and any(edge[0] == source for edge in builder.edges):
            yield f"node {source!r}: a condition and a plain edge both follow it; let the condition name both"
        for branch_name, branch in branches.items():
            if branch.ends is None:
                yield f"condition {branch_name!r} after {source!r}: give add_conditional_edges the nodes it may name"
            elif any(answer != target for answer, target in branch.ends.items()):
                yield f"condition {branch_name!r} after {source!r}: let it return names of nodes, not keys of a table"


RULES: tuple[Callable[[Any], Iterator[str]], ...] = (
    only_messages,
    functions_are_importable,
    functions_take_the_state_alone,
    nodes_are_plain,
    conditions_name_nodes,
)
"""What is looked at first, node by node."""


def one_node_ends(builder: Any) -> Iterator[str]:
    """Several nodes that could have the last word."""
    last = sorted({source for source, target in _steps(builder) if target == END})
    if len(last) != 1:
        yield f"{len(last)} nodes lead to the end ({', '.join(last)}); lead them to one that has the last word"


def nothing_runs_twice(builder: Any) -> Iterator[str]:
    """Joins that LangGraph runs once for each depth they are fed at, and our schedule once."""
    steps = networkx.DiGraph(_steps(builder))
    conditional = set(builder.branches)
    cyclic = [members for members in networkx.strongly_connected_components(steps) if _repeats(steps, members)]
    for members in cyclic:
        yield from _cycle_reasons(steps, members, conditional)
    parallel = [node for node in steps if steps.out_degree(node) > 1 and node not in conditional]
    if parallel and (cyclic or conditional):
        yield (
            f"nodes after {parallel[0]!r} run side by side in a graph with conditions or cycles, where LangGraph waits "
            f"for all of them at every step and our schedule does not; make it one line"
        )
    if cyclic or conditional or END not in steps:
        return
    depths: dict[str, set[int]] = {START: {0}}
    for node in networkx.topological_sort(steps):
        waited = [sources for sources, target in builder.waiting_edges if target == node]
        fed = {
            depth + 1 for source in steps.predecessors(node) if not _waits(waited, source) for depth in depths[source]
        }
        fed |= {max(max(depths[source]) for source in sources) + 1 for sources in waited}
        depths.setdefault(node, fed)
        if len(depths[node]) > 1 and node != END:
            times = len(depths[node])
            yield f"node {node!r}: LangGraph runs it {times} times, once for each depth it is fed at; use a list edge"


SHAPE_RULES: tuple[Callable[[Any], Iterator[str]], ...] = (one_node_ends, nothing_runs_twice)
"""What is looked at when every node is in order."""


def _settings_of(application: Any) -> Iterator[str]:
    for setting in ("interrupt_before_nodes", "interrupt_after_nodes"):
        if getattr(application, setting, None):
            yield f"it stops at {setting.removesuffix('_nodes')}; ask a person with a tool whose call is 'person'"
    if getattr(application, "store", None) is not None:
        yield "it has a LangGraph store; what nodes keep there cannot be seen"


def _unimportable(what: str, runnable: Any) -> Iterator[str]:
    function = _function(runnable)
    if function is None:
        yield f"{what}: a {type(runnable).__name__} is not a function; wrap it in one of a module"
        return
    module, qualname = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module in (None, "__main__"):
        yield f"{what}: {qualname or function!r} lives in the program itself; move it to a module"
        return
    try:
        found: Any = import_module(str(module))
        for part in qualname.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError):
        found = None
    if found is not function:
        yield f"{what}: {module}.{qualname} cannot be imported by that name; define it at the top of a module"


def _function(runnable: Any) -> Any:
    function = getattr(runnable, "func", None)
    if function is None:  # LangGraph keeps a coroutine function apart
        function = getattr(runnable, "afunc", None)
    return function if callable(function) and getattr(runnable, "kwargs", None) in (None, {}) else None


def _steps(builder: Any) -> list[tuple[str, str]]:
    """Every way from node to node, whether taken always or on a condition."""
    steps = [*builder.edges]
    steps += [(source, target) for sources, target in builder.waiting_edges for source in sources]
    for source, branches in builder.branches.items():
        steps += [(source, target) for branch in branches.values() for target in branch.ends]
    return sorted(set(steps))


def _repeats(steps: "networkx.DiGraph[str]", members: set[str]) -> bool:
    return len(members) > 1 or any(steps.has_edge(node, node) for node in members)


def _cycle_reasons(steps: "networkx.DiGraph[str]", members: set[str], conditional: set[str]) -> Iterator[str]:
    shown = ", ".join(sorted(members))
    heads = {target for source, target in steps.edges if target in members and source not in members}
    if len(heads) != 1:
        yield f"the cycle of {shown} is entered at {len(heads)} nodes; enter it at one"
        return
    (head,) = heads
    inside = steps.subgraph(members).copy()
    inside.remove_edges_from([(source, head) for source in list(inside.predecessors(head))])
    if not networkx.is_directed_acyclic_graph(inside):
        yield f"the cycle of {shown} holds another cycle; make them one"
    if not members & conditional:
        yield f"the cycle of {shown} never ends; let a condition leave it"
    fed = [node for node in members if inside.in_degree(node) > 1]
    if fed:
        yield f"node {sorted(fed)[0]!r}: several ways inside a cycle lead to it; make the cycle one line"


def _waits(waited: Sequence[Sequence[str]], source: str) -> bool:
    return any(source in sources for sources in waited)


def _translated(builder: Any, name: str, rounds: int) -> AgentGraph:
    nodes: list[ToolNode | RouterNode] = []
    for node_id, spec in builder.nodes.items():
        nodes.append(ToolNode(id=node_id, tool=_tool(node_id, spec.runnable)))
    for source, branches in builder.branches.items():
        (branch,) = branches.values()
        nodes.append(RouterNode(id=_router_id(source, builder), call=_tool(f"after-{source}", branch.path)))
    channels = _channels(builder)
    (output,) = {source for source, target in _steps(builder) if target == END}
    cyclic = any(channel.next_round for channel in channels)
    return AgentGraph(
        name=name, nodes=tuple(nodes), channels=tuple(channels), output=output, rounds=rounds if cyclic else 1
    )


def _tool(name: str, runnable: Any) -> Tool:
    function = _function(runnable)
    call = f"{function.__module__}:{function.__qualname__}"
    return Tool(name=name, call=call, takes="messages", timeout_seconds=600, memory_mib=4096, idempotent=False)


def _router_id(source: str, builder: Any) -> str:
    router = f"after-{source}"
    while router in builder.nodes:
        router += "-"
    return router


def _channels(builder: Any) -> list[Channel]:
    steps = networkx.DiGraph(_steps(builder))
    cycles = [members for members in networkx.strongly_connected_components(steps) if _repeats(steps, members)]
    heads = {t: members for members in cycles for s, t in steps.edges if t in members and s not in members}
    channels = []
    for source, target in steps.edges:
        if source == START or target == END:
            continue
        carrier = _router_id(source, builder) if source in builder.branches else source
        back = source in heads.get(target, ())
        channels.append(Channel(source=carrier, target=target, next_round=back))
    channels += [Channel(source=source, target=_router_id(source, builder)) for source in builder.branches]
    return channels if builder.branches or cycles else _in_step(steps)


def _in_step(steps: "networkx.DiGraph[str]") -> list[Channel]:
    """Channels that make every node wait for all of the step before, as LangGraph does."""
    generations = [sorted(set(layer) - {START, END}) for layer in networkx.topological_generations(steps)]
    layers = [layer for layer in generations if layer]
    return [
        Channel(source=source, target=target)
        for before, after in pairwise(layers)
        for target in after
        for source in before
    ]
