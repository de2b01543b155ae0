"""What an adapter among the components makes of a team."""

import numpy as np
import pytest

from composers.knapsack.assembly import OUTPUT, assemble, single_agent
from graphs import AgentNode
from graphs.validation import problems
from orchestra.agents.inventory import Component, Inventory
from orchestra.errors import InputError
from orchestra.models import adapters

BASE = "local/tiny"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache with two versions of an adapter and another one."""
    monkeypatch.setenv("ORCHESTRA_CACHE", str(tmp_path / "cache"))
    for name, version in (("critic", "1"), ("actor", "1")):
        written(name, version)
    return tmp_path / "cache"


def written(name, version):
    tensors = {f"base_model.model.q.lora_{half}.weight": np.ones((2, 2)) for half in "AB"}
    return adapters.write(name, version, tensors, rank=2, alpha=4.0, base="tiny", rslora=False)


def component(name, kind="adapter", price=3, **fields):
    return Component(name=name, kind=kind, description=f"{name} does it", price_usd=price, **fields)


def team(*chosen, model=BASE, motif="star"):
    return assemble(chosen, Inventory(components=chosen), model=model, motif=motif)


def nodes(graph):
    return {node.id: node for node in graph.nodes}


def test_the_agent_that_answers_runs_with_a_chosen_adapter_and_bears_its_price():
    graph = team(component("critic"))
    (node,) = graph.nodes
    assert (node.id, node.model, node.component, node.price_usd) == ("critic", "local/tiny+critic@1", "critic", 3)
    assert graph.output == "critic"
    assert not problems(graph)


def test_tools_speak_to_the_agent_with_the_adapter():
    graph = team(component("critic"), component("sums", "tool", call="tools:add"))
    assert [(channel.source, channel.target) for channel in graph.channels] == [("sums", "critic")]


def test_an_adapter_with_a_prompt_is_an_agent_of_its_own():
    graph = team(component("critic", prompt="You find mistakes."))
    critic, head = nodes(graph)["critic"], nodes(graph)[OUTPUT]
    assert (critic.role, critic.model) == ("You find mistakes.", "local/tiny+critic@1")
    assert head.model is None
    assert not problems(graph)


def test_of_several_the_most_valuable_answers_and_the_others_speak_to_it():
    graph = team(component("critic", value=0.1), component("actor", value=0.4))
    assert graph.output == "actor"
    assert nodes(graph)["critic"].model == "local/tiny+critic@1"
    assert sum(node.price_usd for node in graph.nodes) == 6


@pytest.mark.parametrize("motif", ["star", "vote", "debate", "relay", "solo"])
def test_any_shape_takes_adapters(motif):
    graph = team(component("critic"), component("actor"), component("one", "agent", prompt="Think."), motif=motif)
    assert not problems(graph)
    models = {node.model for node in graph.nodes if isinstance(node, AgentNode)}
    assert {"local/tiny+critic@1", "local/tiny+actor@1"} <= models


def test_the_single_agent_of_equal_equipment_runs_with_it_too():
    chosen = (component("critic"), component("sums", "tool", call="tools:add"))
    (node,) = single_agent(chosen, Inventory(components=chosen), model=BASE).nodes
    assert node.model == "local/tiny+critic@1"
    assert [tool.name for tool in node.tools] == ["sums"]


@pytest.mark.parametrize(
    ("base", "model"),
    [
        ("local/other", "local/other+critic@1"),
        ("vllm/tiny@http://127.0.0.1:8000", "vllm/tiny+critic@1@http://127.0.0.1:8000"),
    ],
)
def test_an_adapter_may_name_its_base(base, model):
    assert team(component("critic", base=base)).nodes[0].model == model


def test_an_adapter_at_a_path_is_copied_and_called_by_its_version(cache, tmp_path):
    written("judge", "7").path.rename(tmp_path / "judge@7")
    inventory = Inventory(components=(component("judge", path="judge@7"),), path=tmp_path / "inventory.yaml")
    graph = assemble(inventory.components, inventory, model=BASE)
    assert graph.nodes[0].model == "local/tiny+judge@7"
    assert (cache / "adapters" / "judge@7").is_dir()


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"version": "2"}, "not here in version '2'"), ({"path": "nowhere"}, "no LoRA adapter|no adapter")],
)
def test_an_adapter_that_is_not_there_is_refused(fields, words):
    with pytest.raises(InputError, match=words):
        team(component("critic", **fields))


def test_an_adapter_over_nothing_is_refused():
    with pytest.raises(InputError, match="says no `base`"):
        team(component("critic"), model=None)
