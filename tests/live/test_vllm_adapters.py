"""LoRA adapters made by peft, on the real engine: what passes the gate, what does not, and which weights answer."""

import json
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from graphs import Sampling
from orchestra.errors import InputError
from orchestra.models import Completion, Message, Request
from orchestra.models.serving import Adapters, NotPublished, Probe, publish
from orchestra.models.serving.adapters import AdapterRefused, inspected, snapshot
from orchestra.models.serving.publishing import cached_logprobs, fresh_logprobs, mean_difference
from orchestra.models.vllm import open_vllm

pytestmark = [
    pytest.mark.live,
    # peft 0.21 asks transformers 5 for an attribute by the name it had before.
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"),
]

WORDS = ("sea", "lamp", "stair", "book", "night", "ship", "rope", "salt", "keeper", "wind", "stone", "gull", "paper")
DICED = random.Random(1)
TEXT = (
    " ".join(DICED.choice(WORDS) for _ in range(190))
    + ". The lighthouse keeper climbed the stairs every evening, lit the lamp, and wrote down the state of the sea"
)
"""Longer than the blocks of 128 tokens in which the server keeps prefixes on a CPU, and nowhere its own repetition."""
SCORED = 24


@dataclass(frozen=True)
class Trained:
    """An adapter as its trainer leaves it."""

    path: Path
    probe: Probe


def trained(folder, path, seed, network):
    """A LoRA adapter over the weights in `folder` with random B, saved at `path`, and its probe by the same network."""
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    tuned = get_peft_model(base, config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_" in name:
                scale = 0.15 if "lora_B" in name else 0.02
                weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
    tuned.eval().save_pretrained(path)
    ids = tuple(network.tokenizer(TEXT)["input_ids"])
    logprobs = tuple(network.logprobs_by(tuned, ids[:-SCORED], ids[-SCORED:], temperature=1.0))
    return Trained(path, Probe(token_ids=ids, logprobs=logprobs, base_model=str(folder)))


@pytest.fixture(scope="module")
def first(network, tmp_path_factory):
    return trained(network.folder, tmp_path_factory.mktemp("first"), 1, network)


@pytest.fixture(scope="module")
def second(network, tmp_path_factory):
    return trained(network.folder, tmp_path_factory.mktemp("second"), 2, network)


@pytest.fixture
async def server(vllm, network, tmp_path, monkeypatch):
    """The adapters of the shared server; those a test leaves are taken away."""
    monkeypatch.setenv("ORCHESTRA_CACHE", str(tmp_path / "cache"))
    adapters = Adapters(vllm.url, base=vllm.model, root=network.folder)
    before = set(await adapters.loaded())
    yield adapters
    for served in set(await adapters.loaded()) - before:
        await adapters.unload(served)
    await adapters.close()


def changed(adapter, path, **config):
    """A copy of `adapter` with other words in its configuration."""
    shutil.copytree(adapter.path, path)
    said = json.loads((path / "adapter_config.json").read_text()) | config
    (path / "adapter_config.json").write_text(json.dumps(said))
    return path


async def test_an_adapter_that_computes_what_its_trainer_did_is_published(server, first):
    published = await publish(first.path, first.probe, server, name="critic")
    assert published.gap_nats < 0.1
    assert published.effect_nats > 4 * published.gap_nats  # the test sees the difference it looks for
    assert published.adapter.served in await server.loaded()


async def test_the_published_adapter_answers_under_its_name_and_version(vllm, server, first, network):
    adapter = (await publish(first.path, first.probe, server, name="critic")).adapter
    model = open_vllm(f"{vllm.model}+critic@{vllm.url}", processed_logprobs=True)
    asked = Request(
        messages=(Message(role="user", content="What is a lighthouse?"),),
        sampling=Sampling(temperature=0.7, max_tokens=16),
        seed=1,
    )
    reply = [event async for event in model.stream(asked)][-1]
    assert isinstance(reply, Completion)
    assert reply.adapter == reply.model == adapter.served
    assert adapter.version in model.fingerprint
    await model.close()
    base = AutoModelForCausalLM.from_pretrained(network.folder, dtype=torch.bfloat16)
    tuned = PeftModel.from_pretrained(base, first.path).eval()
    expected = network.logprobs_by(tuned, reply.prompt_token_ids, reply.token_ids, temperature=0.7)
    assert mean_difference(reply.logprobs, expected) < 0.15


@pytest.mark.parametrize(
    ("config", "words"),
    [({"lora_alpha": 0}, "its alpha is 0"), ({"r": 0}, "its rank is 0"), ({"r": 4}, "another base")],
)
async def test_an_export_without_rank_or_alpha_is_refused_before_it_is_loaded(server, first, tmp_path, config, words):
    before = await server.loaded()
    with pytest.raises(InputError, match=words):
        await publish(changed(first, tmp_path / "export", **config), first.probe, server, name="critic")
    assert await server.loaded() == before


async def test_another_alpha_than_the_trainer_s_is_refused_and_unloaded(server, first, tmp_path):
    export = changed(first, tmp_path / "export", lora_alpha=2)
    with pytest.raises(NotPublished, match="check rank, alpha and base") as caught:
        await publish(export, first.probe, server, name="critic")
    assert caught.value.served not in await server.loaded()


async def test_an_output_matrix_of_zeros_that_claims_training_is_refused(server, network, first, tmp_path):
    base = AutoModelForCausalLM.from_pretrained(network.folder, dtype=torch.bfloat16)
    get_peft_model(base, LoraConfig(r=8, target_modules=["q_proj"])).save_pretrained(tmp_path / "untrained")
    with pytest.raises(InputError, match="every B matrix is zero"):
        await publish(tmp_path / "untrained", first.probe, server, name="critic")


async def test_an_adapter_over_a_base_of_another_size_is_refused(server, first, tmp_path, network):
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(network.folder)
    config.update({"hidden_size": 288, "num_attention_heads": 3, "num_key_value_heads": 1, "num_hidden_layers": 2})
    tuned = get_peft_model(AutoModelForCausalLM.from_config(config), LoraConfig(r=8, target_modules=["q_proj"]))
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.1)
    tuned.save_pretrained(tmp_path / "small")
    with pytest.raises(InputError, match="trained over another base"):
        await publish(tmp_path / "small", first.probe, server, name="critic")


async def test_an_adapter_over_other_weights_of_the_same_size_is_refused_and_unloaded(
    server, tmp_path, network, tmp_path_factory
):
    other = tmp_path / "other-base"
    base = AutoModelForCausalLM.from_pretrained(network.folder, dtype=torch.bfloat16)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in base.named_parameters():
            if "down_proj" in name:
                weight.add_(torch.randn(weight.shape, generator=generator).to(weight.dtype) * 0.05)
    base.save_pretrained(other)
    adapter = trained(other, tmp_path / "adapter", 3, network)
    with pytest.raises(NotPublished, match="differ from the trainer's") as caught:
        await publish(adapter.path, adapter.probe, server, name="critic")
    assert caught.value.served not in await server.loaded()


async def test_weights_under_the_probe_of_another_adapter_are_refused(server, first, second):
    with pytest.raises(NotPublished, match="differ from the trainer's"):
        await publish(first.path, second.probe, server, name="critic")


async def test_a_rank_above_the_server_s_is_refused_by_the_server(server, network, first, tmp_path):
    base = AutoModelForCausalLM.from_pretrained(network.folder, dtype=torch.bfloat16)
    tuned = get_peft_model(base, LoraConfig(r=64, lora_alpha=64, target_modules=["q_proj"]))
    with torch.no_grad():
        for name, weight in tuned.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.01)
    tuned.save_pretrained(tmp_path / "wide")
    with pytest.raises(AdapterRefused, match="--max-lora-rank"):
        await publish(tmp_path / "wide", first.probe, server, name="critic")


async def test_the_next_version_in_the_same_folder_answers_with_its_own_weights(server, first, second, tmp_path):
    folder = tmp_path / "trainer-output"
    shutil.copytree(first.path, folder)
    one = await publish(folder, first.probe, server, name="critic")  # its prefixes are in the server's cache now
    shutil.copytree(second.path, folder, dirs_exist_ok=True)
    two = await publish(folder, second.probe, server, name="critic")
    assert one.adapter.served != two.adapter.served
    for published, truth in ((one, first), (two, second)):
        again = await fresh_logprobs(server, published.adapter.served, truth.probe)
        assert mean_difference(again, truth.probe.logprobs) < 0.1
        cached = await cached_logprobs(server, published.adapter.served, truth.probe)
        assert mean_difference(cached, again[-len(cached) :]) < 0.1


async def test_a_name_whose_cached_prefixes_are_of_other_weights_is_refused_and_unloaded(
    server, first, second, tmp_path
):
    """What a server does that has weights changed behind a name: it reuses what it computed with the old ones."""
    adapter = snapshot(inspected(second.path, name="critic"))
    body = {"lora_name": adapter.served, "lora_path": str(adapter.path)}
    shutil.copytree(first.path, adapter.path, dirs_exist_ok=True)
    await server._asked("POST", "/v1/load_lora_adapter", body)
    await cached_logprobs(server, adapter.served, second.probe)
    shutil.copytree(second.path, adapter.path, dirs_exist_ok=True)
    await server._asked("POST", "/v1/load_lora_adapter", body | {"load_inplace": True})
    fresh = await fresh_logprobs(server, adapter.served, second.probe)
    assert mean_difference(fresh, second.probe.logprobs) < 0.1  # the new weights are there ...
    stale = await cached_logprobs(server, adapter.served, second.probe)
    assert mean_difference(stale, fresh[-len(stale) :]) > 0.2  # ... and do not answer
    with pytest.raises(NotPublished, match="cache holds prefixes of other weights"):
        await publish(second.path, second.probe, server, name="critic")
    assert adapter.served not in await server.loaded()


async def test_an_adapter_that_is_unloaded_is_not_asked_for_any_more(vllm, server, first):
    from orchestra.errors import ModelError

    adapter = (await publish(first.path, first.probe, server, name="gone")).adapter
    await server.unload(adapter.served)
    model = open_vllm(f"{vllm.model}+gone@{vllm.url}")
    with pytest.raises(ModelError, match="no adapter 'gone' is loaded"):
        await anext(model.stream(Request(messages=(Message(role="user", content="hello"),))))
    await model.close()
