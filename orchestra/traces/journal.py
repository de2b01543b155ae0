"""The journal of a run: every call before it is sent, every reply before it is used.

`begin` is durable before the call goes out and `finish` before the node sees the reply. So a resumed run reuses what
was answered, knows what was in flight when it was killed, and sends at most one extra request for each such call.
"""

from collections.abc import Mapping
from typing import Any

from orchestra.traces.records import JournalEntry
from orchestra.traces.redaction import Redactor, redacted_reply
from orchestra.traces.store import Store


class Journal:
    """The journal of `run_id`, with what earlier attempts wrote.

    Args:
        store: where it is kept.
        run_id: whose journal.
        redact: shown every text of a reply before it reaches the store; a resumed run then sees what was kept.
    """

    def __init__(self, store: Store, run_id: str, *, redact: Redactor | None = None) -> None:
        self.run_id = run_id
        self._store = store
        self.redact = redact
        self._replies: dict[str, Mapping[str, Any]] = {}
        self._kinds: dict[str, str] = {}
        self._interrupted: dict[str, JournalEntry] = {}
        for entry in store.journal(run_id):
            if entry.event == "begin":
                self._interrupted[entry.key] = entry
            else:
                self._interrupted.pop(entry.key, None)
                self._replies[entry.key] = entry.reply or {}

    @property
    def resumed(self) -> bool:
        """Whether an earlier attempt wrote anything."""
        return bool(self._replies or self._interrupted)

    @property
    def interrupted(self) -> tuple[JournalEntry, ...]:
        """The calls an earlier attempt sent and never saw the reply of."""
        return tuple(self._interrupted.values())

    def was_interrupted(self, key: str) -> bool:
        """Whether an earlier attempt sent the call `key` and never saw its reply."""
        return key in self._interrupted

    def finished(self, key: str) -> dict[str, Any] | None:
        """The reply the call `key` got in an earlier attempt; `None` when it has none."""
        reply = self._replies.get(key)
        return None if reply is None else dict(reply)

    async def begin(
        self, key: str, kind: str, request_hash: str | None = None, reserved_nano: int | None = None
    ) -> None:
        """Write down that the call `key` is about to be sent; send it when this returns.

        Args:
            key: the same for the same call in every attempt.
            kind: `model`, `tool` or `person`.
            request_hash: digest of what is asked.
            reserved_nano: what its reservation holds, in nano-USD.

        Raises:
            orchestra.traces.store.StoreFailed: when it could not be written; the call must not be sent.
        """
        self._kinds[key] = kind
        await self._store.write(
            JournalEntry(
                run_id=self.run_id,
                key=key,
                event="begin",
                kind=kind,
                request_hash=request_hash,
                reserved_nano=reserved_nano,
            )
        )

    async def finish(self, key: str, reply: Mapping[str, object], settled_nano: int | None = None) -> None:
        """Write down the reply to the call `key`; use it when this returns.

        Args:
            key: as given to `begin`.
            reply: anything JSON can say.
            settled_nano: what the call cost, in nano-USD; `None` means not known.

        Raises:
            orchestra.traces.store.StoreFailed: when it could not be written.
        """
        kept = reply if self.redact is None else redacted_reply(reply, self.redact)
        await self._store.write(
            JournalEntry(
                run_id=self.run_id,
                key=key,
                event="finish",
                kind=self._kinds.pop(key, "model"),
                reply=kept,
                settled_nano=settled_nano,
            )
        )
