"""Games per second of self-play, by how many are played at once.

    python -m benchmarks play [--game tic-tac-toe] [--games 128] [--rounds 2] [--server URL --model NAME]

The embedded SmolLM2-135M holds both seats; with `--server` a vLLM server plays the same games. The model was taught no
game, so a reply that is no move is taken for a legal one drawn at random: games have their natural length, and prompts
and replies are real. Rounds of 1, 16 and 64 games at once take turns, and the best of each counts. A game played alone
cannot share anything, so fewer of those are played.
"""

import argparse
import asyncio
import itertools
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.table import table
from graphs import Sampling
from orchestra.environments import environment, play, player
from orchestra.environments.protocol import Environment, Nature, Outcome, Table
from orchestra.execution.runtime import Runtime
from orchestra.execution.settings import Settings
from orchestra.traces.store import Store

AT_ONCE = (1, 16, 64)
GOAL = 6.0
"""Games a second at 64 at once, beside one at a time, on the embedded engine."""
MODEL = "local/smollm2-135m-instruct"


class Lenient:
    """A table where every reply is a move.

    Args:
        table: the game.
        seed: of moves for replies that are none.
    """

    def __init__(self, table: Table, seed: int) -> None:
        self._table, self._rng = table, random.Random(seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)

    def reply(self, text: str | None, tokens: int | None = None) -> Outcome:
        """Make the move that is named, or any."""
        legal = {self._table.answer(action): action for action in self._table.legal()}
        said = text if text in legal else self._rng.choice(sorted(legal))
        return self._table.reply(said, tokens)


@dataclass(frozen=True)
class LenientEnvironment:
    """An environment whose tables take every reply for a move."""

    environment: Environment

    @property
    def nature(self) -> Nature:
        """The environment's."""
        return self.environment.nature

    @property
    def role(self) -> str:
        """The environment's."""
        return self.environment.role

    def begin(self, seed: int) -> Table:
        """A new game."""
        made: Any = Lenient(self.environment.begin(seed), seed)
        return made


@dataclass(frozen=True, slots=True)
class Round:
    """What one round of games took."""

    games: int
    seconds: float
    moves: int
    output_tokens: int

    @property
    def games_per_second(self) -> float:
        """Over the whole round."""
        return self.games / self.seconds


async def played(
    runtime: Runtime, game: Environment, games: int, at_once: int, key: str, seeds: Iterator[int]
) -> Round:
    """A round of self-play, with the next of `seeds`: no game is played twice, as its prompts may still be kept."""
    team = player(game, sampling=Sampling(temperature=1.0, max_tokens=16))
    teams = [team] * game.nature.seats
    moves = tokens = 0
    began = time.perf_counter()
    async for episode in play(runtime, game, teams, list(itertools.islice(seeds, games)), concurrency=at_once, key=key):
        assert episode.error is None, episode.error
        moves += len(episode.turns)
        tokens += sum(turn.usage.output_tokens or 0 for turn in episode.turns)
    return Round(games, time.perf_counter() - began, moves, tokens)


async def measured(model: str, game: Environment, games: int, rounds: int) -> dict[int, Round]:
    """The best round of each concurrency."""
    best: dict[int, Round] = {}
    seeds = itertools.count()
    settings = Settings(model=model, concurrency=max(AT_ONCE), call_seconds=None)
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "store.sqlite") as store:
        async with Runtime.opened("play", store=store, settings=settings) as runtime:
            await played(runtime, game, 1, 1, "warm", seeds)
            for number in range(rounds):
                for at_once in AT_ONCE:
                    count = max(games * at_once // max(AT_ONCE), 4)
                    one = await played(runtime, game, count, at_once, f"{number}-{at_once}", seeds)
                    if at_once not in best or one.games_per_second > best[at_once].games_per_second:
                        best[at_once] = one
    return best


def main(arguments: Sequence[str] = ()) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks play")
    parser.add_argument("--game", default="tic-tac-toe")
    parser.add_argument("--games", type=int, default=128, help="at 64 at once; fewer in proportion, at least 4")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--server", help="URL of a vLLM server to measure too")
    parser.add_argument("--model", default="smollm2-135m-instruct", help="what that server calls the model")
    chosen = parser.parse_args(arguments)
    game: Environment = LenientEnvironment(environment(chosen.game))
    contestants = {"embedded engine": MODEL}
    if chosen.server:
        contestants["vLLM"] = f"vllm/{chosen.model}@{chosen.server}"
    rows = []
    for title, model in contestants.items():
        best = asyncio.run(measured(model, game, chosen.games, chosen.rounds))
        alone = best[min(AT_ONCE)].games_per_second
        for at_once, one in best.items():
            goal = f"≥ {GOAL:.0f}×" if at_once == max(AT_ONCE) and model == MODEL else ""
            ratio = one.games_per_second / alone
            rows.append(
                (
                    title,
                    str(at_once),
                    f"{one.games_per_second:.2f}",
                    f"{one.moves / one.seconds:.1f}",
                    f"{one.output_tokens / one.seconds:.0f}",
                    f"{ratio:.1f}×",
                    goal,
                )
            )
    headings = (f"{chosen.game}", "games at once", "games a second", "moves", "reply tokens", "beside one", "goal")
    print(table(headings, rows), flush=True)


if __name__ == "__main__":
    main()
