"""One team, one task, one episode: `run`, and `run_sync` for callers without an event loop."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from graphs import AgentGraph
from graphs.identity import content_hash
from graphs.serialisation import read
from orchestra.benchmarks.scorers import check_scorers
from orchestra.benchmarks.tasks import Task, question, tasks_hash
from orchestra.errors import InputError, Paused
from orchestra.execution.answered import Answered, Row
from orchestra.execution.ending import PAUSED
from orchestra.execution.events import Listener
from orchestra.execution.foresight import Plan, came_to, note_forecast
from orchestra.execution.people import open_questions
from orchestra.execution.recording import store_for
from orchestra.execution.runtime import Runtime
from orchestra.execution.settings import Settings
from orchestra.ledger import Ledger, nano
from orchestra.traces.episode import Episode
from orchestra.traces.fold import episodes
from orchestra.traces.store import Store

__all__ = ["Answered", "Row", "answer", "open_team", "run", "run_sync", "runtime_episodes"]

Result = TypeVar("Result")


async def run(
    team: AgentGraph | str | Path,
    text: str,
    *,
    max_cost_usd: Decimal | str | int | None = None,
    settings: Settings | None = None,
    store: str | Path | None = None,
    folder: Path | None = None,
    seed: int = 0,
    resume: str | None = None,
    answers: Sequence[str] = (),
    listener: Listener | None = None,
) -> Episode:
    """The episode of `team` at the task `text`; a failure is an episode with an error on it.

    A team that asks a person pauses: the episode's `error_type` is `Paused`. It goes on with `resume` and `answers`.

    Args:
        team: a graph, or the path of a team file.
        max_cost_usd: most the calls may cost together; `None` sets no cap.
        settings: `None` takes the defaults.
        store: file or URL of the trace store; `None` takes the user's.
        folder: where tools' code is looked up; `None` takes the inventory's folder that the team file names.
        resume: id of an interrupted or paused run to go on with; what it paid for is not paid again.
        answers: to the questions it paused with, in the order it asked them.
        listener: told what happens as it happens; see `orchestra.execution.stream`.

    Raises:
        InputError: the team cannot run, or something it needs is missing; nothing was spent.
    """
    settings = settings or Settings()
    task = question(text)
    graph, folder = open_team(team, folder)
    with store_for(store, settings) as opened:
        given = _Given(graph, (task,), settings, folder, max_cost_usd, seed, resume, answers)
        try:
            async with given.opened(opened) as runtime:
                runtime.prepare(graph)
                note_forecast(runtime, [Plan(graph, [text])])
                await runtime.play(graph, text, key=task.id, task_id=task.id, seed=seed, listener=listener)
                run_id = runtime.run_id
        except Paused:  # it waits for answers, and none came
            assert resume is not None, "only a run that is resumed can wait for answers before it begins"
            run_id = opened.find_run(resume)
        await opened.flush()
        return runtime_episodes(opened, run_id)[0]


async def answer(
    team: AgentGraph | str | Path,
    tasks: Sequence[Task],
    *,
    max_cost_usd: Decimal | str | int | None = None,
    settings: Settings | None = None,
    store: str | Path | None = None,
    folder: Path | None = None,
    seed: int = 0,
    resume: str | None = None,
    answers: Sequence[str] = (),
    listener: Listener | None = None,
    on_run: Callable[[str], None] = lambda run_id: None,
    on_start: Callable[[str, int], Callable[[], None]] = lambda name, total: lambda: None,
) -> Answered:
    """What `team` answers to every task, scored where a task has a target.

    Args:
        resume: id of an interrupted or paused run to go on with; what it paid for is not paid again.
        answers: to the questions it paused with, in the order of `Answered.questions`.
        listener: told what happens as it happens; of several tasks everything, as it comes.
        on_run: told the run's id when it begins.
        on_start: called with the team's name and the number of tasks; what it returns is called after each task.

    Raises:
        InputError: something is wrong or missing; nothing was spent.
    """
    settings = settings or Settings()
    graph, folder = open_team(team, folder)
    with store_for(store, settings) as opened:
        given = _Given(graph, tasks, settings, folder, max_cost_usd, seed, resume, answers)
        try:
            async with given.opened(opened) as runtime:
                on_run(runtime.run_id)
                runtime.prepare(graph)
                forecast = note_forecast(runtime, [Plan(graph, [task.input for task in tasks])])
                check_scorers([task for task in tasks if task.target is not None], folder, trust=settings.trust)
                done = on_start(graph.name, len(tasks))

                async def one(task: Task) -> Row:
                    played = await runtime.play(
                        graph, task.input, key=task.id, task_id=task.id, seed=seed, listener=listener
                    )
                    done()
                    waits = isinstance(played.error, Paused)
                    return Row.of(task, played, None if task.target is None or waits else runtime.score(task, played))

                rows = await asyncio.gather(*(one(task) for task in tasks))
                return Answered(
                    run_id=runtime.run_id,
                    rows=tuple(rows),
                    paid_nano=runtime.ledger.spent,
                    forecast=forecast,
                    actual=came_to(runtime),
                    questions=open_questions(opened, runtime.run_id)
                    if any(row.state == PAUSED for row in rows)
                    else (),
                )
        except Paused:  # it waits for answers, and none came
            assert resume is not None, "only a run that is resumed can wait for answers before it begins"
            run_id = opened.find_run(resume)
            books = Ledger(None)
            books.replay(line.entry for line in opened.ledger_entries(run_id))
            return Answered(run_id=run_id, rows=(), paid_nano=books.spent, questions=open_questions(opened, run_id))


@dataclass(frozen=True, slots=True)
class _Given:
    """What a run was asked to do."""

    graph: AgentGraph
    tasks: Sequence[Task]
    settings: Settings
    folder: Path | None
    max_cost_usd: Decimal | str | int | None
    seed: int
    resume: str | None
    answers: Sequence[str]

    def opened(self, store: Store) -> AbstractAsyncContextManager[Runtime]:
        """The run, about to begin or to go on."""
        asked = {"team": content_hash(self.graph), "tasks": tasks_hash(self.tasks), "seed": self.seed}
        return Runtime.opened(
            "run",
            store=store,
            settings=self.settings,
            folder=self.folder,
            cap_nano=None if self.max_cost_usd is None else nano(self.max_cost_usd),
            inputs={**asked, **self.settings.inputs()},
            resume=self.resume,
            answers=self.answers,
        )


def open_team(team: AgentGraph | str | Path, folder: Path | None = None) -> tuple[AgentGraph, Path | None]:
    """The graph, and the folder its tools' code is looked up in.

    Raises:
        InputError: the file cannot be read, or names an inventory that is not there.
    """
    if isinstance(team, AgentGraph):
        return team, folder
    path = Path(team)
    graph = read(path)
    if folder is not None or graph.provenance is None or graph.provenance.inventory is None:
        return graph, folder or path.resolve().parent
    inventory = (path.resolve().parent / graph.provenance.inventory).resolve()
    if not inventory.is_file():
        raise InputError(
            f"team {str(path)!r} was composed from {graph.provenance.inventory!r}, which is not there; "
            f"keep the team file where it can find its inventory (in Python: give `folder`, where its tools are)"
        )
    return graph, inventory.parent


def runtime_episodes(store: Store, run_id: str) -> tuple[Episode, ...]:
    """Every episode of a run, folded from its spans and facts."""
    return episodes(store.spans(run_id), store.facts(run_id), store.blob_value)


def run_sync(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """The result of `coroutine`, for callers without an event loop: `run_sync(run("team.yaml", "What is 2 + 2?"))`."""
    return asyncio.run(coroutine)
