"""What a trainer needs from the runtime, which it reaches by plug-in name and never imports.

Episodes come in through an `EpisodeSource` (entry points `orchestra.episode_sources`), new weights go out through a
`Publisher` (`orchestra.publishers`), and what base weights are is known to a `Base` (`orchestra.bases`). All are typed
by structure: whoever implements them imports nothing from here. What is published is `orchestra.gate.Weights`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from orchestra.gate import Weights
from orchestra.traces.episode import Episode, Message

SOURCES, PUBLISHERS, BASES = "orchestra.episode_sources", "orchestra.publishers", "orchestra.bases"
"""Groups of entry points."""


@runtime_checkable
class EpisodeSource(Protocol):
    """Where episodes come from: played now, or recorded earlier."""

    async def episodes(self, adapters: Mapping[str, str], count: int, seed: int) -> Sequence[Episode]:
        """The next `count` episodes, or fewer when there are no more.

        Args:
            adapters: agent -> `name@version` now in force; the empty text means the base weights.
            count: how many are wanted.
            seed: of everything that is drawn; the same seed and adapters give the same games.
        """
        ...

    async def close(self) -> None:
        """Free what it holds; calling it twice is harmless."""
        ...


@runtime_checkable
class Publisher(Protocol):
    """Brings new weights to whatever samples with them."""

    async def publish(self, weights: Weights) -> tuple[float, ...]:
        """Serve `weights` as `name@version`; natural log-probabilities of `token_ids[1:]` as the server computes them.

        They are under base and adapter; the trainer compares them with its own.
        """
        ...

    async def withdraw(self, served: str) -> None:
        """Take `name@version` away; one that is not there is ignored."""
        ...

    async def close(self) -> None:
        """Free what it holds."""
        ...


@runtime_checkable
class Base(Protocol):
    """Base weights on this machine, and the ids their tokenizer makes of a conversation."""

    @property
    def folder(self) -> Path:
        """As transformers opens it."""
        ...

    @property
    def sha256(self) -> str:
        """Of the weights, as the card of an adapter quotes it."""
        ...

    def prompt_ids(self, messages: Sequence[Message], replies: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """Ids of a conversation, the next reply about to begin.

        Args:
            messages: everything said so far.
            replies: ids of the assistant messages among them, in order; they are kept as they are.
        """
        ...

    def reply_ids(self, text: str) -> tuple[int, ...]:
        """Ids of a reply that nobody sampled, its end included."""
        ...
