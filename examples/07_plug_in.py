"""Lesson 7: trained agents in a system that exists.

Shows: one adapter behind three systems that are not changed for it, each compared with its base in pairs on the same 40
questions. A debate of ours (`graphs.motifs`) by `orchestra evaluate`; and with `--server`, a debate in LangGraph and a
team in AutoGen, which know nothing of Orchestra and read a model's name from the environment. Leaves out: learning by
playing (lesson 6). Without an adapter of yours, one is made in about a minute on two quiet cores, by
imitating a teacher: a program whose answers to other questions are recorded first.

    python examples/07_plug_in.py [ADAPTER]
    orchestra serve smollm2-135m-instruct --port 8000 --adapter solver=ADAPTER
    python examples/07_plug_in.py ADAPTER --server http://127.0.0.1:8000 --python PYTHON
    python examples/07_plug_in.py ADAPTER --tasks examples/plug_in/reasoning.jsonl --reply-tokens 96

`PYTHON` is the interpreter of an environment with `langgraph langchain-openai autogen-agentchat autogen-ext[openai]`.
`reasoning.jsonl` holds the first 20 questions of each of five data sets of reasoning-gym, made with seed 0 and nothing
else changed: whether what was learnt by playing helps to reason is asked there, of any adapter.
Teams, adapter and store are written to the folder `plugged`, or to the one that `--out` names.
"""

import argparse
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from graphs import AgentGraph, AgentNode, Sampling
from graphs.motifs import MOTIFS
from graphs.serialisation import write
from orchestra.benchmarks import Task, read_tasks, score
from orchestra.evaluation import Arm, Outcome, compare, success_interval
from orchestra.execution import answer, run_sync
from orchestra.models.adapters import found, over
from orchestra.models.serving import Adapters
from orchestra.models.serving.publishing import admitted
from training.recipes import read
from training.trainers import train

HERE = Path(__file__).parent / "plug_in"
PROGRAMS = ("debate.py", "autogen_team.py")
BASE = "smollm2-135m-instruct"
SHORT = Sampling(temperature=0.0, max_tokens=32)
"""Of the teacher; teams may say more (`--reply-tokens`)."""
SIDES = {
    "affirmative": "You open a debate. Answer the question in one short sentence that ends with the number.",
    "negative": "You reply in a debate. Check the other side, and answer in one sentence that ends with the number.",
}
JUDGE = "You judge a debate. Give the right answer in one short sentence that ends with the number."
NAMES, THINGS = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn"), ("apples", "books", "coins", "stamps")


def debate(model: str, sampling: Sampling, *, judge: str | None = None) -> AgentGraph:
    """Affirmative, negative and judge, all with `model`, or the judge with one of its own."""
    sides = [AgentNode(id=name, role=role) for name, role in SIDES.items()]
    head = AgentNode(id="judge", role=JUDGE, model=judge)
    return MOTIFS["debate"](sides, head=head, model=model, sampling=sampling, rounds=2)


def questions(rng: random.Random, count: int, asked: Collection[str]) -> dict[str, str]:
    """Questions with the answers a teacher gives, none of which is `asked` later."""
    shown: dict[str, str] = {}
    while len(shown) < count:
        name, things, a, b = rng.choice(NAMES), rng.choice(THINGS), rng.randint(2, 40), rng.randint(2, 12)
        sum_of, rest = f"{a} + {b} = {a + b}", f"{a + b} - {b} = {a}"
        question, reply = rng.choice(
            (
                (f"What is {a} + {b}?", sum_of),
                (f"{name} has {a} {things} and buys {b} more. How many {things} does {name} have?", sum_of),
                (f"{name} has {a + b} {things} and gives {b} away. How many {things} are left?", rest),
            )
        )
        if question not in asked:
            shown[question] = reply
    return shown


def taught(folder: Path, tasks: Sequence[Task]) -> Path:
    """Folder of an adapter that imitates the teacher, whose run is recorded and then learnt from."""
    shown = questions(random.Random(0), 200, {task.input for task in tasks})
    script = folder / "teacher.json"
    script.write_text(json.dumps([{"match": f"^{re.escape(said)}", "reply": reply} for said, reply in shown.items()]))
    agent = AgentNode(id="teacher", role="You answer with one calculation.")
    teacher = MOTIFS["solo"]([agent], name="teacher", model=f"scripted/{script}", sampling=SHORT)
    store = folder / "orchestra.sqlite"
    run_sync(answer(teacher, [Task(id=said, input=said) for said in shown], store=store))
    trained = run_sync(train(read(HERE / "solver.toml"), store=store, folder=folder))
    assert trained is not None, "this is one process"
    print(f"loss of imitation {trained.curve[0]['loss']:.2f} at first, {trained.curve[-1]['loss']:.2f} at last")
    return trained.adapters["solver"].folder


def evaluated(base: str, trained: str, given: argparse.Namespace, folder: Path) -> None:
    """Our debate on the base, with the adapter, and with the adapter at the judge alone, by `orchestra evaluate`."""
    how = Sampling(temperature=0.0, max_tokens=given.reply_tokens)
    teams = {"base": debate(base, how), "trained": debate(trained, how)}
    teams["trained-judge"] = debate(base, how, judge=trained)
    for name, team in teams.items():
        write(team, folder / f"{name}.yaml")
    words = ["evaluate", *(f"{name}.yaml" for name in teams), "--tasks", str(given.tasks.resolve())]
    words += ["--store", "orchestra.sqlite"]
    words += ["--call-seconds", "900"]  # 64 calls at once wait for each other on a CPU, longest with an adapter
    print("$ orchestra", *words, flush=True)
    subprocess.run([sys.executable, "-m", "orchestra", *words], cwd=folder, check=True)


async def served(adapter: Path, server: str) -> str:
    """What the adapter is called on the server; it is loaded there, through the gate where its trainer left a probe."""
    there = Adapters(server, base=BASE)
    try:
        return (await admitted(adapter, there, name=found(str(adapter)).name)).served
    finally:
        await there.close()


def answers(program: str, model: str, given: argparse.Namespace) -> dict[str, str]:
    """What somebody else's program answers, by task; the environment alone says which model it asks."""
    told = {**os.environ, "OPENAI_BASE_URL": f"{given.server}/v1", "OPENAI_API_KEY": "none", "MODEL": model}
    told["MAX_TOKENS"] = str(given.reply_tokens)
    command = [given.python, HERE / program, given.tasks]
    ended = subprocess.run(command, env=told, stdout=subprocess.PIPE, text=True, check=True)
    return {line["id"]: line["answer"] for line in map(json.loads, ended.stdout.splitlines())}


def arm(name: str, tasks: Sequence[Task], said: Mapping[str, str]) -> Arm:
    """A program's answers, scored as our own teams' are."""

    def outcome(task: Task) -> Outcome:
        reply = said.get(task.id)  # nobody's ledger saw what it cost
        points = score(task, reply)
        return Outcome(task_id=task.id, score=points, reply=reply, list_nano=0, paid_nano=0, latency_seconds=0.0)

    return Arm.of(name, map(outcome, tasks))


def show(program: str, base: Arm, trained: Arm) -> None:
    """Two arms with their intervals, and the paired difference."""
    print(f"\n{program}")
    for each in (base, trained):
        rate = success_interval(each.scores)
        print(f"  {each.name:40} {rate.mean:6.1%}   95 % interval {rate.low:.1%} to {rate.high:.1%}")
    pair = compare(trained, base)
    gap = pair.difference
    print(f"  difference {100 * gap.mean:+.1f} points ({100 * gap.low:+.1f} to {100 * gap.high:+.1f}), ", end="")
    print(f"{pair.wins} better, {pair.losses} worse, {pair.ties} equal")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("adapter", nargs="?", type=Path)
    parser.add_argument("--server", type=lambda url: url.rstrip("/").removesuffix("/v1"))
    parser.add_argument("--python", default=os.environ.get("ORCHESTRA_APPS_PYTHON", sys.executable))
    parser.add_argument("--tasks", type=Path, default=HERE / "tasks.jsonl")
    parser.add_argument("--reply-tokens", type=int, default=SHORT.max_tokens)
    parser.add_argument("--out", type=Path, default=Path("plugged"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    folder, tasks = given.out.resolve(), read_tasks(given.tasks)
    adapter = (given.adapter or taught(folder, tasks)).resolve()
    print(f"adapter: {adapter}", flush=True)
    if given.server is None:
        evaluated(f"local/{BASE}", over(f"local/{BASE}", str(adapter)), given, folder)
    else:
        name = run_sync(served(adapter, given.server))
        model = f"vllm/{BASE}@{given.server}"
        evaluated(model, over(model, name), given, folder)
        for program in PROGRAMS:
            show(program, *(arm(each, tasks, answers(program, each, given)) for each in (BASE, name)))
