"""What a server's HTTP answer means to the one who pays: whether it served, whether to try again, and after how long.

| answer | served? | again? |
|---|---|---|
| never reached (no connection) | no | yes |
| 4xx without 408 and 499, 503, 529 | no: it says it refuses | 409, 425, 429, 503, 529 |
| 408, 499, 500, 502, 504, other 5xx | may have: the server may still be at work | 408, 500, 502, 504 |
| 200, then cut, or not what was agreed | may have | yes |

A refusal whose words are about length is a `TooLong`, as an embedded model's: whoever plays with it has said too much.

What was not served is given back to the ledger; what may have been stays booked at its reservation.
"""

import time
from email.utils import parsedate_to_datetime
from typing import Any

from orchestra.errors import ModelError, TooLong

RETRYABLE_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP answers after which the same call may succeed."""

REFUSING_STATUS = (frozenset(range(400, 500)) | {503, 529}) - {408, 499}
"""HTTP answers by which a server says that it did not serve."""

BUSY_STATUS = frozenset({429, 503, 529})
"""HTTP answers by which a server says that it has too much to do."""

ADVICE = {
    400: "the request does not suit this model; check its sampling and tools",
    401: "set the provider's API key (orchestra doctor names the variable)",
    402: "the account has no credit",
    403: "the key may not use this model; ask the provider for access",
    404: "check the model's name and the server's address",
    413: "the request is too long for the server; shorten the prompt",
    422: "the request does not suit this model; check its sampling and tools",
    429: "the provider asks to slow down; limit the calls, as in --limits concurrency=8,rpm=60",
}
"""What to do, by HTTP status."""

_CREDIT = ("insufficient_quota", "exceeded your current quota")
"""Words by which a 429 says that waiting will not help."""

LENGTH_STATUS = frozenset({400, 413, 422})
"""HTTP answers by which a server refuses a prompt for its length, among other reasons: its words tell which."""

_LENGTH = (
    "maximum context length",  # vLLM, OpenAI and whoever answers like it
    "longer than the maximum model length",  # vLLM's engine
    "exceeds the available context size",  # llama.cpp
    "`inputs` tokens + `max_new_tokens` must be",  # text-generation-inference
    "prompt is too long",  # Anthropic
    "exceeds the maximum number of tokens allowed",  # Gemini
)
"""Words by which servers say that prompt and reply do not fit into a model's context, in small letters."""
_LENGTH_KIND = "ContextWindowExceededError"
"""What LiteLLM calls it, which knows the words of more providers."""


def status_error(name: str, status: int, said: str, *, kind: str = "", headers: Any = None) -> ModelError:
    """The error of the model `name` whose server answered `status`; a `TooLong` where it refused for length.

    Args:
        name: of the model.
        status: of HTTP, 400 or above.
        said: by the server, in its body.
        kind: of the error, as the client library calls it.
        headers: of the answer, with a `get`.
    """
    is_spent = any(words in said for words in _CREDIT)
    is_long = status in LENGTH_STATUS and (kind == _LENGTH_KIND or any(words in said.lower() for words in _LENGTH))
    advice = "the account's credit is used up" if is_spent else ADVICE.get(status, "the server failed")
    if is_long:
        advice = "prompt and reply do not fit into its context; shorten the prompt or lower max_tokens"
    what = f"{kind}, HTTP {status}" if kind else f"HTTP {status}"
    return (TooLong if is_long else ModelError)(
        f"{name} failed ({what}): {' '.join(said.split())[:300]}; {advice}",
        retryable=status in RETRYABLE_STATUS and not is_spent,
        retry_after_seconds=asked_wait_seconds(headers),
        served=False if status in REFUSING_STATUS else None,
        busy=status in BUSY_STATUS and not is_spent,
    )


def asked_wait_seconds(headers: Any) -> float | None:
    """How long a `Retry-After` header asks to wait, given in seconds or as a date; `None` without one that is either.

    >>> asked_wait_seconds({"retry-after": "7"})
    7.0
    """
    said = headers.get("retry-after") if hasattr(headers, "get") else None
    if said is None:
        return None
    try:
        seconds = float(said)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(said).timestamp() - time.time()
        except (TypeError, ValueError):
            return None
    return max(0.0, seconds) if seconds < float("inf") else None
