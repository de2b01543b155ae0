"""`orchestra train` as a user has it."""

import json

import pytest

from orchestra.cli import execute
from orchestra.models import adapters

QUICK = ("steps.count=1", "steps.episodes=4", "warmup.steps=1", "warmup.episodes=8", "base.make.hidden=32")


@pytest.fixture
def train(tmp_path, capsys, monkeypatch):
    """Runs the command on a tiny model that knows next to nothing; its exit code and what it printed."""
    monkeypatch.setenv("ORCHESTRA_CACHE", str(tmp_path / "cache"))

    def run(*arguments, settings=QUICK):
        changes = [word for setting in settings for word in ("--set", setting)]
        places = ["--out", str(tmp_path / "out"), "--store", str(tmp_path / "s.sqlite")]
        code = execute(["train", *arguments, *changes, *places])
        return code, *capsys.readouterr()

    return run


def test_a_run_ends_with_an_adapter_that_has_a_card_and_a_picture_of_its_curves(train, tmp_path):
    code, out, err = train("tiny", "--json", "--plot", str(tmp_path / "curve.png"))
    assert code == 0, err
    told = json.loads(out)
    adapter = adapters.found(told["adapters"]["player"]["folder"])
    assert adapter.served == told["adapters"]["player"]["served"]
    assert adapter.card.recipe == "tiny"
    assert adapter.card.episode_count == 4
    assert 4 <= adapter.card.value.count <= 8  # of two seats, those that came to move
    assert str(adapter.card.price_usd) == told["spent_usd"]
    assert [line["phase"] for line in told["curve"]] == ["warm-up", "train"]
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_without_json_each_step_is_a_line_and_the_end_says_how_to_use_what_was_made(train):
    code, out, err = train("tiny")
    assert code == 0, err
    assert "step warm-up 1/1" in err
    assert "step 1/1" in err
    assert "player@" in out
    assert "--model local/" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tyni",), "no recipe 'tyni'"),
        (("tiny", "--set", "steps.cuont=3"), "did you mean 'count'"),
        (("tiny", "--run", "x"), "add --from-traces"),
        (("tiny", "--from-traces", "--since", "yesterday"), "is no date"),
        (("tiny", "--resume", "nothing"), "nothing"),
        (("tiny", "--set", "sources.0.name=self-ply"), "self-play"),
        (("tiny", "--resume", "nothing", "--set", "publish.name=vllm"), "publisher 'vllm': not the engine that trains"),
        (("tiny", "--set", "sources.0.settings.environments=[]"), "at least one name"),
    ],
)
def test_bad_input_is_told_before_anything_is_done(train, arguments, words):
    code, out, err = train(*arguments)
    assert code == 2
    assert words in err
    assert out == ""


def test_money_that_does_not_suffice_ends_with_what_there_is(train, tmp_path):
    code, out, err = train("tiny", "--max-cost", "0.0000001", "--json", "--plot", str(tmp_path / "curve.png"))
    assert code == 3, err
    assert json.loads(out)["ran_out"]
