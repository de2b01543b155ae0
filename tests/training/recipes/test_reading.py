import pytest

from orchestra.environments.rules import Rules
from orchestra.errors import InputError
from training.recipes import Recipe, cautions, names, read

SMALL = """
name = "small"
[base]
model = "local/smollm2-135m-instruct"
[agents.player]
rank = 8
[steps]
count = 3
[[sources]]
name = "self-play"
"""


@pytest.fixture
def file(tmp_path):
    def written(text=SMALL):
        path = tmp_path / "small.toml"
        path.write_text(text)
        return path

    return written


def test_a_recipe_is_read_and_changed_from_the_command_line(file):
    recipe = read(file(), ["steps.count=7", "agents.player.rank=4", "loss.options.kl=0.2", "sources.0.name=store"])
    assert (recipe.steps.count, recipe.agents["player"].rank, recipe.loss.options) == (7, 4, {"kl": 0.2})


@pytest.mark.parametrize(
    ("text", "changes", "words"),
    [
        (SMALL + "[optimizer]\nlearning_rate = 1.0\n", (), "no key 'optimizer'; did you mean 'optimiser'"),
        (SMALL, ["agents.player.rnak=3"], "no key 'agents.player.rnak'; did you mean 'rank'"),
        (SMALL, ["credit.estimator=marz"], "did you mean 'mars'"),
        (SMALL, ["loss.name=cliped"], "did you mean 'clipped'"),
        (SMALL, ["credit.aggregation=turnmean"], "did you mean 'turn-mean'"),
        (SMALL, ["loss.options.dual_clip=1.4"], "loss 'clipped' has no option 'dual_clip'"),
        (SMALL, ["credit.options.by_turns=false"], "no option 'by_turns'; did you mean 'by_turn'"),
        (SMALL, ["steps.longest_tokens=9000"], "longest_tokens=9000 is more than a row holds"),
        (SMALL + "[agents.'pl@yer']\n", (), "agent 'pl@yer' names an adapter"),
        (SMALL, ["steps.count"], "write KEY=VALUE"),
        (SMALL, ["name.first=x"], "holds no keys"),
        (SMALL, ["sources.4.name=x"], "none of the 1 places"),
        (SMALL.replace('model = "local/smollm2-135m-instruct"', ""), (), "name a model, or say how to make one"),
        ("name = ", (), "is no TOML"),
    ],
)
def test_what_is_not_understood_is_an_input_error_with_a_hint(file, text, changes, words):
    with pytest.raises(InputError, match=words):
        read(file(text), changes)


def test_a_recipe_that_is_like_another_says_only_what_is_otherwise(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('like = "tiny"\nname = "mine"\n[steps]\ncount = 1\n[[sources]]\nshare = 2.0\n')
    mine, tiny = read(path), read("tiny")
    assert (mine.name, mine.steps.count, mine.sources[0].share) == ("mine", 1, 2.0)
    assert mine.steps.episodes == tiny.steps.episodes
    assert mine.sources[0].settings == tiny.sources[0].settings


@pytest.mark.parametrize("like", ['"mine.toml"', "3", '"tyni"'])
def test_a_recipe_is_not_like_itself_or_like_nothing(like, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(f"like = {like}\n")
    with pytest.raises(InputError, match=r"must name another|there is|did you mean"):
        read("mine.toml")


def test_an_unknown_name_offers_the_closest_recipe():
    with pytest.raises(InputError, match="did you mean 'mars-generalist'"):
        read("mars-generalis")
    with pytest.raises(InputError, match="no recipe file"):
        read("nowhere.toml")


SERVED = ["sources.0.settings.model=vllm/big@http://127.0.0.1:8000", "publish.name=vllm"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (SERVED, "'vllm/big@http://127.0.0.1:8000' and publisher 'vllm': not the engine that trains"),
        (SERVED[1:], "publisher 'vllm': not the engine that trains, and loss 'clipped' has no cap"),
        ([*SERVED, "loss.options.cap=2.0"], None),
        ([*SERVED, "loss.name=imitation"], None),
        ([], None),
        (["sources.0.settings.model=local/other", "publish.name=''"], None),
    ],
)
def test_another_engine_that_nothing_corrects_for_is_told_before_a_run(file, changes, words):
    said = cautions(read(file(), changes))
    assert len(said) == (words is not None)
    assert all(sentence.startswith(words) and "--set loss.options.cap=2.0" in sentence for sentence in said)


@pytest.mark.parametrize("name", names())
def test_every_recipe_that_comes_along_is_read_and_is_named_after_its_file(name):
    assert isinstance(read(name), Recipe)
    assert read(name).name == name
    assert read(name).about
    assert cautions(read(name)) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("loss.options.cap=0", "cap is above 0, not 0"),
        ("loss.options.dual=0.5", "dual is above 1, not 0.5"),
        ("loss.options.kl=nan", "finite number"),
        ("optimiser.learning_rate=inf", "finite number"),
        ("optimiser.betas=[0.9, 1.0]", "less than 1"),
        ("base.dtype='float16'", "'bfloat16' or 'float32'"),
        ("credit={estimator='spiral', options={decay=1.5}}", "decay is from 0 to below 1, not 1.5"),
        ("loss={name='advantage-weighted', options={sharpness=0}}", "sharpness is above 0, not 0"),
    ],
)
def test_an_option_that_would_teach_nothing_or_break_is_refused_before_anything_is_spent(change, words):
    with pytest.raises(InputError, match=words):
        read("tiny", [change])


PAPER = {
    "base.model": "local/Qwen/Qwen3-4B",
    "base.dtype": "bfloat16",
    "sources.0.settings.options": {"thinking": True},
    "sources.0.settings.sampling": {"temperature": 0.6, "top_p": 0.99, "top_k": 100, "max_tokens": 4096},
    "credit.estimator": "mars",
    "credit.options": {},
    "credit.aggregation": "turn-mean",
    "credit.clip": None,
    "loss.name": "clipped",
    # The cap is ours.
    "loss.options": {"epsilon_low": 0.2, "epsilon_high": 0.2, "dual": 1.4, "kl": 0.2, "cap": 2.0},
    "optimiser.learning_rate": 1e-6,
    "optimiser.warmup_updates": 10,
    "optimiser.betas": (0.9, 0.95),
    "optimiser.weight_decay": 0.05,
    "steps.count": 200,
    "steps.epochs": 1,
    "steps.row_tokens": 32_768,
    "steps.longest_tokens": None,
    "warmup.steps": 0,
    "checkpoints.every": 20,
}
GAMES = ("tic-tac-toe", "kuhn-poker", "mini-hanabi")


@pytest.mark.parametrize(
    ("name", "games", "transcripts"),
    [("mars-generalist", GAMES, 384), *((f"mars-specialist-{game}", (game,), 128) for game in GAMES)],
)
def test_recipes_of_the_paper_hold_its_numbers(name, games, transcripts):
    """Learning rate, lengths, sampling, loss, batch.

    Source: MARSHAL, arXiv:2510.15414, section 3.2 (credit) and 4.1 (model), and its released code: the configurations
        `agentic_val_multi_games_selfplay.yaml` and that of Tic-Tac-Toe (200 steps, saved every 20; 384 transcripts of
        two players for the generalist and 128 for a specialist; 2 a device, 2 accumulated, 2 data-parallel ranks;
        1e-6, 10 warm-up steps, weight decay 0.05, betas 0.9 and 0.95; 32,768 tokens, 4,096 of them new in a turn;
        temperature 0.6, top-p 0.99, top-k 100), its worker (clip 0.2, dual clip 1.4, k3 times 0.20, entropy 0, one
        epoch) and its environments (0.05 for a valid move, 0.1 for a draw, 10 besides the stake for a violation).
    """
    recipe = read(name)
    assert {key: at(recipe, key) for key in PAPER} == PAPER
    settings = recipe.sources[0].settings
    assert settings["environments"] == list(games)
    assert settings.get("opponent") is None
    rules = Rules(**settings["options"])
    assert (rules.format_bonus, rules.draw, rules.violation, rules.length) == (0.05, 0.1, 10.0, "released")
    assert recipe.steps.episodes == transcripts / 2
    assert recipe.steps.updates == transcripts / (2 * 2 * 2)
    assert recipe.steps.episodes % len(games) == 0
    assert settings["concurrency"] >= recipe.steps.episodes


def at(recipe, key):
    """What a recipe says at a key such as `sources.0.settings`."""
    place = recipe
    for part in key.split("."):
        if isinstance(place, tuple):
            place = place[int(part)]
        else:
            place = place[part] if isinstance(place, dict) else getattr(place, part)
    return place
