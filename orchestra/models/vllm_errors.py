"""What a vLLM server says when it refuses or fails, and what an answer that is no reply means."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from orchestra.errors import ModelError
from orchestra.models.statuses import status_error

SAID = 300
"""Characters of a server's own words that are passed on."""


@contextlib.contextmanager
def not_served() -> Iterator[None]:
    """Whatever fails in the block failed before the model was asked for a reply."""
    try:
        yield
    except ModelError as error:
        error.served = False
        raise


def refusal(name: str, status: int, headers: Any, body: bytes) -> ModelError:
    """The error of an answer that is not 200."""
    return status_error(name, status, said(body), headers=headers)


def failure(name: str, error: object) -> ModelError:
    """The error a server reports in the middle of a stream."""
    words = error.get("message") if isinstance(error, dict) else error
    return ModelError(f"{name} failed in the middle of its reply: {_short(str(words))}; try again", retryable=True)


def malformed(name: str, data: bytes) -> ModelError:
    """The error of an answer that is not what the protocol says."""
    words = _short(data.decode(errors="replace"))
    return ModelError(f"{name} answered with something that is no reply: {words!r}; try again", retryable=True)


def said(body: bytes) -> str:
    """The message in the body of an error, else the body itself, shortened."""
    text = body.decode(errors="replace")
    try:
        value = json.loads(text)
    except ValueError:
        return _short(text)
    error = value.get("error", value) if isinstance(value, dict) else value
    return _short(str(error.get("message", error)) if isinstance(error, dict) else str(error))


def _short(text: str) -> str:
    return " ".join(text.split())[:SAID]
