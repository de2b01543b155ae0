"""`orchestra traces prune`: old runs out of the store."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from orchestra.cli import options
from orchestra.cli.console import console, errors

if TYPE_CHECKING:
    from orchestra.traces.store.pruning import Pruning

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BYTES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def age(text: str) -> float:
    """Seconds in an age such as `30d`.

    Raises:
        InputError: it is none.
    """
    from orchestra.errors import InputError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip().lower())
    if found is None:
        raise InputError(f"{text!r} is not an age; write a number and s, m, h, d or w, like 30d")
    return float(found[1]) * _SECONDS[found[2]]


def size(text: str) -> int:
    """Bytes in a size such as `2GB`.

    Raises:
        InputError: it is none.
    """
    from orchestra.errors import InputError

    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", text.strip().lower())
    if found is None:
        raise InputError(f"{text!r} is not a size; write a number and kB, MB or GB, like 500MB")
    return int(float(found[1]) * _BYTES[found[2]])


def prune_command(
    run_ids: Annotated[
        list[str] | None, typer.Argument(metavar="RUN_ID...", help="Runs that go, or the beginnings of their ids.")
    ] = None,
    older_than: Annotated[
        float | None, typer.Option("--older-than", parser=age, metavar="AGE", help="Runs started so long ago: 30d.")
    ] = None,
    keep_last: Annotated[
        int | None, typer.Option("--keep-last", min=0, metavar="N", help="The newest that stay; all others if alone.")
    ] = None,
    max_size: Annotated[
        int | None,
        typer.Option("--max-size", parser=size, metavar="SIZE", help="The oldest go until the rest fits: 2GB."),
    ] = None,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also runs that could be resumed: interrupted, paused, out of money.")
    ] = False,
    cache: Annotated[
        bool, typer.Option("--cache", help="Also cached completions of that age; they would be paid for again.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without it, only say what would go.")] = False,
    store: options.StoreUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Drop runs from the store and give their space back; never one that is being carried out."""
    from dataclasses import asdict

    from orchestra.errors import InputError
    from orchestra.traces.store.pruning import Rules, prune

    rules = Rules(
        run_ids=tuple(run_ids or ()),
        older_than_seconds=older_than,
        keep_last=keep_last,
        most_bytes=max_size,
        unfinished=unfinished,
        cache=cache,
    )
    if not run_ids and not cache and older_than is None and keep_last is None and max_size is None:
        raise InputError("say which runs go: RUN_ID, --older-than 30d, --keep-last 100 or --max-size 2GB")
    done = prune(store, rules, apply=yes)
    if as_json:
        options.print_json({**asdict(done), "applied": done.bytes_after is not None})
    else:
        _print(done)


def _print(done: "Pruning") -> None:
    from datetime import UTC, datetime

    for run in done.runs:
        day = datetime.fromtimestamp(run.started_at, UTC).date()
        console().print(f"{run.run_id}  {run.command}  {day}  {_bytes(run.bytes)}", markup=False, highlight=False)
    say = errors().print
    if done.in_progress:
        say(f"left alone, being carried out: {', '.join(done.in_progress)}", markup=False)
    if done.resumable:
        say(f"left alone, can be resumed ({len(done.resumable)}): --unfinished drops them too", markup=False)
    what = f"{_count(len(done.runs), 'run')}, {_count(done.blobs, 'piece')} of content"
    what += f", {_count(done.cache_entries, 'cached completion')}" if done.cache_entries else ""
    if done.bytes_after is None:
        say(f"would drop {what}, about {_bytes(done.bytes_estimated)} of {_bytes(done.bytes_before)}; --yes does it")
        return
    say(f"dropped {what}: {_bytes(done.bytes_before)} → {_bytes(done.bytes_after)}", markup=False)
    if done.others:
        say("somebody else has the store open: content and space stay; prune again when they have ended", markup=False)


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _bytes(number: int) -> str:
    for unit, factor in (("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)):
        if number >= factor:
            return f"{number / factor:.1f} {unit}"
    return f"{number} bytes"
