"""Who speaks when, and how often.

The schedule is this package's own; an engine only executes it. It is a pure function of the graph and of what routers
chose, so neither timing nor the order in which concurrent nodes finish changes which node runs, how often, or what it
hears.

**Words.** A *cycle* is a strongly connected component: several nodes that can all reach each other, or one node with a
channel to itself. Two nested or overlapping cycles are therefore one. A channel between members of one cycle *carries*
when it is heard in the next round: it is marked `next_round`, leads from a node to itself, or leads back (below). A
channel is *live* when it brings a message and *dead* when a router upstream did not choose it.

**Rules.**

1. A node outside cycles runs once, when every channel into it is live or dead. It hears the live ones. When there are
   channels and all are dead, it is skipped and the channels out of it are dead. A node without a channel into it hears
   the task.
2. A member of a cycle runs once per round by the same rule. Channels inside the cycle that do not carry are waited for
   in each round. Channels that carry bring what was said in the round before; in round 1 they count as absent. Channels
   from outside stay live (or dead) through all rounds.
3. A member into which only carrying channels lead hears the task in round 1. Where the cycle is also entered from
   outside, it waits until all channels into the cycle are live or dead, and is skipped when none is live: a cycle whose
   every entrance was declared dead does not run.
4. A round ends when each member has run or been skipped; then the next begins. The cycle ends after `rounds` rounds; or
   after the round in which a router *left*, which means it fired no channel inside the cycle; or after a round in which
   no member ran. The round in which a router leaves is finished: members that hear something live still run, so the
   number of calls does not depend on who was quicker.
5. Channels out of a cycle become live or dead when it ends, all at once. Such a channel is live when its source ran in
   any round, and, if its source is a router, fired it the last time it ran. It brings the source's last reply.
6. A router may ask for a round that never comes: in the cycle's last round it fires carrying channels only. That choice
   is void, as if it had named no target, so its `default` takes effect: targets in `default` that lie outside the cycle
   fire. With no such default nothing fires, and what hangs on it is dead.
7. A run in which `output` never ran has failed; `Progress.spoken` tells.

**Which channels lead back.** In a cycle, carrying channels aside, depth-first search starts at the entry nodes (members
with a channel from outside, or into which only carrying channels lead) in declared order and follows channels in
declared order; a channel to a node on the current path leads back. Members it cannot reach are searched from next,
first those that a `next_round` channel leads to from a member already found. A cycle without an entry node is a defect
(`graphs.validation`); so that a run of it still ends, it is searched from its first declared member.

Source: dead-path elimination, Leymann and Roller 2000, "Production Workflow: Concepts and Techniques", and WS-BPEL 2.0
    (OASIS 2007), section 11.6.3; back edges, Tarjan 1972, "Depth-first search and linear graph algorithms", SIAM
    Journal on Computing 1(2).
Deviation: a path is dead when a router did not choose it, not when a transition condition is false; a cycle, which
    dead-path elimination does not allow, repeats as a whole.
"""

from collections.abc import Collection, Iterable, Sequence

from graphs.model import AgentGraph, Channel
from graphs.plan import CARRIES, LEAVES, WAITS, Plan, plan_of


class Progress:
    """Where one run of a graph stands: which nodes are due, in which round, and whom they hear.

    It is pure and knows nothing of models; whoever runs the graph calls `start` once and then `deliver` each time a
    node has finished. Nodes that are due at the same time may run at the same time and be delivered in any order.

    >>> from graphs.model import AgentNode
    >>> pair = AgentGraph(
    ...     nodes=(AgentNode(id="a"), AgentNode(id="b")), channels=(Channel(source="a", target="b"),), output="b"
    ... )
    >>> progress = Progress(pair)
    >>> progress.start(), progress.deliver("a"), progress.deliver("b"), progress.finished
    (('a',), ('b',), (), True)

    Args:
        graph: passes `graphs.check`. Its plan is made once and shared by every run of the same object.
    """

    __slots__ = (
        "_carried",
        "_due",
        "_entered",
        "_fires",
        "_left",
        "_live",
        "_missing",
        "_pending",
        "_plan",
        "_ran",
        "_round",
        "_said_in",
        "_started",
        "_unsettled",
    )

    def __init__(self, graph: AgentGraph) -> None:
        plan = self._plan = plan_of(graph)
        channels, components = len(plan.kind), len(plan.members)
        self._fires = bytearray(channels)
        """By channel: whether its source fired it the last time it ran (0 after a skip, for channels inside)."""
        self._live = bytearray(channels)
        """By channel: whether its target hears it in its current round."""
        self._carried = [0] * channels
        """By channel: round in which the message it brings was said."""
        self._pending = list(plan.awaited)
        self._said_in = [0] * len(plan.ids)
        self._round = [1] * components
        self._unsettled = [len(members) for members in plan.members]
        self._missing = list(plan.entrances)
        self._entered = bytearray(components)
        self._left = bytearray(components)
        self._ran = bytearray(components)
        self._due: set[int] = set()
        self._started = False

    def start(self) -> tuple[str, ...]:
        """Nodes that are due at the beginning, in declared order.

        Raises:
            ValueError: when called again.
        """
        if self._started:
            raise ValueError("this run has started already; make a new Progress for another run")
        self._started = True
        plan = self._plan
        return self._names(
            node for c, entrances in enumerate(plan.entrances) if entrances == 0 for node in plan.openers[c]
        )

    def deliver(self, node_id: str, fired: Collection[str] | None = None) -> tuple[str, ...]:
        """Nodes that have become due because `node_id` has finished its round, in declared order.

        Each (node, round) is returned once in a run, by `start` or by one `deliver`.

        Args:
            node_id: a node that is due.
            fired: targets a router chose; `None` fires every channel, an empty collection none.

        Raises:
            ValueError: when the node is not due, or has no channel to a target in `fired`.
        """
        plan, node = self._plan, self._plan.number.get(node_id, -1)
        if node not in self._due:
            due = ", ".join(repr(plan.ids[n]) for n in sorted(self._due)) or "none"
            raise ValueError(f"{node_id!r} is not due; due now: {due}")
        component = plan.component[node]
        if fired is None:
            for channel in plan.out_of[node]:
                self._fires[channel] = 1
        else:
            self._choose(node, fired)
        self._due.remove(node)
        self._said_in[node] = self._round[component]
        self._ran[component] = 1
        return self._names(self._settle([node]))

    def round_of(self, node_id: str) -> int:
        """The round, from 1, that the node is in or will run next; its last one when its cycle has ended."""
        return self._round[self._plan.component[self._plan.number[node_id]]]

    def inbox(self, node_id: str) -> tuple[str, ...]:
        """Senders whom a node that is due hears, in channel order; empty means that it hears the task alone."""
        return tuple(sender for sender, _ in self.inbox_rounds(node_id))

    def inbox_rounds(self, node_id: str) -> tuple[tuple[str, int], ...]:
        """`inbox`, each sender with the round in which it said what is heard.

        In a debate the quicker of two due nodes may finish its round before the slower one begins: the slower one still
        hears what was said in the round before, and must not be given the sender's newest reply.
        """
        plan = self._plan
        heard = (channel for channel in plan.into[plan.number[node_id]] if self._live[channel])
        return tuple((plan.ids[plan.source[channel]], self._carried[channel]) for channel in heard)

    @property
    def spoken(self) -> frozenset[str]:
        """Nodes that have finished at least one round."""
        return frozenset(self._plan.ids[node] for node, said_in in enumerate(self._said_in) if said_in)

    @property
    def finished(self) -> bool:
        """Whether the run has started and nothing is due any more."""
        return self._started and not self._due

    def _names(self, nodes: Iterable[int]) -> tuple[str, ...]:
        found = sorted(nodes)
        self._due.update(found)
        return tuple(self._plan.ids[node] for node in found)

    def _choose(self, node: int, fired: Collection[str]) -> None:
        plan = self._plan
        targets = {plan.ids[plan.target[channel]] for channel in plan.out_of[node]}
        if unknown := sorted(set(fired) - targets):
            raise ValueError(f"{plan.ids[node]!r} has no channel to {unknown}; its targets: {sorted(targets)}")
        for channel in plan.out_of[node]:
            self._fires[channel] = plan.ids[plan.target[channel]] in fired
        inner = plan.inner[node]
        if inner and not any(self._fires[channel] for channel in inner):
            self._left[plan.component[node]] = 1

    def _settle(self, settled: list[int]) -> list[int]:
        """Nodes that become due once the nodes in `settled` have run or been skipped.

        A list of work, not recursion: a dead branch may be thousands of nodes deep.
        """
        plan = self._plan
        due: list[int] = []
        while settled:
            node = settled.pop()
            component = plan.component[node]
            for channel in plan.inner[node]:
                if plan.kind[channel] == WAITS:
                    self._hear(channel, due, settled)
            self._unsettled[component] -= 1
            if self._unsettled[component] == 0:
                if self._ends(component):
                    self._leave(component, due, settled)
                else:
                    self._begin_round(component, due, settled)
        return due

    def _hear(self, channel: int, due: list[int], settled: list[int]) -> None:
        """`channel` is live or dead now; decide on its target when that was the last it waited for."""
        target = self._plan.target[channel]
        self._bring(channel)
        self._pending[target] -= 1
        if self._pending[target] == 0:
            self._decide(target, due, settled)

    def _bring(self, channel: int) -> None:
        self._live[channel] = self._fires[channel]
        self._carried[channel] = self._said_in[self._plan.source[channel]]

    def _decide(self, node: int, due: list[int], settled: list[int]) -> None:
        if any(self._live[channel] for channel in self._plan.into[node]):
            due.append(node)
        else:
            self._skip(node, settled)

    def _skip(self, node: int, settled: list[int]) -> None:
        for channel in self._plan.inner[node]:
            self._fires[channel] = 0
        settled.append(node)

    def _ends(self, component: int) -> bool:
        last = self._round[component] >= self._plan.rounds[component]
        return last or bool(self._left[component]) or not self._ran[component]

    def _begin_round(self, component: int, due: list[int], settled: list[int]) -> None:
        plan, members = self._plan, self._plan.members[component]
        self._round[component] += 1
        self._unsettled[component] = len(members)
        self._ran[component] = 0
        for channel in plan.carrying[component]:
            self._bring(channel)
        for node in members:
            self._pending[node] = plan.awaited_again[node]
        for node in members:
            if plan.awaited_again[node] == 0:
                self._decide(node, due, settled)

    def _leave(self, component: int, due: list[int], settled: list[int]) -> None:
        plan = self._plan
        for router, default in plan.defaults[component]:
            self._take_default(router, default)
        for channel in plan.leaving[component]:
            self._hear(channel, due, settled)
            self._enter(plan.component[plan.target[channel]], self._live[channel], due, settled)

    def _take_default(self, router: int, default: frozenset[str]) -> None:
        """Fire the router's default targets outside, when all it fired was a round that does not come."""
        plan = self._plan
        fired = [channel for channel in plan.out_of[router] if self._fires[channel]]
        spoke_last = self._said_in[router] == self._round[plan.component[router]]
        if spoke_last and fired and all(plan.kind[channel] == CARRIES for channel in fired):
            for channel in plan.out_of[router]:
                if plan.kind[channel] == LEAVES:
                    self._fires[channel] = plan.ids[plan.target[channel]] in default

    def _enter(self, component: int, live: int, due: list[int], settled: list[int]) -> None:
        """One more channel into `component` is decided; with the last, decide on members that wait for no channel."""
        self._entered[component] |= live
        self._missing[component] -= 1
        if self._missing[component] == 0:
            for node in self._plan.openers[component]:
                if self._entered[component]:
                    due.append(node)
                else:
                    self._skip(node, settled)


def stages(graph: AgentGraph) -> tuple[tuple[str, ...], ...]:
    """Nodes by the earliest moment they can run, first to last; each node once, in declared order within a stage.

    Members of a cycle stand where they run in round 1, and whatever a cycle leads to stands after all of it.
    """
    plan = plan_of(graph)
    stage, after = [0] * len(plan.ids), [0] * len(plan.members)
    for component, members in enumerate(plan.members):
        entrances = [c for node in members for c in plan.into[node] if plan.kind[c] == LEAVES]
        opening = max((after[plan.component[plan.source[c]]] for c in entrances), default=0)
        for node in _in_running_order(plan, members):
            stage[node] = opening if plan.awaited[node] == 0 else 0
            for channel in plan.into[node]:
                sender = plan.source[channel]
                if plan.kind[channel] == WAITS:
                    stage[node] = max(stage[node], stage[sender] + 1)
                elif plan.kind[channel] == LEAVES:
                    stage[node] = max(stage[node], after[plan.component[sender]])
        after[component] = max(stage[node] for node in members) + 1
    return tuple(
        tuple(plan.ids[node] for node, at in enumerate(stage) if at == number) for number in sorted(set(stage))
    )


def cycles(graph: AgentGraph) -> tuple[tuple[str, ...], ...]:
    """Members of each cycle, in declared order; cycles in the order of their first members."""
    plan = plan_of(graph)
    found = [members for members in plan.members if any(plan.inner[node] for node in members)]
    return tuple(tuple(plan.ids[node] for node in members) for members in sorted(found))


def carried(graph: AgentGraph) -> tuple[Channel, ...]:
    """Channels heard in the next round: marked so, from a node to itself, or leading back in a cycle."""
    plan = plan_of(graph)
    return tuple(channel for channel, kind in zip(graph.channels, plan.kind, strict=True) if kind == CARRIES)


def runs(graph: AgentGraph) -> dict[str, int]:
    """How often each node runs when no router turns anything away: `rounds` in a cycle, else once."""
    plan = plan_of(graph)
    return {node_id: plan.rounds[plan.component[node]] for node, node_id in enumerate(plan.ids)}


def _in_running_order(plan: Plan, members: Sequence[int]) -> list[int]:
    """Members of a component, each after those it waits for in a round."""
    missing = {node: plan.awaited_again[node] for node in members}
    order = [node for node in members if missing[node] == 0]
    for node in order:  # grows while it is walked
        for channel in plan.inner[node]:
            if plan.kind[channel] == WAITS:
                missing[plan.target[channel]] -= 1
                if missing[plan.target[channel]] == 0:
                    order.append(plan.target[channel])
    return order
