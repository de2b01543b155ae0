"""From a chosen set to an agent graph.

Tools become tool nodes that read the task and speak to one agent; agents speak to the same agent, which is then their
supervisor. What the agent says is the team's reply. Another motif can be given instead.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import count

from graphs import AgentGraph, AgentNode, Channel, Node, Provenance, Sampling, Tool, ToolNode, VoteNode
from graphs.motifs import MOTIFS
from orchestra.agents.inventory import Component, Inventory
from orchestra.benchmarks.tasks import Task

OUTPUT = "answerer"
"""Id of the agent that speaks for an assembled team, unless a component has that name."""
BALLOT = "ballot"
"""Id of the node that counts the answers of a team that votes, likewise."""
ROLE = "You are given a question and tool results. Copy the tool result that answers the question."
LAYOUT = "Question: {task}\nTool result: {messages}\nAnswer:"
FEWEST_AGENTS: Mapping[str, int] = {"debate": 2, "relay": 2}
"""Agents among the components without which a shape is none."""
SAMPLING = Sampling(temperature=0.0, max_tokens=32)
"""Greedy and short: an answer, not an essay."""


def supervisor(*, tools: Sequence[Tool] = (), beside: Collection[str] = ()) -> AgentNode:
    """The agent of an assembled team; alone, it is the base agent that trials compare with.

    Args:
        tools: it may call itself.
        beside: ids that are taken.
    """
    return AgentNode(id=_free(OUTPUT, beside), role=ROLE, layout=LAYOUT, tools=tuple(tools))


def assemble(
    chosen: Sequence[Component],
    inventory: Inventory,
    *,
    model: str | None = None,
    motif: str = "star",
    ballot: VoteNode | None = None,
    provenance: Provenance | None = None,
) -> AgentGraph:
    """The team of the `chosen` components; without any, the base agent alone.

    In a vote the base agent is one of the voters; a shape that the chosen components have too few agents for, or too
    many, is a star.

    Args:
        inventory: where the tools of agents are looked up by name.
        model: of every agent that names none.
        motif: name of a shape in `graphs.motifs.MOTIFS`.
        ballot: how a vote is counted; `None` compares whole answers.
    """
    members = [member(component, inventory) for component in sorted(chosen, key=lambda c: c.name)]
    taken = {node.id for node in members}
    head: Node = supervisor(beside=taken)
    motif = motif_for(motif, chosen)
    if motif == "vote":
        counted = ballot or VoteNode(id=BALLOT)
        members, head = [*members, head], counted.model_copy(update={"id": _free(counted.id, taken)})
    tools = tuple(node for node in members if isinstance(node, ToolNode)) if motif == "star" else ()
    seated = [node for node in members if node not in tools]
    graph = MOTIFS[motif](seated, head=head, name="team", model=model, sampling=SAMPLING)
    # In a star only the one that answers hears the tools: the others answer alone, and would be paid to read them all.
    spoken = tuple(Channel(source=tool.id, target=head.id) for tool in tools)
    changes = {"nodes": (*tools, *graph.nodes), "channels": (*spoken, *graph.channels), "provenance": provenance}
    return graph.model_copy(update=changes)


def ballot_for(tasks: Collection[Task]) -> VoteNode:
    """How answers to `tasks` are counted where nobody said: by what the tasks' scorers read of them."""
    numeric = sum(task.scorer == "numeric" for task in tasks) * 2 > len(tasks)
    return VoteNode(id=BALLOT, extract="last-number" if numeric else "whole")


def motif_for(wanted: str, chosen: Sequence[Component]) -> str:
    """The shape that the chosen components can take: the wanted one, or a star."""
    agents = sum(component.kind == "agent" for component in chosen)
    return "star" if agents < FEWEST_AGENTS.get(wanted, 0) or (wanted == "solo" and agents) else wanted


def _free(wanted: str, taken: Collection[str]) -> str:
    return wanted if wanted not in taken else next(n for i in count(2) if (n := f"{wanted}-{i}") not in taken)


def single_agent(chosen: Sequence[Component], inventory: Inventory, *, model: str | None = None) -> AgentGraph:
    """One agent that may call every chosen tool itself: the second equal-cost baseline.

    Agents cannot be called, so their prompts are put under the agent's own.
    """
    by_name = {component.name: component for component in inventory.components}
    names = [c.name for c in chosen if c.kind == "tool"] + [name for c in chosen for name in c.tools]
    tools = [tool(by_name[name]) for name in sorted(set(names))]
    advice = [c.prompt for c in chosen if c.kind == "agent" and c.prompt]
    head = supervisor(tools=tools)
    role = "\n\n".join([head.role, *advice])
    head = head.model_copy(update={"role": role})
    return AgentGraph(name="single agent", model=model, nodes=(head,), output=head.id, sampling=SAMPLING)


def member(component: Component, inventory: Inventory) -> Node:
    """The node that `component` becomes."""
    if component.kind == "tool":
        return ToolNode(
            id=component.name, tool=tool(component), component=component.name, price_usd=component.price_usd
        )
    by_name = {other.name: other for other in inventory.components}
    return AgentNode(
        id=component.name,
        role=component.prompt or "",
        model=component.model,
        tools=tuple(tool(by_name[name]) for name in component.tools),
        sampling=component.sampling,
        component=component.name,
        price_usd=component.price_usd,
    )


def tool(component: Component) -> Tool:
    """The function behind a tool component."""
    assert component.call is not None, "an inventory is checked when it is read: every tool has a call"
    return Tool(
        name=component.name,
        call=component.call,
        description=component.description,
        timeout_seconds=component.timeout_seconds,
        memory_mib=component.memory_mib,
        idempotent=component.idempotent,
    )
