"""Lesson 3: look at a team.

Shows: a motif, its mermaid text and its picture. Leaves out: running it. Needs no model; the picture needs the extra
`draw`.
"""

import sys
from pathlib import Path

from graphs import AgentNode
from graphs.drawing import figure, mermaid
from graphs.motifs import MOTIFS

debaters = [AgentNode(id=name, role=f"Argue {name} the motion.") for name in ("for", "against")]
team = MOTIFS["debate"](debaters, head=AgentNode(id="judge", role="Say who was right, and why."), rounds=2)

if __name__ == "__main__":
    print(mermaid(team))
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "debate.png")
    figure(team, out)
    print("wrote", out)
