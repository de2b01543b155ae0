"""An agent graph as a LangGraph application.

LangGraph runs the nodes; `graphs.schedule` says which are ready. Every node ends with a `Command` that names the
nodes its words have made ready, so a join fed at unequal depths runs once and a branch that a router left alone
does not block it. Plain and list edges of LangGraph are not used: the first run a join twice, the second wait for a
branch that never comes. The state holds plain JSON: the last words of each node.

This is the one module that imports LangGraph.
"""

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
from orchestra.errors import TeamError
from orchestra.execution.nodes import speak
from orchestra.execution.play import Play
from orchestra.traces import names


class Said(TypedDict):
    """State of a run: last words by node."""

    said: Annotated[dict[str, str | None], or_]


class _Step(Protocol):
    """A node as LangGraph calls it; it looks at the names of the parameters."""

    async def __call__(self, state: Said, *, runtime: Runtime[Play]) -> Command[str]: ...


Application = CompiledStateGraph[Said, Play, Said, Said]


def _step(node: Node) -> _Step:
    node_id = node.id

    async def step(state: Said, *, runtime: Runtime[Play]) -> Command[str]:
        play = runtime.context
        round_number = play.progress.round_of(node_id)
        attributes: dict[str, str | int] = {
            names.OPERATION_NAME: "invoke_agent",
            names.AGENT_NAME: node_id,
            names.NODE: node_id,
            names.NODE_KIND: node.kind,
            names.ROUND: round_number,
        }
        with play.calls.tracer.span(f"invoke_agent {node_id}", attributes=attributes) as span:
            turn = await speak(play, node, f"{play.key}/{node_id}/{round_number}")
            if turn.text is not None and node.kind != "agent":  # an agent's words are on its chat span already
                span.content(names.OUTPUT, turn.text)
        play.say(node_id, round_number, turn.text)
        ready = play.progress.deliver(node_id, turn.fired)
        return Command(update={"said": {node_id: turn.text}}, goto=list(ready))

    return step


def application(graph: AgentGraph) -> Application:
    """`graph`, compiled; one application serves any number of plays of it."""
    ids = tuple(node.id for node in graph.nodes)
    builder: StateGraph[Said, Play, Said, Said] = StateGraph(Said, context_schema=Play)
    for node in graph.nodes:
        builder.add_node(node.id, _step(node), destinations=ids)
    builder.add_conditional_edges(START, _first, list(ids))
    return builder.compile(name=graph.name)


def _first(state: Said, runtime: Runtime[Play]) -> list[str]:
    return list(runtime.context.progress.start())


async def play_through(app: Application, play: Play) -> str:
    """The team's reply.

    Args:
        app: `application(play.graph)`.
        play: is changed as the team speaks; use it once.

    Raises:
        EpisodeError: when a node fails, or the run ends without the output node having spoken.
        BudgetError: when a cap is reached.
    """
    # A run takes at most `rounds` supersteps per node, and LangGraph's own default of 25 would cut long chains.
    limit = len(play.graph.nodes) * play.graph.rounds + 2
    options = RunnableConfig(recursion_limit=limit, callbacks=[])
    with tracing_context(enabled=False):  # whatever the user's shell says, nothing leaves this machine
        # Without a stream mode nothing is copied out of the state after each step; `play` holds what was said.
        async for _ in app.astream(Said(said={}), options, context=play, stream_mode=()):
            pass
    reply = play.said.get(play.graph.output)
    if reply is None:
        detail = f" ({'; '.join(play.faults)})" if play.faults else ""
        raise TeamError(f"the run ended before {play.graph.output!r}, the output, had anything to say{detail}")
    return reply
