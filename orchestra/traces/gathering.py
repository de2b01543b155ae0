"""Which traces of another application are one episode.

Instrumentation often tears one piece of work into several traces. They are put together again only where it is certain:

1. a message that is sent in one trace and received in another, as AutoGen writes it: a link from a producer's or a
   consumer's span;
2. single steps (a call, a tool) that began and ended within exactly one workflow or agent of the same process, and do
   not say they are of another conversation;
3. single steps of the same process and the same conversation, where no workflow was recorded.

A call that none of these places is an episode of its own, and counted by `unplaced`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from orchestra.traces import names
from orchestra.traces.records import SpanRecord
from orchestra.traces.turns import CHATS, operation

_STEPS = frozenset({*CHATS, names.EXECUTE_TOOL})
_WHOLES = frozenset({names.INVOKE_WORKFLOW, names.INVOKE_AGENT})
_MESSAGING = frozenset({"producer", "consumer"})


@dataclass(frozen=True, slots=True)
class _Trace:
    trace_id: str
    spans: list[SpanRecord]
    tops: list[SpanRecord]
    """Spans whose parent is not here; of a ring, the first."""

    @property
    def is_step(self) -> bool:
        """Whether there is nothing around its calls and tools."""
        return all(operation(span) in _STEPS for span in self.tops)

    @property
    def has_call(self) -> bool:
        return any(operation(span) in CHATS for span in self.spans)

    @property
    def conversation(self) -> object:
        return next(
            (span.attributes[key] for span in self.spans if (key := names.CONVERSATION_ID) in span.attributes), None
        )

    def within(self, whole: SpanRecord) -> bool:
        return all(whole.start_ns <= span.start_ns and span.end_ns <= whole.end_ns for span in self.tops)


def others_traces(spans: Iterable[SpanRecord]) -> dict[str, list[SpanRecord]]:
    """The spans of traces that are not ours, by trace id: no attribute of ours but those an import adds."""
    traces = _by_trace(spans)
    return {
        trace_id: theirs
        for trace_id, theirs in traces.items()
        if not any(key.startswith(names.OURS) and key not in names.ADDED for span in theirs for key in span.attributes)
    }


def tops(spans: Iterable[SpanRecord]) -> list[SpanRecord]:
    """Those of `spans` whose parent is not among them; of spans that lie in a ring, the first."""
    spans = list(spans)
    ids = {span.span_id for span in spans}
    return [span for span in spans if span.parent_id not in ids] or spans[:1]


def told_twice(span: SpanRecord, around: Iterable[SpanRecord]) -> bool:
    """Whether `span` is a call that a span around it tells of too: of a framework and of the client it uses.

    Args:
        span: of a call.
        around: the spans around it.
    """
    answer = span.attributes.get(names.RESPONSE_ID)
    return answer is not None and any(
        outer is not span and operation(outer) in CHATS and outer.attributes.get(names.RESPONSE_ID) == answer
        for outer in around
    )


def gathered(traces: Mapping[str, list[SpanRecord]]) -> list[list[SpanRecord]]:
    """The spans of each episode, in the order they came; traces without a call of a model are in none.

    Args:
        traces: spans of one run by trace id.
    """
    return [group for group in _groups(_read(traces)) if any(operation(span) in CHATS for span in group)]


def unplaced(spans: Iterable[SpanRecord]) -> tuple[SpanRecord, ...]:
    """The calls among the spans of a run that stand alone: without a trace, a conversation or a time they belong to."""
    read = _read(_by_trace(spans))
    steps = {trace.trace_id for trace in read if trace.is_step}
    return tuple(
        span
        for group in _groups(read)
        if len(group) == 1 and group[0].trace_id in steps
        for span in group
        if operation(span) in CHATS and names.CONVERSATION_ID not in span.attributes
    )


def _by_trace(spans: Iterable[SpanRecord]) -> dict[str, list[SpanRecord]]:
    traces: dict[str, list[SpanRecord]] = {}
    for span in spans:
        traces.setdefault(span.trace_id, []).append(span)
    return traces


def _read(traces: Mapping[str, list[SpanRecord]]) -> list[_Trace]:
    ids = {span.span_id for spans in traces.values() for span in spans}
    return [
        _Trace(trace_id, spans, [span for span in spans if span.parent_id not in ids] or spans[:1])
        for trace_id, spans in traces.items()
    ]


def _groups(traces: list[_Trace]) -> list[list[SpanRecord]]:
    same = _Same(trace.trace_id for trace in traces)
    _join_messages(traces, same)
    _join_steps(traces, same)
    groups: dict[str, list[SpanRecord]] = {}
    for trace in traces:
        groups.setdefault(same.first(trace.trace_id), []).extend(trace.spans)
    return list(groups.values())


def _join_messages(traces: list[_Trace], same: "_Same") -> None:
    homes = {span.span_id: trace.trace_id for trace in traces for span in trace.spans}
    for trace in traces:
        for span in trace.spans:
            if span.kind in _MESSAGING and len(span.links) == 1:
                home = homes.get(str(span.links[0].get("span_id")))
                if home is not None:
                    same.join(home, trace.trace_id)


def _join_steps(traces: list[_Trace], same: "_Same") -> None:
    wholes: dict[str | None, list[tuple[SpanRecord, _Trace]]] = {}
    for trace in traces:
        for span in trace.tops:
            if operation(span) in _WHOLES:
                wholes.setdefault(span.resource, []).append((span, trace))
    talks: dict[tuple[str | None, object], str] = {}
    for trace in traces:
        if not trace.is_step:
            continue
        resource, talk = trace.tops[0].resource, trace.conversation
        around = {
            whole.trace_id
            for span, whole in wholes.get(resource, ())
            if trace.within(span) and (talk is None or whole.conversation in (None, talk))
        }
        if len(around) == 1:
            same.join(around.pop(), trace.trace_id)
        elif not around and talk is not None:
            same.join(talks.setdefault((resource, talk), trace.trace_id), trace.trace_id)


class _Same:
    """Which traces have been found to be one; the first seen stands for all."""

    def __init__(self, names: Iterable[str]) -> None:
        self._first = {name: name for name in names}
        self._order = {name: at for at, name in enumerate(self._first)}

    def first(self, name: str) -> str:
        while (up := self._first[name]) != name:
            self._first[name] = self._first[up]
            name = up
        return name

    def join(self, one: str, other: str) -> None:
        first, second = sorted((self.first(one), self.first(other)), key=self._order.__getitem__)
        self._first[second] = first
