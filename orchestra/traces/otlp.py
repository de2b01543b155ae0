"""Sending spans to a collector over OTLP: beside the store, best effort, and never at the run's expense.

The run hands over each span as it ends and goes on; a thread makes views of them and posts them in batches. What does
not fit into the queue, what the collector refuses, and what it has not taken when the run has ended is dropped, and
counted. The store has every span; `send_run` sends a stored run afterwards, patiently.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from orchestra.errors import MissingExtra
from orchestra.traces.content import is_digest
from orchestra.traces.export_settings import CONTENT_VARIABLE, patience, wants_content
from orchestra.traces.export_view import CONTENT, View
from orchestra.traces.records import SpanRecord
from orchestra.traces.store import Store

if TYPE_CHECKING:
    from orchestra.traces.otlp_wire import Posted

MOST_SPANS: Final = 20_000
"""Spans that may wait to be sent."""
MOST_CHARACTERS: Final = 64 * 2**20
"""Characters of content that may wait to be sent."""
BATCH_SPANS: Final = 256
BATCH_CHARACTERS: Final = 2 * 2**20
"""Of content, in one request; a collector refuses a request above its limit (4 to 20 MiB) as a whole."""
_IDLE_SECONDS: Final = 0.2
_POLL_SECONDS: Final = 0.01
_PROVEN: Final = 5
"""Times its patience, for the answer to one batch, has a collector that took an earlier one."""
_LONGEST: Final = 10
"""Times its patience, a closing exporter waits at most, all batches together."""


class Wire(Protocol):
    """Posts one batch and says how it went."""

    def post(self, spans: Iterable[SpanRecord]) -> "Posted":
        """How the collector took `spans`."""

    def close(self) -> None:
        """Give up what is being tried again."""

    @property
    def refused(self) -> str | None:
        """Why the collector did not take what it was sent last, though that may be tried again; `None` if it did."""


@dataclass(slots=True, kw_only=True)
class Exported:
    """How many spans a collector took."""

    run_id: str
    url: str
    with_content: bool
    sent: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Spans by the reason they were dropped for."""

    def document(self) -> dict[str, object]:
        """As one JSON document."""
        lost = {"dropped": self.dropped.total(), "reasons": dict(self.dropped)}
        return {"run_id": self.run_id, "otlp": self.url, "content": self.with_content, "sent": self.sent, **lost}

    def lines(self) -> list[str]:
        """For a person: what was sent, what was not, why, and what to do."""
        lost = self.dropped.total()
        if not lost:
            how = "" if self.with_content else f", without what was said ({CONTENT_VARIABLE}=true sends it)"
            return [f"{self.sent} spans sent to {self.url}{how}"]
        reasons = "; ".join(f"{count} {reason}" for reason, count in self.dropped.most_common())
        return [
            f"{lost} of {lost + self.sent} spans did not reach {self.url}: {reasons}",
            f"the store has them all: orchestra traces send {self.run_id} --otlp {self.url}",
        ]


class Exporter:
    """Sends spans in the background until it is closed; safe to be handed spans by several threads.

    Args:
        run_id: whose spans they are.
        url: where to, as `traces_url` gives it.
        with_content: whether what was said is sent; `None` asks the environment.
        patience_seconds: how long `close` waits for the first answer; a collector that has refused a batch is not
            waited for at all, and one that has taken some gets several times as long for the rest. `None` asks the
            environment.
        wire: posts the batches; `None` posts OTLP over HTTP.

    Raises:
        MissingExtra: the extra `otlp` is not installed.
    """

    def __init__(
        self,
        run_id: str,
        url: str,
        *,
        with_content: bool | None = None,
        patience_seconds: float | None = None,
        wire: Wire | None = None,
    ) -> None:
        self.wants_content = wants_content() if with_content is None else with_content
        self.exported = Exported(run_id=run_id, url=url, with_content=self.wants_content)
        self._patience_seconds = patience() if patience_seconds is None else patience_seconds
        self._view = View(with_content=self.wants_content)
        self._wire = wire or _open_wire(url, timeout_seconds=10.0)
        self._waiting: deque[tuple[SpanRecord, Mapping[str, Any], int]] = deque()
        self._characters = 0
        self._in_flight = 0
        self._since: float | None = None
        self._failing = False
        self._closing = False
        self._given_up = False
        self._guard = threading.Lock()
        self._wake = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._work, name="orchestra-otlp", daemon=True)
        self._thread.start()

    def offer(self, record: SpanRecord, content: Mapping[str, Any]) -> None:
        """Take one ended span; at once, whatever the collector does.

        Args:
            content: what the record's digests stand for, by attribute.
        """
        size = sum(map(_characters, content.values())) if content else 0
        with self._guard:
            if self._closing:
                self.exported.dropped["came after the end"] += 1
                return
            if len(self._waiting) >= MOST_SPANS or (self._waiting and self._characters + size > MOST_CHARACTERS):
                self.exported.dropped["found the queue full"] += 1
                return
            self._waiting.append((record, content, size))
            self._characters += size
            full = len(self._waiting) >= BATCH_SPANS
        if full and not self._wake.is_set():
            self._wake.set()

    def close(self) -> Exported:
        """What was sent and what was not; waits for a collector that takes spans, and for no other."""
        with self._guard:
            self._closing = True
        self._wake.set()
        until = time.monotonic() + _LONGEST * self._patience_seconds
        while not self._done.wait(_POLL_SECONDS) and time.monotonic() < until and self._is_taken():
            pass
        reason = self._wire.refused or "were not taken in time"
        self._wire.close()
        with self._guard:
            left = len(self._waiting) + self._in_flight
            if left:
                self.exported.dropped[reason] += left
            self._given_up = True
            self._waiting.clear()
            return self.exported

    def _is_taken(self) -> bool:
        """Whether the collector answers, and takes what it is sent."""
        since = self._since
        allowed = self._patience_seconds * (_PROVEN if self.exported.sent else 1)
        late = since is not None and time.monotonic() - since > allowed
        return not (late or self._failing or self._wire.refused is not None)

    def _work(self) -> None:
        while True:
            self._wake.wait(_IDLE_SECONDS)
            self._wake.clear()
            while batch := self._taken():
                self._send(batch)
            with self._guard:
                if self._closing and not self._waiting:
                    break
        self._done.set()
        self._wire.close()

    def _taken(self) -> list[tuple[SpanRecord, Mapping[str, Any]]]:
        """The next batch; empty when nothing waits."""
        batch: list[tuple[SpanRecord, Mapping[str, Any]]] = []
        characters = 0
        with self._guard:
            while self._waiting and len(batch) < BATCH_SPANS and characters <= BATCH_CHARACTERS:
                record, content, size = self._waiting.popleft()
                self._characters -= size
                characters += size
                batch.append((record, content))
            self._in_flight = len(batch)
            self._since = time.monotonic() if batch else None
        return batch

    def _send(self, batch: list[tuple[SpanRecord, Mapping[str, Any]]]) -> None:
        try:
            counts = _posted(self._wire.post, [self._view.of(record, content) for record, content in batch])
        except Exception as error:  # the boundary: whatever is wrong with sending, the run goes on
            counts = Counter({f"could not be sent: {type(error).__name__}: {error}": len(batch)})
        with self._guard:
            self._in_flight = 0
            self._since = None
            if self._given_up:
                return
            self.exported.sent += counts.pop("", 0)
            self.exported.dropped += counts
            self._failing = bool(counts)


def send_run(store: Store, run_id: str, url: str, *, with_content: bool | None = None) -> Exported:
    """Send a stored run to a collector, and say how many of its spans it took.

    Args:
        run_id: the run, or the beginning of its id.
        url: where to, as `traces_url` gives it.
        with_content: whether what was said is sent; `None` asks the environment.

    Raises:
        InputError: there is no such run.
        MissingExtra: the extra `otlp` is not installed.
    """
    run_id = store.find_run(run_id)
    told = wants_content() if with_content is None else with_content
    exported = Exported(run_id=run_id, url=url, with_content=told)
    wire = _open_wire(url, timeout_seconds=30.0)
    view = View(with_content=told)
    try:
        for batch in _batches(
            view.of(record, _content(store, record) if told else {}) for record in store.spans(run_id)
        ):
            counts = _posted(wire.post, batch)
            exported.sent += counts.pop("", 0)
            exported.dropped += counts
    finally:
        wire.close()
    return exported


def _posted(post: Callable[[Iterable[SpanRecord]], "Posted"], batch: list[SpanRecord]) -> Counter[str]:
    """Spans of `batch` by what became of them; those that arrived are counted under the empty reason."""
    answer = post(batch)
    if answer.too_large and len(batch) > 1:
        half = len(batch) // 2
        return _posted(post, batch[:half]) + _posted(post, batch[half:])
    if answer.reason is not None:
        return Counter({answer.reason: len(batch)})
    counts = Counter({"": len(batch) - answer.rejected})
    if answer.rejected:
        counts["were rejected by it"] = answer.rejected
    return counts


def _open_wire(url: str, *, timeout_seconds: float) -> Wire:
    try:
        from orchestra.traces.otlp_wire import OtlpWire
    except ImportError as cause:
        raise MissingExtra("otlp", "sending spans to a collector") from cause
    logging.getLogger("opentelemetry.exporter").addHandler(logging.NullHandler())  # what is dropped is counted instead
    return OtlpWire(url, timeout_seconds=timeout_seconds)


def _content(store: Store, record: SpanRecord) -> dict[str, object]:
    """What a stored span's attributes stand for."""
    found: dict[str, object] = {}
    for key in CONTENT:
        value = record.attributes.get(key)
        if is_digest(value):
            try:
                found[key] = store.blob_value(str(value))
            except KeyError:
                continue  # pruned
        elif value is not None:
            found[key] = value
    return found


def _batches(records: Iterable[SpanRecord]) -> Iterable[list[SpanRecord]]:
    batch: list[SpanRecord] = []
    characters = 0
    for record in records:
        batch.append(record)
        characters += sum(map(_characters, record.attributes.values()))
        if len(batch) >= BATCH_SPANS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _characters(value: object) -> int:
    """About how many characters `value` is as text."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(map(_characters, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_characters, value))
    return 8
