"""OpenAI Agents SDK: five agents called one after the other, its tracing off."""

from agents import Agent, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from openai import AsyncOpenAI
from timing import ROLES, TASK, measure, url

set_tracing_disabled(True)
model = OpenAIChatCompletionsModel("test", AsyncOpenAI(base_url=url(), api_key="none", max_retries=0))
workers = [Agent(name=f"worker{number}", instructions=role, model=model) for number, role in enumerate(ROLES)]


async def episode() -> str:
    said = TASK
    for worker in workers:
        said = (await Runner.run(worker, said)).final_output
    return said


measure(episode)
