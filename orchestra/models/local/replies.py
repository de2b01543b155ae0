"""Turning sampled ids into text while they arrive: whole characters only, and nothing past a stop string.

Source:
    The two-offset decoding of Hugging Face's text-generation-inference (`decode_token`): decode a short window with and
    without the new ids and keep the difference.
    Deviation: text that might be the beginning of a stop string is held back until it is known.
"""

from collections.abc import Callable, Sequence

UNFINISHED = "\ufffd"
"""What a decoder writes for bytes that are not yet a whole character."""


class ReplyText:
    """The text of one reply under construction.

    Args:
        decode: ids to text, special tokens left out.
        stop: strings that end the reply and are not part of it.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stop: tuple[str, ...] = ()) -> None:
        self._decode = decode
        self._stop = tuple(s for s in stop if s)
        self._longest_stop = max((len(s) for s in self._stop), default=0)
        self._ids: list[int] = []
        self._window_from = 0
        self._read_to = 0
        self._text = ""
        self._told = 0
        self.stopped = False
        """Whether a stop string was written; the text before it is the reply."""

    def push(self, token_id: int) -> str:
        """The text that has become certain with `token_id`; empty while a character or a stop string is open."""
        self._ids.append(token_id)
        before = self._decode(self._ids[self._window_from : self._read_to])
        now = self._decode(self._ids[self._window_from :])
        if len(now) <= len(before) or now.endswith(UNFINISHED):
            return ""
        self._window_from, self._read_to = self._read_to, len(self._ids)
        self._extend(now[len(before) :])
        return self._tell(len(self._text) if self.stopped else len(self._text) - self._open_stop())

    def finish(self) -> str:
        """The text still untold; after it, `text` is the whole reply."""
        if not self.stopped:
            whole = self._decode(self._ids)
            if whole.startswith(self._text):
                self._extend(whole[len(self._text) :])
        return self._tell(len(self._text))

    @property
    def text(self) -> str:
        """The reply so far."""
        return self._text

    def _extend(self, piece: str) -> None:
        search_from = max(0, len(self._text) - self._longest_stop)
        self._text += piece
        found = [at for s in self._stop if (at := self._text.find(s, search_from)) >= 0]
        if found:
            self._text = self._text[: min(found)]
            self.stopped = True

    def _open_stop(self) -> int:
        """Length of the longest end of the text that a stop string begins with."""
        reach = min(self._longest_stop - 1, len(self._text))
        return next((n for n in range(reach, 0, -1) if any(s.startswith(self._text[-n:]) for s in self._stop)), 0)

    def _tell(self, until: int) -> str:
        piece = self._text[self._told : until]
        self._told = max(self._told, until)
        return piece
