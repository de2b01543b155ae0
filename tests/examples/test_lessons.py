"""Every lesson runs, and so does what the README shows."""

import json
import re
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import yaml

from graphs.documents import value_from
from orchestra.agents.inventory import Inventory
from orchestra.benchmarks import Task, read_tasks
from orchestra.cli import overview
from orchestra.models import adapters
from orchestra.models.local import prepare
from orchestra.models.serving import safetensors
from orchestra.models.weights import path_of

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
TASKS = EXAMPLES / "plug_in" / "tasks.jsonl"
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


def test_a_trace_is_read_turn_by_turn(tmp_path):
    ended = run(EXAMPLES / "04_read_a_trace.py", cwd=tmp_path)
    assert "first (scripted/echo) heard 'Good morning.', said 'Good morning.'" in ended.stdout, ended.stderr
    assert "2 out; trainable: True" in ended.stdout


def test_a_component_is_written_and_speaks_in_a_team(tmp_path):
    ended = run(EXAMPLES / "05_write_a_component.py", cwd=tmp_path)
    assert ended.stdout.splitlines() == ["percent: Shares of amounts in per cent, for 3 USD", "percent: 12"], (
        ended.stderr
    )


LITTLE = ("steps.count=2", "steps.episodes=4", "warmup.steps=1", "warmup.episodes=4")
LAST_REWARD = re.compile(r"last step: kuhn-poker/0 ([-+]\d+\.\d+) \(([-+]\d+\.\d+) to")


@pytest.mark.parametrize("changes", [LITTLE, pytest.param((), marks=pytest.mark.slow)], ids=["little", "whole"])
def test_training_in_one_call_tells_its_rewards_and_where_the_adapter_lies(tmp_path, changes):
    ended = run(EXAMPLES / "06_train.py", *changes, cwd=tmp_path)
    assert "first step: kuhn-poker/0 " in ended.stdout, ended.stderr
    assert LAST_REWARD.search(ended.stdout)
    (place,) = re.findall(r"^player: player@\w+ in (.+)$", ended.stdout, re.MULTILINE)
    assert Path(place).is_relative_to(tmp_path)
    assert adapters.found(place).card.recipe == "tiny"


@pytest.fixture
def strange(tmp_path, monkeypatch):
    """Folder of an adapter over the embedded model that learned nothing, and changes what it says."""
    shapes = safetensors.shapes(prepare(path_of("smollm2-135m-instruct")))
    rng, tensors = np.random.default_rng(0), {}
    for name, (outputs, inputs) in ((n, s) for n, s in shapes.items() if n.endswith("down_proj.weight")):
        layer = f"base_model.model.{name.removesuffix('.weight')}"
        tensors[f"{layer}.lora_A.weight"] = rng.normal(0, 0.02, (4, inputs)).astype(np.float32)
        tensors[f"{layer}.lora_B.weight"] = rng.normal(0, 0.3, (outputs, 4)).astype(np.float32)
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("ORCHESTRA_CACHE", str(tmp_path / "cache"))
        base = "smollm2-135m-instruct"
        made = adapters.write("solver", "1", tensors, rank=4, alpha=8.0, base=base, rslora=False)
    return made.path


@pytest.mark.model
def test_an_adapter_is_plugged_into_a_debate_and_compared_with_its_base(tmp_path, strange):
    few = tmp_path / "few.jsonl"
    few.write_text("".join(TASKS.read_text().splitlines(keepends=True)[:2]))
    ended = run(EXAMPLES / "07_plug_in.py", strange, "--tasks", few, cwd=tmp_path)
    assert "orchestra evaluate base.yaml trained.yaml trained-judge.yaml" in ended.stdout, ended.stderr
    assert len(re.findall(r"points", ended.stdout)) == 2
    worn = yaml.safe_load((tmp_path / "plugged" / "trained.yaml").read_text())["model"]
    assert worn == f"local/smollm2-135m-instruct+{strange}"


@pytest.mark.model
@pytest.mark.slow
def test_without_an_adapter_one_is_made_that_is_better_than_its_base(tmp_path):
    ended = run(EXAMPLES / "07_plug_in.py", cwd=tmp_path)
    (first, last) = map(float, re.findall(r"\d+\.\d+", ended.stdout.splitlines()[0]))
    assert last < first / 3, ended.stderr
    (low,) = re.findall(r"2: trained .*?\((\S+) to", " ".join(ended.stdout.split()))
    assert float(low) > 0, ended.stdout


def test_what_the_teacher_shows_is_never_asked_later():
    lesson = imported(EXAMPLES / "07_plug_in.py")
    asked = {task.input for task in read_tasks(TASKS)}
    shown = lesson.questions(lesson.random.Random(0), 200, asked)
    assert (len(asked), len(shown)) == (40, 200)
    assert not asked & set(shown)
    for reply in shown.values():
        a, sign, b, _, result = reply.split()
        assert int(result) == int(a) + (int(b) if sign == "+" else -int(b))


def test_the_reasoning_set_is_what_reasoning_gym_makes():
    gym = pytest.importorskip("reasoning_gym")
    tasks = read_tasks(EXAMPLES / "plug_in" / "reasoning.jsonl")
    kinds = ("basic_arithmetic", "chain_sum", "gsm_symbolic", "leg_counting", "number_sequence")
    made = [entry for kind in kinds for entry in gym.create_dataset(kind, size=20, seed=0)]
    assert [(entry["question"].strip(), entry["answer"]) for entry in made] == [
        (task.input, task.target) for task in tasks
    ]


def test_programs_that_are_plugged_into_know_nothing_of_orchestra():
    for program in ("debate.py", "autogen_team.py"):
        text = (EXAMPLES / "plug_in" / program).read_text()
        assert not re.search(r"^\s*(import|from) (orchestra|graphs|training|composers)", text, re.MULTILINE)


def imported(path):
    """A lesson as a module; its name begins with a number."""
    spec = spec_from_file_location(f"lesson_{path.stem}", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
    (task,), (inventory, trained) = blocks("json"), blocks("yaml")
    assert value_from(json.loads(task), Task, "README").target == "3965"
    assert len(value_from(yaml.safe_load(inventory), Inventory, "README").components) == 2
    (adapter,) = value_from({"components": yaml.safe_load(trained)}, Inventory, "README").components
    assert adapter.kind == "adapter"


def test_the_commands_of_the_readme_are_those_there_are():
    assert overview().strip() in README
