"""Every lesson runs, and so does what the README shows."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from graphs.documents import value_from
from orchestra.agents.inventory import Inventory
from orchestra.benchmarks import Task
from orchestra.cli import overview

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def run(*words, cwd):
    return subprocess.run([sys.executable, *map(str, words)], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture
def shop(tmp_path):
    """A small folder with an inventory, its tools and tasks."""
    (tmp_path / "tools.py").write_text(
        "import re\n\n\ndef product(text):\n    found = re.search(r'(\\d+) \\* (\\d+)', text)\n"
        "    return found and f'The answer is {int(found[1]) * int(found[2])}.'\n"
    )
    (tmp_path / "inventory.yaml").write_text(
        "components:\n  - {name: calculator, kind: tool, description: Products, price_usd: 5, call: 'tools:product'}\n"
    )
    tasks = [
        {
            "id": f"t{i}",
            "input": f"What is {i + 11} * {i + 21}?",
            "target": str((i + 11) * (i + 21)),
            "skills": ["sums"],
        }
        | {"skills": ["sums"], "split": ("trial", "heldout")[i % 2]}
        for i in range(8)
    ]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    return tmp_path


@pytest.mark.model
def test_a_team_by_hand_answers(tmp_path):
    ended = run(ROOT / "examples" / "01_run_a_team.py", cwd=tmp_path)
    assert "3965" in ended.stdout, ended.stderr


@pytest.mark.model
def test_composing_in_python_finds_the_calculator(shop):
    ended = run(ROOT / "examples" / "02_compose.py", shop, cwd=shop)
    assert "chosen: calculator for 5 USD" in ended.stdout, ended.stderr


def test_drawing_a_team_writes_a_picture(tmp_path):
    ended = run(ROOT / "examples" / "03_draw_a_team.py", "debate.png", cwd=tmp_path)
    assert ended.stdout.startswith("flowchart"), ended.stderr
    assert (tmp_path / "debate.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.model
def test_the_python_of_the_readme_runs(shop):
    script, _, watching = blocks("python")
    (shop / "script.py").write_text(script)
    ended = run("script.py", cwd=shop)
    assert "3965" in ended.stdout, ended.stderr
    (shop / "watching.py").write_text(watching)
    watched = run("watching.py", cwd=shop)
    for event in ("NodeStarted(", "ToolUsed(", "Token(", "Said(", "Done("):
        assert event in watched.stdout, watched.stderr


def test_the_files_of_the_readme_are_valid():
    (task,), (inventory,) = blocks("json"), blocks("yaml")
    assert value_from(json.loads(task), Task, "README").target == "3965"
    assert len(value_from(yaml.safe_load(inventory), Inventory, "README").components) == 2


def test_the_commands_of_the_readme_are_those_there_are():
    assert overview().strip() in README
