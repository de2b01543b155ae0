"""The knapsack composers as plug-ins: what they try, what they choose, and what they write down about it.

    identity            everything in the inventory, whatever it costs
    retrieval           the most similar component of every skill, whatever it costs
    offline-knapsack    the best set on similarity, at least one component per skill; nothing is tried
    offline-trials      the best set on measured gains of the retrieved components
    online-knapsack     components are tried one after the other, and hired or let go for good (ZCL)

Source:
    Yuan et al. 2025, arXiv:2510.16499, the four composers. `offline-trials` is ours.
    Deviation: stated in the modules that do the work: `skills`, `retrieval`, `exact`, `coverage`, `online`,
    `estimates`, `trials`. Trials of the next few candidates run ahead of the decision about them where a call costs no
    external money; the decisions are those of the sequential rule.
"""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from composers.composition import Composition
from composers.knapsack.assembly import assemble, ballot_for, motif_for
from composers.knapsack.book import REASONS, UNOFFERED, Book, similarity_trials
from composers.knapsack.coverage import best_coverage
from composers.knapsack.estimates import TrialEstimate, candidate, is_broken
from composers.knapsack.exact import best_additive
from composers.knapsack.online import OnlineKnapsack, arrivals, bounds
from composers.knapsack.retrieval import Ranking, Retrieved, candidates, items, one_per_skill, rank
from composers.knapsack.selection import Limit
from composers.knapsack.similarity import best_similarity
from composers.knapsack.skills import Similarity, Skill, from_labels, parse, prompt, weights_of, with_queries
from composers.knapsack.trials import Trials
from composers.problem import Search
from graphs import AgentGraph, AgentNode, Provenance, Sampling
from orchestra.agents.inventory import Component, Inventory
from orchestra.benchmarks.tasks import Task
from orchestra.errors import BudgetError, InputError
from orchestra.ledger import Ledger

LOOK_AHEAD = 4
"""Candidates whose trials run at once, where a call costs no external money."""
DEADLINE_SECONDS = 20.0
"""Time an exact selection may take before it gives its bound and gap."""


@dataclass(slots=True, kw_only=True)
class _Ground:
    """What every composer but `identity` starts from."""

    skills: tuple[Skill, ...]
    ranking: Ranking
    retrieved: tuple[Retrieved, ...]
    notes: dict[str, Any] = field(default_factory=dict)


async def identity(
    tasks: tuple[Task, ...], inventory: Inventory, ledger: Ledger, *, seed: int, state: Search
) -> Composition:
    """Everything in the inventory; the budget is ignored, as in the paper."""
    return _composition(state, inventory, inventory.components)


async def retrieval(
    tasks: tuple[Task, ...], inventory: Inventory, ledger: Ledger, *, seed: int, state: Search
) -> Composition:
    """The most similar component of every skill; the budget is ignored, as in the paper."""
    ground = await _ground(tasks, ledger, state)
    found = one_per_skill(ground.ranking)
    made = _composition(state, inventory, [each.component for each in found])
    return made.with_(tried=similarity_trials(found, made.chosen), notes={**made.notes, **ground.notes})


async def offline_knapsack(
    tasks: tuple[Task, ...], inventory: Inventory, ledger: Ledger, *, seed: int, state: Search
) -> Composition:
    """The best set on similarity under the budget, with at least one component per skill."""
    ground = await _ground(tasks, ledger, state)
    offered = items(ground.ranking, state.problem.candidates)
    by_name = {each.component.name: each.component for each in ground.retrieved}
    limit = state.problem.latency_limit_seconds
    if limit is None:
        selection = best_additive(offered, state.problem.budget_usd, deadline_seconds=DEADLINE_SECONDS)
    else:
        from composers.knapsack.offline import best_under_limits  # brings the solver, which is an extra

        latencies = [_latency(by_name[item.name]) for item in offered]
        limits = [Limit(name="latency_seconds", amounts=latencies, cap=limit)]
        selection = best_under_limits(offered, state.problem.budget_usd, limits, deadline_seconds=DEADLINE_SECONDS)
    made = _composition(state, inventory, [by_name[name] for name in selection.chosen])
    tried = similarity_trials(ground.retrieved, selection.chosen, {item.name: item.value for item in offered})
    notes = {"similarity_value": selection.value, "similarity_bound": selection.bound, "proven": selection.optimal}
    return made.with_(tried=tried, notes={**made.notes, **ground.notes, **notes})


async def offline_trials(
    tasks: tuple[Task, ...], inventory: Inventory, ledger: Ledger, *, seed: int, state: Search
) -> Composition:
    """The best set on measured gains, after every retrieved component was tried."""
    _refuse_latency_limit(state)
    ground = await _ground(tasks, ledger, state)
    book = Book(weights_of(ground.skills))
    async with _trials(tasks, inventory, ledger, seed, state) as trials:
        ran_out = await _try_rest(trials, ground, book, state, everything=state.problem.try_all)
        selection = best_coverage(
            book.candidates(), book.weights, state.problem.budget_usd, deadline_seconds=DEADLINE_SECONDS
        )
        for name, entry in book.entries.items():
            if name in selection.chosen:
                entry.verdict, entry.reason = "accepted", "in the best set on measured gains"
            elif entry.verdict != "broken":
                entry.verdict, entry.reason = "rejected", "not in the best set on measured gains"
        return await _measured(state, inventory, trials, ground, book, selection.chosen, ran_out)


async def online_knapsack(
    tasks: tuple[Task, ...], inventory: Inventory, ledger: Ledger, *, seed: int, state: Search
) -> Composition:
    """Components tried one after the other, each hired or let go for good by the ZCL threshold."""
    ground = await _ground(tasks, ledger, state)
    weights = weights_of(ground.skills)
    async with _trials(tasks, inventory, ledger, seed, state) as trials:
        smallest = 1 / max(len(trials.queries(skill)[0]) for skill in ground.skills)
        limits = bounds(ground.skills, [each.component for each in ground.retrieved], smallest)
        rule = OnlineKnapsack(state.problem.budget_usd, lowest=limits.lowest, highest=limits.highest, weights=weights)
        book = Book(weights, bounds=limits)
        ran_out = await _hire(trials, ground, rule, book, arrivals(ground.retrieved, seed))
        book.clipped = rule.clipped
        if state.problem.try_all and ran_out is None:
            ran_out = await _try_rest(trials, ground, book, state, everything=True)
        return await _measured(state, inventory, trials, ground, book, rule.hired, ran_out)


async def _hire(
    trials: Trials, ground: _Ground, rule: OnlineKnapsack, book: Book, stream: Sequence[Retrieved]
) -> str | None:
    """Offer the stream to the rule; what the money ran out on, if it did."""
    problem, runtime = trials.search.problem, trials.search.runtime
    wanted = {skill.name: skill for skill in ground.skills}
    done = trials.search.on_start("trying components", len(stream))
    ahead = 1 if runtime.model(problem.settings.model).external else LOOK_AHEAD
    running: dict[str, asyncio.Task[tuple[TrialEstimate, ...]]] = {}
    pace = _Pace(None if problem.latency_limit_seconds is None else Decimal(str(problem.latency_limit_seconds)))
    for position, offered in enumerate(stream):
        for coming in stream[position : position + ahead]:
            name = coming.component.name
            if name not in running and pace.fits(coming.component) and rule.would_try(*_asked(coming)):
                needs = [wanted[skill] for skill in coming.skills]
                running[name] = trials.start(coming.component, needs)
        component = offered.component
        estimates: tuple[TrialEstimate, ...] = ()
        if component.name in running:
            try:
                estimates = await running[component.name]
            except BudgetError as short:
                await asyncio.gather(*running.values(), return_exceptions=True)
                return str(short)
        entry = book.enter(component, offered.skills, estimates)
        done()
        if not pace.fits(component):
            entry.verdict, entry.reason, entry.threshold = "skipped", "slower than what is left", rule.threshold
            continue
        before = rule.state.gains
        decision = rule.pass_over(*_asked(offered))
        if decision is None:
            decision = rule.offer(candidate(component, estimates))
        book.decide(entry, decision, budget=problem.budget_usd, gains=before)
        if decision.accepted:
            pace.take(component)
    return None


def _asked(offered: Retrieved) -> tuple[str, Decimal, tuple[str, ...]]:
    return offered.component.name, offered.component.price_usd, offered.skills


@dataclass(slots=True)
class _Pace:
    """What is left of a limit on the chosen components' latencies together."""

    left: Decimal | None
    """Seconds; `None` means no limit. Decimal, as three times 0.1 must fit into 0.3."""

    def fits(self, component: Component) -> bool:
        """Whether `component` can still be taken."""
        return self.left is None or _latency(component) <= self.left

    def take(self, component: Component) -> None:
        """Use up its latency."""
        if self.left is not None:
            self.left -= _latency(component)


def _latency(component: Component) -> Decimal:
    assert component.latency_seconds is not None, "a problem with a latency limit is checked for it"
    return Decimal(str(component.latency_seconds))


def _refuse_latency_limit(state: Search) -> None:
    if state.problem.latency_limit_seconds is not None:
        raise InputError("offline-trials keeps no latency limit; use online-knapsack or offline-knapsack")


async def _try_rest(trials: Trials, ground: _Ground, book: Book, state: Search, *, everything: bool) -> str | None:
    """Try what is not in the book yet, all at once; what the money ran out on, if it did."""
    wanted = {skill.name: skill for skill in ground.skills}
    if everything:
        rest = [(each, tuple(wanted)) for each in trials.inventory.components]
    else:
        rest = [(each.component, each.skills) for each in ground.retrieved]
    rest = [(component, missing) for component, names in rest if (missing := _untried(book, component, names))]
    done = state.on_start("trying the rest" if book.entries else "trying components", len(rest))

    async def one(component: Component, names: tuple[str, ...]) -> str | None:
        try:
            estimates = await trials.estimates(component, [wanted[name] for name in names])
        except BudgetError as short:
            return str(short)
        entry = book.entries.get(component.name)
        if entry is None:
            entry = book.enter(component, names, estimates)
            broken = is_broken(estimates)
            entry.verdict, entry.reason = REASONS["broken"] if broken else ("rejected", UNOFFERED)
        else:  # decided already, on what was known then: that stays as it was
            entry.later = estimates
        done()
        return None

    ended = await asyncio.gather(*(one(component, names) for component, names in rest))
    return next((short for short in ended if short is not None), None)


def _untried(book: Book, component: Component, names: Sequence[str]) -> tuple[str, ...]:
    """Which of the skills called `names` a component was not tried for."""
    entry = book.entries.get(component.name)
    known = set() if entry is None else {each.skill for each in entry.estimates}
    return tuple(name for name in names if name not in known)


async def _measured(
    state: Search,
    inventory: Inventory,
    trials: Trials,
    ground: _Ground,
    book: Book,
    chosen: Sequence[str],
    ran_out: str | None,
) -> Composition:
    """The composition of `chosen`, each measured again on fresh queries."""
    wanted = {skill.name: skill for skill in ground.skills}
    entries = [book.entries[name] for name in chosen]
    done = state.on_start("measuring the chosen again", len(entries))
    for entry in entries:
        try:
            helped = [each.skill for each in entry.estimates if each.gain > 0]
            tried = [wanted[each.skill] for each in entry.estimates]
            entry.fresh = await trials.fresh(entry.component, [wanted[name] for name in helped], tried)
        except BudgetError as short:
            ran_out = ran_out or str(short)
            break
        done()
    made = _composition(state, inventory, [entry.component for entry in entries])
    optimum = book.optimum(chosen, state.problem.budget_usd, whole_inventory=state.problem.try_all and ran_out is None)
    notes = {**made.notes, **ground.notes}
    if state.problem.latency_limit_seconds is not None:
        notes["optimum"] = "under the budget alone: it keeps no latency limit"
    return made.with_(tried=book.trials(), optimum=optimum, notes=notes, ran_out=ran_out)


def _composition(state: Search, inventory: Inventory, chosen: Sequence[Component]) -> Composition:
    price = sum((component.price_usd for component in chosen), start=Decimal(0))
    provenance = Provenance(
        composer=state.problem.composer,
        seed=state.problem.seed,
        budget_usd=state.problem.budget_usd,
        price_usd=price,
        run_id=state.runtime.run_id,
    )
    problem = state.problem
    graph = assemble(
        chosen,
        inventory,
        model=problem.settings.model,
        motif=problem.motif,
        ballot=ballot_for(problem.trial_tasks),
        provenance=provenance,
    )
    notes: dict[str, Any] = {"motif": problem.motif}
    if (shape := motif_for(problem.motif, chosen)) != problem.motif:
        notes["motif"] = f"{shape}: the chosen components cannot form a {problem.motif}"
    return Composition(graph=graph, chosen=tuple(each.name for each in chosen), equipment_usd=price, notes=notes)


def _trials(tasks: tuple[Task, ...], inventory: Inventory, ledger: Ledger, seed: int, state: Search) -> Trials:
    by_id = {task.id: task for task in tasks}
    return Trials(search=state, inventory=inventory, purse=ledger, tasks=by_id, seed=seed)


async def _ground(tasks: tuple[Task, ...], ledger: Ledger, state: Search) -> _Ground:
    """Worked out once per search: the rivals of the certificate start from the same."""
    if "ground" not in state.found:
        state.found["ground"] = await _surveyed(tasks, ledger, state)
    found = state.found["ground"]
    assert isinstance(found, _Ground)
    return found


async def _surveyed(tasks: tuple[Task, ...], ledger: Ledger, state: Search) -> _Ground:
    name, similarity = _similarity(state)
    skills = await _skills(tasks, ledger, state, similarity)
    ranking = rank(skills, state.problem.inventory.components, similarity=similarity)
    notes = {"similarity": name, "skills": {skill.name: round(skill.weight, 4) for skill in skills}}
    return _Ground(skills=skills, ranking=ranking, retrieved=candidates(ranking, state.problem.candidates), notes=notes)


def _similarity(state: Search) -> tuple[str, Similarity]:
    """The similarity's name and the similarity, which is a model too: a replay is told its scores."""
    runtime = state.runtime
    best = cache(lambda: best_similarity(state.problem.similarity))
    name = runtime.noted("similarity", lambda: best()[0])

    def similarity(queries: Sequence[str], documents: Sequence[str]) -> NDArray[np.float64]:
        def measured() -> list[list[float]]:
            rows: list[list[float]] = best()[1](queries, documents).tolist()
            return rows

        asked = hashlib.sha256(json.dumps([list(queries), list(documents)]).encode()).hexdigest()
        return np.array(runtime.noted(f"similarity {asked}", measured))

    return name, similarity


async def _skills(tasks: tuple[Task, ...], ledger: Ledger, state: Search, similarity: Similarity) -> tuple[Skill, ...]:
    """From the tasks' labels, or as the named model writes them."""
    writer = state.problem.skills_by
    if writer is None:
        return from_labels(tasks)
    node = AgentNode(id="skills", layout="{task}", sampling=Sampling(max_tokens=512))
    graph = AgentGraph(name="skills", model=writer, nodes=(node,), output=node.id)
    played = await state.runtime.play(graph, prompt(tasks), key="skills", purse=ledger, seed=state.problem.seed)
    if isinstance(played.error, BudgetError):
        raise played.error
    if played.error is not None or played.reply is None:
        raise InputError(f"model {writer!r} wrote no skills: {played.error}; label the tasks, or name another model")
    return with_queries(parse(played.reply), tasks, similarity)
