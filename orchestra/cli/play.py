"""`orchestra play`: teams at the seats of an environment, and what came of it for each."""

from dataclasses import dataclass
from string import ascii_uppercase
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from orchestra.cli import options
from orchestra.cli.console import console, errors
from orchestra.cli.several import several
from orchestra.cli.sharing import spread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rich.table import Table
    from rich.text import Text

    from graphs import Sampling
    from orchestra.environments import Match, SeatResult
    from orchestra.evaluation.intervals import Estimate

    Cell = Callable[[SeatResult], Text | str]

Environment = Annotated[
    str, typer.Argument(help="Name of a game, such as kuhn-poker or 'openspiel:breakthrough(rows=5,columns=5)'.")
]
Teams = Annotated[
    list[str],
    typer.Option(
        "--teams",
        metavar="TEAM ...",
        help="Who holds the seats, in order; one team holds them all. A team is a team file, a program (random, "
        "mcts:N, cfr) or a model, such as local/smollm2-135m-instruct or local/BASE+ADAPTER.",
    ),
]
Games = Annotated[int, typer.Option(min=1, help="How many; with --both-seats, each way.")]
BothSeats = Annotated[
    bool, typer.Option("--both-seats", help="Then change seats and play as many again, with the same cards.")
]
Thinking = Annotated[
    bool, typer.Option("--thinking", help="A reply is a thought and an answer, else the answer alone.")
]
Option = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="Of the environment, such as history=actions; repeatable."),
]
Temperature = Annotated[
    float | None, typer.Option(min=0, help="Of teams that are a model; else 1. 0 takes the likeliest token.")
]
MaxTokens = Annotated[
    int | None, typer.Option(min=1, help="Of a reply of teams that are a model; else 32, with --thinking 1024.")
]
Exploit = Annotated[
    str | None,
    typer.Option(
        "--exploitability",
        metavar="N|exact",
        help="At kuhn-poker, what perfect opponents win of each team: from N replies at each information state, or "
        "exact, from the probabilities of a local model.",
    ),
]
Concurrency = Annotated[int, typer.Option(min=1, help="Games at once.")]
WIDEST = 10_000
"""Characters, more than any table has."""
CALL_SECONDS = 600.0
"""As `orchestra.environments.matches` has it: with many games at once a call waits for its turn."""


@dataclass(frozen=True, kw_only=True)
class PlayOptions(options.RunOptions):
    """How a match is carried out."""

    call_seconds: Annotated[
        float | None, typer.Option("--call-seconds", min=0, metavar="S", help="Time limit of a model call.")
    ] = CALL_SECONDS


@several("--teams")
@spread
def play_command(
    environment: Environment,
    teams: Teams,
    games: Games = 100,
    both_seats: BothSeats = False,
    thinking: Thinking = False,
    option: Option = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    exploitability: Exploit = None,
    concurrency: Concurrency = 64,
    max_cost: options.MaxCost = None,
    *,
    how: PlayOptions,
    resume: options.Resume = None,
    store: options.StoreUrl = None,
    as_json: options.AsJson = False,
) -> int:
    """Play games, and count returns, wins and valid moves by team and seat.

    Intervals are of 95 %. `normalised` is the mean return on the game's declared range, 0 the least and 100 the most a
    seat can come to. It is not MARSHAL's normalisation, which is not published: compare it with itself alone.
    """
    from orchestra.environments.written import read_options

    opened_with = {**read_options(option or ()), **({"thinking": True} if thinking else {})}
    match = _played(
        environment,
        teams,
        games=games,
        both_seats=both_seats,
        options=opened_with,
        sampling=_sampling(opened_with, temperature, max_tokens),
        max_cost_usd=max_cost,
        settings=how.settings(concurrency=concurrency),
        store=store,
        seed=how.seed,
        resume=resume,
        exploit=_exploit(exploitability),
    )
    if as_json:
        options.print_json(match.document())
    else:
        _show(match)
    return match.exit_code


def _exploit(said: str | None) -> "int | Literal['exact'] | None":
    from orchestra.errors import InputError

    if said is None:
        return None
    if said == "exact":
        return "exact"
    if not said.isdecimal():
        raise InputError(f"--exploitability is a number of replies or `exact`, not {said!r}")
    return int(said)


def _sampling(opened_with: dict[str, Any], temperature: float | None, max_tokens: int | None) -> "Sampling | None":
    from graphs import Sampling
    from orchestra.environments.matches import usual_sampling

    given = {"temperature": temperature, "max_tokens": max_tokens}
    stated = {name: value for name, value in given.items() if value is not None}
    if not stated:
        return None
    usual = usual_sampling(opened_with)
    return Sampling(**{"temperature": usual.temperature, "max_tokens": usual.max_tokens, **stated})


def _played(environment: str, teams: list[str], **chosen: Any) -> "Match":
    """Play, with progress on a terminal; interrupted, say how to go on."""
    from orchestra.cli.progress import bars
    from orchestra.environments import match
    from orchestra.execution.runner import run_sync

    begun: list[str] = []
    try:
        if not errors().is_terminal:
            return run_sync(match(environment, teams, on_run=begun.append, **chosen))
        with bars() as on_start:
            return run_sync(match(environment, teams, on_run=begun.append, on_start=on_start, **chosen))
    except KeyboardInterrupt:
        for run_id in begun:
            errors().print(f"nothing is lost; go on with the same command and --resume {run_id}", markup=False)
        raise


def _show(match: "Match") -> None:
    nature = match.nature
    each_way = " each way" if len(match.seatings) > 1 else ""
    title = f"{nature.name}: {match.asked} game{'s' * (match.asked != 1)}{each_way}"
    title += f"; a return lies between {nature.low:g} and {nature.high:g}"
    console().print(title, style="dim", markup=False, soft_wrap=True)
    table = _table(match, {})
    if (table.width or 0) > console().width:  # names are long, and figures are what it is for
        letters = dict(zip(dict.fromkeys(result.team for result in match.results), ascii_uppercase, strict=False))
        for name, letter in letters.items():
            console().print(f"{letter} is {name}", markup=False, soft_wrap=True)
        table = _table(match, letters)
    console().print(table, crop=False)  # where it still does not fit, no figure is cut
    for team, found in match.exploited.items():
        told = f"exploitability of {team}: {found.chips:.3f} chips a game"
        if found.exact:
            told += ", computed from its probabilities"
        else:
            told += f" ({found.low:.3f} to {found.high:.3f}), estimated from {found.samples} replies at each decision"
        told += f"; up to {100 * found.illegal:.1f} % of replies are no move"
        console().print(told, markup=False, soft_wrap=True)
    _tell(match)


def _table(match: "Match", called: "Mapping[str, str]") -> "Table":
    """A row for each team and seat, as wide as it is; teams that are `called` otherwise have that name."""
    from rich.table import Table

    columns = _columns(match, called)
    table = Table(box=None, pad_edge=False)
    for name, (side, _) in columns.items():
        table.add_column(name, justify="right" if side == "right" else "left", no_wrap=True)
    for result in match.results:
        table.add_row(*(cell(result) for _, cell in columns.values()))
    table.width = console().measure(table, options=console().options.update(width=WIDEST)).maximum
    return table


def _columns(match: "Match", called: "Mapping[str, str]") -> "dict[str, tuple[str, Cell]]":
    """Title -> side and cell, of those columns that say something of this match."""
    results, signed = match.results, "+" if match.nature.low < 0 else ""
    asked = {match.asked, match.asked * len(match.seatings)}
    every: list[tuple[str, str, Cell, bool]] = [
        ("team", "left", lambda result: called.get(result.team, result.team), True),
        ("seat", "right", lambda result: "all" if result.seat is None else str(result.seat), True),
        ("games", "right", lambda result: str(result.games), any(result.games not in asked for result in results)),
        ("return", "left", lambda result: _with_interval(result.mean_return, f"{signed}.2f", " to "), True),
        ("normalised", "left", lambda result: _with_interval(result.normalised, ".1f"), True),
        ("won", "left", lambda result: _share(result.won), results[0].wins is not None),
        ("drawn", "left", lambda result: _share(result.drawn), any(result.draws for result in results)),
        ("lost", "left", lambda result: _share(result.lost), results[0].losses is not None),
        ("valid", "left", lambda result: _share(result.valid), any(result.output_tokens != 0 for result in results)),
        ("tokens", "right", _tokens, any(result.output_tokens != 0 for result in results)),
        ("failed", "right", lambda result: str(result.failures), any(result.failures for result in results)),
    ]
    return {name: (side, cell) for name, side, cell, shown in every if shown}


def _tell(match: "Match") -> None:
    if match.failed:
        first = match.failed[0]
        errors().print(
            f"{len(match.failed)} of {len(match.games)} games failed, {first.episode_id} with: {first.error}",
            style="red",
            markup=False,
        )
    if match.ran_out is not None:
        asked = match.asked * len(match.seatings)
        errors().print(f"{match.finished} of {asked} games were played: {match.ran_out}", style="red", markup=False)
        errors().print(f"go on with the same command, more to spend, and --resume {match.run_id}", markup=False)
    errors().print(match.footer(), style="dim", markup=False)


def _with_interval(estimate: "Estimate | None", form: str, between: str = "–") -> "Text | str":
    """A mean, and below it its interval."""
    from rich.text import Text

    if estimate is None:
        return "–"
    interval = f"{estimate.low:{form}}{between}{estimate.high:{form}}"
    return Text.assemble(f"{estimate.mean:{form}}\n", (interval, "dim"))


def _share(share: "Estimate | None") -> "Text | str":
    """In percent, its interval in whole ones: there are four such columns."""
    from rich.text import Text

    if share is None:
        return "–"
    return Text.assemble(f"{100 * share.mean:.1f} %\n", (f"{100 * share.low:.0f}–{100 * share.high:.0f}", "dim"))


def _tokens(result: "SeatResult") -> str:
    return "–" if result.output_tokens is None else str(result.output_tokens)
