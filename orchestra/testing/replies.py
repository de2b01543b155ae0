"""Replies as vLLM 0.32 and OpenAI's servers shape them: one document, or the events of a stream."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from orchestra.testing.answers import Answer, Served
from orchestra.testing.tokens import END, called, counted, encoded, logprob_of, rendered, token_text

CREATED = 1_700_000_000
"""When every reply was made, so that the same run has the same bytes."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One event of a stream: its JSON, and the tokens that were made for it."""

    event: str
    tokens: int = 0


class Reply:
    """The reply to one request, once whole and once in pieces.

    Args:
        answer: what to say.
        record: the request.
    """

    def __init__(self, answer: Answer, record: Served) -> None:
        self.is_chat = record.path.endswith("/chat/completions")
        self._body = record.body
        self._prompt_ids: list[int] | None = None
        self.prompt_tokens = self._prompt_count()
        calls = called(answer.tool_calls)
        said = f"{answer.text}\n{calls}" if answer.text and calls else answer.text or calls
        self.completion_tokens = counted(said) + 1  # with the mark that ends the turn
        limit = record.body.get("max_completion_tokens") or record.body.get("max_tokens")
        self.is_cut = answer.obeys_max_tokens and limit is not None and self.completion_tokens > limit
        if self.is_cut and limit is not None:
            said = said.encode()[:limit].decode(errors="ignore")
            self.completion_tokens = counted(said)
            answer = replace(answer, text=said, tool_calls=())
        self._answer, self._said = answer, said
        self.id = f"{'chatcmpl' if self.is_chat else 'cmpl'}-{record.number}"

    def whole(self) -> str:
        """The reply as one document."""
        answer, ids = self._answer, self._wants_ids
        frame = self._frame("chat.completion" if self.is_chat else "text_completion")
        choice: dict[str, Any] = {"index": 0}
        said = self._token_ids(self._said, self._closing) if ids or self._wants_logprobs else []
        choice |= {"message": self._message()} if self.is_chat else {"text": self._said}
        choice |= {"logprobs": self._logprobs(said), "finish_reason": self._reason, "stop_reason": None}
        choice["token_ids"] = said if ids else None
        if self.is_chat:
            frame["prompt_token_ids"] = self.prompt_ids if ids else None
        else:
            choice |= {"prompt_token_ids": self.prompt_ids if ids else None, "prompt_logprobs": self._of_prompt()}
        document = {**frame, "choices": [choice] if answer.choices else [], **self._usage()}
        text = json.dumps(document)
        return text[: len(text) // 2] if answer.malformed else text

    def pieces(self) -> Iterator[Piece]:
        """The events of the reply as a stream, the closing `[DONE]` among them."""
        for at, piece in enumerate(self._pieces()):
            is_garbled = self._answer.malformed and at > 0
            yield replace(piece, event=piece.event[: len(piece.event) // 2]) if is_garbled else piece

    def _pieces(self) -> Iterator[Piece]:
        answer = self._answer
        if self.is_chat:
            first = {"prompt_token_ids": self.prompt_ids} if self._wants_ids else {}
            yield self._piece({"delta": {"role": "assistant", "content": ""}}, more=first)
        made = 0
        parts = list(_words(answer.text if self.is_chat else self._said))
        for at, word in enumerate(parts):
            made += len(word.encode())
            said: dict[str, Any] = {"delta": {"content": word}} if self.is_chat else {"text": word}
            yield self._piece(said, word, is_first=at == 0 and not self.is_chat)
        if self.is_chat and answer.tool_calls:
            raw = called(answer.tool_calls)
            yield from self._called(f"\n{raw}" if answer.text else raw)
            made += len(raw.encode()) + bool(answer.text)
        ended: dict[str, Any] = {"delta": {"content": ""}} if self.is_chat else {"text": ""}
        is_first = not parts and not self.is_chat
        yield self._piece({**ended, "stop_reason": None}, "", reason=self._reason, is_first=is_first)
        if answer.usage is not None and (self._body.get("stream_options") or {}).get("include_usage"):
            yield Piece(json.dumps({**self._frame(), "choices": [], **self._usage()}))
        yield Piece("[DONE]")

    def _called(self, raw: str) -> Iterator[Piece]:
        """The functions called, in two pieces each; the tokens of them all go with the first."""
        for index, call in enumerate(self._calls()):
            function = call["function"]
            opening = {**call, "index": index, "function": {"name": function["name"], "arguments": ""}}
            yield self._piece({"delta": {"tool_calls": [opening]}}, raw if index == 0 else "")
            text = function["arguments"]
            for part in (text[: len(text) // 2], text[len(text) // 2 :]):
                yield self._piece({"delta": {"tool_calls": [{"index": index, "function": {"arguments": part}}]}})

    def _piece(
        self,
        said: dict[str, Any],
        text: str | None = None,
        *,
        reason: str | None = None,
        is_first: bool = False,
        more: dict[str, Any] | None = None,
    ) -> Piece:
        ids = None
        count = 0
        if text is not None:
            closing = self._closing if reason is not None else []
            count = counted(text) + len(closing)
            if self._wants_ids or self._wants_logprobs:
                ids = self._token_ids(text, closing)
        choice = {"index": 0, **said, "logprobs": self._logprobs(ids) if ids else None, "finish_reason": reason}
        if self._wants_ids and ids is not None:
            choice["token_ids"] = ids
        if self._wants_ids and is_first:
            choice["prompt_token_ids"] = self.prompt_ids
        choices = [choice] if self._answer.choices else []
        return Piece(json.dumps({**self._frame(), "choices": choices, **(more or {})}), count)

    @property
    def prompt_ids(self) -> list[int]:
        """Ids of the prompt, as the model read it."""
        if self._prompt_ids is None:
            self._prompt_ids = encoded(self._prompt_text())
        return self._prompt_ids

    def _prompt_count(self) -> int:
        prompt = self._body.get("prompt")
        if not self.is_chat and isinstance(prompt, list):
            self._prompt_ids = [int(i) for i in prompt]
            return len(prompt)
        return counted(self._prompt_text())

    def _prompt_text(self) -> str:
        if self.is_chat or "prompt" not in self._body:
            return rendered(self._body.get("messages") or (), self._body.get("tools") or ())
        return str(self._body["prompt"])

    @property
    def _wants_ids(self) -> bool:
        return bool(self._body.get("return_token_ids"))

    @property
    def _wants_logprobs(self) -> bool:
        """`true` in a chat; in a completion a number, where 0 asks for the sampled token's alone."""
        asked = self._body.get("logprobs")
        return bool(asked) if self.is_chat else asked is not None

    @property
    def _closing(self) -> list[int]:
        return [] if self.is_cut else [END]

    @property
    def _reason(self) -> str:
        if self._answer.finish_reason is not None:
            return self._answer.finish_reason
        if self.is_cut:
            return "length"
        return "tool_calls" if self.is_chat and self._answer.tool_calls else "stop"

    def _token_ids(self, text: str, closing: list[int]) -> list[int]:
        return [*encoded(text), *closing]

    def _logprobs(self, ids: list[int]) -> dict[str, Any] | None:
        if not self._wants_logprobs:
            return None
        numbers = [logprob_of(i) if self._answer.logprob is None else self._answer.logprob for i in ids]
        by_id = self._body.get("return_tokens_as_token_ids")
        texts = [f"token_id:{i}" if by_id else token_text(i) for i in ids]
        if self.is_chat:
            rows = zip(texts, numbers, strict=True)
            return {
                "content": [{"token": t, "logprob": p, "bytes": list(t.encode()), "top_logprobs": []} for t, p in rows]
            }
        offsets = list(accumulate(map(len, texts[:-1]), initial=0)) if texts else []
        top = [{text: number} for text, number in zip(texts, numbers, strict=True)]
        return {"text_offset": offsets, "token_logprobs": numbers, "tokens": texts, "top_logprobs": top}

    def _of_prompt(self) -> list[dict[str, Any] | None] | None:
        if self._body.get("prompt_logprobs") is None:
            return None
        rows = [
            {str(i): {"logprob": logprob_of(i), "rank": 1, "decoded_token": token_text(i)}} for i in self.prompt_ids
        ]
        return [None, *rows[1:]]

    def _message(self) -> dict[str, Any]:
        calls = self._calls()
        return {
            "role": "assistant",
            "content": self._answer.text or None,
            "reasoning": None,
            **({"tool_calls": calls} if calls else {}),
        }

    def _calls(self) -> list[dict[str, Any]]:
        return [
            {"id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for at, (name, arguments) in enumerate(self._answer.tool_calls)
        ]

    def _frame(self, kind: str | None = None) -> dict[str, Any]:
        kind = kind or ("chat.completion.chunk" if self.is_chat else "text_completion")
        return {"id": self.id, "object": kind, "created": CREATED, "model": self._body.get("model", "loopback")}

    def _usage(self) -> dict[str, Any]:
        said = self._answer.usage
        if said is None:
            return {}
        read, made = (self.prompt_tokens, self.completion_tokens) if said == "true" else said
        return {"usage": {"prompt_tokens": read, "total_tokens": read + made, "completion_tokens": made}}


def _words(text: str) -> Iterator[str]:
    """`text` in pieces that begin with the blank before a word."""
    for at, word in enumerate(text.split(" ") if text else ()):
        yield word if at == 0 else f" {word}"
