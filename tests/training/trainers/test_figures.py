"""What is said of a step: on the screen, in files, and in a picture."""

import io

import pytest
from rich.console import Console

from orchestra.errors import InputError
from orchestra.traces.episode import Episode, Score, Seat, Transcript, Turn
from training.trainers.curves import draw
from training.trainers.figures import flat, interval, pooled, rewards, spoken, worth
from training.trainers.shown import cells, line, watched


def step(number=1, phase="train", **more):
    return {
        "phase": phase,
        "step": number,
        "reward": {"kuhn-poker/0": interval([1.0, -1.0]), "kuhn-poker/1": interval([0.5, 0.5])},
        "loss": 0.25,
        "kl": 0.01,
        "entropy": 0.5,
        "mismatch": 1e-3,
        "reply tokens": 9.0,
        "valid actions": 0.75,
        "tokens per second": {"play": 10.0, "credit": 20.0, "update": 30.0},
        "seconds": {"play": 1.0, "credit": 0.1, "update": 2.0, "publish": 0.5},
        "cash_usd": 0.0125,
        **more,
    }


def game(*, broke=(), rewards=(1.0, -1.0), moves=2, worn=(None, None)):
    """Two seats with `moves` turns each, under adapters; those of `broke` ended it with a reply that was no move."""
    turn = {"messages": (), "reply": "x", "started_ns": 0, "latency_seconds": 0.0}
    return Episode(
        episode_id="e",
        run_id="r",
        environment="kuhn-poker",
        seats=tuple(Seat(seat=at, reward=reward) for at, reward in enumerate(rewards)),
        transcripts=tuple(
            Transcript(
                seat=at,
                node="player",
                turns=tuple(Turn(span_id=f"{at}{n}", step=n, adapter=worn[at], **turn) for n in range(moves)),
            )
            for at in range(2)
        ),
        labels=tuple(Score(name="violation", value={"seat": at, "step": 1}, source="g", at=0.0) for at in broke),
    )


def test_rewards_are_by_game_and_seat_with_an_interval_that_several_episodes_make():
    found = rewards([game(), game(rewards=(3.0, -3.0))])
    assert found["kuhn-poker/0"]["mean"] == 2.0
    assert found["kuhn-poker/0"]["low"] == pytest.approx(2.0 - 1.96, abs=1e-3)
    assert interval([4.0])["low"] == 4.0


def test_a_reply_that_was_no_move_counts_against_the_share_of_valid_actions():
    assert spoken([game()], [])["valid actions"] == 1.0
    assert spoken([game(broke=[1])], [])["valid actions"] == 0.75
    assert spoken([game(broke=[0], moves=1)], [])["valid actions"] == 0.5


def test_pooling_weighs_every_episode_alike():
    together = pooled({"a/0": interval([0.0] * 3 + [2.0] * 3), "b/0": interval([4.0, 4.0])})
    assert together["mean"] == 1.75
    assert together["count"] == 8
    assert together["low"] < 1.75 < together["high"]
    assert pooled({}) is None


def test_an_adapter_is_worth_what_came_of_the_seats_where_it_spoke():
    def teaching(episode, transcript, turn):
        return (turn.adapter or "").partition("@")[0] or None

    served = {"a": "a@2", "b": "b@1"}
    past = game(worn=("a@2", "a@1"), rewards=(3.0, -7.0)).model_copy(update={"episode_id": "past"})
    games = [game(worn=("a@2", "b@1")), past]
    found = worth(games, teaching, served)
    assert (found["a"]["mean"], found["a"]["count"]) == (2.0, 2)
    assert (found["b"]["mean"], found["b"]["count"]) == (-1.0, 1)
    assert worth([game()], teaching, served) == {}, "the base spoke"


def test_a_row_shows_what_was_measured_and_a_dash_for_what_was_not():
    row = cells(step(), 12, 3)
    assert row[:3] == ("1/12", "kuhn-poker/0 +0.00±1.96 kuhn-poker/1 +0.50±0.00", "75%")
    assert "clip –" not in " ".join(line(step(), 12, 3))
    assert cells(step(phase="warm-up"), 12, 3)[0] == "warm-up 1/3"
    assert "skipped" in cells(step(skipped=1.0), 12, 3)


def test_a_log_gets_a_line_for_each_step_and_a_terminal_a_table():
    for terminal, words in ((False, "step 1/2 · reward kuhn-poker/0"), (True, "gradient")):
        told = io.StringIO()
        with watched(Console(file=told, force_terminal=terminal, width=200), 2, 0) as tell:
            tell(step())
        assert words in told.getvalue()


def test_nested_figures_become_names_with_a_slash():
    assert flat(step())["reward/kuhn-poker/1/mean"] == 0.5
    assert "phase" not in flat(step())


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_curves_are_drawn(suffix, tmp_path):
    curve = [step(1, "warm-up"), step(1), step(2, **{"clip fraction": 0.1})]
    assert draw(curve, tmp_path / f"curve.{suffix}", title="words").stat().st_size > 1000


def test_a_figure_that_is_measured_now_and_then_is_drawn_as_dots(tmp_path):
    def dots(*measured):
        curve = [step(at) for at in range(1, 22)]
        for each in curve:
            if each["step"] not in measured:
                del each["kl"]
        return draw(curve, tmp_path / "curve.svg").read_text().count("fill: #1f77b4; stroke: #1f77b4")

    assert (dots(1), dots(1, 11, 21), dots(*range(1, 22))) == (1, 3, 0)


def test_a_picture_of_nothing_or_of_no_known_kind_is_refused(tmp_path):
    with pytest.raises(InputError, match="no step yet"):
        draw([], tmp_path / "curve.png")
    with pytest.raises(InputError, match=r"no picture format '\.jpg'"):
        draw([step()], tmp_path / "curve.jpg")


def test_tensorboard_reads_what_was_written(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from training.trainers.tensorboard import Events

    events = Events(tmp_path)
    for number in (1, 2):
        events(step(number, loss=float(number)))
    events.close()
    kept = EventAccumulator(str(tmp_path))
    kept.Reload()
    found = [(one.step, one.tensor_proto.float_val[0]) for one in kept.Tensors("train/loss")]
    assert found == [(1, 1.0), (2, 2.0)]
