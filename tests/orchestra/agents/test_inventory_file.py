import json

import pytest

from orchestra.agents.inventory_file import read_inventory
from orchestra.errors import InputError

GOOD = """
schema_version: 1
name: office
components:
  - {name: calculator, kind: tool, description: Works out sums., price_usd: 3, call: "tools:add", categories: [sums]}
  - {name: broken.clock-2, kind: tool, description: Tells the time., price_usd: 0.1, call: clock}
  - {name: expert, kind: agent, description: Knows sums., price_usd: 5, prompt: You know sums., tools: [calculator]}
"""

BAD = """
name: office
components:
  - {name: calculator, kind: tool, description: Works out sums., price_usd: -3, call: "tools:add"}
  - {name: calculator, kind: tool, description: Again., price_usd: 3, call: "a:b:c"}
  - {name: clock, kind: tool, description: Tells the time., price_usd: 3, pric_usd: 4}
  - {name: expert, kind: agent, description: Knows sums., price_usd: 5, tools: [calculater, expert]}
  - {name: odd, kind: tool, description: Odd., price_usd: 5, call: "tools:odd", prompt: Hello.}
"""


def written(folder, text, name="inventory.yaml"):
    path = folder / name
    path.write_text(text)
    return path


def test_an_inventory_is_read_and_knows_where_it_came_from(tmp_path):
    path = written(tmp_path, GOOD)
    inventory = read_inventory(path)
    assert [component.name for component in inventory.components] == ["calculator", "broken.clock-2", "expert"]
    assert inventory.path == path
    assert inventory.components[1].price_usd * 10 == 1


def test_every_mistake_is_told_at_once(tmp_path):
    with pytest.raises(InputError) as caught:
        read_inventory(written(tmp_path, BAD))
    message = str(caught.value)
    for mistake in (
        "inventory.yaml: 9 mistakes",
        "components[0] (calculator).price_usd: must be greater than or equal to 0; got -3",
        "unknown key 'pric_usd'; did you mean 'price_usd'?",
        "2 components are called 'calculator'; give each a name of its own",
        "components[1] (calculator).call: 'a:b:c' is neither module:function nor",
        "components[2] (clock): a tool needs a `call`",
        "components[3] (expert): an agent needs a `prompt`",
        "components[3] (expert).tools: there is no tool 'calculater' in this inventory; did you mean 'calculator'?",
        "components[3] (expert).tools: 'expert' is not a tool but an agent",
        "components[4] (odd).prompt: only an agent has a `prompt`, this is a tool",
    ):
        assert mistake in message


def test_what_components_must_agree_on_is_told_when_each_is_well_formed(tmp_path):
    text = GOOD.replace("tools: [calculator]", "tools: [calculater]")
    with pytest.raises(
        InputError, match=r"inventory.yaml: components\[2\] \(expert\).tools: .* did you mean 'calculator'"
    ):
        read_inventory(written(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("i.yaml", "components: []", "the inventory is empty"),
        ("i.yaml", "name: x", "components: is required"),
        ("i.yaml", f"{GOOD}path: elsewhere\n", "unknown key 'path'"),
        ("i.yaml", "components: 5", "must be a list"),
        ("i.yaml", "components: [5]", "must be a mapping"),
        ("i.yaml", "", "is empty"),
        ("i.yaml", "a: [", "line 2, column 1: is not YAML"),
        ("i.json", "[]", "must be a mapping"),
        ("i.toml", "a = 1", "unknown suffix"),
        ("i.json", json.dumps({"components": [], "schema_version": 99}), "newer than this program"),
    ],
)
def test_a_file_of_another_kind_is_one_clear_error(tmp_path, name, text, message):
    with pytest.raises(InputError, match=message):
        read_inventory(written(tmp_path, text, name))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"absent.yaml: no such inventory file"):
        read_inventory(tmp_path / "absent.yaml")


def test_reading_imports_nothing(tmp_path):
    written(tmp_path, "raise SystemExit('imported')", "tools.py")
    assert read_inventory(written(tmp_path, GOOD)).components


ADAPTERS = """
components:
  - {name: critic, kind: adapter, description: Criticises, price_usd: 3, base: local/tiny, version: "1", value: 0.2}
  - {name: actor, kind: adapter, description: Acts., price_usd: 0, path: adapters/actor, prompt: You act.}
"""

BAD_ADAPTERS = """
components:
  - {name: critic, kind: adapter, description: Finds mistakes., price_usd: 3, base: openai/gpt, call: "a:b"}
  - {name: sums, kind: tool, description: Adds., price_usd: 3, call: "a:b", version: "1"}
  - {name: one, kind: agent, description: Thinks., price_usd: 3, prompt: Think., path: somewhere}
"""


def test_adapters_are_components(tmp_path):
    critic, actor = read_inventory(written(tmp_path, ADAPTERS)).components
    assert (critic.kind, critic.base, critic.version, critic.value) == ("adapter", "local/tiny", "1", 0.2)
    assert (actor.path, actor.prompt, actor.base) == ("adapters/actor", "You act.", None)


def test_every_mistake_of_an_adapter_is_told(tmp_path):
    with pytest.raises(InputError) as caught:
        read_inventory(written(tmp_path, BAD_ADAPTERS))
    for mistake in (
        "4 mistakes",
        "components[0] (critic).base: 'openai/gpt' takes no adapter; name a model as local/NAME or vllm/NAME@URL",
        "components[0] (critic).call: only a tool has a `call`, this is an adapter",
        "components[1] (sums).version: only an adapter has a `version`, this is a tool",
        "components[2] (one).path: only an adapter has a `path`, this is an agent",
    ):
        assert mistake in str(caught.value)
