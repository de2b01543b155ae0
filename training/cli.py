"""`orchestra train`: agents learn by playing, or from what was recorded."""

import contextlib
import datetime
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestra.cli import options
from orchestra.cli.console import console, errors
from orchestra.cli.sharing import spread
from orchestra.errors import InputError

if TYPE_CHECKING:
    from training.recipes import Recipe
    from training.trainers import Trained

RecipeName = Annotated[str, typer.Argument(help="Recipe file, or the name of one that comes along.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe: steps.count=20; repeatable.")
]
Out = Annotated[Path | None, typer.Option(help="Folder of runs and adapters; else in the user's data folder.")]
Plot = Annotated[Path | None, typer.Option(help="Draw the curves to this .png, .svg or .pdf.")]
Board = Annotated[Path | None, typer.Option("--tensorboard", metavar="FOLDER", help="Figures for TensorBoard too.")]


@dataclass(frozen=True, kw_only=True)
class TraceFilters:
    """Which recorded episodes are learnt from."""

    from_traces: Annotated[
        bool, typer.Option("--from-traces", help="Learn from recorded episodes of the store; nothing is played.")
    ] = False
    run: Annotated[
        list[str] | None, typer.Option(metavar="RUN_ID", help="With --from-traces: of these runs; repeatable.")
    ] = None
    team: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="With --from-traces: turns at seats of these teams.")
    ] = None
    node: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="With --from-traces: turns of these nodes.")
    ] = None
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="With --from-traces: turns of these models.")
    ] = None
    min_reward: Annotated[float | None, typer.Option(help="With --from-traces: of at least this reward.")] = None
    max_reward: Annotated[float | None, typer.Option(help="With --from-traces: of at most this reward.")] = None
    scored: Annotated[bool, typer.Option("--scored", help="With --from-traces: only what has a reward.")] = False
    since: Annotated[str | None, typer.Option(metavar="DATE", help="With --from-traces: begun on or after.")] = None
    until: Annotated[str | None, typer.Option(metavar="DATE", help="With --from-traces: begun before.")] = None

    def settings(self) -> "dict[str, Any] | None":
        """Settings of the source; `None` plays.

        Raises:
            InputError: a filter without --from-traces, or a date that is none.
        """
        said = {
            "runs": tuple(self.run or ()),
            "teams": tuple(self.team or ()),
            "nodes": tuple(self.node or ()),
            "models": tuple(self.model or ()),
            "min_reward": self.min_reward,
            "max_reward": self.max_reward,
            "scored": self.scored,
            "since": _date("--since", self.since),
            "until": _date("--until", self.until),
        }
        chosen = {name: value for name, value in said.items() if not (value is None or value is False or value == ())}
        if self.from_traces:
            return chosen
        if chosen:
            option = next(iter(chosen)).removesuffix("s").replace("_", "-")
            raise InputError(f"--{option} chooses among recorded episodes; add --from-traces")
        return None


@spread
def train_command(
    recipe: RecipeName,
    changes: Changes = None,
    *,
    traces: TraceFilters,
    max_cost: options.MaxCost = None,
    resume: options.Resume = None,
    plot: Plot = None,
    tensorboard: Board = None,
    out: Out = None,
    store: options.StoreUrl = None,
    as_json: options.AsJson = False,
) -> int:
    """Train the agents of a recipe: episodes in, adapters out."""
    from training.recipes import read

    chosen = read(recipe, changes or ())
    settings = traces.settings()
    if plot is not None:
        from training.trainers.curves import canvas

        canvas(plot)
    with _telling(chosen, tensorboard, quiet=as_json) as teller:
        done = _trained(chosen, teller, store=store, folder=out, resume=resume, max_cost_usd=max_cost, traces=settings)
    if done is None:  # one of several processes, and not the first
        return 0
    drawn = None if plot is None or not done.curve else _drawn(done, plot, chosen.name)
    if as_json:
        options.print_json(document(done, drawn))
    else:
        _show(done, drawn)
    return 3 if done.ran_out else 0


def _trained(recipe: "Recipe", teller: "Callable[[Any], None]", **chosen: Any) -> "Trained | None":
    """Train, and say how to go on when that is interrupted."""
    import asyncio

    from training.trainers import train

    begun: list[str] = []
    try:
        return asyncio.run(train(recipe, teller=teller, on_run=begun.append, on_caution=_warn, **chosen))
    except KeyboardInterrupt:
        for run_id in begun:
            errors().print(f"nothing is lost; go on with the same command and --resume {run_id}", markup=False)
        raise


def _warn(caution: str) -> None:
    errors().print(caution, style="yellow", markup=False, soft_wrap=True)


@contextlib.contextmanager
def _telling(recipe: "Recipe", tensorboard: Path | None, *, quiet: bool) -> "Iterator[Callable[[Any], None]]":
    """Everybody who is told the figures of a step."""
    from training.trainers.shown import watched

    with contextlib.ExitStack() as stack:
        tellers: list[Callable[[Any], None]] = []
        if tensorboard is not None:
            from training.trainers.tensorboard import Events

            tellers.append(stack.enter_context(contextlib.closing(Events(tensorboard))))
        if not quiet:
            tellers.append(stack.enter_context(watched(errors(), recipe.steps.count, recipe.warmup.steps)))

        def tell(figures: Any) -> None:
            for teller in tellers:
                teller(figures)

        yield tell


def _drawn(done: "Trained", path: Path, name: str) -> Path:
    from training.trainers import draw

    return draw(done.curve, path, title=f"{name}, run {done.run_id}")


def document(done: "Trained", drawn: Path | None) -> dict[str, object]:
    """What `--json` prints."""
    from orchestra.ledger import usd

    return {
        "run_id": done.run_id,
        "folder": str(done.folder),
        "adapters": {
            agent: {"served": saved.weights.served, "folder": str(saved.folder)}
            for agent, saved in done.adapters.items()
        },
        "warmed": {agent: str(folder) for agent, folder in done.warmed.items()},
        "spent_usd": str(usd(done.spent_nano)),
        "skipped": dict(done.skipped),
        "ran_out": done.ran_out,
        "plot": None if drawn is None else str(drawn),
        "curve": list(done.curve),
    }


def _show(done: "Trained", drawn: Path | None) -> None:
    from orchestra.ledger import show_usd

    for agent, saved in done.adapters.items():
        console().print(f"{agent}: {saved.weights.served} in {saved.folder}", markup=False, soft_wrap=True)
        worn = f"--model {saved.weights.base}+{saved.folder}"
        errors().print(f"play or answer with it: {worn}", style="dim", markup=False, soft_wrap=True)
    if drawn is not None:
        console().print(f"curves: {drawn}", markup=False, soft_wrap=True)
    for reason, count in done.skipped.items():
        errors().print(f"skipped: {count} {reason}", style="yellow", markup=False)
    if done.ran_out:
        errors().print(f"the budget ran out: {done.ran_out}", style="red", markup=False)
    errors().print(f"{show_usd(done.spent_nano)} · run {done.run_id}", style="dim", markup=False)


def _date(option: str, text: str | None) -> float | None:
    """Unix seconds of a date, or of a moment, in UTC where no other zone is said."""
    if text is None:
        return None
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"{option} {text!r} is no date; write it like 2026-11-23 or 2026-11-23T14:30") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)).timestamp()
