"""`orchestra serve`: a vLLM server of one model, until Ctrl-C."""

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestra.cli import options
from orchestra.cli.console import console, errors

if TYPE_CHECKING:
    from orchestra.ledger import Price
    from orchestra.models.calibration import Calibration
    from orchestra.models.serving.server import Server


def serve_command(
    model: Annotated[str, typer.Argument(help="Hugging Face folder, or a pulled model: smollm2-135m-instruct.")],
    adapter: Annotated[
        list[str] | None, typer.Option("--adapter", metavar="NAME=PATH", help="LoRA adapter; may be repeated.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of this machine; 0 takes a free one.")] = 8000,
    python: Annotated[
        str | None, typer.Option(help="Interpreter of an environment with vLLM; else ORCHESTRA_VLLM_PYTHON.")
    ] = None,
    tool_parser: Annotated[
        str | None, typer.Option(help="Format of tool calls, by vLLM's name; hermes if the model's template has tools.")
    ] = None,
    lora_rank: Annotated[int, typer.Option(help="Largest rank of an adapter: 8, 16, 32, 64, 128 ...")] = 32,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Measure its speed first; the price follows.")] = False,
    machine_usd_per_hour: options.MachinePrice = Decimal("0.10"),
    vllm: Annotated[
        list[str] | None, typer.Option("--vllm", metavar="ARGUMENT", help="One more argument for vLLM; repeatable.")
    ] = None,
    as_json: options.AsJson = False,
) -> int:
    """Serve a model with vLLM until Ctrl-C."""
    import asyncio

    from orchestra.models.serving.session import Session, served_until_told

    session = Session(
        model=model,
        adapters=_named(adapter or []),
        port=port,
        python=python,
        tool_parser=tool_parser,
        lora_rank=lora_rank,
        options=tuple(vllm or ()),
        calibrate=calibrate,
    )
    with errors().status("") as status:

        def ready(server: "Server", speed: "Calibration | None") -> None:
            status.stop()
            price = server.record.price(machine_usd_per_hour)
            _show(server, speed, price, machine_usd_per_hour, as_json)

        asyncio.run(served_until_told(session, tell=status.update, ready=ready))
    errors().print("stopped", style="dim")
    return 0


def _named(given: list[str]) -> dict[str, Path]:
    from orchestra.errors import InputError

    found: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or not name or not path:
            raise InputError(f"{text!r} is no adapter; write --adapter NAME=PATH")
        if name in found:
            raise InputError(f"adapter {name!r} is given twice; give each its own name")
        found[name] = Path(path).expanduser()
    return found


def _show(
    server: "Server",
    speed: "Calibration | None",
    price: "Price | None",
    machine_usd_per_hour: Decimal,
    as_json: bool,
) -> None:
    from dataclasses import asdict

    from orchestra.ledger import usd

    per_million = None if price is None else [usd(price.input_nano_per_million), usd(price.output_nano_per_million)]
    if as_json:
        document = {
            "url": server.url,
            "model": server.name,
            "adapters": [f"vllm/{server.model}+{name}@{server.url}" for name in server.loaded],
            "weights_sha256": server.record.weights_sha256,
            "log": str(server.log),
            "machine_usd_per_hour": str(machine_usd_per_hour),
            "usd_per_million": None if per_million is None else [str(amount) for amount in per_million],
            "calibration": None if speed is None else asdict(speed),
        }
        options.print_json(document)
        return
    lines = [f"{server.url}  {server.model}", f"  orchestra run team.yaml TEXT --model {server.name}"]
    lines += [f"  --model vllm/{server.model}+{name}@{server.url}" for name in server.loaded]
    if speed is not None:
        lines.append(
            f"  reads {speed.input_tokens_per_second:.0f} tokens/s, writes {speed.output_tokens_per_second:.0f}, "
            f"{speed.batch} at once"
        )
    if per_million is None:
        lines.append("  price not measured: under a cap, start it with --calibrate or run with --price IN,OUT")
    else:
        lines.append(f"  {per_million[0]:.4f} USD per million tokens read, {per_million[1]:.4f} written")
    lines.append(f"  log {server.log}; Ctrl-C ends it")
    console().print("\n".join(lines), soft_wrap=True, markup=False)
