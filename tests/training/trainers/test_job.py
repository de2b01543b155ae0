import json
import resource
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
import torch

from orchestra.errors import InputError
from orchestra.ledger import Ledger, nano
from orchestra.models.local.publishing import local_publisher
from orchestra.traces.store import Store
from training.adapters import DiskFull, Lineage, NotAsSaved, NotFinite, NotPublished, load_tensors, save, save_tensors
from training.recipes import Recipe
from training.trainers.job import network_of, train
from training.trainers.processes import Processes
from training.trainers.study import FLAT, UNSCORED, lesson


async def test_an_agent_learns_a_game_by_playing_it(words, recipe_of, doubles, tmp_path):
    recipe = recipe_of(warmup={"steps": 25}, steps={"count": 8, "episodes": 24, "kl_every": 3})
    game = words({"player": "green"})
    done = await train(recipe, store=tmp_path / "s.db", folder=tmp_path, source=game, demonstrations=doubles["Shown"]())
    before, after = done.curve[25]["reward"]["words/0"], done.curve[-1]["reward"]["words/0"]
    assert after["low"] > before["high"]
    assert {line["phase"] for line in done.curve} == {"warm-up", "train"}
    assert max(line["mismatch"] for line in done.curve[25:]) < 1e-4  # what was sampled is what is trained on
    assert game.asked[0][0]["player"].startswith("player@")
    distances = {line["step"]: line["kl"] for line in done.curve if "kl" in line}  # none of them is in the loss
    assert sorted(distances) == [1, 4, 7]
    assert all(nats > 0 for nats in distances.values())


async def test_two_adapters_change_beside_frozen_and_api_members(words, recipe_of, base_of, tmp_path):
    lone = recipe_of(agents=("frozen",))
    lone = lone.model_copy(update={"agents": {"frozen": lone.agents["frozen"].model_copy(update={"initial_b": 0.1})}})
    network = network_of(lone, lone.base.model, base_of, Processes(), "cpu")
    worn = save(network.weights("frozen", range(3, 40)), tmp_path / "frozen", Lineage(base_sha256=base_of.sha256))
    kept = {path.name: path.read_bytes() for path in worn.folder.iterdir()}
    # `idle` wears it in the trainer's network, where nothing teaches it; `frozen` is no agent of the recipe.
    recipe = recipe_of(
        agents=("alice", "bob", "idle"), steps={"count": 3, "episodes": 8}, optimiser={"weight_decay": 0.5}
    )
    idle = recipe.agents["idle"].model_copy(update={"start": str(worn.folder)})
    recipe = recipe.model_copy(update={"agents": {**recipe.agents, "idle": idle}})
    engine = local_publisher(**recipe.publish.settings)
    said = await engine.publish(worn.weights)
    game = words({"alice": "green", "bob": "red", "frozen": "blue", "api": "red"})
    game.fixed["frozen"] = worn.weights.served
    done = await train(recipe, store=tmp_path / "s.db", folder=tmp_path, source=game)
    served = {agent: {adapters[agent] for adapters, _, _ in game.asked} for agent in recipe.agents}
    assert {agent: len(versions) for agent, versions in served.items()} == {"alice": 3, "bob": 3, "idle": 1}
    for agent in ("alice", "bob"):
        assert done.adapters[agent].weights.served not in served[agent]
    for seat, agent in enumerate(("alice", "bob")):  # each is worth what came of its own seat
        card, earned = done.adapters[agent].card, done.curve[-1]["reward"][f"words/{seat}"]
        assert card["value"] == {"what": "reward at its seats in its last step of training", **earned}
        assert nano(card["price_usd"]) == -(-done.spent_nano // 3)
    idle = done.adapters["idle"].weights.tensors
    assert idle.keys() == worn.weights.tensors.keys()
    assert all(torch.equal(matrix, worn.weights.tensors[name]) for name, matrix in idle.items())
    assert await engine.publish(worn.weights) == said
    assert {path.name: path.read_bytes() for path in worn.folder.iterdir()} == kept
    await engine.close()


async def test_what_a_sampler_left_out_shows_as_mismatch(words, recipe_of, tmp_path):
    recipe = recipe_of(steps={"count": 1})
    done = await train(recipe, store=tmp_path / "s.db", folder=tmp_path, source=words({"player": "red"}, top_p=0.5))
    (line,) = done.curve
    # Of the kept tokens alone each is likelier, by the whole that was left out: at most as much as was kept.
    assert 0.01 < line["mismatch"] < line["mismatch max"] < np.log(2) + 1e-4
    assert 0.5 - 1e-4 < line["ratio"] < 0.99
    assert line["ratio max"] < 1 + 1e-4


def test_only_the_active_adapter_changes_and_the_base_stays_bit_by_bit(recipe_of, base_of, study_of):
    recipe = recipe_of(agents=("alice", "bob", "frozen"))
    network = network_of(recipe, "base", base_of, Processes(), "cpu")
    was = {name: value.clone() for name, value in network.network.named_parameters()}
    learner, study = study_of(network, recipe, agents=("alice", "bob"))
    learner.update(study, "imitation", {})
    changed = {name for name, value in network.network.named_parameters() if not torch.equal(value, was[name])}
    assert changed
    assert all(".alice." in name or ".bob." in name for name in changed)
    assert {name.rpartition(".lora_")[2].split(".")[1] for name in changed} == {"alice", "bob"}


async def test_the_cap_stops_a_run_with_everything_saved(words, recipe_of, tmp_path):
    recipe = recipe_of(steps={"count": 50}).model_copy(update={"machine_usd_per_hour": Decimal(3600)})
    done = await train(
        recipe, store=tmp_path / "s.db", folder=tmp_path, source=words({"player": "red"}), max_cost_usd="0.6"
    )
    assert done.ran_out is not None
    assert 0 < done.spent_nano <= 600_000_000
    assert 0 < len(done.curve) < 50
    assert (done.adapters["player"].folder / "adapter_model.safetensors").is_file()
    with Store.open(tmp_path / "s.db", read_only=True) as store:
        books = Ledger(None)
        books.replay(line.entry for line in store.ledger_entries(done.run_id))
    assert books.spent == done.spent_nano


async def test_a_loss_that_is_no_number_is_an_error_and_the_step_before_is_saved(words, recipe_of, doubles, tmp_path):
    game = words({"player": "red"})
    fine = list(await game.episodes({}, 8, 1))
    await game.close()
    broken = [one.model_copy(update={"transcripts": tuple(_worth(t, 1e300) for t in one.transcripts)}) for one in fine]
    source = _Then([*fine, *(_worth_different(one, at) for at, one in enumerate(broken))])
    begun = []
    recipe = recipe_of(steps={"count": 2, "episodes": 8}, learns={"seats": [0]}, publish={"name": ""})
    with pytest.raises(NotFinite, match="train step 2"):
        await train(recipe, store=tmp_path / "s.db", folder=tmp_path, source=source, on_run=begun.append)
    state = json.loads((tmp_path / begun[0] / "checkpoint-000001" / "state.json").read_text())
    assert state["step"] == 1


async def test_a_loss_that_is_no_number_in_a_later_update_leaves_the_step_before(words, recipe_of, tmp_path):
    game = words({"player": "red"})
    fine = list(await game.episodes({}, 8, 1))
    await game.close()
    source = _Then([*fine, *(_worth_different(one, at) for at, one in enumerate(fine))])
    begun, after_one = [], []
    steps = {"count": 2, "episodes": 8, "epochs": 2}
    recipe = recipe_of(steps=steps, learns={"seats": [0]}, publish={"name": ""})

    def kept():
        folder = tmp_path / begun[0] / "checkpoint-000001"
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    with pytest.raises(NotFinite, match="train step 2"):
        await train(
            recipe,
            store=tmp_path / "s.db",
            folder=tmp_path,
            source=source,
            on_run=begun.append,
            teller=lambda figures: after_one.append(kept()),
        )
    for name in ("adapters.safetensors", "optimiser.safetensors"):
        assert kept()[name] == after_one[0][name]
    assert json.loads(kept()["state.json"])["updates"] == 2


async def test_games_that_failed_are_counted_and_the_others_learnt_from(words, recipe_of, tmp_path):
    game = words({"player": "red"})
    played = list(await game.episodes({}, 6, 1))
    await game.close()
    failed = [
        one.model_copy(
            update={
                "error": "the server was gone",
                "score": None,
                "seats": tuple(seat.model_copy(update={"reward": None}) for seat in one.seats),
                "transcripts": tuple(_worth(t, None) for t in one.transcripts),
            }
        )
        for one in played[:2]
    ]
    recipe = recipe_of(steps={"count": 1, "episodes": 6}, learns={"seats": [0]}, publish={"name": ""})
    done = await train(recipe, store=tmp_path / "s.db", folder=tmp_path, source=_Then([*failed, *played[2:]]))
    assert done.skipped[UNSCORED] == 2
    assert done.curve[0]["strands"] == 4
    with pytest.raises(InputError, match="all 2 episodes failed, the first with: the server was gone"):
        await train(recipe, store=tmp_path / "s.db", folder=tmp_path, source=_Then(failed))


def test_log_probabilities_of_before_the_step_serve_all_of_its_updates(recipe_of, base_of, study_of):
    recipe = recipe_of()
    network = network_of(recipe, "base", base_of, Processes(), "cpu")
    learner, study = study_of(network, recipe)
    study = replace(study, advantages=tuple(np.ones(strand.trained) for strand in study.strands))
    before = learner.before(study, {"cap": 2.0})
    learner.update(study, "clipped", {"cap": 2.0}, before=before, rate=0.1)
    later = learner.update(study, "clipped", {"cap": 2.0}, before=before, rate=0.1)
    assert later["ratio"] != pytest.approx(1.0, abs=1e-6)


async def test_an_adapter_to_go_on_from_has_the_alpha_it_was_trained_with(words, recipe_of, base_of, doubles, tmp_path):
    recipe = recipe_of(warmup={"steps": 2}, steps={"count": 0})
    game, shown = words({"player": "red"}), doubles["Shown"]()
    done = await train(recipe, store=tmp_path / "s.db", folder=tmp_path, source=game, demonstrations=shown)
    agent = recipe.agents["player"].model_copy(update={"start": str(done.adapters["player"].folder), "alpha": 99.0})
    with pytest.raises(InputError, match=r"has alpha \d+; set alpha = \d+, not 99"):
        network_of(recipe.model_copy(update={"agents": {"player": agent}}), "base", base_of, Processes(), "cpu")


def _worth(transcript, reward):
    turns = tuple(turn.model_copy(update={"reward": reward}) for turn in transcript.turns)
    return transcript.model_copy(update={"turns": turns})


def _worth_different(episode, at):
    return episode.model_copy(
        update={
            "episode_id": f"broken-{at}",
            "transcripts": tuple(_worth(t, 1e300 * (at % 2)) for t in episode.transcripts),
        }
    )


class _Then:
    """Gives its episodes in order, each once."""

    def __init__(self, episodes):
        self.left = list(episodes)

    async def episodes(self, adapters, count, seed):
        found, self.left = self.left[:count], self.left[count:]
        return found

    async def close(self):
        pass


@pytest.mark.parametrize(
    ("estimator", "worth"),  # by turns, equal rewards still make the first turn worth more
    [("mars", 0.0), *((name, worth) for name in ("rloo", "grpo", "dr-grpo") for worth in (0.1, -10.95))],
)
async def test_a_batch_without_any_advantage_is_a_counted_skip(estimator, worth, words, recipe_of, doubles, tmp_path):
    game = words({"player": "red"})
    same = [
        one.model_copy(update={"transcripts": tuple(_worth(t, worth) for t in one.transcripts)})
        for one in await game.episodes({}, 4, 1)
    ]
    await game.close()
    recipe = recipe_of(steps={"count": 2, "episodes": 4}, learns={"seats": [0]}, publish={"name": ""})
    recipe = recipe.model_copy(update={"credit": recipe.credit.model_copy(update={"estimator": estimator})})
    done = await train(recipe, store=tmp_path / "s.db", folder=tmp_path, source=doubles["Recorded"](same))
    assert done.skipped == {FLAT: 2}
    assert [line["skipped"] for line in done.curve] == [1.0, 1.0]


async def test_rejection_sampling_of_a_batch_with_nothing_above_the_threshold_is_a_counted_skip(
    words, recipe_of, doubles, tmp_path
):
    episodes = await _earning(words({"player": "red"}), [(1.0,), (-1.0,)])
    loss = {"name": "rejection-sampling", "options": {"threshold": 1.0}}
    recipe = recipe_of(steps={"count": 1, "episodes": 2}, learns={"seats": [0]}, publish={"name": ""}, loss=loss)
    done = await train(recipe, store=tmp_path / "s.db", folder=tmp_path, source=doubles["Recorded"](episodes))
    assert done.skipped == {"steps with no advantage above the threshold": 1}
    assert done.curve[0]["skipped"] == 1.0


async def test_an_agent_without_any_advantage_is_counted_and_left_to_the_last_bit_of_its_moments(
    words, recipe_of, tmp_path
):
    both, bob = [(1.0, 0.0), (0.0, 1.0)], [(0.0, 1.0), (0.0, -1.0)]
    episodes = await _earning(words({"alice": "red", "bob": "green"}), [*both, *bob])
    recipe = _by_seat(
        recipe_of(
            agents=("alice", "bob"),
            steps={"count": 2, "episodes": 2},
            publish={"name": ""},
            optimiser={"weight_decay": 0.5},
        )
    )
    done = await train(recipe, store=tmp_path / "s.db", folder=tmp_path, source=_Then(episodes))
    assert done.skipped == {"updates without any advantage for agent 'alice'": 1}
    for file in ("adapters.safetensors", "optimiser.safetensors"):
        first, second = (load_tensors(done.folder / f"checkpoint-00000{step}" / file) for step in (1, 2))
        same = {name for name in first if torch.equal(first[name], second[name])}
        assert {name for name in first if "alice/" in name} <= same
        assert {name for name in first if "bob/" in name} - same


@pytest.mark.parametrize(("options", "updated"), [({}, 6), ({"entropy": 0.1}, 8)])
async def test_each_update_that_teaches_an_agent_nothing_is_counted(options, updated, words, recipe_of):
    rewards = [(1.0, 1.0), (-1.0, -1.0), (0.0, 1.0), (0.0, -1.0)]
    episodes = await _earning(words({"alice": "red", "bob": "green"}), rewards)
    steps = {"episodes": 4, "updates": 4, "epochs": 2}
    recipe = _by_seat(recipe_of(agents=("alice", "bob"), steps=steps, loss={"options": options}))
    taught = lesson(episodes, recipe, packs=True, state=None, seed=0)
    assert taught.skipped == {"updates without any advantage for agent 'alice'": 4}
    assert sum(len(study.learnt) for study in taught.studies) == updated


async def _earning(game, rewards):
    """Episodes of `game`, each seat's last turn earning what `rewards` says and no other turn anything."""
    played = await game.episodes({}, len(rewards), 1)
    await game.close()
    return [
        one.model_copy(
            update={
                "transcripts": tuple(
                    t.model_copy(update={"turns": (*_worth(t, 0.0).turns[:-1], *_worth(t, reward).turns[-1:])})
                    for t, reward in zip(one.transcripts, earned, strict=True)
                )
            }
        )
        for one, earned in zip(played, rewards, strict=True)
    ]


def _by_seat(recipe):
    """`recipe` with agents that each learn from the seat of their place."""
    agents = {
        name: agent.model_copy(update={"learns": agent.learns.model_copy(update={"seats": (at,)})})
        for at, (name, agent) in enumerate(recipe.agents.items())
    }
    return recipe.model_copy(update={"agents": agents})


async def test_a_full_disk_at_a_checkpoint_is_an_error_and_the_earlier_one_stays(words, recipe_of, tmp_path):
    recipe = recipe_of(steps={"count": 3}, checkpoints={"keep": 3})
    begun, limits = [], resource.getrlimit(resource.RLIMIT_FSIZE)
    recipe = recipe.model_copy(update={"agents": {"player": recipe.agents["player"].model_copy(update={"rank": 128})}})

    def fill_the_disk(figures):
        """No file may grow beyond a size that the store stays below and a checkpoint does not."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (800_000, limits[1]))

    try:
        with pytest.raises(DiskFull, match="earlier checkpoints are still there"):
            await train(
                recipe,
                store=tmp_path / "s.db",
                folder=tmp_path,
                source=words({"player": "red"}),
                on_run=begun.append,
                teller=fill_the_disk,
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in (tmp_path / begun[0]).glob("*checkpoint*")] == ["checkpoint-000001"]


async def test_an_adapter_that_its_disk_keeps_otherwise_ends_the_run_with_an_error(
    words, recipe_of, tmp_path, monkeypatch
):
    def damaged(path, tensors):
        save_tensors(path, {name: tensor + 1 for name, tensor in tensors.items()})

    recipe, begun = recipe_of(steps={"count": 1, "episodes": 4}), []
    chosen = {"store": tmp_path / "s.db", "folder": tmp_path, "source": words({"player": "red"})}
    with monkeypatch.context() as disk:
        disk.setattr("training.adapters.files.save_tensors", damaged)
        with pytest.raises(NotAsSaved, match=r"adapter_model\.safetensors' does not hold what was saved"):
            await train(recipe, on_run=begun.append, **chosen)
    saved = (await train(recipe, resume=begun[0], **chosen)).adapters["player"]
    there = load_tensors(saved.folder / "adapter_model.safetensors")
    assert all(there[name].equal(tensor) for name, tensor in saved.weights.tensors.items())


async def test_no_matching_episodes_is_an_input_error(recipe_of, doubles, tmp_path):
    with pytest.raises(InputError, match="no episodes that match"):
        await train(recipe_of(), store=tmp_path / "s.db", folder=tmp_path, source=doubles["Recorded"]([]))


async def test_episodes_of_other_agents_are_an_input_error_that_says_how_to_choose(words, recipe_of, doubles, tmp_path):
    game = words({"player": "red"})
    episodes = await game.episodes({}, 2, 1)
    await game.close()
    with pytest.raises(InputError, match=r"\[agents.NAME.learns\]"):
        await train(
            recipe_of(agents=("stranger",)),
            store=tmp_path / "s.db",
            folder=tmp_path,
            source=doubles["Recorded"](episodes),
        )


async def test_a_server_that_computes_something_else_is_refused(words, recipe_of, tmp_path):
    class Deaf:
        async def publish(self, weights):
            return tuple(-5.0 for _ in weights.token_ids[1:])

        async def withdraw(self, served):
            self.withdrawn = served

        async def close(self):
            pass

    server = Deaf()
    with pytest.raises(NotPublished, match="differ from the trainer's"):
        await train(
            recipe_of(),
            store=tmp_path / "s.db",
            folder=tmp_path,
            source=words({"player": "red"}),
            publisher=server,
        )
    assert server.withdrawn.startswith("player@")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sources": [{"settings": {"enviroments": ["kuhn-poker"]}}]}, "no setting 'enviroments'; did you mean 'env"),
        ({"publish": {"settings": {"urll": "x"}, "name": "vllm"}}, "has no setting 'urll'; did you mean 'url'"),
    ],
)
async def test_a_setting_that_a_plug_in_does_not_take_is_told_before_the_work(changes, words, recipe_of, tmp_path):
    recipe = recipe_of(sources=[{"settings": {"environments": ["kuhn-poker"]}}])
    recipe = Recipe.model_validate({**recipe.model_dump(), **changes})
    with pytest.raises(InputError, match=words):
        await train(recipe, store=tmp_path / "s.db", folder=tmp_path)
