"""Options that several commands share, so that one flag means one thing everywhere."""

import json
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestra.errors import InputError

if TYPE_CHECKING:
    from orchestra.execution.runtime import Settings


def amount(text: str) -> Decimal:
    """An amount in USD, exact.

    Raises:
        InputError: it is not a number, or negative.
    """
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise InputError(f"{text!r} is not an amount in USD; write it like 0.25") from None
    if not amount.is_finite() or amount < 0:
        raise InputError(f"an amount in USD is at least zero, got {text}")
    return amount


MaxCost = Annotated[
    Decimal | None,
    typer.Option(parser=amount, metavar="USD", help="Most that calls may cost together; no cap if absent."),
]
ModelName = Annotated[
    str | None, typer.Option("--model", help="Model of agents that name none, such as local/smollm2-135m-instruct.")
]
Seed = Annotated[int, typer.Option(help="Seed of everything that is drawn.")]
Deterministic = Annotated[bool, typer.Option("--deterministic", help="float32, batch of one: slower, and exact.")]
MachinePrice = Annotated[
    Decimal, typer.Option(parser=amount, metavar="USD", help="What an hour of this machine costs, for local models.")
]
Trust = Annotated[bool, typer.Option("--trust", help="Let files name code outside their own folder.")]
StoreUrl = Annotated[str | None, typer.Option("--store", metavar="URL", help="Trace store: a file or a database URL.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, and nothing else there.")]
Resume = Annotated[str | None, typer.Option("--resume", metavar="RUN_ID", help="Go on with an interrupted run.")]
TasksFile = Annotated[Path, typer.Option("--tasks", help="Task file, JSONL.")]


def settings(model: str | None, **chosen: Any) -> "Settings":
    """Run settings, where an option that was not given keeps its default."""
    from orchestra.execution.runtime import Settings

    return Settings(**chosen) if model is None else Settings(model=model, **chosen)


def print_json(document: object) -> None:
    """The one JSON document of a command run with `--json`."""
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")
