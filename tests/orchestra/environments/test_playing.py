import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestra.environments import environment, opponent, play, player
from orchestra.environments.playing import FACT_MOVES, FACT_RETURN, FACT_VIOLATION
from orchestra.environments.protocol import Outcome
from orchestra.errors import InputError, TooLong
from orchestra.execution import Runtime, Settings
from orchestra.models.protocol import Capabilities
from orchestra.testing import ScriptedModel
from orchestra.traces import names
from orchestra.traces.fold import INTERRUPTED, episodes
from orchestra.traces.store import Store

KUHN = environment("kuhn-poker")


def seed_of(*cards, place=KUHN):
    """A seed that deals the players `cards`, as OpenSpiel numbers them."""
    return next(seed for seed in range(500) if place.begin(seed).state.history()[: len(cards)] == list(cards))


async def all_of(games):
    return [episode async for episode in games]


def turns(episode, seat):
    (found,) = (transcript.turns for transcript in episode.transcripts if transcript.seat == seat)
    return found


def rewards(episode, seat):
    return [turn.reward for turn in turns(episode, seat)]


def reward_of(episode, seat):
    return next(one.reward for one in episode.seats if one.seat == seat)


def facts(runtime, name):
    return [fact.value for fact in runtime.store.facts(runtime.run_id) if fact.name == name]


async def one_game(runtime, place, seed, teams=None, **how):
    (episode,) = await all_of(play(runtime, place, teams or [player(place)] * place.nature.seats, [seed], **how))
    return episode


async def test_every_move_earns_on_the_turn_that_made_it(opened, says):
    async with opened(says("<X(1,1)>", "<O(0,0)>", "<X(1,0)>", "<O(0,1)>", "<X(1,2)>")) as (runtime, _):
        episode = await one_game(runtime, environment("tic-tac-toe"), 1)
    assert rewards(episode, 0) == pytest.approx([0.05, 0.05, 1.05])
    assert rewards(episode, 1) == pytest.approx([0.05, -0.95])
    assert [turn.step for turn in turns(episode, 0)] == [0, 2, 4]
    assert (reward_of(episode, 0), reward_of(episode, 1)) == (pytest.approx(1.15), pytest.approx(-0.9))


async def test_what_the_other_s_move_brings_is_earned_by_the_own_last_one(opened):
    script = ["<answer><BET></answer>", "<answer><PASS></answer>"]
    async with opened(script) as (runtime, _):
        episode = await one_game(runtime, KUHN, seed_of(0, 2))
        assert facts(runtime, FACT_RETURN) == [
            {"episode_id": "game/0", "seat": 0, "return": 1.0},
            {"episode_id": "game/0", "seat": 1, "return": -1.0},
        ]
    assert rewards(episode, 0) == [1.05]
    assert rewards(episode, 1) == [-0.95]


async def test_what_comes_before_the_own_first_move_is_earned_by_it(opened, says):
    place = environment("mini-hanabi")
    seed = next(s for s in range(100) if (t := place.begin(s)).reply(t.answer("<Play card 0>")).rewards[1] == 1.0)
    async with opened(says("<Play card 0>")) as (runtime, _):
        episode = await one_game(runtime, place, seed)
    assert turns(episode, 1)[0].step == 1
    assert rewards(episode, 1)[0] >= 1.05
    for seat in (0, 1):
        assert sum(rewards(episode, seat)) == pytest.approx(reward_of(episode, seat))


async def test_a_reply_that_is_no_move_ends_the_game_and_is_written_down(opened):
    script = ["<answer><BET></answer>", "I give up."]
    async with opened(script) as (runtime, model):
        episode = await one_game(runtime, KUHN, seed_of(0, 2))
        (violation,) = facts(runtime, FACT_VIOLATION)
        assert {fact["seat"]: fact["moves"] for fact in facts(runtime, FACT_MOVES)} == {0: 1, 1: 0}
    assert violation["seat"] == 1
    assert violation["step"] == 1
    assert "not of the form" in violation["why"]
    assert (rewards(episode, 0), rewards(episode, 1)) == ([0.05], [-11.0])
    assert episode.error is None
    assert len(model.requests) == 2


async def test_a_seat_that_never_came_to_move_is_on_the_record_too(opened):
    async with opened(["What?"]) as (runtime, _):
        episode = await one_game(runtime, KUHN, 1)
    assert (reward_of(episode, 0), reward_of(episode, 1)) == (-11.0, 0.0)


async def test_long_replies_cost(opened):
    place = environment("kuhn-poker", thinking=True)
    thought = f"<think>{'hm ' * 2999}</think><answer><BET></answer>"
    async with opened([thought, "<think></think><answer><PASS></answer>"]) as (runtime, _):
        tall = player(place, sampling=player(place).sampling.model_copy(update={"max_tokens": 4096}))
        episode = await one_game(runtime, place, seed_of(0, 2), [tall, tall])
    tokens = turns(episode, 0)[0].usage.output_tokens
    assert rewards(episode, 0) == [pytest.approx(1.05 - 0.5 * ((tokens - 11) / 2037 - 1))]


async def test_a_transcript_grows_by_ids_and_every_seat_has_its_own(opened):
    script = [f"<answer><{move}></answer>" for move in ("PASS", "BET", "BET")]
    async with opened(script) as (runtime, model):
        episode = await one_game(runtime, KUHN, seed_of(0, 2))
    first, last = turns(episode, 0)
    before = first.prompt_token_ids + first.reply_token_ids
    assert last.prompt_token_ids[: len(before)] == before
    assert [message.role for message in last.messages] == ["system", "user", "assistant", "user"]
    assert [message.role for message in turns(episode, 1)[0].messages] == ["system", "user"]
    assert "Your card is J." in model.requests[2].messages[1].content
    assert "GAME RULES" not in model.requests[2].messages[3].content
    assert all("Your card is K." not in message.content for message in model.requests[2].messages)
    assert all(turn.trainable for turn in (*turns(episode, 0), *turns(episode, 1)))


async def test_a_team_without_a_memory_is_told_everything_again(opened):
    team = player(KUHN)
    forgetful = team.model_copy(update={"nodes": (team.nodes[0].model_copy(update={"memory": "none"}),)})
    script = [f"<answer><{move}></answer>" for move in ("PASS", "BET", "BET")]
    async with opened(script) as (runtime, model):
        await one_game(runtime, KUHN, seed_of(0, 2), [forgetful, forgetful])
    last = model.requests[2].messages
    assert [message.role for message in last] == ["system", "user"]
    assert "GAME RULES" in last[1].content
    assert "Information of Turn-3 (you)" in last[1].content


async def test_states_have_keys_that_tell_the_same_state_again(opened, says):
    async with opened(says("<BET>")) as (runtime, _):
        one = await one_game(runtime, KUHN, seed_of(0, 1), key="one")
        other = await one_game(runtime, KUHN, seed_of(0, 2), key="other")
    assert turns(one, 0)[0].state_key == turns(other, 0)[0].state_key
    assert turns(one, 1)[0].state_key != turns(other, 1)[0].state_key


async def test_a_game_is_one_span_and_everything_else_is_below_it(opened, says):
    async with opened(says("<PASS>")) as (runtime, _):
        await all_of(play(runtime, KUHN, [player(KUHN)] * 2, [1, 2]))
        await runtime.store.flush()
        spans = runtime.store.spans(runtime.run_id)
    by_id = {span.span_id: span for span in spans}
    roots = [span for span in spans if span.attributes.get(names.OPERATION_NAME) == names.PLAY]
    assert sorted(span.attributes[names.EPISODE_ID] for span in roots) == ["game/0", "game/1"]
    for root in roots:
        below = [span for span in spans if span.attributes.get(names.EPISODE_ID) == root.attributes[names.EPISODE_ID]]
        assert [by_id.get(span.parent_id) for span in below if span is not root].count(None) == 0
        kinds = [span.attributes.get(names.OPERATION_NAME) for span in below]
        assert (kinds.count(names.PLAY), kinds.count(names.ENVIRONMENT_STEP), kinds.count(names.CHAT)) == (1, 2, 2)
        assert root.attributes[names.ENVIRONMENT] == "kuhn-poker"


async def test_what_the_store_holds_folds_to_what_was_yielded(opened, says):
    async with opened(says("<PASS>")) as (runtime, _):
        told = await all_of(play(runtime, KUHN, [player(KUHN)] * 2, [1, 2, 3]))
        await runtime.store.flush()
        kept = episodes(
            runtime.store.spans(runtime.run_id), runtime.store.facts(runtime.run_id), runtime.store.blob_value
        )
    assert sorted(kept, key=lambda one: one.episode_id) == sorted(told, key=lambda one: one.episode_id)


async def test_so_many_games_are_under_way_at_once_and_no_more(opened, says):
    async with opened(says("<PASS>"), delay_seconds=0.005) as (runtime, model):
        told = await all_of(play(runtime, KUHN, [player(KUHN)] * 2, range(12), concurrency=3))
    assert sorted(int(episode.episode_id.removeprefix("game/")) for episode in told) == list(range(12))
    assert model.running_most == 3
    assert len({episode.task_id for episode in told}) == 12


async def test_a_game_that_is_broken_off_is_an_episode_with_an_error(opened, says):
    async with opened(says("<PASS>"), delay_seconds=60) as (runtime, model):
        games = play(runtime, KUHN, [player(KUHN)] * 2, [1, 2], concurrency=1)
        waiting = asyncio.ensure_future(anext(games))
        while model.running == 0:
            await asyncio.sleep(0.001)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        await games.aclose()
        await runtime.store.flush()
        (broken,) = episodes(
            runtime.store.spans(runtime.run_id), runtime.store.facts(runtime.run_id), runtime.store.blob_value
        )
    assert broken.episode_id == "game/0"
    assert broken.error is not None
    assert all(seat.reward is None for seat in broken.seats)
    assert (model.cancelled, model.running) == (1, 0)


async def test_a_game_that_was_killed_is_one_that_has_a_beginning_and_no_end(opened, says):
    async with opened(says("<PASS>")) as (runtime, _):
        await one_game(runtime, KUHN, 1)
        await runtime.store.flush()
        spans = runtime.store.spans(runtime.run_id)
        steps = [span for span in spans if span.attributes.get(names.OPERATION_NAME) != names.PLAY]
        started = [fact for fact in runtime.store.facts(runtime.run_id) if fact.name == names.FACT_START]
        (cut,) = episodes(steps, started, runtime.store.blob_value)
        (bare,) = [one for one in episodes([], started, runtime.store.blob_value) if one.episode_id == "game/0"]
    assert (cut.error, bare.error) == (INTERRUPTED, INTERRUPTED)
    assert len(turns(cut, 0)) == 1
    assert cut.task_id in (None, "kuhn-poker/1")
    assert bare.task_id == "kuhn-poker/1"


async def test_a_model_that_fails_fails_the_game_and_no_other(opened, says):
    def answer(request):
        if "Your card is K." in request.messages[1].content:
            raise ValueError("no more cards")
        return says("<PASS>")(request)

    seeds = [seed_of(2, 0), seed_of(0, 1)]
    async with opened(answer) as (runtime, _):
        told = {episode.task_id: episode for episode in await all_of(play(runtime, KUHN, [player(KUHN)] * 2, seeds))}
    failed, whole = (told[f"kuhn-poker/{seed}"] for seed in seeds)
    assert "no more cards" in failed.error
    assert all(seat.reward is None for seat in failed.seats)
    assert whole.error is None


async def test_a_transcript_that_outgrew_the_context_is_a_violation_by_who_let_it_grow(opened):
    def answer(request):
        if len(request.messages) > 2:
            raise TooLong("the prompt exceeds the context", served=False)
        return f"<answer><{'BET' if 'Player 0 chose PASS' in request.messages[1].content else 'PASS'}></answer>"

    async with opened(answer) as (runtime, _):
        episode = await one_game(runtime, KUHN, seed_of(0, 2))
        (violation,) = facts(runtime, FACT_VIOLATION)
        assert [fact["return"] for fact in facts(runtime, FACT_RETURN)] == [-2.0, 0.0]
    assert (violation["seat"], violation["step"], violation["why"]) == (0, 2, "the prompt exceeds the context")
    assert (episode.error, reward_of(episode, 0), reward_of(episode, 1)) == (None, -10.95, 0.05)
    assert [turn.reward for turn in turns(episode, 0) if turn.trainable] == [-10.95]


async def test_a_first_prompt_that_does_not_fit_is_nobody_s_violation(opened):
    def answer(request):
        raise TooLong("the prompt exceeds the context", served=False)

    async with opened(answer) as (runtime, _):
        episode = await one_game(runtime, KUHN, 1)
        assert facts(runtime, FACT_VIOLATION) == []
    assert (episode.error, episode.error_type) == ("the prompt exceeds the context", "TooLong")


class BrokenGame:
    """Kuhn poker whose `breaks` fails, or says what it must not."""

    def __init__(self, breaks, says=None):
        self.breaks, self.says = breaks, says
        self.nature, self.role = KUHN.nature, KUHN.role

    def begin(self, seed):
        if self.breaks == "begin":
            raise RuntimeError("no cards")
        return BrokenTable(self, KUHN.begin(seed))


class BrokenTable:
    def __init__(self, game, table):
        self._game, self._table = game, table

    def __getattr__(self, name):
        if name != self._game.breaks:
            return getattr(self._table, name)
        if self._game.says is not None:
            return self._game.says
        raise RuntimeError("no cards")


@pytest.mark.parametrize("breaks", ["begin", "to_move", "state_key", "opening", "observation", "reply", "returns"])
async def test_a_broken_environment_fails_its_games_by_name_and_blames_no_team(opened, says, breaks):
    async with opened(says("<PASS>")) as (runtime, _):
        told = await all_of(play(runtime, BrokenGame(breaks), [player(KUHN)] * 2, [1, 2]))
        assert facts(runtime, FACT_RETURN) == []
    assert {(one.error, one.error_type) for one in told} == {
        ("environment 'kuhn-poker' failed: RuntimeError: no cards", "EnvironmentFailed")
    }
    if breaks != "begin":  # where nobody sat yet, the only seat there is stands for the whole game
        assert all(seat.error is None for one in told for seat in one.seats if seat.team == "player")


async def test_rewards_for_another_number_of_seats_are_the_environment_s_failure(opened, says):
    async with opened(says("<PASS>")) as (runtime, _):
        strange = BrokenGame("reply", says=lambda *reply: Outcome(action="<PASS>", rewards=(1.0,)))
        episode = await one_game(runtime, strange, 1, [player(KUHN)] * 2)
    assert episode.error_type == "EnvironmentFailed"


async def test_a_program_that_fails_fails_its_games_alone(opened):
    class Broken:
        name = "broken"

        def choose(self, table, rng):
            raise LookupError("no idea")

    async with opened([]) as (runtime, _):
        told = await all_of(play(runtime, KUHN, [Broken(), Broken()], [1, 2]))
    assert {one.error for one in told} == {"environment 'kuhn-poker' failed: LookupError: no idea"}


async def test_no_game_at_once_is_refused_and_does_not_wait_for_ever(opened):
    async with opened([]) as (runtime, _):
        with pytest.raises(InputError, match="at least 1 game at once, not 0"):
            await one_game(runtime, KUHN, 1, concurrency=0)


async def test_money_that_runs_out_ends_the_games_under_way(opened, says):
    async with opened(says("<PASS>"), cap_nano=150_000) as (runtime, _):
        told = await all_of(play(runtime, KUHN, [player(KUHN)] * 2, range(6), concurrency=1))
        assert runtime.ledger.spent <= 150_000
    assert {episode.error_type for episode in told} == {None, "CannotAfford"}


async def test_a_program_at_a_seat_plays_and_says_nothing(opened, says):
    place = environment("tic-tac-toe")
    async with opened(says("<X(1,1)>")) as (runtime, model):
        episode = await one_game(runtime, place, 3, [player(place), opponent("mcts:20", place)])
    assert [transcript.seat for transcript in episode.transcripts] == [0]
    assert [seat.team for seat in episode.seats] == ["player", "mcts:20"]
    assert reward_of(episode, 0) + reward_of(episode, 1) == pytest.approx(
        0.05 * (turns(episode, 0)[-1].step + 1), abs=0.2
    )
    assert len(model.requests) == len(turns(episode, 0))


async def test_a_program_that_demonstrates_leaves_turns_without_ids(opened):
    async with opened([]) as (runtime, _):
        solved = opponent("cfr:20", KUHN)
        episode = await one_game(runtime, KUHN, seed_of(1, 2), [solved, solved], demonstrate=True)
    (turn, *_) = turns(episode, 0)
    assert turn.messages[0].content == KUHN.role
    assert "Your card is Q." in turn.messages[1].content
    assert KUHN.rules.read(turn.reply) in ("<PASS>", "<BET>")
    assert turn.reply_token_ids is None
    assert not turn.trainable


async def test_the_same_seed_deals_and_plays_the_same(opened, says):
    async with opened(says("<PASS>")) as (runtime, model):
        one = await one_game(runtime, KUHN, 4, [player(KUHN), opponent("random", KUHN)], key="one")
        again = await one_game(runtime, KUHN, 4, [player(KUHN), opponent("random", KUHN)], key="again")
    assert [turn.messages for turn in turns(one, 0)] == [turn.messages for turn in turns(again, 0)]
    assert len({request.seed for request in model.requests}) == len(model.requests) / 2


@pytest.mark.parametrize("teams", [0, 1, 3])
async def test_empty_and_surplus_seats_are_refused_before_anything_is_spent(opened, teams):
    async with opened([]) as (runtime, model):
        with pytest.raises(InputError, match=f"has 2 seats, and {teams} teams"):
            await all_of(play(runtime, KUHN, [player(KUHN)] * teams, [1]))
    assert model.requests == []


@settings(max_examples=8)
@given(st.sampled_from(["kuhn-poker", "leduc-poker", "mini-hanabi", "tic-tac-toe"]), st.integers(0, 10**6), st.data())
def test_what_a_seat_s_turns_earned_is_what_the_seat_earned(name, seed, data):
    place = environment(name)

    def answer(request):
        legal = request.messages[-1].content.rpartition("LEGAL ACTIONS:\n")[2].split(", ")
        return place.rules.written(data.draw(st.sampled_from([*legal * 8, "nothing"])))

    async def games():
        model = ScriptedModel(answer, capabilities=Capabilities(token_ids=True))
        with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "store.sqlite") as store:
            chosen = Settings(model=model.name, use_cache=False)
            async with Runtime.opened("evaluate", store=store, settings=chosen, models={model.name: model}) as runtime:
                return await all_of(play(runtime, place, [player(place)] * 2, [seed, seed + 1, seed + 2]))

    for episode in asyncio.run(games()):
        returns = [reward_of(episode, seat) for seat in (0, 1)]
        for transcript in episode.transcripts:
            assert sum(turn.reward for turn in transcript.turns) == pytest.approx(returns[transcript.seat])
