"""Matches: teams at the seats of an environment for many games, and what came of it for each of them.

`match` is what `orchestra play` calls. A team is an agent graph or its file, a program (`random`, `mcts:100`, `cfr`),
or a model, which then plays with the plain player. Games are drawn from the match's seed and no clock: the n-th game
of every seating is dealt the same cards, and a resumed match replays what was answered and asks for the rest.

Source: the opponents, and that each seat is held in turn, as MARSHAL (arXiv:2510.15414) evaluates.
Deviation: none; what is made of the returns is said in `orchestra.environments.results`.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from graphs import AgentGraph, Sampling
from orchestra.environments.playing import play
from orchestra.environments.protocol import Environment, Nature
from orchestra.environments.results import GameResult, SeatResult, check_range, results_over_seats, seat_results
from orchestra.environments.seating import Given, Sitting, Started, is_model, seated
from orchestra.environments.written import check_draw, opened
from orchestra.errors import BudgetError, InputError
from orchestra.execution.recording import store_for
from orchestra.execution.runtime import Runtime
from orchestra.execution.settings import Settings
from orchestra.ledger import nano, show_usd, usd

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from orchestra.environments.games.exploiting import Exploitability
    from orchestra.traces.episode import Episode

CONCURRENCY = 64
"""Games at once, unless said."""
CALL_SECONDS = 600.0
"""Time limit of a call, unless said: with many games at once it waits for its turn."""
TOKENS, THINKING_TOKENS = 32, 1024
"""Most tokens of a reply of a plain player, unless said: of the answer alone, and with a thought before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seating:
    """Who held which seat, and what came of it."""

    teams: tuple[str, ...]
    """By seat; no name twice, but where one team holds all."""
    games: tuple[GameResult, ...]
    """In the order they were dealt; empty when money or time ran out before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Teams at the seats of an environment for many games."""

    run_id: str
    nature: Nature
    """Of the environment."""
    options: Mapping[str, Any]
    """It was opened with."""
    seatings: tuple[Seating, ...]
    """One, or as many as there are seats where every team held each."""
    results: tuple[SeatResult, ...]
    """By seating and seat; then over all seats, where every team held each."""
    asked: int
    """Games of each seating that were asked for."""
    seed: int
    paid_nano: int
    """What the run paid, in nano-USD, earlier attempts included."""
    ran_out: str | None
    """What money or time ran out on; `None` when they did not."""
    exploited: "Mapping[str, Exploitability]" = field(default_factory=dict)
    """By team, where it was asked for; a team that money or time ran out on is missing."""

    @property
    def games(self) -> tuple[GameResult, ...]:
        """Of all seatings, in order."""
        return tuple(game for seating in self.seatings for game in seating.games)

    @property
    def finished(self) -> int:
        """Games that were played to their end."""
        return sum(game.finished for game in self.games)

    @property
    def failed(self) -> tuple[GameResult, ...]:
        """Games that ended because a model, a tool or a team failed."""
        return tuple(game for game in self.games if not (game.finished or game.cut_short))

    @property
    def exit_code(self) -> int:
        """0 done, 3 money or time ran out, 1 no game was played to its end."""
        if self.ran_out is not None:
            return 3
        return 0 if self.finished else 1

    def document(self) -> dict[str, object]:
        """As one JSON document; money in USD."""
        return {
            "run_id": self.run_id,
            "environment": self.nature.name,
            "options": dict(self.options),
            "range": [self.nature.low, self.nature.high],
            "seed": self.seed,
            "seatings": [list(seating.teams) for seating in self.seatings],
            "games_asked": self.asked * len(self.seatings),
            "games_finished": self.finished,
            "games_failed": len(self.failed),
            "paid_usd": str(usd(self.paid_nano)),
            "ran_out": self.ran_out,
            "results": [result.document() for result in self.results],
            "exploitability": {team: found.document() for team, found in self.exploited.items()},
        }

    def footer(self) -> str:
        """Cost, and where the trace is."""
        return f"{show_usd(self.paid_nano)} · orchestra traces show {self.run_id}"


async def match(
    environment: str,
    teams: Sequence[Given],
    *,
    games: int = 100,
    both_seats: bool = False,
    options: Mapping[str, Any] | None = None,
    sampling: Sampling | None = None,
    max_cost_usd: Decimal | str | int | None = None,
    settings: Settings | None = None,
    store: str | Path | None = None,
    seed: int = 0,
    resume: str | None = None,
    exploit: int | Literal["exact"] | None = None,
    on_run: Callable[[str], None] = lambda run_id: None,
    on_start: Started = lambda name, total: lambda: None,
) -> Match:
    """`games` games between `teams`, and what came of them.

    Args:
        environment: its name, such as `kuhn-poker`.
        teams: one for each seat, or one that holds them all: an agent graph or the path of its file; a program, such as
            `random`, `mcts:100` or `cfr`; or a model, such as `local/smollm2-135m-instruct`, that plays by itself.
        games: of each seating.
        both_seats: after `games` games everybody moves on by one seat, until each team has held each: `games` each way.
        options: of the environment, such as `thinking`.
        sampling: of teams that are a model; `None` takes `usual_sampling`.
        max_cost_usd: most the calls may cost together; required where a model costs money outside this machine.
        settings: `concurrency` is games at once; `None` takes `CONCURRENCY` and `CALL_SECONDS`.
        store: file or URL of the trace store; `None` takes the user's.
        seed: of cards and tokens; the same seed gives the same cards whoever plays.
        resume: id of an interrupted run to go on with; what it paid for is not paid again, but for exact scoring.
        exploit: what perfect opponents win of each team that is no program, at Kuhn poker: estimated from as many
            replies at each information state, or `exact`, from the model's probabilities, which is not journalled: a
            resumed run pays for it again. `None` leaves it out.
        on_run: told the run's id when it begins.
        on_start: called with who plays whom and the number of games; what it returns is called after each game.

    Raises:
        InputError: something is wrong or missing; nothing was spent.
    """
    settings = settings or Settings(concurrency=CONCURRENCY, call_seconds=CALL_SECONDS)
    options = dict(options or {})
    place = opened(environment, options)
    check_draw([place], options)
    _check(place.nature, teams, games, both_seats, sampling)
    held = seated(teams, place, sampling=sampling or usual_sampling(options), on_start=on_start)
    players = list({one.name: one for one in held if isinstance(one.team, AgentGraph)}.values())  # who holds all is one
    _check_exploit(exploit, place, players)
    asked = {"environment": environment, "options": options, "teams": [one.identity for one in held]}
    inputs = {**asked, "games": games, "both_seats": both_seats, "seed": seed, **settings.inputs()}
    folders = [one.folder for one in held if one.folder is not None]
    with store_for(store, settings) as kept:
        async with Runtime.opened(
            "play",
            store=kept,
            settings=settings,
            folder=folders[0] if folders else None,
            folders=folders[1:],
            cap_nano=None if max_cost_usd is None else nano(max_cost_usd),
            inputs=inputs,
            resume=resume,
        ) as runtime:
            on_run(runtime.run_id)
            for one in players:
                runtime.prepare(cast("AgentGraph", one.team), one.folder)
            runtime.refuse_uncapped("--max-cost")
            exploited, ran_out = await _exploited(runtime, place, players, exploit, seed)
            rng = random.Random(seed)
            seeds = [rng.getrandbits(48) for _ in range(games)]
            turns = range(place.nature.seats if both_seats else 1)
            seatings = await _seatings(runtime, place, [_turned(held, by) for by in turns], seeds, on_start)
            return Match(
                run_id=runtime.run_id,
                nature=place.nature,
                options=options,
                seatings=seatings,
                results=_results(seatings, place.nature),
                asked=games,
                seed=seed,
                paid_nano=runtime.ledger.spent,
                ran_out=ran_out or _short(seatings),
                exploited=exploited,
            )


def usual_sampling(options: Mapping[str, Any]) -> Sampling:
    """How a model plays unless it is said: temperature 1, and `TOKENS` or where it thinks `THINKING_TOKENS` at most."""
    return Sampling(temperature=1.0, max_tokens=THINKING_TOKENS if options.get("thinking") is True else TOKENS)


def _check(nature: Nature, teams: Sequence[Given], games: int, both_seats: bool, sampling: Sampling | None) -> None:
    check_range(nature)
    if games < 1:
        raise InputError(f"a match has at least one game, got {games}")
    if both_seats and len(teams) == 1:
        raise InputError("one team that holds every seat holds both already; leave --both-seats out")
    if sampling is not None and not any(is_model(team) for team in teams):
        raise InputError("sampling is for teams that are a model; a team's file says its own, and programs have none")


def _check_exploit(exploit: int | Literal["exact"] | None, place: Environment, players: Sequence[Sitting]) -> None:
    if exploit is None:
        return
    # It needs the extra `games`, which not every match does.
    from orchestra.environments.games.exploiting import plays_kuhn

    if not plays_kuhn(place):
        raise InputError(f"exploitability is computed for kuhn-poker, not for {place.nature.name!r}")
    if not players:
        raise InputError("exploitability is of teams that are a model or a team's file; programs alone are seated")
    if exploit != "exact" and exploit < 1:
        raise InputError(f"at least one reply is drawn at each information state, not {exploit}")


async def _exploited(
    runtime: Runtime, place: Environment, players: Sequence[Sitting], exploit: int | Literal["exact"] | None, seed: int
) -> "tuple[dict[str, Exploitability], str | None]":
    """Of each team, and what money or time ran out on; before any game, so that what cannot be computed costs none."""
    if exploit is None:
        return {}, None
    from orchestra.environments.games.exploiting import exploitability

    found: dict[str, Exploitability] = {}
    ran_out = None
    samples = None if exploit == "exact" else exploit
    for one in players:
        team, key = cast("AgentGraph", one.team), f"exploitability/{one.name}"
        try:
            found[one.name] = await exploitability(runtime, place, team, samples=samples, seed=seed, key=key)
        except BudgetError as error:  # the games may still be paid, and another team's may be cheaper
            ran_out = ran_out or f"the exploitability of {one.name}: {error}"
    return found, ran_out


def _turned(held: Sequence[Sitting], by: int) -> tuple[Sitting, ...]:
    """Everybody `by` seats further on."""
    return tuple(held[(at - by) % len(held)] for at in range(len(held)))


async def _seatings(
    runtime: Runtime, place: Environment, tables: Sequence[Sequence[Sitting]], seeds: Sequence[int], on_start: Started
) -> tuple[Seating, ...]:
    """The games of every table, one table after the other until money or time run out."""
    found: list[Seating] = []
    for number, table in enumerate(tables, 1):
        played = () if _short(found) else await _played(runtime, place, table, seeds, f"seating-{number}", on_start)
        found.append(Seating(teams=tuple(one.name for one in table), games=played))
    return tuple(found)


async def _played(
    runtime: Runtime, place: Environment, table: Sequence[Sitting], seeds: Sequence[int], key: str, on_start: Started
) -> tuple[GameResult, ...]:
    """The games of one table; of each only the result is kept in memory."""
    done = on_start(" against ".join(dict.fromkeys(one.name for one in table)), len(seeds))
    # Programs never wait: side by side their games would only end later, all at once.
    waits = any(isinstance(one.team, AgentGraph) for one in table)
    at_once = runtime.settings.concurrency if waits else 1
    found: dict[str, GameResult] = {}
    playing = play(runtime, place, [one.team for one in table], seeds, concurrency=at_once, key=key)
    async with aclosing(cast("AsyncGenerator[Episode, None]", playing)) as episodes:
        async for episode in episodes:
            found[episode.episode_id] = GameResult.of(episode, place.nature.seats)
            done()
    return tuple(found[f"{key}/{number}"] for number in range(len(seeds)))


def _short(seatings: Sequence[Seating]) -> str | None:
    """What money or time ran out on."""
    return next((game.error for seating in seatings for game in seating.games if game.cut_short), None)


def _results(seatings: Sequence[Seating], nature: Nature) -> tuple[SeatResult, ...]:
    found = [result for seating in seatings for result in seat_results(seating.games, nature, seating.teams)]
    if len(seatings) > 1:
        found.extend(results_over_seats([(seating.teams, seating.games) for seating in seatings], nature))
    return tuple(found)
