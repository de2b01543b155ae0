"""The gate in front of agents; against the real engine in `tests/live`."""

import contextlib
import json

import pytest

from orchestra.errors import InputError
from orchestra.models.serving import Adapters, NotPublished, Probe, publish
from orchestra.models.serving.publishing import admitted
from orchestra.testing import Answer, FaultyServer
from orchestra.testing.tokens import logprob_of

IDS = (10, 20, 30, 40)
TRUE = tuple(logprob_of(i) for i in IDS[1:])


async def published(server, path, probe, root):
    control = Adapters(server.url.removesuffix("/v1"), base="tiny", root=root)
    try:
        return await publish(path, probe, control, name="critic")
    finally:
        await control.close()


async def test_an_adapter_that_computes_something_else_is_taken_off_again(adapter_at, folder, own_cache):
    probe = Probe(token_ids=IDS, logprobs=tuple(value - 1 for value in TRUE))
    async with FaultyServer(model="tiny", plan=as_the_cache_says) as server:
        with pytest.raises(NotPublished, match=r"1\.000 nats .* as if the adapter were not there") as caught:
            await published(server, adapter_at(), probe, folder)
    assert server.adapters == {}
    assert caught.value.found == pytest.approx(TRUE)


@pytest.mark.parametrize(("shift", "passes"), [(None, True), (0.0, True), (1.0, False)])
async def test_an_adapter_with_a_probe_beside_it_is_served_only_if_it_passes(
    adapter_at, folder, own_cache, shift, passes
):
    path = adapter_at()
    if shift is not None:
        Probe(token_ids=IDS, logprobs=tuple(value - shift for value in TRUE)).write(path / "probe.json")
    async with FaultyServer(model="tiny", plan=as_the_cache_says) as server:
        control = Adapters(server.url.removesuffix("/v1"), base="tiny", root=folder)
        with contextlib.nullcontext() if passes else pytest.raises(NotPublished):
            assert (await admitted(path, control, name="critic")).served in server.adapters
        await control.close()
    assert len(server.adapters) == passes


@pytest.mark.parametrize(
    ("ids", "logprobs"), [((1, 2), ()), ((1, 2), (-1.0, -1.0)), ((1, 2), (0.5,)), ((1, 2), (float("-inf"),))]
)
def test_a_probe_that_says_nothing_is_refused(ids, logprobs):
    with pytest.raises(InputError, match="probe"):
        Probe(token_ids=ids, logprobs=logprobs)


def test_a_probe_is_read_as_it_was_written(tmp_path):
    probe = Probe(token_ids=IDS, logprobs=TRUE, base_model="tiny")
    probe.write(tmp_path / "probe.json")
    assert Probe.read(tmp_path / "probe.json") == probe
    with pytest.raises(InputError, match="have the trainer write one"):
        Probe.read(tmp_path / "nothing.json")


def as_the_cache_says(asked):
    """Replies with the log-probability of the id that is asked for, as vLLM lists it for `logprob_token_ids`."""
    if "logprob_token_ids" not in asked.body:
        return Answer(text="x")
    (wanted,) = asked.body["logprob_token_ids"]
    top = [{f"token_id:{wanted}": logprob_of(wanted)}]
    return Answer(body=json.dumps({"choices": [{"logprobs": {"top_logprobs": top}}]}))
