"""One team, one task, one episode: `run`, and `run_sync` for callers without an event loop."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

from graphs import AgentGraph
from graphs.identity import content_hash
from graphs.serialisation import read
from orchestra.benchmarks.scorers import check_scorers
from orchestra.benchmarks.tasks import Task, tasks_hash
from orchestra.errors import BudgetError, InputError
from orchestra.execution.runtime import Runtime
from orchestra.execution.settings import Settings
from orchestra.ledger import nano, show_usd, usd
from orchestra.traces.episode import Episode
from orchestra.traces.fold import episodes
from orchestra.traces.store import Store

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
) -> Episode:
    """The episode of `team` at the task `text`; a failure is an episode with an error on it.

    Args:
        team: a graph, or the path of a team file.
        max_cost_usd: most the calls may cost together; `None` sets no cap.
        settings: `None` takes the defaults.
        store: file or URL of the trace store; `None` takes the user's.
        folder: where tools' code is looked up; `None` takes the inventory's folder that the team file names.

    Raises:
        InputError: the team cannot run, or something it needs is missing; nothing was spent.
    """
    settings = settings or Settings()
    graph, folder = open_team(team, folder)
    cap = None if max_cost_usd is None else nano(max_cost_usd)
    with Store.open(store) as opened:
        async with Runtime.opened(
            "run",
            store=opened,
            settings=settings,
            folder=folder,
            cap_nano=cap,
            inputs={"team": graph.name, "text": text},
        ) as runtime:
            await runtime.play(graph, text, key="0", seed=seed)
        await opened.flush()
        return runtime_episodes(opened, runtime.run_id)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of one task."""

    task_id: str
    reply: str | None
    error: str | None
    """`None` when the team finished."""
    faults: tuple[str, ...]
    """Tools that failed without ending the episode."""
    score: float | None
    """`None` when the task has no target."""
    paid_nano: int
    list_nano: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Every task of one run."""

    run_id: str
    rows: tuple[Row, ...]
    paid_nano: int
    ran_out: bool
    """Whether a cap stopped it before the end."""

    @property
    def exit_code(self) -> int:
        """0 done, 3 a budget ran out, 1 an episode failed."""
        if self.ran_out:
            return 3
        return 1 if any(row.error for row in self.rows) else 0

    def document(self) -> dict[str, object]:
        """As one JSON document; money in USD."""
        rows = [
            {
                "task": row.task_id,
                "reply": row.reply,
                "error": row.error,
                "faults": list(row.faults),
                "score": row.score,
                "paid_usd": str(usd(row.paid_nano)),
                "list_usd": str(usd(row.list_nano)),
                "seconds": round(row.seconds, 3),
            }
            for row in self.rows
        ]
        return {"run_id": self.run_id, "paid_usd": str(usd(self.paid_nano)), "ran_out": self.ran_out, "episodes": rows}

    def footer(self) -> str:
        """One line: cost, time, and where the trace is."""
        scores = [row.score for row in self.rows if row.score is not None]
        success = f"{sum(scores):g} of {len(scores)} right · " if scores else ""
        seconds = sum(row.seconds for row in self.rows)
        return f"{success}{show_usd(self.paid_nano)} · {seconds:.1f} s · orchestra traces show {self.run_id}"


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
) -> Answered:
    """What `team` answers to every task, scored where a task has a target.

    Args:
        resume: id of an interrupted run to go on with; what it paid for is not paid again.

    Raises:
        InputError: something is wrong or missing; nothing was spent.
    """
    settings = settings or Settings()
    graph, folder = open_team(team, folder)
    cap = None if max_cost_usd is None else nano(max_cost_usd)
    inputs = {"team": content_hash(graph), "tasks": tasks_hash(tasks), "seed": seed, **settings.inputs()}
    with Store.open(store) as opened:
        async with Runtime.opened(
            "run", store=opened, settings=settings, folder=folder, cap_nano=cap, inputs=inputs, resume=resume
        ) as runtime:
            runtime.prepare(graph)
            check_scorers([task for task in tasks if task.target is not None], folder, trust=settings.trust)

            async def one(task: Task) -> tuple[Row, bool]:
                played = await runtime.play(graph, task.input, key=task.id, task_id=task.id, seed=seed)
                scored = None if task.target is None else runtime.score(task, played)
                row = Row(
                    task_id=task.id,
                    reply=played.reply,
                    error=None if played.error is None else str(played.error),
                    faults=played.faults,
                    score=scored,
                    paid_nano=played.paid_nano,
                    list_nano=played.spent.list_nano,
                    seconds=played.latency_seconds,
                )
                return row, isinstance(played.error, BudgetError)

            ended = await asyncio.gather(*(one(task) for task in tasks))
            return Answered(
                run_id=runtime.run_id,
                rows=tuple(row for row, _ in ended),
                paid_nano=runtime.ledger.spent,
                ran_out=any(short for _, short in ended),
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
            f"keep the team file where it can find its inventory, or give the folder of its tools with --tools"
        )
    return graph, inventory.parent


def runtime_episodes(store: Store, run_id: str) -> tuple[Episode, ...]:
    """Every episode of a run, folded from its spans and facts."""
    return episodes(store.spans(run_id), store.facts(run_id), store.blob_value)


def run_sync(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """The result of `coroutine`, for callers without an event loop: `run_sync(run("team.yaml", "What is 2 + 2?"))`."""
    return asyncio.run(coroutine)
