"""`orchestra compose`: choose a team under a budget, by trying components on a real model."""

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orchestra.cli import options
from orchestra.cli.console import console, errors
from orchestra.cli.sharing import spread

if TYPE_CHECKING:
    from composers.composition import Composition
    from composers.problem import Problem

DEFAULT_QUERIES = 8
"""Trial tasks per skill that a component is tried on."""


Inventory = Annotated[Path, typer.Option(help="Inventory file: components and their prices.")]
Budget = Annotated[
    Decimal, typer.Option(parser=options.amount, metavar="USD", help="Most the team's equipment may cost together.")
]
ComposerName = Annotated[
    str, typer.Option(help="identity, retrieval, offline-knapsack, offline-trials, online-knapsack, or a plug-in.")
]
SearchBudget = Annotated[
    Decimal | None,
    typer.Option(parser=options.amount, metavar="USD", help="Most that calls may cost, search and certificate."),
]
SkillsBy = Annotated[
    str | None, typer.Option(metavar="MODEL", help="Let this model write the skills; else the tasks' labels.")
]
LatencyLimit = Annotated[
    float | None, typer.Option(min=0, help="Most seconds the chosen components may take together.")
]
SimilarityName = Annotated[
    Literal["auto", "embeddings", "bm25"], typer.Option(help="What retrieval compares; auto: the best installed.")
]
MotifName = Annotated[str, typer.Option(help="Shape of the team: star, chain, debate, vote, ...")]
TryAll = Annotated[bool, typer.Option("--try-all", help="Try every component, so that the optimum over all is known.")]
Queries = Annotated[int, typer.Option(min=1, help="Trial tasks per skill that a component is tried on.")]
Margin = Annotated[float, typer.Option(min=0, max=99, help="Points of success that count as no difference.")]
Out = Annotated[Path, typer.Option(help="Where the team is written.")]
Reports = Annotated[
    list[Path] | None,
    typer.Option("--report", help="Where the certificate is written: .json or .html; may be given twice."),
]


@spread
def compose_command(
    tasks: Annotated[Path, typer.Argument(help="Task file, JSONL.")],
    inventory: Inventory,
    budget: Budget,
    composer: ComposerName = "online-knapsack",
    search_budget: SearchBudget = None,
    *,
    how: options.RunOptions,
    skills_by: SkillsBy = None,
    latency_limit: LatencyLimit = None,
    motif: MotifName = "star",
    similarity: SimilarityName = "auto",
    try_all: TryAll = False,
    queries: Queries = DEFAULT_QUERIES,
    margin: Margin = 2.0,
    out: Out = Path("team.yaml"),
    reports: Reports = None,
    resume: options.Resume = None,
    dry_run: options.DryRun = False,
    store: options.StoreUrl = None,
    as_json: options.AsJson = False,
) -> int:
    """Choose a team for tasks under a budget, and certify it."""
    from composers.problem import Problem

    settings = how.settings(use_cache=True)
    chosen: dict[str, Any] = {"composer": composer, "skills_by": skills_by, "latency_limit_seconds": latency_limit}
    chosen |= {"motif": motif, "similarity": similarity, "try_all": try_all, "queries": queries, "seed": how.seed}
    problem = Problem.read(tasks, inventory, budget_usd=budget, margin=margin / 100, settings=settings, **chosen)
    if dry_run:
        return _foretell(problem, as_json)
    made = _composed(
        problem, search_budget_usd=search_budget, out=out, reports=reports or (), store=store, resume=resume
    )
    _show(made, as_json)
    return 3 if made.ran_out else 0


def _composed(problem: "Problem", **chosen: Any) -> "Composition":
    """Compose with progress on the screen; interrupted, say how to go on."""
    from composers.composing import compose
    from orchestra.cli.progress import bars, resumable
    from orchestra.execution.runner import run_sync

    with resumable() as on_run, bars() as on_start:
        return run_sync(compose(problem, on_start=on_start, on_run=on_run, **chosen))


def _foretell(problem: "Problem", as_json: bool) -> int:
    from composers.composing import forecast
    from orchestra.execution.runner import run_sync

    options.show_forecast(run_sync(forecast(problem)), as_json=as_json)
    return 0


def _show(composition: "Composition", as_json: bool) -> None:
    from orchestra.evaluation.terminal import summary

    if as_json:
        options.print_json(composition.document())
        return
    if composition.certificate is not None:
        summary(composition.certificate, console())
    for path in composition.written:
        errors().print(f"wrote {path}", style="dim", markup=False)
    if composition.ran_out:
        errors().print(f"the search budget ran out: {composition.ran_out}", style="red", markup=False)
        errors().print(f"go on with a larger one: --resume {composition.run_id}", style="red", markup=False)
    elif composition.forecast is not None and composition.actual is not None:
        errors().print(composition.forecast.verdict(composition.actual), style="dim", markup=False)
    errors().print(f"orchestra traces show {composition.run_id}", style="dim", markup=False)
