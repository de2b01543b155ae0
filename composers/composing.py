"""`compose`: from a problem to a certified team, on the real model, under one ledger."""

import os
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import cast

from composers.certify import Contender, certify
from composers.composition import Composer, Composition
from composers.forecast import Forecast, foresee
from composers.knapsack.composers import identity, retrieval
from composers.problem import Problem, Search, Started
from graphs import AgentGraph
from graphs.serialisation import write
from orchestra import plugins
from orchestra.agents.inventory import Inventory
from orchestra.agents.tools import check_trusted
from orchestra.errors import BudgetError, InputError
from orchestra.evaluation.certificate import IDENTITY, RETRIEVAL, Certificate, write_certificate
from orchestra.execution.runtime import Runtime
from orchestra.ledger import nano
from orchestra.traces.store import Store

SEARCH_SHARE = Decimal("0.6")
"""Part of a capped search budget that the search itself may use; the rest pays for the certificate."""


def _silent(title: str, total: int) -> Callable[[], None]:
    return lambda: None


async def compose(
    problem: Problem,
    *,
    search_budget_usd: Decimal | str | int | None = None,
    out: Path | None = None,
    reports: Sequence[Path] = (),
    store: str | Path | None = None,
    resume: str | None = None,
    on_start: Started = _silent,
    on_run: Callable[[str], None] = lambda run_id: None,
) -> Composition:
    """The team that the problem's composer chooses, with its certificate.

    Args:
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
    _check_reports(reports)
    composer = cast(Composer, plugins.load("orchestra.composers", problem.composer))
    problem.check()
    cap = None if search_budget_usd is None else nano(search_budget_usd)
    with Store.open(store) as opened:
        async with _runtime(problem, opened, cap, resume) as runtime:
            on_run(runtime.run_id)
            search = Search(problem=problem, runtime=runtime, on_start=on_start)
            ledger = search.open_purse("search", None if cap is None else int(cap * SEARCH_SHARE))
            _refuse_early(search)
            try:
                made = await composer(problem.trial_tasks, problem.inventory, ledger, seed=problem.seed, state=search)
            except BudgetError as short:
                raise BudgetError(
                    f"the search budget ran out before anything could be chosen: {short}; what was tried is kept: "
                    f"--resume {runtime.run_id} with a larger --search-budget"
                ) from short
            made = made.with_(run_id=runtime.run_id, graph=_with_inventory(made.graph, problem.inventory, out))
            certificate = await certify(made, search, await _rivals(search))
        certified = made.with_(certificate=certificate, ran_out=made.ran_out or certificate.incomplete)
        return certified.with_(written=_write(certified, certificate, out, reports))


async def forecast(problem: Problem, *, store: str | Path | None = None) -> Forecast:
    """What composing would take: calls, tokens and cash; nothing is called.

    Raises:
        InputError: something is wrong or missing.
    """
    plugins.load("orchestra.composers", problem.composer)
    problem.check()
    with Store.open(store) as opened:
        async with _runtime(problem, opened, None, None) as runtime:
            return foresee(problem, runtime)


def _runtime(problem: Problem, store: Store, cap: int | None, resume: str | None):  # type: ignore[no-untyped-def]
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


def _refuse_early(search: Search) -> None:
    """Everything that can be wrong with models and tools, before anything is spent."""
    problem, runtime = search.problem, search.runtime
    names = {problem.settings.model, *(c.model for c in problem.inventory.components if c.model)}
    for name in sorted({*names, *([problem.skills_by] if problem.skills_by else [])}):
        runtime.model(name)
    runtime.refuse_uncapped("--search-budget")
    from composers.knapsack.assembly import tool

    for component in problem.inventory.components:
        if component.kind == "tool":
            check_trusted(tool(component), runtime.folder, problem.settings.trust)


async def _rivals(search: Search) -> dict[str, Contender]:
    """The compositions a certificate compares with, besides the problem's own."""
    problem = search.problem
    rivals = {}
    for name, composer, words in (
        (RETRIEVAL, retrieval, "the most similar component of every skill, whatever it costs"),
        (IDENTITY, identity, "everything in the inventory, whatever it costs"),
    ):
        if name != problem.composer:
            made = await composer(problem.trial_tasks, problem.inventory, search.purse, seed=problem.seed, state=search)
            chosen = tuple(c for c in problem.inventory.components if c.name in made.chosen)
            rivals[name] = Contender(name, made.graph, words, chosen)
    return rivals


def _with_inventory(graph: AgentGraph, inventory: Inventory, out: Path | None) -> AgentGraph:
    """`graph`, naming the inventory file as a team file at `out` finds it."""
    if graph.provenance is None or inventory.path is None:
        return graph
    path = inventory.path.resolve()
    named = str(path) if out is None else Path(os.path.relpath(path, out.resolve().parent)).as_posix()
    return graph.model_copy(update={"provenance": graph.provenance.model_copy(update={"inventory": named})})


def _check_reports(reports: Sequence[Path]) -> None:
    for path in reports:
        if path.suffix not in (".json", ".html"):
            raise InputError(f"a report is written as .json or .html, not {str(path)!r}")


def _write(
    composition: Composition, certificate: Certificate, out: Path | None, reports: Sequence[Path]
) -> tuple[Path, ...]:
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
