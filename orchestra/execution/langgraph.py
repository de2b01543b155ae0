"""An agent graph as a LangGraph application.

LangGraph runs the nodes; `graphs.schedule` says which are ready. Every node ends with a `Command` that names the
nodes its words have made ready, so a join fed at unequal depths runs once and a branch that a router left alone
does not block it. Plain and list edges of LangGraph are not used: the first run a join twice, the second wait for a
branch that never comes. The state holds plain JSON: the last words of each node.

LangGraph begins a step when every node of the step before has ended. Who is ready while somebody else still speaks
does not wait for that: it takes its turn within the step. A node that fails does not raise, for LangGraph would cancel
whoever speaks beside it: it is noted on the play, and nobody begins any more.

This is the one module that imports LangGraph.
"""

import asyncio
from collections.abc import Iterable
from operator import or_
from typing import Annotated, Protocol, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command
from langsmith import tracing_context

from graphs import AgentGraph
from graphs.model import Node
from orchestra.errors import BudgetError, EpisodeError, Paused, TeamError
from orchestra.execution.events import NodeStarted
from orchestra.execution.nodes import Turn, speak
from orchestra.execution.play import Play
from orchestra.execution.timing import within
from orchestra.traces import names


class Said(TypedDict):
    """State of a run: last words by node."""

    said: Annotated[dict[str, str | None], or_]


class _Step(Protocol):
    """A node as LangGraph calls it; it looks at the names of the parameters."""

    async def __call__(self, state: Said, *, runtime: Runtime[Play]) -> Command[str]: ...


Application = CompiledStateGraph[Said, Play, Said, Said]


def _step(node: Node) -> _Step:
    async def step(state: Said, *, runtime: Runtime[Play]) -> Command[str]:
        said: dict[str, str | None] = {}
        ready = await _turn(runtime.context, node, said)
        if ready and runtime.context.due > len(ready):
            ready = await _branch(runtime.context, ready, said)
        return Command(update={"said": said}, goto=list(ready))

    return step


async def _branch(play: Play, ready: tuple[str, ...], said: dict[str, str | None]) -> tuple[str, ...]:
    """Take the turns that are due while others still speak; what is due when nobody does is left to the next step."""
    while ready and play.due > len(ready):
        if len(ready) == 1:
            ready = await _turn(play, play.graph.node(ready[0]), said)
            continue
        try:
            async with asyncio.TaskGroup() as group:
                turns = [group.create_task(_branch_of(play, node_id, said)) for node_id in ready]
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None  # a node that fails raises nothing: this is a defect of ours
        ready = tuple(_flat(turn.result() for turn in turns))
    return ready


async def _branch_of(play: Play, node_id: str, said: dict[str, str | None]) -> tuple[str, ...]:
    return await _branch(play, await _turn(play, play.graph.node(node_id), said), said)


def _flat(groups: Iterable[tuple[str, ...]]) -> list[str]:
    return [node_id for group in groups for node_id in group]


async def _turn(play: Play, node: Node, said: dict[str, str | None]) -> tuple[str, ...]:
    """Let `node` speak; the nodes that are due because it did."""
    ready = () if play.failure is not None else await _taken(play, node, said)
    play.due += len(ready) - 1
    return ready


async def _taken(play: Play, node: Node, said: dict[str, str | None]) -> tuple[str, ...]:
    round_number = play.progress.round_of(node.id)
    attributes: dict[str, str | int] = {
        names.OPERATION_NAME: "invoke_agent",
        names.AGENT_NAME: node.id,
        names.NODE: node.id,
        names.NODE_KIND: node.kind,
        names.ROUND: round_number,
    }
    if play.listener is not None:
        play.listener(NodeStarted(node.id, round_number))
    with play.calls.tracer.span(f"invoke_agent {node.id}", attributes=attributes) as span:
        try:
            turn = await _spoken(play, node, f"{play.key}/{node.id}/{round_number}")
        except (EpisodeError, BudgetError, Paused) as halt:
            span.fail(halt)
            play.halt(node.id, halt)
            return ()
        if turn.text is not None and node.kind != "agent":  # an agent's words are on its chat span already
            span.content(names.OUTPUT, turn.text)
    said[node.id] = turn.text
    play.say(node.id, round_number, turn.text)
    return () if play.failure is not None else play.progress.deliver(node.id, turn.fired)


async def _spoken(play: Play, node: Node, key: str) -> Turn:
    if play.node_seconds is None:
        return await speak(play, node, key)
    late = f"node {node.id!r} took longer than {play.node_seconds:g} s; give its turns more time with --node-seconds"
    async with within(play.node_seconds, late):
        return await speak(play, node, key)


def application(graph: AgentGraph) -> Application:
    """`graph`, compiled; one application serves any number of plays of it."""
    ids = tuple(node.id for node in graph.nodes)
    builder: StateGraph[Said, Play, Said, Said] = StateGraph(Said, context_schema=Play)
    for node in graph.nodes:
        builder.add_node(node.id, _step(node), destinations=ids)
    builder.add_conditional_edges(START, _first, list(ids))
    # Inside an application with a checkpointer it would be resumed in the middle, where `play` begins anew: the journal
    # is what keeps a play's finished calls.
    return builder.compile(name=graph.name, checkpointer=False)


def _first(state: Said, runtime: Runtime[Play]) -> list[str]:
    play = runtime.context
    ready = play.progress.start()
    play.due = len(ready)
    return list(ready)


async def play_through(app: Application, play: Play) -> str:
    """The team's reply.

    Args:
        app: `application(play.graph)`.
        play: is changed as the team speaks; use it once.

    Raises:
        EpisodeError: when a node fails, or the run ends without the output node having spoken.
        BudgetError: when a cap or a node's time limit is reached.
        Paused: when a person has to answer before anybody can go on.
    """
    # A run takes at most `rounds` supersteps per node, and LangGraph's own default of 25 would cut long chains.
    limit = len(play.graph.nodes) * play.graph.rounds + 2
    options = RunnableConfig(recursion_limit=limit, callbacks=[])
    with tracing_context(enabled=False):  # whatever the user's shell says, nothing leaves this machine
        # Without a stream mode nothing is copied out of the state after each step; `play` holds what was said.
        async for _ in app.astream(Said(said={}), options, context=play, stream_mode=()):
            pass
    if play.failure is not None:
        raise play.failure
    if play.paused is not None:
        raise play.paused
    reply = play.said.get(play.graph.output)
    if reply is None:
        detail = f" ({'; '.join(play.faults)})" if play.faults else ""
        raise TeamError(f"the run ended before {play.graph.output!r}, the output, had anything to say{detail}")
    return reply
