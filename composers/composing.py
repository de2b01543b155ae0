"""`compose`: from a problem to a certified team, on the real model, under one ledger."""

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from composers.certify import Contender, certify
from composers.composition import Composer, Composition
from composers.forecast import foresee
from composers.knapsack.assembly import adapter_model, tool
from composers.knapsack.composers import identity, retrieval
from composers.problem import Problem, Search, Started, moment
from graphs import AgentGraph
from graphs.serialisation import write
from orchestra import plugins
from orchestra.agents.inventory import Inventory
from orchestra.agents.tools import check_trusted
from orchestra.benchmarks.scorers import check_scorers
from orchestra.benchmarks.tasks import Task
from orchestra.errors import BudgetError, InputError, UnknownPrice
from orchestra.evaluation.certificate import IDENTITY, RETRIEVAL, write_certificate
from orchestra.execution.forecast import Forecast
from orchestra.execution.foresight import came_to, keep_forecast
from orchestra.execution.recording import store_for
from orchestra.execution.runtime import Runtime
from orchestra.execution.settings import STATE_PRICE, opened_model
from orchestra.ledger import nano
from orchestra.traces.store import Store

SEARCH_SHARE = Decimal("0.6")
"""Part of a capped search budget that the search itself may use; the rest pays for the certificate."""


def _silent(title: str, total: int) -> Callable[[], None]:
    return lambda: None


async def compose(
    tasks: Problem | Path | str | Sequence[Task],
    inventory: Inventory | Path | str | None = None,
    *,
    search_budget_usd: Decimal | str | int | None = None,
    out: Path | None = None,
    reports: Sequence[Path] = (),
    store: str | Path | None = None,
    resume: str | None = None,
    on_start: Started = _silent,
    on_run: Callable[[str], None] = lambda run_id: None,
    **chosen: Any,
) -> Composition:
    """The team that a composer chooses for tasks under a budget, with its certificate.

    Args:
        tasks: file, tasks, or a whole `Problem`.
        inventory: file, or inventory; left out where a problem is given.
        chosen: further fields of `Problem`: `budget_usd`, and what else shall differ from its defaults.
        search_budget_usd: most that calls may cost, search and certificate together; required where a model costs
            money outside this machine.
        out: team file to write; `None` writes none.
        reports: certificate files to write, each `.json` or `.html`.
        store: file or URL of the trace store; `None` takes the user's.
        resume: id of an interrupted search to go on with; what it paid for is not paid again.
        on_run: called with the id of the run once it has one; with it an interrupted search can be resumed.
        on_start: called with the title of each stage and its number of steps; what it returns is called per step.

    Raises:
        InputError: something is wrong or missing; nothing was spent.
    """
    problem = _problem(tasks, inventory, chosen)
    _check_outputs(out, reports)
    composer = cast(Composer, plugins.load("orchestra.composers", problem.composer))
    problem.check()
    cap = None if search_budget_usd is None else nano(search_budget_usd)
    with store_for(store, problem.settings) as opened:
        async with _runtime(problem, opened, cap, resume) as runtime:
            _refuse_early(problem, runtime)
            on_run(runtime.run_id)
            foreseen = keep_forecast(runtime, lambda: foresee(problem, runtime.model(problem.settings.model)))
            search = Search(problem=problem, runtime=runtime, on_start=on_start, started=moment(runtime, "started"))
            ledger = search.open_purse("search", None if cap is None else int(cap * SEARCH_SHARE))
            try:
                made = await composer(problem.trial_tasks, problem.inventory, ledger, seed=problem.seed, state=search)
            except BudgetError as short:
                raise BudgetError(
                    f"the search budget ran out before anything could be chosen: {short}; what was tried is kept: "
                    f"--resume {runtime.run_id} with a larger --search-budget"
                ) from short
            made = made.with_(run_id=runtime.run_id, graph=_with_inventory(made.graph, problem.inventory, out))
            certified = await certify(made, search, *await _rivals(search))
            certified = certified.with_(forecast=foreseen, actual=came_to(runtime))
        return certified.with_(written=_write(certified, out, reports))


async def forecast(problem: Problem) -> Forecast:
    """What composing would take: calls, tokens and cash; nothing is called, and nothing is written.

    Raises:
        InputError: something is wrong or missing.
    """
    plugins.load("orchestra.composers", problem.composer)
    problem.check()
    _check_tools(problem)
    models = {name: opened_model(name, problem.settings) for name in _model_names(problem)}
    try:
        return foresee(problem, models[problem.settings.model])
    finally:
        for model in models.values():
            await model.close()


def _problem(
    tasks: Problem | Path | str | Sequence[Task], inventory: Inventory | Path | str | None, chosen: dict[str, Any]
) -> Problem:
    if isinstance(tasks, Problem):
        if inventory is not None or chosen:
            raise InputError("a problem holds its inventory and its budget; give a problem, or tasks and an inventory")
        return tasks
    if inventory is None or "budget_usd" not in chosen:
        raise InputError("composing needs tasks, an inventory and `budget_usd`, or a problem that holds them")
    return Problem.read(tasks, inventory, **chosen)


def _runtime(
    problem: Problem, store: Store, cap: int | None, resume: str | None
) -> AbstractAsyncContextManager[Runtime]:
    path = problem.inventory.path
    return Runtime.opened(
        "compose",
        store=store,
        settings=problem.settings,
        folder=None if path is None else path.resolve().parent,
        cap_nano=cap,
        inputs=problem.inputs(),
        resume=resume,
    )


def _refuse_early(problem: Problem, runtime: Runtime) -> None:
    """Everything that can be wrong with models and tools, before anything is spent."""
    models = [runtime.priced_model(name) for name in _model_names(problem)]
    runtime.refuse_uncapped("--search-budget")
    unpriced = [model.name for model in models if model.price is None]
    if unpriced:
        raise UnknownPrice(
            f"the price of model {unpriced[0]!r} is not known, so nothing can be compared at equal cost; {STATE_PRICE}"
        )
    _check_tools(problem)
    check_scorers(problem.tasks, runtime.folder, trust=problem.settings.trust)


def _model_names(problem: Problem) -> tuple[str, ...]:
    """Every model a search may ask."""
    components = problem.inventory.components
    own = [component.model for component in components if component.model]
    own += [adapter_model(c, problem.inventory, problem.settings.model) for c in components if c.kind == "adapter"]
    return tuple(sorted({problem.settings.model, *own, *([problem.skills_by] if problem.skills_by else [])}))


def _check_tools(problem: Problem) -> None:
    path = problem.inventory.path
    folder = None if path is None else path.resolve().parent
    for component in problem.inventory.components:
        if component.kind == "tool":
            check_trusted(tool(component), folder, problem.settings.trust)


async def _rivals(search: Search) -> tuple[dict[str, Contender], str | None]:
    """The compositions a certificate compares with, besides the problem's own; what the money ran out on, if it did."""
    problem = search.problem
    rivals: dict[str, Contender] = {}
    for name, composer, words in (
        (RETRIEVAL, retrieval, "the most similar component of every skill, whatever it costs"),
        (IDENTITY, identity, "everything in the inventory, whatever it costs"),
    ):
        if name != problem.composer:
            try:
                made = await composer(
                    problem.trial_tasks, problem.inventory, search.purse, seed=problem.seed, state=search
                )
            except BudgetError as short:
                return rivals, f"the search budget ran out while composing {name}: {short}"
            chosen = tuple(c for c in problem.inventory.components if c.name in made.chosen)
            rivals[name] = Contender(name, made.graph, words, chosen)
    return rivals, None


def _with_inventory(graph: AgentGraph, inventory: Inventory, out: Path | None) -> AgentGraph:
    """`graph`, naming the inventory file as a team file at `out` finds it."""
    if graph.provenance is None or inventory.path is None:
        return graph
    path = inventory.path.resolve()
    named = str(path) if out is None else Path(os.path.relpath(path, out.resolve().parent)).as_posix()
    return graph.model_copy(update={"provenance": graph.provenance.model_copy(update={"inventory": named})})


def _check_outputs(out: Path | None, reports: Sequence[Path]) -> None:
    """Whether what a search finds can be written at its end, before it is paid for."""
    if out is not None and out.suffix.lower() not in (".yaml", ".yml", ".json"):
        raise InputError(f"a team is written as .yaml or .json, not {str(out)!r}; name another file with --out")
    for path in reports:
        if path.suffix not in (".json", ".html"):
            raise InputError(f"a report is written as .json or .html, not {str(path)!r}")
    for path in (*((out,) if out else ()), *reports):
        standing = next(place for place in path.absolute().parents if place.exists())
        if path.is_dir() or not standing.is_dir() or not os.access(standing, os.W_OK):
            raise InputError(f"{str(path)!r} cannot be written; name a file in a folder you may write to")


def _write(composition: Composition, out: Path | None, reports: Sequence[Path]) -> tuple[Path, ...]:
    certificate = composition.certificate
    assert certificate is not None, "written after it is certified"
    for path in (*((out,) if out else ()), *reports):
        path.parent.mkdir(parents=True, exist_ok=True)
    if out is not None:
        write(composition.graph, out)
    for path in reports:
        if path.suffix == ".json":
            write_certificate(certificate, path)
        else:
            from orchestra.evaluation.report import write_report

            write_report(certificate, path)
    return (*((out,) if out else ()), *reports)
