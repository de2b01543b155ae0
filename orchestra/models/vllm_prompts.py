"""From messages to the ids a served model reads, with the server's own tokenizer and chat template.

Always true: a transcript whose assistant messages carry the ids they were sampled as is extended by appending ids. Only
what the template puts around later messages is rendered, by the server's `/tokenize`; nothing sampled is ever decoded
and encoded again. What comes after a sampled reply is found by rendering the conversation with a mark in the reply's
place and cutting behind the mark's own ids.
"""

import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from orchestra.errors import ModelError
from orchestra.models.litellm_wire import wire_messages, wire_tools
from orchestra.models.protocol import Message, Request
from orchestra.models.vllm_errors import malformed

MARKS = ("\ue000reply\ue001", "QZJreplyJZQ")
"""Stand for a sampled reply while the template renders. The first is of private-use characters that no text contains;
the second for tokenizers that have no ids for those."""

KEPT = 1024
"""Prompts whose ids are remembered."""

Ask = Callable[[str, dict[str, Any]], Awaitable[bytes]]
"""Posts a document to a path of the server; the body of its answer."""


class Prompts:
    """The tokenizer and chat template of a served model.

    Args:
        name: for messages of errors.
        ask: posts to the server.
    """

    def __init__(self, name: str, ask: Ask) -> None:
        self._name, self._ask = name, ask
        self._known: OrderedDict[str, tuple[tuple[int, ...], tuple[str, ...]]] = OrderedDict()

    async def ids(self, request: Request, model: str) -> tuple[int, ...]:
        """Ids of the prompt of `request`, as `model` reads it.

        Raises:
            ModelError: the server does not tokenise, or its template rewrites earlier replies.
        """
        place = last_sampled(request.messages)
        if place is None:
            return (await self._rendered(request, model))[0]
        last = request.messages[place]
        before = (*(last.prompt_token_ids or ()), *(last.token_ids or ()))
        return before + await self._after(request, place, model)

    async def _after(self, request: Request, place: int, model: str) -> tuple[int, ...]:
        """Ids of everything the template puts after the sampled reply at `place`."""
        sampled = request.messages[place]
        for mark in MARKS:
            marked = Message(role=sampled.role, content=mark)
            messages = (*request.messages[:place], marked, *request.messages[place + 1 :])
            ids, strings = await self._rendered(replace(request, messages=messages), model)
            # Without the template's beginning and with nothing behind it, the mark has the ids it has in the middle.
            mark_ids, _ = await self._asked({"model": model, "prompt": mark, "add_special_tokens": False})
            ends = [at + len(mark_ids) for at in range(len(ids)) if ids[at : at + len(mark_ids)] == mark_ids]
            if len(ends) == 1:
                glue = ids[ends[0] :]
                return glue[1:] if _ends_already(sampled, glue, strings[ends[0] :]) else glue
        raise ModelError(
            f"the chat template of {self._name!r} rewrites earlier replies (message {place} of "
            f"{len(request.messages)}), so their ids cannot be extended; open the model with token_ids=False"
        )

    async def _rendered(self, request: Request, model: str) -> tuple[tuple[int, ...], tuple[str, ...]]:
        body: dict[str, Any] = {
            "model": model,
            "messages": wire_messages(request),
            "add_generation_prompt": True,
            "return_token_strs": True,
        }
        if request.tools:
            body["tools"] = wire_tools(request)
        return await self._asked(body)

    async def _asked(self, body: dict[str, Any]) -> tuple[tuple[int, ...], tuple[str, ...]]:
        key = json.dumps(body, ensure_ascii=False)
        known = self._known.get(key)
        if known is None:
            answer = await self._ask("/tokenize", body)
            try:
                said = json.loads(answer)
                known = (tuple(map(int, said["tokens"])), tuple(said.get("token_strs") or ()))
            except (ValueError, TypeError, KeyError, AttributeError) as cause:
                raise malformed(self._name, answer) from cause
            self._known[key] = known
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return known


def last_sampled(messages: Sequence[Message]) -> int | None:
    """Place of the last message that carries the ids it was sampled as; `None` when none does."""
    for place in range(len(messages) - 1, -1, -1):
        if messages[place].token_ids is not None and messages[place].prompt_token_ids is not None:
            return place
    return None


def tokens_bound(request: Request) -> int:
    """An upper bound of the prompt's tokens: exact for what was sampled, UTF-8 bytes for the rest.

    No tokenizer makes more tokens than bytes. The tokenizer itself is the server's, and asking it here would hold up
    everything else, so the ledger reserves by the bound and is refunded by the usage.
    """
    place = last_sampled(request.messages)
    bound, fresh = 128, request.messages  # 128 covers a system prompt that the template adds by itself
    if place is not None:
        last = request.messages[place]
        bound = 64 + len(last.prompt_token_ids or ()) + len(last.token_ids or ())
        fresh = request.messages[place + 1 :]
    for message in fresh:
        bound += 24 + len(message.content.encode()) + len(message.role)
        bound += sum(32 + 2 * len((call.name + call.arguments + call.id).encode()) for call in message.tool_calls)
    if request.tools:
        bound += 700  # the instructions that templates put before tools
        bound += sum(64 + 4 * len(json.dumps(tool, ensure_ascii=False).encode()) for tool in wire_tools(request))
    return bound


def prompt_text(request: Request) -> str:
    """What decides the prompt, as text: messages, tools, and the ids of what was sampled."""
    place = last_sampled(request.messages)
    ids: list[Any] = []
    if place is not None:
        last = request.messages[place]
        ids = [place, last.prompt_token_ids, last.token_ids]
    return json.dumps([wire_messages(request), wire_tools(request), ids], ensure_ascii=False)


def _ends_already(sampled: Message, glue: Sequence[int], strings: Sequence[str]) -> bool:
    """Whether the model wrote the end of its turn itself, so that the template's must not follow it.

    The last id of the reply is then the first that the template puts behind it, and no part of the reply's text.
    """
    ids = sampled.token_ids or ()
    if not glue or not ids or ids[-1] != glue[0]:
        return False
    text = strings[0].replace("Ġ", " ").replace("Ċ", "\n").replace("▁", " ") if strings else None
    return not text or not sampled.content.endswith(text)
