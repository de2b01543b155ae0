"""From a chosen set to an agent graph.

Tools become tool nodes that read the task and speak to one agent; agents speak to the same agent, which is then their
supervisor. What the agent says is the team's reply. Another motif can be given instead.
"""

from collections.abc import Sequence

from graphs import AgentGraph, AgentNode, Node, Provenance, Sampling, Tool, ToolNode
from graphs.motifs import Motif, star
from orchestra.agents.inventory import Component, Inventory

OUTPUT = "answerer"
"""Id of the agent that speaks for an assembled team."""
ROLE = "You are given a question and tool results. Copy the tool result that answers the question."
LAYOUT = "Question: {task}\nTool result: {messages}\nAnswer:"
SAMPLING = Sampling(temperature=0.0, max_tokens=32)
"""Greedy and short: an answer, not an essay."""


def supervisor(model: str | None = None, *, tools: Sequence[Tool] = ()) -> AgentNode:
    """The agent of an assembled team; alone, it is the base agent that trials compare with."""
    return AgentNode(id=OUTPUT, role=ROLE, layout=LAYOUT, model=model, tools=tuple(tools))


def assemble(
    chosen: Sequence[Component],
    inventory: Inventory,
    *,
    model: str | None = None,
    motif: Motif = star,
    provenance: Provenance | None = None,
) -> AgentGraph:
    """The team of the `chosen` components; without any, the base agent alone.

    Args:
        inventory: where the tools of agents are looked up by name.
        model: of every agent that names none.
        motif: makes a graph of the members and the agent that speaks for them; one of `graphs.motifs.MOTIFS`.
    """
    members = [member(component, inventory) for component in sorted(chosen, key=lambda c: c.name)]
    graph = motif(members, head=supervisor(), name="team", model=model, sampling=SAMPLING)
    return graph.model_copy(update={"provenance": provenance})


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
