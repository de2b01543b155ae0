"""The part of a schedule that is the same in every run of a graph: components, and which channels carry.

Private to `graphs.schedule`, whose docstring defines the terms. Nodes and channels are numbers here, so that a delivery
costs microseconds; a plan is made once for a graph and shared by all its runs.
"""

import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from graphs.model import AgentGraph, RouterNode

WAITS, CARRIES, LEAVES = 0, 1, 2
"""A channel is waited for within a round, carries to the next, or leaves its component."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What does not change from run to run.

    Nodes and channels are numbered in declared order, components so that channels lead from lower to higher.
    """

    ids: tuple[str, ...]
    number: dict[str, int]
    source: tuple[int, ...]
    target: tuple[int, ...]
    kind: bytes
    """By channel: `WAITS` within a round, `CARRIES` to the next, or `LEAVES` its component."""
    into: tuple[tuple[int, ...], ...]
    """By node: channels that lead to it."""
    out_of: tuple[tuple[int, ...], ...]
    inner: tuple[tuple[int, ...], ...]
    """By node: channels out of it that stay in its component."""
    awaited: tuple[int, ...]
    """By node: channels it waits for in round 1: from outside, and those inside that do not carry."""
    awaited_again: tuple[int, ...]
    """By node: channels it waits for in each later round."""
    component: tuple[int, ...]
    """By node."""
    members: tuple[tuple[int, ...], ...]
    """By component."""
    carrying: tuple[tuple[int, ...], ...]
    """By component: its channels that carry."""
    leaving: tuple[tuple[int, ...], ...]
    entrances: tuple[int, ...]
    """By component: number of channels into it from outside."""
    openers: tuple[tuple[int, ...], ...]
    """By component: members that wait for nothing in round 1."""
    rounds: tuple[int, ...]
    """By component: most rounds it runs."""
    defaults: tuple[tuple[tuple[int, frozenset[str]], ...], ...]
    """By component: its routers with a default."""


_PLANS: dict[int, tuple["weakref.ref[AgentGraph]", Plan]] = {}
"""Plans by `id` of a living graph. Not by value: hashing a graph costs more than many deliveries."""


def plan_of(graph: AgentGraph) -> Plan:
    """The plan of `graph`, made when first asked for and kept as long as the graph lives."""
    key = id(graph)
    known = _PLANS.get(key)
    if known is not None and known[0]() is graph:
        return known[1]
    plan = _planned(graph)
    _PLANS[key] = (weakref.ref(graph, lambda _: _PLANS.pop(key, None)), plan)
    return plan


def _planned(graph: AgentGraph) -> Plan:
    ids = tuple(node.id for node in graph.nodes)
    number = {node_id: position for position, node_id in reversed(list(enumerate(ids)))}
    source = tuple(number[channel.source] for channel in graph.channels)
    target = tuple(number[channel.target] for channel in graph.channels)
    nodes, channels = range(len(ids)), range(len(source))
    into = tuple(_grouped(target, len(ids)))
    out_of = tuple(_grouped(source, len(ids)))
    members = _components(len(ids), out_of, target)
    component = [0] * len(ids)
    for position, group in enumerate(members):
        for node in group:
            component[node] = position
    kind = bytearray(LEAVES if component[source[c]] != component[target[c]] else WAITS for c in channels)
    for channel in channels:
        if kind[channel] == WAITS and (graph.channels[channel].next_round or source[channel] == target[channel]):
            kind[channel] = CARRIES
    for group in members:
        for channel in _leading_back(group, target, kind, into, out_of):
            kind[channel] = CARRIES
    inner = tuple(tuple(c for c in out_of[node] if kind[c] != LEAVES) for node in nodes)
    awaited = tuple(sum(kind[c] != CARRIES for c in into[node]) for node in nodes)
    default_of = {n: frozenset(node.default) for n, node in enumerate(graph.nodes) if isinstance(node, RouterNode)}
    return Plan(
        ids=ids,
        number=number,
        source=source,
        target=target,
        kind=bytes(kind),
        into=into,
        out_of=out_of,
        inner=inner,
        awaited=awaited,
        awaited_again=tuple(sum(kind[c] == WAITS for c in into[node]) for node in nodes),
        component=tuple(component),
        members=members,
        carrying=tuple(tuple(c for n in group for c in inner[n] if kind[c] == CARRIES) for group in members),
        leaving=tuple(tuple(c for n in group for c in out_of[n] if kind[c] == LEAVES) for group in members),
        entrances=tuple(sum(kind[c] == LEAVES for n in group for c in into[n]) for group in members),
        openers=tuple(tuple(n for n in group if awaited[n] == 0) for group in members),
        rounds=tuple(graph.rounds if any(inner[n] for n in group) else 1 for group in members),
        defaults=tuple(tuple((n, default_of[n]) for n in group if default_of.get(n)) for group in members),
    )


def _grouped(ends: Sequence[int], nodes: int) -> list[tuple[int, ...]]:
    """Channels by the node at this end of them."""
    groups: list[list[int]] = [[] for _ in range(nodes)]
    for channel, node in enumerate(ends):
        groups[node].append(channel)
    return [tuple(group) for group in groups]


def _components(nodes: int, out_of: Sequence[Sequence[int]], target: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Strongly connected components, so ordered that channels lead from earlier to later; members ascending.

    Source: Sharir 1981, "A strong-connectivity algorithm and its applications in data flow analysis", Computers &
        Mathematics with Applications 7(1) (Kosaraju's algorithm).
    Deviation: none.
    """
    forward = [[target[channel] for channel in out_of[node]] for node in range(nodes)]
    backward: list[list[int]] = [[] for _ in range(nodes)]
    for node, heard_by in enumerate(forward):
        for listener in heard_by:
            backward[listener].append(node)
    seen: set[int] = set()
    order = [node for root in range(nodes) for node in _postorder(root, forward, seen)]
    seen = set()
    groups = (_postorder(root, backward, seen) for root in reversed(order))
    return tuple(tuple(sorted(group)) for group in groups if group)


def _postorder(root: int, neighbours: Sequence[Sequence[int]], seen: set[int]) -> list[int]:
    """Nodes first reached from `root`, each after all found through it; nothing when `root` was seen before.

    It has its own stack: a chain of agents may be longer than Python's recursion allows.
    """
    order: list[int] = []
    if root in seen:
        return order
    seen.add(root)
    path = [(root, iter(neighbours[root]))]
    while path:
        node, ways = path[-1]
        unseen = next((way for way in ways if way not in seen), None)
        if unseen is None:
            order.append(node)
            path.pop()
        else:
            seen.add(unseen)
            path.append((unseen, iter(neighbours[unseen])))
    return order


def _leading_back(
    group: tuple[int, ...],
    target: Sequence[int],
    kind: bytearray,
    into: Sequence[Sequence[int]],
    out_of: Sequence[Sequence[int]],
) -> list[int]:
    """Channels of a component that lead to a node on the path by which depth-first search found their source."""
    entries = [n for n in group if any(kind[c] == LEAVES for c in into[n]) or all(kind[c] == CARRIES for c in into[n])]
    roots = deque(entries or group[:1])
    on_path: dict[int, bool] = {}
    back: list[int] = []
    while roots:
        root = roots.popleft()
        if root in on_path:
            continue
        on_path[root], path = True, [(root, iter(out_of[root]))]
        while path:
            node, ways = path[-1]
            for channel in ways:
                heard_by = target[channel]
                if kind[channel] == CARRIES:
                    roots.append(heard_by)
                elif kind[channel] == WAITS and heard_by not in on_path:
                    on_path[heard_by] = True
                    path.append((heard_by, iter(out_of[heard_by])))
                    break
                elif kind[channel] == WAITS and on_path[heard_by]:
                    back.append(channel)
            else:
                on_path[node] = False
                path.pop()
    return back
