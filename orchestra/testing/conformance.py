"""The contract of `orchestra.models.protocol`, run against a model: what it declares must be so.

Use it on a model of one's own as the library does on its: `await check_model(model)`. Each promise is one function that
says what is broken; all of them are run, and everything broken is reported at once. About ten short calls are made.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from typing import cast

from graphs import Sampling
from orchestra.models.protocol import Completion, Delta, Message, Model, Request

CLOSE_SECONDS = 10.0
"""A cancelled call is given up within this."""


class NotConforming(AssertionError):
    """A model, or another plug-in, breaks its contract.

    Attributes:
        model: its name.
        broken: one line for each broken promise.
        contract: the module that states it.
    """

    def __init__(self, model: str, broken: Sequence[str], contract: str = "orchestra.models.protocol") -> None:
        self.model, self.broken, self.contract = model, tuple(broken), contract
        lines = "".join(f"\n  - {line}" for line in self.broken)
        super().__init__(f"{model} breaks the contract of {contract}:{lines}")

    def __reduce__(self) -> tuple[type["NotConforming"], tuple[str, tuple[str, ...], str]]:
        return type(self), (self.model, self.broken, self.contract)


async def check_model(model: Model, *, prompt: str = "Say hello to everybody here.", max_tokens: int = 12) -> None:
    """Do nothing when `model` keeps every promise.

    Args:
        model: what is checked.
        prompt: something it answers with a few words.
        max_tokens: longest reply asked for.

    Raises:
        NotConforming: with every broken promise.
        orchestra.errors.ModelError: when the model does not answer at all.
    """
    request = Request(
        messages=(Message(role="system", content="You are brief."), Message(role="user", content=prompt)),
        sampling=Sampling(temperature=1.0, max_tokens=max_tokens),
        seed=7,
    )
    broken = [line for promise in PROMISES async for line in promise(model, request)]
    if broken:
        raise NotConforming(getattr(model, "name", repr(model)), broken)


async def says_who_it_is(model: Model, request: Request) -> AsyncIterator[str]:
    """It has every member of the protocol, and a name, provider and fingerprint that are the same each time."""
    if not isinstance(model, Model):
        yield f"it lacks a member of the protocol: {type(model).__name__}"
    for what in ("name", "provider", "fingerprint"):
        if not getattr(model, what) or getattr(model, what) != getattr(model, what):
            yield f"{what} is empty or changes: {getattr(model, what)!r}"


async def ends_in_one_completion(model: Model, request: Request) -> AsyncIterator[str]:
    """Deltas, then exactly one completion whose text is the deltas' together."""
    events = [event async for event in model.stream(request)]
    completions = [at for at, event in enumerate(events) if isinstance(event, Completion)]
    if completions != [len(events) - 1]:
        yield f"its stream of {len(events)} events has completions at {completions}; expected one, at the end"
        return
    last, deltas = cast(Completion, events[-1]), [event for event in events if isinstance(event, Delta)]
    said = "".join(delta.text for delta in deltas)
    if model.capabilities.stream and said != last.text:
        yield f"its deltas say {said!r} and its completion {last.text!r}"
    ids = tuple(i for delta in deltas for i in delta.token_ids)
    if ids and ids != (last.token_ids or ())[: len(ids)]:
        yield "the token ids of its deltas are not those of its completion"
    if last.first_token_seconds is not None and not 0 <= last.first_token_seconds <= last.latency_seconds:
        yield f"first token after {last.first_token_seconds} s of {last.latency_seconds} s"


async def captures_what_it_claims(model: Model, request: Request) -> AsyncIterator[str]:
    """Token ids and log-probabilities are there when claimed, absent when not, and of one length."""
    last = await completion(model, request)
    can = model.capabilities
    for what in ("token_ids", "prompt_token_ids"):
        if (getattr(last, what) is not None) != can.token_ids:
            yield f"it claims token_ids={can.token_ids} and gave {what}={getattr(last, what)!r}"
    if can.logprobs and last.logprobs is None:
        yield "it claims log-probabilities and gave none"
    if last.logprobs is not None and last.token_ids is not None and len(last.logprobs) != len(last.token_ids):
        yield f"{len(last.logprobs)} log-probabilities for {len(last.token_ids)} token ids"
    if any(logprob > 0 for logprob in last.logprobs or ()):
        yield f"a log-probability is above zero: {max(last.logprobs or ())}"


async def counts_its_tokens(model: Model, request: Request) -> AsyncIterator[str]:
    """Usage agrees with the ids, keeps to `max_tokens`, and the prompt to the bound it was reserved by."""
    last, bound = await completion(model, request), model.prompt_tokens_bound(request)
    if last.usage is None:
        return
    if last.usage.input_tokens > bound:
        yield f"the prompt had {last.usage.input_tokens} tokens, above its bound of {bound}"
    if last.usage.output_tokens > request.sampling.max_tokens:
        yield f"the reply had {last.usage.output_tokens} tokens, above max_tokens={request.sampling.max_tokens}"
    for count, ids in (
        (last.usage.input_tokens, last.prompt_token_ids),
        (last.usage.output_tokens, last.token_ids),
    ):
        if ids is not None and len(ids) != count:
            yield f"usage counts {count} tokens where there are {len(ids)} ids"


async def repeats_a_seed(model: Model, request: Request) -> AsyncIterator[str]:
    """The same request with the same seed draws the same reply."""
    if not model.capabilities.seed:
        return
    first, second = await completion(model, request), await completion(model, request)
    if (first.text, first.token_ids) != (second.text, second.token_ids):
        yield f"seed {request.seed} drew {first.text!r} and then {second.text!r}"


async def extends_a_transcript(model: Model, request: Request) -> AsyncIterator[str]:
    """A transcript whose earlier turn carries ids is extended by appending, never rendered again."""
    if not model.capabilities.token_ids:
        return
    first = await completion(model, request)
    turn = Message(
        role="assistant",
        content=first.text,
        prompt_token_ids=first.prompt_token_ids,
        token_ids=first.token_ids,
    )
    longer = replace(request, messages=(*request.messages, turn, Message(role="user", content="And then?")))
    second = await completion(model, longer)
    before = (first.prompt_token_ids or ()) + (first.token_ids or ())
    if (second.prompt_token_ids or ())[: len(before)] != before:
        yield "the second prompt does not begin with the first one and its reply, as sampled"
    if model.prompt_tokens_bound(longer) < len(second.prompt_token_ids or ()):
        yield "the bound of the longer prompt is below its ids"


async def keys_its_prompt(model: Model, request: Request) -> AsyncIterator[str]:
    """`prompt_key` is the same for the same messages and changes with any of them."""
    other = replace(request, messages=(*request.messages[:-1], replace(request.messages[-1], content="Something else")))
    swapped = replace(request, messages=(replace(request.messages[0], role="user"), *request.messages[1:]))
    if model.prompt_key(request) != model.prompt_key(replace(request)):
        yield "prompt_key differs for equal requests"
    for what, changed in (("content", other), ("role", swapped)):
        if model.prompt_key(request) == model.prompt_key(changed):
            yield f"prompt_key does not change with a message's {what}"


async def can_be_cancelled(model: Model, request: Request) -> AsyncIterator[str]:
    """Closing the stream, or cancelling who reads it, ends the call soon; the model answers the next one."""
    stream = model.stream(request)
    await anext(stream)
    close = getattr(stream, "aclose", None)
    if close is None:
        yield "its stream has no aclose()"
        return
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await close()
    except TimeoutError:
        yield f"closing its stream took more than {CLOSE_SECONDS} s"
    reader = asyncio.ensure_future(completion(model, request))
    await asyncio.sleep(0)
    reader.cancel()
    done, _ = await asyncio.wait({reader}, timeout=CLOSE_SECONDS)
    if not done:
        yield f"a cancelled call went on for more than {CLOSE_SECONDS} s"
    await completion(model, request)


async def answers_several_at_once(model: Model, request: Request) -> AsyncIterator[str]:
    """Calls made at once do not disturb each other."""
    samples = [replace(request, sample_index=index) for index in range(3)]
    replies = await asyncio.gather(*(completion(model, sample) for sample in samples), return_exceptions=True)
    for reply in replies:
        if isinstance(reply, BaseException):
            yield f"one of three calls at once failed: {reply!r}"


async def completion(model: Model, request: Request) -> Completion:
    """The completion at the end of `model`'s reply.

    Raises:
        NotConforming: when the stream ends without one.
    """
    last: Delta | Completion | None = None
    async for event in model.stream(request):
        last = event
    if not isinstance(last, Completion):
        raise NotConforming(model.name, [f"its stream ended in {last!r}; expected a completion"])
    return last


PROMISES: tuple[Callable[[Model, Request], AsyncIterator[str]], ...] = (
    says_who_it_is,
    ends_in_one_completion,
    captures_what_it_claims,
    counts_its_tokens,
    repeats_a_seed,
    extends_a_transcript,
    keys_its_prompt,
    can_be_cancelled,
    answers_several_at_once,
)
"""Every promise of the protocol, in the order they are checked."""
