"""Lesson 5: write a component.

Shows: a tool is a function from text to text, or to nothing where it has nothing to say; an inventory gives it a
description and a price; and in a team it speaks to an agent. Writes `tools.py` and `inventory.yaml` to the folder it is
started in. Needs no weights: a scripted model repeats what the tool said. Leaves out: choosing among components (lesson
2), agents and adapters as components, and tools of an MCP server.
"""

from pathlib import Path

from graphs import AgentGraph, AgentNode, Channel, Tool, ToolNode
from orchestra.agents.inventory_file import read_inventory
from orchestra.execution import run, run_sync

TOOL = r'''
import re


def percent(text):
    """A share of an amount."""
    found = re.search(r"(\d+) ?% of (\d+)", text)
    return found and f"{int(found[1]) * int(found[2]) / 100:g}"
'''
INVENTORY = """
components:
  - name: percent
    kind: tool
    description: Shares of amounts in per cent
    price_usd: 3
    call: tools:percent
"""

if __name__ == "__main__":
    here = Path.cwd()
    (here / "tools.py").write_text(TOOL.lstrip())
    (here / "inventory.yaml").write_text(INVENTORY.lstrip())
    (component,) = read_inventory(here / "inventory.yaml").components
    print(f"{component.name}: {component.description}, for {component.price_usd} USD")
    assert component.call is not None, "an inventory with a tool that has none is refused"
    team = AgentGraph(
        name="teller",
        model="scripted/echo",
        nodes=(
            ToolNode(id=component.name, tool=Tool(name=component.name, call=component.call)),
            AgentNode(id="teller", layout="{messages}"),
        ),
        channels=(Channel(source=component.name, target="teller"),),
        output="teller",
    )
    episode = run_sync(run(team, "What is 15 % of 80?", folder=here, store=here / "lesson.sqlite"))
    print(episode.output)
