"""What a run came to: tokens, cost and time, per run, episode and node; and a whole run as one JSON document.

Sums are over what was measured, and `None` where nothing was. Money of a run is what its ledger says; money of an
episode or a node is what its own calls cost.
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from orchestra.traces import names
from orchestra.traces.content import is_digest
from orchestra.traces.episode import Episode, Transcript, Turn
from orchestra.traces.fold import episodes
from orchestra.traces.gathering import gathered, others_traces, tops
from orchestra.traces.records import Fact, LedgerEntry, RunRecord, SpanRecord
from orchestra.traces.turns import CHATS, failure, operation

if TYPE_CHECKING:
    from orchestra.traces.store import Store

_BLOBS_AT_ONCE = 400

EXPORT_VERSION = 1
"""Version of the document `export` makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Tokens, cost and time of something."""

    calls: int
    """Calls of a model, those answered from the cache included."""
    input_tokens: int | None
    output_tokens: int | None
    paid_nano: int | None
    """Nano-USD paid."""
    list_nano: int | None
    """Nano-USD it would cost uncached."""
    seconds: float | None
    """Wall clock of a run or an episode; of a node, the time its calls took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One line of `orchestra traces list`."""

    run_id: str
    command: str
    started_at: float
    """Unix seconds."""
    attempts: int
    state: str
    """`finished`, `failed`, `cancelled`, `paused`, `ran-out`, or `interrupted`: killed, or still going."""
    episodes: int
    failed: int
    """Episodes with an error, those that wait for a person left out."""
    figures: Figures
    error: str | None = None
    """Why it did not finish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSummary:
    """The episodes of a run that belong together: one component's trials, one team's held-out tasks."""

    group: str
    """What their ids begin with, up to the task; empty when they begin with the task."""
    episodes: int
    failed: int
    """Episodes with an error."""
    score: float | None
    """Mean of those that were scored; `None` means none was."""
    figures: Figures
    """Sums, but the mean seconds of an episode: many are played at a time."""


def summary(store: "Store", run: RunRecord, *, spans: tuple[SpanRecord, ...] | None = None) -> RunSummary:
    """What `run` came to, from its spans and its ledger; no content is read.

    Args:
        store: where it is.
        run: which.
        spans: its spans, where the caller has them; `None` reads them.
    """
    spans = store.spans(run.run_id) if spans is None else spans
    chats = _calls(spans)
    roots = [span for span in spans if span.parent_id is None]
    plays = _last_plays(spans)
    groups = [] if plays else gathered(others_traces(spans))
    roots = roots or [span for group in groups for span in tops(group)]  # a call's span may hang below one elsewhere
    tokens = [(_whole(span, names.INPUT_TOKENS), _whole(span, names.OUTPUT_TOKENS)) for span in chats]
    paid = _ledger_paid(store.ledger_entries(run.run_id))
    began = min((span.start_ns for span in spans), default=0)
    figures = Figures(
        calls=len(chats),
        input_tokens=_sum(pair[0] for pair in tokens),
        output_tokens=_sum(pair[1] for pair in tokens),
        paid_nano=paid if paid is not None else _sum(_whole(span, names.PAID_NANO) for span in chats),
        list_nano=_sum(_whole(span, names.LIST_NANO) for span in chats),
        seconds=(max(span.end_ns for span in spans) - began) / 1e9 if spans else None,
    )
    state, error = ending(roots, store.facts(run.run_id))
    return RunSummary(
        run_id=run.run_id,
        command=run.command,
        started_at=run.at,
        attempts=max(run.attempts, sum(span.name.split(" ")[0] == names.ATTEMPT for span in roots)),
        state=state,
        episodes=len(plays) + len(groups),
        failed=sum(failure(span) is not None and span.attributes.get(names.ERROR_TYPE) != "Paused" for span in plays)
        + sum(any(failure(span) is not None for span in tops(group)) for group in groups),
        figures=figures,
        error=error,
    )


def node_figures(transcript: Transcript) -> Figures:
    """What one node came to."""
    turns = transcript.turns
    seconds = [turn.latency_seconds for turn in turns] + [use.latency_seconds for use in transcript.tool_uses]
    return _of_turns(turns, sum(seconds) if seconds else None)


def episode_figures(episode: Episode) -> Figures:
    """What one episode came to."""
    return _of_turns(episode.turns, episode.latency_seconds)


def group_of(episode: Episode) -> str:
    """What the id of `episode` begins with, up to its task: `trial/calculator` of `trial/calculator/sums-3`."""
    before, found, _ = f"/{episode.episode_id}/".partition(f"/{episode.task_id}/")
    return before.removeprefix("/") if found else episode.episode_id.rpartition("/")[0]


def group_summaries(played: Iterable[Episode]) -> tuple[GroupSummary, ...]:
    """What each group of episodes came to, in the order in which the groups began."""
    groups: dict[str, list[Episode]] = {}
    for episode in played:
        groups.setdefault(group_of(episode), []).append(episode)
    return tuple(_group_summary(name, members) for name, members in groups.items())


def _group_summary(name: str, members: list[Episode]) -> GroupSummary:
    seconds = [one.latency_seconds for one in members if one.latency_seconds is not None]
    scores = [one.score for one in members if one.score is not None]
    return GroupSummary(
        group=name,
        episodes=len(members),
        failed=sum(one.error is not None for one in members),
        score=sum(scores) / len(scores) if scores else None,
        figures=_of_turns(
            (turn for one in members for turn in one.turns), sum(seconds) / len(seconds) if seconds else None
        ),
    )


def run_episodes(
    store: "Store", run_id: str, *, spans: tuple[SpanRecord, ...] | None = None, content: bool = True
) -> tuple[Episode, ...]:
    """Every episode of a run.

    Args:
        store: where it is.
        run_id: whose.
        spans: its spans, where the caller has them; `None` reads them.
        content: false leaves messages, replies and outputs out (`None`): all that tables of figures need.
    """
    told = store.spans(run_id) if spans is None else spans
    return episodes(told, store.facts(run_id), _Content(store, told) if content else _no_content)


def detailed(
    store: "Store", shown: Sequence[Episode], *, spans: tuple[SpanRecord, ...], alone: bool
) -> tuple[Episode, ...]:
    """Some episodes of a run once more, with their content; no other content is read.

    Args:
        store: where they are.
        shown: as `run_episodes` gave them, without content.
        spans: the run's.
        alone: whether it has no other episode, so that facts about the run are about the one.
    """
    if not shown:
        return ()
    ids = {episode.episode_id for episode in shown}
    theirs = tuple(span for span in spans if span.attributes.get(names.EPISODE_ID) in ids)
    if {span.attributes[names.EPISODE_ID] for span in theirs} != {one.episode_id for one in shown if one.trace_id}:
        theirs = spans  # of another application: its spans do not say
    facts = [fact for fact in store.facts(shown[0].run_id) if alone or not _about_run(fact)]
    found = {episode.episode_id: episode for episode in episodes(theirs, facts, _Content(store, theirs))}
    return tuple(found.get(episode.episode_id, episode) for episode in shown)


def _about_run(fact: Fact) -> bool:
    return fact.span_id is None and not (isinstance(fact.value, dict) and "episode_id" in fact.value)


class _Content:
    """The content of spans, read from the store a few hundred blobs at a time."""

    def __init__(self, store: "Store", spans: Iterable[SpanRecord]) -> None:
        self._store = store
        self._found: dict[str, object] = {}
        self._ahead = iter(_referred(spans))

    def __call__(self, name: str) -> object:
        if name not in self._found:
            wanted = [name, *(other for other, _ in zip(self._ahead, range(_BLOBS_AT_ONCE), strict=False))]
            self._found.update(self._store.blob_values(wanted))
        return self._found[name]


def _no_content(name: str) -> object:
    raise KeyError(name)


def export(store: "Store", run_id: str) -> dict[str, Any]:
    """Everything the store holds about a run, as one JSON document, with the episodes it folds to.

    Raises:
        orchestra.errors.InputError: when there is no such run.
    """
    run_id = store.find_run(run_id)
    run = store.run(run_id)
    assert run is not None
    spans = store.spans(run_id)
    return {
        "export_version": EXPORT_VERSION,
        "names_version": names.VERSION,
        "run": asdict(run),
        "summary": asdict(summary(store, run)),
        "episodes": [episode.model_dump(mode="json") for episode in run_episodes(store, run_id)],
        "spans": [asdict(span) for span in spans],
        "facts": [asdict(fact) for fact in store.facts(run_id)],
        "journal": [asdict(entry) for entry in store.journal(run_id)],
        "ledger": [_ledger_line(line) for line in store.ledger_entries(run_id)],
        "blobs": {name: _plain_blob(store.blob_value(name)) for name in _referred(spans)},
    }


def _of_turns(turns: Iterable[Turn], seconds: float | None) -> Figures:
    turns = tuple(turns)
    return Figures(
        calls=len(turns),
        input_tokens=_sum(turn.usage.input_tokens for turn in turns),
        output_tokens=_sum(turn.usage.output_tokens for turn in turns),
        paid_nano=_sum(_nano(turn.paid_usd) for turn in turns),
        list_nano=_sum(_nano(turn.list_usd) for turn in turns),
        seconds=seconds,
    )


def _calls(spans: Iterable[SpanRecord]) -> list[SpanRecord]:
    """The chat spans, without those of a resumed run that repeat a reply which an earlier attempt was given."""
    chats = [span for span in spans if operation(span) in CHATS]
    told = {span.attributes.get(names.RESERVATION) for span in chats if span.attributes.get(names.CACHED) is not True}
    kept = []
    for span in chats:
        key = span.attributes.get(names.RESERVATION)
        if key is None or span.attributes.get(names.CACHED) is not True:
            kept.append(span)
        elif key not in told:
            told.add(key)
            kept.append(span)
    return kept


def _last_plays(spans: Iterable[SpanRecord]) -> list[SpanRecord]:
    """The root span of each episode; of one played again, the last."""
    plays: dict[str, SpanRecord] = {}
    for span in spans:
        episode_id = span.attributes.get(names.EPISODE_ID)
        if episode_id is not None and operation(span) in (names.PLAY, names.INVOKE_WORKFLOW):
            plays[str(episode_id)] = span
    return list(plays.values())


def ending(roots: Sequence[SpanRecord], facts: Iterable[Fact]) -> tuple[str, str | None]:
    """How the last attempt at a run ended, and why; an application's own spans say no more than whether they failed.

    Args:
        roots: the run's spans without a parent.
        facts: about the run.
    """
    ends: list[Fact] = []
    begun = 0.0
    for fact in facts:
        if fact.name == names.FACT_END:
            ends.append(fact)
        elif fact.name == names.FACT_START and isinstance(fact.value, dict) and "command" in fact.value:
            begun = max(begun, fact.at)
    if ends and ends[-1].at >= begun and isinstance(ends[-1].value, dict):
        return str(ends[-1].value["state"]), ends[-1].value["error"]
    if ends or not roots:
        return "interrupted", None
    error = failure(max(roots, key=lambda span: span.end_ns))
    return ("finished" if error is None else "failed"), error


def _ledger_paid(entries: Iterable[LedgerEntry]) -> int | None:
    """Settled and unknown together, and what is still reserved: a call in flight counts in full until it is settled."""
    open_nano: dict[object, int] = {}
    booked = None
    for line in entries:
        entry = line.entry
        booked = booked or 0
        if entry.event == "reserve":
            open_nano[entry.reservation_id] = entry.nano
        elif entry.event in ("settle", "unknown", "release"):
            open_nano.pop(entry.reservation_id, None)
            booked += entry.nano if entry.event != "release" else 0
    return None if booked is None else booked + sum(open_nano.values())


def _ledger_line(line: LedgerEntry) -> dict[str, object]:
    entry = line.entry
    return {
        "ledger": entry.ledger,
        "reservation_id": entry.reservation_id,
        "event": entry.event,
        "nano": entry.nano,
        "what": entry.what,
        "at": entry.at,
    }


def _referred(spans: Iterable[SpanRecord]) -> list[str]:
    found = {str(value) for span in spans for value in (*span.attributes.values(), span.resource) if is_digest(value)}
    return sorted(found)


def _plain_blob(value: object) -> object:
    return {"base64": base64.b64encode(value).decode("ascii")} if isinstance(value, bytes) else value


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _nano(usd: Decimal | None) -> int | None:
    return None if usd is None else int(usd.scaleb(9))


def _whole(span: SpanRecord, key: str) -> int | None:
    value = span.attributes.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
