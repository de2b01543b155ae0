"""Adapters in the user's folder: names and versions, cards, and what is no adapter."""

import json
import os
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestra.errors import InputError
from orchestra.models import adapters
from orchestra.models.cards import Card, Measured, card_at
from orchestra.models.peft_files import CONFIG, VERSION_DIGITS, defects
from orchestra.models.serving import Probe, safetensors

LAYER = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ORCHESTRA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def written(version="1", *, name="critic", filled=0.5, rank=2, alpha=4.0, rslora=False):
    tensors = {f"{LAYER}.lora_A.weight": np.full((2, 8), 0.1), f"{LAYER}.lora_B.weight": np.full((4, 2), filled)}
    return adapters.write(name, version, tensors, rank=rank, alpha=alpha, base="tiny", rslora=rslora)


def older(adapter, seconds):
    file = adapter.path / CONFIG
    os.utime(file, (file.stat().st_atime, file.stat().st_mtime - seconds))


def test_a_name_is_its_newest_version_and_a_version_is_itself(cache):
    first, second = written("1"), written("2", filled=0.25)
    older(first, 100)
    assert adapters.found("critic").served == second.served == "critic@2"
    assert adapters.found("critic@1").served == "critic@1"
    assert [adapter.served for adapter in adapters.installed()] == ["critic@2", "critic@1"]


def test_a_path_is_called_what_its_card_says_else_what_its_folder_is_called(cache, tmp_path):
    written().path.rename(tmp_path / "actor@7")
    assert adapters.found(str(tmp_path / "actor@7")).served == "actor@7"
    (tmp_path / "actor@7").rename(tmp_path / "actor")
    assert adapters.found(str(tmp_path / "actor")).name == "actor"
    assert len(adapters.found(str(tmp_path / "actor")).version) == VERSION_DIGITS
    Card(name="critic", version="step-40", base="tiny").write(tmp_path / "actor")
    assert adapters.found(str(tmp_path / "actor")).served == "critic@step-40"


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("crtic", "did you mean 'critic'"),
        ("critic@3", r"version '3'; there is critic@1"),
        ("./nowhere", r"expected a folder with adapter_config\.json"),
    ],
)
def test_an_adapter_that_is_not_here_is_refused_with_the_closest(cache, wanted, words):
    written()
    with pytest.raises(InputError, match=words):
        adapters.found(wanted)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("tiny", ("tiny", None)),
        ("owner/tiny+critic", ("owner/tiny", "critic")),
        ("tiny+critic@3f", ("tiny", "critic@3f")),
        ("tiny+/some/path+more", ("tiny", "/some/path+more")),
    ],
)
def test_a_models_name_is_its_base_and_its_adapter(cache, name, parts):
    assert adapters.split_name(name) == parts


def test_a_base_whose_path_has_a_plus_is_still_a_base(cache, tmp_path):
    base = tmp_path / "c++"
    base.mkdir()
    (base / "config.json").write_text("{}")
    assert adapters.split_name(str(base)) == (str(base), None)
    assert adapters.split_name(f"{base}+critic") == (str(base), "critic")


@pytest.mark.parametrize("name", ["+critic", "tiny+"])
def test_half_a_name_is_refused(cache, name):
    with pytest.raises(InputError, match="names no adapter"):
        adapters.split_name(name)


def test_a_version_is_of_one_set_of_numbers(cache):
    assert written() == written()
    with pytest.raises(InputError, match="other numbers"):
        written(filled=0.25)


def test_a_copy_under_a_version_that_is_taken_is_refused(cache, tmp_path):
    written().path.rename(tmp_path / "critic@1")
    written(filled=0.25)
    with pytest.raises(InputError, match="other numbers"):
        adapters.snapshot(adapters.found(str(tmp_path / "critic@1")))


def test_a_copy_keeps_the_probe_which_is_no_part_of_its_version(cache, tmp_path):
    written().path.rename(tmp_path / "critic")
    bare = adapters.found(str(tmp_path / "critic"))
    assert not (adapters.snapshot(bare).path / "probe.json").exists()
    Probe(token_ids=(1, 2, 3), logprobs=(-1.0, -2.0)).write(tmp_path / "critic" / "probe.json")
    probed = adapters.found(str(tmp_path / "critic"))
    assert probed.version == bare.version
    late = adapters.snapshot(probed)  # it was there without one
    assert Probe.read(late.path / "probe.json").logprobs == (-1.0, -2.0)
    shutil.rmtree(late.path)
    assert Probe.read(adapters.snapshot(probed).path / "probe.json").token_ids == (1, 2, 3)


@pytest.mark.parametrize(("name", "version"), [("a+b", "1"), ("a", "1@2"), ("", "1"), ("a/b", "1")])
def test_what_cannot_be_part_of_a_name_is_refused(cache, name, version):
    with pytest.raises(InputError, match="cannot be part"):
        written(version, name=name)


def test_what_is_written_is_read_as_it_was_meant(cache):
    adapter = written(rslora=True)
    assert (adapter.rank, adapter.alpha, adapter.base, adapter.refusals) == (2, 4.0, "tiny", ())
    assert adapter.scale == pytest.approx(4 / 2**0.5)
    assert defects(adapter, None) == ()


@given(st.dictionaries(st.text("abc.", min_size=1), st.lists(st.floats(width=32), max_size=9), max_size=4))
def test_tensors_are_read_as_they_were_written(tmp_path_factory, lists):
    path = tmp_path_factory.mktemp("tensors") / "some.safetensors"
    arrays = {name: np.array(numbers, np.float32) for name, numbers in lists.items()}
    safetensors.write(path, arrays)
    assert safetensors.shapes(path) == {name: array.shape for name, array in arrays.items()}
    found = {tensor.name: tensor.is_finite for tensor in safetensors.tensors(path)}
    assert found == {name: bool(np.isfinite(array).all()) for name, array in arrays.items()}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"use_dora": True}, "DoRA"),
        ({"bias": "all"}, "biases of the base"),
        ({"modules_to_save": ["lm_head"]}, "whole layers"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base"),
        ({"peft_type": "IA3"}, "only LoRA"),
        ({"alpha_pattern": {"q_proj": 1}}, "alphas that differ"),
    ],
)
def test_more_than_plain_lora_is_a_defect_that_says_what_it_is(cache, config, words):
    adapter = written()
    file = adapter.path / CONFIG
    file.write_text(json.dumps({**json.loads(file.read_text()), **config}))
    (defect,) = defects(adapters.found("critic"), None)
    assert words in defect


def test_a_card_is_read_as_it_was_written(tmp_path):
    card = Card(
        name="critic",
        version="1",
        base="local/tiny",
        base_sha256="0f",
        recipe="mars-cpu",
        runs=("run-1",),
        episodes=("e1", "e2"),
        episode_count=2,
        value=Measured(what="return against random", mean=0.2, low=0.1, high=0.3, count=200),
        price_usd="0.5",
        created="2026-11-01T00:00:00+00:00",
    )
    card.write(tmp_path)
    assert card_at(tmp_path) == card
    assert card.served == "critic@1"


def test_a_card_with_an_unknown_key_is_refused(tmp_path):
    (tmp_path / "adapter.json").write_text('{"name": "a", "version": "1", "base": "b", "pirce_usd": 1}')
    with pytest.raises(InputError, match="pirce_usd"):
        card_at(tmp_path)


@pytest.mark.parametrize("damaged", ["", '{"name": "critic",', "[1]", "null"])
def test_a_damaged_card_is_refused_with_its_place(tmp_path, damaged):
    (tmp_path / "adapter.json").write_text(damaged)
    with pytest.raises(InputError, match=r"adapter\.json' is no card of an adapter: the file"):
        card_at(tmp_path)
