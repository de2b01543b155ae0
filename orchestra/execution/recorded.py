"""What a recording holds in place of what cannot be written down: models, errors, and a ledger that only tells."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestra import errors
from orchestra.errors import InputError, ModelError, OrchestraError
from orchestra.ledger import Ledger, Price
from orchestra.models.protocol import Capabilities, Completion, Delta, Model, Request, Turn

Line = dict[str, Any]
"""One line of a recording."""


def described(model: Model) -> dict[str, Any]:
    """What a run asks of a model besides replies, as JSON values, without its fingerprint, which a server tells."""
    return {
        "name": model.name,
        "provider": model.provider,
        "external": model.external,
        "address": model.address,
        "price": None if model.price is None else asdict(model.price),
        "capabilities": asdict(model.capabilities),
    }


class RecordedModel:
    """A model of a recorded run: it is what it was, and says only what was recorded.

    Args:
        name: as it was opened.
        line: as `described` wrote it.
    """

    meeting = None

    def __init__(self, name: str, line: Mapping[str, Any]) -> None:
        self.name = str(line.get("name", name))
        self.provider = str(line["provider"])
        self.fingerprint = str(line.get("fingerprint", ""))
        self.external = bool(line["external"])
        host_port = line.get("address")
        self.address: tuple[str, int] | None = None if host_port is None else (host_port[0], host_port[1])
        self.price = None if line["price"] is None else Price(**line["price"])
        self.capabilities = Capabilities(**line["capabilities"])

    def prompt_tokens_bound(self, request: Request) -> int:
        """A bound that holds for tokenizers with a token per byte at most; a replay reserves what was recorded."""
        return sum(len(message.content.encode()) for message in request.messages)

    def prompt_key(self, request: Request) -> str:
        """The messages themselves."""
        return repr(request.messages)

    async def stream(self, request: Request) -> AsyncGenerator[Delta | Completion, None]:
        """Nothing: replies are told by the replay.

        Raises:
            ModelError: always.
        """
        raise ModelError(f"model {self.name!r} is a recorded one and answers no new request")
        yield  # a generator, as the protocol asks

    async def meet(self, *, deadline_seconds: float | None = None, turn: Turn | None = None) -> None:
        """Nothing is left to learn."""

    async def close(self) -> None:
        """It holds nothing."""


class ReplayLedger(Ledger):
    """Books what was recorded and refuses nothing: the recorded ledger decided, and its refusals are replayed."""

    def child(self, name: str, cap: int | None = None) -> "ReplayLedger":
        """A ledger of the same kind below this one."""
        return ReplayLedger(cap, name=name, parent=self)

    def _refusal(self, nano: int, what: str) -> None:
        return None

    def _too_full(self, nano: int) -> list[Ledger]:
        return []


def error_record(error: BaseException) -> dict[str, Any]:
    """How a call failed, as JSON values; a call that was cancelled is marked as cut."""
    if isinstance(error, asyncio.CancelledError):
        return {"cut": True}
    types = [kind.__name__ for kind in type(error).__mro__ if _known(kind.__name__) is kind]
    details = {name: value for name, value in vars(error).items() if isinstance(value, str | int | float | bool)}
    return {"error": {"types": types, "message": str(error), "details": details}}


def error_from(record: Mapping[str, Any]) -> BaseException:
    """The error that `error_record` wrote down, of the closest type there is."""
    for name in record["types"]:
        kind = _known(name)
        if kind is not None:
            error = kind.__new__(kind)
            Exception.__init__(error, record["message"])
            for detail, value in record["details"].items():
                setattr(error, detail, value)
            return error
    return OrchestraError(record["message"])


def _known(name: str) -> type[BaseException] | None:
    kind = TimeoutError if name == "TimeoutError" else getattr(errors, name, None)
    return kind if isinstance(kind, type) and issubclass(kind, Exception) else None


def whole_lines(path: Path) -> tuple[list[Line], bool]:
    """The whole lines of a file, and whether a part of one follows them.

    Raises:
        InputError: it cannot be read, or a line is not a JSON object.
    """
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except OSError as cause:
        raise InputError(f"cannot read the recording {str(path)!r}: {cause}; name another file") from cause
    *whole, rest = text.split("\n")
    lines: list[Line] = []
    for number, line in enumerate(whole, 1):
        try:
            parsed = json.loads(line)
        except ValueError as cause:
            raise InputError(f"{str(path)!r} is no recording: line {number} is not JSON ({cause})") from cause
        if not isinstance(parsed, dict):
            raise InputError(f"{str(path)!r} is no recording: line {number} is not a JSON object")
        lines.append(parsed)
    return lines, bool(rest)


def book(line: Line, ledger: Ledger, key: str) -> None:
    """Book what the recorded call came to, tries that failed included."""
    for reserved, event, nano in line["booked"]:
        reservation = ledger.reserve_now(reserved, key)
        assert reservation is not None, "a replay's ledger refuses nothing"
        if event == "settle":
            ledger.settle(reservation, nano)
        else:
            ledger.unknown(reservation)


def call_of(what: str) -> str:
    """The key of the call that an entry of the ledger names: tries after the first carry their number."""
    head, mark, tail = what.rpartition("#")
    return head if mark and tail.isdigit() and "/" not in tail else what
