"""smolagents: five tool-calling agents, each of whom answers in its first step."""

from smolagents import LogLevel, OpenAIModel, ToolCallingAgent
from timing import ROLES, TASK, measure_blocking, url

model = OpenAIModel(model_id="test", api_base=url(), api_key="none", client_kwargs={"max_retries": 0})
workers = [
    ToolCallingAgent(tools=[], model=model, instructions=role, max_steps=1, verbosity_level=LogLevel.OFF)
    for role in ROLES
]


def episode() -> str:
    said = TASK
    for worker in workers:
        said = str(worker.run(said))
    return said


measure_blocking(episode)
