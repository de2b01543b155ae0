"""The same weights from memory on the real server and in the embedded engine: one adapter, the same numbers."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from orchestra.gate import NotPublished, mean_difference
from orchestra.models.local import open_local
from orchestra.models.local.publishing import local_publisher
from orchestra.models.serving import Adapters
from orchestra.models.serving.publisher import vllm_publisher

pytestmark = pytest.mark.live

TEXT = "The lighthouse keeper climbed the stairs every evening, lit the lamp, and wrote down the state of the sea. " * 2


@dataclass(frozen=True)
class Given:
    version: str
    base: str
    tensors: Any
    token_ids: tuple[int, ...]
    name: str = "keeper"
    rank: int = 8
    alpha: float = 16.0


def given(version, base, shapes, token_ids, seed):
    """Small random numbers in the attention and the last product of every block."""
    generator, tensors = torch.Generator().manual_seed(seed), {}
    for layer, (outputs, inputs) in shapes.items():
        if layer.endswith(("q_proj", "v_proj", "down_proj")):
            tensors[f"base_model.model.{layer}.lora_A.weight"] = torch.randn(8, inputs, generator=generator) * 0.02
            tensors[f"base_model.model.{layer}.lora_B.weight"] = torch.randn(outputs, 8, generator=generator) * 0.15
    return Given(version, base, tensors, token_ids)


async def test_both_publishers_compute_the_same_and_the_server_keeps_the_newest_version(
    vllm, network, tmp_path, monkeypatch
):
    monkeypatch.setenv("ORCHESTRA_CACHE", str(tmp_path / "cache"))
    base = str(network.folder)
    model = open_local(base)
    ids = tuple(network.tokenizer(TEXT)["input_ids"])
    shapes = model._opened.loaded.layers.shapes
    first, second = (given(str(seed), base, shapes, ids, seed) for seed in (1, 2))
    here, there = local_publisher(), vllm_publisher(url=vllm.url, base=vllm.model, root=network.folder)
    server = Adapters(vllm.url, base=vllm.model)
    try:
        plain = model._opened.shelf.logprobs(None, ids)
        for weights in (first, second):
            expected = await here.publish(weights)
            found = await there.publish(weights, expected=expected)
            assert mean_difference(expected, found) < 0.1
            assert mean_difference(expected, plain) > 4 * mean_difference(expected, found)
        mine = {served for served in await server.loaded() if served.startswith("keeper@")}
        assert mine == {"keeper@2"}
        with pytest.raises(NotPublished):
            await there.publish(given("3", base, shapes, ids, 3), expected=plain)
        assert "keeper@3" not in await server.loaded()
    finally:
        await there.withdraw("keeper@2")
        for part in (here, there, server, model):
            await part.close()
