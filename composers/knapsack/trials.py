"""Sandbox trials: the base agent with a component and without it, on the same tasks, on the real model.

A pair is a task answered twice. The answer without the component is the same for every component and is paid for
once; an answer with it is kept in the store under the component's definition, its code's hash, the task and the
model, so that no search repeats it.

Source:
    Yuan et al. 2025, arXiv:2510.16499, the sandbox of the online composer.
    Deviation: the judge is the tasks' own scorer instead of a language model, and the value is the paired difference
    instead of a verdict; see `composers.knapsack.estimates`.
"""

import asyncio
import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from composers.knapsack.assembly import assemble
from composers.knapsack.estimates import Pair, TrialEstimate, estimate
from composers.knapsack.skills import Skill
from composers.problem import Search
from graphs import AgentGraph, Tool
from orchestra.agents.inventory import Component, Inventory
from orchestra.agents.tools import source_hash
from orchestra.benchmarks.tasks import Task
from orchestra.errors import BudgetError
from orchestra.execution.play import Spent
from orchestra.execution.runtime import tools_of
from orchestra.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One task, answered once."""

    score: float | None
    """`None` when the episode failed for a reason that is not the component's."""
    tool_failed: bool
    answered: bool
    """Whether the component said anything."""


@dataclass(slots=True, kw_only=True)
class Trials:
    """Every trial of one search."""

    search: Search
    inventory: Inventory
    purse: Ledger
    tasks: dict[str, Task]
    """Trial tasks by id."""
    seed: int
    _started: list["asyncio.Task[Any]"] = field(default_factory=list)
    _answers: dict[tuple[str | None, str], "asyncio.Task[Answer]"] = field(default_factory=dict)
    _graphs: dict[str | None, AgentGraph] = field(default_factory=dict)
    _sources: dict[str, str] = field(default_factory=dict)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        """Cancel what still runs and wait until it has ended, so that nothing writes to a store that is closed."""
        for task in self._started:
            task.cancel()
        await asyncio.gather(*self._started, return_exceptions=True)

    def start(self, component: Component, skills: Sequence[Skill]) -> "asyncio.Task[tuple[TrialEstimate, ...]]":
        """Begin the trials of `component` without waiting for them."""
        begun = asyncio.create_task(self.estimates(component, skills))
        self._started.append(begun)
        return begun

    def queries(self, skill: Skill) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Task ids to try a component on, and the others, of which a chosen one is measured again on some."""
        order = list(skill.queries)
        random.Random(f"{self.seed} {skill.name}").shuffle(order)
        count = self.search.problem.queries
        return tuple(order[:count]), tuple(order[count:])

    async def estimates(self, component: Component, skills: Sequence[Skill]) -> tuple[TrialEstimate, ...]:
        """What `component` gains for each of `skills`.

        Raises:
            BudgetError: the search ran out of money.
        """
        return await self._estimates(component, [(skill, self.queries(skill)[0]) for skill in skills])

    async def fresh(
        self, component: Component, skills: Sequence[Skill], tried: Sequence[Skill]
    ) -> tuple[TrialEstimate, ...]:
        """The same on queries that did not choose it; a skill without further queries is left out.

        Args:
            skills: to measure it for.
            tried: that it was tried for: a task may be a query of several.

        Raises:
            BudgetError: the search ran out of money.
        """
        known = {task_id for skill in tried for task_id in self.queries(skill)[0]}
        count = self.search.problem.queries
        asked = [(skill, tuple(i for i in self.queries(skill)[1] if i not in known)[:count]) for skill in skills]
        return await self._estimates(component, [(skill, ids) for skill, ids in asked if ids])

    async def _estimates(
        self, component: Component, asked: Sequence[tuple[Skill, tuple[str, ...]]]
    ) -> tuple[TrialEstimate, ...]:
        rows = await asyncio.gather(*(self._pairs(component, ids) for _, ids in asked))
        return tuple(estimate(component.name, skill.name, pairs) for (skill, _), pairs in zip(asked, rows, strict=True))

    async def _pairs(self, component: Component, task_ids: Sequence[str]) -> list[Pair]:
        with_it = [self._answer(component, task_id) for task_id in task_ids]
        without = [self._answer(None, task_id) for task_id in task_ids]
        answers = await asyncio.gather(*with_it, *without)
        count = len(task_ids)
        return [
            Pair(
                query=task_id,
                with_score=answers[i].score,
                without_score=answers[count + i].score,
                tool_failed=answers[i].tool_failed,
                answered=answers[i].answered,
            )
            for i, task_id in enumerate(task_ids)
        ]

    def _answer(self, component: Component | None, task_id: str) -> "asyncio.Task[Answer]":
        key = (component.name if component else None, task_id)
        if key not in self._answers:
            self._answers[key] = asyncio.create_task(self._answered(component, self.tasks[task_id]))
            self._started.append(self._answers[key])
        return self._answers[key]

    async def _answered(self, component: Component | None, task: Task) -> Answer:
        graph = self._graph(component)
        store = self.search.runtime.store
        key = self._trial_key(graph, task)
        runtime = self.search.runtime
        known = runtime.noted(key, lambda: store.cached(key))
        if isinstance(known, dict):
            runtime.count(self.purse, _counted(known, own=known["run_id"] == runtime.run_id))
            return Answer(**known["answer"])
        which = f"with/{component.name}" if component else "without"
        played = await runtime.play(
            graph, task.input, key=f"trial/{which}/{task.id}", purse=self.purse, task_id=task.id, seed=self.seed
        )
        if isinstance(played.error, BudgetError):
            raise played.error
        answer = Answer(
            score=runtime.score(task, played) if played.error is None else None,
            tool_failed=bool(played.faults),
            answered=component is None or component.name in played.spoke,
        )
        if played.error is None:
            record = {"answer": asdict(answer), "spent": asdict(played.spent), "paid_nano": played.paid_nano}
            store.cache(key, "trial", {**record, "run_id": runtime.run_id})
        return answer

    def _graph(self, component: Component | None) -> AgentGraph:
        name = component.name if component else None
        if name not in self._graphs:
            chosen = (component,) if component else ()
            problem = self.search.problem
            self._graphs[name] = assemble(chosen, self.inventory, model=problem.settings.model)
        return self._graphs[name]

    def _source_hash(self, tool: Tool) -> str:
        if tool.call not in self._sources:
            self._sources[tool.call] = source_hash(tool, self.search.runtime.folder)
        return self._sources[tool.call]

    def _trial_key(self, graph: AgentGraph, task: Task) -> str:
        runtime = self.search.runtime
        parts = {
            "graph": graph.model_dump(mode="json", exclude={"provenance"}),
            "code": [self._source_hash(tool) for tool in tools_of(graph)],
            "task": task.model_dump(mode="json"),
            "model": runtime.model(self.search.problem.settings.model).fingerprint,
            "seed": self.seed,
        }
        return "trial:" + hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _counted(known: dict[str, Any], *, own: bool) -> Spent:
    """What a trial found in the store came to.

    Args:
        known: the record.
        own: whether an earlier attempt of this run made it: then it is in the ledger already, and borrowed from nobody.
    """
    spent = Spent(**known["spent"])
    if not own:
        spent.cached_calls = spent.calls
        spent.borrowed_nano += known["paid_nano"]
    return spent
