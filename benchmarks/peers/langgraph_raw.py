"""Bare LangGraph: its nodes post with httpx themselves."""

from typing import TypedDict

import httpx
from langgraph.graph import END, START, StateGraph
from timing import ROLES, TASK, measure, url

client = httpx.AsyncClient(trust_env=False)


class State(TypedDict):
    said: str


def worker(role: str):
    async def speak(state: State) -> State:
        messages = [{"role": "system", "content": role}, {"role": "user", "content": state["said"]}]
        reply = await client.post(f"{url()}/chat/completions", json={"model": "test", "messages": messages})
        return {"said": reply.json()["choices"][0]["message"]["content"]}

    return speak


builder = StateGraph(State)
names = [f"worker{number}" for number in range(len(ROLES))]
for name, role in zip(names, ROLES, strict=True):
    builder.add_node(name, worker(role))
for source, target in zip([START, *names], [*names, END], strict=True):
    builder.add_edge(source, target)
app = builder.compile()


async def episode() -> str:
    return (await app.ainvoke({"said": TASK}))["said"]


measure(episode)
