"""The one contract over every model this repository opens."""

import asyncio
import gc
from importlib.util import find_spec

import pytest

from orchestra.models import Capabilities, open_model
from orchestra.models.weights import MissingWeights, path_of
from orchestra.testing import Answer, FaultyServer, check_model


@pytest.mark.parametrize("name", ["scripted/echo"])
async def test_the_scripted_model_keeps_its_contract(name):
    await check_model(open_model(name))


# LiteLLM's own use of pydantic, and the coroutine it drops when a call is cancelled before it was sent.
@pytest.mark.filterwarnings("ignore:Accessing the 'model_:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:coroutine 'OpenAIChatCompletion:RuntimeWarning")
@pytest.mark.skipif(find_spec("litellm") is None, reason="needs the extra: providers")
async def test_a_provider_s_model_keeps_its_contract():
    async with FaultyServer([Answer(text="hello to you all")]) as server:
        model = open_model("openai/loopback", api_base=server.url, api_key="none")
        assert model.capabilities == Capabilities(stream=True)
        await check_model(model)
        await model.close()
        await asyncio.get_running_loop().shutdown_default_executor()  # where it was dropped
        gc.collect()  # so that it is this test that hears of it


@pytest.mark.model
@pytest.mark.parametrize("deterministic", [False, True])
async def test_the_embedded_model_keeps_its_contract(deterministic):
    try:
        path_of("smollm2-135m-instruct")
    except MissingWeights as missing:
        pytest.skip(str(missing))
    model = open_model("local/smollm2-135m-instruct", deterministic=deterministic)
    try:
        await check_model(model)
    finally:
        await model.close()
