"""What a play held is gone when it has ended, however it ended."""

import asyncio
import gc

import pytest

from graphs import PERSON, AgentGraph, AgentNode, Channel, Tool, ToolNode
from orchestra.errors import ModelError
from orchestra.execution.play import Play
from orchestra.traces.spans import Span

PAIR = AgentGraph(
    nodes=(AgentNode(id="a", memory="transcript"), AgentNode(id="b")),
    channels=(Channel(source="a", target="b"), Channel(source="b", target="a", next_round=True)),
    output="b",
    rounds=3,
)
ASKING = AgentGraph(nodes=(ToolNode(id="boss", tool=Tool(name="boss", call=PERSON)),), output="boss")


def alive(kind: type) -> int:
    gc.collect()
    return sum(type(one) is kind for one in gc.get_objects())


@pytest.mark.parametrize("ending", ["well", "failed", "paused", "cancelled"])
async def test_nothing_of_a_play_outlives_it(opened, staged, ending):
    """langchain-ai/langgraph 7094, 3898 and 3481: memory grows with every run of a long-lived process."""
    staged._replies = lambda request: ModelError("no") if ending == "failed" else "ok"
    if ending == "cancelled":
        staged.hold("")
    plays, spans = alive(Play), alive(Span)  # of earlier tests
    async with opened(staged) as (runtime, _):
        for number in range(40):
            playing = asyncio.create_task(runtime.play(ASKING if ending == "paused" else PAIR, "go", key=str(number)))
            if ending == "cancelled":
                await asyncio.sleep(0.01)
                playing.cancel()
            await asyncio.wait([playing])
        playing = None
        await asyncio.sleep(0)
        # The loop and the store's writer may still hold the context of the last one.
        assert alive(Play) <= plays + 2
        assert alive(Span) <= spans + 10
