import json

import numpy as np
import pytest
import torch

from orchestra.ledger import nano
from training.adapters import NotFinite
from training.recipes import Make
from training.trainers.demonstrations import demonstrations
from training.trainers.job import network_of, train
from training.trainers.keeping import Progress, Shelf
from training.trainers.making import made
from training.trainers.processes import Processes
from training.trainers.study import lesson


async def played(game, count=4, reward=None):
    """Episodes of `game`; every turn earns `reward`, where one is given."""
    found = await game.episodes({}, count, 1)
    await game.close()
    if reward is None:
        return found
    return [
        one.model_copy(
            update={
                "transcripts": tuple(
                    t.model_copy(
                        update={"turns": tuple(turn.model_copy(update={"reward": reward}) for turn in t.turns)}
                    )
                    for t in one.transcripts
                )
            }
        )
        for one in found
    ]


async def test_a_first_step_that_is_undone_leaves_no_moments(words, recipe_of, doubles, tmp_path, monkeypatch):
    from training.trainers.update import Learner

    update, done, begun = Learner.update, [], []

    def blown_up(learner, *given, **chosen):
        done.append(update(learner, *given, **chosen))
        if len(done) == 2:
            raise NotFinite("the loss is nan")
        return done[-1]

    monkeypatch.setattr(Learner, "update", blown_up)
    recipe = recipe_of(steps={"count": 1, "epochs": 2}, learns={"seats": [0]}, publish={"name": ""})
    source = doubles["Recorded"](await played(words({"player": "red"}), 8))
    with pytest.raises(NotFinite, match="train step 1"):
        await train(recipe, store=tmp_path / "s.db", folder=tmp_path, source=source, on_run=begun.append)
    kept = Shelf(tmp_path / begun[0]).latest()
    assert kept.progress.updates == kept.progress.step == 0
    assert not kept.optimiser


@pytest.mark.parametrize(
    ("loss", "learns"),
    [
        ({"name": "clipped"}, False),
        ({"name": "rejection-sampling"}, False),
        ({"name": "rejection-sampling", "options": {"threshold": -1.0}}, True),
        ({"name": "advantage-weighted"}, True),
        ({"name": "imitation"}, True),
    ],
)
async def test_turns_that_are_all_worth_as_much_teach_what_the_loss_says(loss, learns, words, recipe_of):
    episodes = await played(words({"player": "red"}), reward=0.0)
    recipe = recipe_of(learns={"seats": [0]}, loss=loss)
    taught = lesson(episodes, recipe, packs=True, state=None, seed=0)
    assert any(study.learnt for study in taught.studies) == learns
    assert bool(taught.skipped) != learns


async def test_a_redacted_turn_is_not_imitated(doubles, base_of):
    episodes = await doubles["Shown"]().episodes({}, 1, 3)
    (transcript,) = episodes[0].transcripts
    turns = (transcript.turns[0].model_copy(update={"redacted": True, "reply": "my key is ***"}), *transcript.turns[1:])
    hidden = episodes[0].model_copy(update={"transcripts": (transcript.model_copy(update={"turns": turns}),)})
    found = demonstrations([hidden], base_of, ["player"], 512)
    assert sum(found.skipped.values()) == 1
    assert [span.turn for strand in found.strands for span in strand.spans] == [1]


async def test_an_adapter_that_went_on_from_another_says_what_that_one_came_from(words, recipe_of, doubles, tmp_path):
    source = doubles["Recorded"](await played(words({"player": "red"}), 4))
    recipe = recipe_of(steps={"count": 3, "episodes": 4}, learns={"seats": [0]}, publish={"name": ""})
    first = await train(recipe, store=tmp_path / "s.db", folder=tmp_path, source=source)
    card = first.adapters["player"].card
    assert (card["episode_count"], len(card["episodes"])) == (4, 4)  # each was drawn three times
    agent = recipe.agents["player"].model_copy(update={"start": str(first.adapters["player"].folder)})
    other = doubles["Recorded"](
        [
            one.model_copy(update={"episode_id": f"other-{one.episode_id}"})
            for one in await played(words({"player": "red"}), 2)
        ]
    )
    further = recipe.model_copy(update={"agents": {"player": agent}})
    second = await train(further, store=tmp_path / "s.db", folder=tmp_path, source=other)
    later = second.adapters["player"].card
    assert later["runs"] == [first.run_id, second.run_id]
    assert later["episodes"][:4] == card["episodes"]
    assert later["episode_count"] == 6
    assert nano(later["price_usd"]) == nano(card["price_usd"]) + second.spent_nano


def test_a_checkpoint_that_a_kill_left_moved_away_is_found(tmp_path):
    shelf = Shelf(tmp_path)
    whole = shelf.save(Progress(step=3), {"a": torch.zeros(1)}, {})
    whole.replace(whole.with_name(f".{whole.name}.old"))
    assert shelf.latest().progress.step == 3
    assert [path.name for path in tmp_path.iterdir()] == [whole.name]


def test_a_checkpoint_of_an_earlier_version_is_read(tmp_path):
    shelf = Shelf(tmp_path)
    state = shelf.save(Progress(step=3), {"a": torch.zeros(1)}, {}) / "state.json"
    former = {"value": None, "drawn": 9, "seen_count": 4, "seconds": {"play": 1.0}}
    state.write_text(json.dumps({**json.loads(state.read_text()), **former}))
    assert shelf.latest().progress == Progress(step=3)


def test_runs_that_make_the_same_model_at_once_do_not_get_in_each_other_s_way(tmp_path, monkeypatch):
    import training.trainers.making as making

    sizes, tokens = Make(hidden=32, layers=1, heads=4, vocabulary=300, context_tokens=64), making._tokenizer
    meanwhile = []

    def slowly(how, texts):
        monkeypatch.setattr(making, "_tokenizer", tokens)
        meanwhile.append(made(sizes, ["Say red."], tmp_path, seed=0))
        return tokens(how, texts)

    monkeypatch.setattr(making, "_tokenizer", slowly)
    assert made(sizes, ["Say red."], tmp_path, seed=0) == meanwhile[0]
    assert [path.name for path in tmp_path.iterdir()] == [meanwhile[0].name]


def test_an_optimiser_forgets_what_the_state_it_goes_on_from_does_not_have(recipe_of, base_of, study_of):
    recipe = recipe_of()
    network = network_of(recipe, "base", base_of, Processes(), "cpu")
    learner, study = study_of(network, recipe)
    before = learner.state()
    learner.update(study, "imitation", {})
    assert learner.state()
    learner.resume(before, 0)
    assert learner.state() == before == {}
    assert learner.updates == 0
    assert np.isfinite(learner.update(study, "imitation", {})["loss total"])
