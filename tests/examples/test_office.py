import hashlib
import json
import subprocess
import sys
from collections import Counter, defaultdict
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from orchestra.agents.inventory_file import read_inventory
from orchestra.benchmarks import Task, read_tasks, score, split_of

OFFICE = Path(__file__).resolve().parents[2] / "examples" / "office"
UNSEEN = (1, 7)


def generate(seed: int, folder: Path) -> Path:
    command = [sys.executable, str(OFFICE / "generate.py"), "--seed", str(seed), "--out", str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Freshly made offices by seed."""
    return {seed: generate(seed, tmp_path_factory.mktemp(f"office-{seed}")) for seed in (0, *UNSEEN)}


@pytest.fixture(params=(0, *UNSEEN))
def folder(request: pytest.FixtureRequest, folders: dict[int, Path]) -> Path:
    return folders[request.param]


def modules_in(folder: Path) -> dict[str, ModuleType]:
    loaded = {}
    for path in sorted(folder.glob("*_tools.py")):
        spec = spec_from_file_location(f"{folder.name}_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        loaded[path.stem] = module_from_spec(spec)
        spec.loader.exec_module(loaded[path.stem])
    return loaded


def components_in(folder: Path) -> list[dict]:
    return yaml.safe_load((folder / "inventory.yaml").read_text())["components"]


def variants(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, tuple[str, ...]]]:
    """Functions by module and skill: the one that works, then the weak ones."""
    monkeypatch.syspath_prepend(str(OFFICE))
    from making.shelf import MODULES

    return MODULES


def test_the_shipped_office_is_the_one_of_seed_0(folders):
    made = {path.name: path.read_text() for path in folders[0].iterdir()}
    assert made == {name: (OFFICE / name).read_text() for name in made}


def test_the_same_seed_makes_the_same_office(folders, tmp_path):
    again = generate(UNSEEN[0], tmp_path)
    assert (again / "FROZEN").read_text() == (folders[UNSEEN[0]] / "FROZEN").read_text()


def test_another_seed_asks_other_questions_about_another_office(folders):
    seen = {task.input for task in read_tasks(folders[0] / "tasks.jsonl")}
    unseen = {task.input for task in read_tasks(folders[UNSEEN[0]] / "tasks.jsonl")}
    assert len(seen & unseen) < 0.05 * len(seen)
    assert modules_in(folders[0])["office_tools"].PEOPLE != modules_in(folders[UNSEEN[0]])["office_tools"].PEOPLE
    calls = [{c["call"] for c in components_in(folders[s]) if c["kind"] == "tool"} for s in (0, UNSEEN[0])]
    assert calls[0] != calls[1]


def test_tasks_inventory_and_tools_are_frozen(folder):
    frozen = dict(reversed(line.split("  ")) for line in (folder / "FROZEN").read_text().splitlines())
    assert frozen == {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in frozen}
    assert {"tasks.jsonl", "inventory.yaml", "numbers_tools.py", "office_tools.py"} <= frozen.keys()


def test_the_shelf_is_full(folder):
    components = components_in(folder)
    assert len(components) >= 120
    assert len({category for component in components for category in component["categories"]}) >= 20
    assert {component["price_usd"] for component in components} == {3, 5, 8}
    assert len(read_inventory(folder / "inventory.yaml").components) == len(components)


def test_every_tool_on_the_shelf_has_its_function(folder):
    modules = modules_in(folder)
    for component in components_in(folder):
        if component["kind"] == "tool":
            module, function = component["call"].split(":")
            assert callable(getattr(modules[module], function))


def test_every_skill_has_as_many_tasks_on_trial_as_held_out(folder):
    tasks = read_tasks(folder / "tasks.jsonl")
    counts = Counter((skill, split_of(task)) for task in tasks for skill in task.skills)
    skills = {skill for skill, _ in counts}
    assert len(tasks) >= 300
    assert len(skills) == 6
    assert all(counts[skill, "trial"] == counts[skill, "heldout"] >= 6 for skill in skills)
    assert len({task.input for task in tasks}) == len(tasks)


def test_a_tool_on_the_shelf_solves_every_task(folder, monkeypatch):
    modules, on_sale = modules_in(folder), {component.get("call") for component in components_in(folder)}
    working = {s: (m, f[0]) for m, skills in variants(monkeypatch).items() for s, f in skills.items()}
    unsolved = []
    for task in read_tasks(folder / "tasks.jsonl"):
        module, function = working[task.skills[0]]
        assert f"{module}:{function}" in on_sale
        if not score(task, getattr(modules[module], function)(task.input)):
            unsolved.append(task.input)
    assert unsolved == []


def test_no_question_contains_its_answer(folder):
    assert [task.input for task in read_tasks(folder / "tasks.jsonl") if contains_answer(task)] == []


def contains_answer(task: Task) -> bool:
    scorer = "regex" if task.scorer == "regex" else "contains"
    return bool(score(task.model_copy(update={"scorer": scorer}), task.input))


def test_tools_keep_silent_on_questions_of_other_skills(folder, monkeypatch):
    modules, loud = modules_in(folder), []
    tasks = read_tasks(folder / "tasks.jsonl")
    for module, skills in variants(monkeypatch).items():
        for skill, functions in skills.items():
            for function in functions:
                tool = getattr(modules[module], function)
                loud += [(function, t.input) for t in tasks if skill not in t.skills and tool(t.input) is not None]
    assert loud == []


def test_weak_tools_fail_where_the_working_one_does_not(folder, monkeypatch):
    modules, tasks = modules_in(folder), defaultdict(list)
    for task in read_tasks(folder / "tasks.jsonl"):
        tasks[task.skills[0]].append(task)
    for module, skills in variants(monkeypatch).items():
        for skill in skills.keys() & tasks.keys():
            for weak in skills[skill][1:]:
                scores = [score(task, getattr(modules[module], weak)(task.input)) for task in tasks[skill]]
                assert sum(scores) < len(scores), weak


def test_some_tools_speak_whatever_is_asked(folder):
    chatter = modules_in(folder)["chatter_tools"]
    tasks = read_tasks(folder / "tasks.jsonl")
    assert all(chatter.motto(task.input) and chatter.guess(task.input) for task in tasks)


def test_broken_tools_break_only_when_they_are_needed(folder):
    modules, seen = modules_in(folder), set()
    questions = [task.input for task in read_tasks(folder / "tasks.jsonl")]
    for component in components_in(folder):
        module, function = component.get("call", "agent:agent").split(":")
        working, _, fault = function.rpartition("_")
        if fault not in {"crash", "rubbish", "flood", "quota", "advice"}:
            continue
        needed = [text for text in questions if getattr(modules[module], working)(text) is not None]
        broken = getattr(modules[module], function)
        assert all(broken(text) is None for text in questions if text not in needed)
        if needed and fault == "crash":
            with pytest.raises(RuntimeError, match="licence"):
                broken(needed[0])
        elif needed:
            assert broken(needed[0]) != getattr(modules[module], working)(needed[0])
        seen.add(fault)
    assert len(seen) >= 4


def test_hanging_tools_are_few_and_have_short_time_limits(folder):
    hanging = [c for c in components_in(folder) if c.get("call", "").endswith("_stuck")]
    assert 1 <= len(hanging) <= 3
    assert all(component["timeout_seconds"] == 1 for component in hanging)


def test_the_first_line_of_the_tasks_states_the_schema_version(folder):
    assert json.loads((folder / "tasks.jsonl").read_text().splitlines()[0]) == {"schema_version": 1}
