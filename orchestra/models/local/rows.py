"""A row: one request while it is being answered, as the engine's thread sees it."""

import time
from asyncio import AbstractEventLoop
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from orchestra.models.local.lora import Lora
from orchestra.models.local.prefixes import Key
from orchestra.models.local.replies import ReplyText
from orchestra.models.local.sampling import Chooser

End = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Piece:
    """What a row tells its caller after a token: text that became certain, and the token's id."""

    text: str
    token_id: int


@dataclass(slots=True, eq=False)
class Row:
    """A prompt, the reply so far, and how to go on.

    The caller's thread makes it and may set `cancelled`; everything else is the engine's until `end` or `failure` has
    been told.
    """

    prompt_ids: tuple[int, ...]
    chooser: Chooser
    max_tokens: int
    end_ids: frozenset[int]
    """Ids that end the reply; empty writes on to `max_tokens`."""
    reply: ReplyText
    tell: Callable[[Any], None]
    """Hears every `Piece`, then the row itself once it has ended, or an exception; called on `loop` when there is one,
    else on the engine's thread."""
    lora: Lora | None = None
    """Changes it from its first token to its last; `None` is the base weights alone."""
    loop: AbstractEventLoop | None = None
    wants_pieces: bool = True
    ids: list[int] = field(default_factory=list)
    """Prompt and reply together."""
    logprobs: list[float] = field(default_factory=list)
    length: int = 0
    """Tokens whose keys and values are in place."""
    cached_tokens: int = 0
    """Prompt tokens that were not computed anew."""
    grown_from: Key | None = None
    """The transcript it began with: its key, as its memory is the store's alone."""
    place: Any = None
    end: End | None = None
    cancelled: bool = False
    submitted_at: float = field(default_factory=time.perf_counter)
    first_token_at: float | None = None
    ended_at: float | None = None

    def __post_init__(self) -> None:
        self.ids = list(self.prompt_ids)

    @property
    def capacity(self) -> int:
        """Most tokens it can come to."""
        return len(self.prompt_ids) + self.max_tokens

    @property
    def reply_ids(self) -> tuple[int, ...]:
        """Ids sampled so far."""
        return tuple(self.ids[len(self.prompt_ids) :])

    def take(self, token_id: int, logprob: float) -> Piece:
        """Append a sampled token and decide whether the reply ends with it."""
        self.ids.append(token_id)
        self.logprobs.append(logprob)
        now = time.perf_counter()
        self.first_token_at = self.first_token_at or now
        ended_itself = token_id in self.end_ids
        text = self.reply.push(token_id)
        if ended_itself or self.reply.stopped:
            self.end = "stop"
        elif len(self.logprobs) >= self.max_tokens:
            self.end = "length"
        if self.end is not None:
            self.ended_at = now
            text += self.reply.finish()
            if self.reply.stopped:
                self.end = "stop"
        return Piece(text, token_id)
