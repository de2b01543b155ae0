"""What a provider's failure means: whether the same call may succeed later, how long to wait, and what to do."""

import time
from email.utils import parsedate_to_datetime
from typing import Any

from orchestra.errors import ModelError

RETRYABLE_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""HTTP answers after which the same call may succeed."""

ADVICE = {
    400: "the request does not suit this model; check its sampling and tools",
    401: "set the provider's API key (orchestra doctor names the variable)",
    403: "the key may not use this model; ask the provider for access",
    404: "check the model's name and the server's address",
    429: "the provider asks to slow down",
}
"""What to do, by HTTP status."""


def model_error(name: str, cause: Exception) -> ModelError:
    """`cause`, raised while calling the model `name`, as the runtime understands it."""
    status = getattr(cause, "status_code", None)
    spent = "insufficient_quota" in str(cause) or "exceeded your current quota" in str(cause)
    unreachable = type(cause).__name__ in ("APIConnectionError", "Timeout", "APIError") and status not in ADVICE
    retryable = not spent and (status in RETRYABLE_STATUS or unreachable)
    advice = "the account's credit is used up" if spent else ADVICE.get(status or 0, "the server failed")
    said = " ".join(str(cause).split())[:300]
    return ModelError(
        f"{name} failed ({type(cause).__name__}{f', HTTP {status}' if status else ''}): {said}; {advice}",
        retryable=retryable,
        retry_after_seconds=retry_after_seconds(cause),
    )


def retry_after_seconds(cause: Exception) -> float | None:
    """How long the server asked to wait: its `Retry-After` header, in seconds or as a date; `None` without one."""
    for source in (getattr(cause, "response", None), cause):
        headers: Any = getattr(source, "headers", None) or getattr(source, "litellm_response_headers", None)
        said = headers.get("retry-after") if hasattr(headers, "get") else None
        if said is None:
            continue
        try:
            return max(0.0, float(said))
        except ValueError:
            pass
        try:
            return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
        except (TypeError, ValueError):
            continue
    return None
