"""Tokens per second of the embedded engine beside plain `transformers` generate, in one run on one machine.

    python -m benchmarks local [--model smollm2-135m-instruct] [--rounds 2]

Rows: one request alone, sixteen at once, and a stream of short requests (a prompt of about 80 tokens, 16 of reply) with
32 in flight, which is what a search over components sends. Plain generate gets its prompts padded into one batch, the
best it can do. Rounds alternate between the two, and the best of each counts, because other work on the machine only
ever slows a round down.
"""

import argparse
import asyncio
import time
from collections.abc import Sequence

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from graphs import Sampling
from orchestra.models import weights
from orchestra.models.local import LocalModel, open_local
from orchestra.models.local.loading import dense_folder
from orchestra.models.protocol import Completion, Message, Request

TOPICS = ("a fox", "the sea", "an old clock", "two rivers", "a violin", "winter", "a lighthouse", "bread")


def question(number: int) -> str:
    """A prompt that shares only the system message with others."""
    return f"{number}: write a long story about {TOPICS[number % len(TOPICS)]} and {number} geese. Begin at once."


def short_question(number: int) -> str:
    """A prompt of about 80 tokens with its template, unlike every other from its first word on."""
    return (
        f"{7919 * number % 10007} tools answered. calculator says: {37 * number}. clock says: {number % 24}:30. "
        f"Question {number}: what is {number} times 37? Reply with the number alone."
    )


async def engine_seconds(model: LocalModel, prompts: list[str], max_tokens: int, at_once: int) -> tuple[float, int]:
    """Wall time and generated tokens of all prompts, `at_once` in flight."""
    gate, made = asyncio.Semaphore(at_once), 0

    async def ask(prompt: str) -> None:
        nonlocal made
        request = Request(messages=(Message(role="user", content=prompt),), sampling=Sampling(max_tokens=max_tokens))
        async with gate:
            async for event in model.stream(request):
                if isinstance(event, Completion):
                    made += len(event.token_ids or ())

    began = time.perf_counter()
    await asyncio.gather(*(ask(p) for p in prompts))
    return time.perf_counter() - began, made


def generate_seconds(
    network: object, tokenizer: object, prompts: list[str], max_tokens: int, batch: int
) -> tuple[float, int]:
    """The same with plain generate, in padded batches."""
    began, made = time.perf_counter(), 0
    for start in range(0, len(prompts), batch):
        texts = [
            tokenizer.apply_chat_template(  # type: ignore[attr-defined]
                [{"role": "user", "content": p}], tokenize=False, add_generation_prompt=True
            )
            for p in prompts[start : start + batch]
        ]
        inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)  # type: ignore[operator]
        with torch.inference_mode():
            out = network.generate(**inputs, max_new_tokens=max_tokens, do_sample=False)  # type: ignore[attr-defined]
        reply = out[:, inputs["input_ids"].shape[1] :]
        made += int((reply != tokenizer.pad_token_id).sum()) + int((reply == tokenizer.eos_token_id).any(1).sum())  # type: ignore[attr-defined]
    return time.perf_counter() - began, made


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rounds", type=int, default=2)
    chosen = parser.parse_args(arguments)
    model = open_local(chosen.model, kept_mib=0)
    folder = dense_folder(weights.path_of(chosen.model))
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, model.fingerprint.split(":")[1]))
    rows = {
        "1 request": ([question(1)], 64, 1),
        "16 requests at once": ([question(i) for i in range(16)], 64, 16),
        "64 short requests, 32 at once": ([short_question(i) for i in range(64)], 16, 32),
    }
    print("| generated tokens a second | engine | plain generate | ratio |\n|---|---|---|---|")
    for name, (prompts, max_tokens, at_once) in rows.items():
        asyncio.run(engine_seconds(model, prompts[:2], 4, 2))
        engine, plain = 0.0, 0.0
        for _ in range(chosen.rounds):
            seconds, made = asyncio.run(engine_seconds(model, prompts, max_tokens, at_once))
            engine = max(engine, made / seconds)
            seconds, made = generate_seconds(network, tokenizer, prompts, max_tokens, at_once)
            plain = max(plain, made / seconds)
        print(f"| {name} | {engine:.0f} | {plain:.0f} | {engine / plain:.2f}× |")
    asyncio.run(model.close())


if __name__ == "__main__":
    main()
