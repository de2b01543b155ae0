"""CrewAI: a sequential crew of five agents with a task each, its telemetry off."""

import os

os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false", "OTEL_SDK_DISABLED": "true"}

from crewai import LLM, Agent, Crew, Task
from timing import ROLES, TASK, measure_blocking, url

model = LLM(model="openai/test", base_url=url(), api_key="none", max_retries=0)
workers = [Agent(role=f"worker {number}", goal=role, backstory="none", llm=model) for number, role in enumerate(ROLES)]


def episode() -> str:
    tasks = [Task(description=TASK, expected_output="a number", agent=worker) for worker in workers]
    return str(Crew(agents=workers, tasks=tasks, verbose=False).kickoff())


measure_blocking(episode)
