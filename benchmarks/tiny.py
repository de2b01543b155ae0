"""A small office in a folder: tools that help, tools that do not, and a scripted model that repeats what it is told."""

import json
from decimal import Decimal
from pathlib import Path

from composers import Problem
from orchestra.execution import Settings

_KINDS = {
    "product": ("Works out products of two numbers", "What is {a} * {b}?", "{a} * {b} = {product}"),
    "reverse": ("Reverses words", "Reverse {word}", "{reversed}"),
    "count": ("Counts the letters of a word", "How many letters has {word}?", "{length}"),
}
_TOOLS = """\
import re


def product(text):
    found = re.search(r"(\\d+) \\* (\\d+)", text)
    return found and f"{found[0]} = {int(found[1]) * int(found[2])}"


def reverse(text):
    found = re.search(r"Reverse (\\w+)", text)
    return found and found[1][::-1]


def count(text):
    found = re.search(r"letters has (\\w+)", text)
    return found and str(len(found[1]))


def mute(text):
    return None


def boom(text):
    raise RuntimeError("no licence")
"""
_RULES = r"""
rules:
  - {match: '(?s)Tool result: [\w.-]+: (.+)\nAnswer:', reply: '\1'}
  - {match: '', reply: no idea}
"""


def tiny_problem(folder: Path, *, use_cache: bool, questions: int = 24) -> Problem:
    """Twelve components, three skills and `questions` tasks of each, half of them held out."""
    (folder / "tools.py").write_text(_TOOLS)
    (folder / "rules.yaml").write_text(_RULES)
    lines = ["components:"]
    for kind, (description, _, _) in _KINDS.items():
        for name, call, price in ((kind, kind, 5), (f"{kind}-dear", kind, 8), (f"{kind}-mute", "mute", 3)):
            lines.append(f'  - {{name: {name}, kind: tool, description: "{description}", price_usd: {price}, ')
            lines[-1] += f'call: "tools:{call}"}}'
        lines.append(f'  - {{name: {kind}-broken, kind: tool, description: "{description}", price_usd: 3, ')
        lines[-1] += 'call: "tools:boom"}'
    (folder / "inventory.yaml").write_text("\n".join(lines) + "\n")
    tasks = []
    for number in range(questions):
        a, b, word = 11 + number, 23 + 2 * number, "abcdefghijklmnopqrstuvwxyz"[number % 20 :] + str(number)
        facts = {"a": a, "b": b, "word": word, "product": a * b, "reversed": word[::-1], "length": len(word)}
        for kind, (_, question, answer) in _KINDS.items():
            split = "trial" if number % 2 else "heldout"
            tasks.append(
                {
                    "id": f"{kind}-{number}",
                    "input": question.format(**facts),
                    "target": answer.format(**facts),
                    "skills": [kind],
                    "split": split,
                }
            )
    (folder / "tasks.jsonl").write_text("".join(json.dumps(task) + "\n" for task in tasks))
    settings = Settings(model=f"scripted/{folder / 'rules.yaml'}", use_cache=use_cache)
    return Problem.read(
        folder / "tasks.jsonl", folder / "inventory.yaml", budget_usd=Decimal(15), settings=settings, similarity="bm25"
    )
