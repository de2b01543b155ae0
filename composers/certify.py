"""From a composition to its certificate: held-out tasks, and baselines that cost as much as the team.

Every arm answers the same held-out tasks. The two single-agent baselines draw k independent samples per task and vote
the way the team votes, with k such that they list at what the team lists at; or they answer once, where that does as
well on the trial tasks. k, this choice and the one between the two baselines are made on the *trial* split, so that
nothing about the held-out tasks decides what the team is compared with.

Source:
    Equal-cost comparison: arXiv:2606.13003, arXiv:2510.06711; see `orchestra.evaluation.baselines`.
    Deviation: stated there.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from importlib.metadata import version

from composers.composition import Composition
from composers.knapsack.assembly import assemble, ballot_for, single_agent
from composers.problem import Problem, Search, moment
from graphs import AgentGraph, VoteNode
from orchestra.agents.inventory import Component
from orchestra.benchmarks.tasks import Task
from orchestra.errors import BudgetError
from orchestra.evaluation.baselines import better_baseline, expected_samples, samples_by_task
from orchestra.evaluation.breakeven import mean_list_nano
from orchestra.evaluation.certificate import (
    EQUIPPED,
    IDENTITY,
    RETRIEVAL,
    SINGLE,
    TEAM,
    ArmResult,
    Certificate,
    Settings,
    SpendRow,
    Team,
)
from orchestra.evaluation.findings import arm_result, break_even_result, headline, spend, verdict_line
from orchestra.evaluation.outcomes import Arm
from orchestra.evaluation.sweep import sweep
from orchestra.execution.play import Spent
from orchestra.ledger import usd


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to answer, before it has answered."""

    name: str
    graph: AgentGraph
    description: str
    components: tuple[Component, ...] = ()


@dataclass(slots=True)
class _Evidence:
    """What has been measured so far; what is missing when a budget ran out."""

    ballot: Callable[[Task], VoteNode]
    """How samples of a task are counted, the team's and the baselines' alike."""
    trial: dict[str, Arm] = field(default_factory=dict)
    heldout: dict[str, Arm] = field(default_factory=dict)
    samples: dict[str, Fraction] = field(default_factory=dict)
    incomplete: str | None = None


async def certify(
    composition: Composition, search: Search, rivals: Mapping[str, Contender], incomplete: str | None = None
) -> Composition:
    """`composition` with its certificate; what the money did not reach is missing and said to be.

    Args:
        rivals: the other compositions it is measured beside: `retrieval` and `identity`.
        incomplete: why one of them is missing.
    """
    evidence = _Evidence(ballot=ballot(composition.graph), incomplete=incomplete)
    problem = search.problem
    chosen = _components(problem, composition.chosen)
    team = Contender(TEAM, composition.graph, f"the team, by {problem.composer}", chosen)
    model = problem.settings.model
    single = Contender(SINGLE, assemble((), problem.inventory, model=model), "the same model and prompt, no components")
    equipped = Contender(
        EQUIPPED,
        single_agent(chosen, problem.inventory, model=model),
        "one agent that may call every chosen component itself",
        chosen,
    )
    others = [rivals[name] for name in (RETRIEVAL, IDENTITY) if name in rivals]
    try:
        await _trial_split(search, evidence, team, (single, equipped))
        for contender in (team, single, equipped, *others):
            evidence.heldout[contender.name] = await _held_out(search, evidence, contender)
    except BudgetError as short:
        evidence.incomplete = evidence.incomplete or f"the search budget ran out while certifying: {short}"
    contenders = {each.name: each for each in (team, *others, single, equipped)}
    certificate = _certificate(composition, search, evidence, contenders)
    ran_out = composition.ran_out or certificate.incomplete
    return composition.with_(certificate=certificate, heldout=evidence.heldout, ran_out=ran_out)


async def _trial_split(
    search: Search, evidence: _Evidence, team: Contender, baselines: tuple[Contender, Contender]
) -> None:
    """Measure k for both baselines, how good each is with it, and whether answering once is as good.

    Two warm samples are no vote: the first decides a tie, so they are one warm answer. A user who may spend as much as
    the team would not buy that where a single answer does better.
    """
    tasks = search.problem.trial_tasks
    evidence.trial[TEAM] = await _arm(search, evidence, team, tasks, "trial", 1)
    for baseline in baselines:
        once = await _arm(search, evidence, baseline, tasks, "trial-once", 1)
        expected = expected_samples(evidence.trial[TEAM], once)
        best = once
        if expected > 1:
            drawn = _draw(tasks, expected, search.problem.seed)
            best = better_baseline(once, await _arm(search, evidence, baseline, tasks, "trial", drawn))
        evidence.samples[baseline.name] = Fraction(1) if best is once else expected
        evidence.trial[baseline.name] = best


async def _held_out(search: Search, evidence: _Evidence, contender: Contender) -> Arm:
    tasks = search.problem.heldout_tasks
    expected = evidence.samples.get(contender.name, Fraction(1))
    samples = 1 if expected == 1 else _draw(tasks, expected, search.problem.seed + 1)
    return await _arm(search, evidence, contender, tasks, "held-out", samples)


def _draw(tasks: tuple[Task, ...], expected: Fraction, seed: int) -> dict[str, int]:
    return samples_by_task([task.id for task in tasks], expected, seed=seed)


async def _arm(
    search: Search,
    evidence: _Evidence,
    contender: Contender,
    tasks: tuple[Task, ...],
    split: str,
    samples: int | Mapping[str, int],
) -> Arm:
    purse = search.open_purse(f"{split}: {contender.name}")
    swept = await sweep(
        search.runtime,
        contender.name,
        contender.graph,
        tasks,
        key=f"{split}/{contender.name}",
        purse=purse,
        seed=search.problem.seed,
        samples=samples,
        ballot=evidence.ballot,
        on_done=search.on_start(purse.path.removeprefix("run/"), len(tasks)),
    )
    return swept.whole()


def ballot(team: AgentGraph) -> Callable[[Task], VoteNode]:
    """How a baseline counts its samples of a task: as the team counts, if it votes; else by what the scorer reads."""
    voting = next((node for node in team.nodes if isinstance(node, VoteNode)), None)
    return lambda task: voting or ballot_for((task,))


def _components(problem: Problem, names: tuple[str, ...]) -> tuple[Component, ...]:
    by_name = {component.name: component for component in problem.inventory.components}
    return tuple(by_name[name] for name in names)


def _certificate(
    composition: Composition,
    search: Search,
    evidence: _Evidence,
    contenders: Mapping[str, Contender],
) -> Certificate:
    problem, runtime = search.problem, search.runtime
    budget = problem.budget_usd
    arms = tuple(
        _result(contender, evidence, budget) for name, contender in contenders.items() if name in evidence.heldout
    )
    team = evidence.heldout.get(TEAM)
    versus, break_even, verdict = None, [], f"not certified: {evidence.incomplete}"
    if team is not None and SINGLE in evidence.heldout and EQUIPPED in evidence.heldout:
        better = better_baseline(evidence.trial[SINGLE], evidence.trial[EQUIPPED])
        baseline = evidence.heldout[better.name]
        because = f"the better of the two on the {len(problem.trial_tasks)} trial tasks, at the team's cost at most"
        versus = headline(team, baseline, chosen_because=because, margin=problem.margin)
        verdict = verdict_line(versus, arms) + _beyond(composition.equipment_usd, budget)
        paid_back = search.purse.spent + runtime.tallies.get(search.purse.path, Spent()).borrowed_nano
        break_even = [
            break_even_result(paid_back, team, other, seed=problem.seed)
            for other in (baseline, evidence.heldout.get(IDENTITY))
            if other is not None
        ]
    incomplete = composition.ran_out or evidence.incomplete
    cash = evidence.heldout.get(TEAM) or evidence.trial.get(TEAM)
    return Certificate(
        verdict=verdict,
        team=Team(
            graph=composition.graph,
            components=composition.chosen,
            equipment_usd=composition.equipment_usd,
            budget_usd=problem.budget_usd,
            expected_cash_usd=usd(0 if cash is None else math.ceil(mean_list_nano(cash))),
        ),
        success=arms,
        headline=versus,
        break_even=tuple(break_even),
        components=composition.tried,
        optimum=composition.optimum,
        spend=spend(
            _spend_rows(search),
            settled_nano=runtime.ledger.settled,
            unknown_nano=runtime.ledger.unknown_total,
            cap_nano=runtime.ledger.cap,
        ),
        settings=_settings(composition, search),
        incomplete=incomplete if incomplete or versus else "no held-out task was measured",
    )


def _beyond(priced: Decimal, budget: Decimal) -> str:
    """What is said of equipment that the budget would not buy."""
    return f"; {priced - budget} USD over the budget" if priced > budget else ""


def _result(contender: Contender, evidence: _Evidence, budget: Decimal) -> ArmResult:
    priced = sum((component.price_usd for component in contender.components), start=Decimal(0))
    return arm_result(
        evidence.heldout[contender.name],
        description=contender.description + _beyond(priced, budget),
        samples_per_task=float(evidence.samples.get(contender.name, Fraction(1))),
        equipment_usd=priced if contender.components else None,
        trial=evidence.trial.get(contender.name),
    )


def _spend_rows(search: Search) -> list[SpendRow]:
    runtime = search.runtime
    rows = []
    for purse in search.purses:
        tally = runtime.tallies.get(purse.path, Spent())
        rows.append(
            SpendRow(
                category=purse.path.removeprefix("run/"),
                calls=tally.calls,
                cached_calls=tally.cached_calls,
                input_tokens=tally.input_tokens,
                output_tokens=tally.output_tokens,
                list_usd=usd(tally.list_nano),
                paid_usd=usd(purse.spent),
            )
        )
    return rows


def _settings(composition: Composition, search: Search) -> Settings:
    problem, runtime = search.problem, search.runtime
    return Settings(
        composer=problem.composer,
        seed=problem.seed,
        model=problem.settings.model,
        fingerprint=runtime.model(problem.settings.model).fingerprint,
        run_id=runtime.run_id,
        store=runtime.noted("store", lambda: runtime.store.url),
        started=search.started,
        finished=moment(runtime, "finished"),
        tasks=str(problem.tasks_path or "in Python"),
        inventory=str(problem.inventory.path or "in Python"),
        search_budget_usd=None if runtime.ledger.cap is None else usd(runtime.ledger.cap),
        version=version("orchestra-mas"),
        options={
            "budget": str(problem.budget_usd),
            "queries": problem.queries,
            "candidates": problem.candidates,
            "try_all": problem.try_all,
            "margin": problem.margin,
            "over_budget": composition.equipment_usd > problem.budget_usd,
            "latency_limit": problem.latency_limit_seconds,
            "skills_by": problem.skills_by,
            "deterministic": problem.settings.deterministic,
            **composition.notes,
        },
    )
