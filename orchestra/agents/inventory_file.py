"""How an inventory file becomes an inventory: every mistake in it is told at once, and nothing is imported.

What a component's fields mean is `orchestra.agents.inventory`'s to say; here is what they must agree on.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from graphs import InvalidFile
from graphs.documents import parsed, read_value
from orchestra.agents.inventory import Inventory
from orchestra.errors import InputError
from orchestra.plugins import closest

Components: TypeAlias = Sequence[Mapping[str, Any]]
"""As the file has them: of the right shape, or not."""


_KEYS = {
    "tool": ("call",),
    "agent": ("prompt", "model", "tools", "sampling"),
    "adapter": ("prompt", "sampling", "base", "path", "version", "value"),
}
"""By kind, the keys that not every kind understands."""
_CALL = re.compile(r"[\w.\-]+(:\w+(\.\w+)*)?|mcp:[^/\s]+/\S+")


def read_inventory(path: Path | str) -> Inventory:
    """The inventory in the YAML or JSON file at `path`.

    Raises:
        InputError: when it is missing, malformed or inconsistent; the message lists every mistake.
    """
    path = Path(path)
    try:
        inventory = read_value(path, Inventory, what="inventory")
    except InvalidFile as invalid:
        mistakes = [*invalid.complaints, *mistakes_in(_as_written(path))]
        raise InputError(_told(invalid.where, mistakes)) from invalid
    mistakes = mistakes_in([component.model_dump() for component in inventory.components])
    if inventory.path is not None:
        mistakes.append("path: unknown key 'path'; drop it, a file need not say where it lies")
    if mistakes:
        raise InputError(_told(str(path), mistakes))
    return inventory.model_copy(update={"path": path.absolute()})


def mistakes_in(components: Components | None) -> list[str]:
    """What is wrong with the components together, in rule order; each line names one, and says what to do."""
    if components is None:
        return []
    if not components:
        return ["components: the inventory is empty; list at least one component"]
    return [mistake for rule in RULES for mistake in rule(components)]


def names_are_unique(components: Components) -> Iterator[str]:
    """A name that several components have."""
    counts = Counter(name for component in components if isinstance(name := component.get("name"), str))
    for name, count in counts.items():
        if count > 1:
            yield f"components: {count} components are called {name!r}; give each a name of its own"


def a_tool_has_a_call(components: Components) -> Iterator[str]:
    """A tool that nothing can be called for, or whose `call` is malformed."""
    for place, component in _of_kind(components, "tool"):
        call = component.get("call")
        if not call:
            yield f"{place}: a tool needs a `call`; name its function as module:function, or a plug-in"
        elif isinstance(call, str) and not _CALL.fullmatch(call):
            yield f"{place}.call: {call!r} is neither module:function nor mcp:server/tool nor a plug-in's name"


def an_agent_has_a_prompt(components: Components) -> Iterator[str]:
    """An agent that was given no role."""
    for place, component in _of_kind(components, "agent"):
        if not component.get("prompt"):
            yield f"{place}: an agent needs a `prompt`; write its system prompt"


def an_adapter_has_a_base_that_takes_one(components: Components) -> Iterator[str]:
    """An adapter over a model that is reached by another's interface."""
    for place, component in _of_kind(components, "adapter"):
        base = component.get("base")
        if isinstance(base, str) and not base.startswith(("local/", "vllm/")):
            yield f"{place}.base: {base!r} takes no adapter; name a model as local/NAME or vllm/NAME@URL"


def keys_fit_the_kind(components: Components) -> Iterator[str]:
    """A key that only the other kind of component understands."""
    owners = {key: kind for kind, keys in reversed(_KEYS.items()) for key in keys}
    for kind, own in _KEYS.items():
        for place, component in _of_kind(components, kind):
            for key, owner in owners.items():
                if key not in own and component.get(key):
                    yield f"{place}.{key}: only {_a(owner)} has a `{key}`, this is {_a(kind)}; drop it or change `kind`"


def tools_are_known(components: Components) -> Iterator[str]:
    """An agent's tool that is not a tool of this inventory."""
    kinds = {str(component.get("name")): component.get("kind") for component in components}
    tools = [name for name, kind in kinds.items() if kind == "tool"]
    for place, component in _of_kind(components, "agent"):
        named = component.get("tools")
        for name in named if isinstance(named, list | tuple) else ():
            if name in kinds and kinds[name] != "tool":
                yield f"{place}.tools: {name!r} is not a tool but {_a(str(kinds[name]))}; name tools only"
            elif name not in kinds:
                yield f"{place}.tools: there is no tool {name!r} in this inventory; {closest(str(name), tools)}"


RULES: tuple[Callable[[Components], Iterator[str]], ...] = (
    names_are_unique,
    a_tool_has_a_call,
    an_agent_has_a_prompt,
    an_adapter_has_a_base_that_takes_one,
    keys_fit_the_kind,
    tools_are_known,
)
"""The rule book; every rule sees all components."""


def _of_kind(components: Components, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for position, component in enumerate(components):
        if component.get("kind") == kind:
            name = component.get("name")
            yield f"components[{position}]" + (f" ({name})" if isinstance(name, str) else ""), component


def _a(noun: str) -> str:
    return f"an {noun}" if noun[:1] in "aeiou" else f"a {noun}"


def _as_written(path: Path) -> Components | None:
    """The components of a file that is not a valid inventory, as far as they can be told; `None` when they cannot."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        data = parsed(text, str(path), is_json=path.suffix.lower() == ".json")
    except (OSError, ValueError):
        return None
    components = data.get("components") if isinstance(data, Mapping) else None
    if not isinstance(components, list):
        return None
    return [component if isinstance(component, Mapping) else {} for component in components]


def _told(where: str, mistakes: Sequence[str]) -> str:
    if len(mistakes) == 1:
        return f"{where}: {mistakes[0]}"
    return f"{where}: {len(mistakes)} mistakes" + "".join(f"\n  - {mistake}" for mistake in mistakes)
