"""Weights from memory onto a server; against the real engine in `tests/live`."""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

from orchestra.errors import InputError
from orchestra.gate import NotPublished
from orchestra.models import adapters
from orchestra.models.serving.publisher import vllm_publisher
from orchestra.plugins import load
from orchestra.testing import Answer, FaultyServer
from orchestra.testing.tokens import logprob_of

IDS = (10, 20, 30, 40)
TRUE = tuple(logprob_of(i) for i in IDS[1:])
LAYER = "base_model.model.model.q_proj"


def tensors(filled=0.5):
    return {f"{LAYER}.lora_A.weight": torch.full((2, 8), 0.1), f"{LAYER}.lora_B.weight": torch.full((4, 2), filled)}


@dataclass(frozen=True)
class Given:
    folder: Any = None
    name: str = "critic"
    version: str = "1"
    base: str = "local/tiny"
    rank: int = 2
    alpha: float = 4.0
    token_ids: tuple[int, ...] = IDS
    tensors: Any = field(default_factory=tensors)


@pytest.fixture
def opened(folder, own_cache):
    """Opens the publisher to a server."""
    return lambda server, **settings: vllm_publisher(url=server.url, base="tiny", root=folder, **settings)


def test_it_is_found_by_name():
    assert load("orchestra.publishers", "vllm") is vllm_publisher


async def test_it_is_loaded_by_name_and_version_and_older_versions_go(opened, own_cache):
    async with FaultyServer(model="tiny", plan=as_the_cache_says) as server:
        publisher = opened(server)
        assert await publisher.publish(Given()) == pytest.approx(TRUE)
        assert server.adapters == {"critic@1": str((own_cache / "adapters" / "critic@1").resolve())}
        await publisher.publish(Given(version="2", tensors=tensors(0.25)))
        await publisher.publish(Given(name="actor"))
        assert set(server.adapters) == {"critic@2", "actor@1"}
        assert {place.name for place in (own_cache / "adapters").iterdir()} == {"critic@2", "actor@1"}
        await publisher.withdraw("critic@2")
        await publisher.withdraw("critic@2")
        assert set(server.adapters) == {"actor@1"}
        await publisher.close()


async def test_weights_on_disk_are_copied_as_they_are_and_untrained_ones_are_served_too(opened, own_cache, tmp_path):
    place = tmp_path / "critic@1"
    adapters.write("critic", "1", numbers(0.0), rank=2, alpha=4.0, base="tiny", rslora=False).path.rename(place)
    async with FaultyServer(model="tiny", plan=as_the_cache_says) as server:
        publisher = opened(server)
        await publisher.publish(Given(folder=place))
        assert server.adapters == {"critic@1": str((own_cache / "adapters" / "critic@1").resolve())}
        with pytest.raises(InputError, match="holds 'critic@1'"):
            await publisher.publish(Given(version="2", folder=place))
        await publisher.withdraw("critic@1")
        assert (own_cache / "adapters" / "critic@1").is_dir()
        await publisher.close()


def numbers(filled):
    return {name: tensor.numpy() for name, tensor in tensors(filled).items()}


async def test_versions_that_are_to_stay_stay(opened):
    async with FaultyServer(model="tiny", plan=as_the_cache_says) as server:
        publisher = opened(server, keep=1)
        for version in ("1", "2", "3"):
            await publisher.publish(Given(version=version))
        assert set(server.adapters) == {"critic@2", "critic@3"}
        await publisher.close()


async def test_one_that_its_trainer_computes_otherwise_is_taken_off_and_the_older_stays(opened):
    async with FaultyServer(model="tiny", plan=as_the_cache_says) as server:
        publisher = opened(server)
        await publisher.publish(Given(), expected=TRUE)
        with pytest.raises(NotPublished, match=r"1\.000 nats"):
            await publisher.publish(Given(version="2"), expected=tuple(value - 1 for value in TRUE))
        assert set(server.adapters) == {"critic@1"}
        await publisher.close()


async def test_a_stale_cache_of_prefixes_is_found_out(opened):
    def stale(asked):
        answer = as_the_cache_says(asked)
        return answer if answer.body is None else Answer(body=answer.body.replace("-", "-1"))

    async with FaultyServer(model="tiny", plan=stale) as server:
        publisher = opened(server)
        with pytest.raises(NotPublished, match="prefixes of other weights"):
            await publisher.publish(Given())
        assert server.adapters == {}
        await publisher.close()


async def test_one_for_another_base_never_reaches_the_server(opened):
    async with FaultyServer(model="tiny", plan=as_the_cache_says) as server:
        publisher = opened(server)
        wrong = {f"{LAYER}.lora_A.weight": torch.ones(2, 16), f"{LAYER}.lora_B.weight": torch.ones(4, 2)}
        with pytest.raises(InputError, match="another base"):
            await publisher.publish(Given(tensors=wrong))
        assert server.adapters == {}
        await publisher.close()


def test_a_server_nobody_here_started_needs_the_name_of_its_base(own_cache):
    with pytest.raises(InputError, match="base="):
        vllm_publisher(url="http://127.0.0.1:1")


def as_the_cache_says(asked):
    """Replies with the log-probability of the id that is asked for, as vLLM lists it for `logprob_token_ids`."""
    if "logprob_token_ids" not in asked.body:
        return Answer(text="x")
    (wanted,) = asked.body["logprob_token_ids"]
    top = [{f"token_id:{wanted}": logprob_of(wanted)}]
    return Answer(body=json.dumps({"choices": [{"logprobs": {"top_logprobs": top}}]}))
