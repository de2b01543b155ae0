"""How likely a model is to give a reply that somebody else wrote."""

import asyncio
import math
from dataclasses import replace

import pytest
import torch

from graphs import Sampling
from orchestra.errors import ModelError
from orchestra.models.protocol import Message, Scores


def by_transformers(network, prompt_ids, reply_ids, end_ids, temperature=1.0):
    """Log-probabilities of a reply's ids, and that of any end after them, by the network alone."""
    ids = (*prompt_ids, *reply_ids)
    with torch.inference_mode():
        logits_TV = network(torch.tensor([ids])).logits[0].float() / temperature
    logprobs_TV = torch.log_softmax(logits_TV, dim=-1)[len(prompt_ids) - 1 :]
    said = [float(row_V[token]) for row_V, token in zip(logprobs_TV, reply_ids, strict=False)]
    return [*said, float(torch.logsumexp(logprobs_TV[-1, sorted(end_ids)], dim=0))]


@pytest.mark.parametrize("architecture", ["llama", "mamba"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
async def test_a_reply_is_scored_as_it_would_be_sampled(tiny, plain, asking, architecture, temperature):
    model, (network, _) = tiny(architecture), plain(architecture)
    scored = await model.score(asking.asked("Where is it?", temperature=temperature), "<answer>é</answer>")
    wanted = by_transformers(network, scored.prompt_token_ids, scored.token_ids[:-1], {1}, temperature)
    assert scored.logprobs == pytest.approx(wanted, abs=1e-4)
    assert (scored.text, scored.finish_reason, scored.token_ids[-1]) == ("<answer>é</answer>", "stop", 1)
    assert isinstance(model, Scores)
    assert model.reply_tokens("<answer>é</answer>") == len(scored.token_ids) == scored.usage.output_tokens


async def test_whichever_token_ends_a_reply_counts(tiny, plain, asking):
    model, (network, _) = tiny(), plain()
    model._opened = replace(model._opened, loaded=replace(model._opened.loaded, end_ids=frozenset({1, 70, 71})))
    scored = await model.score(asking.asked("Hi", temperature=1.0), "yes")
    wanted = by_transformers(network, scored.prompt_token_ids, scored.token_ids[:-1], {1, 70, 71})
    assert scored.logprobs == pytest.approx(wanted, abs=1e-4)
    assert scored.token_ids[-1] in {1, 70, 71}


async def test_all_replies_of_no_token_and_their_ends_are_at_most_certain(tiny, asking):
    model = tiny()
    ended = await model.score(asking.asked("Hi", temperature=1.0), "")
    assert len(ended.token_ids) == len(ended.logprobs) == 1
    replies = await asyncio.gather(*(model.score(asking.asked("Hi", temperature=1.0), chr(65 + n)) for n in range(26)))
    chances = [math.exp(ended.logprobs[0]), *(math.exp(sum(reply.logprobs)) for reply in replies)]
    assert 0 < sum(chances) < 1


async def test_scoring_and_sampling_at_once_do_not_disturb_each_other(tiny, asking):
    model = tiny()
    asked = [asking.asked("Tell me more", seed=seed, temperature=1.0) for seed in range(4)]
    alone = await asking.answers(model, asked)
    scored, *mixed = await asyncio.gather(
        model.score(asking.asked("Tell me more", temperature=1.0), "no"), *(asking.answer(model, one) for one in asked)
    )
    assert [one.token_ids for one in mixed] == [one.token_ids for one in alone]
    again = await model.score(asking.asked("Tell me more", temperature=1.0), "no")
    assert scored.logprobs == pytest.approx(again.logprobs, abs=1e-4)


async def test_a_scored_reply_goes_on_as_a_sampled_one_would(tiny, asking):
    model = tiny()
    request = asking.asked("Hi", temperature=1.0)
    first = await model.score(request, "yes")
    turn = Message(role="assistant", content="yes", prompt_token_ids=first.prompt_token_ids, token_ids=first.token_ids)
    longer = replace(request, messages=(*request.messages, turn, Message(role="user", content="Sure?")))
    second = await model.score(longer, "no")
    before = first.prompt_token_ids + first.token_ids
    assert second.prompt_token_ids[: len(before)] == before
    assert second.usage.cached_input_tokens >= 0


async def test_an_adapter_changes_the_score(tiny, trained, plain, asking):
    changed, folder = trained("poet@1")
    model = tiny(adapter=str(folder))
    scored = await model.score(asking.asked("Hi", temperature=1.0), "yes")
    wanted = by_transformers(changed, scored.prompt_token_ids, scored.token_ids[:-1], {1})
    assert scored.logprobs == pytest.approx(wanted, abs=1e-3)
    assert scored.adapter == "poet@1"


@pytest.mark.parametrize(
    "sampling", [{"temperature": 0.0}, {"temperature": 1.0, "top_k": 3}, {"temperature": 1.0, "top_p": 0.5}]
)
async def test_a_distribution_that_is_cut_is_not_scored(tiny, asking, sampling):
    with pytest.raises(ModelError, match="every token kept"):
        await tiny().score(asking.asked("Hi", **sampling), "yes")


async def test_a_reply_that_does_not_fit_is_refused(tiny, asking):
    with pytest.raises(ModelError, match="exceed the context"):
        await tiny().score(asking.asked("Hi", temperature=1.0), "y" * 600)


async def test_lengths_and_stops_of_the_request_do_not_count(tiny, asking):
    model = tiny()
    long = replace(asking.asked("Hi"), sampling=Sampling(temperature=1.0, max_tokens=1, stop=("e",)))
    scored = await model.score(long, "yes")
    assert (scored.text, len(scored.token_ids)) == ("yes", 4)
