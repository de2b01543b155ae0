"""LangGraph with langchain-openai; with `saver` as third argument, its SQLite saver writes every step to a file."""

import asyncio
import itertools
import sys
import tempfile

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from timing import ROLES, TASK, measure, url

model = ChatOpenAI(model="test", base_url=url(), api_key="none", max_retries=0)


def worker(role: str):
    async def speak(state: MessagesState) -> MessagesState:
        heard = state["messages"][-1].content
        return {"messages": [await model.ainvoke([SystemMessage(role), HumanMessage(heard)])]}

    return speak


builder = StateGraph(MessagesState)
names = [f"worker{number}" for number in range(len(ROLES))]
for name, role in zip(names, ROLES, strict=True):
    builder.add_node(name, worker(role))
for source, target in zip([START, *names], [*names, END], strict=True):
    builder.add_edge(source, target)
numbers = itertools.count()
apps = {}
opening = []


async def application():
    if "saver" not in sys.argv:
        return builder.compile()
    file = tempfile.mkdtemp() + "/checkpoints.sqlite"
    opening.append(AsyncSqliteSaver.from_conn_string(file))  # closes when it is forgotten
    return builder.compile(checkpointer=await opening[-1].__aenter__())


async def episode() -> str:
    loop = asyncio.get_running_loop()
    if loop not in apps:
        apps[loop] = await application()
    config = {"configurable": {"thread_id": str(next(numbers))}}
    return (await apps[loop].ainvoke({"messages": [("user", TASK)]}, config))["messages"][-1].content


measure(episode)
