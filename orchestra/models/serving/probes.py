"""A text with the log-probabilities its trainer gives it: what a published adapter must reproduce."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from orchestra.errors import InputError

FILE = "probe.json"
"""Its usual name, beside the adapter's weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Token ids and what the trainer's own network, adapter on, thinks of the last of them.

    Raises:
        InputError: the lengths do not fit.
    """

    token_ids: tuple[int, ...]
    """The whole text."""
    logprobs: tuple[float, ...]
    """Of the last ids of `token_ids`, each after all before it; natural log, temperature 1."""
    base_model: str = ""
    """What the trainer loaded the base from; for messages."""

    def __post_init__(self) -> None:
        if not 0 < len(self.logprobs) < len(self.token_ids):
            raise InputError(
                f"a probe has at least one log-probability and fewer than ids, got {len(self.logprobs)} for "
                f"{len(self.token_ids)} ids"
            )
        if not all(math.isfinite(value) and value <= 0 for value in self.logprobs):
            raise InputError(
                "a probe's log-probabilities are finite and at most zero; it was written by a broken trainer"
            )

    @property
    def scored_from(self) -> int:
        """Place of the first id that has a log-probability."""
        return len(self.token_ids) - len(self.logprobs)

    def write(self, path: Path) -> None:
        """Save it as JSON."""
        path.write_text(json.dumps(asdict(self)) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Probe":
        """The probe in the file `path`.

        Raises:
            InputError: there is none.
        """
        try:
            entry: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                token_ids=tuple(map(int, entry["token_ids"])),
                logprobs=tuple(map(float, entry["logprobs"])),
                base_model=str(entry.get("base_model", "")),
            )
        except (OSError, ValueError, KeyError, TypeError) as cause:
            raise InputError(f"no probe in {str(path)!r} ({cause}); have the trainer write one") from cause
