"""`orchestra models`: bring, list and measure the models that run on this machine."""

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from orchestra.cli.console import console, errors
from orchestra.cli.options import AsJson, Deterministic, print_json

if TYPE_CHECKING:
    from rich.table import Table

    from orchestra.models.peft_files import Adapter

models_app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Bring, list and measure the models that run on this machine."
)

Names = Annotated[
    list[str],
    typer.Argument(metavar="NAME...", help="Such as smollm2-135m-instruct, or an id of the Hugging Face hub."),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="Name, folder or GGUF file, without local/.")]


@models_app.command("pull")
def pull_command(names: Names, as_json: AsJson = False) -> None:
    """Bring weights into the user's cache once, checked by SHA-256."""
    from orchestra.models import weights

    pulled = []
    for name in names:
        wanted = name.removeprefix("local/")
        path = weights.pull(wanted, tell=lambda line: errors().print(line, style="dim"))
        if weights.gguf_in(path) is not None:
            _unpack(wanted)
        pulled.append({"name": wanted, "path": str(path), "sha256": weights.content_hash(path)})
        if not as_json:
            console().print(f"{wanted}  {path}", soft_wrap=True)
    if as_json:
        print_json({"models": pulled})


def _unpack(name: str) -> None:
    """Do the slow part of a first opening now, where a person expects to wait."""
    from importlib.util import find_spec

    if find_spec("torch") is None or find_spec("transformers") is None:
        return
    from orchestra.models import weights
    from orchestra.models.local import prepare

    with errors().status(f"unpacking {name}"):
        prepare(weights.path_of(name))


@models_app.command("add")
def add_command(
    path: Annotated[
        str, typer.Argument(metavar="PATH", help="Folder of a LoRA adapter, as training or peft saved it.")
    ],
    as_json: AsJson = False,
) -> None:
    """Bring a trained adapter to the user's folder of adapters.

    'orchestra train' leaves adapters in the folder of its run. An added one is called NAME@VERSION: 'orchestra models
    list' shows it, the model local/BASE+NAME is the base with it, and an inventory needs no path for it. Adding it
    again changes nothing; other numbers under the same version are refused.
    """
    from orchestra.models import adapters

    added = adapters.add(path)
    if as_json:
        print_json({"name": added.name, "version": added.version, "path": str(added.path)})
        return
    console().print(added.served, soft_wrap=True, markup=False, highlight=False)


@models_app.command("list")
def list_command(as_json: AsJson = False) -> None:
    """Show the models and adapters on this machine, and models that can be pulled without a hub."""
    from rich.table import Table

    from orchestra.models import adapters, weights

    here, changes = weights.installed(), adapters.installed()
    missing = sorted(set(weights.PACKAGED) - {model.name for model in here})
    if as_json:
        print_json(
            {
                "cache": str(weights.cache_dir() / "models"),
                "installed": [{"name": m.name, "path": str(m.path), "bytes": m.bytes} for m in here],
                "available": missing,
                "adapters": [
                    {
                        "name": a.name,
                        "version": a.version,
                        "path": str(a.path),
                        "base": a.base if a.card is None else a.card.base,
                        "rank": a.rank,
                        "card": None if a.card is None else a.card.model_dump(mode="json"),
                    }
                    for a in changes
                ],
            }
        )
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("model")
    table.add_column("MiB", justify="right")
    table.add_column("where", overflow="fold")
    for model in here:
        table.add_row(model.name, f"{model.bytes / 2**20:.0f}", str(model.path))
    for name in missing:
        table.add_row(name, "-", f"orchestra models pull {name}", style="dim")
    console().print(table)
    if changes:
        console().print(_adapter_table(changes))
    free = shutil.disk_usage(weights.cache_dir() if weights.cache_dir().exists() else "/").free
    errors().print(f"{free / 2**30:.0f} GiB free where {weights.cache_dir() / 'models'} lies", style="dim")


def _adapter_table(changes: "Sequence[Adapter]") -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("\nadapter", "\nover", "\nworth", "\nUSD", "\ncreated"):
        table.add_column(title, overflow="fold")
    for adapter in changes:
        card = adapter.card
        value = None if card is None else card.value
        table.add_row(
            adapter.served,
            adapter.base if card is None else card.base,
            "-" if value is None else f"{value.mean:+.3f} [{value.low:+.3f}, {value.high:+.3f}] {value.what}",
            "-" if card is None or card.price_usd is None else str(card.price_usd),
            "-" if card is None else card.created or "-",
        )
    return table


@models_app.command("calibrate")
def calibrate_command(
    name: Name,
    batch: Annotated[
        int, typer.Option(min=1, help="Requests at once; prices are taken from a measurement at 16.")
    ] = 16,
    seconds: Annotated[float, typer.Option(min=0.5, help="About how long it may take.")] = 8.0,
    deterministic: Deterministic = False,
    as_json: AsJson = False,
) -> None:
    """Measure how fast this machine reads and writes tokens with a model; its price follows from it."""
    from dataclasses import asdict

    from orchestra.ledger import DEFAULT_MACHINE_USD_PER_HOUR, usd
    from orchestra.models.local import calibrate

    with errors().status(f"measuring {name}"):
        speed = calibrate(name.removeprefix("local/"), batch=batch, seconds=seconds, deterministic=deterministic)
    price = speed.price(DEFAULT_MACHINE_USD_PER_HOUR)
    reading, writing = usd(price.input_nano_per_million), usd(price.output_nano_per_million)
    if as_json:
        print_json(
            {
                **asdict(speed),
                "machine_usd_per_hour": str(DEFAULT_MACHINE_USD_PER_HOUR),
                "input_usd_per_million": str(reading),
                "output_usd_per_million": str(writing),
            }
        )
        return
    console().print(
        f"{speed.model}, {speed.dtype} on {speed.device}, {speed.threads} threads, {speed.batch} at once\n"
        f"  reads  {speed.input_tokens_per_second:8.0f} tokens/s   {reading:.4f} USD per million\n"
        f"  writes {speed.output_tokens_per_second:8.0f} tokens/s   {writing:.4f} USD per million\n"
        f"  at {DEFAULT_MACHINE_USD_PER_HOUR} USD per machine hour, measured {speed.measured_at}"
    )
