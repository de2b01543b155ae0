"""The fold from spans and facts to episodes: one function, for our runs and for other applications' traces.

Our spans say which episode, seat and node they belong to, and hand it on to the spans below them, so that an episode
whose root never ended is still put together. A trace without any `orchestra.*` attribute (but for those an import adds)
is somebody else's: `orchestra.traces.gathering` tells which of them are one episode, chat spans are the turns, and
`gen_ai.agent.name` tells the nodes; where nobody is named, each system prompt is a node.

What was played again by a resumed run is counted once: the spans below the root that ended last.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestra.traces import names
from orchestra.traces.episode import Episode, Score, Seat, ToolUse, Transcript, Turn
from orchestra.traces.gathering import gathered, others_traces, told_twice, tops
from orchestra.traces.messages import messages_from
from orchestra.traces.records import Fact, SpanRecord
from orchestra.traces.rewards import rewarded, rewards_of
from orchestra.traces.turns import CHATS, Blobs, Contents, completed, failure, operation, tool_use_from, turn_from

INTERRUPTED = "it has a beginning and no end: the run was killed, or is still going"
"""Error of an episode that was started and never ended."""

_EVALUATION = "gen_ai.evaluation.result"


def episodes(spans: Iterable[SpanRecord], facts: Iterable[Fact], blobs: Blobs) -> tuple[Episode, ...]:
    """Every episode that `spans` and `facts` tell of, by run and then by beginning.

    Args:
        spans: of any number of runs, in any order.
        facts: about them; a `start` fact without its episode becomes an episode with an error.
        blobs: the content behind a digest, such as `Store.blob_value`.
    """
    runs: dict[str, _Run] = {}
    for span in spans:
        runs.setdefault(span.run_id, _Run(span.run_id)).spans.append(span)
    for fact in facts:
        runs.setdefault(fact.run_id, _Run(fact.run_id)).facts.append(fact)
    contents = Contents(blobs)
    return tuple(episode for run in runs.values() for episode in _episodes_of_run(run, contents))


@dataclass
class _Run:
    run_id: str
    spans: list[SpanRecord] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)


@dataclass
class _Play:
    """The spans of one episode, and where they hang."""

    run_id: str
    episode_id: str
    spans: list[SpanRecord]
    root: SpanRecord | None
    """Ended, outermost; `None` when it never ended, or when a foreign trace has several."""
    foreign: bool
    everything: frozenset[str]
    """Ids of all spans that ever were about it, earlier attempts included."""

    def __post_init__(self) -> None:
        self.by_id = {span.span_id: span for span in self.spans}

    def upwards(self, span: SpanRecord) -> Iterator[SpanRecord]:
        """`span` and the spans around it, innermost first."""
        current: SpanRecord | None = span
        passed: set[str] = set()  # spans of others may lie in a ring
        while current is not None and current.span_id not in passed:
            passed.add(current.span_id)
            yield current
            current = self.by_id.get(current.parent_id or "")


def _episodes_of_run(run: _Run, contents: Contents) -> list[Episode]:
    plays = list(_plays(run))
    facts = _Told(run.facts)
    found = [_episode(play, facts.about(play, alone=len(plays) == 1), contents) for play in plays]
    told = {play.episode_id for play in plays}
    for fact in run.facts:
        started = _episode_of(fact)
        if fact.name == names.FACT_START and started is not None and started not in told:
            told.add(started)
            found.append(_never_ended(run.run_id, started, fact))
    starts = [fact for fact in run.facts if fact.name == names.FACT_START]
    if not found and starts and not any(span.parent_id is None for span in run.spans):
        found.append(_never_ended(run.run_id, run.run_id, starts[0]))
    return sorted(found, key=lambda episode: episode.started_ns or 0)


def _plays(run: _Run) -> Iterator[_Play]:
    theirs = others_traces(run.spans)
    groups: dict[tuple[str, str], list[SpanRecord]] = {}
    for span in run.spans:
        if span.trace_id not in theirs and (episode_id := span.attributes.get(names.EPISODE_ID)) is not None:
            groups.setdefault((span.trace_id, str(episode_id)), []).append(span)
    for (_, episode_id), group in groups.items():
        yield _last_attempt(run, episode_id, group)
    for group in gathered(theirs):
        group.sort(key=lambda span: span.start_ns)
        roots = tops(group)
        wholes = [span for span in roots if operation(span) == names.INVOKE_WORKFLOW]
        root = roots[0] if len(roots) == 1 else wholes[0] if len(wholes) == 1 else None
        ids = frozenset(span.span_id for span in group)
        yield _Play(run.run_id, group[0].trace_id, group, root, foreign=True, everything=ids)


def _last_attempt(run: _Run, episode_id: str, group: list[SpanRecord]) -> _Play:
    """The spans of the attempt that counts: below the root that ended last, else since the run's last start."""
    everything = frozenset(span.span_id for span in group)
    roots = [span for span in group if operation(span) in (names.PLAY, names.INVOKE_WORKFLOW)]
    outermost = [span for span in roots if span.parent_id not in everything]
    play = _Play(run.run_id, episode_id, group, None, foreign=False, everything=everything)
    if outermost:
        root = max(outermost, key=lambda span: span.end_ns)
        spans = [span for span in group if any(around is root for around in play.upwards(span))]
        return _Play(run.run_id, episode_id, spans, root, foreign=False, everything=everything)
    # Of the run, not of its episodes: others begin while this one is under way.
    starts = [fact.at for fact in run.facts if fact.name == names.FACT_START and _episode_of(fact) is None]
    since = max(starts, default=0.0) * 1e9
    recent = [span for span in group if span.start_ns >= since] or group
    return _Play(run.run_id, episode_id, recent, None, foreign=False, everything=everything)


def _episode_of(fact: Fact) -> str | None:
    """The episode a fact names; `None` where it is about a run or a span."""
    named = fact.value.get("episode_id") if isinstance(fact.value, dict) else None
    return named if isinstance(named, str) else None


class _Told:
    """The facts of a run by what they are about; a run of many episodes has many facts."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        self._whole_run: list[tuple[int, Fact]] = []
        self._by_span: dict[str, list[tuple[int, Fact]]] = {}
        self._by_episode: dict[str, list[tuple[int, Fact]]] = {}
        for number, fact in enumerate(facts):
            named = _episode_of(fact)
            if fact.span_id is not None:
                self._by_span.setdefault(fact.span_id, []).append((number, fact))
            if named is not None:
                self._by_episode.setdefault(named, []).append((number, fact))
            if fact.span_id is None and named is None:
                self._whole_run.append((number, fact))

    def about(self, play: _Play, *, alone: bool) -> list[Fact]:
        """The facts about an episode, in the order they were learnt; those about the run too when it is `alone`."""
        found = dict(self._by_episode.get(play.episode_id, ()))
        for span_id in play.everything:
            found.update(self._by_span.get(span_id, ()))
        if alone:
            found.update(self._whole_run)
        return [found[number] for number in sorted(found)]


def _never_ended(run_id: str, episode_id: str, start: Fact) -> Episode:
    told: Mapping[str, Any] = start.value if isinstance(start.value, dict) else {}
    return Episode(
        episode_id=episode_id,
        run_id=run_id,
        task_id=told.get("task_id"),
        seats=(Seat(seat=0, team=told.get("team"), team_hash=told.get("team_hash")),),
        started_ns=int(start.at * 1e9),
        error=INTERRUPTED,
        error_type="Interrupted",
    )


def _episode(play: _Play, facts: Sequence[Fact], contents: Contents) -> Episode:
    rewards = rewards_of(facts)
    transcripts = _transcripts(play, contents, rewards)
    root = play.root
    begun = min((span.start_ns for span in play.spans), default=None)
    ended = max((span.end_ns for span in play.spans), default=None) if root or play.foreign else None
    error, error_type = _error(play, facts)
    return Episode(
        episode_id=play.episode_id,
        run_id=play.run_id,
        trace_id=play.spans[0].trace_id if play.spans else None,
        task_id=_first_text(play, names.TASK_ID),
        environment=_first_text(play, names.ENVIRONMENT),
        input=_input(play, transcripts, contents),
        seats=_seats(play, transcripts, rewards, contents),
        transcripts=transcripts,
        scores=(*_evaluations(play), *_as_scores(facts, {names.FACT_SCORE})),
        labels=_as_scores(facts, None),
        started_ns=begun,
        latency_seconds=None if begun is None or ended is None else (ended - begun) / 1e9,
        error=error,
        error_type=error_type,
    )


def _error(play: _Play, facts: Sequence[Fact]) -> tuple[str | None, str | None]:
    told = [fact for fact in facts if fact.name == names.FACT_ERROR]
    if told:
        return str(told[-1].value), "Fact"
    if play.root is None and not play.foreign:
        return INTERRUPTED, "Interrupted"
    tops = [play.root] if play.root else [span for span in play.spans if span.parent_id not in play.by_id]
    for span in tops:
        if (message := failure(span)) is not None:
            return message, str(span.attributes.get(names.ERROR_TYPE) or "Error")
    return None, None


def _first_text(play: _Play, key: str) -> str | None:
    for span in (play.root, *play.spans):
        if span is not None and (value := span.attributes.get(key)) is not None:
            return str(value)
    return None


def _seat_of(span: SpanRecord) -> int:
    seat = span.attributes.get(names.SEAT, 0)
    return int(seat) if isinstance(seat, int) or (isinstance(seat, str) and seat.isdigit()) else 0


def _node_of(play: _Play, span: SpanRecord) -> str | None:
    """The node a span belongs to; `None` when another application does not say."""
    if not play.foreign:
        return str(span.attributes.get(names.NODE) or "")
    for around in play.upwards(span):
        name = around.attributes.get(names.AGENT_NAME)
        if name and (around is span or operation(around) == names.INVOKE_AGENT):
            return str(name)
    return None


class _Voices:
    """Names for agents nobody named: one for each system prompt, and a tool goes to whoever called for it."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._callers: dict[str, str] = {}
        self._last = "agent"

    def of(self, span: SpanRecord, turn: Turn | None) -> str:
        if turn is None:
            return self._callers.get(str(span.attributes.get(names.TOOL_CALL_ID)), self._last)
        prompt = "\n".join(message.content for message in turn.messages if message.role == "system")
        number = len(self._names) + 1
        self._last = self._names.setdefault(prompt, "agent" if number == 1 else f"agent-{number}")
        self._callers.update({call.id: self._last for call in turn.tool_calls if call.id is not None})
        return self._last


def _transcripts(play: _Play, contents: Contents, rewards: Mapping[str, float]) -> tuple[Transcript, ...]:
    turns: dict[tuple[int, str], list[Turn]] = {}
    uses: dict[tuple[int, str], list[ToolUse]] = {}
    kinds: dict[tuple[int, str], str | None] = {}
    said: dict[tuple[int, str], list[str]] = {}
    voices = _Voices()
    for span in sorted(play.spans, key=lambda span: (span.start_ns, span.end_ns)):
        what = operation(span)
        if what not in (*CHATS, names.EXECUTE_TOOL, names.INVOKE_AGENT):
            continue
        if play.foreign and what == names.INVOKE_AGENT:
            continue  # an agent that only calls others: those have turns
        if play.foreign and what in CHATS and told_twice(span, play.upwards(span)):
            continue
        turn = turn_from(span, contents, rewards.get(span.span_id)) if what in CHATS else None
        node = _node_of(play, span)
        key = (_seat_of(span), voices.of(span, turn) if node is None else node)
        kind = span.attributes.get(names.NODE_KIND)
        kinds[key] = kinds.get(key) or (None if kind is None else str(kind))
        if turn is not None:
            turns.setdefault(key, []).append(turn)
        elif what == names.EXECUTE_TOOL:
            uses.setdefault(key, []).append(tool_use_from(span, contents))
        elif isinstance(passed_on := contents.of(span, names.OUTPUT), str):
            said.setdefault(key, []).append(passed_on)
    if play.foreign:
        everything = [turn for of_node in turns.values() for turn in of_node]
        uses = {key: list(completed(of_node, everything)) for key, of_node in uses.items()}
    return tuple(
        Transcript(
            seat=key[0],
            node=key[1],
            kind=kind,
            turns=rewarded(key[0], turns.get(key, ()), rewards),
            tool_uses=tuple(uses.get(key, ())),
            said=tuple(said.get(key, ())),
        )
        for key, kind in sorted(kinds.items(), key=lambda item: item[0][0])
    )


def _seats(
    play: _Play, transcripts: Sequence[Transcript], rewards: Mapping[str, float], contents: Contents
) -> tuple[Seat, ...]:
    teams = {_seat_of(span): span for span in play.spans if operation(span) == names.INVOKE_WORKFLOW}
    if play.root is not None and not teams:
        teams = {0: play.root}
    rewarded = (int(name.split()[1]) for name in rewards if name.startswith("seat "))  # though it never came to move
    numbers = sorted({*teams, *(transcript.seat for transcript in transcripts), *rewarded}) or [0]
    return tuple(_seat(number, teams.get(number), play, transcripts, rewards, contents) for number in numbers)


def _seat(
    number: int,
    span: SpanRecord | None,
    play: _Play,
    transcripts: Sequence[Transcript],
    rewards: Mapping[str, float],
    contents: Contents,
) -> Seat:
    turns = [turn for transcript in transcripts if transcript.seat == number for turn in transcript.turns]
    adapters = tuple(dict.fromkeys(turn.adapter for turn in turns if turn.adapter is not None))
    reward = rewards.get(f"seat {number}")
    if span is None:
        said = _last_reply(turns) if play.foreign and len({one.trace_id for one in play.spans}) > 1 else None
        return Seat(seat=number, adapters=adapters, output=said, reward=reward)
    graph = contents.of(span, names.TEAM)
    name = span.attributes.get(names.AGENT_NAME) or span.name.partition(" ")[2]
    team_hash = span.attributes.get(names.TEAM_HASH)
    return Seat(
        seat=number,
        team=str(name) or None,
        team_hash=None if team_hash is None else str(team_hash),
        graph=graph if isinstance(graph, dict) else None,
        adapters=adapters,
        output=_output(span, play, turns, contents),
        reward=reward if reward is not None else rewards.get(span.span_id),
        error=failure(span),
    )


def _output(span: SpanRecord, play: _Play, turns: Sequence[Turn], contents: Contents) -> str | None:
    for key in (names.OUTPUT, names.OUTPUT_MESSAGES):
        said = contents.of(span, key)
        if isinstance(said, str):
            return said
        if isinstance(said, list) and said:
            return messages_from(said)[-1].content
    return _last_reply(turns) if play.foreign else None


def _last_reply(turns: Sequence[Turn]) -> str | None:
    return max(turns, key=lambda turn: turn.started_ns).reply if turns else None


def _input(play: _Play, transcripts: Sequence[Transcript], contents: Contents) -> Any:
    if not play.foreign:
        for span in (play.root, *play.spans):
            if span is not None and names.TASK_INPUT in span.attributes:
                return contents.of(span, names.TASK_INPUT)
        return None
    turns = sorted((turn for t in transcripts for turn in t.turns), key=lambda turn: turn.started_ns)
    return next((m.content for turn in turns for m in turn.messages if m.role == "user"), None)


def _evaluations(play: _Play) -> Iterator[Score]:
    """Results that an application's own evaluation left as events of its spans."""
    for span in play.spans:
        for event in span.events:
            details = event.get("attributes")
            if event.get("name") == _EVALUATION and isinstance(details, Mapping):
                value = details.get("gen_ai.evaluation.score.value", details.get("gen_ai.evaluation.score.label"))
                name = str(details.get("gen_ai.evaluation.name", names.FACT_SCORE))
                at = event.get("at_ns")
                seconds = at / 1e9 if isinstance(at, int) else span.end_ns / 1e9
                yield Score(name=name, value=value, source=span.scope or "span", at=seconds, span_id=span.span_id)


def _as_scores(facts: Sequence[Fact], wanted: set[str] | None) -> tuple[Score, ...]:
    """Facts of the wanted names; `None` wants those that have no place of their own in an episode."""
    placed = {
        names.FACT_SCORE,
        names.FACT_REWARD,
        names.FACT_START,
        names.FACT_END,
        names.FACT_QUESTION,
        names.FACT_ERROR,
    }
    return tuple(
        Score(name=fact.name, value=fact.value, source=fact.source, at=fact.at, span_id=fact.span_id)
        for fact in facts
        if (fact.name in wanted if wanted is not None else fact.name not in placed)
    )
