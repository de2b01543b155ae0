"""A training run from beginning to end: play, credit, update, publish, and again.

Always true: what a step did is in the run's folder before the next begins, as often as the recipe says; a run that was
killed goes on from its last checkpoint with the same optimiser, random state, money and place in its sources, and
figures of steps that are taken again are written anew.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from orchestra.errors import InputError
from orchestra.ledger import Ledger, nano
from orchestra.plugins import load
from orchestra.traces import names
from orchestra.traces.records import Fact, LedgerEntry, RunRecord
from orchestra.traces.store import Store, StoreFailed
from training.adapters import Adapted, Lineage, Shape, adapted
from training.adapters.files import lineage
from training.adapters.files import read as read_adapter
from training.advantages import ADVANTAGES
from training.recipes import Agent, Learns, Recipe, Source, cautions
from training.seams import BASES, PUBLISHERS, Base, EpisodeSource, Publisher
from training.trainers.books import Compute
from training.trainers.demonstrations import texts
from training.trainers.gathering import called, opened
from training.trainers.keeping import Shelf
from training.trainers.loop import Loop, Teller, Trained
from training.trainers.making import made
from training.trainers.processes import Processes, joined
from training.trainers.study import needs_credit
from training.trainers.update import Learner

COMMAND = "train"
"""What the store calls a training run."""
BASE = "base_sha256"
"""Attribute of a run: the hash of the weights under its adapters, as their cards quote it."""
MAKING_EPISODES = 64
"""Demonstrations that the tokenizer of a made model is learnt from."""


async def train(
    recipe: Recipe,
    *,
    store: str | Path | None = None,
    folder: Path | None = None,
    resume: str | None = None,
    max_cost_usd: Decimal | str | None = None,
    traces: Mapping[str, Any] | None = None,
    on_run: Callable[[str], None] = lambda run_id: None,
    on_caution: Callable[[str], None] = lambda caution: None,
    teller: Teller = lambda figures: None,
    source: EpisodeSource | None = None,
    demonstrations: EpisodeSource | None = None,
    publisher: Publisher | None = None,
) -> Trained | None:
    """Train the agents of `recipe`; `None` in every process but the first.

    Args:
        recipe: what to do.
        store: file or URL of the trace store; `None` takes the user's.
        folder: where runs and their adapters are kept; `None` takes the user's data folder.
        resume: id of an interrupted run to go on with.
        max_cost_usd: most that calls and machine time may cost together; `None` sets no cap.
        traces: learn from recorded episodes instead of the recipe's sources, and play nothing: settings of the source
            `store`. A single agent that the recipe says nothing of learns from every turn of them.
        on_run: told the run's id when it begins.
        on_caution: told what should be known before it begins, though it is no error, a sentence at a time.
        teller: told the figures of each step.
        source: in place of the recipe's sources.
        demonstrations: in place of the source of the recipe's warm-up.
        publisher: in place of the recipe's.

    Raises:
        InputError: something is wrong or missing; nothing was spent.
        training.adapters.NotFinite: a loss was not a number; the step before it is saved.
        training.adapters.DiskFull: there was no room for a checkpoint; earlier ones stay.
        training.adapters.NotAsSaved: what was saved in the end is not what was trained; the last checkpoint stays.
    """
    if traces is not None:
        recipe = _from_traces(recipe, traces)
    processes, device = joined(recipe.base.device, recipe.base.sharding)
    try:
        if not processes.is_first:
            await _follow(recipe, processes, device)
            return None
        for caution in cautions(recipe):
            on_caution(caution)
        with Store.open(store) as kept:
            given = _Given(recipe, store, _folder(folder), resume, max_cost_usd, source, demonstrations, publisher)
            async with _begun(given, kept, on_run, processes, device) as loop:
                done = await loop.run(teller)
                kept.post(_end(done.run_id, "ran-out" if done.ran_out else "finished", done.ran_out))
                return done
    finally:
        processes.close()


@dataclass(frozen=True, slots=True)
class _Given:
    """What `train` was asked for."""

    recipe: Recipe
    store: str | Path | None
    root: Path
    resume: str | None
    max_cost_usd: Decimal | str | None
    source: EpisodeSource | None
    demonstrations: EpisodeSource | None
    publisher: Publisher | None


@contextlib.asynccontextmanager
async def _begun(
    asked: _Given, store: Store, on_run: Callable[[str], None], processes: Processes, device: str
) -> AsyncIterator[Loop]:
    """Everything a run needs, opened, and closed at its end."""
    recipe, root = asked.recipe, asked.root
    run_id, before = _run(store, asked.resume, recipe)
    with store.hold(run_id):
        ledger = _ledger(store, run_id, asked.max_cost_usd)
        shelf = Shelf(root / run_id, recipe.checkpoints.keep)
        given: dict[str, Any] = {
            "store": asked.store,  # as it was given: an open store tells its URL without the password
            "ledger": ledger,
            "run_id": run_id,
            "machine_usd_per_hour": recipe.machine_usd_per_hour,
            "by_task": needs_credit(recipe) and ADVANTAGES[recipe.credit.estimator].by_task,
        }
        async with contextlib.AsyncExitStack() as stack:
            warm = asked.demonstrations or _warm_source(recipe, given, stack)
            base_name, base = await _base(recipe, root, warm)
            _check_base(run_id, before, base_name, base.sha256)
            stack.enter_context(_ended(store, run_id))
            attributes = {**_inputs(recipe), BASE: base.sha256}
            await store.write(RunRecord(run_id=run_id, command=COMMAND, attributes=attributes))
            on_run(run_id)
            given["base"] = base_name
            given["agents"] = tuple(recipe.agents)
            if recipe.publish.name == "local":  # with the same settings one engine plays and is published to
                given["engine"] = {
                    key: value for key, value in recipe.publish.settings.items() if key != "tolerance_nats"
                }
            played = asked.source or opened(recipe.sources, given)  # what is wrong with it is told before the work
            stack.push_async_callback(played.close)
            processes.told((base_name, str(base.folder), base.sha256, shelf))
            published = asked.publisher or _publisher(recipe)
            if published is not None:
                stack.push_async_callback(published.close)
            network = network_of(recipe, base_name, base, processes, device)
            yield Loop(
                recipe=recipe,
                run_id=run_id,
                shelf=shelf,
                learner=_learner(recipe, network, processes),
                base=base,
                source=played,
                demonstrations=warm,
                publisher=published,
                compute=Compute(ledger, recipe.machine_usd_per_hour, commit=store.flush),
                lineages={name: _lineage(agent, base.sha256, recipe, run_id) for name, agent in recipe.agents.items()},
            )
            await store.flush()


@contextlib.contextmanager
def _ended(store: Store, run_id: str) -> Iterator[None]:
    """Write down what ended a run before its time."""
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(StoreFailed):  # the error itself is told
            is_cancelled = isinstance(error, asyncio.CancelledError | KeyboardInterrupt | GeneratorExit)
            state = "cancelled" if is_cancelled else "failed"
            store.post(_end(run_id, state, state if is_cancelled else str(error) or type(error).__name__))
        raise


def _end(run_id: str, state: str, error: str | None) -> Fact:
    return Fact(run_id, None, names.FACT_END, {"state": state, "error": error}, "orchestra")


async def _follow(recipe: Recipe, processes: Processes, device: str) -> None:
    """What every process but the first does: the same updates, on its share of the rows."""
    told: Any = processes.told(None)
    base_name, base_folder, sha256, shelf = told
    base = _Known(Path(base_folder), sha256)
    network = network_of(recipe, base_name, base, processes, device)
    await Loop(
        recipe=recipe,
        run_id="",
        shelf=shelf,
        learner=_learner(recipe, network, processes),
        base=cast(Base, base),
    ).run(lambda figures: None)


@dataclass(frozen=True, slots=True)
class _Known:
    """Base weights as the first process told of them."""

    folder: Path
    sha256: str


def network_of(recipe: Recipe, base_name: str, base: Any, processes: Processes, device: str) -> Adapted:
    """The network of a recipe, with adapters it goes on from put in."""
    shapes = {
        name: Shape(rank=agent.rank, alpha=agent.alpha, targets=agent.targets, initial_b=agent.initial_b)
        for name, agent in recipe.agents.items()
    }
    network = adapted(
        base.folder,
        shapes,
        base=base_name,
        dtype=recipe.base.dtype,
        device=device,
        seed=recipe.seed,
        checkpointing=recipe.base.checkpointing,
    )
    for name, agent in recipe.agents.items():
        if agent.start:
            tensors, _ = read_adapter(Path(agent.start), base.sha256, alpha=agent.alpha)
            network.fill(name, tensors)
    processes.wrap(network)
    return network


def _lineage(agent: Agent, base_sha256: str, recipe: Recipe, run_id: str) -> Lineage:
    """Where an agent's adapter comes from, as this run begins."""
    before = lineage(Path(agent.start)) if agent.start else Lineage()
    return replace(before, base_sha256=base_sha256, recipe=recipe.name, runs=(*before.runs, run_id))


def _learner(recipe: Recipe, network: Adapted, processes: Processes) -> Learner:
    total = recipe.steps.count * recipe.steps.epochs * recipe.steps.updates
    return Learner(network, recipe.optimiser, total, processes)


def _from_traces(recipe: Recipe, traces: Mapping[str, Any]) -> Recipe:
    """The recipe with recorded episodes in place of its sources; nothing samples, so nothing is warmed up or published.

    Raises:
        InputError: one of several agents does not say which turns are its own to learn from.
    """
    agents = dict(recipe.agents)
    silent = [name for name, agent in agents.items() if agent.learns == Learns()]
    if silent and len(agents) > 1:
        raise InputError(
            f"agent{'s' * (len(silent) > 1)} {', '.join(silent)} of {len(agents)}: recorded turns were made by others, "
            f"so say who learns from which with [agents.{silent[0]}.learns] nodes, seats, teams or adapters, such as "
            f'nodes = ["NODE"], or adapters = ["{silent[0]}"] for turns made with its own adapter (on the command line '
            f"--set 'agents.{silent[0]}.learns.nodes=[\"NODE\"]')"
        )
    for name in silent:
        agents[name] = agents[name].model_copy(update={"learns": Learns(every=True)})
    return recipe.model_copy(
        update={
            "agents": agents,
            "sources": (Source(name="store", settings=dict(traces)),),
            "warmup": recipe.warmup.model_copy(update={"steps": 0}),
            "publish": recipe.publish.model_copy(update={"name": ""}),
        }
    )


def _run(store: Store, resume: str | None, recipe: Recipe) -> tuple[str, Mapping[str, object]]:
    """Id of a run, and what it was started with if it was.

    Raises:
        InputError: it is no training run, or was started with another recipe.
    """
    if resume is None:
        return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}", {}
    run_id = store.find_run(resume)
    record = store.run(run_id)
    assert record is not None, "the id comes from the store"
    if record.command != COMMAND:
        raise InputError(f"run {run_id!r} is a {record.command!r}, not a {COMMAND!r}; resume it with that command")
    now, before = _inputs(recipe), dict(record.attributes)
    changed = sorted(name for name in {*now, *before} - {BASE} if now.get(name) != before.get(name))
    if changed:
        raise InputError(
            f"run {run_id!r} was started with other {', '.join(changed)}; give the same recipe and settings, or start "
            "a new run"
        )
    return run_id, before


def _check_base(run_id: str, before: Mapping[str, object], base_name: str, sha256: str) -> None:
    """Refuse to go on over other weights; runs that were started before their hash was kept say nothing of them.

    Raises:
        InputError: naming both hashes.
    """
    known = str(before.get(BASE) or sha256)
    if known != sha256:
        raise InputError(
            f"run {run_id!r} was started over base weights {known[:12]}…, and those of {base_name!r} are now "
            f"{sha256[:12]}…; its adapters would mean something else over them: put the former weights back, "
            "or start a new run"
        )


def _inputs(recipe: Recipe) -> dict[str, object]:
    """What of its recipe a run's curve depends on."""
    document = recipe.model_dump(mode="json")
    for free in ("about", "cites", "checkpoints", "machine_usd_per_hour"):
        document.pop(free)
    document["steps"].pop("kl_every")  # measures, and changes nothing
    return dict(document)


def _ledger(store: Store, run_id: str, max_cost_usd: Decimal | str | None) -> Ledger:
    cap = None if max_cost_usd is None else nano(max_cost_usd)
    ledger = Ledger(cap, name="run", sink=lambda entry: store.post(LedgerEntry(run_id=run_id, entry=entry)))
    ledger.replay(record.entry for record in store.ledger_entries(run_id))
    return ledger


def _folder(folder: Path | None) -> Path:
    if folder is not None:
        return folder.resolve()
    from orchestra.traces.store.opening import data_folder

    return data_folder() / "training"


def _warm_source(recipe: Recipe, given: Mapping[str, Any], stack: contextlib.AsyncExitStack) -> EpisodeSource | None:
    if not recipe.warmup.steps and recipe.base.make is None:
        return None
    source = opened((recipe.warmup.source,), given)
    stack.push_async_callback(source.close)
    return source


async def _base(recipe: Recipe, root: Path, demonstrations: EpisodeSource | None) -> tuple[str, Base]:
    """What the base is opened by, and where it lies; one that is to be made is made."""
    name = recipe.base.model
    if recipe.base.make is not None:
        assert demonstrations is not None, "a made model has demonstrations to learn its tokens from"
        shown = await demonstrations.episodes({}, MAKING_EPISODES, recipe.seed)
        folder = await asyncio.to_thread(made, recipe.base.make, texts(shown), root / "bases", recipe.seed)
        name = f"local/{folder}"
    find = cast(Callable[[str], Base], load(BASES, "local"))
    return name, find(name)


def _publisher(recipe: Recipe) -> Publisher | None:
    if not recipe.publish.name:
        return None
    make = load(PUBLISHERS, recipe.publish.name)
    return cast(Publisher, called(make, f"publisher {recipe.publish.name!r}", recipe.publish.settings))
