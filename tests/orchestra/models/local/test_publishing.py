"""Weights from memory into running engines, and out of them again."""

import asyncio
import gc
import json
import weakref
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from peft import get_peft_model_state_dict

from orchestra import gate
from orchestra.errors import InputError, ModelError
from orchestra.models import adapters
from orchestra.models.cache import completion_key
from orchestra.models.local.publishing import local_publisher
from orchestra.models.protocol import Request
from orchestra.models.serving import Probe
from orchestra.plugins import load

PROBE = tuple(range(2, 40))


@dataclass(frozen=True)
class Given:
    name: str
    version: str
    base: str
    tensors: Any
    rank: int = 4
    alpha: float = 16.0
    token_ids: tuple[int, ...] = PROBE


@pytest.fixture
def given(trained, tiny_folder):
    """Makes a peft model and the weights of it that a trainer would publish."""

    def made(version="1", *, name="critic", **config):
        network, _ = trained(f"{name}-{version}", seed=hash(version) % 1000, **config)
        tensors = get_peft_model_state_dict(network)
        return network, Given(name, version, f"local/{tiny_folder('llama')}", tensors)

    return made


@pytest.fixture
async def publisher(own_cache):
    made = local_publisher(dtype="float32")
    yield made
    await made.close()


def scored(network, ids=PROBE):
    with torch.inference_mode():
        logprobs_TV = network(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    return logprobs_TV.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()


def asking_for(request, adapter):
    return Request(messages=request.messages, sampling=request.sampling, seed=request.seed, adapter=adapter)


def test_it_is_found_by_name():
    assert load("orchestra.publishers", "local") is local_publisher


async def test_what_is_published_computes_what_its_trainer_computes(publisher, given):
    network, weights = given()
    expected = scored(network)
    assert await publisher.publish(weights, expected=expected) == pytest.approx(expected, abs=1e-4)


async def test_a_probe_longer_than_one_pass_is_scored_whole(publisher, given):
    network, weights = given()
    ids = tuple(2 + n % 250 for n in range(200))
    found = await publisher.publish(replace(weights, token_ids=ids))
    assert found == pytest.approx(scored(network, ids), abs=1e-4)


async def test_a_model_and_a_request_reach_it_by_name_and_version(asking, tiny, publisher, given):
    _, weights = given()
    await publisher.publish(weights)
    request = asking.asked("go")
    by_model = await asking.answer(tiny(adapter="critic@1"), request)
    by_request = await asking.answer(tiny(), asking_for(request, "critic@1"))
    newest = await asking.answer(tiny(adapter="critic"), request)
    assert by_model.token_ids == by_request.token_ids == newest.token_ids
    assert {by_model.adapter, by_request.adapter, newest.adapter} == {"critic@1"}
    assert by_model.token_ids != (await asking.answer(tiny(), request)).token_ids


async def test_an_engine_opened_with_other_settings_knows_it_too(asking, tiny, publisher, given):
    _, weights = given()
    await publisher.publish(weights)
    deterministic = tiny(dtype=None, deterministic=True, adapter="critic@1")
    assert (await asking.answer(deterministic, asking.asked("go"))).adapter == "critic@1"


async def test_what_the_trainer_does_to_its_tensors_afterwards_changes_nothing(asking, tiny, publisher, given):
    network, weights = given()
    expected = scored(network)
    await publisher.publish(weights)
    with torch.no_grad():
        for matrix in weights.tensors.values():
            matrix.zero_()
    late = tiny(rows=3, adapter="critic@1")  # an engine of its own, which copies them only now
    assert late._opened.shelf.logprobs("critic@1", PROBE) == pytest.approx(expected, abs=1e-4)


async def test_a_row_ends_with_the_version_it_began_with_while_versions_come_and_go(asking, tiny, publisher, given):
    first, second = given("1")[1], given("2")[1]
    base = tiny(kept_mib=0)
    long = asking.asked("go on", max_tokens=300, temperature=3.0)
    await publisher.publish(first)
    alone = await asking.answer(base, asking_for(long, "critic@1"))
    running = asyncio.create_task(asking.answer(base, asking_for(long, "critic@1")))
    await asyncio.sleep(0.02)
    await publisher.publish(second)
    await publisher.withdraw("critic@1")
    assert not running.done()
    reply = await running
    assert (reply.adapter, reply.token_ids) == ("critic@1", alone.token_ids)
    with pytest.raises(ModelError, match=r"critic@1"):
        await asking.answer(base, asking_for(long, "critic@1"))


async def test_every_row_is_of_its_own_version_while_a_trainer_publishes_one_after_the_other(
    asking, tiny, publisher, given, plain
):
    base, networks, running = tiny(), {}, []
    for number in range(6):
        network, weights = given(str(number))
        await publisher.publish(weights, expected=scored(network))
        networks[f"critic@{number}"] = network
        for row in range(4):
            request = asking.asked(f"one beginning for all, end {row}", max_tokens=40, temperature=1.0, seed=row)
            running.append(asyncio.create_task(asking.answer(base, asking_for(request, f"critic@{number}"))))
        running.append(asyncio.create_task(asking.answer(base, asking.asked("one beginning for all"))))
        await asyncio.sleep(0.01)
        await publisher.withdraw(f"critic@{number - 1}")
    networks[None] = plain()[0]
    for reply in await asyncio.gather(*running):
        ids = (*reply.prompt_token_ids, *reply.token_ids)
        expected = scored(networks[reply.adapter], ids)[-len(reply.token_ids) :]
        assert reply.logprobs == pytest.approx(expected, abs=1e-3)


async def test_withdrawing_frees_its_memory_although_models_opened_with_it_stay(asking, tiny, publisher, given):
    await publisher.publish(given()[1])
    model = tiny(adapter="critic@1")
    await asking.answer(model, asking.asked("a beginning that is worth keeping"))
    watched = weakref.ref(model._opened.shelf.lora("critic@1"))
    await publisher.withdraw("critic@1")
    gc.collect()
    assert watched() is None
    with pytest.raises(ModelError, match="withdrawn"):
        await asking.answer(model, asking.asked("go"))
    await publisher.withdraw("critic@1")


async def test_one_that_its_trainer_computes_otherwise_is_taken_away_again(asking, tiny, publisher, given):
    network, weights = given()
    wrong = replace(weights, alpha=0.4)
    with pytest.raises(gate.NotPublished, match="as if the adapter were not there"):
        await publisher.publish(wrong, expected=scored(network))
    with pytest.raises(InputError, match="no adapter 'critic@1'"):
        tiny(adapter="critic@1")


async def test_a_version_is_of_one_set_of_numbers(publisher, given):
    await publisher.publish(given("1")[1])
    await publisher.publish(given("1")[1])
    with pytest.raises(InputError, match="other numbers"):
        await publisher.publish(replace(given("2")[1], version="1"))


def probed(path, logprobs, ids=PROBE):
    Probe(token_ids=ids, logprobs=tuple(logprobs)).write(path / "probe.json")
    return str(path)


async def test_a_folder_whose_probe_comes_out_is_opened(asking, tiny, trained, own_cache):
    network, path = trained("critic")
    model = tiny(adapter=probed(path, scored(network)[-8:]))
    assert (await asking.answer(model, asking.asked("go"))).adapter == model.adapter
    copy = adapters.snapshot(adapters.found(str(path)))
    assert tiny(adapter=copy.served, rows=3).adapter == copy.served  # by name, from the user's folder, in a new engine


def test_a_folder_whose_probe_comes_out_otherwise_is_refused_by_path_and_by_name(tiny, trained, own_cache):
    network, path = trained("critic")
    name = probed(path, [value - 1 for value in scored(network)])
    with pytest.raises(gate.NotPublished, match=r"differ from the trainer's by 1\.000 nats"):
        tiny(adapter=name)
    copy = adapters.snapshot(adapters.found(name))
    with pytest.raises(gate.NotPublished):
        tiny(adapter=copy.served)
    probed(copy.path, scored(network))
    assert tiny(adapter=copy.served).adapter == copy.served  # what was refused left nothing behind


def test_an_export_without_its_alpha_is_found_out_by_the_probe(tiny, trained, own_cache):
    network, path = trained("critic")
    config = json.loads((path / "adapter_config.json").read_text())
    (path / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 0.4}))
    with pytest.raises(gate.NotPublished, match="as if the adapter were not there"):
        tiny(adapter=probed(path, scored(network)))


def test_a_probe_of_another_vocabulary_is_refused(tiny, trained, own_cache):
    _, path = trained("critic")
    with pytest.raises(InputError, match=r"ids that this base does not have \(it has 258\)"):
        tiny(adapter=probed(path, [-1.0], (2, 49_000)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 0}, "alpha is 0|rank"),
        ({"alpha": 0.0}, "alpha is 0"),
        ({"tensors": {}}, "no LoRA matrices"),
        ({"tensors": {"base_model.model.lm_head.lora_A.weight": torch.ones(4, 32)}}, "only one of its two"),
        ({"name": "a+b"}, "cannot be part"),
        ({"version": "1@2"}, "cannot be part"),
    ],
)
async def test_what_cannot_be_published_is_refused_and_forgotten(publisher, given, change, message):
    with pytest.raises(InputError, match=message):
        await publisher.publish(replace(given()[1], **change))
    await publisher.publish(given()[1])


async def test_numbers_that_are_not_finite_are_refused(publisher, given):
    _, weights = given()
    broken = {name: matrix * float("nan") for name, matrix in weights.tensors.items()}
    with pytest.raises(InputError, match="infinite or not numbers"):
        await publisher.publish(replace(weights, tensors=broken))


async def test_cached_replies_of_equal_names_and_other_numbers_are_kept_apart(asking, tiny, given):
    keys = []
    for version in ("1", "2"):
        publisher = local_publisher(dtype="float32")
        await publisher.publish(replace(given(version)[1], version="same"))
        request = asking.asked("go")
        model = tiny(adapter="critic@same")
        keys += [completion_key(model, request), completion_key(tiny(), asking_for(request, "critic@same"))]
        await publisher.close()
        await model.close()
    assert len(set(keys)) == 4


@pytest.mark.parametrize("architecture", ["llama", "mamba"])
def test_a_long_probe_is_scored_as_the_network_scores_it(tiny, plain, architecture):
    ids = [2 + (7 * at) % 250 for at in range(130)]
    with torch.inference_mode():
        logits_TV = plain(architecture)[0](torch.tensor([ids])).logits[0]
    wanted = torch.log_softmax(logits_TV, dim=-1)[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
    assert tiny(architecture)._opened.shelf.logprobs(None, ids) == pytest.approx(wanted, abs=1e-3)
