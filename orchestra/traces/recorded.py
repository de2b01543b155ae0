"""Recorded episodes as a source for a trainer: the plug-in `store` of `orchestra.episode_sources`.

Whatever a store holds of finished and killed runs is there to be learnt from: own runs, games that other trainings
played, and what was imported from other applications or kept by the proxy. When the source is opened every episode is
folded once without its content and filtered; content is read of those alone that are drawn.

Which episodes are drawn depends on nothing but the seed and what there is to draw from, and a run that asks draws only
from what was recorded before it began. So a training that is killed and resumed draws the same episodes again, and
whatever is recorded meanwhile, its own games included, changes nothing.

Failed episodes are episodes: they are kept as long as token ids of a turn were. Runs of the command `train` hold none;
what a training played is in the run of the command `play` beside it.
"""

import asyncio
import hashlib
import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from orchestra.errors import InputError
from orchestra.traces import names
from orchestra.traces.content import is_digest
from orchestra.traces.episode import Episode
from orchestra.traces.fold import episodes
from orchestra.traces.gathering import gathered, others_traces
from orchestra.traces.recorded_filters import Filters, Look, Sieve, filters_of
from orchestra.traces.records import Fact, RunRecord, SpanRecord
from orchestra.traces.summary import ending
from orchestra.traces.turns import CHATS, operation

if TYPE_CHECKING:
    from orchestra.traces.store import Store

WITHOUT_EPISODES: Final = frozenset({"train"})
"""Commands whose runs hold no episodes."""

_READ_AT_ONCE = 256
"""Episodes whose content is in memory twice while it is folded."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """An episode that may be drawn, and what it is folded from."""

    run_id: str
    key: str
    """Of this episode and no other of the store."""
    task: str
    """Equal for episodes of the same task."""
    span_ids: tuple[str, ...]
    facts: tuple[Fact, ...]
    places: frozenset[tuple[int, str]] | None
    """Seat and node of the transcripts that are given; `None` gives all."""


class RecordedEpisodes:
    """Episodes of a store in an order that a seed draws; made by `recorded_episodes`.

    Args:
        store: open; closed with this.
        entries: what there is to draw from.
        by_task: draw tasks, with all their episodes.
    """

    def __init__(self, store: "Store", entries: Sequence[_Entry], *, by_task: bool = False) -> None:
        self._store, self._entries, self._by_task = store, tuple(entries), by_task

    def __len__(self) -> int:
        return len(self._entries)

    async def episodes(self, adapters: Mapping[str, str], count: int, seed: int) -> Sequence[Episode]:
        """`count` different episodes, or all when there are fewer; the same ones for the same seed.

        Args:
            adapters: ignored; others sampled these episodes.
            count: how many.
            seed: draws them; nothing is remembered from call to call.
        """
        return await asyncio.to_thread(self._read, self._drawn(count, seed))

    async def close(self) -> None:
        """Let go of the store; calling it twice is harmless."""
        self._store.close()

    def _drawn(self, count: int, seed: int) -> list[_Entry]:
        """Those that a hash of the seed puts first: one more in the store moves none of the others."""

        def rank(text: str) -> bytes:
            return hashlib.blake2b(f"{seed}/{text}".encode(), digest_size=8).digest()

        def place(entry: _Entry) -> tuple[bytes, ...]:
            return (rank(entry.task), rank(entry.key)) if self._by_task else (rank(entry.key),)

        return heapq.nsmallest(count, self._entries, key=place)

    def _read(self, drawn: Sequence[_Entry]) -> tuple[Episode, ...]:
        found: list[Episode] = []
        for start in range(0, len(drawn), _READ_AT_ONCE):
            part = drawn[start : start + _READ_AT_ONCE]
            spans = _spans_of(self._store, part)
            content = _content(self._store, (span for of_entry in spans.values() for span in of_entry))
            for entry in part:
                episode = _folded(spans[entry.key], entry.facts, content.__getitem__)
                if episode is not None:
                    found.append(_chosen(episode, entry.places))
        return tuple(found)


def recorded_episodes(
    *,
    store: str | Path | None = None,
    run_id: str | None = None,
    by_task: bool = False,
    runs: Sequence[str] = (),
    teams: Sequence[str] = (),
    nodes: Sequence[str] = (),
    models: Sequence[str] = (),
    min_reward: float | None = None,
    max_reward: float | None = None,
    scored: bool = False,
    since: Any = None,
    until: Any = None,
    demonstrations: bool = False,
) -> RecordedEpisodes:
    """Recorded episodes that match.

    Args:
        store: file or URL of the store; `None` takes the user's.
        run_id: of the run that asks; only what was recorded before it began is drawn from.
        by_task: draw tasks, with all their episodes: for credit that compares the episodes of a task.
        runs: ids or their beginnings; empty means all.
        teams: learn from the seats of these teams.
        nodes: learn from these nodes.
        models: learn from turns of these models.
        min_reward: least reward of the seat, or score of the episode.
        max_reward: largest.
        scored: leave out what has neither.
        since: Unix seconds or a date; episodes that began then or later.
        until: Unix seconds or a date; episodes that began before.
        demonstrations: keep the turns that programs wrote, for a warm-up to imitate.

    Raises:
        InputError: nothing matches, telling how many episodes each filter left; a name is not known, or a setting is
            wrong.
    """
    from orchestra.traces.store import Store

    filters = filters_of(
        runs=runs,
        teams=teams,
        nodes=nodes,
        models=models,
        min_reward=min_reward,
        max_reward=max_reward,
        scored=scored,
        since=since,
        until=until,
        demonstrations=demonstrations,
    )
    opened = Store.open(store, read_only=True)
    try:
        return RecordedEpisodes(opened, _entries(opened, filters, run_id), by_task=by_task)
    except BaseException:
        opened.close()
        raise


def _entries(store: "Store", filters: Filters, asker: str | None) -> list[_Entry]:
    asking = None if asker is None else store.run(asker)
    before = None if asking is None else asking.at
    chosen = _runs(store, filters, before)
    sieve, claimed, going = Sieve(filters), set[str](), 0
    found: list[_Entry] = []
    for run in sorted(chosen, key=lambda run: run.command == "proxy"):  # an application's own account comes first
        facts = store.facts(run.run_id)
        if _goes_on(store, run.run_id, facts):
            going += 1
            continue
        spans = store.spans(run.run_id)
        claimed |= {str(span.attributes[names.CALL]) for span in spans if names.CALL in span.attributes}
        told = _Told(fact for fact in facts if before is None or fact.at <= before)
        bundles = _bundles([span for span in spans if f"{run.run_id}/{span.span_id}" not in claimed])
        for bundle in bundles:
            if before is None or min(span.start_ns for span in bundle) < before * 1e9:
                entry = _sifted(store, sieve, filters, bundle, told.about(bundle, alone=len(bundles) == 1))
                found += [] if entry is None else [entry]
    sieve.check_names()
    if not found:
        raise InputError(_nothing(sieve, filters, len(chosen), going))
    return found


def _runs(store: "Store", filters: Filters, before: float | None) -> list[RunRecord]:
    """Runs that may hold what is looked for, by what is known without reading them, in the order they began."""
    if filters.runs:
        wanted = {store.find_run(prefix) for prefix in filters.runs}
        found = [run for run in store.runs(None) if run.run_id in wanted]
        for run in found:
            if run.command in WITHOUT_EPISODES:
                raise InputError(
                    f"run {run.run_id!r} is a {run.command!r} and holds no episodes; the games it played are a run of "
                    "the command 'play' (`orchestra traces list`)"
                )
    else:
        found = [run for run in store.runs(None) if run.command not in WITHOUT_EPISODES]
    if before is not None:
        found = [run for run in found if run.at <= before]
    if (filters.since, filters.until) != (None, None):
        from orchestra.traces.store.chosen import begun_within

        times = begun_within(store, [run.run_id for run in found])
        found = [run for run in found if run.run_id in times and _overlap(times[run.run_id], filters)]
    return found[::-1]


def _overlap(times: tuple[int, int], filters: Filters) -> bool:
    first, last = times[0] / 1e9, times[1] / 1e9
    return (filters.until is None or first < filters.until) and (filters.since is None or last >= filters.since)


def _goes_on(store: "Store", run_id: str, facts: Iterable[Fact]) -> bool:
    """Whether another process is carrying the run out: its episodes are not what they will be."""
    from orchestra.traces.store import RunHeld

    if ending((), facts)[0] != "interrupted":
        return False
    try:
        with store.hold(run_id):  # for a moment: there is no other way to look
            return False
    except RunHeld:
        return True
    except OSError:  # where nobody may write, nobody carries anything out
        return False


class _Told:
    """The facts of a run, by what they are about."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        self._by: dict[tuple[str, str], list[tuple[int, Fact]]] = {}
        self._about_run: list[tuple[int, Fact]] = []
        for number, fact in enumerate(facts):
            named = fact.value.get("episode_id") if isinstance(fact.value, Mapping) else None
            if fact.span_id is not None:
                self._by.setdefault(("span", fact.span_id), []).append((number, fact))
            if isinstance(named, str):
                self._by.setdefault(("episode", named), []).append((number, fact))
            if fact.span_id is None and named is None:
                self._about_run.append((number, fact))

    def about(self, bundle: Sequence[SpanRecord], *, alone: bool) -> tuple[Fact, ...]:
        """Those about an episode, in the order they were learnt; about the run only its starts, unless it is alone."""
        found = {number: fact for number, fact in self._about_run if alone or fact.name == names.FACT_START}
        for key in (("episode", _episode_id(bundle)), *(("span", span.span_id) for span in bundle)):
            found.update(self._by.get(key, ()))
        return tuple(found[number] for number in sorted(found))


def _bundles(spans: Sequence[SpanRecord]) -> list[list[SpanRecord]]:
    """The spans of each episode, as the fold puts them together."""
    theirs = others_traces(spans)
    groups = {span.span_id: number for number, group in enumerate(gathered(theirs)) for span in group}
    found: dict[object, list[SpanRecord]] = {}
    for span in spans:
        if span.trace_id not in theirs and (own := span.attributes.get(names.EPISODE_ID)) is not None:
            found.setdefault((span.trace_id, str(own)), []).append(span)
        elif (group := groups.get(span.span_id)) is not None:
            found.setdefault(group, []).append(span)
    return list(found.values())


def _episode_id(bundle: Sequence[SpanRecord]) -> str:
    own = bundle[0].attributes.get(names.EPISODE_ID)
    return min(bundle, key=lambda span: span.start_ns).trace_id if own is None else str(own)


def _sifted(
    store: "Store", sieve: Sieve, filters: Filters, bundle: Sequence[SpanRecord], facts: tuple[Fact, ...]
) -> _Entry | None:
    """The episode of some spans, if it is looked for."""
    # Who spoke is known without content, but for an application whose agents only their system prompts tell apart.
    foreign = names.EPISODE_ID not in bundle[0].attributes
    content = _content(store, bundle) if foreign and filters.chooses else {}
    episode = _folded(bundle, facts, content.__getitem__)
    if episode is None:
        return None
    captured = any(names.TOKEN_IDS in span.attributes for span in bundle if operation(span) in CHATS)
    kept = sieve.kept(Look(episode, captured))
    if not kept:
        return None
    spoke = sum(1 for transcript in episode.transcripts if transcript.turns)
    run_id, key = bundle[0].run_id, f"{bundle[0].run_id}/{bundle[0].trace_id}/{episode.episode_id}"
    said = next((span.attributes[names.TASK_INPUT] for span in bundle if names.TASK_INPUT in span.attributes), "")
    return _Entry(
        run_id=run_id,
        key=key,
        task=key if episode.task_id is None else f"{episode.task_id}/{said}",
        span_ids=tuple(span.span_id for span in bundle),
        facts=facts,
        places=None if len(kept) == spoke else frozenset((one.seat, one.node) for one in kept),
    )


def _folded(spans: Sequence[SpanRecord], facts: Iterable[Fact], blobs: Callable[[str], object]) -> Episode | None:
    """The one episode of `spans`; `None` when they are gone."""
    found = [episode for episode in episodes(spans, facts, blobs) if episode.trace_id is not None]
    return max(found, key=lambda episode: len(episode.turns), default=None)


def _chosen(episode: Episode, places: frozenset[tuple[int, str]] | None) -> Episode:
    if places is None:
        return episode
    kept = tuple(one for one in episode.transcripts if (one.seat, one.node) in places)
    return episode.model_copy(update={"transcripts": kept})


def _spans_of(store: "Store", entries: Iterable[_Entry]) -> dict[str, list[SpanRecord]]:
    """The spans of each entry, by its key, in the order they ended."""
    from orchestra.traces.store.chosen import spans_among

    found: dict[str, list[SpanRecord]] = {}
    for run_id, members in groupby(sorted(entries, key=lambda entry: entry.run_id), lambda entry: entry.run_id):
        homes = {span_id: entry.key for entry in members for span_id in entry.span_ids}
        found |= {key: [] for key in homes.values()}
        for span in spans_among(store, run_id, list(homes)):
            found[homes[span.span_id]].append(span)
    return found


def _content(store: "Store", spans: Iterable[SpanRecord]) -> dict[str, object]:
    """What spans refer to, by digest."""
    return store.blob_values({str(value) for span in spans for value in span.attributes.values() if is_digest(value)})


def _nothing(sieve: Sieve, filters: Filters, runs: int, going: int) -> str:
    """Why there is nothing to learn from, and what can be done."""
    waiting = f"; {going} more run{'s are' if going > 1 else ' is'} still going on" if going else ""
    if not sieve.found:
        if filters == Filters():
            return (
                f"the store holds no recorded episodes yet{waiting}; play some first (`orchestra run`, `orchestra "
                "evaluate`), or import those of another application (`orchestra traces import`)"
            )
        begun = f" {sieve.dates}" if sieve.dates else ""
        return f"no run that matches holds an episode{begun}{waiting}; see what there is with `orchestra traces list`"
    return (
        f"no recorded episode is left to learn from: {sieve.found:,} in {runs} run{'s' * (runs != 1)}, "
        f"{sieve.story()}{waiting}; loosen the filter that left none"
    )
