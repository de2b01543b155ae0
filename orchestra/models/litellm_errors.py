"""What LiteLLM's errors mean.

It raises one family for all providers and makes statuses up, so the status and headers that count are those of the
answer that came over the wire, found below its errors; where none came, it may be that nothing was ever sent.
"""

from collections.abc import Iterator
from typing import Any

from orchestra.errors import ModelError
from orchestra.models.statuses import status_error

_NOT_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol"})
"""What httpx raises before a request has left."""


def model_error(name: str, cause: Exception, *, begun: bool = False) -> ModelError:
    """`cause`, raised while calling the model `name`, as the runtime understands it.

    Args:
        name: of the model.
        cause: whatever was raised.
        begun: whether the answer had begun with status 200: then it was served, whatever is said later.
    """
    error = _model_error(name, cause)
    if begun:
        error.served = None
    return error


def _model_error(name: str, cause: Exception) -> ModelError:
    kind = type(cause).__name__
    below = [error for error in _chain(cause) if type(error).__module__.partition(".")[0] == "httpx"]
    for error in below:
        answer: Any = getattr(error, "response", None)
        if type(error).__name__ == "HTTPStatusError" and answer is not None:
            return status_error(name, answer.status_code, str(cause), kind=kind, headers=answer.headers)
    status = getattr(cause, "status_code", None)
    if not below and isinstance(status, int) and 400 <= status < 500 and status not in (408, 499):
        return status_error(name, status, str(cause), kind=kind)  # refused by LiteLLM itself: nothing was sent
    said = " ".join(str(cause).split())[:300]
    if any(type(error).__name__ in _NOT_SENT for error in below):
        advice = "check the server's address and that it runs"
        return ModelError(f"{name} could not be reached ({kind}): {said}; {advice}", retryable=True, served=False)
    return ModelError(f"{name} failed ({kind}): {said}; the server failed", retryable=_is_the_server_s(cause, below))


def _is_the_server_s(cause: Exception, below: list[BaseException]) -> bool:
    """Whether the call failed on its way or at the server, rather than in what was asked."""
    return bool(below) or type(cause).__name__ in (
        "APIConnectionError",
        "APIError",
        "InternalServerError",
        "MidStreamFallbackError",
        "Timeout",
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those it was raised from or after, the last raised first."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
