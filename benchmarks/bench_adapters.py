"""Tokens per second of the embedded engine with LoRA adapters beside without, in one run on one machine.

    python -m benchmarks adapters [--model smollm2-135m-instruct] [--rank 16] [--rounds 3]

Adapters change every linear layer and are published from memory. Rows: one request alone, and sixteen at once, whose
replies are 48 tokens long; columns: no adapter, all requests with one, and requests that take turns among three
adapters and none. Rounds alternate between the columns, and the best of each counts, because other work on the machine
only ever slows a round down; the ratios of processor time are steadier still on a busy machine, with OMP_NUM_THREADS=1.
The last line is what publishing takes, the probe of 64 tokens included.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graphs import Sampling
from orchestra.models.local import LocalModel, open_local
from orchestra.models.local.publishing import LocalPublisher, local_publisher
from orchestra.models.protocol import Completion, Message, Request

TOKENS = 48
CASES: dict[str, tuple[str | None, ...]] = {
    "none": (None,),
    "one": ("a@1",),
    "three and none": ("a@1", "b@1", "c@1", None),
}


@dataclass(frozen=True)
class Random:
    """An adapter of small random numbers."""

    name: str
    base: str
    rank: int
    tensors: dict[str, Tensor]
    version: str = "1"
    alpha: float = 32.0
    token_ids: tuple[int, ...] = tuple(range(100, 164))


def random_adapter(name: str, base: str, model: LocalModel, rank: int) -> Random:
    """Of every linear layer of `model`."""
    generator = torch.Generator().manual_seed(sum(name.encode()))
    tensors = {}
    for layer, (outputs, inputs) in model._opened.loaded.layers.shapes.items():
        tensors[f"base_model.model.{layer}.lora_A.weight"] = torch.randn(rank, inputs, generator=generator) / 50
        tensors[f"base_model.model.{layer}.lora_B.weight"] = torch.randn(outputs, rank, generator=generator) / 50
    return Random(name, base, rank, tensors)


async def tokens_per_second(
    model: LocalModel, rows: int, adapters: Sequence[str | None], salt: int
) -> tuple[float, float]:
    """Of `rows` requests at once that take turns among `adapters`: per second, and per second of processor time."""
    made = 0

    async def ask(number: int) -> None:
        nonlocal made
        text = f"{salt}/{number}: write a long story about {number} geese. Begin at once."
        request = Request(
            messages=(Message(role="user", content=text),),
            sampling=Sampling(max_tokens=TOKENS, temperature=1.0),
            adapter=adapters[number % len(adapters)],
            seed=number,
        )
        async for event in model.stream(request):
            if isinstance(event, Completion):
                made += len(event.token_ids or ())

    began, worked = time.perf_counter(), time.process_time()
    await asyncio.gather(*(ask(number) for number in range(rows)))
    return made / (time.perf_counter() - began), made / (time.process_time() - worked)


async def measured(base: str, rank: int, rounds: int) -> None:
    """Measure and print."""
    model, publisher = open_local(base), local_publisher()
    seconds = [await _publishing(publisher, random_adapter(name, base, model, rank)) for name in "abc"]
    ratios = [f"{case} / none{of}" for of in ("", ", processor time") for case in list(CASES)[1:]]
    print("| requests at once | " + " | ".join([*CASES, *ratios]) + " |")
    print("|---|" + "---|" * (len(CASES) + len(ratios)))
    for rows in (1, 16):
        best = dict.fromkeys(CASES, (0.0, 0.0))
        for round_ in range(rounds):
            for case, adapters in CASES.items():
                wall, work = await tokens_per_second(model, rows, adapters, round_)
                best[case] = (max(best[case][0], wall), max(best[case][1], work))
        cells = [f"{wall:.0f} tokens/s" for wall, _ in best.values()]
        ratios = [f"{best[case][of] / best['none'][of]:.2f}" for of in (0, 1) for case in list(CASES)[1:]]
        print(f"| {rows} | " + " | ".join([*cells, *ratios]) + " |", flush=True)
    print(f"\npublishing an adapter of rank {rank}: {min(seconds):.2f} s")
    await publisher.close()
    await model.close()


async def _publishing(publisher: LocalPublisher, adapter: Random) -> float:
    began = time.perf_counter()
    await publisher.publish(adapter)
    return time.perf_counter() - began


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct", help="name, folder or GGUF file")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args(arguments)
    asyncio.run(measured(chosen.model, chosen.rank, chosen.rounds))


if __name__ == "__main__":
    main()
