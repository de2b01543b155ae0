"""The runtime: everything a run holds open while teams play.

One `Runtime` is one run: one run id, one ledger, one journal, one trace. It plays any number of teams at any number
of tasks at once, up to `Settings.concurrency`. Opening it with the id of an earlier run resumes that run: what was
paid for is reused, what was in flight is booked as unknown and asked again.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from graphs import AgentGraph, check
from graphs.identity import content_hash
from orchestra.agents.tools import ToolPool, check_trusted
from orchestra.benchmarks.scorers import score
from orchestra.benchmarks.tasks import Task
from orchestra.errors import BudgetError, EpisodeError, InputError, Paused, UnknownPrice
from orchestra.execution.admission import Turnstiles
from orchestra.execution.calls import Calls
from orchestra.execution.ending import TasksInside, ending, state_after
from orchestra.execution.events import Listener
from orchestra.execution.langgraph import application, play_through
from orchestra.execution.leases import run_purse
from orchestra.execution.moves import Move
from orchestra.execution.opening import begun, new_run_id
from orchestra.execution.people import write_answers
from orchestra.execution.play import Play, Spent
from orchestra.execution.played import Played
from orchestra.execution.recording import Recording
from orchestra.execution.settings import STATE_PRICE, Settings, opened_model
from orchestra.execution.teams import Team, askers_of, models_of, tools_of
from orchestra.execution.timing import Deadline, within
from orchestra.ledger import Ledger
from orchestra.models.protocol import Model
from orchestra.traces import names
from orchestra.traces.exporting import exporting
from orchestra.traces.journal import Journal
from orchestra.traces.records import Attribute
from orchestra.traces.spans import Tracer
from orchestra.traces.store import Fact, RunRecord, Store

__all__ = ["Played", "Runtime", "models_of", "new_run_id", "tools_of"]

Noted = TypeVar("Noted")


@dataclass(slots=True, kw_only=True)
class Runtime:
    """An open run. Make one with `opened`."""

    run_id: str
    settings: Settings
    store: Store
    ledger: Ledger
    tracer: Tracer
    journal: Journal
    pool: ToolPool
    folder: Path | None
    tallies: dict[str, Spent] = field(default_factory=dict)
    """What the calls of each purse came to, by ledger path."""
    asks: bool = False
    """Whether a person may be asked; where a search or an evaluation plays, nobody is there to answer."""
    recording: Recording | None = None
    """What the run is recorded to, or told again from; `None` is neither."""
    asked_before: frozenset[str] = frozenset()
    """Hashes of the requests of earlier attempts: their replies were paid for by this run, not borrowed."""
    _models: dict[str, Model] = field(default_factory=dict)
    _teams: dict[int, Team] = field(default_factory=dict)
    _ends: Counter[str] = field(default_factory=Counter)
    """How many plays ended in which state."""
    _playing: TasksInside = field(default_factory=TasksInside)
    _deadline: Deadline = field(init=False)
    _slots: asyncio.Semaphore = field(init=False)
    _calls: Calls = field(init=False)

    def __post_init__(self) -> None:
        self._deadline = Deadline(self.settings.run_seconds)
        self._slots = asyncio.Semaphore(self.settings.concurrency)
        self._calls = Calls(
            store=self.store,
            journal=self.journal,
            tracer=self.tracer,
            pool=self.pool,
            open_model=self.model,
            use_cache=self.settings.use_cache,
            retry=self.settings.retry,
            turnstiles=Turnstiles(self.settings.limits, self.settings.retry.patience_seconds),
            recording=self.recording,
            rerun_tools=self.settings.rerun_tools,
            _met=set(self.asked_before),
        )

    @classmethod
    @asynccontextmanager
    async def opened(
        cls,
        command: str,
        *,
        store: Store,
        settings: Settings,
        folder: Path | None = None,
        folders: Sequence[Path] = (),
        cap_nano: int | None = None,
        lease_nano: int | None = None,
        ledger: Ledger | None = None,
        inputs: Mapping[str, object] | None = None,
        models: Mapping[str, Model] | None = None,
        resume: str | None = None,
        answers: Sequence[str] = (),
    ) -> AsyncIterator["Runtime"]:
        """A run, closed at the end whatever happens.

        Args:
            command: what the run does: `run`, `evaluate`, `compose`.
            folder: where tools' code is looked up first.
            folders: further folders whose code may be called.
            cap_nano: most it may spend, in nano-USD; `None` sets no cap.
            lease_nano: take it in leases of so much, because other processes lease from this run too; `None` takes it
                whole.
            ledger: pays in place of a ledger of its own, such as a lease on another run's money.
            inputs: what the run depends on; a resumed run must be given the same.
            models: open models by name, used before any is looked up; they are closed with the run.
            resume: id of the run to go on with; `None` starts one.
            answers: to the questions it paused with, in the order it asked them.

        Raises:
            InputError: there is no such run, it was given other inputs or too few or too many answers, or another
                process is carrying it out.
            Paused: it waits for answers and none came; nothing was begun.
        """
        inputs = dict(inputs or {})
        with begun(store, command, inputs, settings, resume) as (run_id, recording):
            await write_answers(store, run_id, answers, settings.redact)
            await store.write(RunRecord(run_id=run_id, command=command, attributes=inputs))
            given = dict(models or {})
            if recording is not None:
                given = {name: recording.model(name, partial(given.__getitem__, name)) for name in given}
            code = (folder, *folders) if folder else tuple(folders)
            pooled = ToolPool(code, trust=settings.trust, workers=settings.tool_workers)
            purse = run_purse(
                store, run_id, cap_nano, recording, given=ledger, lease_nano=lease_nano, resumed=resume is not None
            )
            async with exporting(run_id, settings.otlp, settings.on_exported) as export, pooled as pool, purse as own:
                tracer = Tracer(store, run_id, redact=settings.redact, export=export)
                runtime = cls(
                    run_id=run_id,
                    settings=settings,
                    store=store,
                    ledger=own,
                    tracer=tracer,
                    journal=Journal(store, run_id, redact=settings.redact),
                    pool=pool,
                    folder=folder,
                    asks=command == "run",
                    recording=recording,
                    asked_before=frozenset(entry.request_hash for entry in store.journal(run_id) if entry.request_hash),
                    _models=given,
                )
                try:
                    described = {names.RUN_ID: run_id, names.COMMAND: command}
                    ends = ending(store, run_id, runtime._ends, settings.redact)
                    with ends, tracer.span(names.ATTEMPT, attributes=described) as root:
                        tracer.root = root
                        try:
                            yield runtime
                        finally:  # `gather` and the like go on as soon as the first of many has been cancelled
                            await runtime._playing.end()
                finally:
                    for model in runtime._models.values():
                        await model.close()
                    await store.flush()

    def model(self, name: str) -> Model:
        """The model called `name`, opened once per run.

        Raises:
            InputError: there is no such model.
        """
        if name not in self._models:
            if self.recording is None:
                self._models[name] = opened_model(name, self.settings)
            else:
                self._models[name] = self.recording.model(name, lambda: opened_model(name, self.settings))
        return self._models[name]

    def priced_model(self, name: str) -> Model:
        """The model called `name`, which has a price if the run has a cap.

        Raises:
            UnknownPrice: it has none.
            InputError: there is no such model.
        """
        model = self.model(name)
        if model.price is None and self.ledger.remaining is not None:
            raise UnknownPrice(f"the price of model {name!r} is not known, so a cap cannot be kept; {STATE_PRICE}")
        return model

    def prepare(self, graph: AgentGraph, folder: Path | None = None) -> Path | None:
        """The folder its tools are looked up in, after checking everything that can be checked before money is spent.

        Args:
            folder: `None` takes the run's; only the first preparation of a graph looks at it.

        Raises:
            InvalidGraph: with every defect.
            InputError: an unknown model, code that is not trusted, or a model without a price under a cap.
        """
        if id(graph) not in self._teams:
            folder = folder or self.folder
            check(graph)
            self._check_people(graph)
            for tool in tools_of(graph):
                check_trusted(tool, folder, self.settings.trust)
            for name in sorted(models_of(graph, self.settings.model)):
                self.priced_model(name)
            self._teams[id(graph)] = Team(graph, application(graph), content_hash(graph), folder)
        return self._teams[id(graph)].folder

    def forget(self, graph: AgentGraph) -> None:
        """Let go of what `prepare` made of a graph that plays no more."""
        self._teams.pop(id(graph), None)

    async def play(
        self,
        graph: AgentGraph,
        text: str,
        *,
        key: str,
        purse: Ledger | None = None,
        task_id: str | None = None,
        seed: int | None = None,
        sample_index: int = 0,
        listener: Listener | None = None,
        move: Move | None = None,
    ) -> Played:
        """One play of `graph` at the task `text`; a failure is a result, not an exception.

        Args:
            key: names the play within the run, the same on every attempt.
            purse: pays for it; `None` takes the run's ledger.
            task_id: recorded on the episode.
            listener: told what happens as it happens.
            move: it is one move of a game, whose span is open: the episode is the game's.

        Raises:
            InputError: as `prepare`.
        """
        self.prepare(graph)
        team, purse = self._teams[id(graph)], purse or self.ledger
        play = Play(
            graph=graph,
            task=text,
            key=key,
            calls=self._calls,
            ledger=purse.child(key),
            folder=team.folder,
            default_model=self.settings.model,
            seed=seed,
            sample_index=sample_index,
            task_id=task_id,
            deadline_seconds=self.settings.call_seconds,
            node_seconds=self.settings.node_seconds,
            allowances=self.settings.allowances,
            listener=listener,
        )
        if move is not None:
            play.news, play.memories = move.news, move.memories
        with self._playing:
            async with self._slots:
                return await self._played(team, play, purse, alone=move is None)

    def noted(self, name: str, measure: Callable[[], Noted]) -> Noted:
        """What `measure` finds, or what it found when the run was recorded.

        Args:
            name: unique within the run.
            measure: a clock, a look into the store, or whatever else a second run would find otherwise; JSON can say
                what it finds.
        """
        return measure() if self.recording is None else self.recording.noted(name, measure)

    def count(self, purse: Ledger, spent: Spent) -> None:
        """Add calls to what a purse's calls came to."""
        self.tallies.setdefault(purse.path, Spent()).merge(spent)

    def refuse_uncapped(self, option: str) -> None:
        """Refuse to go on without a cap when a model that was opened costs money outside this machine.

        Raises:
            InputError: naming the `option` that sets the cap.
        """
        paid = sorted(name for name, model in self._models.items() if model.external)
        if paid and self.ledger.cap is None:
            raise InputError(f"model {paid[0]!r} costs money outside this machine; say how much with {option} USD")

    def score(self, task: Task, played: Played) -> float:
        """The score of a played task, kept as a fact beside its trace; a failed play scores 0."""
        value = self.score_text(task, played.reply) if played.error is None else 0.0
        source = f"scorer:{task.scorer}"
        self.store.post(Fact(run_id=self.run_id, span_id=played.span_id, name="score", value=value, source=source))
        return value

    def score_text(self, task: Task, reply: str | None) -> float:
        """The score of a reply to `task`, in [0, 1]; no reply scores 0."""
        return score(task, reply, folder=self.folder, trust=self.settings.trust)

    async def _played(self, team: Team, play: Play, purse: Ledger, *, alone: bool) -> Played:
        reply: str | None = None
        error: BaseException | None = None
        started = time.perf_counter()
        title = f"{names.INVOKE_WORKFLOW} {play.graph.name}"
        described = self._described(team)
        if alone:
            described |= {names.EPISODE_ID: play.key, names.TASK_ID: play.task_id, names.SEAT: 0}
        with self.tracer.span(title, attributes=described) as span:
            span.content(names.TASK_INPUT, play.task)
            span.content(names.TEAM, team.document)
            if alone:
                self.announce(play.key, play.task_id, play.graph.name)
            try:
                reply = await self._reply(team, play)
            except (EpisodeError, BudgetError, Paused) as failure:
                error = failure
                span.fail(failure)
                reply = None if isinstance(failure, Paused) else play.best_words()
            except asyncio.CancelledError:
                reply = play.best_words()
                raise
            finally:
                if reply is not None:
                    span.content(names.OUTPUT, reply)
                span.set(names.LIST_NANO, play.spent.list_nano)
        if alone:
            self.ended(error)
        self.count(purse, play.spent)
        key = play.key
        return Played(
            episode_id=key,
            span_id=span.id,
            reply=reply,
            error=error,
            partial=error is not None and reply is not None,
            faults=tuple(play.faults),
            spoke=frozenset(play.said),
            spent=play.spent,
            paid_nano=play.ledger.spent,
            latency_seconds=self.noted(f"seconds of {key}", lambda: time.perf_counter() - started),
        )

    async def _reply(self, team: Team, play: Play) -> str:
        left = self._deadline.left_seconds
        if left is None:
            return await play_through(team.application, play)
        late = f"the run took longer than {self._deadline.seconds:g} s; go on with it, or give it more --run-seconds"
        async with within(left, late):
            return await play_through(team.application, play)

    def _check_people(self, graph: AgentGraph) -> None:
        asking = askers_of(graph)
        if asking and not self.asks:
            raise InputError(
                f"node {asking[0]!r} of team {graph.name!r} asks a person, and nobody is there to answer; "
                f"play it with `orchestra run`, or give the node another tool"
            )

    def _described(self, team: Team) -> dict[str, Attribute | None]:
        return {
            names.OPERATION_NAME: names.INVOKE_WORKFLOW,
            names.WORKFLOW_NAME: team.graph.name,
            names.AGENT_NAME: team.graph.name,
            names.RUN_ID: self.run_id,
            names.TEAM_HASH: team.hash,
        }

    def announce(self, episode_id: str, task_id: str | None, team: str | None) -> Fact:
        """Write down that an episode begins, so that one that is killed is still one."""
        begun = {"episode_id": episode_id, "task_id": task_id, "team": team}
        fact = Fact(run_id=self.run_id, span_id=None, name=names.FACT_START, value=begun, source="orchestra")
        self.store.post(fact)
        return fact

    def ended(self, error: BaseException | None) -> None:
        """Count an episode among those that say how the run ended, by what ended it; `None` means nothing did."""
        self._ends[state_after(error)] += 1
