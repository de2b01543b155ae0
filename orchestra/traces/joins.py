"""Calls kept by a proxy, found again by the id of their answer, wherever the span of an application turns up.

The store keeps, under the id, where the call's own span is and the digests of what it knows. An id that answered two
calls is no longer certain, and joins nothing.
"""

from dataclasses import dataclass
from typing import Any

from orchestra.traces import names
from orchestra.traces.records import Attribute, SpanRecord
from orchestra.traces.store import Store

_JOINED = (
    names.TOKEN_IDS,
    names.TOKEN_IDS_MISSING,
    names.INPUT_MESSAGES,
    names.OUTPUT_MESSAGES,
    names.TOOL_DEFINITIONS,
    names.INPUT_TOKENS,
    names.OUTPUT_TOKENS,
    names.CACHED_INPUT_TOKENS,
    names.REQUEST_TEMPERATURE,
    names.REQUEST_TOP_P,
    names.REQUEST_TOP_K,
    names.REQUEST_SEED,
    names.REQUEST_MAX_TOKENS,
    names.REQUEST_STOP_SEQUENCES,
    names.RESPONSE_MODEL,
    names.RESPONSE_FINISH_REASONS,
    names.FIRST_TOKEN_SECONDS,
    names.REDACTED,
)
"""What a joined span takes over, where it does not say it itself."""


CLOCKS_APART_NS = 5_000_000_000
"""How far the clocks of an application and of the proxy may be apart; ids of servers that count anew come again."""


@dataclass(frozen=True, slots=True)
class Joined:
    """What the proxy knows of a call."""

    attributes: dict[str, Attribute]
    """By the names of `orchestra.traces.names`; content by digest."""
    call: str
    """Run and span of the call itself: `<run>/<span>`."""


def call_entry(span: SpanRecord) -> dict[str, object]:
    """What is kept of a call under the id of its answer."""
    told = {name: span.attributes[name] for name in _JOINED if name in span.attributes}
    when = {"start_ns": span.start_ns, "end_ns": span.end_ns}
    return {"run_id": span.run_id, "span_id": span.span_id, "attributes": told, **when}


def keep_call(store: Store, response_id: str, span: SpanRecord, *, again: bool) -> None:
    """Post that `span` is the call that `response_id` answered.

    Args:
        store: open.
        response_id: as the server gave it.
        span: the call's.
        again: it has answered another call before, so that from now on it tells nothing.
    """
    key = f"again {response_id}" if again else f"call {response_id}"
    store.cache(key, "call", True if again else call_entry(span))


def joined(store: Store, response_id: str, span: SpanRecord) -> Joined | None:
    """What is known of the call `response_id` answered; `None` when nothing is, or it is not certain to be `span`'s."""
    found: Any = store.cached(f"call {response_id}")
    if not isinstance(found, dict) or store.cached(f"again {response_id}") is not None:
        return None
    if found["start_ns"] < span.start_ns - CLOCKS_APART_NS or found["end_ns"] > span.end_ns + CLOCKS_APART_NS:
        return None
    told: dict[str, Attribute] = found["attributes"]
    for name in (names.INPUT_TOKENS, names.OUTPUT_TOKENS):
        mine, its = span.attributes.get(name), told.get(name)
        if mine is not None and its is not None and mine != its:
            return None
    return Joined(told, f"{found['run_id']}/{found['span_id']}")
