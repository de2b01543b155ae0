import asyncio
import random
import time

import pytest
import torch

from orchestra.errors import ModelError
from orchestra.models.local.packed import PackedDecoder
from orchestra.models.local.places import Arena
from orchestra.models.local.solo import SoloDecoder

TEXTS = ["a", "two words", "x" * 70, "the same beginning, one end", "the same beginning, another", "\n\n?"]


def generated(plain, architecture, prompt_ids, max_tokens):
    network, _ = plain(architecture)
    inputs = torch.tensor([prompt_ids])
    mask = torch.ones_like(inputs)
    with torch.inference_mode():
        out = network.generate(inputs, attention_mask=mask, max_new_tokens=max_tokens, do_sample=False, pad_token_id=1)
    return tuple(out[0, inputs.shape[1] :].tolist())


@pytest.mark.parametrize(
    ("architecture", "decoder"),
    [
        ("llama", PackedDecoder),
        ("mistral", PackedDecoder),
        ("gpt2", PackedDecoder),
        ("gemma2", SoloDecoder),
        ("mamba", SoloDecoder),
    ],
)
async def test_greedy_rows_of_one_batch_write_what_generate_writes(asking, tiny, plain, architecture, decoder):
    model = tiny(architecture)
    assert isinstance(model._opened.loaded.decoder, decoder)
    for reply in await asking.answers(model, [asking.asked(text, max_tokens=20) for text in TEXTS]):
        assert reply.token_ids == generated(plain, architecture, reply.prompt_token_ids, 20)


async def test_a_prompt_longer_than_one_pass_is_read_in_several(asking, tiny, plain):
    model = tiny(rows=4)
    model._opened.engine._limits = type(model._opened.engine._limits)(rows=4, prompt_tokens=7)
    for reply in await asking.answers(model, [asking.asked(text, max_tokens=10) for text in TEXTS]):
        assert reply.token_ids == generated(plain, "llama", reply.prompt_token_ids, 10)


@pytest.mark.parametrize("rule", [{}, {"temperature": 0.8}, {"temperature": 1.5, "top_k": 20, "top_p": 0.9}])
async def test_log_probabilities_are_those_of_a_full_pass(asking, tiny, plain, rule):
    network, _ = plain()
    for reply in await asking.answers(tiny(), [asking.asked(text, max_tokens=16, **rule) for text in TEXTS]):
        ids = torch.tensor([(*reply.prompt_token_ids, *reply.token_ids)])
        with torch.inference_mode():
            logits_TV = network(ids).logits[0, len(reply.prompt_token_ids) - 1 : -1]
        expected = [processed(logits, rule)[token] for logits, token in zip(logits_TV, reply.token_ids, strict=True)]
        assert reply.logprobs == pytest.approx([float(e) for e in expected], abs=2e-4)


def processed(logits_V, rule):
    logits_V = logits_V / (rule.get("temperature") or 1.0)
    if "top_k" in rule:
        logits_V = logits_V.masked_fill(logits_V < logits_V.topk(rule["top_k"]).values[-1], -torch.inf)
        ordered = logits_V.softmax(0).sort(descending=True)
        dropped = ordered.indices[(ordered.values.cumsum(0) - ordered.values) >= rule["top_p"]]
        logits_V = logits_V.index_fill(0, dropped, -torch.inf)
    return logits_V.log_softmax(0)


async def test_sixty_four_rows_that_join_at_random_times_write_what_each_writes_alone(asking, tiny):
    chance = random.Random(4)
    requests = [
        asking.asked(
            chance.choice(TEXTS) * chance.randint(1, 3), max_tokens=chance.randint(1, 40), seed=i, temperature=1.0
        )
        for i in range(64)
    ]
    together = await asyncio.gather(
        *(asking.answer(tiny(), request, after=chance.random() / 5) for request in requests)
    )
    alone_model = tiny(rows=1, kept_mib=0)
    for request, reply in zip(requests, together, strict=True):
        alone = await asking.answer(alone_model, request)
        assert reply.token_ids == alone.token_ids
        assert reply.logprobs == pytest.approx(alone.logprobs, abs=2e-4)


async def test_a_seed_repeats_a_reply_and_a_sample_index_changes_it(asking, tiny):
    model = tiny()
    replies = await asking.answers(
        model,
        [asking.asked("go", temperature=1.0, seed=s, sample_index=i) for s, i in ((1, 0), (1, 0), (1, 1), (2, 0))],
    )
    ids = [reply.token_ids for reply in replies]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


async def test_max_tokens_and_the_end_token_end_a_reply(asking, tiny):
    replies = await asking.answers(
        tiny(), [asking.asked("go", temperature=1.5, max_tokens=n, seed=n) for n in range(1, 60)]
    )
    assert {reply.finish_reason for reply in replies} == {"stop", "length"}
    for n, reply in enumerate(replies, start=1):
        ended = reply.token_ids[-1] == 1
        assert reply.finish_reason == ("stop" if ended else "length")
        assert len(reply.token_ids) <= n
        assert len(reply.token_ids) == len(reply.logprobs) == reply.usage.output_tokens
        assert ended or len(reply.token_ids) == n


async def test_a_stop_string_ends_a_reply_and_is_not_part_of_it(asking, tiny):
    model = tiny()
    whole = await asking.answer(model, asking.asked("story", temperature=1.0, max_tokens=40, seed=3))
    stop = whole.text[4:6]
    cut = await asking.answer(model, asking.asked("story", temperature=1.0, max_tokens=40, seed=3, stop=(stop,)))
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"
    assert cut.token_ids == whole.token_ids[: len(cut.token_ids)]
    assert len(cut.token_ids) < len(whole.token_ids)


async def idle(model, seconds=5.0):
    engine, end = model._opened.engine, time.perf_counter() + seconds
    while (engine._active or engine._waiting) and time.perf_counter() < end:
        await asyncio.sleep(0.005)
    return not engine._active and not engine._waiting


async def test_closing_the_stream_frees_its_row(asking, tiny):
    model = tiny()
    stream = model.stream(asking.asked("go on", max_tokens=400, temperature=3.0, stop=("\ue000",)))
    await anext(stream)
    await stream.aclose()
    assert await idle(model)
    assert (await asking.answer(model, asking.asked("go on"))).token_ids


async def test_a_cancelled_task_frees_its_row_and_leaves_its_mates_alone(asking, tiny):
    model = tiny()
    expected = await asking.answer(model, asking.asked("mate", max_tokens=30))
    doomed = [
        asyncio.create_task(asking.answer(model, asking.asked(f"{i}", max_tokens=400, temperature=3.0)))
        for i in range(5)
    ]
    mate = asyncio.create_task(asking.answer(model, asking.asked("mate", max_tokens=30)))
    await asyncio.sleep(0.02)
    for task in doomed:
        task.cancel()
    assert (await mate).token_ids == expected.token_ids
    assert await idle(model)


async def test_a_deadline_ends_the_call_and_frees_its_row(asking, tiny):
    model = tiny()
    request = asking.asked("go", max_tokens=400, temperature=3.0)
    late = type(request)(messages=request.messages, sampling=request.sampling, deadline_seconds=0.001)
    with pytest.raises(ModelError, match=r"deadline of 0\.001 s"):
        await asking.answer(model, late)
    assert await idle(model)


async def test_more_than_the_context_is_refused_before_any_work(asking, tiny):
    model = tiny()
    with pytest.raises(ModelError, match=r"max_tokens=400 exceed the context of .*512 tokens"):
        await asking.answer(model, asking.asked("x" * 200, max_tokens=400))
    assert not model._opened.engine._waiting


async def test_a_failing_pass_reaches_every_caller_and_the_engine_goes_on(asking, tiny):
    model = tiny()
    decoder = model._opened.loaded.decoder
    network, decoder._network = decoder._network, None
    replies = await asyncio.gather(*(asking.answer(model, asking.asked(t)) for t in TEXTS), return_exceptions=True)
    assert all(isinstance(reply, ModelError) for reply in replies)
    decoder._network = network
    assert (await asking.answer(model, asking.asked("again"))).token_ids


async def test_rows_beyond_the_limit_wait_their_turn(asking, tiny):
    replies = await asking.answers(tiny(rows=3), [asking.asked(str(i), max_tokens=8) for i in range(20)])
    alone = tiny(rows=1)
    assert [r.token_ids for r in replies] == [
        (await asking.answer(alone, asking.asked(str(i), max_tokens=8))).token_ids for i in range(20)
    ]


async def test_a_request_that_finds_no_memory_is_told_so_and_the_others_go_on(asking, tiny, monkeypatch):
    model, empty = tiny(kept_mib=0), Arena._empty

    def scarce(arena, rows):
        if arena.capacity > 256:
            raise MemoryError("not so much")
        return empty(arena, rows)

    monkeypatch.setattr(Arena, "_empty", scarce)
    requests = [asking.asked("x" * length, max_tokens=8) for length in (9, 300, 10, 11)]
    replies = await asyncio.gather(*(asking.answer(model, request) for request in requests), return_exceptions=True)
    assert [isinstance(reply, ModelError) for reply in replies] == [False, True, False, False]
    assert "cannot take this request: MemoryError: not so much" in str(replies[1])
    assert not model._opened.engine._active


async def test_a_row_whose_scores_are_no_numbers_ends_alone(asking, tiny, trained):
    network, folder = trained("sick")
    with torch.no_grad():
        next(p for n, p in network.named_parameters() if "lora_B" in n).fill_(1e37)
    network.save_pretrained(folder)
    sick, well = tiny(adapter=str(folder)), tiny()
    for temperature in (0.0, 1.0):
        request = asking.asked("go", temperature=temperature)
        told, reply = await asyncio.gather(
            asking.answer(sick, request), asking.answer(well, request), return_exceptions=True
        )
        assert isinstance(told, ModelError)
        assert "no numbers" in str(told)
        assert reply.token_ids == (await asking.answer(tiny(rows=1, kept_mib=0), request)).token_ids
