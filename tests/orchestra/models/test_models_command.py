import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from orchestra.cli import main
from orchestra.models import adapters
from orchestra.models.cards import Card, Measured


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["models", *arguments])
    return ended.value.code, capsys.readouterr()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache with one model in it."""
    monkeypatch.setenv("ORCHESTRA_CACHE", str(tmp_path))
    folder = tmp_path / "models" / "owner--name"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"12345678")
    return tmp_path


def test_list_shows_what_is_there_and_what_could_be(capsys, cache):
    code, said = run(capsys, "list", "--json")
    document = json.loads(said.out)
    assert code == 0
    assert document["installed"] == [{"name": "owner/name", "path": str(cache / "models" / "owner--name"), "bytes": 8}]
    assert document["available"] == ["all-minilm-l6-v2", "smollm2-135m-instruct"]


def test_list_is_readable(capsys, cache):
    code, said = run(capsys, "list")
    assert code == 0
    assert "owner/name" in said.out
    assert "orchestra models pull" in said.out


@pytest.fixture
def critic(cache):
    """An adapter with a card, and an older one without."""
    for version, filled in (("1", 0.5), ("2", 0.25)):
        tensors = {f"base_model.model.q.lora_{half}.weight": np.full((2, 2), filled) for half in "AB"}
        adapter = adapters.write("critic", version, tensors, rank=2, alpha=4.0, base="owner/name", rslora=False)
    value = Measured(what="return against random", mean=0.21, low=0.1, high=0.32, count=200)
    Card(name="critic", version="2", base="owner/name", value=value, price_usd="0.5").write(adapter.path)


def test_list_shows_adapters_with_what_their_cards_say(capsys, critic):
    code, said = run(capsys, "list", "--json")
    first, second = sorted(json.loads(said.out)["adapters"], key=lambda entry: entry["version"])
    assert code == 0
    assert (first["version"], first["base"], first["rank"], first["card"]) == ("1", "owner/name", 2, None)
    assert second["card"]["value"]["mean"] == 0.21
    code, said = run(capsys, "list")
    assert "critic@2" in said.out
    assert "+0.210" in said.out


@pytest.fixture
def player(cache, tmp_path):
    """Writes an adapter of a training run, and what it is called; it is not in the user's folder."""

    def made(filled=0.5):
        tensors = {f"base_model.model.q.lora_{half}.weight": np.full((2, 2), filled) for half in "AB"}
        written = adapters.write("player", "7", tensors, rank=2, alpha=4.0, base="owner/name", rslora=False)
        Card(name="player", version="7", base="owner/name").write(written.path)
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        return written.path.rename(tmp_path / "run")

    return made


def test_add_makes_a_trained_adapter_known_by_its_name(capsys, player):
    path = player()
    assert (run(capsys, "add", str(path)), adapters.found("player").version) == ((0, ("player@7\n", "")), "7")
    assert run(capsys, "add", str(path))[1].out == "player@7\n"  # again, and nothing happens
    entry = json.loads(run(capsys, "add", str(path), "--json")[1].out)
    assert entry == {"name": "player", "version": "7", "path": str(adapters.folder() / "player@7")}
    assert "player@7" in run(capsys, "list")[1].out


def test_add_refuses_other_numbers_under_a_version_that_is_there(capsys, player):
    run(capsys, "add", str(player()))
    shutil.move(adapters.folder() / "player@7", kept := adapters.folder().parent / "kept")
    other = player(0.25)
    shutil.move(kept, adapters.folder() / "player@7")
    code, said = run(capsys, "add", str(other))
    assert code == 2
    assert "'player@7' is in" in said.err
    assert "with other numbers" in said.err


@pytest.mark.parametrize(
    ("place", "words"), [("nowhere", "no LoRA adapter at"), ("models", "expected adapter_config.json")]
)
def test_add_of_what_is_no_adapter_says_what_was_expected(capsys, cache, place, words):
    code, said = run(capsys, "add", str(cache / place))
    assert code == 2
    assert words in said.err


def test_add_takes_the_folder_that_was_named_and_refuses_a_useless_one(capsys, player, cache, monkeypatch):
    path = player(0.0)
    monkeypatch.chdir(path.parent)
    code, said = run(capsys, "add", "run")
    assert code == 2
    assert "every B matrix is zero" in said.err


def test_the_package_of_the_commands_is_a_program_too(cache):
    words = [sys.executable, "-m", "orchestra.cli", "models", "list", "--json"]
    assert "installed" in json.loads(subprocess.run(words, capture_output=True, check=True).stdout)


def test_pull_of_what_is_there_says_where(capsys, cache):
    code, said = run(capsys, "pull", "owner/name", "--json")
    assert code == 0
    assert json.loads(said.out)["models"][0]["path"].endswith("owner--name")


def test_an_unknown_name_is_bad_input(capsys, cache):
    code, said = run(capsys, "pull", "smollm-135m")
    assert code == 2
    assert "did you mean 'smollm2-135m-instruct'" in said.err


@pytest.mark.model
def test_calibrate_measures_and_prices(capsys):
    code, said = run(capsys, "calibrate", "smollm2-135m-instruct", "--seconds", "1", "--batch", "4", "--json")
    document = json.loads(said.out)
    assert code == 0
    assert document["batch"] == 4
    # Equal where the machine was busy while one of the two was measured: writing is never priced below reading.
    assert float(document["output_usd_per_million"]) >= float(document["input_usd_per_million"]) > 0
