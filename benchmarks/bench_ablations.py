"""What each part of MARS's credit does: the recipe `mars-cpu` on one game, with a part left out, by several seeds.

    python -m benchmarks ablations FOLDER --start ADAPTER [--game kuhn-poker] [--seeds 3] [--steps 12] [--episodes 32]

The arms of MARSHAL's ablations (arXiv:2510.15414): all of it; no credit by turns (a return for the whole game); no
baseline of each seat's own (one for all); an opponent that does not learn, in place of self-play. Every arm begins with
the same adapter, that of a warm-up, and is trained on as many games' worth of replies: against a fixed opponent one
seat of two learns, so it plays twice as many games. Then each plays `--games` games at each seat against random play
and against CFR's average policy or tree search, and at Kuhn poker it is told what can be won of it. What is done is
kept in FOLDER; the same command goes on after an interruption. Intervals over seeds are Student's. What can be won is
computed of a policy among legal answers alone, so the share of valid moves stands beside it, seed by seed.
"""

import argparse
import asyncio
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.bench_mars import GAMES, Cell, Kept, measured, valid_share
from benchmarks.table import table
from orchestra.environments import match
from training.recipes import read
from training.trainers import train

FIXED = {"kuhn-poker": "random", "leduc-poker": "random"}
"""Game -> the opponent that does not learn; tree search elsewhere, which would see hidden cards."""


def arms(game: str) -> Mapping[str, tuple[tuple[str, ...], int]]:
    """Name -> changes to the recipe, and how many times the games."""
    return {
        "all of it": ((), 1),
        "no credit by turns": (("credit.options.by_turn=false",), 1),
        "no baseline by seat": (("credit.options.by_seat=false",), 1),
        "fixed opponent": ((f"sources.0.settings.opponent={json.dumps(FIXED.get(game, 'mcts:100'))}",), 2),
    }


async def trained(kept: Kept, key: str, changes: Sequence[str]) -> dict[str, Any]:
    """The adapter of one arm and seed: its folder, and the tokens it was trained on."""
    known = kept.read().get(key, {})
    if "adapter" not in known:
        done = await train(
            read("mars-cpu", changes),
            store=kept.folder / "store.sqlite",
            folder=kept.folder / "runs",
            resume=known.get("run_id"),
            on_run=lambda run_id: kept.note(key, run_id=run_id),
        )
        assert done is not None, "one process trains"
        (saved,) = done.adapters.values()
        tokens = sum(float(figures["trained tokens"]) for figures in done.curve if "trained tokens" in figures)
        kept.note(key, adapter=str(saved.folder), tokens=tokens)
    return kept.read()[key]


async def exploited(kept: Kept, key: str, model: str) -> float:
    """Chips a game that can be won of it."""
    if "chips" not in kept.read()[key]:
        told = await match(
            "kuhn-poker", [model, "random"], games=1, store=kept.folder / "store.sqlite", exploit="exact"
        )
        kept.note(key, chips=told.exploited[model].chips)
    chips: float = kept.read()[key]["chips"]
    return chips


def over_seeds(values: Sequence[float], form: str) -> str:
    """A mean with Student's 95 % interval."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:{form}}"
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return f"{mean:{form}} ± {half:{form.lstrip('+')}}"


def main(arguments: Sequence[str] = ()) -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks ablations")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--start", type=Path, required=True, help="folder of the adapter that all begin with")
    parser.add_argument("--game", default="kuhn-poker", choices=[name for name in GAMES if "hanabi" not in name])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--episodes", type=int, default=32)
    parser.add_argument("--games", type=int, default=100, help="at each seat, to measure")
    chosen = parser.parse_args(arguments)
    chosen.folder.mkdir(parents=True, exist_ok=True)
    kept = Kept(chosen.folder)
    base = str(read("mars-cpu").base.model)
    rivals = [rival for rival in GAMES[chosen.game] if rival is not None]
    kuhn = chosen.game == "kuhn-poker"
    rows = [asyncio.run(_arm(kept, f"{base}+{chosen.start}", rivals, kuhn, chosen, "where all begin", None))]
    for name, (changes, times) in arms(chosen.game).items():
        common = (
            f"sources.0.settings.environments={json.dumps([chosen.game])}",
            "warmup.steps=0",
            f"agents.player.start={json.dumps(str(chosen.start.resolve()))}",
            f"steps.count={chosen.steps}",
            f"steps.episodes={times * chosen.episodes}",
        )
        rows.append(asyncio.run(_arm(kept, base, rivals, kuhn, chosen, name, (*common, *changes))))
    headings = ("arm", "seeds", "tokens trained on", "valid moves", *(f"return against {rival}" for rival in rivals))
    print(table((*headings, *(("exploitability, chips",) if kuhn else ())), rows), flush=True)


async def _arm(
    kept: Kept,
    base: str,
    rivals: Sequence[str],
    kuhn: bool,
    chosen: argparse.Namespace,
    name: str,
    changes: Sequence[str] | None,
) -> tuple[str, ...]:
    """The row of one arm; `changes=None` measures `base` as it is, once."""
    returns: dict[str, list[float]] = {rival: [] for rival in rivals}
    chips, tokens, valid = [], [], []
    for seed in range(chosen.seeds if changes is not None else 1):
        key = f"{chosen.game}|{name}|{seed}|{chosen.steps}x{chosen.episodes}|{chosen.start.resolve()}"
        model, results = base, []
        if changes is not None:
            done = await trained(kept, key, (*changes, f"seed={seed}"))
            model = f"{base}+{done['adapter']}"
            tokens.append(done["tokens"])
        else:
            kept.note(key)
        for rival in rivals:
            results.append(await measured(Cell(chosen.game, rival, name, model, chosen.games), kept))
            returns[rival].append(results[-1]["return"]["mean"])
        valid.append((valid_share(results) or {"mean": math.nan})["mean"])
        if kuhn:
            chips.append(await exploited(kept, key, model))
        print(
            f"{name}, seed {seed}: { ({rival: found[-1] for rival, found in returns.items()}) } {chips[-1:]}",
            flush=True,
        )
    row = [name, str(len(returns[rivals[0]])), f"{np.mean(tokens):,.0f}" if tokens else "–"]
    row.append(", ".join(f"{100 * share:.1f} %" for share in valid))
    row += [over_seeds(found, "+.3f") for found in returns.values()]
    return (*row, *((over_seeds(chips, ".3f"),) if kuhn else ()))


if __name__ == "__main__":
    main()
