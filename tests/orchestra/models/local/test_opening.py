import asyncio
import json
from decimal import Decimal

import pytest
import torch
from transformers import AutoModelForCausalLM, Phi3Config

from orchestra.errors import InputError
from orchestra.models.local import calibrate, open_local
from orchestra.models.local.loading import decoder_of
from orchestra.models.local.packed import PackedDecoder
from orchestra.models.local.solo import SoloDecoder
from orchestra.models.protocol import Message, Request
from orchestra.models.weights import MissingWeights
from orchestra.testing import check_model


async def test_a_model_is_measured_once_and_its_price_follows_the_machines(tiny, own_cache, tiny_folder):
    first = tiny()
    (kept,) = (own_cache / "speeds").iterdir()
    written = kept.read_text()
    dear = tiny(machine_usd_per_hour=Decimal("0.20"))
    assert kept.read_text() == written
    assert dear.price.output_nano_per_million == pytest.approx(2 * first.price.output_nano_per_million, abs=2)
    (entry,) = json.loads(written).values()
    assert entry["batch"] == 16
    assert entry["input_tokens_per_second"] > 0
    again = calibrate(str(tiny_folder("llama")), seconds=0.5)
    assert again.batch == 16


async def test_the_fingerprint_tells_weights_and_number_format_apart(tiny):
    models = [tiny(), tiny("gpt2"), tiny(dtype="bfloat16"), tiny(dtype=None, deterministic=True)]
    assert len({model.fingerprint for model in models}) == 4


async def test_what_it_declares(tiny):
    model = tiny()
    assert (model.provider, model.external, model.capabilities.tools) == ("orchestra.local", False, False)
    assert model.capabilities.context_tokens == 512
    assert model.name.startswith("local/")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "bfloat61"}, "did you mean 'bfloat16'"),
        ({"dtype": "bfloat16", "deterministic": True}, "computes in float32"),
        ({"rows": 0}, "at least 1"),
    ],
)
def test_a_wrong_setting_is_refused(tiny_folder, own_cache, settings, message):
    with pytest.raises(InputError, match=message):
        open_local(str(tiny_folder("llama")), **settings)


def test_missing_weights_are_refused(own_cache):
    with pytest.raises(MissingWeights, match="orchestra models pull smollm2-135m-instruct"):
        open_local("smollm2-135m-instruct")


def test_a_folder_that_is_no_language_model_is_refused(tmp_path, own_cache):
    (tmp_path / "config.json").write_text('{"model_type": "nothing-known"}')
    with pytest.raises(InputError, match="does not open as a causal language model"):
        open_local(str(tmp_path))


@pytest.fixture
async def embedded():
    """The embedded model as everybody opens it."""
    model = open_local("smollm2-135m-instruct")
    yield model
    await model.close()


@pytest.mark.model
async def test_the_embedded_model_answers_and_keeps_its_contract(embedded, asking):
    reply = await asking.answer(embedded, asking.asked("What is the capital of France?", max_tokens=20))
    assert "Paris" in reply.text
    assert reply.finish_reason == "stop"
    assert isinstance(embedded._opened.loaded.decoder, PackedDecoder)
    await check_model(embedded)


@pytest.mark.model
async def test_the_embedded_model_multiplies_with_a_tools_message(embedded, asking):
    request = Request(
        messages=(
            Message(role="system", content="Copy the tool result that answers the question."),
            Message(role="user", content="Question: What is 61 * 65?\nTool result: The answer is 3965.\nAnswer:"),
        )
    )
    assert "3965" in (await asking.answer(embedded, request)).text


@pytest.mark.model
async def test_the_embedded_model_is_exact_when_deterministic(asking):
    model = open_local("smollm2-135m-instruct", deterministic=True)
    requests = [asking.asked(f"Say {n}.", max_tokens=6, temperature=1.0) for n in ("one", "two", "three")]
    alone = [await asking.answer(model, request) for request in requests]
    together = await asyncio.gather(*(asking.answer(model, request) for request in requests))
    await model.close()
    assert [(r.token_ids, r.logprobs) for r in alone] == [(r.token_ids, r.logprobs) for r in together]


def test_rows_are_read_one_by_one_where_the_longest_of_them_would_change_the_others():
    config = Phi3Config(
        vocab_size=258,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        pad_token_id=1,
        max_position_embeddings=256,
        original_max_position_embeddings=64,
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "long_factor": [1.0, 4.0, 7.0, 10.0],
            "short_factor": [1.0] * 4,
            "original_max_position_embeddings": 64,
        },
    )
    network = AutoModelForCausalLM.from_config(config).eval()
    assert isinstance(decoder_of(network, torch.device("cpu")), SoloDecoder)
