"""Similarity by words: what retrieval falls back to where no embedding model is installed.

Source:
    Robertson & Zaragoza 2009, "The Probabilistic Relevance Framework: BM25 and Beyond"; scored by bm25s (Lù 2024,
    arXiv:2407.03618), whose default is Lucene's variant with k1 = 1.5, b = 0.75.

    Deviation: the paper compares embeddings; words that mean the same but are spelled differently do not meet here.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from orchestra.errors import MissingExtra

_WORD = re.compile(r"[a-z0-9]+")
_COMMON = (
    "a an and are as at be by for from has have how if in into is it its of on or s such that the their then there "
    "these this to was what when which who will with"
)
_STOP = frozenset(_COMMON.split())


def words(text: str) -> list[str]:
    """The words that count: lower case, no common ones, a plural `s` cut off.

    >>> words("Converts the lengths of 3 ropes")
    ['convert', 'length', '3', 'rope']
    """
    return [
        word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
        for word in _WORD.findall(text.lower())
        if word not in _STOP
    ]


class Bm25:
    """BM25 as a similarity.

    Raises:
        MissingExtra: bm25s is not installed.
    """

    name = "bm25"

    def __init__(self) -> None:
        try:
            import bm25s  # type: ignore[import-untyped]  # it ships no types
        except ImportError as missing:
            raise MissingExtra("retrieval", "retrieval by words") from missing
        self._library = bm25s

    def __call__(self, queries: Sequence[str], documents: Sequence[str]) -> NDArray[np.float64]:
        """`[queries, documents]` BM25 scores; 0 where no word is shared."""
        corpus = [words(document) or [""] for document in documents]
        known = {word for document in corpus for word in document}
        index = self._library.BM25()
        index.index(corpus, show_progress=False)
        scores = np.zeros((len(queries), len(documents)))
        for row, query in zip(scores, queries, strict=True):
            asked = [word for word in words(query) if word in known]
            if asked:
                row[:] = index.get_scores(asked)
        return scores
