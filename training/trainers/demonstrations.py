"""Replies that nobody sampled, with the ids a model would have: what a warm-up imitates.

Everywhere else ids are those that were sampled. A demonstration was written by a program or a person, so its ids are
made here, once, by the tokenizer and chat template that the engine reads prompts with.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from orchestra.traces.episode import Episode, Transcript, Turn
from training.samples import Strand, Strands, Trained, strands
from training.seams import Base


def demonstrated(episodes: Iterable[Episode], base: Base) -> tuple[Episode, ...]:
    """`episodes` whose replies carry ids, and log-probabilities of zero, since nothing was drawn."""
    return tuple(
        episode.model_copy(
            update={"transcripts": tuple(_written(transcript, base) for transcript in episode.transcripts)}
        )
        for episode in episodes
    )


def demonstrations(episodes: Iterable[Episode], base: Base, agents: Iterable[str], longest_tokens: int) -> Strands:
    """Strands of every demonstration for every agent, and what was left out."""
    written = demonstrated(episodes, base)
    found: list[Strand] = []
    skipped: Counter[str] = Counter()
    for agent in agents:
        read = strands(written, [Trained(agent=agent)], without_ids="skip", breaks="cut", longest_tokens=longest_tokens)
        found += read.strands
        skipped.update(read.skipped)
    return Strands(strands=tuple(found), skipped=dict(skipped))


def texts(episodes: Iterable[Episode]) -> list[str]:
    """Everything that was said to a model or by it, each text once: what a small tokenizer is learnt from."""
    found: dict[str, None] = {}
    for episode in episodes:
        for turn in episode.turns:
            found |= dict.fromkeys(message.content for message in turn.messages)
            found[turn.reply or ""] = None
    return [text for text in found if text]


def _written(transcript: Transcript, base: Base) -> Transcript:
    turns: list[Turn] = []
    replies: list[tuple[int, ...]] = []
    for turn in transcript.turns:
        if turn.reply is None or turn.error is not None or turn.redacted:
            turns.append(turn)
            continue
        ids = base.reply_ids(turn.reply)
        update = {
            "prompt_token_ids": base.prompt_ids(turn.messages, _said_before(turn, replies, base)),
            "reply_token_ids": ids,
            "logprobs": (0.0,) * len(ids),
        }
        turns.append(turn.model_copy(update=update))
        replies.append(ids)
    return transcript.model_copy(update={"turns": tuple(turns)})


def _said_before(turn: Turn, replies: Sequence[tuple[int, ...]], base: Base) -> list[tuple[int, ...]]:
    """Ids of the replies that the turn was sent: those of its own transcript, or for want of them made anew."""
    said = [message.content for message in turn.messages if message.role == "assistant"]
    if len(said) <= len(replies):
        return list(replies[len(replies) - len(said) :])
    return [base.reply_ids(text) for text in said]
