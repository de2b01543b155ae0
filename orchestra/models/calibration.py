"""How fast this machine reads and writes tokens with a model, measured, dated and kept; the price follows from it.

Prompt and reply are measured apart, since reading a token costs a fraction of writing one. A calibration belongs to one
model, number format, device, thread count and batch: any of them changed asks for a new one.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from orchestra.ledger import Price
from orchestra.models.weights import remembered, write_whole

Run = Callable[[int, int, int], float]
"""Answers `rows` requests of `prompt_tokens` each with `reply_tokens` each, all at once; the seconds it took."""

PROMPT_TOKENS = 64
REPLY_TOKENS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A measurement of speed."""

    model: str
    weights_sha256: str
    dtype: str
    device: str
    threads: int
    batch: int
    """Requests at once while it was measured."""
    input_tokens_per_second: float
    """Prompt tokens read, all requests together."""
    output_tokens_per_second: float
    """Reply tokens written, all requests together."""
    measured_at: str
    """Date and time, ISO 8601, UTC."""
    schema_version: int = 1

    def price(self, machine_usd_per_hour: Decimal) -> Price:
        """Per token, on a machine that costs `machine_usd_per_hour`."""
        return Price.from_speed(
            machine_usd_per_hour,
            self.input_tokens_per_second,
            self.output_tokens_per_second,
            source=(
                f"machine at {machine_usd_per_hour} USD/h; {self.model} {self.dtype} on {self.device}, "
                f"{self.threads} threads, {self.batch} at once: {self.input_tokens_per_second:.0f} tokens/s read, "
                f"{self.output_tokens_per_second:.0f} written, measured {self.measured_at[:10]}"
            ),
        )

    @property
    def key(self) -> str:
        """Names the circumstances it holds for."""
        return circumstances(self.dtype, self.device, self.threads, self.batch)

    def write(self, path: Path) -> None:
        """Keep it in the JSON file `path`, beside those of other circumstances."""
        kept = remembered(path) or {}
        kept[self.key] = asdict(self)
        write_whole(path, json.dumps(kept, indent=2, sort_keys=True) + "\n")


def circumstances(dtype: str, device: str, threads: int, batch: int) -> str:
    """The key of a calibration among those of one model."""
    return f"{dtype}/{device}/{threads} threads/{batch} at once"


def read(path: Path, key: str, weights_sha256: str) -> Calibration | None:
    """The kept calibration of these circumstances and weights; `None` when there is none."""
    entry = (remembered(path) or {}).get(key)
    if not isinstance(entry, dict) or entry.get("weights_sha256") != weights_sha256:
        return None
    if set(entry) != {field.name for field in fields(Calibration)}:
        return None
    return Calibration(**entry)


def measure(run: Run, batch: int, *, seconds: float = 4.0) -> tuple[float, float]:
    """Tokens per second read and written with `batch` requests at once.

    A small trial run sizes the measurement, so that a slow model is measured briefly instead of exactly. Reading is
    timed with replies of one token; writing is what longer replies take beyond that. No token is written faster than
    one is read: a measurement that says so was disturbed, and its price of replies would be next to nothing.

    Args:
        run: answers requests; must not stop early.
        batch: requests at once.
        seconds: about how long it may take in all.
    """
    run(1, 8, 1)  # the first pass allots memory
    trial_seconds = max(run(1, 8, 1), 1e-6)
    scale = min(1.0, max(seconds / (trial_seconds * (4 * PROMPT_TOKENS / 8 + 2 * REPLY_TOKENS)), 0.05))
    prompt_tokens = max(8, int(PROMPT_TOKENS * scale))
    reply_tokens = max(3, int(REPLY_TOKENS * scale))
    read_seconds = max(run(batch, prompt_tokens, 1), 1e-6)
    both_seconds = run(batch, prompt_tokens, reply_tokens)
    write_seconds = max(both_seconds - read_seconds, read_seconds * (reply_tokens - 1) / prompt_tokens)
    return batch * prompt_tokens / read_seconds, batch * (reply_tokens - 1) / write_seconds


def now() -> str:
    """This moment, ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
