"""Playing: teams at the table, many games at once, and an episode of each.

Each game is one span, `play`, with one `environment step` for every move below it, and below that the team's own play.
What a seat earns is written down as facts when the game is over, on its own last move where it was earned by another's.
A team's nodes with memory go on from move to move with one growing transcript, so the engine reads only what is new.
"""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace

from graphs import AgentGraph, AgentNode, Sampling
from orchestra.environments.opponents import Opponent
from orchestra.environments.protocol import Environment, Outcome, Table, check_seats
from orchestra.errors import EnvironmentFailed, InputError, TooLong, blame
from orchestra.execution.moves import Move
from orchestra.execution.runtime import Runtime
from orchestra.models.protocol import Message
from orchestra.traces import names
from orchestra.traces.episode import Episode
from orchestra.traces.fold import episodes
from orchestra.traces.records import Attribute, Fact, SpanRecord
from orchestra.traces.spans import Span

Team = AgentGraph | Opponent
"""Who may hold a seat."""

FACT_RETURN = "return"
"""Value: `{"episode_id", "seat", "return"}`, in the units of the game, without bonuses and penalties."""
FACT_VIOLATION = "violation"
"""Value: `{"episode_id", "seat", "step", "why"}`: a reply that was no move."""
FACT_MOVES = "moves"
"""Value: `{"episode_id", "seat", "moves"}`: how many valid moves a seat made."""


def player(
    environment: Environment, *, model: str | None = None, sampling: Sampling | None = None, name: str = "player"
) -> AgentGraph:
    """One agent that plays `environment`, with a memory of the game.

    Args:
        environment: says the system prompt.
        model: `None` takes the run's.
        sampling: `None` draws at temperature 1, at most 32 tokens.
        name: of the team.
    """
    agent = AgentNode(id="player", role=environment.role, layout="{task}", memory="transcript")
    drawn = sampling or Sampling(temperature=1.0, max_tokens=32)
    return AgentGraph(name=name, nodes=(agent,), channels=(), output="player", model=model, sampling=drawn)


async def play(
    runtime: Runtime,
    environment: Environment,
    teams: Sequence[Team],
    seeds: Sequence[int],
    *,
    concurrency: int = 64,
    key: str = "game",
    demonstrate: bool = False,
) -> AsyncIterator[Episode]:
    """Episodes of one game for each of `seeds`, as they finish.

    Whatever ends a game early, money or time that ran out and a game that is broken included, is the error of its
    episode; it has no rewards. A transcript that has grown out of the model's context is none of that: it is a
    violation by whoever let it grow.

    Args:
        runtime: pays and traces.
        environment: what is played.
        teams: one for each seat: agent graphs, or programs.
        seeds: one for each game; a game's seed draws its cards and its tokens.
        concurrency: games under way at once.
        key: what the episodes' ids begin with; unique within the run.
        demonstrate: write moves of programs down as turns, in the words a player would use, for imitation. They were
            not sampled: they have no token ids.

    Raises:
        InputError: there are too few or too many teams, or one cannot run, or no game could ever begin; nothing was
            spent.
    """
    if concurrency < 1:
        raise InputError(f"concurrency is at least 1 game at once, not {concurrency}")
    check_seats(environment.nature, teams)
    for team in teams:
        if isinstance(team, AgentGraph):
            runtime.prepare(team)
    slots = asyncio.Semaphore(concurrency)
    with _watched(runtime) as spans:

        async def one(number: int, seed: int) -> Episode:
            async with slots:
                game = _Game(runtime, environment, tuple(teams), seed, f"{key}/{number}", spans, demonstrate)
                return await game.played()

        ended: asyncio.Queue[asyncio.Task[Episode]] = asyncio.Queue()
        unfinished = {asyncio.ensure_future(one(number, seed)) for number, seed in enumerate(seeds)}
        for game in unfinished:
            game.add_done_callback(ended.put_nowait)
        try:
            while unfinished:
                done = await ended.get()
                unfinished.discard(done)  # an episode is its caller's alone from here on
                yield done.result()
        finally:
            for game in unfinished:
                game.cancel()
            await asyncio.gather(*unfinished, return_exceptions=True)


@contextmanager
def _watched(runtime: Runtime) -> Iterator[dict[str, list[SpanRecord]]]:
    """Spans by episode, as they end while the block is open."""
    found: dict[str, list[SpanRecord]] = {}

    def watch(record: SpanRecord) -> None:
        episode_id = record.attributes.get(names.EPISODE_ID)
        if isinstance(episode_id, str) and episode_id in found:
            found[episode_id].append(record)

    runtime.tracer.watchers.append(watch)
    try:
        yield found
    finally:
        runtime.tracer.watchers.remove(watch)


@dataclass(slots=True)
class _Seat:
    """What one seat has heard and earned so far."""

    team: Team
    heard: list[str] = field(default_factory=list)
    memories: dict[str, list[Message]] = field(default_factory=dict)
    earned: dict[int, float] = field(default_factory=dict)
    """By step of its own moves."""
    pending: float = 0.0
    """Earned before its first move."""
    moves: int = 0
    """Valid ones."""


@dataclass(slots=True)
class _Game:
    runtime: Runtime
    environment: Environment
    teams: tuple[Team, ...]
    seed: int
    key: str
    spans: dict[str, list[SpanRecord]]
    demonstrate: bool
    facts: list[Fact] = field(default_factory=list)
    seats: list[_Seat] = field(init=False)

    def __post_init__(self) -> None:
        self.seats = [_Seat(team) for team in self.teams]

    async def played(self) -> Episode:
        """Play it to its end, whatever that is."""
        name = self.environment.nature.name
        self.spans[self.key] = []
        task_id = f"{name}/{self.seed}"
        called = " against ".join(dict.fromkeys(team.name for team in self.teams))
        self.facts.append(self.runtime.announce(self.key, task_id, called))
        described = {
            names.OPERATION_NAME: names.PLAY,
            names.RUN_ID: self.runtime.run_id,
            names.EPISODE_ID: self.key,
            names.TASK_ID: task_id,
            names.ENVIRONMENT: name,
        }
        with self.runtime.tracer.span(f"{names.PLAY} {name}", attributes=described) as root:
            error = await self._through()
            if error is not None:
                root.fail(error)
        self.runtime.ended(error)
        return self._folded()

    async def _through(self) -> BaseException | None:
        """Every move, and what was earned by them; or what ended the game early."""
        try:
            with self._own():
                table = self.environment.begin(self.seed)
                seat, step = table.to_move, 0
            while seat is not None:
                if (error := await self._step(table, seat, step)) is not None:
                    return error
                with self._own():
                    seat, step = table.to_move, step + 1
            self._settle(table)
        except EnvironmentFailed as failed:
            return failed
        return None

    def _own(self) -> AbstractContextManager[None]:
        """Whatever fails in the block, the environment or a program failed; never around what a team does."""
        return blame(EnvironmentFailed, f"environment {self.environment.nature.name!r} failed")

    async def _step(self, table: Table, number: int, step: int) -> BaseException | None:
        seat = self.seats[number]
        with self._own():
            described: dict[str, Attribute | None] = {
                names.OPERATION_NAME: names.ENVIRONMENT_STEP,
                names.SEAT: number,
                names.STEP: step,
                names.STATE_KEY: table.state_key(number),
            }
        with self.runtime.tracer.span(names.ENVIRONMENT_STEP, attributes=described) as span:
            drawn = int.from_bytes(hashlib.sha256(f"{self.seed}/{step}".encode()).digest()[:4], "big") >> 1
            if not isinstance(seat.team, AgentGraph):
                await asyncio.sleep(0)  # a program waits for nothing: without this nobody else would have a turn
                with self._own():
                    outcome = self._program_moves(table, number, seat.team, random.Random(drawn))
                    self._note(outcome, number, step, span)
                return None
            news = self._news(table, number)
            played = await self.runtime.play(
                seat.team,
                "\n\n".join(seat.heard),
                key=f"{self.key}/{step}",
                seed=drawn,
                move=Move(news=news, memories=seat.memories),
            )
            # A first prompt holds nothing the seat said: where it does not fit, the game was set up too small.
            outgrown = isinstance(played.error, TooLong) and bool(seat.earned)
            if played.error is not None and not outgrown:
                span.fail(played.error)
                return played.error
            with self._own():
                outcome = table.reply(None if outgrown else played.reply, played.spent.output_tokens or None)
                if outgrown:
                    outcome = replace(outcome, violation=str(played.error))
                self._note(outcome, number, step, span, said=not outgrown)
        return None

    def _news(self, table: Table, number: int) -> str:
        """What a seat is told before its move, which it has heard from then on."""
        heard = self.seats[number].heard
        with self._own():
            heard.append("\n\n".join([*([] if heard else [table.opening(number)]), table.observation(number)]))
        return heard[-1]

    def _program_moves(self, table: Table, number: int, program: Opponent, rng: random.Random) -> Outcome:
        described = {names.OPERATION_NAME: names.INVOKE_WORKFLOW, names.AGENT_NAME: program.name}
        self._news(table, number)
        with self.runtime.tracer.span(f"{names.INVOKE_WORKFLOW} {program.name}", attributes=described):
            said = table.answer(program.choose(table, rng))
            if self.demonstrate:
                self._demonstrated(number, said)
        return table.reply(said)

    def _demonstrated(self, number: int, said: str) -> None:
        """Write a program's move down as a turn of an agent who was told what a player is told, and said this."""
        seat, tracer = self.seats[number], self.runtime.tracer
        told = seat.memories.setdefault("player", [Message(role="system", content=self.environment.role)])
        told.append(Message(role="user", content=seat.heard[-1]))
        agent = {names.OPERATION_NAME: names.INVOKE_AGENT, names.NODE: "player", names.NODE_KIND: "agent"}
        chat = {names.OPERATION_NAME: names.CHAT, names.PROVIDER_NAME: names.DEMONSTRATION}
        with (
            tracer.span(f"{names.INVOKE_AGENT} player", attributes=agent),
            tracer.span(f"{names.CHAT} demonstration", attributes=chat) as span,
        ):
            span.content(names.INPUT_MESSAGES, [{"role": one.role, "content": one.content} for one in told])
            span.content(names.OUTPUT_MESSAGES, [{"role": "assistant", "content": said}])
        told.append(Message(role="assistant", content=said))

    def _note(self, outcome: Outcome, mover: int, step: int, span: Span, *, said: bool = True) -> None:
        """Write down what came of a move, and what it earned; one that was not `said` has no turn to learn from."""
        came = {"action": outcome.action, "rewards": list(outcome.rewards), "violation": outcome.violation}
        span.content(names.OUTPUT, came)
        self.seats[mover].moves += outcome.valid
        if said:
            self.seats[mover].earned[step] = self.seats[mover].pending
            self.seats[mover].pending = 0.0
        for seat, reward in zip(self.seats, outcome.rewards, strict=True):
            if seat.earned:
                seat.earned[max(seat.earned)] += reward
            else:
                seat.pending += reward
        if outcome.violation is not None:
            self._tell(FACT_VIOLATION, {"seat": mover, "step": step, "why": outcome.violation})

    def _settle(self, table: Table) -> None:
        with self._own():
            ended = list(zip(self.seats, map(float, table.returns), strict=True))
        for number, (seat, came_to) in enumerate(ended):
            for step, reward in seat.earned.items():
                self._tell(names.FACT_REWARD, {"seat": number, "step": step, "reward": reward})
            total = sum(seat.earned.values()) + seat.pending
            self._tell(names.FACT_REWARD, {"seat": number, "reward": total})
            self._tell(FACT_RETURN, {"seat": number, "return": came_to})
            self._tell(FACT_MOVES, {"seat": number, "moves": seat.moves})

    def _tell(self, name: str, value: dict[str, object]) -> None:
        fact = Fact(self.runtime.run_id, None, name, {"episode_id": self.key, **value}, self.environment.nature.name)
        self.facts.append(fact)
        self.runtime.store.post(fact)

    def _folded(self) -> Episode:
        (episode,) = episodes(self.spans.pop(self.key), self.facts, self.runtime.store.blob_value)
        return episode
