"""pydantic-ai: five agents called one after the other."""

from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from timing import ROLES, TASK, measure, url

provider = OpenAIProvider(openai_client=AsyncOpenAI(base_url=url(), api_key="none", max_retries=0))
agents = [Agent(OpenAIChatModel("test", provider=provider), system_prompt=role) for role in ROLES]


async def episode() -> str:
    said = TASK
    for agent in agents:
        said = (await agent.run(said)).output
    return said


measure(episode)
