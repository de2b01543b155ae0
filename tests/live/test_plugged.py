"""An adapter as training leaves it, plugged into systems that exist: they are not changed, only told another model.

The programs are those of `examples/plug_in`. They run in an environment without Orchestra; a proxy between them and the
real server hears which weights answered.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from composers import compose
from graphs import AgentNode, Sampling
from graphs.motifs import MOTIFS
from graphs.serialisation import read
from orchestra.execution import Settings, run
from orchestra.models import adapters
from orchestra.models.serving import Adapters, Probe, publish
from orchestra.proxy import proxying
from orchestra.traces.episode import Turn
from orchestra.traces.store import Store
from orchestra.traces.summary import run_episodes
from training.adapters import Lineage, Shape, adapted, save
from training.samples import Trained, strands

pytestmark = pytest.mark.live

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE_SECONDS = 300
CALLS = {"debate.py": 3, "autogen_team.py": 2}
"""Of each program for one question."""
QUESTIONS = 2
NAME = "plugged"
"""Of the adapter: a developer's server may hold others."""
TEXT = "The lighthouse keeper climbed the stairs every evening, lit the lamp, and wrote down the state of the sea. " * 2


@dataclass(frozen=True)
class Solver:
    """An adapter on the server."""

    folder: Path
    """As training saved it."""
    served: str


@pytest.fixture(scope="module")
def solver(vllm, network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Solver]:
    """Saved by `training.adapters` with a B that is not zero, and let through the gate by its own probe."""
    shape = Shape(rank=8, alpha=16, targets=("q_proj", "v_proj", "down_proj"), initial_b=0.2)
    made = adapted(network.folder, {NAME: shape}, base=f"local/{vllm.model}", dtype="bfloat16")
    weights = made.weights(NAME, network.tokenizer(TEXT)["input_ids"])
    saved = save(weights, tmp_path_factory.mktemp("trained") / weights.served, Lineage(recipe="a B of random numbers"))

    async def on_server(wanted: bool) -> str:
        server = Adapters(vllm.url, base=vllm.model, root=network.folder)
        try:
            if wanted:
                probe = Probe.read(saved.folder / "probe.json")
                return (await publish(saved.folder, probe, server, name=NAME)).adapter.served
            await server.unload(weights.served)
            return ""
        finally:
            await server.close()

    yield Solver(saved.folder, asyncio.run(on_server(True)))
    asyncio.run(on_server(False))
    shutil.rmtree(adapters.folder() / weights.served)


@pytest.fixture(scope="session")
def apps_python() -> str:
    """The interpreter of an environment with LangGraph and AutoGen, and without Orchestra."""
    python = os.environ.get("ORCHESTRA_APPS_PYTHON")
    if not python:
        pytest.fail("ORCHESTRA_APPS_PYTHON names no interpreter; run `make test-vllm`")
    return python


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """The first of the lesson's tasks."""
    lines = (EXAMPLES / "plug_in" / "tasks.jsonl").read_text().splitlines(keepends=True)
    path = tmp_path / "questions.jsonl"
    path.write_text("".join(lines[:QUESTIONS]))
    return path


def test_the_adapter_is_served_by_the_version_that_its_card_and_the_embedded_engine_know(solver):
    assert solver.served == adapters.found(str(solver.folder)).served == solver.folder.name


async def answered(program: str, model: str, vllm, python: str, questions: Path) -> tuple[dict[str, str], list[Turn]]:
    """What a program answers with a model, and the calls it made of it."""
    store = questions.with_name(f"{program}-{model}.sqlite")
    async with proxying(vllm.url, store=store) as proxy:
        told = {"PATH": os.environ["PATH"], "HOME": str(questions.parent), "MODEL": model}
        told |= {"OPENAI_BASE_URL": proxy.url, "OPENAI_API_KEY": "none"}
        child = await asyncio.create_subprocess_exec(
            python,
            str(EXAMPLES / "plug_in" / program),
            str(questions),
            env=told,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            said, complained = await asyncio.wait_for(child.communicate(), PATIENCE_SECONDS)
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        assert child.returncode == 0, complained.decode()
    with Store.open(store, read_only=True) as opened:
        turns = [turn for episode in run_episodes(opened, proxy.run_id) for turn in episode.turns]
    return {line["id"]: line["answer"] for line in map(json.loads, said.splitlines())}, turns


@pytest.mark.parametrize("program", CALLS)
async def test_a_program_that_knows_nothing_of_us_wears_it(vllm, solver, apps_python, questions, program):
    plain, by_base = await answered(program, vllm.model, vllm, apps_python, questions)
    worn, by_adapter = await answered(program, solver.served, vllm, apps_python, questions)
    assert len(by_base) == len(by_adapter) == QUESTIONS * CALLS[program]
    assert {turn.model for turn in by_base} == {vllm.model}
    assert {turn.model for turn in by_adapter} == {solver.served}
    assert all(turn.trainable for turn in by_adapter)
    assert set(worn.values()) <= {turn.reply for turn in by_adapter}
    assert worn.keys() == plain.keys()
    assert worn != plain  # both decode greedily
    assert {turn.reply for turn in by_adapter} != {turn.reply for turn in by_base}


def debate(model: str, judge: str | None = None):
    sides = [AgentNode(id=name, role=f"You are the {name} side.") for name in ("affirmative", "negative")]
    head = AgentNode(id="judge", role="Judge the debate.", model=judge)
    return MOTIFS["debate"](sides, head=head, model=model, sampling=Sampling(temperature=0, max_tokens=16))


async def test_our_debate_records_name_and_version_and_ids_to_learn_from(vllm, solver, tmp_path):
    team = debate(f"vllm/{vllm.model}+{NAME}@{vllm.url}")
    episode = await run(team, "What is 9 + 5?", store=tmp_path / "store.sqlite")
    assert episode.error is None
    assert episode.seats[0].adapters == (solver.served,)
    assert len(episode.turns) == 5
    for turn in episode.turns:
        assert (turn.adapter, turn.model, turn.trainable) == (solver.served, solver.served, True)
        assert len(turn.reply_token_ids) == len(turn.logprobs) == turn.usage.output_tokens
    read = strands([episode], [Trained(agent="solver", adapters=(NAME,))], breaks="cut")
    assert sum(strand.trained for strand in read.strands) == sum(len(turn.reply_token_ids) for turn in episode.turns)


async def test_one_agent_of_a_debate_wears_it_and_the_others_do_not(vllm, solver, tmp_path):
    team = debate(vllm.name, judge=adapters.over(vllm.name, solver.served))
    episode = await run(team, "What is 9 + 5?", store=tmp_path / "store.sqlite")
    worn = {transcript.node: {turn.adapter for turn in transcript.turns} for transcript in episode.transcripts}
    assert worn == {"affirmative": {None}, "negative": {None}, "judge": {solver.served}}


async def test_an_inventory_with_it_composes_into_a_team_that_runs(vllm, solver, tmp_path):
    said = {"name": NAME, "kind": "adapter", "description": "Sums", "price_usd": 3, "path": str(solver.folder)}
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(json.dumps({"components": [said | {"base": vllm.name}]}))
    task = {"target": "0", "scorer": "numeric", "skills": ["sums"]}
    tasks = [task | {"id": s, "input": f"What is {n} + 4?", "split": s} for n, s in ((2, "trial"), (3, "heldout"))]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(one) + "\n" for one in tasks))
    out, store = tmp_path / "team.yaml", tmp_path / "store.sqlite"
    made = await compose(
        tmp_path / "tasks.jsonl",
        inventory,
        budget_usd=5,
        composer="offline-knapsack",
        similarity="bm25",
        settings=Settings(model=vllm.name, use_cache=True),
        out=out,
        store=store,
    )
    assert made.chosen == (NAME,)
    assert read(out).nodes[0].model == adapters.over(vllm.name, solver.served)
    episode = await run(out, "What is 9 + 5?", store=store)
    assert [(turn.adapter, turn.trainable) for turn in episode.turns] == [(solver.served, True)]


def test_the_lesson_compares_all_three_systems_with_their_base_in_pairs(vllm, solver, apps_python, questions, tmp_path):
    one = tmp_path / "one.jsonl"
    one.write_text(questions.read_text().splitlines()[0] + "\n")
    words = [EXAMPLES / "07_plug_in.py", solver.folder, "--server", vllm.url, "--python", apps_python]
    words += ["--tasks", one, "--out", tmp_path / "plugged"]
    ended = subprocess.run(
        [sys.executable, *map(str, words)], capture_output=True, text=True, timeout=PATIENCE_SECONDS, cwd=tmp_path
    )
    assert ended.returncode == 0, ended.stderr
    ours, *foreign = ended.stdout.split("\n\n")
    assert ours.count("points") == 2
    assert [part.split()[0] for part in foreign] == list(CALLS)
    for part in foreign:
        assert vllm.model in part
        assert solver.served in part
        assert "difference" in part
