"""The `Model` protocol: what the runtime may ask of a language model, and what it gets back.

A model declares its capabilities as data; nobody asks for its type. A request is messages whose earlier assistant
turns may carry the token ids they were sampled as: a model that accepts ids extends such a transcript by appending
ids and never renders it again, because decoding and encoding again changes 9-20 % of sampled replies. A reply is an
async stream of `Delta` events that ends in exactly one `Completion`.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from graphs import Sampling
from orchestra.ledger import Price

Role = Literal["system", "user", "assistant", "tool"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Facts about a model that the runtime relies on and `orchestra.testing` verifies."""

    token_ids: bool = False
    """Replies carry token ids, and transcripts with ids are extended by appending."""
    logprobs: bool = False
    """Replies carry the log-probability of each token under the distribution sampled from."""
    tools: bool = False
    """Native function calling; otherwise agents use the text protocol of `orchestra.agents.protocol`."""
    seed: bool = False
    """The same request with the same seed and sample index draws the same reply, up to the numerics of its batch."""
    stream: bool = False
    """Deltas arrive while the reply is being made."""
    context_tokens: int | None = None
    """Longest prompt plus reply; `None` means not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSchema:
    """A function offered to a model."""

    name: str
    description: str
    parameters: dict[str, object] = field(
        default_factory=lambda: {
            "type": "object",
            "properties": {"input": {"type": "string"}},
            "required": ["input"],
        }
    )
    """JSON Schema of the arguments; ours take one text, `input`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """A model's wish to call a function."""

    id: str
    name: str
    arguments: str
    """JSON text, as the model wrote it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a request."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    """Of an assistant message."""
    tool_call_id: str | None = None
    """Of a tool message: which call it answers."""
    prompt_token_ids: tuple[int, ...] | None = None
    """Of an assistant message: ids of the whole prompt it was sampled after."""
    token_ids: tuple[int, ...] | None = None
    """Of an assistant message: ids it was sampled as; `None` means not captured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call of a model."""

    messages: tuple[Message, ...]
    sampling: Sampling = field(default_factory=Sampling)
    tools: tuple[ToolSchema, ...] = ()
    seed: int | None = None
    """`None` leaves the draw to the model."""
    sample_index: int = 0
    """Which of several independent samples of the same request this is; part of the seed and of the cache key."""
    adapter: str | None = None
    """Name and version of an adapter over the base weights."""
    deadline_seconds: float | None = None
    """The call is cancelled after this long; `None` waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one call, as the model counts them."""

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    """Part of `input_tokens` read from a prefix cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """A piece of a reply as it is made."""

    text: str
    token_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A finished reply."""

    text: str
    finish_reason: FinishReason
    model: str
    """Name of the model that answered, as it calls itself."""
    usage: Usage | None
    """`None` means the server did not say; the call stays booked at its reservation."""
    tool_calls: tuple[ToolCall, ...] = ()
    prompt_token_ids: tuple[int, ...] | None = None
    """Ids of the prompt as the model read it; `None` means not captured."""
    token_ids: tuple[int, ...] | None = None
    """Ids as sampled, end-of-turn token included where it was drawn; `None` means not captured."""
    logprobs: tuple[float, ...] | None = None
    """Natural log, one per id of `token_ids`, under the distribution sampled from; `None` means not captured."""
    adapter: str | None = None
    response_id: str | None = None
    latency_seconds: float = 0.0
    first_token_seconds: float | None = None
    """Time to the first token; `None` means not measured."""


Turn = Callable[[int], AbstractAsyncContextManager[object]]
"""Waits until a call of at most so many tokens may be sent; inside, it is on its way."""


@runtime_checkable
class Model(Protocol):
    """A language model. Implementations keep no conversation: everything a call depends on is in its request."""

    @property
    def name(self) -> str:
        """The name it was opened by, such as `local/smollm2-135m-instruct`."""
        ...

    @property
    def provider(self) -> str:
        """OpenTelemetry's `gen_ai.provider.name`."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can do, as far as is known: a server's own word counts once it was met."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same request could be answered otherwise: weights hash and dtype; part of cache keys."""
        ...

    @property
    def price(self) -> Price | None:
        """Per token; `None` means unknown, which a ledger with a cap refuses."""
        ...

    @property
    def external(self) -> bool:
        """Whether a call costs money outside this machine."""
        ...

    @property
    def address(self) -> tuple[str, int] | None:
        """Host and port of the server it is reached at; `None` means this process, or a server it cannot name."""
        ...

    @property
    def meeting(self) -> Usage | None:
        """Most tokens that `meet` would take of the model now; `None` means none."""
        ...

    def prompt_tokens_bound(self, request: Request) -> int:
        """An upper bound of the prompt's tokens: exact where the tokenizer is at hand."""
        ...

    def prompt_key(self, request: Request) -> str:
        """The prompt as the model will read it (rendered text or ids), for cache keys."""
        ...

    def stream(self, request: Request) -> AsyncIterator[Delta | Completion]:
        """The reply as it is made: any number of `Delta`, then one `Completion`.

        Raises:
            orchestra.errors.ModelError: when the model refuses or fails; closing the iterator cancels the call.
        """
        ...

    async def meet(self, *, deadline_seconds: float | None = None, turn: Turn | None = None) -> Usage | None:
        """Learn what the properties above need to know, such as what a server says of itself; once is enough.

        Args:
            deadline_seconds: each question is given up after so long, its turn not included; `None` waits.
            turn: is waited for before each question that the model itself answers; `None` asks at once.

        Returns:
            Tokens that it took of the model, at most `meeting`; `None` when it took none.

        Raises:
            orchestra.errors.ModelError: a server does not answer; `served` says whether the model may have.
        """
        ...

    async def close(self) -> None:
        """Free what it holds; calling it twice is harmless."""
        ...


@runtime_checkable
class Scores(Protocol):
    """What a model may offer beside: how likely it is to give a reply that somebody else wrote."""

    def reply_tokens(self, reply: str) -> int:
        """Tokens of `reply` with its end, as `score` reads it."""
        ...

    async def score(self, request: Request, reply: str) -> Completion:
        """`reply` to `request` as a completion: its ids and an end, with what each had been drawn with.

        The last log-probability is that of ending there, by whichever token. `max_tokens` and `stop` of the request do
        not count; its deadline and its seed have no meaning.

        Raises:
            orchestra.errors.ModelError: the two do not fit into the context, the request truncates the distribution,
                or the model fails.
        """
        ...
