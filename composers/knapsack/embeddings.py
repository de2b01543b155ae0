"""Similarity by sentence embeddings; the only module that loads sentence-transformers, which loads torch.

Source:
    Reimers & Gurevych 2019, "Sentence-BERT", arXiv:1908.10084; Wang et al. 2020, "MiniLM", arXiv:2002.10957. Weights:
    all-MiniLM-L6-v2.

    Deviation: the knapsack paper (arXiv:2510.16499) embeds with BGE-Large-EN-v1.5.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from orchestra.errors import InputError, MissingExtra

try:
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging as library_logging
except ImportError as missing:
    raise MissingExtra("embeddings", "retrieval by embeddings") from missing

WEIGHTS = "all-minilm-l6-v2"
"""The name these weights are pulled by."""


class Embeddings:
    """Cosine similarity of sentence embeddings, on the CPU; every text is embedded once.

    Args:
        folder: a sentence-transformers model on this machine; nothing is downloaded.

    Raises:
        InputError: the folder holds no such model.
    """

    name = WEIGHTS

    def __init__(self, folder: Path) -> None:
        if not (folder / "modules.json").is_file():
            raise InputError(
                f"{str(folder)!r} is no sentence-transformers folder (no modules.json): orchestra models pull {WEIGHTS}"
            )
        with _quiet():
            self._model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        self._known: dict[str, NDArray[np.float32]] = {}

    def __call__(self, queries: Sequence[str], documents: Sequence[str]) -> NDArray[np.float64]:
        """`[queries, documents]` cosines."""
        unknown = [text for text in dict.fromkeys([*queries, *documents]) if text not in self._known]
        if unknown:
            vectors = self._model.encode(
                unknown, batch_size=32, normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False
            )
            self._known.update(zip(unknown, np.asarray(vectors, dtype=np.float32), strict=True))
        left = np.stack([self._known[text] for text in queries]).astype(np.float64)
        right = np.stack([self._known[text] for text in documents]).astype(np.float64)
        return np.asarray(left @ right.T)


@contextmanager
def _quiet() -> Iterator[None]:
    """Weights of 90 MB load in a blink; a second progress bar would only tear the caller's."""
    was_on = library_logging.is_progress_bar_enabled()
    library_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers has no types here
    try:
        yield
    finally:
        if was_on:
            library_logging.enable_progress_bar()  # type: ignore[no-untyped-call]  # transformers has no types here
