"""Measuring how fast a server reads and writes tokens; the price of a self-hosted model follows from it."""

import asyncio
import itertools
import json
import random
import time

from orchestra.errors import ModelError
from orchestra.models import calibration
from orchestra.models.calibration import Calibration
from orchestra.models.serving.record import BATCH, Record
from orchestra.models.vllm_errors import refusal

_SAFE_IDS = range(3, 1000)
"""Ids that every vocabulary has and that end no reply."""


def calibrate(record: Record, *, seconds: float = 10.0) -> Calibration:
    """Measure the server of `record` with 16 requests at once and keep the result, with its date.

    Args:
        record: of a server that answers and does nothing else meanwhile.
        seconds: about how long it may take.

    Raises:
        ModelError: the server refuses.
    """
    numbers = itertools.count()

    def run(rows: int, prompt_tokens: int, reply_tokens: int) -> float:
        # Every prompt is new, or the server would find it in its cache of prefixes and seem to read in no time.
        rng = random.Random(f"{time.time_ns()}/{next(numbers)}")
        prompts = [rng.choices(_SAFE_IDS, k=prompt_tokens) for _ in range(rows)]
        return asyncio.run(_answered_seconds(record, prompts, reply_tokens))

    read_speed, write_speed = calibration.measure(run, BATCH, seconds=seconds)
    measured = Calibration(
        model=record.model,
        weights_sha256=record.weights_sha256,
        dtype=record.dtype,
        device=record.device,
        threads=record.threads,
        batch=BATCH,
        input_tokens_per_second=read_speed,
        output_tokens_per_second=write_speed,
        measured_at=calibration.now(),
    )
    measured.write(record.speed_file)
    return measured


async def _answered_seconds(record: Record, prompts: list[list[int]], reply_tokens: int) -> float:
    from orchestra.models.vllm_http import Connection

    connection = Connection(record.url)

    async def one(prompt: list[int]) -> None:
        body = {
            "model": record.model,
            "prompt": prompt,
            "max_tokens": reply_tokens,
            "min_tokens": reply_tokens,
            "ignore_eos": True,
            "temperature": 1.0,
        }
        status, headers, answer = await connection.ask("POST", "/v1/completions", json.dumps(body).encode())
        if status != 200:
            raise refusal(f"vllm/{record.model}", status, headers, answer)
        written = json.loads(answer)["usage"]["completion_tokens"]
        if written != reply_tokens:
            raise ModelError(f"vllm/{record.model} wrote {written} tokens of {reply_tokens}; it cannot be measured")

    try:
        began = time.perf_counter()
        await asyncio.gather(*(one(prompt) for prompt in prompts))
        return time.perf_counter() - began
    finally:
        await connection.close()
