"""Rows: every strand whole, prefixes once, limits kept."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import InputError
from training.samples import AGGREGATIONS, Span, Strand, packed, unpacked


def strand(ids, *spans, name="e", agent="a", seat=0, piece=0):
    spans = spans or ((1, len(ids)),)
    return Strand(
        agent=agent,
        episode_id=name,
        seat=seat,
        node="n",
        token_ids=np.array(ids, dtype=np.int64),
        spans=tuple(Span(turn=at, start=a, end=b, temperature=0.5 + at) for at, (a, b) in enumerate(spans)),
        logprobs=-np.arange(1.0, 1 + sum(b - a for a, b in spans)),
        piece=piece,
    )


@st.composite
def families(draw):
    """Strands over few tokens, so that many share prefixes of every length."""
    made = []
    stems = [draw(st.lists(st.integers(0, 2), min_size=20, max_size=60)) for _ in range(2)]
    for at in range(draw(st.integers(1, 7))):
        stem = stems[draw(st.integers(0, 1))]
        ids = stem[: draw(st.integers(2, len(stem)))] + draw(st.lists(st.integers(0, 2), max_size=25))
        start = draw(st.integers(1, len(ids) - 1))
        made.append(strand(ids, (start, len(ids)), name=str(at), agent=draw(st.sampled_from("ab"))))
    return made


def seen(batch, place):
    """Token ids that the token at `place` of the row attends to, in order."""
    segment = next(s for s in batch.segments if s.begin <= place < s.end)
    above = [batch.segments[at] for at in segment.above]
    places = [p for s in above for p in range(s.begin, s.end)] + list(range(segment.begin, place + 1))
    assert batch.positions_T[places].tolist() == list(range(len(places)))
    return batch.token_ids_T[places].tolist()


@given(families(), st.integers(85, 400), st.booleans())
def test_every_trained_token_is_predicted_from_exactly_what_was_read_before_it(made, limit, share):
    batches = packed(made, limit, share_prefixes=share)
    assert sorted(member for batch in batches for member in batch.members) == list(range(len(made)))
    for batch in batches:
        assert batch.tokens <= limit
        assert batch.tokens <= batch.strand_tokens
        assert batch.segments[-1].end == batch.tokens
        at = 0
        for index, member in enumerate(batch.members):
            assert made[member].agent == batch.agent
            for target in made[member].targets():
                assert seen(batch, int(batch.predictors_N[at])) == made[member].token_ids[:target].tolist()
                assert batch.targets_N[at] == made[member].token_ids[target]
                assert batch.strand_N[at] == index
                at += 1
        assert at == batch.trained


@given(families())
def test_figures_go_along_strands_and_come_apart_again(made):
    figures = [np.random.default_rng(at).normal(size=each.trained) for at, each in enumerate(made)]
    for batch in packed(made, 500):
        for member, part in batch.apart(batch.along(figures)).items():
            assert part.tolist() == figures[member].tolist()


def test_a_prefix_of_a_group_is_computed_once():
    stem = list(range(100))
    (batch,) = packed([strand([*stem, 200 + at, 1, 2], (100, 103), name=str(at)) for at in range(4)], 1000)
    assert (batch.tokens, batch.strand_tokens) == (100 + 4 * 2, 4 * 102)
    assert [segment.above for segment in batch.segments] == [(), (0,), (0,), (0,), (0,)]


def test_a_short_common_beginning_is_not_worth_a_segment():
    (batch,) = packed([strand([*range(10), at, 1, 2], (10, 13), name=str(at)) for at in range(2)], 1000)
    assert [segment.above for segment in batch.segments] == [(), ()]


def test_twins_share_everything_and_are_trained_twice():
    ids = list(range(30))
    (batch,) = packed([strand(ids, (20, 30), name=name) for name in "xy"], 1000)
    assert (batch.tokens, batch.trained) == (29, 20)
    assert batch.predictors_N[:10].tolist() == batch.predictors_N[10:].tolist()


def test_turns_that_were_cut_apart_by_rereading_share_what_they_can():
    whole = list(range(90))
    pieces = [strand(whole[:40], (30, 40), name="x"), strand(whole[:90], (80, 90), name="x", piece=1)]
    (batch,) = packed(pieces, 1000)
    assert batch.tokens == 89


def test_a_strand_longer_than_a_row_is_refused_by_name():
    with pytest.raises(InputError, match="episode 'e' needs 99 tokens and a row has 50"):
        packed([strand(range(100))], 50)


def test_pairs_stay_together():
    made = [strand(np.random.default_rng(at).integers(0, 99, 40), (30, 40), name=str(at)) for at in range(6)]
    batches = packed(made, 80, together=[(0, 5), (1, 4)])
    homes = {member: number for number, batch in enumerate(batches) for member in batch.members}
    assert homes[0] == homes[5]
    assert homes[1] == homes[4]


def test_unpacked_is_a_row_for_each_strand():
    made = [strand(range(30), name="x"), strand(range(30), name="y")]
    assert [(batch.members, batch.tokens) for batch in unpacked(made)] == [((0,), 29), ((1,), 29)]


@pytest.mark.parametrize("name", ["token-mean", "seq-mean-token-mean", "turn-mean"])
@given(families())
def test_weights_of_a_mean_sum_to_one(name, made):
    assert sum(each.sum() for each in AGGREGATIONS[name](made)) == pytest.approx(1.0)


def test_turn_mean_is_the_objective_of_mars():
    made = [
        strand(range(20), (5, 7), (10, 20), name="x"),
        strand(range(20), (17, 20), name="y"),
        strand(range(20), (15, 20), name="x", seat=1),
    ]
    first, second, third = AGGREGATIONS["turn-mean"](made)
    assert first.tolist() == pytest.approx([1 / 2 / 2 / 2 / 2] * 2 + [1 / 2 / 2 / 2 / 10] * 10)
    assert second.tolist() == pytest.approx([1 / 2 / 2 / 1 / 3] * 3)
    assert third.tolist() == pytest.approx([1 / 2 / 1 / 1 / 5] * 5)


def test_the_other_aggregations_weigh_as_they_say():
    made = [strand(range(20), (18, 20), name="x"), strand(range(20), (16, 20), name="y")]
    assert [each[0] for each in AGGREGATIONS["token-mean"](made)] == pytest.approx([1 / 6, 1 / 6])
    assert [each[0] for each in AGGREGATIONS["seq-mean-token-mean"](made)] == pytest.approx([1 / 4, 1 / 8])
    assert [each[0] for each in AGGREGATIONS["seq-mean-token-sum"](made)] == pytest.approx([1 / 2, 1 / 2])
    assert [each[0] for each in AGGREGATIONS["dr-grpo"](made, longest_tokens=10)] == pytest.approx([0.05, 0.05])


def test_a_cut_transcript_weighs_as_a_whole_one():
    pieces = [strand(range(20), (18, 20), name="x"), strand(range(20), (14, 20), name="x", piece=1)]
    other = strand(range(20), (12, 20), name="y")
    assert [each[0] for each in AGGREGATIONS["seq-mean-token-mean"]([*pieces, other])] == pytest.approx([1 / 16] * 3)
