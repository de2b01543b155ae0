"""Whether token ids that others sampled mean to the base what they meant to their sampler.

Recorded turns may be of any model, and ids of another tokenizer would be learnt from without complaint. Nothing is
tokenised to be trained on: the words of a few turns are, to see whether their ids are among those that were recorded.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from orchestra.errors import InputError
from orchestra.traces.episode import Episode, Turn
from training.samples import Teaching
from training.seams import Base

LOOKED_AT = 8
"""Turns of each model whose words are compared."""
ENOUGH = 32
"""Ids of words that a verdict needs."""
SAME_SHARE = 0.5
"""Least share of the ids that must be found: of the same tokenizer nearly all are, of another hardly any."""


class OtherTokenizer(InputError):
    """Turns were sampled by a model that reads text with other tokens than the base."""


@dataclass(slots=True)
class _Compared:
    turns: int = 0
    ids: int = 0
    found: int = 0


@dataclass(slots=True)
class Tokens:
    """Looks at what is learnt from, before it is."""

    base: Base
    name: str
    """Of the base, for messages."""
    vocabulary: int
    """Ids that the base knows."""
    teaching: Teaching
    _models: dict[str, _Compared] = field(default_factory=dict)

    def check(self, episodes: Sequence[Episode]) -> None:
        """Refuse turns to be learnt from whose ids the base would misread.

        Raises:
            OtherTokenizer: naming the turn, or its model.
        """
        for episode, where, turn in self._taught(episodes):
            highest = max((*(turn.prompt_token_ids or ()), *(turn.reply_token_ids or ())), default=0)
            if highest >= self.vocabulary:
                raise OtherTokenizer(
                    f"{where}, episode {episode.episode_id!r}, has token id {highest} and {self.name!r} knows "
                    f"{self.vocabulary:,}: {turn.model!r} sampled it with another tokenizer; {_ADVICE}"
                )
            compared = self._models.setdefault((turn.model or "").partition("+")[0], _Compared())
            if compared.turns < LOOKED_AT:
                self._compare(compared, turn)
        for model, compared in self._models.items():
            if compared.ids >= ENOUGH and compared.found < SAME_SHARE * compared.ids:
                raise OtherTokenizer(
                    f"turns of {model!r} were sampled with another tokenizer than that of {self.name!r}: of "
                    f"{compared.ids} ids that this one has for their words {compared.found} are among theirs; {_ADVICE}"
                )

    def _taught(self, episodes: Sequence[Episode]) -> Iterator[tuple[Episode, str, Turn]]:
        for episode in episodes:
            for transcript in episode.transcripts:
                for at, turn in enumerate(transcript.turns):
                    if turn.trainable and self.teaching(episode, transcript, turn) is not None:
                        yield episode, f"turn {at} of node {transcript.node!r}, seat {transcript.seat}", turn

    def _compare(self, compared: _Compared, turn: Turn) -> None:
        known = {*(turn.prompt_token_ids or ()), *(turn.reply_token_ids or ())}
        compared.turns += 1
        for text in (*(message.content for message in turn.messages), turn.reply or ""):
            words = self.base.reply_ids(text)[:-1] if text else ()
            compared.ids += len(words)
            compared.found += sum(word in known for word in words)


_ADVICE = "train over the base that sampled it, or leave it out by model, node or adapter"
