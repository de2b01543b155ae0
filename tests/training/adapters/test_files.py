import json
import resource

import pytest

from orchestra.errors import InputError
from orchestra.models.cards import card_at
from orchestra.models.local import open_local
from orchestra.models.local.publishing import local_publisher
from orchestra.models.peft_files import defects, inspected
from orchestra.models.serving.probes import Probe
from training.adapters import DiskFull, Lineage, NotPublished, publish, reloaded, save
from training.adapters.files import NotAsSaved, lineage, read

PROBE = tuple(range(3, 40))


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ORCHESTRA_CACHE", str(tmp_path / "cache"))


def test_what_is_saved_is_what_the_runtime_reads(network, base, tmp_path):
    weights = network(base=base.name).weights("player", PROBE)
    lineage = Lineage(base_sha256=base.sha256, recipe="words", runs=("r1",), episodes=("e1", "e2"))
    saved = save(weights, tmp_path / "out", lineage)
    there = inspected(saved.folder, name="player")
    assert defects(there, base.folder) == ()
    assert (there.rank, there.alpha) == (4, 8)
    card = card_at(saved.folder)
    assert (card.served, card.base_sha256, card.runs, card.episode_count) == (
        weights.served,
        base.sha256,
        ("r1",),
        2,
    )
    assert Probe.read(saved.folder / "probe.json").logprobs == weights.logprobs


def test_what_was_saved_is_read_back_bit_by_bit_and_says_the_same(network, tmp_path):
    made = network()
    saved = save(made.weights("player", PROBE), tmp_path / "out", Lineage())
    other = network(seed=3)
    reloaded(saved, saved.weights, other)
    assert other.weights("player", PROBE).version == saved.weights.version


def test_a_file_that_changed_is_noticed_when_it_is_read_back(network, tmp_path):
    made = network()
    saved = save(made.weights("player", PROBE), tmp_path / "out", Lineage())
    other = save(network(seed=3).weights("player", PROBE), tmp_path / "other", Lineage())
    (other.folder / "adapter_model.safetensors").replace(saved.folder / "adapter_model.safetensors")
    with pytest.raises(NotAsSaved, match="--resume saves the adapter again"):
        reloaded(saved, saved.weights, made)


def test_another_adapter_is_never_written_over(network, tmp_path):
    save(network().weights("player", PROBE), tmp_path / "out", Lineage())
    save(network().weights("player", PROBE), tmp_path / "out", Lineage())  # the same one may be
    with pytest.raises(InputError, match="another adapter"):
        save(network(seed=3).weights("player", PROBE), tmp_path / "out", Lineage())


def test_a_full_disk_leaves_nothing_behind(network, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(DiskFull):
            save(network().weights("player", PROBE), tmp_path / "out", Lineage())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_for_another_base_is_not_trained_further(network, tmp_path):
    saved = save(network().weights("player", PROBE), tmp_path / "out", Lineage(base_sha256="ab" * 32))
    with pytest.raises(InputError, match="train it over its own base"):
        read(saved.folder, "cd" * 32)
    tensors, card = read(saved.folder, "ab" * 32)
    assert tensors.keys() == saved.weights.tensors.keys()
    assert json.loads((saved.folder / "adapter.json").read_text()) == card


async def test_the_embedded_engine_computes_what_the_trainer_computed(network, folder, own_cache):
    made = network(base=f"local/{folder}")
    publisher = local_publisher(dtype="float32", threads=1)
    try:
        gap = await publish(publisher, made.weights("player", PROBE), base=made.logprobs(None, PROBE))
    finally:
        await publisher.close()
    assert gap < 1e-4


async def test_a_saved_adapter_is_opened_by_its_folder(network, folder, tmp_path, own_cache):
    saved = save(network(base=str(folder)).weights("player", PROBE), tmp_path / "out", Lineage())
    model = open_local(f"{folder}+{saved.folder}", dtype="float32", threads=1)
    try:
        assert model.name.endswith("out")
    finally:
        await model.close()


async def test_an_adapter_over_other_base_weights_is_refused_and_withdrawn(network, folder, own_cache):
    withdrawn = []

    class Other:
        """A server with the adapter left out."""

        async def publish(self, weights):
            return network().logprobs(None, weights.token_ids)

        async def withdraw(self, served):
            withdrawn.append(served)

    made = network(initial_b=0.5)
    weights = made.weights("player", PROBE)
    with pytest.raises(NotPublished, match="is not published"):
        await publish(Other(), weights, base=made.logprobs(None, PROBE), tolerance_nats=10.0)
    assert withdrawn == [weights.served]


@pytest.mark.parametrize(("price", "read_as"), [("0.0012", "0.0012"), (0.5, "0.5"), (None, None)])
def test_what_a_card_says_its_adapter_cost_is_read_as_an_amount(tmp_path, price, read_as):
    (tmp_path / "adapter.json").write_text(json.dumps({"runs": ["r1"], "price_usd": price}))
    assert lineage(tmp_path) == Lineage(runs=("r1",), price_usd=read_as)


def test_a_card_whose_price_is_no_amount_is_refused_as_a_run_begins(tmp_path):
    (tmp_path / "adapter.json").write_text(json.dumps({"price_usd": "cheap"}))
    with pytest.raises(InputError, match="cheap"):
        lineage(tmp_path)
