"""From messages to the ids a model reads, and back.

Always true: a transcript whose assistant messages carry the ids they were sampled as is extended by appending ids. Only
what the chat template puts around later messages is rendered; nothing sampled is ever decoded and encoded again.
"""

import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from orchestra.errors import ModelError
from orchestra.models.protocol import Message

MARK = "\ue000reply\ue001"
"""Stands for the last sampled reply while the template renders; private-use characters that no text contains."""


class Prompts:
    """The tokenizer and chat template of one model.

    Safe to use from several threads: the underlying tokenizer is only read.

    Args:
        tokenizer: of transformers.
        end_ids: ids that end a reply.
        name: for messages of errors.
    """

    def __init__(self, tokenizer: Any, end_ids: frozenset[int], name: str) -> None:
        self._tokenizer = tokenizer
        self._fast = getattr(tokenizer, "backend_tokenizer", None)
        if self._fast is not None:
            # The wrapper switches truncation on every call, which fails while another thread decodes.
            self._fast.no_truncation()
            self._fast.no_padding()
        self._lock = threading.Lock()
        self._end_ids = end_ids
        self._name = name
        self.ids = lru_cache(maxsize=1024)(self._ids)
        """Ids of a prompt of `messages`, as a tuple; remembered for the latest 1,024 prompts."""

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of `text`; `special` adds what the tokenizer puts at the beginning of a document."""
        if self._fast is not None:
            return list(self._fast.encode(text, add_special_tokens=special).ids)
        with self._lock:
            return list(self._tokenizer.encode(text, add_special_tokens=special))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`, special tokens left out."""
        if self._fast is not None:
            return str(self._fast.decode(list(ids), skip_special_tokens=True))
        with self._lock:
            return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def _ids(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
        sampled = [i for i, m in enumerate(messages) if m.token_ids is not None and m.prompt_token_ids is not None]
        if not sampled:
            text = self._rendered(messages)
            return tuple(self.encode(text, special=self._tokenizer.chat_template is None))
        last = messages[sampled[-1]]
        prompt_ids, reply_ids = last.prompt_token_ids or (), last.token_ids or ()
        glue_ids = self.encode(self._after_mark(messages, sampled[-1]))
        if glue_ids and reply_ids and reply_ids[-1] == glue_ids[0] and glue_ids[0] in self._end_ids:
            # The model wrote its own end-of-turn token, so the template's must not follow it.
            del glue_ids[0]
        return (*prompt_ids, *reply_ids, *glue_ids)

    def _after_mark(self, messages: tuple[Message, ...], place: int) -> str:
        marked = Message(role=messages[place].role, content=MARK)
        text = self._rendered((*messages[:place], marked, *messages[place + 1 :]))
        _, found, after = text.partition(MARK)
        if not found or MARK in after:
            raise ModelError(
                f"the chat template of {self._name!r} rewrites earlier replies (message {place} of {len(messages)}), "
                "so their ids cannot be extended; send the messages without token ids"
            )
        return after

    def _rendered(self, messages: tuple[Message, ...]) -> str:
        if self._tokenizer.chat_template is None:
            return "".join(f"{m.role.capitalize()}: {m.content}\n" for m in messages) + "Assistant:"
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    [{"role": m.role, "content": m.content} for m in messages],
                    tokenize=False,
                    add_generation_prompt=True,
                )
            )
        except Exception as cause:
            roles = ", ".join(m.role for m in messages)
            raise ModelError(
                f"the chat template of {self._name!r} refuses messages of the roles {roles}: {cause}; "
                "use roles the template knows"
            ) from cause
