"""`orchestra run`: a team answers one question, or every task of a file."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestra.cli import options
from orchestra.cli.console import errors, say
from orchestra.cli.sharing import spread

if TYPE_CHECKING:
    from orchestra.benchmarks.tasks import Task
    from orchestra.execution.forecast import Forecast
    from orchestra.execution.runner import Answered
    from orchestra.execution.settings import Settings


Answers = Annotated[
    list[str] | None,
    typer.Option(
        "--answer", metavar="TEXT", help="With --resume: answer to an open question; again for each, in order."
    ),
]


@spread
def run_command(
    ctx: typer.Context,
    team: Annotated[Path, typer.Argument(help="Team file, as `orchestra compose` writes it.")],
    text: Annotated[str | None, typer.Argument(help="The question.")] = None,
    tasks: Annotated[Path | None, typer.Option(help="Answer every task of this file instead.")] = None,
    max_cost: options.MaxCost = None,
    *,
    allowed: options.AllowanceOptions,
    how: options.RunOptions,
    resume: options.Resume = None,
    answers: Answers = None,
    dry_run: options.DryRun = False,
    store: options.StoreUrl = None,
    as_json: options.AsJson = False,
) -> int:
    """Answer with a team, and leave a trace."""
    asked = _asked(text, tasks)
    settings = how.settings(allowances=allowed.allowances())
    if dry_run:
        options.show_forecast(_foreseen(team, asked, settings, store, capped=max_cost is not None), as_json=as_json)
        return 0
    chosen = {"max_cost_usd": max_cost, "store": store, "seed": how.seed, "resume": resume, "answers": answers or ()}
    answered = _answered(team, asked, watched=not as_json, settings=settings, **chosen)
    onward = _onward(ctx.obj or (), answered)
    if as_json:
        options.print_json({**answered.document(), "resume": onward})
    else:
        _show(answered, onward)
    return answered.exit_code


def _asked(text: str | None, tasks: Path | None) -> "Sequence[Task]":
    from orchestra.benchmarks.tasks import question, read_tasks
    from orchestra.errors import InputError

    if (text is None) == (tasks is None):
        raise InputError("give either a question or --tasks FILE, as in: orchestra run team.yaml 'What is 61 * 65?'")
    return read_tasks(tasks) if tasks is not None else (question(text or ""),)


def _foreseen(
    team: Path, asked: "Sequence[Task]", settings: "Settings", store: str | None, *, capped: bool
) -> "Forecast":
    from orchestra.execution.foresight import Plan, foresee
    from orchestra.execution.runner import open_team

    graph, folder = open_team(team)
    plan = Plan(graph, [task.input for task in asked], folder=folder)
    return foresee([plan], settings, store=store, capped=capped)


def _answered(team: Path, asked: "Sequence[Task]", *, watched: bool, **chosen: Any) -> "Answered":
    """Answer with what is going on on the screen; interrupted, say how to go on."""
    from orchestra.cli.live import live
    from orchestra.cli.progress import bars, resumable
    from orchestra.execution.runner import answer, run_sync

    with resumable() as on_run:
        if not watched or not errors().is_terminal:
            return run_sync(answer(team, asked, on_run=on_run, **chosen))
        if len(asked) == 1:
            with live() as listener:
                return run_sync(answer(team, asked, on_run=on_run, listener=listener, **chosen))
        with bars() as on_start:
            return run_sync(answer(team, asked, on_run=on_run, on_start=on_start, **chosen))


_OF_ONE_ATTEMPT = ("--resume", "--answer", "--record", "--replay")
"""Options that the next attempt is given anew, if at all."""


def _onward(words: "Sequence[str]", answered: "Answered") -> str | None:
    """The command that goes on with a run that waits for a person; `None` when it does not."""
    if not answered.questions:
        return None
    kept: list[str] = []
    skip = False
    end = words.index("--") if "--" in words else len(words)  # what follows are no options, whatever it looks like
    for word in words[:end]:
        if skip:
            skip = False
        elif word in _OF_ONE_ATTEMPT:
            skip = True
        elif not word.startswith(tuple(f"{option}=" for option in _OF_ONE_ATTEMPT)):
            kept.append(word)
    command = shlex.join(["orchestra", "run", *kept, "--resume", answered.run_id])
    command += " --answer TEXT" * len(answered.questions)
    return " ".join((command, shlex.join(words[end:]))) if words[end:] else command


def _show(answered: "Answered", onward: str | None) -> None:
    several = len(answered.rows) > 1
    for row in answered.rows:
        if row.reply is not None:
            say(f"{row.task_id}\t{row.reply}" if several else row.reply)
        if row.error is not None and row.state != "paused":
            partial = " (the reply is what there was of one)" if row.partial else ""
            errors().print(f"{row.task_id}: {row.error}{partial}", style="red", markup=False)
        for fault in row.faults:
            errors().print(f"{row.task_id}: went on without {fault}", style="yellow", markup=False)
    if onward is not None:
        _show_questions(answered, onward)
    elif answered.ran_out:
        errors().print(f"go on with more of what ran out and --resume {answered.run_id}", markup=False)
    errors().print(answered.footer(), style="dim", markup=False)


def _show_questions(answered: "Answered", onward: str) -> None:
    from orchestra.execution.people import listing

    errors().print("paused; a person has to answer:", style="yellow")
    for line in listing(answered.questions):
        errors().print(line, markup=False)
    errors().print("go on with:", style="dim")
    errors().print(onward, markup=False, soft_wrap=True)
