"""The loop of a training run: episodes, credit, update, publication; in every process of the job."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from orchestra.errors import BudgetError, CannotAfford, InputError
from orchestra.ledger import nano, usd
from orchestra.traces.episode import Episode, Message
from training.adapters import Lineage, LiveWeights, NotFinite, Saved, publish, reloaded, save
from training.losses.figures import COUNT
from training.recipes import Recipe
from training.samples.selection import first_of
from training.seams import Base, EpisodeSource, Publisher
from training.trainers.books import Compute
from training.trainers.figures import rewards, spoken, worth
from training.trainers.keeping import Progress, Shelf, credit_from_json, credit_to_json, random_restored
from training.trainers.study import Lesson, imitated, lesson, teaching
from training.trainers.tokens import Tokens
from training.trainers.update import Clock, Learner

Figures = Mapping[str, Any]
Teller = Callable[[Figures], None]
"""Told the figures of each step as it ends."""

PROBE_TEXT = "State the rules of the game in one sentence, and then your next move."
"""What publishers are asked about before any episode has been learnt from."""
FIRST_ONLY = ("mismatch", "ratio")
"""Figures that mean what they say before anything has been changed: those of a step's first update are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What came of a run."""

    run_id: str
    folder: Path
    adapters: Mapping[str, Saved]
    """By agent, as they are at the end."""
    warmed: Mapping[str, Path]
    """By agent, folders of the adapters after the warm-up; empty without one."""
    curve: Sequence[Figures]
    """Figures of every step, those before a resumption too."""
    spent_nano: int
    skipped: Mapping[str, int]
    """Turns, episodes and steps that taught nothing, and updates that taught an agent nothing, by reason."""
    ran_out: str | None = None
    """Why the money did not suffice; `None` means all steps were taken."""


@dataclass(slots=True, kw_only=True, eq=False)
class Loop:
    """One run; what is `None` is the first process's alone."""

    recipe: Recipe
    run_id: str
    shelf: Shelf
    learner: Learner
    base: Base
    source: EpisodeSource | None = None
    demonstrations: EpisodeSource | None = None
    publisher: Publisher | None = None
    compute: Compute | None = None
    lineages: Mapping[str, Lineage] = field(default_factory=dict)
    """Agent -> where its adapter comes from but for this run's episodes and cost."""
    progress: Progress = field(default_factory=Progress)
    served: dict[str, str] = field(default_factory=dict)
    """Agent -> `name@version` now in force."""
    tokens: Tokens | None = None
    """Made when the first episodes are there."""

    async def run(self, teller: Teller) -> Trained:
        """Take every step that is left.

        Raises:
            NotFinite: a loss was not a number; the step before is saved.
            training.adapters.DiskFull: there was no room for a checkpoint.
            training.adapters.NotAsSaved: a file of an adapter does not hold what was trained.
            InputError: there is nothing to learn from.
        """
        self._resume()
        ran_out: str | None = None
        try:
            await self._publish()
            while self.progress.warmed < self.recipe.warmup.steps:
                await self._step("warm-up", teller)
            while self.progress.step < self.recipe.steps.count:
                await self._step("train", teller)
        except BudgetError as error:
            ran_out = str(error)
        self._save_state()
        return self._trained(ran_out)

    async def _step(self, phase: Literal["warm-up", "train"], teller: Teller) -> None:
        clock = Clock()
        number = (self.progress.warmed if phase == "warm-up" else self.progress.step) + 1
        seed = seed_of(self.recipe.seed, phase, number)
        episodes = await self._episodes(phase, seed)
        clock.lap("play")
        with self._paid(f"{phase} step {number}"):
            if self.compute is not None:
                await self.compute.kept()
            figures, taught = self._learn(phase, episodes, seed, clock)
            figures |= await self._publish_after(phase, number)
            clock.lap("publish")
        self._count(phase, taught)
        figures = self._told(phase, number, figures, episodes, taught, clock)
        if self.learner.processes.is_first:
            self.shelf.note(figures)
        if number % self.recipe.checkpoints.every == 0 or number in (self.recipe.steps.count, self.recipe.warmup.steps):
            self._save_state()
        teller(figures)

    async def _episodes(self, phase: str, seed: int) -> Sequence[Episode]:
        """A step's episodes, the same in every process; an error of the first ends the others too."""
        found: Sequence[Episode] = ()
        error: Exception | None = None
        if self.learner.processes.is_first:
            source = self.demonstrations if phase == "warm-up" else self.source
            count = self.recipe.warmup.episodes if phase == "warm-up" else self.recipe.steps.episodes
            assert source is not None, "the first process has the sources"
            try:
                found = await source.episodes(dict(self.served), count, seed)
                if not found:
                    raise InputError(
                        "the source has no episodes that match; loosen its filters (`orchestra traces list` shows what "
                        "there is), or play some first"
                    )
                if phase == "train":  # a warm-up makes its own ids
                    self._tokens().check(found)
            except Exception as failure:
                error = failure
        is_short = isinstance(error, BudgetError)
        found, told, is_short = self.learner.processes.told((found, None if error is None else str(error), is_short))
        if error is not None:
            raise error
        if told is not None:
            raise CannotAfford(told) if is_short else InputError(f"the first process could not go on: {told}")
        return found

    def _tokens(self) -> Tokens:
        if self.tokens is None:
            network = self.learner.adapted
            self.tokens = Tokens(self.base, network.base, network.vocabulary, first_of(teaching(self.recipe)))
        return self.tokens

    def _learn(
        self, phase: str, episodes: Sequence[Episode], seed: int, clock: Clock
    ) -> tuple[dict[str, float], Lesson]:
        network = self.learner.adapted
        if phase == "warm-up":
            written = self.learner.processes.told(self._demonstrated(episodes))
            taught = imitated(written, self.recipe, packs=network.packs, seed=seed)
        else:
            state = credit_from_json(self.progress.credit)
            taught = lesson(episodes, self.recipe, packs=network.packs, state=state, seed=seed)
            self.progress.values |= worth(episodes, first_of(teaching(self.recipe)), self.served)
        self._probe_with(taught)
        clock.lap("credit")
        if not any(study.learnt for study in taught.studies):
            clock.lap("update")
            return {"skipped": 1.0}, taught
        kept = self._state() if len(taught.studies) * self.recipe.steps.epochs > 1 else None
        try:
            figures = self._updates(phase, taught)
        except NotFinite as error:
            # It changed nothing, but updates of this step before it did: what is saved is the step before.
            if kept is not None:
                self._put_back(*kept)
            self._save_state()
            number = 1 + (self.progress.warmed if phase == "warm-up" else self.progress.step)
            raise NotFinite(
                f"{phase} step {number}: {error}; the step before it is saved in {str(self.shelf.folder)!r}; go on "
                "with a lower learning rate, another number format, or without this step's episodes"
            ) from error
        clock.lap("update")
        return figures, taught

    def _updates(self, phase: str, taught: Lesson) -> dict[str, float]:
        loss, options, rate = self.recipe.loss.name, dict(self.recipe.loss.options), None
        if phase == "warm-up":
            loss, options, rate = "imitation", {}, self.recipe.warmup.learning_rate
        studies = [study for study in taught.studies if study.learnt]
        measure_kl = phase == "train" and self._measures_kl()
        befores = [self.learner.before(study, options, measure_kl=measure_kl) for study in studies]
        found = [
            self.learner.update(study, loss, options, rate=rate, before=before)
            for _ in range(self.recipe.steps.epochs if phase == "train" else 1)
            for study, before in zip(studies, befores, strict=True)
        ]
        means = {name: sum(each.get(name, 0.0) for each in found) / len(found) for name in found[-1]}
        means[COUNT] = sum(each.get(COUNT, 0.0) for each in found)  # of the step, not of an update
        if phase == "warm-up":  # nobody sampled demonstrations
            return {name: value for name, value in means.items() if not name.startswith(FIRST_ONLY)}
        return means | {name: value for name, value in found[0].items() if name.startswith(FIRST_ONLY)}

    def _measures_kl(self) -> bool:
        """Whether this step is one of those that say how far the agents are from the base."""
        every = self.recipe.steps.kl_every
        return every > 0 and self.progress.step % every == 0

    def _demonstrated(self, episodes: Sequence[Episode]) -> Any:
        if not self.learner.processes.is_first:
            return None
        from training.trainers.demonstrations import demonstrations

        how = self.recipe.steps
        return demonstrations(episodes, self.base, self.recipe.agents, how.longest_tokens or how.row_tokens)

    def _probe_with(self, taught: Lesson) -> None:
        """Ask publishers about a real transcript as soon as there is one."""
        if not self.progress.seen and taught.strands:
            self.progress.probe = [int(token) for token in taught.strands[0].token_ids[-256:]]

    async def _publish_after(self, phase: str, number: int) -> dict[str, float]:
        last_of_warmup = phase == "warm-up" and number == self.recipe.warmup.steps
        if phase == "warm-up" and not last_of_warmup:
            return {}
        gap = await self._publish()
        if last_of_warmup:
            for agent in self.learner.adapted.agents:
                weights = self._weights(agent)
                if self.learner.processes.is_first:
                    self._saved(weights, self.shelf.folder / "adapters" / weights.served)
                    self.progress.warm_adapters[agent] = weights.served
            self.learner.restart()
        return {} if gap is None else {"publish gap": gap}

    async def _publish(self) -> float | None:
        """Bring every agent's weights to what samples with them; the largest gap of a probe in nats."""
        gaps = []
        plain = self.learner.adapted.logprobs(None, self.progress.probe)
        for agent in self.learner.adapted.agents:
            weights = self._weights(agent)
            before = self.served.get(agent)
            if self.publisher is None or before == weights.served:
                continue
            gaps.append(
                await publish(self.publisher, weights, base=plain, tolerance_nats=self.recipe.publish.tolerance_nats)
            )
            self.served[agent] = weights.served
            if before:
                await self.publisher.withdraw(before)
        return max(gaps, default=None)

    def _weights(self, agent: str) -> LiveWeights:
        return self.learner.adapted.weights(agent, self.progress.probe)

    @contextmanager
    def _paid(self, what: str) -> Iterator[None]:
        """Pay for the machine's time; where the first process cannot, all stop here together.

        Raises:
            CannotAfford: there is not enough left for a step like the last one.
        """
        booked: Any = None
        short: str | None = None
        if self.compute is not None:
            try:
                booked = self.compute.reserve(what)
            except CannotAfford as error:
                short = str(error)
        short = self.learner.processes.told(short)
        if short is not None:
            raise CannotAfford(short)
        began = time.perf_counter()
        try:
            yield
        finally:
            if self.compute is not None:
                self.compute.pay(booked, what, time.perf_counter() - began)

    def _count(self, phase: str, taught: Lesson) -> None:
        progress = self.progress
        if phase == "warm-up":
            progress.warmed += 1
        else:
            progress.step += 1
            ids = (strand.episode for strand in taught.strands)
            progress.seen = list(dict.fromkeys((*progress.seen, *ids)))  # recorded ones are drawn again
            progress.credit = credit_to_json(taught.state)
        for reason, count in taught.skipped.items():
            progress.skipped[reason] = progress.skipped.get(reason, 0) + count

    def _told(
        self,
        phase: str,
        number: int,
        figures: Mapping[str, float],
        episodes: Sequence[Episode],
        taught: Lesson,
        clock: Clock,
    ) -> dict[str, Any]:
        sampled = sum(strand.trained for strand in taught.strands)
        passes = self.recipe.steps.epochs if phase == "train" else 1
        spent = clock.spent
        return {
            "phase": phase,
            "step": number,
            **_named(figures),
            "reward": rewards(episodes),
            **spoken(episodes, taught.strands),
            "episodes": len(episodes),
            "strands": len(taught.strands),
            "read share": taught.read_tokens / max(1, taught.strand_tokens),
            "tokens per second": {
                "play": sampled / max(spent.get("play", 0.0), 1e-9),
                "credit": taught.strand_tokens / max(spent.get("credit", 0.0), 1e-9),
                "update": taught.strand_tokens * passes / max(spent.get("update", 0.0), 1e-9),
            },
            "seconds": dict(spent),
            "skipped so far": dict(self.progress.skipped),
            "cash_usd": None if self.compute is None else float(usd(self.compute.ledger.spent)),
            "adapters": dict(self.served),
        }

    def _resume(self) -> None:
        processes = self.learner.processes
        kept = processes.told(self.shelf.latest() if processes.is_first else None)
        if kept is not None:
            self.progress = kept.progress
            self._put_back(kept.adapters, kept.optimiser, self.progress.updates)
            random_restored(kept.random)
        elif processes.is_first:
            said = (Message(role="user", content=PROBE_TEXT),)
            self.progress.probe = list(self.base.prompt_ids(said, ()))
        self.progress.probe = processes.told(self.progress.probe)
        if processes.is_first:
            self.shelf.cut(self.progress)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
        """Adapters, optimiser and updates, copied; where they are sharded, every process must ask."""
        network = self.learner.adapted
        adapters = {
            f"{agent}/{name}": tensor for agent in network.agents for name, tensor in network.tensors(agent).items()
        }
        return adapters, self.learner.state(), self.learner.updates

    def _put_back(self, adapters: Mapping[str, Tensor], optimiser: Mapping[str, Tensor], updates: int) -> None:
        for agent in self.learner.adapted.agents:
            prefix = f"{agent}/"
            own = {name[len(prefix) :]: t for name, t in adapters.items() if name.startswith(prefix)}
            self.learner.adapted.fill(agent, own)
        self.learner.resume(optimiser, updates)

    def _save_state(self) -> None:
        adapters, optimiser, self.progress.updates = self._state()
        if self.learner.processes.is_first:
            self.shelf.save(self.progress, adapters, optimiser)

    def _saved(self, weights: LiveWeights, folder: Path) -> Saved:
        value, before = self.progress.values.get(weights.name), self.lineages.get(weights.name, Lineage())
        spent, agents = 0 if self.compute is None else self.compute.ledger.spent, len(self.learner.adapted.agents)
        price = nano(before.price_usd or 0) - (-spent // agents)
        lineage = replace(
            before,
            episodes=(*before.episodes, *self.progress.seen),
            episode_count=before.episode_count + len(self.progress.seen),
            value=None if value is None else {"what": "reward at its seats in its last step of training", **value},
            price_usd=None if self.compute is None else str(usd(price)),
        )
        return save(weights, folder, lineage)

    def _trained(self, ran_out: str | None) -> Trained:
        adapters = {}
        for agent in self.learner.adapted.agents:
            weights = self._weights(agent)
            if self.learner.processes.is_first:
                adapters[agent] = self._saved(weights, self.shelf.folder / "adapters" / weights.served)
            reloaded(adapters.get(agent), weights, self.learner.adapted)
        home = self.shelf.folder / "adapters"
        return Trained(
            run_id=self.run_id,
            folder=self.shelf.folder,
            adapters=adapters,
            warmed={agent: home / served for agent, served in self.progress.warm_adapters.items()},
            curve=self.shelf.lines() if self.learner.processes.is_first else (),
            spent_nano=0 if self.compute is None else self.compute.ledger.spent,
            skipped=dict(self.progress.skipped),
            ran_out=ran_out,
        )


def seed_of(seed: int, phase: str, number: int) -> int:
    """Seed of everything that is drawn in a step; the same when it is taken again."""
    return int.from_bytes(hashlib.sha256(f"{seed} {phase} {number}".encode()).digest()[:6])


def _named(figures: Mapping[str, float]) -> dict[str, float]:
    renamed = {"loss total": "loss", "clipped": "clip fraction"}
    return {renamed.get(name, name): value for name, value in figures.items()}
