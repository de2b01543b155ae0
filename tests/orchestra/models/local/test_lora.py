"""Several adapters in one pass: each row as peft computes it, and the base as if there were none."""

import asyncio
import gc
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from orchestra.errors import InputError, ModelError
from orchestra.models.local.lora import Layers, Lora, applied
from orchestra.models.local.packed import PackedDecoder
from orchestra.models.local.solo import SoloDecoder

TEXTS = ["a", "two words", "x" * 70, "the same beginning, one end", "the same beginning, another"]
LONG = "the same long beginning of a conversation that many rows share"


def logprobs_of(network, reply):
    """Of the reply's ids, by a full pass of `network`."""
    ids = torch.tensor([(*reply.prompt_token_ids, *reply.token_ids)])
    with torch.inference_mode():
        logits_TV = network(ids).logits[0, len(reply.prompt_token_ids) - 1 : -1].float()
    return logits_TV.log_softmax(-1).gather(1, torch.tensor(reply.token_ids)[:, None])[:, 0].tolist()


def greedy(network, reply):
    """Whether every id of the reply is the most probable one by `network`."""
    ids = torch.tensor([(*reply.prompt_token_ids, *reply.token_ids)])
    with torch.inference_mode():
        best_T = network(ids).logits[0, len(reply.prompt_token_ids) - 1 : -1].argmax(-1)
    return tuple(best_T.tolist()) == reply.token_ids


@pytest.mark.parametrize(
    ("architecture", "decoder"),
    [("llama", PackedDecoder), ("mistral", PackedDecoder), ("gemma2", SoloDecoder), ("mamba", SoloDecoder)],
)
async def test_three_adapters_and_the_base_in_one_batch_compute_what_peft_computes(
    asking, tiny, trained, plain, architecture, decoder
):
    base = tiny(architecture)
    assert isinstance(base._opened.loaded.decoder, decoder)
    made = [trained(f"a{n}", architecture, seed=n, lora_alpha=4 * n, r=n + 1) for n in (1, 2, 3)]
    models = [tiny(architecture, adapter=str(path)) for _, path in made]
    networks = [plain(architecture)[0], *(network for network, _ in made)]
    asked = [(number, text) for text in TEXTS for number in range(4)]
    replies = await asyncio.gather(
        *(asking.answer([base, *models][number], asking.asked(text, max_tokens=16)) for number, text in asked)
    )
    for (number, _), reply in zip(asked, replies, strict=True):
        assert greedy(networks[number], reply)
        assert reply.logprobs == pytest.approx(logprobs_of(networks[number], reply), abs=1e-4)
        assert reply.adapter == [base, *models][number].adapter


@pytest.mark.parametrize("config", [{"use_rslora": True}, {"target_modules": ["q_proj", "down_proj"]}, {"r": 1}])
async def test_every_plain_configuration_computes_what_peft_computes(asking, tiny, trained, config):
    network, path = trained("critic", **config)
    reply = await asking.answer(tiny(adapter=str(path)), asking.asked("go", max_tokens=16))
    assert reply.logprobs == pytest.approx(logprobs_of(network, reply), abs=1e-4)


async def test_in_bfloat16_the_difference_is_rounding(asking, tiny, trained, plain):
    network, path = trained("critic")
    model = tiny(adapter=str(path), dtype="bfloat16")
    ids = tuple(range(2, 120))
    found = torch.tensor(model._opened.shelf.logprobs(model.adapter, ids))
    wanted = torch.tensor(scored(network, ids))
    base = torch.tensor(scored(plain()[0], ids))
    assert (found - wanted).abs().mean() < 0.05 * (base - wanted).abs().mean()


def scored(network, ids):
    with torch.inference_mode():
        logprobs_TV = network(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    return logprobs_TV.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
async def test_base_replies_are_bit_equal_whether_adapters_are_loaded_or_not(asking, tiny, trained, dtype):
    requests = [asking.asked(text, max_tokens=20, temperature=1.0, seed=n) for n, text in enumerate(TEXTS)]
    base = tiny(dtype=dtype, kept_mib=0)
    before = [await asking.answer(base, request) for request in requests]
    adapted = tiny(dtype=dtype, kept_mib=0, adapter=str(trained("critic")[1]))
    await asking.answer(adapted, requests[0])
    after = [await asking.answer(base, request) for request in requests]
    assert [(r.token_ids, r.logprobs) for r in before] == [(r.token_ids, r.logprobs) for r in after]


async def test_kept_transcripts_of_one_adapter_serve_no_other_and_not_the_base(asking, tiny, trained):
    models = [tiny(), *(tiny(adapter=str(trained(f"a{n}", seed=n)[1])) for n in (1, 2))]
    for model in models:
        first = await asking.answer(model, asking.asked(LONG))
        again = await asking.answer(model, asking.asked(LONG))
        assert first.usage.cached_input_tokens == 0
        assert again.usage.cached_input_tokens > 0
        assert again.token_ids == first.token_ids


async def test_rows_that_begin_alike_copy_only_from_rows_of_their_adapter(asking, tiny, trained):
    models = [tiny(), *(tiny(adapter=str(trained(f"a{n}", seed=n)[1])) for n in (1, 2))]
    asked = [(model, asking.asked(f"{LONG}, end {n}")) for n in range(3) for model in models]
    together = await asyncio.gather(*(asking.answer(model, request) for model, request in asked))
    assert any(reply.usage.cached_input_tokens for reply in together)
    for reply, (model, request) in zip(together, asked, strict=True):
        model._opened.engine._prefixes.clear()
        alone = await asking.answer(model, request)
        assert alone.usage.cached_input_tokens == 0
        assert reply.token_ids == alone.token_ids
        assert reply.logprobs == pytest.approx(alone.logprobs, abs=2e-4)


async def test_a_closed_model_frees_its_adapter_and_what_was_kept_of_it(asking, tiny, trained):
    base, model = tiny(), tiny(adapter=str(trained("critic")[1]))
    await asking.answer(model, asking.asked(LONG))
    shelf, engine = model._opened.shelf, model._opened.engine
    watched, kept = weakref.ref(shelf.lora(model.adapter)), engine.kept_bytes
    await model.close()
    gc.collect()
    assert watched() is None
    assert engine.kept_bytes < kept
    assert (await asking.answer(base, asking.asked("still here"))).token_ids


async def test_an_adapter_stays_until_the_last_model_with_it_is_closed(asking, tiny, trained):
    _, path = trained("critic")
    first, second = tiny(adapter=str(path)), tiny(adapter=str(path))
    await first.close()
    assert (await asking.answer(second, asking.asked("go"))).adapter == second.adapter


async def test_a_request_may_not_ask_a_model_for_another_adapter_than_its_own(asking, tiny, trained):
    model = tiny(adapter=str(trained("critic")[1]))
    request = asking.asked("go")
    same = type(request)(messages=request.messages, sampling=request.sampling, adapter=model.adapter)
    assert (await asking.answer(model, same)).adapter == model.adapter
    with pytest.raises(ModelError, match="was opened with the adapter"):
        await asking.answer(model, type(request)(messages=request.messages, adapter="other@1"))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"use_dora": True}, "it has DoRA"),
        ({"modules_to_save": ["norm"]}, "whole layers beside LoRA"),
        ({"rank_pattern": {"q_proj": 2}}, "ranks that differ by layer"),
        ({"bias": "lora_only"}, "changes biases"),
        ({"target_modules": ["lm_head"]}, "the output embedding"),
        ({"target_modules": ["embed_tokens"]}, "no matrix of plain LoRA"),
    ],
)
def test_what_is_not_plain_lora_over_linear_layers_is_refused_with_its_reason(tiny, trained, config, message):
    with pytest.raises(InputError, match=message):
        tiny(adapter=str(trained("critic", **config)[1]))


def test_layers_that_are_not_linear_are_refused(tiny, trained):
    _, path = trained("critic", "gpt2", fan_in_fan_out=False, target_modules=["c_fc"])
    with pytest.raises(InputError, match=r"transposed|no linear layer but Conv1D"):
        tiny("gpt2", adapter=str(path))


def test_a_layer_whose_weights_the_network_reads_itself_is_refused(tiny, trained):
    _, path = trained("critic", "mamba", target_modules=["dt_proj"])
    with pytest.raises(InputError, match=r"reads the weights of .*dt_proj' itself"):
        tiny("mamba", adapter=str(path))


def test_an_adapter_over_another_base_is_refused(tiny, trained):
    with pytest.raises(InputError, match=r"another base|does not have"):
        tiny(adapter=str(trained("critic", "mamba")[1]))


class Stack(nn.Module):
    """Two layers and a head, as small as can be."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.first, self.second, self.head = (
            nn.Linear(inputs, outputs),
            nn.Linear(outputs, inputs),
            nn.Linear(inputs, 2),
        )

    def get_output_embeddings(self):
        return self.head

    def forward(self, states):
        return self.second(torch.tanh(self.first(states)))


@given(
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=6),
    st.integers(0, 2**31),
)
def test_each_token_of_a_pass_is_changed_by_its_own_adapter_alone(inputs, outputs, rank, runs, seed):
    torch.manual_seed(seed)
    network = Stack(inputs, outputs)
    layers, states = Layers(network), torch.randn(1, sum(n for _, n in runs), inputs)
    plain = network(states)
    shapes = {"first": (outputs, inputs), "second": (inputs, outputs)}
    loras = [None, *(adapter(layers, shapes, rank, str(n)) for n in range(3))]
    for lora in loras[1:]:
        layers.touch(lora)
    groups, begin = [], 0
    for which, length in runs:
        if which:
            groups.append((begin, begin + length, loras[which]))
        begin += length
    with torch.inference_mode(), applied(groups, begin):
        got = network(states)
    expected = torch.cat(
        [reference(network, loras[which], part) for (which, _), part in zip(runs, split(states, runs), strict=True)], 1
    )
    assert torch.allclose(got, expected, atol=1e-5)
    untouched = torch.tensor([not which for which, length in runs for _ in range(length)])
    assert torch.allclose(got[:, untouched], plain[:, untouched], atol=1e-6)
    with torch.inference_mode():
        assert torch.equal(network(states), plain)


def adapter(layers, shapes, rank, name):
    tensors = {}
    for layer, (outputs, inputs) in shapes.items():
        tensors[f"base_model.model.{layer}.lora_A.weight"] = torch.randn(rank, inputs)
        tensors[f"base_model.model.{layer}.lora_B.weight"] = torch.randn(outputs, rank)
    return layers.lora(name, tensors, 0.5)


def split(states, runs):
    return states.split([length for _, length in runs], dim=1)


def reference(network, lora: Lora | None, states):
    def layer(name, x):
        module = getattr(network, name)
        out = functional.linear(x, module.weight, module.bias)
        if lora is None:
            return out
        down, up = lora.factors[name]
        return out + x @ down @ up

    with torch.inference_mode():
        return layer("second", torch.tanh(layer("first", states)))
