"""An application as anybody has it: two agents and a tool in LangGraph. It knows nothing of Orchestra."""

import asyncio
import os
import sys

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph


@tool(return_direct=True)
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


class AlwaysAdd(AgentMiddleware):
    """Small models forget their tools."""

    async def awrap_model_call(self, request, handler):
        return await handler(request.override(tool_choice="add", model_settings={"strict": True}))


model = ChatOpenAI(model=os.environ["MODEL"], temperature=0.7, max_tokens=100, streaming="--stream" in sys.argv)
calculator = create_agent(
    model, [add], system_prompt="You calculate with the tool add.", middleware=[AlwaysAdd()], name="calculator"
)
writer = create_agent(model, [], system_prompt="You write the answer in one short sentence.", name="writer")

graph = StateGraph(MessagesState)
graph.add_node("calculator", calculator)
graph.add_node("writer", writer)
graph.add_edge(START, "calculator")
graph.add_edge("calculator", "writer")
graph.add_edge("writer", END)
app = graph.compile()


async def main() -> None:
    asked = {"messages": [HumanMessage("How much is 17 and 25?")]}
    answer = await app.ainvoke(asked, {"configurable": {"thread_id": "t-1"}})
    print(answer["messages"][-1].content)


asyncio.run(main())
