"""How a span looks outside: the view of it that is sent to a collector.

The store's record is the truth and is never changed for it. The view is made of the record after the redactor saw it;
it holds what was said only if `OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT` asks for it, and then no text
longer than a limit (collectors refuse large requests whole); token ids and log-probabilities never leave. Without
content the wording of errors stays behind too, because it may quote a prompt or a reply.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from orchestra.traces import names, openinference
from orchestra.traces.content import canonical_json, digest
from orchestra.traces.records import Attribute, SpanRecord

CONTENT: Final = (
    names.INPUT_MESSAGES,
    names.OUTPUT_MESSAGES,
    names.SYSTEM_INSTRUCTIONS,
    names.TOOL_DEFINITIONS,
    names.TOOL_CALL_ARGUMENTS,
    names.TOOL_CALL_RESULT,
    names.TASK_INPUT,
    names.OUTPUT,
    names.TEAM,
)
"""Attributes that are content: sent only when asked for."""

PRIVATE: Final = (names.TOKEN_IDS,)
"""Content that never leaves: large, and of use to training alone."""

LONGEST_TEXT: Final = 128 * 1024
"""Characters of one text on an exported span; what is longer ends in a note of where the whole is."""

_TEXTS_IN_ONE: Final = 4
"""An attribute longer than so many of the longest texts, such as a very long history, is left out and referred to."""

_OURS: Final = frozenset(name for name in vars(names).values() if isinstance(name, str))
"""Names that this package writes; which of them are content, `CONTENT` says."""
_PARENTS_REMEMBERED: Final = 10_000


@dataclass(slots=True)
class _Below:
    """What the children of a span that has not ended yet were given and said."""

    given: Any = None
    came_out: Any = None
    children: int = 0
    plays: int = 0
    failed: int = 0
    """Of `plays`."""
    error: str | None = None
    """What the last of them failed with."""


class View:
    """Turns records into what is sent. Records come in the order the spans ended, children before their parents.

    Args:
        with_content: whether what was said is part of it.
        longest_text: characters of one text.
    """

    def __init__(self, *, with_content: bool, longest_text: int = LONGEST_TEXT) -> None:
        self.with_content = with_content
        self._longest_text = longest_text
        self._below: dict[str, _Below] = {}

    def of(self, record: SpanRecord, content: Mapping[str, object]) -> SpanRecord:
        """The record as it is sent, its content written out.

        Args:
            content: what the record's digests stand for, by attribute.
        """
        below = self._below.pop(record.span_id, _Below())
        hidden = {*CONTENT, *PRIVATE}
        shown = {key: value for key, value in record.attributes.items() if key not in hidden}
        given = came_out = None
        if self.with_content:
            spoken, short = self._spoken(record, content)
            given, came_out = _through(record, short, below)
            shown |= spoken | openinference.shown_values(given, came_out) | openinference.tool_parameters(short)
        else:
            record = _without_wording(record)
            # Of others' attributes nobody knows which quote what was said: their numbers are sent.
            shown = {
                key: value for key, value in shown.items() if key in _OURS or isinstance(value, bool | int | float)
            }
        shown |= openinference.figures(record)
        if record.name == names.ATTEMPT and below.plays > 1:
            shown |= openinference.shown_values(f"{below.plays} plays", f"{below.plays - below.failed} finished")
        self._tell_parent(record, given, came_out)
        return replace(_judged(record, below), name=_name(record), attributes=shown)

    def _spoken(self, record: SpanRecord, content: Mapping[str, Any]) -> tuple[dict[str, Attribute], Mapping[str, Any]]:
        """The attributes that hold what was said, and what they hold; each text at most as long as allowed."""
        shown: dict[str, Attribute] = {}
        cut: list[str] = []
        short = {}
        for key in CONTENT:
            whole = content.get(key)
            if isinstance(whole, bytes | None):
                continue
            value = _shortened(whole, self._longest_text)
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)
            fits = len(text) <= _TEXTS_IN_ONE * self._longest_text
            if value is not whole or not fits:
                cut.append(f"{key}={_reference(record, key, whole)}")
            if fits:
                shown[key] = text
                short[key] = value
        if cut:
            shown[names.CUT] = cut
        return shown, short

    def _tell_parent(self, record: SpanRecord, given: Any, came_out: Any) -> None:
        if record.parent_id is None:
            return
        if record.parent_id not in self._below and len(self._below) >= _PARENTS_REMEMBERED:
            self._below.pop(next(iter(self._below)))
        above = self._below.setdefault(record.parent_id, _Below())
        above.children += 1
        if record.name.startswith(f"{names.INVOKE_WORKFLOW} "):
            above.plays += 1
            if record.status == "error":
                above.failed += 1
                above.error = record.status_message
        if above.given is None:
            above.given = given
        if came_out is not None:
            above.came_out = came_out


def _through(record: SpanRecord, content: Mapping[str, Any], below: _Below) -> tuple[Any, Any]:
    """Input and output of a span: its own, else those of what it holds together."""
    given, came_out = openinference.input_of(record, content), openinference.output_of(record, content)
    if below.children == 1 or openinference.kind_of(record) == "AGENT":
        given = below.given if given is None else given
        came_out = below.came_out if came_out is None else came_out
    return given, came_out


def _judged(record: SpanRecord, below: _Below) -> SpanRecord:
    """What ended without an error went well, and a run went as its plays did: pages take the root's status for all."""
    if record.status != "unset":
        return record
    if record.name == names.ATTEMPT and below.failed:
        message = below.error if below.plays == 1 else f"{below.failed} of {below.plays} plays failed"
        return replace(record, status="error", status_message=message)
    return replace(record, status="ok")


def _name(record: SpanRecord) -> str:
    """As recorded, but a root says what was run, for it stands for the whole, and a vote is not called an agent."""
    command, kind = record.attributes.get(names.COMMAND), record.attributes.get(names.NODE_KIND, "agent")
    if record.name == names.ATTEMPT and command:
        return f"orchestra {command}"
    if kind != "agent" and record.name.startswith(f"{names.INVOKE_AGENT} "):
        return f"{kind} {record.attributes.get(names.NODE)}"
    return record.name


def _without_wording(record: SpanRecord) -> SpanRecord:
    kind = record.attributes.get(names.ERROR_TYPE)
    events = tuple({**event, "attributes": _bare(event.get("attributes"))} for event in record.events)
    message = None if record.status_message is None else str(kind or "failed")
    return replace(record, status_message=message, events=events)


def _bare(attributes: object) -> dict[str, object]:
    """Of an event's attributes, what quotes nothing."""
    known = attributes if isinstance(attributes, Mapping) else {}
    return {key: known[key] for key in ("exception.type",) if key in known}


def _shortened(value: Any, longest: int) -> Any:
    """`value` with every text in it at most `longest` characters long, and a note where one was longer."""
    if isinstance(value, str):
        if len(value) <= longest:
            return value
        return f"{value[:longest]} … ({len(value):,} characters in all; the store holds them)"
    if isinstance(value, Mapping):
        items = {key: _shortened(item, longest) for key, item in value.items()}
        return value if all(items[key] is value[key] for key in items) else items
    if isinstance(value, list | tuple):
        parts = [_shortened(item, longest) for item in value]
        return value if all(new is old for new, old in zip(parts, value, strict=True)) else parts
    return value


def _reference(record: SpanRecord, key: str, value: object) -> str:
    """The digest under which the store holds `value`."""
    kept = record.attributes.get(key)
    return kept if isinstance(kept, str) and kept.startswith("sha256:") else digest(canonical_json(value).encode())
