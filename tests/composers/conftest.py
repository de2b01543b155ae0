import json
from pathlib import Path

import pytest

INVENTORY = """\
components:
  - {name: calculator, kind: tool, description: Works out products, price_usd: 5, call: "tools:product"}
  - {name: calculator-twin, kind: tool, description: Works out products too, price_usd: 6, call: "tools:product"}
  - {name: calculator-broken, kind: tool, description: Works out products fast, price_usd: 3, call: "tools:boom"}
  - {name: reverser, kind: tool, description: Reverses words, price_usd: 3, call: "tools:backwards"}
  - {name: mute, kind: tool, description: Reverses words quietly, price_usd: 3, call: "tools:mute"}
"""
TOOLS = """\
import re

def product(text):
    found = re.search(r"(\\d+) \\* (\\d+)", text)
    return found and f"{found[0]} = {int(found[1]) * int(found[2])}"

def boom(text):
    raise RuntimeError("no licence")

def backwards(text):
    found = re.search(r"Reverse (\\w+)", text)
    return found and found[1][::-1]

def mute(text):
    return None
"""


@pytest.fixture
def office(tmp_path: Path) -> Path:
    """A folder with an inventory, its tools and tasks of two skills."""
    (tmp_path / "inventory.yaml").write_text(INVENTORY)
    (tmp_path / "tools.py").write_text(TOOLS)
    rows = []
    for i in range(16):
        split = "trial" if i % 2 else "heldout"
        a, b, word = 11 + i, 23 + 2 * i, "abcdefghijklmnop"[i:] + "xy"
        rows.append({"id": f"m{i}", "input": f"What is {a} * {b}?", "target": str(a * b), "skills": ["products"]})
        rows.append({"id": f"r{i}", "input": f"Reverse {word}", "target": word[::-1], "skills": ["reversal"]})
        for row in rows[-2:]:
            row["split"] = split
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "rules.yaml").write_text(
        "rules:\n"
        "  - {match: '(?s)Tool result: [\\w.-]+: (.+)\\nAnswer:', reply: '\\1'}\n"
        "  - {match: '', reply: no idea}\n"
    )
    return tmp_path
