from dataclasses import replace

import pytest

from orchestra.models.protocol import Capabilities, Delta
from orchestra.testing import NotConforming, ScriptedModel, check_model
from orchestra.testing.conformance import PROMISES
from orchestra.testing.script import echo

ALL = Capabilities(stream=True, token_ids=True, logprobs=True, seed=True)


class Broken(ScriptedModel):
    """A scripted model whose completion is tampered with."""

    def __init__(self, tamper, script=echo):
        super().__init__(script, capabilities=ALL)
        self.tamper = tamper

    async def stream(self, request):
        async for event in super().stream(request):
            yield event if isinstance(event, Delta) else self.tamper(event)


@pytest.mark.parametrize("capabilities", [ALL, Capabilities(), Capabilities(stream=True), replace(ALL, stream=False)])
async def test_a_scripted_model_keeps_its_contract_whatever_it_claims(capabilities):
    await check_model(ScriptedModel(echo, capabilities=capabilities))


@pytest.mark.parametrize(
    ("tamper", "said"),
    [
        (lambda c: Delta(text=c.text), "expected a completion"),
        (lambda c: replace(c, text="something else"), "its deltas say"),
        (lambda c: replace(c, token_ids=None), "gave token_ids=None"),
        (lambda c: replace(c, logprobs=None), "gave none"),
        (lambda c: replace(c, logprobs=c.logprobs[1:]), "log-probabilities for"),
        (lambda c: replace(c, logprobs=(0.1, *c.logprobs[1:])), "above zero"),
        (lambda c: replace(c, usage=replace(c.usage, input_tokens=10**6)), "above its bound"),
        (lambda c: replace(c, usage=replace(c.usage, output_tokens=99)), "above max_tokens"),
        (lambda c: replace(c, prompt_token_ids=(1, *c.prompt_token_ids)), "does not begin"),
        (lambda c: replace(c, first_token_seconds=c.latency_seconds + 1), "first token after"),
    ],
)
async def test_a_broken_promise_is_named(tamper, said):
    with pytest.raises(NotConforming, match=said):
        await check_model(Broken(tamper))


async def test_a_seed_that_does_not_repeat_is_named():
    draws = iter(range(10**6))
    with pytest.raises(NotConforming, match="seed 7 drew"):
        await check_model(ScriptedModel(lambda _: f"draw {next(draws)}", capabilities=ALL))


async def test_every_broken_promise_is_reported_at_once():
    with pytest.raises(NotConforming) as caught:
        await check_model(Broken(lambda c: replace(c, token_ids=None, logprobs=(0.5,))))
    assert len(caught.value.broken) >= 3


async def test_a_key_that_ignores_the_messages_is_named():
    class Keyless(ScriptedModel):
        def prompt_key(self, request):
            return "same"

    with pytest.raises(NotConforming, match="prompt_key does not change"):
        await check_model(Keyless(echo))


def test_every_promise_of_the_module_is_in_its_table():
    from inspect import isasyncgenfunction

    from orchestra.testing import conformance

    promises = {value for value in vars(conformance).values() if isasyncgenfunction(value)}
    assert promises == set(PROMISES)
