"""An application as anybody has it: a team of two assistants with a tool in AutoGen. It knows nothing of Orchestra."""

import asyncio
import os
import sys

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.models import ModelFamily, ModelInfo
from autogen_core.tools import FunctionTool
from autogen_ext.models.openai import OpenAIChatCompletionClient

INFO = ModelInfo(
    vision=False, function_calling=True, json_output=True, family=ModelFamily.UNKNOWN, structured_output=True
)
STREAM = "--stream" in sys.argv


def add(a: int, b: int) -> int:
    return a + b


def client(**more: object) -> OpenAIChatCompletionClient:
    return OpenAIChatCompletionClient(
        model=os.environ["MODEL"], model_info=INFO, temperature=0.7, max_tokens=60, **more
    )


async def main() -> None:
    forced = {"tool_choice": {"type": "function", "function": {"name": "add"}}}
    calculator = AssistantAgent(
        "calculator",
        client(extra_body=forced),
        tools=[FunctionTool(add, description="Add two numbers.", strict=True)],
        system_message="You calculate with the tool add.",
        model_client_stream=STREAM,
    )
    writer = AssistantAgent(
        "writer", client(), system_message="You write the answer in one short sentence.", model_client_stream=STREAM
    )
    team = RoundRobinGroupChat([calculator, writer], termination_condition=MaxMessageTermination(5), max_turns=2)
    result = await team.run(task="How much is 17 and 25?")
    print(result.messages[-1].to_text())


asyncio.run(main())
