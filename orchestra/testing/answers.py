"""What the loopback server is told to answer, what it was asked, and what it counts."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

NEVER = math.inf
"""A wait that only ends when the peer leaves."""

REFUSING = frozenset({*range(400, 500), 503, 529}) - {408, 499}
"""Statuses by which a server says that it did not serve; after any other failure it may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server does with one request."""

    text: str = "hello"
    """Content of the reply; streamed a word at a time."""
    status: int = 200
    """Anything but 200 answers with an error body."""
    headers: tuple[tuple[str, str], ...] = ()
    """Sent besides the usual ones, such as `("retry-after", "7")`."""
    body: str | None = None
    """Sent as it is in place of what would be said; for other protocols and for answers that are not JSON."""
    usage: tuple[int, int] | Literal["true"] | None = "true"
    """Prompt and reply tokens reported, whatever was counted; `None` reports none."""
    tool_calls: tuple[tuple[str, str], ...] = ()
    """Name and JSON arguments of functions it calls."""
    logprob: float | None = None
    """Log-probability of every token, where the request asks for them; `None` takes `tokens.logprob_of`."""
    finish_reason: str | None = None
    """`None` takes `tool_calls`, `stop`, or `length` where `max_tokens` cut the reply."""
    delay_seconds: float = 0.0
    """Wait before the first byte of the answer; `NEVER` hangs."""
    word_seconds: float = 0.0
    """Wait before each event of a stream."""
    hang_after: int | None = None
    """Say no more after so many events of a stream; `None` finishes it."""
    hang_up_after: int | None = None
    """Close the connection after so many events of a stream; a reply that is not streamed is cut in its middle."""
    malformed: bool = False
    """Cut every JSON document after the first in half (a reply that is not streamed is the first)."""
    choices: bool = True
    """Whether there is a reply at all; `False` sends an empty list of them."""
    obeys_max_tokens: bool = True
    """Cut the reply where the request says, as a server should."""

    @property
    def serves(self) -> bool:
        """Whether the model works for this answer, heard or not: it does not when the request is refused."""
        return self.status not in REFUSING


@dataclass(slots=True, kw_only=True)
class Served:
    """What one request asked for and what became of it."""

    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    number: int = 0
    """Which model call of this server it is, from 1."""
    status: int = 0
    """Of the answer; 0 means none was sent yet."""
    finished: bool = False
    """Whether the whole answer went out; `False` after a peer that left."""
    response_id: str = ""
    """Of the reply; empty when the request was refused."""
    prompt_tokens: int = 0
    """Read by the model, whatever was reported."""
    completion_tokens: int = 0
    """Made by the model, heard or not, whatever was reported."""
    began_at: float = 0.0
    """Seconds of the monotonic clock, when the request was complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a server served, by its own count."""

    requests: int
    """Model calls, refused ones included."""
    answered: int
    """Model calls whose reply (status 200) went out whole."""
    prompt_tokens: int
    completion_tokens: int
    running_most: int
    """Most requests being answered at once."""
    statuses: Mapping[int, int]
    """How many model calls were answered with each status; 0 means never answered."""


Plan = Callable[[Served], Answer]
"""What to do with a request, given what it asks."""
