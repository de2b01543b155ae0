"""What a client asks of a model, and what is asked for besides: the ids of the tokens and their log-probabilities.

What was added to a request is taken out of its answer again, so that the client reads what it would have read without
anybody in between.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

CHAT: Final = "chat"
TEXT: Final = "text_completion"
_write = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
_ENDPOINTS: Final = {"/chat/completions": CHAT, "/completions": TEXT}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for a reply, and which of the things we want its client wants too."""

    operation: str
    """`chat` or `text_completion`."""
    body: Mapping[str, Any]
    """As the client wrote it."""
    ids: bool
    """It wants token ids."""
    logprobs: bool
    """It wants log-probabilities."""
    usage: bool
    """It wants the count of tokens: always, but in a stream only when it says so."""

    @property
    def stream(self) -> bool:
        """Whether the answer is to come in pieces."""
        return bool(self.body.get("stream"))

    @property
    def plain(self) -> bool:
        """Whether it must be left as it is: what it wants back holds the prompt as well, or is no sample."""
        return bool(self.body.get("echo") or self.body.get("use_beam_search"))


def operation_of(path: str) -> str | None:
    """What `path` asks a model for; `None` for every other path."""
    return next((operation for end, operation in _ENDPOINTS.items() if path.endswith(end)), None)


def read_request(operation: str, raw: bytes) -> Asked | None:
    """The request in `raw`; `None` when it is none, which is the upstream's to say."""
    try:
        body = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(body, dict):
        return None
    options = body.get("stream_options")
    counted = isinstance(options, dict) and bool(options.get("include_usage"))
    wanted = body.get("logprobs")
    return Asked(
        operation,
        body,
        ids=bool(body.get("return_token_ids")),
        logprobs=bool(wanted) if operation == CHAT else wanted is not None,
        usage=counted or not body.get("stream"),
    )


def augmented(asked: Asked) -> bytes:
    """The request with everything in it that we want to know."""
    body = {**asked.body, "return_token_ids": True}
    if not asked.logprobs:
        body["logprobs"] = True if asked.operation == CHAT else 1
    if not asked.usage:
        options = body.get("stream_options")
        body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    return compact(body)


def compact(document: Mapping[str, Any]) -> bytes:
    """`document` as servers write it: no blanks, and no escapes but those of lone surrogates."""
    try:
        return _write(document).encode()
    except UnicodeEncodeError:
        return json.dumps(document, separators=(",", ":")).encode()


def stripped(answer: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    """`answer`, whole or one piece of a stream, without what its client did not ask for."""
    bare = dict(answer)
    if not asked.ids and "prompt_token_ids" in bare:
        bare["prompt_token_ids"] = None
    choices = bare.get("choices")
    if isinstance(choices, list):
        bare["choices"] = [
            _stripped_choice(choice, asked) if isinstance(choice, dict) else choice for choice in choices
        ]
    return bare


def is_for_us(piece: Mapping[str, Any], asked: Asked) -> bool:
    """Whether a piece of a stream was sent only because we asked for more than its client did.

    Such are the count of tokens at the end, and pieces with nothing but ids: tokens that a parser of tool calls holds.
    """
    choices = piece.get("choices")
    if not isinstance(choices, list):
        return False
    if not choices:
        return not asked.usage and piece.get("usage") is not None
    if asked.ids or asked.logprobs:
        return False
    return all(
        isinstance(choice, dict)
        and choice.get("delta") == {}
        and choice.get("finish_reason") is None
        and choice.get("token_ids") is not None
        for choice in choices
    )


def _stripped_choice(choice: Mapping[str, Any], asked: Asked) -> dict[str, Any]:
    bare = dict(choice)
    if not asked.ids:
        bare.update({key: None for key in ("token_ids", "prompt_token_ids") if key in bare})
    if not asked.logprobs and "logprobs" in bare:
        bare["logprobs"] = None
    return bare
