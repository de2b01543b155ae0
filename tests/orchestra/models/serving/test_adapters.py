"""Adapters on disk and on a server: versions, defects, copies nobody writes to."""

import contextlib
import os

import pytest

from orchestra.errors import InputError
from orchestra.models.cards import Card
from orchestra.models.serving import Adapters
from orchestra.models.serving.adapters import defects, inspected, snapshot
from orchestra.models.serving.record import Record
from orchestra.testing import FaultyServer


def test_a_sound_adapter_has_no_defects(adapter_at, folder):
    assert defects(inspected(adapter_at(), name="critic"), folder) == ()


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"rank": 0}, "its rank is 0"),
        ({"alpha": 0}, "its alpha is 0"),
        ({"filled": 0.0}, "every B matrix is zero"),
        ({"filled": float("nan")}, "infinite or not numbers"),
        ({"inputs": 16}, "another base"),
        ({"rank": 4}, "another base"),
        ({"config": {"r": None}}, "its rank is 0"),
    ],
)
def test_what_makes_an_adapter_useless_is_said_before_a_server_sees_it(adapter_at, folder, made, words):
    assert any(words in defect for defect in defects(inspected(adapter_at(**made), name="critic"), folder))


def test_every_defect_is_reported_at_once(adapter_at, folder):
    adapter = inspected(adapter_at(alpha=0, filled=0.0, inputs=16), name="critic")
    assert len(defects(adapter, folder)) == 3


def test_a_layer_the_base_has_not_is_named(adapter_at, tmp_path):
    (tmp_path / "empty").mkdir()
    assert any("'model.q_proj'" in d for d in defects(inspected(adapter_at(), name="critic"), tmp_path / "empty"))


def test_other_weights_are_another_version(adapter_at):
    first = inspected(adapter_at("one"), name="critic")
    second = inspected(adapter_at("two", filled=0.25), name="critic")
    assert first.served != second.served
    assert inspected(adapter_at("three"), name="critic").served == first.served


def test_the_copy_stays_when_the_trainer_writes_the_next_step(adapter_at, own_cache):
    adapter = snapshot(inspected(adapter_at("one"), name="critic"))
    adapter_at("one", filled=0.75)
    assert adapter.path.is_relative_to(own_cache)
    assert inspected(adapter.path, name="critic").version == adapter.version
    assert inspected(adapter_at("one", filled=0.75), name="critic").version != adapter.version


@pytest.mark.parametrize("name", ["critic@1", "a+b", ""])
def test_a_name_that_could_not_be_asked_for_is_refused(adapter_at, name):
    with pytest.raises(InputError, match="has no '@' and no"):
        inspected(adapter_at(), name=name)


def test_a_folder_that_is_no_adapter_is_refused_with_what_was_expected(tmp_path):
    with pytest.raises(InputError, match=r"adapter_config\.json"):
        inspected(tmp_path, name="critic")


async def test_two_versions_of_a_name_stand_beside_each_other_and_go_apart(adapter_at, folder, own_cache):
    async with FaultyServer(model="tiny") as server:
        control = Adapters(server.url.removesuffix("/v1"), base="tiny", root=folder)
        first = await control.load(adapter_at("one"), name="critic")
        second = await control.load(adapter_at("one", filled=0.25), name="critic")
        assert set(await control.loaded()) == {first.served, second.served}
        assert await control.load(adapter_at("one"), name="critic") == first  # there already: not loaded twice
        await control.unload(first.served)
        assert set(await control.loaded()) == {second.served}
        await control.close()


async def test_an_adapter_with_a_card_is_served_by_the_version_that_the_card_says(adapter_at, folder, own_cache):
    path = adapter_at("trained")
    Card(name="player", version="step-40", base="local/tiny").write(path)
    async with FaultyServer(model="tiny") as server:
        control = Adapters(server.url.removesuffix("/v1"), base="tiny", root=folder)
        loaded = await control.load(path, name="critic")
        assert loaded.served == "critic@step-40"
        assert await control.loaded() == {"critic@step-40": str(loaded.path)}
        await control.close()


@pytest.mark.parametrize(("trained_over", "fits"), [("", True), ("a" * 64, True), ("b" * 64, True), ("c" * 64, False)])
async def test_an_adapter_over_other_weights_is_refused_though_every_shape_fits(
    adapter_at, folder, own_cache, trained_over, fits
):
    path = adapter_at("trained")
    Card(name="critic", version="1", base="local/tiny", base_sha256=trained_over).write(path)
    async with FaultyServer(model="tiny") as server:
        url = server.url.removesuffix("/v1")
        Record(
            url=url, model="tiny", root=str(folder), weights_sha256="a" * 64, packed_sha256="b" * 64, dtype="float32",
            device="d", threads=1, tools=False, processed_logprobs=True, pid=os.getpid(), started_at="now",
        ).write()  # fmt: skip
        control = Adapters(url, base="tiny", root=folder)
        refused = pytest.raises(InputError, match=r"weights cccccccccccc…, and the server's 'tiny' has b{12}… or a{12}")
        with contextlib.nullcontext() if fits else refused:
            await control.load(path, name="critic")
        await control.close()
    assert set(server.adapters) == ({"critic@1"} if fits else set())


async def test_a_defective_adapter_never_reaches_the_server(adapter_at, folder, own_cache):
    async with FaultyServer(model="tiny") as server:
        control = Adapters(server.url.removesuffix("/v1"), base="tiny", root=folder)
        with pytest.raises(InputError, match="alpha is 0"):
            await control.load(adapter_at(alpha=0), name="critic")
        await control.close()
    assert server.adapters == {}
