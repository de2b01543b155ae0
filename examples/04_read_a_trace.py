"""Lesson 4: read what happened.

Shows: a run in the store as an episode, turn by turn: who was asked what, what was said, how many tokens that took, and
whether the turn can be trained on. Needs no weights: a scripted model repeats what it hears. Leaves out: the command
line (`orchestra traces show`), export to a collector, and learning from it (lesson 6).
"""

from pathlib import Path

from graphs import AgentNode
from graphs.motifs import MOTIFS
from orchestra.execution import run, run_sync
from orchestra.traces.store import Store
from orchestra.traces.summary import run_episodes

STORE = Path("lesson.sqlite")
members = [AgentNode(id=name, role=f"You speak {name}.") for name in ("first", "second")]
team = MOTIFS["chain"](members, model="scripted/echo")

if __name__ == "__main__":
    played = run_sync(run(team, "Good morning.", store=STORE))
    with Store.open(STORE, read_only=True) as store:
        (episode,) = run_episodes(store, played.run_id)
    assert episode == played, "what `run` returns is what the store holds"
    for transcript in episode.transcripts:
        for turn in transcript.turns:
            print(f"{transcript.node} ({turn.model}) heard {turn.messages[-1].content!r}, said {turn.reply!r}")
            usage = turn.usage
            print(f"  {usage.input_tokens} tokens in, {usage.output_tokens} out; trainable: {turn.trainable}")
    print(f"{episode.output!r} for {episode.paid_usd:f} USD")
