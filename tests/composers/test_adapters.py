"""An adapter in an inventory: tried, hired for its price, run, and named in certificate and episodes."""

import asyncio
import json
import warnings

import numpy as np
import peft
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from composers import compose
from composers.knapsack.assembly import assemble, valued, worn_by_the_head
from composers.problem import Problem
from graphs import AgentNode
from graphs.serialisation import read
from orchestra.agents.inventory import Component, Inventory
from orchestra.agents.prompts import render
from orchestra.benchmarks import Task
from orchestra.errors import InputError
from orchestra.execution import Settings, run
from orchestra.models import adapters
from orchestra.models.cards import Card, Measured
from orchestra.models.local import open_local
from orchestra.models.peft_files import CONFIG, TENSORS
from orchestra.models.serving import safetensors

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{{ '<|im_start|>assistant\n' }}"
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ORCHESTRA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def base(tmp_path):
    """A model of a few thousand parameters that answers at random."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = {token: i for i, token in enumerate(("<|im_start|>", "<|im_end|>", *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=tokens, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>")
    made.chat_template = CHATML
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=1024,
        initializer_range=0.4,
        eos_token_id=1,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "base")
    made.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def office(tmp_path, base, cache):
    """Tasks whose answer is "yes", an adapter that was trained to give it, and a tool that does not."""
    tasks = [
        {"id": f"t{n}", "input": f"Is {n} a number?", "target": "yes", "skills": ["numbers"]}
        | {"split": "trial" if n % 2 else "heldout"}
        for n in range(16)
    ]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    (tmp_path / "tools.py").write_text("def mute(text):\n    return None\n")
    (tmp_path / "inventory.yaml").write_text(
        "components:\n"
        "  - {name: sayer, kind: adapter, description: Says whether something is a number, price_usd: 3, path: sayer}\n"
        '  - {name: mute, kind: tool, description: Numbers of silence, price_usd: 2, call: "tools:mute"}\n'
    )
    node = assemble((), Inventory(components=())).nodes[0]
    trained(base, [render(node, task["input"], ()) for task in tasks[1::2]], tmp_path / "sayer")
    return tmp_path


def trained(base, prompts, folder):
    """Save an adapter over `base` that answers "yes" to `prompts`."""
    model = open_local(str(base), dtype="float32", rows=2)
    reply = (*model._opened.prompts.encode("yes"), 1)
    samples = [torch.tensor([(*model._opened.prompts.ids(prompt), *reply)]) for prompt in prompts]
    asyncio.run(model.close())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft asks transformers for what this calls by another name now
        network = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        network = peft.get_peft_model(network, peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], lr=2e-2)
    for step in range(120):
        ids = samples[step % len(samples)]
        logits = network(ids).logits[0, -len(reply) - 1 : -1]
        loss = torch.nn.functional.cross_entropy(logits, ids[0, -len(reply) :])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.save_pretrained(folder)
    Card(name="sayer", version="7", base="base").write(folder)


def problem_in(office, base, **chosen):
    settings = Settings(model=f"local/{base}", use_cache=True)
    fields = {"budget_usd": 4, "settings": settings, "similarity": "bm25", "queries": 4} | chosen
    return Problem.read(office / "tasks.jsonl", office / "inventory.yaml", **fields)


async def test_an_adapter_that_helps_is_hired_for_its_price_and_the_certificate_says_so(office, base):
    made = await compose(problem_in(office, base), store=office / "store.sqlite", out=office / "team.yaml")
    assert made.chosen == ("sayer",)
    assert made.equipment_usd == 3
    assert made.certificate.arm("team").success == 1
    assert {trial.component: trial.value for trial in made.tried} == {"sayer": 1, "mute": 0}
    (node,) = read(office / "team.yaml").nodes
    assert isinstance(node, AgentNode)
    assert (node.model, node.component, node.price_usd) == (f"local/{base}+sayer@7", "sayer", 3)
    episode = await run(office / "team.yaml", "Is 99 a number?", store=office / "store.sqlite")
    assert episode.seats[0].adapters == ("sayer@7",)
    assert {turn.adapter for transcript in episode.transcripts for turn in transcript.turns} == {"sayer@7"}


async def test_an_adapter_that_is_not_there_is_refused_before_anything_is_spent(office, base):
    (office / "sayer" / "adapter_config.json").unlink()
    with pytest.raises(InputError, match="no LoRA adapter at"):
        await compose(problem_in(office, base), store=office / "store.sqlite")


async def test_an_adapter_over_another_base_is_refused_before_anything_is_spent(office, base):
    card = json.loads((office / "sayer" / "adapter.json").read_text())
    (office / "sayer" / "adapter.json").write_text(json.dumps({**card, "base_sha256": "0" * 64}))
    with pytest.raises(InputError, match="was trained over 'base' with the weights 000000000000"):
        await compose(problem_in(office, base), store=office / "store.sqlite")


def test_of_several_adapters_the_head_wears_the_most_valuable_by_its_card_unless_the_inventory_says(cache, tmp_path):
    for name, worth in (("able", None), ("mean", 0.1), ("good", 0.4)):
        tensors = {f"base_model.model.q.lora_{half}.weight": np.full((2, 2), 0.5) for half in "AB"}
        there = adapters.write(name, "1", tensors, rank=2, alpha=4.0, base="tiny", rslora=False)
        value = None if worth is None else Measured(what="wins", mean=worth, low=0, high=1, count=9)
        Card(name=name, version="1", base="tiny", value=value).write(there.path)
    (cache / "adapters" / "good@1").rename(tmp_path / "good")  # beside the inventory, not in the user's folder
    able, mean = (Component(name=name, kind="adapter", description="d", price_usd=1) for name in ("able", "mean"))
    good = Component(name="good", kind="adapter", description="d", price_usd=1, path="good")
    inventory = Inventory(components=(able, mean, good), path=tmp_path / "inventory.yaml")
    filled = valued(inventory).components
    assert [component.value for component in filled] == [None, 0.1, 0.4]
    assert worn_by_the_head(filled).name == "good"
    tasks = [Task(id=split, input="?", target="1", split=split) for split in ("trial", "heldout")]
    assert Problem.read(tasks, inventory, budget_usd=9, similarity="bm25").inventory.components == filled
    said = inventory.model_copy(update={"components": (mean.model_copy(update={"value": 0.9}), good)})
    assert worn_by_the_head(valued(said).components).name == "mean"


@pytest.mark.model
async def test_a_team_with_an_adapter_over_the_real_model_runs(tmp_path, monkeypatch):
    model = "local/smollm2-135m-instruct"
    place = tmp_path / "critic@1"
    shapes = open_local("smollm2-135m-instruct")
    tensors = {}
    for name, (outputs, inputs) in shapes._opened.loaded.layers.shapes.items():
        tensors[f"base_model.model.{name}.lora_A.weight"] = torch.full((2, inputs), 0.001).numpy()
        tensors[f"base_model.model.{name}.lora_B.weight"] = torch.full((outputs, 2), 0.001).numpy()
    place.mkdir()
    safetensors.write(place / TENSORS, tensors)
    (place / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}))
    critic = Component(name="critic", kind="adapter", description="Criticises", price_usd=1, path=str(place))
    found = adapters.found(str(place))
    assert found.served == "critic@1"
    monkeypatch.setattr(adapters, "folder", lambda: tmp_path / "adapters")
    team = assemble((critic,), Inventory(components=(critic,)), model=model)
    episode = await run(team, "What is the capital of France?", store=tmp_path / "store.sqlite")
    assert episode.error is None
    assert episode.seats[0].adapters == ("critic@1",)
    await shapes.close()
