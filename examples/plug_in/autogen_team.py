"""A team as anybody has it, in AutoGen: a solver and a checker, in turn. It knows nothing of Orchestra.

    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=none MODEL=NAME python autogen_team.py QUESTIONS.jsonl

A line of the file is `{"id": ..., "input": ...}`; what is printed for it is `{"id": ..., "answer": ...}`.
A reply has `MAX_TOKENS` at most, 32 unless that is set.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.models import ModelFamily, ModelInfo
from autogen_ext.models.openai import OpenAIChatCompletionClient

INFO = ModelInfo(
    vision=False, function_calling=False, json_output=False, family=ModelFamily.UNKNOWN, structured_output=False
)
MEMBERS = {
    "solver": "You answer the question in one short sentence that ends with the number.",
    "checker": "You check the answer. Give the right one in one short sentence that ends with the number.",
}
AT_ONCE = 8
MAX_TOKENS = int(os.environ.get("MAX_TOKENS", "32"))

client = OpenAIChatCompletionClient(model=os.environ["MODEL"], model_info=INFO, temperature=0, max_tokens=MAX_TOKENS)


def team() -> RoundRobinGroupChat:
    members = [AssistantAgent(name, client, system_message=role) for name, role in MEMBERS.items()]
    return RoundRobinGroupChat(members, termination_condition=MaxMessageTermination(1 + len(members)))


async def main() -> None:
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(question: dict[str, str]) -> None:
        async with turns:
            ended = await team().run(task=question["input"])
        print(json.dumps({"id": question["id"], "answer": ended.messages[-1].to_text()}), flush=True)

    await asyncio.gather(*(one(json.loads(line)) for line in Path(sys.argv[1]).read_text().splitlines()))
    await client.close()


asyncio.run(main())
