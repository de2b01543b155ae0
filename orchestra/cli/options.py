"""Options that several commands share, so that one flag means one thing everywhere."""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestra.errors import InputError
from orchestra.ledger import Price, nano

if TYPE_CHECKING:
    from orchestra.execution.allowances import Allowances
    from orchestra.execution.forecast import Forecast
    from orchestra.execution.settings import Settings
    from orchestra.models.limits import Limits
    from orchestra.traces.otlp import Exported
    from orchestra.traces.redaction import Redactor


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


def stated_limits(text: str) -> "Limits":
    """What each model may be asked for, from text such as `concurrency=8,rpm=60,tpm=90000`.

    Raises:
        InputError: it says something else.
    """
    from orchestra.models.limits import Limits

    fields = {"concurrency": "concurrency", "rpm": "requests_per_minute", "tpm": "tokens_per_minute"}
    parts = dict(part.strip().partition("=")[::2] for part in text.split(","))
    try:
        return Limits(**{fields[name]: int(number) for name, number in parts.items()})
    except (KeyError, ValueError):
        raise InputError(
            f"{text!r} are not limits; write what a model may be asked for at once, and in calls and tokens a minute, "
            f"each at least 1, like concurrency=8,rpm=60,tpm=90000"
        ) from None


def stated_redactor(patterns: "Sequence[str]") -> "Redactor | None":
    """What writes `***` in place of everything that one of the regular expressions matches; `None` of none.

    Raises:
        InputError: one is no regular expression.
    """
    if not patterns:
        return None
    compiled = []
    for text in patterns:
        try:
            compiled.append(re.compile(text))
        except re.error as cause:
            raise InputError(f"--redact {text!r} is no regular expression: {cause}") from None

    def redact(text: str) -> str:
        for pattern in compiled:  # one after the other: joined, groups would have other numbers
            text = pattern.sub("***", text)
        return text

    return redact


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
DryRun = Annotated[bool, typer.Option("--dry-run", help="Estimate calls, tokens and cash, and stop.")]
AgentCaps = Annotated[
    list[str] | None,
    typer.Option("--max-cost-agent", metavar="NODE=USD", help="Most an agent's calls may cost in an episode."),
]
ToolCalls = Annotated[
    list[str] | None,
    typer.Option("--max-calls-tool", metavar="TOOL=N", help="How often a tool may be called in an episode."),
]
ToolPrices = Annotated[
    list[str] | None,
    typer.Option("--price-tool", metavar="TOOL=USD", help="What a call of a tool costs; paid like a model's."),
]
Trust = Annotated[bool, typer.Option("--trust", help="Let files name code outside their own folder.")]
StoreUrl = Annotated[str | None, typer.Option("--store", metavar="URL", help="Trace store: a file or a database URL.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, and nothing else there.")]
Resume = Annotated[str | None, typer.Option("--resume", metavar="RUN_ID", help="Go on with an interrupted run.")]
RerunTools = Annotated[
    bool,
    typer.Option("--rerun-tools", help="With --resume: call tools again that were cut off and are not idempotent."),
]
Redact = Annotated[
    list[str] | None,
    typer.Option("--redact", metavar="REGEX", help="Write *** for what matches, before anything is kept; repeatable."),
]
Record = Annotated[
    Path | None, typer.Option("--record", metavar="FILE", help="Write down all the run hears, to be replayed.")
]
Replay = Annotated[
    Path | None, typer.Option("--replay", metavar="FILE", help="Repeat a recorded run: no model, no tool, no network.")
]
ModelLimits = Annotated[
    Any,  # `Limits | None`, whose module would bring pydantic to every command
    typer.Option(
        "--limits",
        parser=stated_limits,
        metavar="LIMITS",
        help="Of each model, at once and in any 60 s, all or some of: concurrency=8,rpm=60,tpm=90000",
    ),
]
Otlp = Annotated[
    str | None,
    typer.Option("--otlp", metavar="URL", help="Send spans to this collector too; or $OTEL_EXPORTER_OTLP_ENDPOINT."),
]
CallSeconds = Annotated[
    float | None, typer.Option("--call-seconds", min=0, metavar="S", help="Time limit of a model call; else 120.")
]
NodeSeconds = Annotated[
    float | None, typer.Option("--node-seconds", min=0, metavar="S", help="Time limit of a node's turn, calls and all.")
]
RunSeconds = Annotated[
    float | None, typer.Option("--run-seconds", min=0, metavar="S", help="Time limit of the run; partial replies stay.")
]
TasksFile = Annotated[Path, typer.Option("--tasks", help="Task file, JSONL.")]


@dataclass(frozen=True, kw_only=True)
class AllowanceOptions:
    """What single agents and tools may use up."""

    max_cost_agent: AgentCaps = None
    max_calls_tool: ToolCalls = None
    price_tool: ToolPrices = None

    def allowances(self) -> "Allowances":
        """Caps and prices by name.

        Raises:
            InputError: one is not written NAME=AMOUNT, or a name is given twice.
        """
        from orchestra.execution.allowances import Allowances

        return Allowances(
            agent_nano={name: nano(amount(text)) for name, text in _named("--max-cost-agent", self.max_cost_agent)},
            tool_calls={name: _count(text) for name, text in _named("--max-calls-tool", self.max_calls_tool)},
            tool_nano={name: nano(amount(text)) for name, text in _named("--price-tool", self.price_tool)},
        )


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model answers, and what its tokens cost."""

    model: ModelName = None
    machine_usd_per_hour: MachinePrice = Decimal("0.10")
    price: ModelPrice = None
    trust: Trust = False

    def settings(self, **more: Any) -> "Settings":
        """Run settings, where an option that was not given keeps its default."""
        from orchestra.execution.settings import Settings

        named: dict[str, Any] = {} if self.model is None else {"model": self.model}
        stated: dict[str, Any] = {
            "machine_usd_per_hour": self.machine_usd_per_hour,
            "price": self.price,
            "trust": self.trust,
        }
        return Settings(**named, **stated, **more)


@dataclass(frozen=True, kw_only=True)
class CallOptions(ModelOptions):
    """How calls are made and kept, whatever they are made for."""

    limits: ModelLimits = None
    call_seconds: CallSeconds = None
    node_seconds: NodeSeconds = None
    otlp: Otlp = None
    redact: Redact = None

    def settings(self, **more: Any) -> "Settings":
        """Run settings; the collector is the one the environment names where none was given."""
        from orchestra.models.limits import ALL_MODELS
        from orchestra.traces.export_settings import traces_url

        times = {"call_seconds": self.call_seconds, "node_seconds": self.node_seconds}
        return super().settings(
            limits={} if self.limits is None else {ALL_MODELS: self.limits},
            otlp=traces_url(self.otlp),
            on_exported=say_exported,
            redact=stated_redactor(self.redact or ()),
            **{name: seconds for name, seconds in times.items() if seconds is not None},
            **more,
        )


@dataclass(frozen=True, kw_only=True)
class RunOptions(CallOptions):
    """How one run is carried out, from its beginning to its end."""

    seed: Seed = 0
    deterministic: Deterministic = False
    run_seconds: RunSeconds = None
    rerun_tools: RerunTools = False
    record: Record = None
    replay: Replay = None

    def settings(self, **more: Any) -> "Settings":
        """Run settings; those of the calls are `CallOptions`'."""
        return super().settings(
            deterministic=self.deterministic,
            run_seconds=self.run_seconds,
            rerun_tools=self.rerun_tools,
            record=self.record,
            replay=self.replay,
            **more,
        )


def _named(option: str, given: list[str] | None) -> list[tuple[str, str]]:
    pairs = [tuple(text.rpartition("=")[::2]) for text in given or ()]
    for (name, text), whole in zip(pairs, given or (), strict=True):
        if not name or not text:
            raise InputError(f"{option} {whole!r} is not a name and an amount; write it like {option} critic=0.25")
        if sum(other == name for other, _ in pairs) > 1:
            raise InputError(f"{option} is given twice for {name!r}; keep one")
    return [(name, text) for name, text in pairs]


def _count(text: str) -> int:
    if not text.isdecimal():
        raise InputError(f"{text!r} is not a number of calls; write it like --max-calls-tool search=3")
    return int(text)


def say_exported(exported: "Exported") -> None:
    """Say how many spans a collector took, and what became of the others."""
    from orchestra.cli.console import errors

    for line in exported.lines():
        errors().print(line, style="yellow" if exported.dropped else "dim", markup=False, soft_wrap=True)


def show_forecast(forecast: "Forecast", *, as_json: bool) -> None:
    """What a dry run prints."""
    from orchestra.cli.console import console

    if as_json:
        print_json(forecast.document())
    else:
        for line in forecast.lines():
            console().print(line, markup=False)


def print_json(document: object) -> None:
    """The one JSON document of a command run with `--json`."""
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")
