"""A team inside somebody else's LangGraph application: a compiled graph over messages, to be added as a node.

```python
with Store.open("runs.sqlite") as store:
    async with Runtime.opened("run", store=store, settings=Settings()) as runtime:
        builder.add_node("team", to_langgraph("team.yaml", runtime))
```

The team hears the last message and adds one of its own, the same that `orchestra run` would print. Its calls are paid,
journalled and traced by the runtime it was given. Under a checkpointer of the application's, an interrupted step begins
its play again under the same key, so that a runtime which resumes that run pays for nothing twice.
"""

import secrets
from hashlib import sha256
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, convert_to_messages
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph

from graphs import AgentGraph
from orchestra.errors import InputError
from orchestra.execution.runner import open_team
from orchestra.execution.runtime import Runtime

Embedded = CompiledStateGraph[MessagesState, Any, MessagesState, MessagesState]


def to_langgraph(team: AgentGraph | str | Path, runtime: Runtime) -> Embedded:
    """`team` as a compiled LangGraph application with the state `MessagesState`.

    Args:
        team: a graph, or the path of a team file.
        runtime: pays and traces; it must stay open while the application runs.

    Raises:
        InputError: the team cannot run; nothing was spent.
        InvalidGraph: likewise, with every defect.
    """
    graph, folder = open_team(team)
    runtime.prepare(graph, folder)

    async def answer(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        played = await runtime.play(graph, _task(state), key=_key(config))
        if played.error is not None:
            raise played.error
        return {"messages": [AIMessage(content=played.reply or "", name=graph.name)]}

    builder: StateGraph[MessagesState, Any, MessagesState, MessagesState] = StateGraph(MessagesState)
    builder.add_node(graph.name, answer)
    builder.add_edge(START, graph.name)
    builder.add_edge(graph.name, END)
    return builder.compile(name=graph.name)


def _task(state: MessagesState) -> str:
    messages = convert_to_messages(state["messages"])
    if not messages:
        raise InputError("the team was called without a message; give the state `messages` the task as its last one")
    return messages[-1].text


def _key(config: RunnableConfig) -> str:
    """Names the play: the same when LangGraph runs the same step again, and never otherwise."""
    settings = config.get("configurable", {})
    place = settings.get("checkpoint_ns")
    thread = settings.get("thread_id")
    if place and thread:  # a step of a thread has an id of its own, made from its checkpoint
        return f"langgraph-{sha256(f'{thread} {place}'.encode()).hexdigest()[:16]}"
    return f"langgraph-{secrets.token_hex(8)}"
