import itertools
import random
from dataclasses import replace

import pytest

from graphs import Sampling
from orchestra.environments import Nature, play, player
from orchestra.environments.protocol import Outcome
from orchestra.errors import ModelError
from orchestra.execution import Runtime, Settings
from orchestra.models.local.opening import _OPEN
from orchestra.models.local.packed import PackedDecoder
from orchestra.models.local.places import Arena
from orchestra.models.protocol import Message, Request
from orchestra.testing import check_model
from orchestra.traces.store import Store


def said(reply):
    return Message(
        role="assistant",
        content=reply.text,
        prompt_token_ids=reply.prompt_token_ids,
        token_ids=reply.token_ids,
    )


async def conversation(asking, model, turns, **sampling):
    messages, replies = [Message(role="system", content="rules of the game")], []
    for turn in range(turns):
        messages.append(Message(role="user", content=f"turn {turn}"))
        request = Request(
            messages=tuple(messages), sampling=Sampling(max_tokens=9, temperature=2.0, **sampling), seed=turn
        )
        replies.append(await asking.answer(model, request))
        messages.append(said(replies[-1]))
    return replies


async def test_a_transcript_grows_by_its_sampled_ids_and_is_never_rendered_again(asking, tiny, plain):
    _, tokenizer = plain()
    replies = await conversation(asking, tiny(), 6)
    for turn, (before, after) in enumerate(itertools.pairwise(replies), start=1):
        glue = f"<|im_end|>\n<|im_start|>user\nturn {turn}<|im_end|>\n<|im_start|>assistant\n"
        own_end = before.token_ids[-1] == 1
        glue_ids = tokenizer.encode(glue, add_special_tokens=False)[1 if own_end else 0 :]
        assert after.prompt_token_ids == (*before.prompt_token_ids, *before.token_ids, *glue_ids)
    # The point of it: encoding the text again gives other ids for at least one of these replies.
    assert any(tuple(tokenizer.encode(r.text, add_special_tokens=False)) != r.token_ids for r in replies)


async def test_the_keys_and_values_of_a_growing_transcript_are_reused(asking, tiny):
    for before, after in zip(replies := await conversation(asking, tiny(), 5), replies[1:], strict=False):
        known = len(before.prompt_token_ids) + len(before.token_ids) - 1
        assert after.usage.cached_input_tokens >= known
        assert after.usage.cached_input_tokens < after.usage.input_tokens


class Talk:
    """A game of two seats and six moves in which everything is a move: a model of random numbers can play it."""

    nature = Nature(
        name="talk", seats=2, low=0.0, high=1.0, zero_sum=False, cooperative=False, deterministic=True, steps=6
    )
    role = "rules of the game"

    def begin(self, seed):
        return Talking()


class Talking:
    returns = (0.0, 0.0)

    def __init__(self):
        self.moves = 0

    @property
    def to_move(self):
        return None if self.moves == Talk.nature.steps else self.moves % 2

    def opening(self, seat):
        return f"you are {seat}"

    def observation(self, seat):
        return f"move {self.moves}"

    def state_key(self, seat):
        return f"{seat}/{self.moves}"

    def reply(self, text, tokens=None):
        self.moves += 1
        return Outcome(action=text or "", rewards=(0.0, 0.0))


async def test_in_self_play_each_seat_of_each_game_reads_only_what_is_new_to_it(tiny, tmp_path):
    model, place = tiny(), Talk()
    with Store.open(tmp_path / "s.sqlite") as store:
        settings = Settings(model=model.name, use_cache=False)
        async with Runtime.opened("play", store=store, settings=settings, models={model.name: model}) as runtime:
            seats = [player(place, sampling=Sampling(max_tokens=9, temperature=2.0))] * 2
            episodes = [episode async for episode in play(runtime, place, seats, range(3))]
    transcripts = [transcript for episode in episodes for transcript in episode.transcripts]
    assert [len(transcript.turns) for transcript in transcripts] == [3] * 6
    for before, after in (pair for transcript in transcripts for pair in itertools.pairwise(transcript.turns)):
        known = len(before.prompt_token_ids) + len(before.reply_token_ids) - 1
        assert known <= after.usage.cached_input_tokens < after.usage.input_tokens


async def test_reuse_changes_nothing(asking, tiny):
    kept, computed = await conversation(asking, tiny(), 5), await conversation(asking, tiny(kept_mib=0), 5)
    assert [r.token_ids for r in kept] == [r.token_ids for r in computed]
    for left, right in zip(kept, computed, strict=True):
        assert left.logprobs == pytest.approx(right.logprobs, abs=2e-4)


async def test_requests_that_begin_alike_read_the_beginning_once(asking, tiny):
    system = "a long system message " * 6
    requests = [
        Request(messages=(Message(role="system", content=system), Message(role="user", content=f"{i}")))
        for i in range(12)
    ]
    requests = [Request(messages=r.messages, sampling=Sampling(max_tokens=4)) for r in requests]
    replies = await asking.answers(tiny(), requests)
    assert sum(r.usage.cached_input_tokens >= len(system) for r in replies) == 11


async def test_a_prompt_that_agrees_a_little_further_with_a_neighbour_than_with_what_is_kept(asking, tiny):
    opening = "You play a game of cards. "
    prompts = [opening + "abc, and then what?", opening + "abc: whose turn is it?"]
    model = tiny()
    await asking.answer(model, asking.asked(opening + "xyz"))
    together = await asking.answers(model, [asking.asked(prompt) for prompt in prompts])
    for prompt, reply in zip(prompts, together, strict=True):
        alone = await asking.answer(tiny(rows=1, kept_mib=0), asking.asked(prompt))
        assert reply.usage.cached_input_tokens > len(opening)
        assert reply.token_ids == alone.token_ids
        assert reply.logprobs == pytest.approx(alone.logprobs, abs=2e-4)


@pytest.mark.parametrize("seed", range(12))
async def test_dialogues_that_begin_alike_and_go_on_at_once_hear_what_each_hears_alone(asking, tiny, seed):
    rng = random.Random(seed)
    model, alone = tiny(), tiny(rows=1, kept_mib=0)
    engine = model._opened.engine
    engine._limits = replace(engine._limits, prompt_tokens=rng.choice((8, 64, 512)))

    def more():
        return rng.choice(("aaaa", "aaab", "ab", "b")) * rng.randint(1, 6)

    texts = [more() for _ in range(6)]
    for _ in range(3):
        requests = [asking.asked(text, max_tokens=4, temperature=1.0) for text in texts]
        together, apart = await asking.answers(model, requests), await asking.answers(alone, requests)
        for reply, own in zip(together, apart, strict=True):
            assert reply.token_ids == own.token_ids
            assert reply.logprobs == pytest.approx(own.logprobs, abs=2e-4)
        texts = [text + more() for text in texts]


async def test_kept_transcripts_stay_within_their_memory(asking, tiny):
    model = tiny(kept_mib=1)
    await asking.answers(model, [asking.asked(f"{i} " * 60, max_tokens=4) for i in range(60)])
    assert 0 < model._opened.engine.kept_bytes <= 1 << 20


def test_rows_in_progress_are_promised_a_share_of_the_memory_there_is(tiny, monkeypatch):
    monkeypatch.setattr("orchestra.models.local.opening.free_bytes", lambda device: 6 << 20)
    assert tiny()._opened.engine._limits.active_bytes == 1 << 20


async def test_rows_lie_in_half_as_much_again_as_was_promised_at_most(asking, tiny, monkeypatch):
    model = tiny()
    engine = model._opened.engine
    row_bytes = PackedDecoder.room(100) * engine._decoder.shape.bytes_per_token
    engine._limits = replace(engine._limits, active_bytes=12 * row_bytes)
    held, empty = [], Arena._empty

    def watched(arena, rows):
        made = empty(arena, rows)
        held.append(sum(tensor.nbytes for tensor in made))
        return made

    monkeypatch.setattr(Arena, "_empty", watched)
    await asking.answers(model, [asking.asked(f"{i} " * 20, max_tokens=4) for i in range(40)])
    assert 8 * row_bytes <= max(held) <= 18 * row_bytes


async def test_a_deterministic_reply_depends_on_its_request_alone(asking, tiny):
    model = tiny(dtype=None, deterministic=True)
    requests = [asking.asked(t, temperature=1.0, max_tokens=20) for t in ("one", "two", "one more", "one")]
    alone = [await asking.answer(model, request) for request in requests]
    together = await asking.answers(model, requests)
    for left, right in zip(alone, together, strict=True):
        assert (left.text, left.token_ids, left.logprobs) == (right.text, right.token_ids, right.logprobs)
    assert model.fingerprint.endswith(":float32:deterministic")


async def test_the_bound_of_a_prompt_is_exact_and_its_key_is_its_ids(asking, tiny):
    model = tiny()
    request = asking.asked("how many?")
    reply = await asking.answer(model, request)
    assert model.prompt_tokens_bound(request) == len(reply.prompt_token_ids)
    assert model.prompt_key(request) != model.prompt_key(asking.asked("how many!"))
    assert model.prompt_key(request) == model.prompt_key(asking.asked("how many?", seed=9))


async def test_it_keeps_the_contract_of_models(tiny):
    await check_model(tiny())


async def test_models_of_the_same_weights_share_an_engine_until_the_last_is_closed(asking, tiny):
    first, second = tiny(), tiny()
    assert first._opened is second._opened
    await first.close()
    await first.close()
    assert (await asking.answer(second, asking.asked("still here"))).token_ids
    await second.close()
    assert not _OPEN
    with pytest.raises(ModelError, match="closed"):
        await asking.answer(second, asking.asked("gone"))


async def test_what_it_cannot_do_is_refused(asking, tiny):
    model, request = tiny(), asking.asked("go")
    with pytest.raises(ModelError, match="'a1' has none"):
        await asking.answer(model, Request(messages=request.messages, adapter="a1"))


async def test_a_template_that_refuses_a_role_says_so(asking, tiny):
    model = tiny()
    model._opened.prompts._tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
    with pytest.raises(ModelError, match=r"refuses messages of the roles user: roles must alternate"):
        await asking.answer(model, asking.asked("go"))
