"""`orchestra run`: a team answers one question, or every task of a file."""

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestra.cli import options
from orchestra.cli.console import console, errors

if TYPE_CHECKING:
    from orchestra.execution.runner import Answered


def run_command(
    team: Annotated[Path, typer.Argument(help="Team file, as `orchestra compose` writes it.")],
    text: Annotated[str | None, typer.Argument(help="The question.")] = None,
    tasks: Annotated[Path | None, typer.Option(help="Answer every task of this file instead.")] = None,
    max_cost: options.MaxCost = None,
    model: options.ModelName = None,
    seed: options.Seed = 0,
    deterministic: options.Deterministic = False,
    machine_usd_per_hour: options.MachinePrice = Decimal("0.10"),
    price: options.ModelPrice = None,
    trust: options.Trust = False,
    resume: options.Resume = None,
    store: options.StoreUrl = None,
    as_json: options.AsJson = False,
) -> int:
    """Answer with a team, and leave a trace."""
    from orchestra.benchmarks.tasks import Task, read_tasks
    from orchestra.errors import InputError
    from orchestra.execution.runner import answer, run_sync

    if (text is None) == (tasks is None):
        raise InputError("give either a question or --tasks FILE, as in: orchestra run team.yaml 'What is 61 * 65?'")
    asked = read_tasks(tasks) if tasks is not None else (Task(id="question", input=text or ""),)
    settings = options.settings(
        model, deterministic=deterministic, machine_usd_per_hour=machine_usd_per_hour, price=price, trust=trust
    )
    answered = run_sync(
        answer(team, asked, max_cost_usd=max_cost, settings=settings, store=store, seed=seed, resume=resume)
    )
    if as_json:
        options.print_json(answered.document())
    else:
        _show(answered)
    return answered.exit_code


def _show(answered: "Answered") -> None:
    several = len(answered.rows) > 1
    for row in answered.rows:
        if row.reply is not None:
            console().print(f"{row.task_id}\t{row.reply}" if several else row.reply, markup=False)
        if row.error is not None:
            errors().print(f"{row.task_id}: {row.error}", style="red", markup=False)
        for fault in row.faults:
            errors().print(f"{row.task_id}: went on without {fault}", style="yellow", markup=False)
    errors().print(answered.footer(), style="dim", markup=False)
