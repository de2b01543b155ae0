"""What an agent is worth at MARS's six games: its moves that are valid, and its return, against programs.

    python -m benchmarks mars FOLDER --player before=MODEL --player after=MODEL [--games 100] [--game NAME ...]
        [--at-once 64]

Every player holds each seat for `--games` games, with the same cards for all players, against random play and against
tree search with 100 simulations, or where cards are hidden the average policy of CFR. Hanabi is played with oneself,
twice as many games. What was measured is kept in FOLDER: the same command after an interruption goes on where it was,
and pays for nothing twice. Long games side by side need memory for their transcripts: where it is short, fewer
`--at-once` are faster, since a transcript that was dropped is read again. The first three games are those that MARS
trains on; it never sees the others.
"""

import argparse
import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.table import table
from orchestra.environments import match
from orchestra.environments.matches import CALL_SECONDS, CONCURRENCY
from orchestra.evaluation.intervals import score_interval
from orchestra.execution.settings import Settings

GAMES: Mapping[str, tuple[str | None, ...]] = {
    "tic-tac-toe": ("random", "mcts:100"),
    "kuhn-poker": ("random", "cfr"),
    "mini-hanabi": (None,),
    "connect-four": ("random", "mcts:100"),
    "leduc-poker": ("random", "cfr"),
    "simple-hanabi": (None,),
}
"""Game -> against whom; `None` is with oneself."""
STANDINGS = ("won", "drawn", "lost")
"""Shares of the games."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One player, one game, one opponent."""

    game: str
    rival: str | None
    player: str
    model: str
    games: int
    """At each seat; with oneself, half of the games."""

    @property
    def key(self) -> str:
        """What it is kept by."""
        return "|".join((self.game, self.rival or "itself", self.model, str(self.games)))


@dataclass(slots=True)
class Kept:
    """Cells that were begun and those that are done, in a file."""

    folder: Path

    @property
    def _file(self) -> Path:
        return self.folder / "cells.json"

    def read(self) -> dict[str, dict[str, Any]]:
        """Key -> `run_id`, and `result` where it is done."""
        found: dict[str, dict[str, Any]] = json.loads(self._file.read_text()) if self._file.is_file() else {}
        return found

    def note(self, key: str, **what: Any) -> None:
        """Add `what` to what is known of a cell."""
        known = self.read()
        known.setdefault(key, {}).update(what)
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(known, indent=1))
        part.replace(self._file)


async def measured(cell: Cell, kept: Kept, *, at_once: int = CONCURRENCY) -> dict[str, Any]:
    """The cell's result, as `orchestra play --json` tells it; so many games are played side by side."""
    known = kept.read().get(cell.key, {})
    if "result" not in known:
        alone = cell.rival is None
        played = await match(
            cell.game,
            [cell.model] if cell.rival is None else [cell.model, cell.rival],
            games=2 * cell.games if alone else cell.games,
            both_seats=not alone,
            settings=Settings(concurrency=at_once, call_seconds=CALL_SECONDS),
            store=kept.folder / "store.sqlite",
            resume=known.get("run_id"),
            on_run=lambda run_id: kept.note(cell.key, run_id=run_id),
        )
        name = played.seatings[0].teams[0]
        rows = [row for row in played.results if row.team == name and (alone or row.seat is None)]
        kept.note(cell.key, result={**rows[0].document(), "valid": valid_share([row.document() for row in rows])})
    result: dict[str, Any] = kept.read()[cell.key]["result"]
    return result


def valid_share(results: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The share of valid moves over the replies of several results, with Wilson's interval."""
    replies = sum(one["replies"] for one in results)
    if not replies:
        return None
    valid = round(sum(one["valid"]["mean"] * one["replies"] for one in results if one["replies"]))
    low, high = score_interval([1.0] * valid + [0.0] * (replies - valid), low=0.0, high=1.0)
    return {"mean": valid / replies, "interval_95": [low, high], "count": replies}


def row(cell: Cell, result: Mapping[str, Any]) -> tuple[str, ...]:
    """A line of the table."""
    return (
        cell.game,
        cell.rival or "with itself",
        cell.player,
        str(result["games"]),
        _share(result["valid"]),
        _with_interval(result["normalised"], ".1f"),
        _with_interval(result["return"], "+.2f"),
        *(_share(result[standing]) for standing in STANDINGS),
    )


def _with_interval(estimate: Mapping[str, Any] | None, form: str) -> str:
    if estimate is None:
        return "–"
    low, high = estimate["interval_95"]
    return f"{estimate['mean']:{form}} ({low:{form}} to {high:{form}})"


def _share(estimate: Mapping[str, Any] | None) -> str:
    """In percent."""
    if estimate is None:
        return "–"
    low, high = (100 * end for end in estimate["interval_95"])
    return f"{100 * estimate['mean']:.1f} % ({low:.1f} to {high:.1f})"


def main(arguments: Sequence[str] = ()) -> None:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks mars")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--player", action="append", required=True, metavar="NAME=MODEL")
    parser.add_argument("--games", type=int, default=100, help="at each seat")
    parser.add_argument("--at-once", type=int, default=CONCURRENCY, help="games side by side")
    parser.add_argument("--game", action="append", choices=[*GAMES], help="only this; repeatable")
    chosen = parser.parse_args(arguments)
    if strange := [one for one in chosen.player if "=" not in one]:
        parser.error(f"--player {strange[0]!r} is not NAME=MODEL, such as before=local/smollm2-135m-instruct")
    chosen.folder.mkdir(parents=True, exist_ok=True)
    players = [one.split("=", 1) for one in chosen.player]
    cells = [
        Cell(game, rival, name, model, chosen.games)
        for game in chosen.game or GAMES
        for rival in GAMES[game]
        for name, model in players
    ]
    headings = ("game", "against", "player", "games", "valid", "normalised", "return", *STANDINGS)
    head, _ = table(headings, []).strip().split("\n")
    print(f"{head}\n|{'---|' * len(headings)}", flush=True)
    for cell in cells:
        found = asyncio.run(measured(cell, Kept(chosen.folder), at_once=chosen.at_once))
        print(f"| {' | '.join(row(cell, found))} |", flush=True)
    print()


if __name__ == "__main__":
    main()
