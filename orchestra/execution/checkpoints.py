"""LangGraph's checkpoints in our store: `StoreSaver`.

A checkpoint is committed with everything else the loop has written in the same round (spans, the journal, other
checkpoints), and is durable when `aput` or `put` returns. State is plain JSON and digests; a channel that a step left
alone, and the finished chunks of a list that grows, are not stored again. Nothing is kept in memory but the digests of
the last checkpoint of the threads used last.

    graph = builder.compile(checkpointer=StoreSaver(store))
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import (
    WRITES_IDX_MAP,
    BaseCheckpointSaver,
    ChannelVersions,
    Checkpoint,
    CheckpointMetadata,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from orchestra.execution.checkpoint_values import digests, packed, unpacked
from orchestra.traces.records import CheckpointRecord, CheckpointWrite
from orchestra.traces.store import Store
from orchestra.traces.store import checkpoints as kept_in

Result = TypeVar("Result")

THREADS_REMEMBERED = 1000
"""Threads whose last checkpoint's digests are remembered, so that an unchanged channel is not packed again."""

_WHOLE = 1 << 40  # a checkpoint's own fields differ at every step: a blob of them would be used once


class StoreSaver(BaseCheckpointSaver[int]):
    """A checkpointer that keeps its checkpoints in `store`, SQLite or PostgreSQL.

    Args:
        store: open for writing; it stays the caller's to close.
        serde: for values JSON cannot say exactly; one that is not LangGraph's own is given every value.
    """

    def __init__(self, store: Store, *, serde: SerializerProtocol | None = None) -> None:
        super().__init__(serde=serde)
        self.store = store
        self._in_place = store.url.startswith("sqlite")  # a read takes microseconds: no thread for it
        self._last: OrderedDict[tuple[str, str], tuple[str, dict[str, tuple[object, Any]]]] = OrderedDict()

    # Writing.

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Commit a checkpoint; the configuration that finds it."""
        record = self._record(config, checkpoint, metadata, new_versions)
        self.store.post(record)
        self.store.flush_sync()
        return _found_by(record.thread_id, record.checkpoint_ns, record.checkpoint_id)

    async def aput(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        """Commit a checkpoint with whatever else is being written; the configuration that finds it."""
        record = self._record(config, checkpoint, metadata, new_versions)
        await self.store.write(record)
        return _found_by(record.thread_id, record.checkpoint_ns, record.checkpoint_id)

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Commit what a task wrote."""
        self.store.post(*self._writes(config, writes, task_id, task_path))
        self.store.flush_sync()

    async def aput_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        """Commit what a task wrote, with whatever else is being written."""
        await self.store.write(*self._writes(config, writes, task_id, task_path))

    def _record(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> CheckpointRecord:
        place = config["configurable"]
        thread_id, namespace = str(place["thread_id"]), str(place.get("checkpoint_ns", ""))
        parent_id = get_checkpoint_id(config)
        known = self._channels_of(thread_id, namespace, parent_id)
        rest: dict[str, Any] = dict(checkpoint)
        channels: dict[str, tuple[object, Any]] = {}
        for name, value in rest.pop("channel_values").items():
            version = checkpoint["channel_versions"].get(name)
            before = None if name in new_versions or version is None else known.get(name)
            same = before is not None and before[0] == version
            channels[name] = before if before is not None and same else (version, self._pack(value))
        self._remember(thread_id, namespace, checkpoint["id"], channels)
        told: dict[str, Any] = dict(get_checkpoint_metadata(config, metadata))
        run_id = told.get("run_id")
        return CheckpointRecord(
            thread_id=thread_id,
            checkpoint_ns=namespace,
            checkpoint_id=checkpoint["id"],
            parent_id=parent_id,
            run_id=run_id if isinstance(run_id, str) else None,
            state={
                "checkpoint": self._pack(rest, in_place=_WHOLE),
                "channels": [[name, kept] for name, (_, kept) in channels.items()],
            },
            metadata=self._pack(told, in_place=_WHOLE),
        )

    def _writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str
    ) -> Sequence[CheckpointWrite]:
        place = config["configurable"]
        return [
            CheckpointWrite(
                thread_id=str(place["thread_id"]),
                checkpoint_ns=str(place.get("checkpoint_ns", "")),
                checkpoint_id=str(place["checkpoint_id"]),
                task_id=task_id,
                task_path=task_path,
                index=WRITES_IDX_MAP.get(channel, index),
                channel=channel,
                value=self._pack(value),
            )
            for index, (channel, value) in enumerate(writes)
        ]

    def _pack(self, value: object, **settings: int) -> Any:
        plain = type(self.serde) is JsonPlusSerializer
        return packed(value, self.store, self.serde, plain=plain, **settings)

    def _channels_of(self, thread_id: str, namespace: str, parent_id: str | None) -> Mapping[str, tuple[object, Any]]:
        """The packed channels of the checkpoint `parent_id`, where they are remembered."""
        checkpoint_id, channels = self._last.get((thread_id, namespace), ("", {}))
        return channels if checkpoint_id == parent_id else {}

    def _remember(
        self, thread_id: str, namespace: str, checkpoint_id: str, channels: dict[str, tuple[object, Any]]
    ) -> None:
        self._last[thread_id, namespace] = (checkpoint_id, channels)
        self._last.move_to_end((thread_id, namespace))
        if len(self._last) > THREADS_REMEMBERED:
            self._last.popitem(last=False)

    # Reading.

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that `config` names, or the last one of its thread; `None` when there is none."""
        place = config["configurable"]
        thread_id, namespace = str(place["thread_id"]), str(place.get("checkpoint_ns", ""))
        record = kept_in.checkpoint(self.store, thread_id, namespace, get_checkpoint_id(config))
        return None if record is None else self._tuple(record)

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        """The checkpoint that `config` names, or the last one of its thread; `None` when there is none."""
        return await self._aside(lambda: self.get_tuple(config))

    def list(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> Iterator[CheckpointTuple]:
        """The checkpoints that fit, newest first; read as they are asked for."""
        place: Mapping[str, Any] = {} if config is None else config["configurable"]
        found = kept_in.checkpoints(
            self.store,
            thread_id=None if config is None else str(place["thread_id"]),
            namespace=place.get("checkpoint_ns"),
            checkpoint_id=place.get("checkpoint_id"),
            before=None if before is None else get_checkpoint_id(before),
        )
        count = 0
        for record in found:
            if limit is not None and count >= limit:
                return
            if filter and not self._fits(record, filter):
                continue
            count += 1
            yield self._tuple(record)

    async def alist(
        self,
        config: RunnableConfig | None,
        *,
        filter: dict[str, Any] | None = None,
        before: RunnableConfig | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[CheckpointTuple]:
        """The checkpoints that fit, newest first; read as they are asked for."""
        found = self.list(config, filter=filter, before=before, limit=limit)
        while (one := await self._aside(lambda: next(found, None))) is not None:
            yield one

    def _tuple(self, record: CheckpointRecord) -> CheckpointTuple:
        writes = kept_in.checkpoint_writes(self.store, record.thread_id, record.checkpoint_ns, record.checkpoint_id)
        state: Any = record.state
        kept = [
            state["checkpoint"],
            record.metadata,
            *(one for _, one in state["channels"]),
            *(w.value for w in writes),
        ]
        bodies = self.store.blob_bodies(name for one in kept for name in digests(one))

        def value(one: object) -> Any:
            return unpacked(one, bodies, self.serde)

        checkpoint = value(state["checkpoint"])
        checkpoint["channel_values"] = {name: value(one) for name, one in state["channels"]}
        thread_id, namespace = record.thread_id, record.checkpoint_ns
        return CheckpointTuple(
            config=_found_by(thread_id, namespace, record.checkpoint_id),
            checkpoint=checkpoint,
            metadata=value(record.metadata),
            parent_config=_found_by(thread_id, namespace, record.parent_id) if record.parent_id else None,
            pending_writes=[(write.task_id, write.channel, value(write.value)) for write in writes],
        )

    def _metadata(self, record: CheckpointRecord) -> dict[str, Any]:
        bodies = self.store.blob_bodies(digests(record.metadata))
        metadata: dict[str, Any] = unpacked(record.metadata, bodies, self.serde)
        return metadata

    def _fits(self, record: CheckpointRecord, wanted: Mapping[str, Any]) -> bool:
        metadata = self._metadata(record)
        return all(metadata.get(key) == value for key, value in wanted.items())

    # Dropping and copying.

    def delete_thread(self, thread_id: str) -> None:
        """Drop every checkpoint of a thread."""
        self.prune([thread_id], strategy="delete")

    async def adelete_thread(self, thread_id: str) -> None:
        """Drop every checkpoint of a thread."""
        await self._aside(lambda: self.delete_thread(thread_id))

    def delete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Drop the checkpoints that those runs wrote."""
        kept_in.drop_runs(self.store, run_ids)
        self._last.clear()

    async def adelete_for_runs(self, run_ids: Sequence[str]) -> None:
        """Drop the checkpoints that those runs wrote."""
        await self._aside(lambda: self.delete_for_runs(run_ids))

    def copy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints of one thread to another."""
        kept_in.copy_thread(self.store, source_thread_id, target_thread_id)

    async def acopy_thread(self, source_thread_id: str, target_thread_id: str) -> None:
        """Copy all checkpoints of one thread to another."""
        await self._aside(lambda: self.copy_thread(source_thread_id, target_thread_id))

    def prune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Drop all but the last checkpoint of each namespace of those threads, or (`delete`) all.

        Raises:
            ValueError: when there is no such strategy.
        """
        if strategy not in ("keep_latest", "delete"):
            raise ValueError(f"no strategy {strategy!r}; there are 'keep_latest' and 'delete'")
        if strategy == "delete":
            kept_in.drop_threads(self.store, thread_ids)
        else:
            kept_in.keep_latest(self.store, thread_ids, self._needed_by)
        for place in [place for place in self._last if place[0] in thread_ids]:
            self._last.pop(place, None)

    async def aprune(self, thread_ids: Sequence[str], *, strategy: str = "keep_latest") -> None:
        """Drop all but the last checkpoint of each namespace of those threads, or (`delete`) all."""
        await self._aside(lambda: self.prune(thread_ids, strategy=strategy))

    def _needed_by(self, record: CheckpointRecord) -> Iterator[CheckpointRecord]:
        """The ancestors back to where each channel that is kept as changes was last kept whole."""
        changing = set(self._metadata(record).get("counters_since_delta_snapshot") or ())
        one: CheckpointRecord | None = record
        while one is not None:
            state: Any = one.state
            changing -= {name for name, _ in state["channels"]}
            if not changing or one.parent_id is None:
                return
            one = kept_in.checkpoint(self.store, one.thread_id, one.checkpoint_ns, one.parent_id)
            if one is not None:
                yield one

    async def _aside(self, work: Callable[[], Result]) -> Result:
        """What `work` returns; a server's answer is awaited in a thread."""
        return work() if self._in_place else await asyncio.to_thread(work)


def _found_by(thread_id: str, namespace: str, checkpoint_id: str) -> RunnableConfig:
    place = {"thread_id": thread_id, "checkpoint_ns": namespace, "checkpoint_id": checkpoint_id}
    return RunnableConfig(configurable=place)
