"""From a chosen set to an agent graph.

Tools become tool nodes that read the task and speak to one agent; agents speak to the same agent, which is then their
supervisor. What the agent says is the team's reply. An adapter changes the weights that agent runs with; one that has a
prompt of its own, and every further one, is an agent. Another motif can be given instead.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import count
from math import inf
from pathlib import Path

from graphs import AgentGraph, AgentNode, Channel, Node, Provenance, Sampling, Tool, ToolNode, VoteNode
from graphs.motifs import MOTIFS
from orchestra.agents.inventory import Component, Inventory
from orchestra.benchmarks.tasks import Task
from orchestra.errors import InputError
from orchestra.models import adapters
from orchestra.models.peft_files import Adapter

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


def supervisor(
    *,
    tools: Sequence[Tool] = (),
    beside: Collection[str] = (),
    adapter: Component | None = None,
    model: str | None = None,
) -> AgentNode:
    """The agent of an assembled team; alone, it is the base agent that trials compare with.

    Args:
        tools: it may call itself.
        beside: ids that are taken.
        adapter: it runs with; it is then called as the adapter is.
        model: it runs with.
    """
    agent = AgentNode(id=_free(OUTPUT, beside), role=ROLE, layout=LAYOUT, tools=tuple(tools), model=model)
    if adapter is None:
        return agent
    changes = {"component": adapter.name, "price_usd": adapter.price_usd, "sampling": adapter.sampling}
    return agent.model_copy(update={"id": adapter.name, **changes})


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
    worn = worn_by_the_head(chosen)
    ordered = sorted((component for component in chosen if component is not worn), key=lambda c: c.name)
    members = [member(component, inventory, model=model) for component in ordered]
    taken = {node.id for node in members}
    own = None if worn is None else adapter_model(worn, inventory, model)
    head: Node = supervisor(beside=taken, adapter=worn, model=own)
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
    """How answers to `tasks` are counted where nobody said: by their numbers if all are scored by these, else whole.

    A number taken from the answer to another task would leave nothing to score.
    """
    numeric = all(task.scorer == "numeric" for task in tasks)
    return VoteNode(id=BALLOT, extract="last-number" if numeric else "whole")


def motif_for(wanted: str, chosen: Sequence[Component]) -> str:
    """The shape that the chosen components can take: the wanted one, or a star."""
    agents = agents_among(chosen)
    return "star" if agents < FEWEST_AGENTS.get(wanted, 0) or (wanted == "solo" and agents) else wanted


def agents_among(chosen: Sequence[Component]) -> int:
    """How many of the chosen components speak for themselves, the one that answers for all left out."""
    worn = worn_by_the_head(chosen)
    return sum(component.kind != "tool" and component is not worn for component in chosen)


def worn_by_the_head(chosen: Sequence[Component]) -> Component | None:
    """The adapter that the agent which answers for the team runs with: the most valuable of those without a prompt."""
    fitting = [component for component in chosen if component.kind == "adapter" and not component.prompt]
    return min(fitting, key=lambda c: (-(c.value if c.value is not None else -inf), c.name), default=None)


def adapter_model(component: Component, inventory: Inventory, model: str | None = None) -> str:
    """Name of the model that is an adapter component over its base, with the version that is meant.

    An adapter at a path is copied to the user's folder first, so that the team stays what it is.

    Raises:
        InputError: there is no such adapter, or nothing says what it is over.
    """
    base = component.base or model
    if base is None:
        raise InputError(f"the adapter {component.name!r} says no `base`, and there is no model for the team")
    found = _meant(component, inventory)
    return adapters.over(base, (found if component.path is None else adapters.snapshot(found)).served)


def valued(inventory: Inventory) -> Inventory:
    """The inventory, with what their cards say for the adapters whose `value` it leaves out.

    Raises:
        InputError: there is no such adapter.
    """
    components = []
    for component in inventory.components:
        if component.kind == "adapter" and component.value is None:
            card = _meant(component, inventory).card
            measured = None if card is None or card.value is None else card.value.mean
            component = component.model_copy(update={"value": measured})
        components.append(component)
    return inventory.model_copy(update={"components": tuple(components)})


def _meant(component: Component, inventory: Inventory) -> Adapter:
    """The adapter on this machine that an adapter component means.

    Raises:
        InputError: there is none.
    """
    if component.path is None:
        version = "" if component.version is None else f"@{component.version}"
        return adapters.found(f"{component.name}{version}")
    beside = Path() if inventory.path is None else inventory.path.parent
    found = adapters.found(str(beside / Path(component.path).expanduser()))
    if component.version not in (None, found.version):
        raise InputError(f"{component.path!r} holds {found.served!r}, not version {component.version!r}")
    return found


def _free(wanted: str, taken: Collection[str]) -> str:
    return wanted if wanted not in taken else next(n for i in count(2) if (n := f"{wanted}-{i}") not in taken)


def single_agent(chosen: Sequence[Component], inventory: Inventory, *, model: str | None = None) -> AgentGraph:
    """One agent that may call every chosen tool itself: the second equal-cost baseline.

    Agents cannot be called, so their prompts are put under the agent's own.
    """
    by_name = {component.name: component for component in inventory.components}
    names = [c.name for c in chosen if c.kind == "tool"] + [name for c in chosen for name in c.tools]
    tools = [tool(by_name[name]) for name in sorted(set(names))]
    advice = [c.prompt for c in chosen if c.kind != "tool" and c.prompt]
    worn = worn_by_the_head(chosen)
    own = None if worn is None else adapter_model(worn, inventory, model)
    head = supervisor(tools=tools, adapter=worn, model=own)
    role = "\n\n".join([head.role, *advice])
    head = head.model_copy(update={"role": role})
    return AgentGraph(name="single agent", model=model, nodes=(head,), output=head.id, sampling=SAMPLING)


def member(component: Component, inventory: Inventory, *, model: str | None = None) -> Node:
    """The node that `component` becomes.

    Args:
        model: of the team; an adapter that names no base is over it.
    """
    if component.kind == "tool":
        return ToolNode(
            id=component.name, tool=tool(component), component=component.name, price_usd=component.price_usd
        )
    by_name = {other.name: other for other in inventory.components}
    is_adapter = component.kind == "adapter"
    return AgentNode(
        id=component.name,
        role=component.prompt or (ROLE if is_adapter else ""),
        model=adapter_model(component, inventory, model) if is_adapter else component.model,
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
