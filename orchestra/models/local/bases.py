"""Base weights as a trainer asks for them: where they lie, which they are, and the ids of a conversation."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestra.models import weights
from orchestra.models.local.loading import dense_folder
from orchestra.models.local.prompts import Prompts
from orchestra.models.protocol import Message


@dataclass(slots=True)
class LocalBase:
    """Base weights on this machine; made by `local_base`."""

    name: str
    folder: Path
    """As transformers opens it."""
    sha256: str
    """Of the weights."""
    _prompts: Prompts | None = None
    _end: int = field(default=-1)

    def prompt_ids(self, messages: Sequence[Any], replies: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
        """Ids of a conversation, the next reply about to begin, as the embedded engine would read it.

        Args:
            messages: with a role and a content each.
            replies: ids of the assistant messages among them, in order; they are kept as they are.
        """
        prompts, given = self._opened(), iter(replies)
        known: list[Message] = []
        for message in messages:
            if message.role == "assistant":
                before = prompts.ids(tuple(known))
                known.append(
                    Message(role="assistant", content=message.content, prompt_token_ids=before, token_ids=next(given))
                )
            else:
                known.append(Message(role=message.role, content=message.content))
        return tuple(prompts.ids(tuple(known)))

    def reply_ids(self, text: str) -> tuple[int, ...]:
        """Ids of a reply that nobody sampled, its end included."""
        return (*self._opened().encode(text), self._end)

    def _opened(self) -> Prompts:
        if self._prompts is None:
            from transformers import AutoTokenizer

            tokenizer: Any = AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
            self._end = int(tokenizer.eos_token_id)
            self._prompts = Prompts(tokenizer, frozenset({self._end}), self.name)
        return self._prompts


def local_base(name: str) -> LocalBase:
    """The base weights that `name` opens, such as `smollm2-135m-instruct` or a folder; `local/` may stand in front.

    Raises:
        orchestra.models.weights.MissingWeights: when they are not here; the message names the command.
        orchestra.errors.InputError: when they are no language model.
    """
    name = name.removeprefix("local/")
    path = weights.path_of(name).resolve()
    return LocalBase(name, dense_folder(path), weights.content_hash(path))
