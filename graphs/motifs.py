"""The well-known shapes of teams, each built from a list of members.

What is always true: a motif of sound members passes `graphs.check`; members keep their order; a member given as text
becomes an agent with that role; and a tool node among the members is no seat of the shape, but is heard by every agent
of it, `head` included. So a composer may hand over whatever it chose, tools and agents alike.

    solo      one agent, hearing the tools
    chain     each hears the one before
    star      a supervisor hears all
    tree      each hears its children, the first member at the root
    debate    all hear all others round after round, then a judge hears them
    vote      all answer alone, and the votes are counted without a model
    relay     a chain whose last hands back to its first, round after round
    layered   all of a layer hear all of the layer before, then a head hears the last layer
    complete  each hears all before it
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Protocol, TypedDict, Unpack

from graphs.model import AgentGraph, AgentNode, Channel, Node, Sampling, ToolNode, VoteNode

Member = Node | str
"""A node, or the role of an agent."""

SUPERVISOR = "You lead a team. Read what its members found and answer the task yourself, briefly and exactly."
JUDGE = "You judge a debate. Read every position, decide which is right, and answer the task, briefly and exactly."
AGGREGATOR = "You are given several answers to one task. Weigh them and give one better answer, briefly and exactly."


class Settings(TypedDict, total=False):
    """What may be said of any team, whatever its shape."""

    name: str
    """Default: the motif's name."""
    model: str | None
    """Of every agent that names none."""
    sampling: Sampling
    """Of every agent that names none."""
    rounds: int
    """How often a cycle runs. Default: 2 in a debate and a relay; the others have no cycle."""


class Motif(Protocol):
    """Builds a team of one shape."""

    def __call__(
        self, members: Sequence[Member], *, head: Node | None = None, **settings: Unpack[Settings]
    ) -> AgentGraph:
        """The team.

        Args:
            members: who plays, in order: nodes, or roles of agents. Tool nodes are heard by all agents.
            head: who speaks for the team; shapes that need one have a default, in the others it is put at the end.
            settings: of the team.

        Raises:
            ValueError: when there are too few or too many members, or two share an id.
        """
        ...


def solo(members: Sequence[Member], *, head: Node | None = None, **settings: Unpack[Settings]) -> AgentGraph:
    """One agent, the head or the only agent among the members, hears the tools."""
    seats, tools = _seated(members, head)
    if not seats and head is None:
        head = AgentNode(id=_free("agent", tools))
    everybody = _with_head(seats, head)
    if len(everybody) != 1:
        raise ValueError(f"a solo is one agent with its tools; got {len(everybody)} agents; use another motif")
    return _team("solo", everybody, tools, [], settings)


def chain(members: Sequence[Member], *, head: Node | None = None, **settings: Unpack[Settings]) -> AgentGraph:
    """Each hears the one before; the last speaks for the team."""
    seats, tools = _seated(members, head)
    line = _with_head(seats, head)
    pairs = [(a.id, b.id) for a, b in pairwise(line)]
    return _team("chain", line, tools, pairs, settings)


def star(members: Sequence[Member], *, head: Node | None = None, **settings: Unpack[Settings]) -> AgentGraph:
    """All answer alone; a supervisor hears all of them and speaks for the team."""
    seats, tools = _seated(members, head)
    head = head or AgentNode(id=_free("supervisor", (*seats, *tools)), role=SUPERVISOR)
    pairs = [(seat.id, head.id) for seat in seats]
    return _team("star", (*seats, head), tools, pairs, settings)


def tree(members: Sequence[Member], *, head: Node | None = None, **settings: Unpack[Settings]) -> AgentGraph:
    """A binary tree: the head or the first member is its root, and each hears its two children."""
    seats, tools = _seated(members, head)
    nodes = (head, *seats) if head is not None else seats
    pairs = [(nodes[child].id, nodes[(child - 1) // 2].id) for child in range(1, len(nodes))]
    return _team("tree", nodes, tools, pairs, settings, output=nodes[0].id if nodes else "")


def debate(members: Sequence[Member], *, head: Node | None = None, **settings: Unpack[Settings]) -> AgentGraph:
    """All speak at once in each of two rounds, hearing what the others said in the one before; a judge speaks last.

    Source: Du et al. 2023, "Improving Factuality and Reasoning in Language Models through Multiagent Debate",
        arXiv:2305.14325.
    Deviation: a judge gives the answer where the paper takes a majority; give a vote node as head for that.
    """
    seats, tools = _seated(members, head)
    if len(seats) < 2:
        raise ValueError(f"a debate needs two agents or more; got {len(seats)}")
    head = head or AgentNode(id=_free("judge", (*seats, *tools)), role=JUDGE)
    again = [(a.id, b.id) for a in seats for b in seats if a is not b]
    pairs = [(seat.id, head.id) for seat in seats]
    return _team("debate", (*seats, head), tools, pairs, settings, again=again)


def vote(members: Sequence[Member], *, head: Node | None = None, **settings: Unpack[Settings]) -> AgentGraph:
    """All answer alone and their answers are counted; `head` may be a vote node that says how.

    Source: Wang et al. 2022, "Self-Consistency Improves Chain of Thought Reasoning in Language Models",
        arXiv:2203.11171.
    Deviation: the voters may be different agents, not samples of one.
    """
    seats, tools = _seated(members, head)
    if not seats:
        raise ValueError("a vote needs at least one agent; add a member")
    head = head or VoteNode(id=_free("vote", (*seats, *tools)))
    if not isinstance(head, VoteNode):
        raise ValueError(f"the head of a vote is a vote node, not an agent or a tool like {head.id!r}; use star")
    pairs = [(seat.id, head.id) for seat in seats]
    return _team("vote", (*seats, head), tools, pairs, settings)


def relay(members: Sequence[Member], *, head: Node | None = None, **settings: Unpack[Settings]) -> AgentGraph:
    """A chain run twice: the last member hands back to the first; the head, if any, hears the last at the end."""
    seats, tools = _seated(members, head)
    line = _with_head(seats, head)
    pairs = [(a.id, b.id) for a, b in pairwise(line)]
    again = [(seats[-1].id, seats[0].id)] if seats else []
    return _team("relay", line, tools, pairs, settings, again=again)


def layered(members: Sequence[Member], *, head: Node | None = None, **settings: Unpack[Settings]) -> AgentGraph:
    """Two layers (the first no smaller than the second), each hearing all of the layer before, and a head.

    Source: Wang et al. 2024, "Mixture-of-Agents Enhances Large Language Model Capabilities", arXiv:2406.04692.
    Deviation: two layers of different members, where the paper repeats the same models in each layer.
    """
    seats, tools = _seated(members, head)
    head = head or AgentNode(id=_free("aggregator", (*seats, *tools)), role=AGGREGATOR)
    half = (len(seats) + 1) // 2
    layers = (seats[:half], seats[half:]) if len(seats) > 1 else (seats,)
    layers = (*layers, (head,))
    pairs = [(a.id, b.id) for before, after in pairwise(layers) for a in before for b in after]
    return _team("layered", (*seats, head), tools, pairs, settings)


def complete(members: Sequence[Member], *, head: Node | None = None, **settings: Unpack[Settings]) -> AgentGraph:
    """Each hears all before it; the last speaks for the team.

    Source: Qian et al. 2024, "Scaling Large Language Model-based Multi-Agent Collaboration", arXiv:2406.07155 (mesh).
    Deviation: agents sit on the nodes only, not on the edges as well.
    """
    seats, tools = _seated(members, head)
    line = _with_head(seats, head)
    pairs = [(a.id, b.id) for position, b in enumerate(line) for a in line[:position]]
    return _team("complete", line, tools, pairs, settings)


MOTIFS: Mapping[str, Motif] = {
    "solo": solo,
    "chain": chain,
    "star": star,
    "tree": tree,
    "debate": debate,
    "vote": vote,
    "relay": relay,
    "layered": layered,
    "complete": complete,
}
"""Every motif by its name."""


def _seated(members: Sequence[Member], head: Node | None) -> tuple[tuple[Node, ...], tuple[ToolNode, ...]]:
    """Members as nodes: those that take a seat in the shape, and the tools."""
    taken = {member.id for member in members if not isinstance(member, str)} | ({head.id} if head else set())
    nodes: list[Node] = []
    for member in members:
        if isinstance(member, str):
            number = next(n for n in range(1, len(taken) + 2) if f"agent-{n}" not in taken)
            member = AgentNode(id=f"agent-{number}", role=member)
            taken.add(member.id)
        nodes.append(member)
    seats = tuple(node for node in nodes if not isinstance(node, ToolNode))
    return seats, tuple(node for node in nodes if isinstance(node, ToolNode))


def _with_head(seats: tuple[Node, ...], head: Node | None) -> tuple[Node, ...]:
    return (*seats, head) if head is not None else seats


def _free(wanted: str, nodes: Iterable[Node]) -> str:
    """`wanted`, or the first numbered variant of it that no node has."""
    taken = {node.id for node in nodes}
    names = (wanted if n == 1 else f"{wanted}-{n}" for n in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)


def _team(
    motif: str,
    seats: Sequence[Node],
    tools: Sequence[ToolNode],
    pairs: Iterable[tuple[str, str]],
    settings: Settings,
    *,
    output: str | None = None,
    again: Sequence[tuple[str, str]] = (),
) -> AgentGraph:
    """The graph of a shape; tools are placed before the agents, and heard before other agents are."""
    if not seats:
        raise ValueError(f"a {motif} needs at least one agent; add a member")
    nodes = (*tools, *seats)
    if repeated := sorted({node.id for node in nodes if sum(other.id == node.id for other in nodes) > 1}):
        raise ValueError(f"several members of the {motif} are called {repeated}; give each its own id")
    hearing = [seat for seat in seats if not isinstance(seat, VoteNode)]
    channels = [Channel(source=tool.id, target=seat.id) for seat in hearing for tool in tools]
    channels += [Channel(source=source, target=target) for source, target in pairs]
    channels += [Channel(source=source, target=target, next_round=True) for source, target in again]
    shape = AgentGraph(
        name=motif, nodes=nodes, channels=tuple(channels), output=output or seats[-1].id, rounds=2 if again else 1
    )
    return AgentGraph(**{**dict(shape), **settings})
