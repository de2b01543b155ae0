"""Lesson 2: let the composer choose.

Shows: composing in Python what `orchestra compose` does on the command line, and reading the certificate. Leaves out:
resuming, search budgets, other composers (`orchestra compose --help`).
"""

import sys
from decimal import Decimal
from pathlib import Path

from composers import Problem, compose
from orchestra.execution import run_sync

OFFICE = Path(__file__).parent / "office"

if __name__ == "__main__":
    budget = Decimal(sys.argv[1] if len(sys.argv) > 1 else 30)
    problem = Problem.read(OFFICE / "tasks.jsonl", OFFICE / "inventory.yaml", budget_usd=budget)
    composition = run_sync(compose(problem, out=Path("team.yaml")))
    print(composition.certificate.verdict)
    print("chosen:", ", ".join(composition.chosen), "for", composition.equipment_usd, "USD")
