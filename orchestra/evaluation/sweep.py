"""Teams on task files: every task played, scored and priced, many at once.

The only module of this package that plays teams. What it returns are arms; everything said about them afterwards is
statistics over those.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from graphs import AgentGraph, AgentNode, RouterNode, Sampling, VoteNode
from graphs.identity import content_hash
from orchestra.benchmarks.scorers import check_scorers
from orchestra.benchmarks.tasks import Task, check_ids, tasks_hash
from orchestra.errors import BudgetError, InputError
from orchestra.evaluation.breakeven import cost_of_pass
from orchestra.evaluation.intervals import Estimate, success_interval
from orchestra.evaluation.outcomes import Arm, Outcome
from orchestra.evaluation.paired import Comparison, compare
from orchestra.execution.forecast import Actual, Forecast
from orchestra.execution.foresight import Plan, came_to, note_forecast
from orchestra.execution.recording import store_for
from orchestra.execution.runner import open_team
from orchestra.execution.runtime import Played, Runtime
from orchestra.execution.settings import Settings
from orchestra.execution.votes import tally
from orchestra.ledger import Ledger, nano

SAMPLE_TEMPERATURE = 0.7
"""Of several independent samples of a team that decodes greedily; self-consistency (arXiv:2203.11171) uses it."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What came of one team on its tasks."""

    arm: Arm
    """Outcomes of the tasks that ended, all of their samples included."""
    asked: int
    """Number of tasks there were."""
    short: BudgetError | None
    """What money or time ran out on; `None` when every task ended."""

    def whole(self) -> Arm:
        """The arm, if every task ended.

        Raises:
            BudgetError: money or time ran out before.
        """
        if self.short is not None:
            raise self.short
        return self.arm


async def sweep(
    runtime: Runtime,
    name: str,
    graph: AgentGraph,
    tasks: Sequence[Task],
    *,
    key: str,
    purse: Ledger,
    seed: int = 0,
    samples: int | Mapping[str, int] = 1,
    ballot: Callable[[Task], VoteNode] | None = None,
    on_done: Callable[[], None] = lambda: None,
) -> Swept:
    """The arm `name`: `graph` at every task, with independent samples of each.

    A task cut short by money or time is not measured and has no outcome, whatever was said; it stays paid for, and its
    replies are reused on resume.

    Args:
        key: prefix of the journal keys, unique within the run.
        samples: per task, or one number for all; from 2 on the team samples at `SAMPLE_TEMPERATURE` if it is greedy.
        ballot: how the samples of a task are counted into one answer; `None` averages their scores instead.
        on_done: called after each task that ended.
    """
    folder = runtime.prepare(graph)
    sampled = graph if samples == 1 else sampling(graph)
    runtime.prepare(sampled, folder)

    short: list[BudgetError] = []

    async def one(task: Task) -> Outcome | None:
        count = samples if isinstance(samples, int) else samples[task.id]
        plays = await asyncio.gather(
            *(
                runtime.play(
                    graph if count == 1 else sampled,
                    task.input,
                    key=f"{key}/{task.id}/{index}",
                    purse=purse,
                    task_id=task.id,
                    seed=seed,
                    sample_index=index,
                )
                for index in range(count)
            )
        )
        if cut := [played.error for played in plays if isinstance(played.error, BudgetError)]:
            short.extend(cut)
            return None
        on_done()
        return _outcome(runtime, task, plays, None if ballot is None else ballot(task))

    outcomes = await asyncio.gather(*(one(task) for task in tasks))
    ended = [outcome for outcome in outcomes if outcome is not None]
    return Swept(Arm.of(name, ended), len(tasks), short[0] if short else None)


def sampling(graph: AgentGraph) -> AgentGraph:
    """`graph`, drawing its replies where it decodes greedily."""

    def warm(own: Sampling) -> Sampling:
        return own.model_copy(update={"temperature": SAMPLE_TEMPERATURE}) if own.temperature == 0 else own

    nodes = tuple(
        node.model_copy(update={"sampling": warm(node.sampling)})
        if isinstance(node, AgentNode | RouterNode) and node.sampling is not None
        else node
        for node in graph.nodes
    )
    return graph.model_copy(update={"sampling": warm(graph.sampling), "nodes": nodes})


def _outcome(runtime: Runtime, task: Task, plays: Sequence[Played], vote: VoteNode | None) -> Outcome:
    replies = [(str(i), played.reply) for i, played in enumerate(plays) if played.error is None and played.reply]
    errors = [str(played.error) for played in plays if played.error is not None]
    if vote is not None and len(plays) > 1:
        winner = tally([(who, said) for who, said in replies if said], vote) if replies else None
        reply, value = winner, runtime.score_text(task, winner)
    else:
        reply = plays[0].reply
        value = sum(runtime.score(task, played) for played in plays) / len(plays)
    return Outcome(
        task_id=task.id,
        score=value,
        list_nano=sum(played.spent.list_nano for played in plays),
        paid_nano=sum(played.paid_nano for played in plays),
        latency_seconds=max(played.latency_seconds for played in plays),
        error=errors[0] if len(errors) == len(plays) else None,
        reply=reply,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """One team on a task file."""

    name: str
    team_hash: str
    arm: Arm
    """Outcomes of the tasks that ended; all of them unless money or time ran out."""
    asked: int
    """Number of tasks there were."""
    success: Estimate | None
    """`None` unless every task ended."""
    cost_of_pass_nano: int | None
    """List cost per solved task; `None` when none was solved, or not every task ended."""
    against_first: Comparison | None
    """Paired difference to the first team; `None` for the first itself, and unless both ended every task.

    Which tasks end before money or time runs out depends on the tasks, dear and slow ones ending last, so a difference
    on the others says nothing about all of them.
    """

    @property
    def complete(self) -> bool:
        """Whether every task ended."""
        return len(self.arm) == self.asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Several teams on the same tasks."""

    run_id: str
    teams: tuple[Evaluated, ...]
    """Every team, also one that was cut short or never began."""
    paid_nano: int
    ran_out: str | None
    """What money or time ran out on; `None` when it did not."""
    forecast: Forecast
    """What was foreseen when it began."""
    actual: Actual
    """What it came to, as far as that was foreseen."""


async def evaluate(
    teams: Sequence[AgentGraph | str | Path],
    tasks: Sequence[Task],
    *,
    samples: int = 1,
    max_cost_usd: Decimal | str | int | None = None,
    settings: Settings | None = None,
    store: str | Path | None = None,
    seed: int = 0,
    resume: str | None = None,
    on_run: Callable[[str], None] = lambda run_id: None,
    on_start: Callable[[str, int], Callable[[], None]] = lambda name, total: lambda: None,
) -> Evaluation:
    """Every team on every task, compared in pairs with the first.

    When money or time runs out, what was measured is returned all the same, and no later team begins.

    Args:
        samples: independent samples per task; their scores are averaged.
        max_cost_usd: most the calls may cost together; required where a model costs money outside this machine.
        on_run: told the run's id when it begins.
        on_start: called with a team's name and its number of tasks; what it returns is called after each task.

    Raises:
        InputError: something is wrong or missing; nothing was spent.
    """
    settings = settings or Settings()
    opened_teams = [(_name(team, number), *open_team(team)) for number, team in enumerate(teams, 1)]
    folders = [folder for _, _, folder in opened_teams if folder is not None]
    _check_targets(tasks)
    asked = {"teams": [content_hash(graph) for _, graph, _ in opened_teams], "samples": samples}
    inputs = {**asked, "tasks": tasks_hash(tasks), "seed": seed, **settings.inputs()}
    cap = None if max_cost_usd is None else nano(max_cost_usd)
    with store_for(store, settings) as opened:
        async with Runtime.opened(
            "evaluate",
            store=opened,
            settings=settings,
            folder=folders[0] if folders else None,
            folders=folders[1:],
            cap_nano=cap,
            inputs=inputs,
            resume=resume,
        ) as runtime:
            on_run(runtime.run_id)
            for _, graph, folder in opened_teams:
                runtime.prepare(graph, folder)
            runtime.refuse_uncapped("--max-cost")
            forecast = note_forecast(runtime, planned([graph for _, graph, _ in opened_teams], tasks, samples))
            check_scorers(tasks, runtime.folder, trust=settings.trust)
            swept: list[Swept] = []
            for number, (name, graph, _) in enumerate(opened_teams):
                if swept and swept[-1].short is not None:
                    swept.append(Swept(Arm.of(name, ()), len(tasks), swept[-1].short))
                    continue
                purse, done = runtime.ledger.child(f"team-{number}"), on_start(name, len(tasks))
                playing = sweep(
                    runtime, name, graph, tasks, key=str(number), purse=purse, seed=seed, samples=samples, on_done=done
                )
                swept.append(await playing)
            cut = next((each for each in swept if each.short is not None), None)
            return Evaluation(
                run_id=runtime.run_id,
                teams=tuple(
                    _evaluated(each, swept[0], team[1]) for each, team in zip(swept, opened_teams, strict=True)
                ),
                paid_nano=runtime.ledger.spent,
                ran_out=None if cut is None else f"{cut.arm.name}: {cut.short}",
                forecast=forecast,
                actual=came_to(runtime),
            )


def _check_targets(tasks: Sequence[Task]) -> None:
    if not tasks:
        raise InputError("there is no task to evaluate on; name another file or --split")
    check_ids(tasks)
    unscored = [task.id for task in tasks if task.target is None]
    if unscored:
        raise InputError(f"evaluation needs a target on every task; {unscored[0]!r} has none ({len(unscored)} in all)")


def planned(teams: Sequence[AgentGraph | str | Path], tasks: Sequence[Task], samples: int = 1) -> list[Plan]:
    """What `evaluate` would play, to be foreseen.

    Raises:
        InputError: a team cannot be read.
    """
    texts = [task.input for task in tasks]
    read = [open_team(team) for team in teams]
    return [Plan(graph if samples == 1 else sampling(graph), texts, samples, folder) for graph, folder in read]


def _evaluated(swept: Swept, first: Swept, graph: AgentGraph) -> Evaluated:
    arm, whole = swept.arm, swept.short is None
    comparable = whole and first.short is None and swept is not first
    return Evaluated(
        name=arm.name,
        team_hash=content_hash(graph),
        arm=arm,
        asked=swept.asked,
        success=success_interval(arm.scores) if whole else None,
        cost_of_pass_nano=cost_of_pass(arm) if whole else None,
        against_first=compare(arm, first.arm) if comparable else None,
    )


def _name(team: AgentGraph | str | Path, number: int) -> str:
    return f"{number}: {team.name}" if isinstance(team, AgentGraph) else f"{number}: {Path(team).stem}"
