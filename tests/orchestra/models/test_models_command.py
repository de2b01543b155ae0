import json

import pytest

from orchestra.cli import main


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
    assert float(document["output_usd_per_million"]) > float(document["input_usd_per_million"]) > 0
