"""Whether a team can run, and everything that stands in its way.

A rule is a function from a graph to its defects; `RULES` is the rule book. Every defect is told at once, each once: a
channel to a node that does not exist is one defect and hides no other. A graph without problems always runs to its end
(`graphs.schedule`), and only routers can keep its output silent.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Collection, Iterator

from graphs.errors import InvalidGraph, Problem, nearest
from graphs.model import PERSON, AgentGraph, AgentNode, RouterNode, Tool, ToolNode, VoteNode
from graphs.schedule import cycles

Rule = Callable[[AgentGraph], Iterator[Problem]]
"""Yields a problem for each place where a graph breaks it."""

_CALL = re.compile(r"[^:]+|[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*|mcp:[^/\s]+/\S+")

PLACEHOLDERS = ("messages", "task")
"""What an agent's `layout` may name in braces; `{{` and `}}` stand for braces themselves."""


def problems(graph: AgentGraph) -> tuple[Problem, ...]:
    """Every defect of `graph`, in rule order; empty when it can run."""
    return tuple(problem for rule in RULES for problem in rule(graph))


def check(graph: AgentGraph) -> None:
    """Nothing, when `graph` can run.

    Raises:
        InvalidGraph: with every problem, when it cannot.
    """
    if found := problems(graph):
        raise InvalidGraph(found)


def has_nodes(graph: AgentGraph) -> Iterator[Problem]:
    """A team has at least one node."""
    if not graph.nodes:
        yield Problem("no-nodes", graph.name, "there is nobody in the team; add a node")


def unique_ids(graph: AgentGraph) -> Iterator[Problem]:
    """No two nodes share an id."""
    for node_id, count in Counter(node.id for node in graph.nodes).items():
        if count > 1:
            yield Problem("duplicate-id", node_id, f"{count} nodes have this id; rename all but one")


def output_exists(graph: AgentGraph) -> Iterator[Problem]:
    """The output is one of the nodes."""
    ids = _ids(graph)
    if ids and graph.output not in ids:
        yield Problem("unknown-output", "output", f"there is no node {graph.output!r}; {nearest(graph.output, ids)}")


def channels_land(graph: AgentGraph) -> Iterator[Problem]:
    """Channels join nodes of this graph."""
    ids = _ids(graph)
    for channel in graph.channels:
        for end in dict.fromkeys((channel.source, channel.target)):
            if end not in ids:
                where = f"{channel.source} -> {channel.target}"
                yield Problem("unknown-node", where, f"there is no node {end!r}; {nearest(end, ids)}")


def unique_channels(graph: AgentGraph) -> Iterator[Problem]:
    """At most one channel leads from one node to another."""
    for (source, target), count in Counter((c.source, c.target) for c in graph.channels).items():
        if count > 1:
            message = f"{count} channels lead the same way and would carry the same message twice; keep one"
            yield Problem("duplicate-channel", f"{source} -> {target}", message)


def everybody_is_heard(graph: AgentGraph) -> Iterator[Problem]:
    """What a node says reaches the output."""
    if graph.output not in _ids(graph):
        return
    heard = _reached({graph.output}, [(c.target, c.source) for c in graph.channels])
    for node_id in _ids(graph):
        if node_id not in heard:
            message = f"nothing it says reaches {graph.output!r}; add a channel or drop it"
            yield Problem("unheard-node", node_id, message)


def cycles_have_an_entry(graph: AgentGraph) -> Iterator[Problem]:
    """In every cycle somebody can speak first."""
    for cycle in _stuck(_sound(graph)):
        names = ", ".join(cycle)
        message = "each waits for another, so none can begin; mark a channel next_round or add one from outside"
        yield Problem("no-entry", names, message)


def everybody_is_reached(graph: AgentGraph) -> Iterator[Problem]:
    """A node can be reached from one that hears the task or begins a cycle."""
    sound = _sound(graph)
    stuck = {node_id for cycle in _stuck(sound) for node_id in cycle}
    if not stuck:
        return
    targets = {c.target for c in sound.channels}
    openers = {node_id for node_id in _ids(sound) if node_id not in targets}
    openers |= {node_id for cycle in cycles(sound) for node_id in cycle if node_id not in stuck}
    reached = _reached(openers, [(c.source, c.target) for c in sound.channels])
    for node_id in _ids(sound):
        if node_id not in reached and node_id not in stuck:
            message = "all it could hear comes from a cycle in which none can begin; mend that, or add a channel"
            yield Problem("unreached-node", node_id, message)


def next_round_is_in_a_cycle(graph: AgentGraph) -> Iterator[Problem]:
    """`next_round` has a meaning only between members of one cycle."""
    together = {(a, b) for cycle in cycles(_sound(graph)) for a in cycle for b in cycle}
    ids = set(_ids(graph))
    for channel in graph.channels:
        known = channel.source in ids and channel.target in ids
        if channel.next_round and known and (channel.source, channel.target) not in together:
            message = "next_round is set, but no cycle holds both ends and there is no next round; leave it out"
            yield Problem("no-next-round", f"{channel.source} -> {channel.target}", message)


def layouts_are_readable(graph: AgentGraph) -> Iterator[Problem]:
    """An agent's layout names `{task}` or `{messages}`, and nothing else."""
    for node in graph.nodes:
        if isinstance(node, AgentNode):
            for message in _layout_mistakes(node.layout):
                yield Problem("bad-layout", node.id, message)


def votes_count(graph: AgentGraph) -> Iterator[Problem]:
    """A vote hears somebody, weighs those it hears, and knows what counts as an answer."""
    for node in graph.nodes:
        if isinstance(node, VoteNode):
            for message in _vote_mistakes(node, [c.source for c in graph.channels if c.target == node.id]):
                yield Problem("bad-vote", node.id, message)


def routers_choose(graph: AgentGraph) -> Iterator[Problem]:
    """A router has channels to choose from, and its default is among their targets."""
    for node in graph.nodes:
        if not isinstance(node, RouterNode):
            continue
        targets = [c.target for c in graph.channels if c.source == node.id]
        if not targets:
            yield Problem("bad-router", node.id, "no channel leads out of it; add one for each choice")
        for target in node.default:
            if targets and target not in targets:
                message = f"default {target!r} is not the target of a channel of its; {nearest(target, targets)}"
                yield Problem("bad-router", node.id, message)
        for target, count in Counter(node.default).items():
            if count > 1:
                yield Problem("bad-router", node.id, f"default names {target!r} {count} times; keep one")
        if node.call is not None and (node.role or node.model or node.sampling):
            message = "it has a function and settings for a model; leave out call, or role, model and sampling"
            yield Problem("bad-router", node.id, message)


def tools_are_callable(graph: AgentGraph) -> Iterator[Problem]:
    """Tools of an agent have different names, and every call says where its function is."""
    for node in graph.nodes:
        tools: tuple[Tool, ...] = ()
        if isinstance(node, AgentNode):
            tools = node.tools
        elif isinstance(node, ToolNode):
            tools = (node.tool,)
        elif isinstance(node, RouterNode) and node.call is not None:
            tools = (node.call,)
        for name, count in Counter(tool.name for tool in tools).items():
            if count > 1:
                yield Problem("bad-tool", node.id, f"{count} of its tools are called {name!r}; rename all but one")
        for tool in tools:
            yield from _person_mistakes(node.id, tool)
            if not _CALL.fullmatch(tool.call):
                message = f"call {tool.call!r} of tool {tool.name!r} is neither module:function nor mcp:server/tool"
                yield Problem("bad-tool", node.id, f"{message} nor a plug-in's name")
            if tool.takes == "messages" and isinstance(node, AgentNode):
                message = f"tool {tool.name!r} takes messages, which a model cannot write; make it a tool node"
                yield Problem("bad-tool", node.id, message)


RULES: tuple[Rule, ...] = (
    has_nodes,
    unique_ids,
    output_exists,
    channels_land,
    unique_channels,
    everybody_is_heard,
    cycles_have_an_entry,
    everybody_is_reached,
    next_round_is_in_a_cycle,
    layouts_are_readable,
    votes_count,
    routers_choose,
    tools_are_callable,
)
"""The rule book, in the order problems are told."""


def _ids(graph: AgentGraph) -> tuple[str, ...]:
    return tuple(dict.fromkeys(node.id for node in graph.nodes))


def _sound(graph: AgentGraph) -> AgentGraph:
    """`graph` without repeated ids and without channels that lead nowhere, so that the other rules can be asked."""
    nodes = {node.id: node for node in reversed(graph.nodes)}
    channels = tuple(c for c in graph.channels if c.source in nodes and c.target in nodes)
    if len(nodes) == len(graph.nodes) and len(channels) == len(graph.channels):
        return graph
    return graph.model_copy(update={"nodes": tuple(nodes[i] for i in _ids(graph)), "channels": channels})


def _stuck(graph: AgentGraph) -> list[tuple[str, ...]]:
    """Cycles in which everybody waits for somebody of the same cycle, and nobody outside leads in."""
    stuck = []
    for cycle in cycles(graph):
        members = set(cycle)
        entered = any(c.target in members and c.source not in members for c in graph.channels)
        waiting = {c.target for c in graph.channels if not c.next_round and c.source != c.target}
        if not entered and members <= waiting:
            stuck.append(cycle)
    return stuck


def _reached(start: Collection[str], steps: Collection[tuple[str, str]]) -> set[str]:
    onward: dict[str, list[str]] = {}
    for here, there in steps:
        onward.setdefault(here, []).append(there)
    reached, fresh = set(start), list(start)
    while fresh:
        for there in onward.get(fresh.pop(), ()):
            if there not in reached:
                reached.add(there)
                fresh.append(there)
    return reached


def _layout_mistakes(layout: str) -> Iterator[str]:
    try:
        fields = [part[1:] for part in string.Formatter().parse(layout) if part[1] is not None]
    except ValueError as cause:
        yield f"layout has a brace too many or too few ({cause}); write {{{{ or }}}} for a brace itself"
        return
    for name, form, conversion in fields:
        if name not in PLACEHOLDERS:
            yield f"layout names {{{name}}}; it may name {{task}} and {{messages}}; write {{{{ for a brace itself"
        elif form or conversion:
            yield f"layout formats {{{name}}}; write the name alone"
    if not fields:
        yield "layout has neither {task} nor {messages}, so the agent would read nothing; add one"


def _person_mistakes(node_id: str, tool: Tool) -> Iterator[Problem]:
    if tool.call != PERSON and tool.call.lower() == PERSON:
        message = f"call {tool.call!r} of tool {tool.name!r} is no plug-in's name; did you mean {PERSON!r}?"
        yield Problem("bad-tool", node_id, message)
    if tool.call == PERSON and tool.takes == "messages":
        message = f"tool {tool.name!r} asks a person, who reads text; leave out takes: messages"
        yield Problem("bad-tool", node_id, message)


def _vote_mistakes(vote: VoteNode, senders: list[str]) -> Iterator[str]:
    if not senders:
        yield "no channel leads to it, so there is nothing to count; add one for each voter"
    for sender, weight in vote.weights.items():
        if senders and sender not in senders:
            yield f"weight for {sender!r}, which it does not hear; {nearest(sender, senders)}"
        if not (math.isfinite(weight) and weight >= 0):
            yield f"weight {weight} of {sender!r} must be a number from 0"
    if senders and all(vote.weights.get(sender, 1.0) == 0 for sender in senders):
        yield "every voter has weight 0; give one a weight above it"
    if vote.extract == "pattern" and not vote.pattern:
        yield "extract is 'pattern', but there is no pattern; add one"
    if vote.extract != "pattern" and vote.pattern is not None:
        yield f"pattern is given, but extract is {vote.extract!r}; set extract: pattern, or leave the pattern out"
    if vote.pattern:
        try:
            re.compile(vote.pattern)
        except re.error as cause:
            yield f"pattern {vote.pattern!r} is not a regular expression ({cause}); mend it"
