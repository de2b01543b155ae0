"""Lesson 1: a team is a value, a run is one call.

Shows: building a team by hand (a tool node that speaks to an agent), running it on the embedded model, reading what it
said and what it cost. Leaves out: composing (lesson 2).
"""

from pathlib import Path

from graphs import AgentGraph, AgentNode, Channel, Tool, ToolNode
from orchestra.execution import run, run_sync

OFFICE = Path(__file__).parent / "office"

team = AgentGraph(
    name="calculator and clerk",
    model="local/smollm2-135m-instruct",
    nodes=(
        ToolNode(id="calculator", tool=Tool(name="calculator", call="numbers_tools:arithmetic")),
        AgentNode(
            id="clerk",
            role="You are given a question and tool results. Copy the tool result that answers the question.",
            layout="Question: {task}\nTool result: {messages}\nAnswer:",
        ),
    ),
    channels=(Channel(source="calculator", target="clerk"),),
    output="clerk",
)

if __name__ == "__main__":
    episode = run_sync(run(team, "What is 61 * 65?", folder=OFFICE))
    print(episode.output)
    print(f"cost {episode.paid_usd:f} USD, run {episode.run_id}")
