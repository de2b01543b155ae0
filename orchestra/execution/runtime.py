"""The runtime: everything a run holds open while teams play.

One `Runtime` is one run: one run id, one ledger, one journal, one trace. It plays any number of teams at any number
of tasks at once, up to `Settings.concurrency`. Opening it with the id of an earlier run resumes that run: what was
paid for is reused, what was in flight is booked as unknown and asked again.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from graphs import AgentGraph, AgentNode, RouterNode, Tool, ToolNode, check
from graphs.documents import document
from graphs.identity import content_hash
from orchestra.agents.tools import ToolPool, check_trusted
from orchestra.benchmarks.scorers import score
from orchestra.benchmarks.tasks import Task
from orchestra.errors import BudgetError, EpisodeError, InputError, UnknownPrice
from orchestra.execution.calls import Calls
from orchestra.execution.langgraph import Application, application, play_through
from orchestra.execution.play import Play, Spent
from orchestra.execution.settings import STATE_PRICE, Settings, opened_model
from orchestra.ledger import Entry, Ledger
from orchestra.models.protocol import Model
from orchestra.traces import names
from orchestra.traces.journal import Journal
from orchestra.traces.records import Attribute
from orchestra.traces.spans import Span, Tracer
from orchestra.traces.store import Fact, LedgerEntry, RunRecord, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """How one play ended."""

    episode_id: str
    span_id: str
    reply: str | None
    """`None` when it failed."""
    error: BaseException | None
    faults: tuple[str, ...]
    """Tools that failed without ending the play."""
    spoke: frozenset[str]
    """Nodes that had something to say."""
    spent: Spent
    paid_nano: int
    """What the ledger paid, in nano-USD, earlier attempts of the run included."""
    latency_seconds: float


@dataclass(frozen=True, slots=True)
class _Team:
    """A graph that was checked, ready to be played any number of times."""

    graph: AgentGraph
    application: Application
    hash: str
    folder: Path | None
    document: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "document", document(self.graph))


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
    asked_before: frozenset[str] = frozenset()
    """Hashes of the requests of earlier attempts: their replies were paid for by this run, not borrowed."""
    _models: dict[str, Model] = field(default_factory=dict)
    _teams: dict[int, "_Team"] = field(default_factory=dict)
    _slots: asyncio.Semaphore = field(init=False)
    _calls: Calls = field(init=False)

    def __post_init__(self) -> None:
        self._slots = asyncio.Semaphore(self.settings.concurrency)
        self._calls = Calls(
            store=self.store,
            journal=self.journal,
            tracer=self.tracer,
            pool=self.pool,
            open_model=self.model,
            use_cache=self.settings.use_cache,
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
        inputs: Mapping[str, object] | None = None,
        models: Mapping[str, Model] | None = None,
        resume: str | None = None,
    ) -> AsyncIterator["Runtime"]:
        """A run, closed at the end whatever happens.

        Args:
            command: what the run does: `run`, `evaluate`, `compose`.
            folder: where tools' code is looked up first.
            folders: further folders whose code may be called.
            cap_nano: most it may spend, in nano-USD; `None` sets no cap.
            inputs: what the run depends on; a resumed run must be given the same.
            models: open models by name, used before any is looked up; they are closed with the run.
            resume: id of the run to go on with; `None` starts one.

        Raises:
            InputError: there is no such run, or it was given other inputs.
        """
        inputs = dict(inputs or {})
        if resume is None:
            run_id = new_run_id()
        else:
            run_id = store.find_run(resume)
            _check_same(store, run_id, command, inputs)
        await store.write(RunRecord(run_id=run_id, command=command, attributes=inputs))
        ledger = _ledger(store, run_id, cap_nano)
        journal = Journal(store, run_id)
        tracer = Tracer(store, run_id)
        async with ToolPool(
            (folder, *folders) if folder else tuple(folders), trust=settings.trust, workers=settings.tool_workers
        ) as pool:
            runtime = cls(
                run_id=run_id,
                settings=settings,
                store=store,
                ledger=ledger,
                tracer=tracer,
                journal=journal,
                pool=pool,
                folder=folder,
                asked_before=frozenset(entry.request_hash for entry in store.journal(run_id) if entry.request_hash),
                _models=dict(models or {}),
            )
            try:
                with tracer.span(names.ATTEMPT, attributes={names.RUN_ID: run_id, names.COMMAND: command}):
                    yield runtime
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
            self._models[name] = opened_model(name, self.settings)
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
            for tool in tools_of(graph):
                check_trusted(tool, folder, self.settings.trust)
            for name in sorted(models_of(graph, self.settings.model)):
                self.priced_model(name)
            self._teams[id(graph)] = _Team(graph, application(graph), content_hash(graph), folder)
        return self._teams[id(graph)].folder

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
    ) -> Played:
        """One play of `graph` at the task `text`; a failure is a result, not an exception.

        Args:
            key: names the play within the run, the same on every attempt.
            purse: pays for it; `None` takes the run's ledger.
            task_id: recorded on the episode.

        Raises:
            InputError: as `prepare`.
        """
        self.prepare(graph)
        async with self._slots:
            return await self._play(graph, text, key, purse or self.ledger, task_id, seed, sample_index)

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

    async def _play(
        self,
        graph: AgentGraph,
        text: str,
        key: str,
        purse: Ledger,
        task_id: str | None,
        seed: int | None,
        sample_index: int,
    ) -> Played:
        team = self._teams[id(graph)]
        own = purse.child(key)
        play = Play(
            graph=graph,
            task=text,
            key=key,
            calls=self._calls,
            ledger=own,
            folder=team.folder,
            default_model=self.settings.model,
            seed=seed,
            sample_index=sample_index,
            deadline_seconds=self.settings.call_seconds,
        )
        reply: str | None = None
        error: BaseException | None = None
        started = time.perf_counter()
        with self.tracer.span(
            f"{names.INVOKE_WORKFLOW} {graph.name}", attributes=self._described(team, key, task_id)
        ) as span:
            self._announce(span, team, key, text, task_id)
            try:
                reply = await play_through(team.application, play)
                span.content(names.OUTPUT, reply)
            except (EpisodeError, BudgetError, TimeoutError) as failure:
                # A time-out here waited too long for calls in flight to give back what they reserved.
                error = BudgetError(str(failure)) if isinstance(failure, TimeoutError) else failure
                span.fail(error)
                reply = play.said.get(graph.output)
            span.set(names.LIST_NANO, play.spent.list_nano)
        self.count(purse, play.spent)
        return Played(
            episode_id=key,
            span_id=span.id,
            reply=reply,
            error=error,
            faults=tuple(play.faults),
            spoke=frozenset(play.said),
            spent=play.spent,
            paid_nano=own.spent,
            latency_seconds=time.perf_counter() - started,
        )

    def _described(self, team: "_Team", key: str, task_id: str | None) -> dict[str, Attribute | None]:
        return {
            names.OPERATION_NAME: names.INVOKE_WORKFLOW,
            names.AGENT_NAME: team.graph.name,
            names.RUN_ID: self.run_id,
            names.EPISODE_ID: key,
            names.TASK_ID: task_id,
            names.TEAM_HASH: team.hash,
            names.SEAT: 0,
        }

    def _announce(self, span: Span, team: "_Team", key: str, text: str, task_id: str | None) -> None:
        """Write down that a play begins, so that one that is killed is still an episode."""
        span.content(names.TASK_INPUT, text)
        span.content(names.TEAM, team.document)
        begun = {"episode_id": key, "task_id": task_id, "team": team.graph.name}
        self.store.post(Fact(run_id=self.run_id, span_id=None, name=names.FACT_START, value=begun, source="orchestra"))


def tools_of(graph: AgentGraph) -> tuple[Tool, ...]:
    """Every function that `graph` may call."""
    found: list[Tool] = []
    for node in graph.nodes:
        if isinstance(node, ToolNode):
            found.append(node.tool)
        elif isinstance(node, AgentNode):
            found.extend(node.tools)
        elif isinstance(node, RouterNode) and node.call is not None:
            found.append(node.call)
    return tuple(found)


def models_of(graph: AgentGraph, default: str) -> frozenset[str]:
    """Names of the models that `graph` may ask, where `default` stands for those it leaves open."""
    return frozenset(
        node.model or graph.model or default
        for node in graph.nodes
        if isinstance(node, AgentNode) or (isinstance(node, RouterNode) and node.call is None)
    )


def new_run_id() -> str:
    """An id that sorts by time and can be typed, such as `20260801-093012-3f9c`."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _check_same(store: Store, run_id: str, command: str, inputs: Mapping[str, object]) -> None:
    record = store.run(run_id)
    assert record is not None, "the id comes from the store"
    if record.command != command:
        raise InputError(f"run {run_id!r} is a {record.command!r}, not a {command!r}; resume it with that command")
    before = record.attributes
    changed = sorted(name for name in {*inputs, *before} if inputs.get(name) != before.get(name))
    if changed:
        raise InputError(
            f"run {run_id!r} was started with other {', '.join(changed)}; give the same, or start a new run"
        )


def _ledger(store: Store, run_id: str, cap_nano: int | None) -> Ledger:
    """The run's ledger, rebuilt from what earlier attempts wrote; what was in flight is booked in full."""
    ledger = Ledger(cap_nano, name="run", sink=lambda entry: _post(store, run_id, entry))
    ledger.replay(record.entry for record in store.ledger_entries(run_id))
    return ledger


def _post(store: Store, run_id: str, entry: Entry) -> None:
    store.post(LedgerEntry(run_id=run_id, entry=entry))
