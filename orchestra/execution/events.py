"""What a team does while it does it: the events of one play, in order, and `stream`, which yields them.

    async for event in stream("team.yaml", "What is 61 * 65?"):
        if isinstance(event, Token):
            print(event.text, end="")

A `Token` is as much of a reply as arrived at once: a piece from a model that streams, the whole reply from one that
does not, and from the cache or the journal. The last event is `Done`. Closing the iterator, or leaving the loop early,
cancels the run.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from graphs import AgentGraph
    from orchestra.traces.episode import Episode


@dataclass(frozen=True, slots=True)
class NodeStarted:
    """A node began its turn."""

    node: str
    round: int
    """From 1."""


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a model's reply."""

    node: str
    text: str
    anew: bool = False
    """The call was cut off and is tried again: what came of this reply before does not count."""


@dataclass(frozen=True, slots=True)
class ToolUsed:
    """A tool, or a person, answered."""

    node: str
    tool: str
    input: str
    said: str | None
    """`None` means it had nothing to say, or failed."""
    error: str | None = None
    """Why it failed; `None` means it did not."""


@dataclass(frozen=True, slots=True)
class Said:
    """A node ended its turn."""

    node: str
    round: int
    text: str | None
    """`None` means it had nothing to say."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What the play has come to so far, told after each reply of a model."""

    paid_nano: int
    """Nano-USD the ledger paid."""
    list_nano: int
    """Nano-USD it costs uncached."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A person has to answer before this node can go on; the run pauses when nobody else can either."""

    node: str
    question: str
    key: str
    """Of the call in the run's journal."""


@dataclass(frozen=True, slots=True)
class Done:
    """The play ended: well, with an error, or because a person is asked."""

    episode: "Episode"


Event: TypeAlias = NodeStarted | Token | Said | ToolUsed | Cost | Asked | Done
"""Anything `stream` yields."""

Listener: TypeAlias = Callable[[Event], None]
"""Told each event as it happens; returns at once."""


async def stream(team: "AgentGraph | str | Path", text: str, **options: Any) -> AsyncGenerator[Event, None]:
    """The events of `team` at the task `text`, as they happen; the last one is `Done`.

    Args:
        team: a graph, or the path of a team file.
        text: the task.
        options: of `orchestra.execution.run`: `max_cost_usd`, `settings`, `store`, `resume`, `answers`, ...

    Raises:
        InputError: the team cannot run, or something it needs is missing; nothing was spent.
    """
    from orchestra.execution.runner import run

    events: asyncio.Queue[Event | None] = asyncio.Queue()

    async def play() -> "Episode":
        try:
            return await run(team, text, listener=events.put_nowait, **options)
        finally:
            events.put_nowait(None)

    playing = asyncio.create_task(play())
    try:
        while (event := await events.get()) is not None:
            yield event
        yield Done(await playing)
    finally:
        playing.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):  # whoever waited for it was told already
            await playing
