"""Options that several commands share, so that one flag means one thing everywhere."""

import json
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestra.errors import InputError
from orchestra.ledger import Price

if TYPE_CHECKING:
    from orchestra.execution.settings import Settings


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


def stated_price(text: str) -> Price:
    """The price of a million prompt tokens and a million reply tokens, in USD.

    Raises:
        InputError: they are not two amounts.
    """
    parts = text.split(",")
    if len(parts) != 2:
        raise InputError(f"{text!r} are not two prices; write USD per million prompt and reply tokens like 0.15,0.60")
    return Price.per_million(amount(parts[0].strip()), amount(parts[1].strip()), source="stated with --price")


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
ModelPrice = Annotated[
    Price | None,
    typer.Option(
        parser=stated_price,
        metavar="IN,OUT",
        help="USD per million tokens, of models whose price is not known otherwise.",
    ),
]
Trust = Annotated[bool, typer.Option("--trust", help="Let files name code outside their own folder.")]
StoreUrl = Annotated[str | None, typer.Option("--store", metavar="URL", help="Trace store: a file or a database URL.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, and nothing else there.")]
Resume = Annotated[str | None, typer.Option("--resume", metavar="RUN_ID", help="Go on with an interrupted run.")]
TasksFile = Annotated[Path, typer.Option("--tasks", help="Task file, JSONL.")]


def settings(model: str | None, **chosen: Any) -> "Settings":
    """Run settings, where an option that was not given keeps its default."""
    from orchestra.execution.settings import Settings

    return Settings(**chosen) if model is None else Settings(model=model, **chosen)


def print_json(document: object) -> None:
    """The one JSON document of a command run with `--json`."""
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")
