"""`orchestra evaluate`: teams on a task file, compared in pairs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orchestra.cli import options
from orchestra.cli.console import console, errors
from orchestra.cli.sharing import spread

if TYPE_CHECKING:
    from orchestra.benchmarks.tasks import Task
    from orchestra.evaluation.sweep import Evaluated, Evaluation


@spread
def evaluate_command(
    teams: Annotated[list[Path], typer.Argument(help="Team files; the others are compared with the first.")],
    tasks: options.TasksFile,
    samples: Annotated[int, typer.Option(min=1, help="Independent samples per task; their scores are averaged.")] = 1,
    split: Annotated[Literal["trial", "heldout", "all"], typer.Option(help="Which tasks.")] = "all",
    max_cost: options.MaxCost = None,
    *,
    allowed: options.AllowanceOptions,
    how: options.RunOptions,
    resume: options.Resume = None,
    dry_run: options.DryRun = False,
    store: options.StoreUrl = None,
    as_json: options.AsJson = False,
) -> int:
    """Success with intervals, cost per task, and paired differences."""
    from orchestra.benchmarks.tasks import of_split, read_tasks
    from orchestra.evaluation.sweep import planned
    from orchestra.execution.foresight import foresee

    settings = how.settings(allowances=allowed.allowances(), use_cache=True)
    asked = of_split(read_tasks(tasks), split)
    if dry_run:
        foreseen = foresee(planned(teams, asked, samples), settings, store=store, capped=max_cost is not None)
        options.show_forecast(foreseen, as_json=as_json)
        return 0
    chosen = {"samples": samples, "max_cost_usd": max_cost, "store": store, "seed": how.seed, "resume": resume}
    evaluation = _evaluated(teams, asked, settings=settings, **chosen)
    if as_json:
        options.print_json(_document(evaluation))
    else:
        _show(evaluation)
    return 3 if evaluation.ran_out else 0


def _evaluated(teams: "list[Path]", asked: "tuple[Task, ...]", **chosen: Any) -> "Evaluation":
    from orchestra.cli.progress import bars, resumable
    from orchestra.evaluation.sweep import evaluate
    from orchestra.execution.runner import run_sync

    with resumable() as on_run, bars() as on_start:
        return run_sync(evaluate(teams, asked, on_run=on_run, on_start=on_start, **chosen))


def _document(evaluation: "Evaluation") -> dict[str, object]:
    from orchestra.evaluation.breakeven import mean_list_nano
    from orchestra.ledger import usd

    teams: list[dict[str, object]] = []
    for team in evaluation.teams:
        against = team.against_first
        teams.append(
            {
                "team": team.name,
                "hash": team.team_hash,
                "tasks": team.asked,
                "measured": len(team.arm),
                "success": team.arm.success,
                "interval_95": None if team.success is None else [team.success.low, team.success.high],
                "list_usd_per_task": float(usd(round(mean_list_nano(team.arm)))) if len(team.arm) else None,
                "paid_usd": str(usd(team.arm.paid_nano)),
                "cost_of_pass_usd": None if team.cost_of_pass_nano is None else str(usd(team.cost_of_pass_nano)),
                "failed_episodes": team.arm.failures,
                "difference_to_first": None
                if against is None
                else {
                    "mean": against.difference.mean,
                    "interval_95": [against.difference.low, against.difference.high],
                    "wins": against.wins,
                    "losses": against.losses,
                    "ties": against.ties,
                },
            }
        )
    paid = str(usd(evaluation.paid_nano))
    foreseen = evaluation.forecast.against(evaluation.actual)
    about = {"run_id": evaluation.run_id, "paid_usd": paid, "ran_out": evaluation.ran_out, "forecast": foreseen}
    return {**about, "teams": teams}


def _per_solved(team: "Evaluated") -> str:
    from orchestra.ledger import show_usd

    if team.cost_of_pass_nano is not None:
        return show_usd(team.cost_of_pass_nano)
    return "never solved" if team.complete else "–"


def _show(evaluation: "Evaluation") -> None:
    from rich.table import Table

    from orchestra.evaluation.breakeven import mean_list_nano
    from orchestra.ledger import show_usd

    table = Table(box=None, pad_edge=False)
    for title, side in (
        ("team", "left"),
        ("tasks", "right"),
        ("success", "right"),
        ("95 % interval", "left"),
        ("cost per task", "right"),
        ("per solved task", "right"),
        ("against the first", "left"),
    ):
        table.add_column(title, justify="right" if side == "right" else "left")
    for team in evaluation.teams:
        against = team.against_first
        difference = against.difference if against else None
        table.add_row(
            team.name,
            str(team.asked) if team.complete else f"{len(team.arm)} of {team.asked}",
            "–" if team.arm.success is None else f"{100 * team.arm.success:.1f} %",
            "" if team.success is None else f"{100 * team.success.low:.1f} to {100 * team.success.high:.1f}",
            show_usd(round(mean_list_nano(team.arm))) if len(team.arm) else "–",
            _per_solved(team),
            ""
            if difference is None
            else f"{100 * difference.mean:+.1f} points ({100 * difference.low:+.1f} to {100 * difference.high:+.1f})",
        )
    console().print(table)
    for team in evaluation.teams:
        if team.arm.failures:  # they count as not solved, which is not what a team is worth
            which = "1 episode" if team.arm.failures == 1 else f"{team.arm.failures} episodes"
            told = f"{team.name}: {which} failed and scored 0; `orchestra traces list` shows them, --call-seconds waits"
            errors().print(f"{told} longer", style="yellow", markup=False, soft_wrap=True)
    if evaluation.ran_out:
        errors().print(f"the budget ran out: {evaluation.ran_out}", style="red", markup=False)
        for team in evaluation.teams:
            if not team.complete:
                told = f"{team.name}: measured {len(team.arm)} of {team.asked} tasks, so it is compared with no other"
                errors().print(told, markup=False)
        errors().print(f"go on with more of what ran out and --resume {evaluation.run_id}", markup=False)
    else:
        errors().print(evaluation.forecast.verdict(evaluation.actual), style="dim", markup=False)
    paid = show_usd(evaluation.paid_nano)
    errors().print(f"{paid} · orchestra traces show {evaluation.run_id}", style="dim", markup=False)
