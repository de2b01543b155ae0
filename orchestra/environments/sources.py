"""Episodes for a trainer, played now: agents at the seats of games, or programs that show how a move looks.

Two plug-ins of `orchestra.episode_sources`: `self-play`, where agents hold every seat or play against an opponent that
does not learn, and `demonstrations`, where programs hold the seats and what they said is written down to be imitated.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from graphs import AgentGraph, AgentNode, Sampling
from orchestra.environments.opponents import opponent
from orchestra.environments.playing import Team, play, player
from orchestra.environments.protocol import Environment, check_seats
from orchestra.environments.results import CUT_SHORT
from orchestra.environments.rivals import rival
from orchestra.environments.written import check_draw, opened
from orchestra.errors import CannotAfford, InputError
from orchestra.execution.runtime import Runtime
from orchestra.execution.settings import Settings
from orchestra.ledger import Ledger
from orchestra.models.adapters import over
from orchestra.plugins import closest
from orchestra.traces.episode import Episode
from orchestra.traces.store import Store

COMMAND = "play"
"""What the store calls the run of a source."""
CALL_SECONDS = 600.0
"""Time limit of a call: with many games at once it waits for its turn."""


@dataclass(slots=True, kw_only=True)
class Playhouse:
    """Games that are played for a trainer, in a run of their own whose calls the trainer's ledger pays.

    The run lives in a task of its own from the first episodes to `close`, so its spans are nobody else's parents.
    """

    environments: tuple[Environment, ...]
    store: str | Path | None
    ledger: Ledger | None
    settings: Settings
    concurrency: int
    demonstrate: bool = False
    homes: Sequence[tuple[AgentGraph, Path]] = ()
    """Teams with the folder that their tools' code is looked up in; others have none."""
    steps: int = 0
    """How often it was asked."""
    _closing: asyncio.Event = field(default_factory=asyncio.Event)
    _run: "asyncio.Task[None] | None" = None
    _runtime: "asyncio.Future[Runtime] | None" = None

    async def played(
        self, tables: Sequence[tuple[Environment, Sequence[Team]]], count: int, seed: int
    ) -> tuple[Episode, ...]:
        """`count` games, dealt out evenly among the tables, in the order of the tables.

        Args:
            tables: an environment and who holds its seats.
            count: of games.
            seed: of cards and tokens; the same seed gives the same games.

        Raises:
            InputError: a team cannot play.
            CannotAfford: money or time ran out in the middle; what was played is in the store.
        """
        runtime = await self._opened()
        rng = random.Random(seed)
        step, self.steps = self.steps, self.steps + 1
        shares = [count // len(tables) + (at < count % len(tables)) for at in range(len(tables))]
        seeds = [[rng.getrandbits(48) for _ in range(share)] for share in shares]
        playing = [
            asyncio.ensure_future(self._table(runtime, place, teams, drawn, f"{step}/{at}"))
            for at, ((place, teams), drawn) in enumerate(zip(tables, seeds, strict=True))
        ]
        try:
            found = [episode for table in await asyncio.gather(*playing) for episode in table]
        finally:
            for table in playing:
                table.cancel()
            await asyncio.gather(*playing, return_exceptions=True)
            kept = {id(team) for team, _ in self.homes}
            for team in (team for _, teams in tables for team in teams):
                if isinstance(team, AgentGraph) and id(team) not in kept:
                    runtime.forget(team)  # the next time, agents wear other adapters and are other teams
        short = next((episode for episode in found if episode.error_type in CUT_SHORT), None)
        if short is not None:
            raise CannotAfford(f"the games of this step were cut short: {short.error}")
        return tuple(found)

    async def close(self) -> None:
        """End its run."""
        self._closing.set()
        if self._run is not None:
            run, self._run = self._run, None
            await run

    async def _table(
        self, runtime: Runtime, place: Environment, teams: Sequence[Team], seeds: Sequence[int], key: str
    ) -> list[Episode]:
        found = {}
        games = play(runtime, place, teams, seeds, concurrency=self.concurrency, key=key, demonstrate=self.demonstrate)
        async for episode in games:
            found[episode.episode_id] = episode
        return [found[f"{key}/{number}"] for number in range(len(seeds))]

    async def _opened(self) -> Runtime:
        if self._run is None:
            self._closing.clear()
            self._runtime = asyncio.get_running_loop().create_future()
            self._run = asyncio.create_task(self._held(self._runtime))
        assert self._runtime is not None, "it is made together with the run"
        return await self._runtime

    async def _held(self, ready: "asyncio.Future[Runtime]") -> None:
        """The run, open until `close`."""
        try:
            with Store.open(self.store) as store:
                async with Runtime.opened(
                    COMMAND,
                    store=store,
                    settings=self.settings,
                    folders=[folder for _, folder in self.homes],
                    ledger=self.ledger or Ledger(None),
                ) as runtime:
                    for team, folder in self.homes:
                        runtime.prepare(team, folder)
                    ready.set_result(runtime)
                    await self._closing.wait()
        except Exception as error:
            if ready.done():
                raise
            ready.set_exception(error)


@dataclass(slots=True, kw_only=True)
class SelfPlay:
    """Agents at the seats of games; made by `self_play`."""

    house: Playhouse
    agents: tuple[str, ...]
    base: str
    sampling: Sampling
    seats: tuple[str, ...]
    """Who holds each seat, repeated as often as there are seats: names of agents."""
    team: AgentGraph | None
    fixed: Mapping[Environment, Team] = field(default_factory=dict)
    """By environment, who holds the other seats and does not learn; empty where agents hold all."""

    async def episodes(self, adapters: Mapping[str, str], count: int, seed: int) -> Sequence[Episode]:
        """`count` games, dealt out evenly among the environments, and where an opponent is fixed among the seats.

        Args:
            adapters: agent -> `name@version`; the empty text plays with the base weights.
            count: how many.
            seed: of everything that is drawn.
        """
        tables = [(place, teams) for place in self.house.environments for teams in self._tables(place, adapters)]
        return await self.house.played(tables, count, seed)

    async def close(self) -> None:
        """End its run; calling it twice is harmless."""
        await self.house.close()

    def _tables(self, place: Environment, adapters: Mapping[str, str]) -> list[list[Team]]:
        number = place.nature.seats
        teams = [self._team(place, self.seats[at % len(self.seats)], adapters) for at in range(number)]
        rival = self.fixed.get(place)
        if rival is None:
            return [teams]
        return [[teams[at] if at == seat else rival for at in range(number)] for seat in range(number)]

    def _team(self, place: Environment, agent: str, adapters: Mapping[str, str]) -> Team:
        if self.team is None:
            model = over(self.base, adapters.get(agent, ""))
            return player(place, model=model, sampling=self.sampling, name=agent)
        worn = {name: over(self.base, adapters.get(name, "")) for name in self.agents}
        nodes = tuple(
            node.model_copy(update={"model": worn[node.id]}) if node.id in worn else node for node in self.team.nodes
        )
        return self.team.model_copy(update={"nodes": nodes})


@dataclass(slots=True, kw_only=True)
class Demonstrations:
    """Programs at the seats of games; made by `demonstrations`."""

    house: Playhouse
    tables: Sequence[tuple[Environment, Sequence[Team]]]

    async def episodes(self, adapters: Mapping[str, str], count: int, seed: int) -> Sequence[Episode]:
        """`count` games, dealt out evenly among the environments; nobody's adapter plays."""
        return await self.house.played(self.tables, count, seed)

    async def close(self) -> None:
        """End its run; calling it twice is harmless."""
        await self.house.close()


def self_play(
    *,
    environments: Sequence[str],
    agents: Sequence[str],
    base: str,
    options: Mapping[str, Any] | None = None,
    model: str | None = None,
    sampling: Mapping[str, Any] | None = None,
    seats: Sequence[str] = (),
    opponent: str | None = None,
    team: str | None = None,
    concurrency: int = 64,
    engine: Mapping[str, Any] | None = None,
    machine_usd_per_hour: Decimal | None = None,
    store: str | Path | None = None,
    ledger: Ledger | None = None,
) -> SelfPlay:
    """Games in which agents learn from their own play.

    Args:
        environments: names of environments; a step's games are dealt out evenly among them.
        agents: who is trained.
        base: the weights under the adapters, as the trainer opens them.
        options: of every environment, such as `thinking`.
        model: what samples, where that is not `base`: such as `vllm/NAME@URL`.
        sampling: fields of `graphs.Sampling`; `None` draws at temperature 1, at most 32 tokens.
        seats: which agent holds each seat, in order; empty gives them all to the only agent.
        opponent: a program (`random`, `mcts:100`, `cfr`), a model (`local/NAME`, `local/BASE+ADAPTER@VERSION`) or the
            file of another team, that holds all seats but one and does not learn; the agents sit at each seat equally
            often. `None` is self-play.
        team: file of an agent graph that holds each seat; its nodes that are called as agents are those agents.
        concurrency: games at once.
        engine: settings of embedded models; the same as the publisher's, and one engine serves both.
        machine_usd_per_hour: price of this machine.
        store: where the games are kept.
        ledger: what pays for their calls.

    Raises:
        InputError: a name or a setting is wrong.
    """
    places = _environments(environments, options)
    chosen = model or base
    drawn = _drawn(sampling)
    settings = _settings(chosen, concurrency, engine, machine_usd_per_hour)
    held = tuple(seats)
    if not held and len(agents) == 1:
        held = tuple(agents)
    graph = None if team is None else _team(team, agents)
    if graph is None and (not held or set(held) - set(agents)):
        raise InputError(f"seats={list(held)} must name the agents that hold them, of {', '.join(agents)}")
    rivals = {} if opponent is None else {place: rival(opponent, place, drawn) for place in places}
    return SelfPlay(
        house=Playhouse(
            environments=places,
            store=store,
            ledger=ledger,
            settings=settings,
            concurrency=concurrency,
            homes=[(team, home) for team, home in rivals.values() if isinstance(team, AgentGraph) and home is not None],
        ),
        agents=tuple(agents),
        base=chosen,
        sampling=drawn,
        seats=held or tuple(agents[:1]),
        team=graph,
        fixed={place: team for place, (team, _) in rivals.items()},
    )


def demonstrations(
    *,
    environments: Sequence[str],
    programs: Sequence[str] = ("random",),
    options: Mapping[str, Any] | None = None,
    concurrency: int = 64,
    store: str | Path | None = None,
    ledger: Ledger | None = None,
) -> Demonstrations:
    """Games between programs, for imitation.

    Args:
        environments: names of environments; the games are dealt out evenly among them.
        programs: who holds the seats, repeated as often as there are seats: `random` shows how legal moves are
            written and favours none; `mcts:N` and `cfr` show good ones.
        options: of every environment.
        concurrency: games at once.
        store: where the games are kept.
        ledger: of the run; programs cost nothing.

    Raises:
        InputError: a name or a setting is wrong.
    """
    places = _environments(environments, options)
    tables = []
    for place in places:
        held = [opponent(programs[at % len(programs)], place) for at in range(place.nature.seats)]
        check_seats(place.nature, held)
        tables.append((place, held))
    return Demonstrations(
        house=Playhouse(
            environments=places,
            store=store,
            ledger=ledger,
            settings=Settings(concurrency=concurrency),
            concurrency=concurrency,
            demonstrate=True,
        ),
        tables=tables,
    )


def _environments(names: Sequence[str], options: Mapping[str, Any] | None) -> tuple[Environment, ...]:
    if not names or isinstance(names, str):
        raise InputError("environments are a list of at least one name, such as ['kuhn-poker']")
    found = tuple(opened(name, options or {}) for name in names)
    check_draw(found, options or {})
    return found


def _settings(
    model: str, concurrency: int, engine: Mapping[str, Any] | None, machine_usd_per_hour: Decimal | None
) -> Settings:
    chosen = Settings(model=model, concurrency=concurrency, call_seconds=CALL_SECONDS, engine=dict(engine or {}))
    return chosen if machine_usd_per_hour is None else replace(chosen, machine_usd_per_hour=machine_usd_per_hour)


def _drawn(given: Mapping[str, Any] | None) -> Sampling:
    """How the agents' tokens are drawn."""
    chosen = given or {"temperature": 1.0, "max_tokens": 32}
    known = tuple(Sampling.model_fields)
    strange = [f"there is no {key!r}; {closest(key, known)}" for key in chosen if key not in known]
    if strange:
        raise InputError(f"sampling is wrong: {'; '.join(strange)}")
    try:
        return Sampling(**chosen)
    except ValidationError as wrong:
        told = (f"{'.'.join(map(str, one['loc']))}={one['input']!r}: {one['msg']}" for one in wrong.errors())
        raise InputError(f"sampling is wrong: {'; '.join(told)}") from wrong


def _team(path: str, agents: Sequence[str]) -> AgentGraph:
    """The team in a file, in which every agent is a node.

    Raises:
        InputError: there is no such file, or an agent is no node of it.
    """
    from orchestra.execution.runner import open_team

    graph, _ = open_team(Path(path))
    known = [node.id for node in graph.nodes if isinstance(node, AgentNode)]
    for agent in agents:
        if agent not in known:
            raise InputError(f"team {path!r} has no node for agent {agent!r}; {closest(agent, known)}")
    return graph
