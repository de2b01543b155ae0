"""Lesson 2: let the composer choose.

Shows: composing in Python what `orchestra compose` does on the command line, and reading the certificate. Takes the
folder of an inventory and its tasks, else the office beside it, for which it needs some minutes. Leaves out: resuming,
search budgets, other composers (`orchestra compose --help`).
"""

import sys
from decimal import Decimal
from pathlib import Path

from composers import Problem, compose
from orchestra.execution import run_sync

if __name__ == "__main__":
    office = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "office"
    problem = Problem.read(office / "tasks.jsonl", office / "inventory.yaml", budget_usd=Decimal(30))
    composition = run_sync(compose(problem, out=Path("team.yaml")))
    print(composition.certificate.verdict)
    print("chosen:", ", ".join(composition.chosen), "for", composition.equipment_usd, "USD")
