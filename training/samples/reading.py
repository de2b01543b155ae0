"""Episodes to strands: the very ids and log-probabilities that were sampled; nothing is tokenised again.

Turns of one node at one seat whose prompts each begin with everything before are one sequence. Where they do not, the
conversation was rendered anew in between: an error, unless the caller chooses to cut there.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from orchestra.errors import InputError
from orchestra.traces.episode import Episode, Transcript, Turn
from orchestra.traces.succession import Continuity, continuity
from training.samples.record import Span, Strand, Strands
from training.samples.selection import Teaching, Trained, first_of

NAMELESS = "agent"
"""Name of the agent that learns when the caller names none."""


class NotTrainable(InputError):
    """A turn was not captured with token ids and log-probabilities, so nothing can be learnt from it."""


class ContinuityBroken(InputError):
    """A prompt does not begin with what was read and sampled before.

    Attributes:
        turn: position of the turn in its transcript.
        position: first token of its prompt that differs.
    """

    def __init__(self, message: str, turn: int, position: int | None) -> None:
        super().__init__(message)
        self.turn, self.position = turn, position

    def __reduce__(self) -> tuple[type["ContinuityBroken"], tuple[str, int, int | None]]:
        return type(self), (str(self), self.turn, self.position)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    teaching: Teaching
    breaks: Literal["refuse", "cut"]
    without_ids: Literal["refuse", "skip"]
    longest_tokens: int | None
    skipped: Counter[str]


def strands(
    episodes: Sequence[Episode],
    trained: Sequence[Trained] | Teaching = (),
    *,
    breaks: Literal["refuse", "cut"] = "refuse",
    without_ids: Literal["refuse", "skip"] = "refuse",
    longest_tokens: int | None = None,
) -> Strands:
    """The sequences to train on.

    Args:
        episodes: failed ones teach as well, as far as they went; leave out what should not.
        trained: which agent learns from which turns, the first that fits; empty trains one agent on all.
        breaks: what to do where a prompt does not continue its transcript: an error, or a new strand from there.
        without_ids: what to do with a turn that was not captured: an error, or a counted skip.
        longest_tokens: strands of more are a counted skip; `None` means any length. They are in no baseline either
            (`training.samples.credit_rows` is given what is left), so where games that drag on go badly the others are
            compared with too high a mean.

    Raises:
        ContinuityBroken: naming the turn and the position, when `breaks` is `"refuse"`.
        NotTrainable: naming the turn, when `without_ids` is `"refuse"`.
    """
    rules: Teaching = trained if callable(trained) else first_of(trained or (Trained(agent=NAMELESS),))
    reader = _Reader(
        teaching=rules, breaks=breaks, without_ids=without_ids, longest_tokens=longest_tokens, skipped=Counter()
    )
    found = tuple(
        strand
        for episode in episodes
        for transcript in episode.transcripts
        for strand in _of_transcript(episode, transcript, reader)
    )
    return Strands(found, dict(reader.skipped))


def _of_transcript(episode: Episode, transcript: Transcript, reader: _Reader) -> Iterator[Strand]:
    agents = [reader.teaching(episode, transcript, turn) for turn in transcript.turns]
    if not any(agents):
        return
    places = [at for at in range(len(agents)) if _is_captured(episode, transcript, at, agents[at], reader)]
    if not places:
        return
    turns = [transcript.turns[at] for at in places]
    piece = 0
    for stretch in _stretches(episode, transcript, turns, places, reader.breaks):
        for agent in sorted({name for at in stretch if (name := agents[places[at]]) is not None}):
            members = [(places[at], turns[at]) for at in stretch if agents[places[at]] == agent]
            strand = _strand(episode, transcript, agent, members, piece)
            if reader.longest_tokens is not None and len(strand.token_ids) > reader.longest_tokens:
                reader.skipped[f"longer than {reader.longest_tokens} tokens"] += len(members)
                continue
            yield strand
            piece += 1


def _is_captured(episode: Episode, transcript: Transcript, at: int, agent: str | None, reader: _Reader) -> bool:
    """Whether the turn is part of a sequence; a turn that is needed and is not captured is an error or counted."""
    turn = transcript.turns[at]
    reason: str | None = None
    if turn.error is not None:
        reason = "failed"
    elif not turn.trainable:
        reason = "redacted" if turn.redacted else "without token ids"
    elif not turn.reply_token_ids:
        reason = "empty reply"
    if reason is None:
        return True
    if agent is None:
        return False
    if reason in ("redacted", "without token ids") and reader.without_ids == "refuse":
        why = "was redacted" if turn.redacted else "was not captured with token ids and log-probabilities"
        raise NotTrainable(
            f"{_place(episode, transcript, at)} {why}, and tokenising its text again would train on ids nobody "
            "sampled; ask its server for token ids, leave the turn out by node, model or adapter, or skip such turns "
            "(`--set steps.without_ids=skip`)"
        )
    reader.skipped[reason] += 1
    return False


def _stretches(
    episode: Episode, transcript: Transcript, turns: Sequence[Turn], places: Sequence[int], breaks: str
) -> Sequence[Sequence[int]]:
    followed: Continuity = continuity(turns)
    for step in followed.steps:
        # Several samples of one request have the same prompt; none of them was read back, so nothing drifted.
        is_sibling = turns[step.turn].prompt_token_ids == turns[step.turn - 1].prompt_token_ids
        if step.kind == "continues" or breaks == "cut" or is_sibling:
            continue
        earlier = "the reply sampled before it" if step.kind == "drifts" else "the prompt before it"
        raise ContinuityBroken(
            f"{_place(episode, transcript, places[step.turn])}: its prompt differs from {earlier} at position "
            f"{step.at}, so the conversation was rendered anew; keep the transcript's ids (`memory: transcript`), or "
            "cut there and train on strands of their own",
            places[step.turn],
            step.at,
        )
    return followed.stretches


def _place(episode: Episode, transcript: Transcript, at: int) -> str:
    return f"turn {at} of node {transcript.node!r}, seat {transcript.seat}, episode {episode.episode_id!r}"


def _strand(
    episode: Episode, transcript: Transcript, agent: str, members: Sequence[tuple[int, Turn]], piece: int
) -> Strand:
    last = members[-1][1]
    ids = (*(last.prompt_token_ids or ()), *(last.reply_token_ids or ()))
    spans: list[Span] = []
    logprobs: list[float] = []
    for at, turn in members:
        prompt, reply, known = turn.prompt_token_ids or (), turn.reply_token_ids or (), turn.logprobs or ()
        if not prompt or len(known) != len(reply):
            raise NotTrainable(
                f"{_place(episode, transcript, at)} has {len(prompt)} prompt ids, {len(reply)} reply ids and "
                f"{len(known)} log-probabilities; a prompt is needed, and one log-probability for each reply id"
            )
        spans.append(_span(at, turn, len(prompt), len(reply)))
        logprobs.extend(known)
    return Strand(
        agent=agent,
        episode_id=episode.episode_id,
        run_id=episode.run_id,
        seat=transcript.seat,
        node=transcript.node,
        token_ids=np.array(ids, dtype=np.int64),
        spans=tuple(spans),
        logprobs=np.array(logprobs, dtype=np.float64),
        piece=piece,
    )


def _span(at: int, turn: Turn, start: int, tokens: int) -> Span:
    how = turn.sampling
    # Unrecorded means the servers' own default. A greedy turn's log-probabilities are of the undivided, whole softmax.
    temperature = 1.0 if how.temperature is None else how.temperature
    is_greedy = temperature == 0.0
    return Span(
        turn=at,
        start=start,
        end=start + tokens,
        temperature=1.0 if is_greedy else temperature,
        top_p=1.0 if is_greedy or how.top_p is None else how.top_p,
        top_k=0 if is_greedy or how.top_k is None else max(how.top_k, 0),
        adapter=turn.adapter,
        span_id=turn.span_id,
    )
