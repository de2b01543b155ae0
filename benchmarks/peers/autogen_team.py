"""AutoGen: a round-robin team of five assistants, each of whom speaks once."""

import logging

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import EVENT_LOGGER_NAME, TRACE_LOGGER_NAME
from autogen_ext.models.openai import OpenAIChatCompletionClient
from timing import ROLES, TASK, measure, url

for logger in (EVENT_LOGGER_NAME, TRACE_LOGGER_NAME):
    logging.getLogger(logger).setLevel(logging.CRITICAL)
info = {
    "vision": False,
    "function_calling": True,
    "json_output": False,
    "family": "unknown",
    "structured_output": False,
}
client = OpenAIChatCompletionClient(model="test", base_url=url(), api_key="none", model_info=info, max_retries=0)


async def episode() -> str:
    workers = [
        AssistantAgent(f"worker{number}", model_client=client, system_message=role) for number, role in enumerate(ROLES)
    ]
    team = RoundRobinGroupChat(workers, termination_condition=MaxMessageTermination(len(ROLES) + 1))
    return (await team.run(task=TASK)).messages[-1].content


measure(episode)
