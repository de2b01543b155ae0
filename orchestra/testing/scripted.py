"""A language model that says what it was told to: the double that takes the place of mocks, here and for users.

It is strict (a call without a scripted reply is an error naming the call and its prompt), it records every request, and
it keeps the promises of the `Model` protocol, token ids and log-probabilities included where its capabilities claim
them. Its tokens are words with the white space before them; ids and log-probabilities are hashes of those words, so the
same text always has the same ones. It honours `max_tokens`, `stop` and deadlines as a real server does.
"""

import asyncio
import hashlib
import re
import time
import types
import zlib
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from orchestra.errors import InputError, ModelError
from orchestra.ledger import Price
from orchestra.models.protocol import (
    Capabilities,
    Completion,
    Delta,
    FinishReason,
    Message,
    Request,
    ToolCall,
    Turn,
    Usage,
)
from orchestra.testing.script import Reply, Rules, Script, ScriptExhausted, echo, last_user_text, read_script

_PIECE = re.compile(r"\s*\S+|\s+$")
_DEFAULT_PRICE = Price.per_million("0.10", "0.40", source="scripted: invented")


def pieces(text: str) -> list[str]:
    """The scripted model's tokens of `text`: words, each with the white space before it.

    >>> pieces("one two")
    ['one', ' two']
    """
    return _PIECE.findall(text)


def piece_id(piece: str) -> int:
    """The token id of one piece: a hash below 50,000, the same in every process."""
    return zlib.crc32(piece.encode()) % 50_000


class ScriptedModel:
    """A `Model` that answers from a script.

    Args:
        replies: one reply per call in order, or a function of the request.
        name: the name it reports.
        delay_seconds: simulated time from the request to the first token.
        price: what a token costs; `None` means unknown, which a ledger with a cap refuses.
        capabilities: what it claims, and therefore does; by default it streams.
        external: whether it claims to cost money outside this machine.
        fingerprint: part of cache keys; `None` derives it from the script (a function's closure is not looked into).
    """

    def __init__(
        self,
        replies: Script,
        *,
        name: str = "scripted/test",
        delay_seconds: float = 0.0,
        price: Price | None = _DEFAULT_PRICE,
        capabilities: Capabilities | None = None,
        external: bool = False,
        fingerprint: str | None = None,
    ) -> None:
        self._replies = replies if callable(replies) else tuple(replies)
        self._name, self._price, self._external = name, price, external
        self._capabilities = capabilities or Capabilities(stream=True)
        self._fingerprint = fingerprint or _fingerprint(self._replies)
        self._latest: tuple[Request | None, tuple[int, ...]] = (None, ())
        self.delay_seconds = delay_seconds
        self.requests: list[Request] = []
        """Every request, in the order the calls began."""
        self.finished = 0
        """Calls that ended in a completion."""
        self.cancelled = 0
        """Calls that were closed or cancelled before they ended."""
        self.running = 0
        """Calls under way."""
        self.running_most = 0
        """Most calls under way at once."""
        self.closed = False

    @property
    def name(self) -> str:
        """The name it was opened by."""
        return self._name

    @property
    def provider(self) -> str:
        """Always `scripted`."""
        return "scripted"

    @property
    def capabilities(self) -> Capabilities:
        """What it claims and does."""
        return self._capabilities

    @property
    def fingerprint(self) -> str:
        """A hash of the script."""
        return self._fingerprint

    @property
    def price(self) -> Price | None:
        """As given."""
        return self._price

    @property
    def external(self) -> bool:
        """As given."""
        return self._external

    @property
    def prompts(self) -> list[str]:
        """What the user said last in every request so far."""
        return [last_user_text(request) for request in self.requests]

    def prompt_tokens_bound(self, request: Request) -> int:
        """Exact: the tokens of the rendered prompt."""
        return len(self._prompt_ids(request))

    def prompt_key(self, request: Request) -> str:
        """The messages themselves: the scripted tokens are hashes, and two prompts may share theirs."""
        return repr(request.messages)

    async def stream(self, request: Request) -> AsyncGenerator[Delta | Completion, None]:
        """The scripted reply, a word at a time where the capabilities say `stream`, then its completion.

        Raises:
            ScriptExhausted: when the script has no reply left; the message names the call and the prompt.
            orchestra.errors.ModelError: when the delay is longer than the request's deadline.
            Exception: whatever the script holds for this call.
        """
        self.requests.append(request)
        self.running += 1
        self.running_most = max(self.running_most, self.running)
        began = time.perf_counter()
        ended = False
        try:
            call = len(self.requests)
            await self._wait(request)
            reply = self._reply(call, request)
            first = time.perf_counter() - began
            completion = self._completion(reply, request)
            if self._capabilities.stream:
                for piece in pieces(completion.text):
                    yield Delta(text=piece, token_ids=(piece_id(piece),) if self._capabilities.token_ids else ())
            ended = True
            self.finished += 1
            yield replace(completion, latency_seconds=time.perf_counter() - began, first_token_seconds=first)
        except Exception:
            ended = True
            raise
        finally:
            self.running -= 1
            if not ended:
                self.cancelled += 1

    address: tuple[str, int] | None = None
    meeting: Usage | None = None

    async def meet(self, *, deadline_seconds: float | None = None, turn: Turn | None = None) -> Usage | None:
        """Nothing is left to learn."""
        return None

    async def close(self) -> None:
        """Mark it closed."""
        self.closed = True

    def _prompt_ids(self, request: Request) -> tuple[int, ...]:
        """Of the latest request they are kept: a runtime asks for a bound just before it calls."""
        latest, ids = self._latest
        if latest is not request:
            ids = _prompt_ids(request)
            self._latest = (request, ids)
        return ids

    async def _wait(self, request: Request) -> None:
        if request.deadline_seconds is not None and self.delay_seconds > request.deadline_seconds:
            await asyncio.sleep(request.deadline_seconds)
            raise ModelError(
                f"{self._name} did not answer within {request.deadline_seconds:g} s; give the call a longer deadline",
                retryable=True,
            )
        await asyncio.sleep(self.delay_seconds)

    def _reply(self, call: int, request: Request) -> str | Completion | ToolCall:
        if callable(self._replies):
            reply = self._replies(request)
        elif call <= len(self._replies):
            reply = self._replies[call - 1]
        else:
            raise ScriptExhausted(
                f"call {call} of {self._name} has no scripted reply (the script holds {len(self._replies)}); "
                f"the prompt was {last_user_text(request)!r}"
            )
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _completion(self, reply: str | Completion | ToolCall, request: Request) -> Completion:
        if isinstance(reply, Completion):
            return reply
        calls = (reply,) if isinstance(reply, ToolCall) else ()
        text, reason = _cut("" if isinstance(reply, ToolCall) else reply, request)
        said = pieces(text) + [piece for call in calls for piece in pieces(f"{call.name} {call.arguments}")]
        prompt = self._prompt_ids(request)
        with_ids = self._capabilities.token_ids
        return Completion(
            text=text,
            finish_reason="tool_calls" if calls else reason,
            model=self._name,
            usage=Usage(input_tokens=len(prompt), output_tokens=len(said)),
            tool_calls=calls,
            prompt_token_ids=prompt if with_ids else None,
            token_ids=tuple(map(piece_id, said)) if with_ids else None,
            logprobs=tuple(-(piece_id(p) % 997) / 997 for p in said) if self._capabilities.logprobs else None,
            adapter=request.adapter,
        )


def _cut(text: str, request: Request) -> tuple[str, FinishReason]:
    ends = [at for stop in request.sampling.stop if (at := text.find(stop)) >= 0]
    text = text[: min(ends)] if ends else text
    words = pieces(text)
    if len(words) > request.sampling.max_tokens:
        return "".join(words[: request.sampling.max_tokens]), "length"
    return text, "stop"


def _prompt_ids(request: Request) -> tuple[int, ...]:
    """Ids of the prompt: those of the latest assistant turn that carries ids, then what came after it, rendered."""
    ids: tuple[int, ...] = ()
    after: Sequence[Message] = request.messages
    for at in range(len(request.messages) - 1, -1, -1):
        message = request.messages[at]
        if message.token_ids is not None and message.prompt_token_ids is not None:
            ids, after = message.prompt_token_ids + message.token_ids, request.messages[at + 1 :]
            break
    else:
        ids = tuple(piece_id(piece) for tool in request.tools for piece in pieces(repr(tool)))
    rendered = "".join(_rendered(message) for message in after) + "\n<assistant>"
    return ids + tuple(piece_id(piece) for piece in pieces(rendered))


def _rendered(message: Message) -> str:
    calls = "".join(f" {call.id} {call.name} {call.arguments}" for call in message.tool_calls)
    answered = f" {message.tool_call_id}" if message.tool_call_id else ""
    return f"\n<{message.role}{answered}> {message.content}{calls}"


def _fingerprint(replies: tuple[Reply, ...] | Callable[[Request], Reply]) -> str:
    if isinstance(replies, Rules):
        parts = [repr(replies.rules)]
    elif not callable(replies):
        parts = [repr(reply) for reply in replies]
    else:
        code = getattr(replies, "__code__", None)
        parts = [str(getattr(replies, "__qualname__", type(replies).__qualname__))]
        if isinstance(code, types.CodeType):
            plain = [repr(c) for c in code.co_consts if isinstance(c, str | int | float | tuple | None)]
            parts += [code.co_code.hex(), *code.co_names, *plain]
    return "scripted:" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def open_scripted(
    name: str, *, delay_seconds: float = 0.0, price: Price | None = _DEFAULT_PRICE, **_: object
) -> ScriptedModel:
    """`scripted/echo`, which repeats the last user message, or `scripted/FILE`, which reads its replies from a file.

    Args:
        name: with or without the prefix `scripted/`; a file's forms are described in `orchestra/testing/script.py`.
        delay_seconds: simulated time to the first token.
        price: what a token costs.
        _: settings of other models, which change nothing here.

    Raises:
        InputError: when the file is missing or malformed.
    """
    rest = name.removeprefix("scripted/")
    if not rest:
        raise InputError(f"{name!r} names no script; write 'scripted/echo' or 'scripted/FILE'")
    script: Script = echo if rest == "echo" else read_script(Path(rest).expanduser())
    capabilities = Capabilities(stream=True, seed=callable(script), token_ids=True, logprobs=True)
    return ScriptedModel(
        script, name=f"scripted/{rest}", delay_seconds=delay_seconds, price=price, capabilities=capabilities
    )
