"""Which similarity retrieval uses here: embeddings where they are installed and pulled, else BM25."""

from importlib.util import find_spec

from composers.knapsack.skills import Similarity
from orchestra.errors import InputError, MissingExtra
from orchestra.models.weights import path_of

WEIGHTS = "all-minilm-l6-v2"


def similarity_for(wanted: str) -> str:
    """`embeddings` or `bm25`, without loading either.

    Args:
        wanted: one of the two, or `auto` for embeddings where they are installed and pulled, else BM25.

    Raises:
        MissingExtra: it is not installed.
        InputError: there is no such similarity, or its weights were not pulled.
    """
    if wanted not in ("auto", "embeddings", "bm25"):
        raise InputError(f"there is no similarity {wanted!r}; choose auto, embeddings or bm25")
    if wanted != "bm25" and find_spec("sentence_transformers") is not None:
        try:
            path_of(WEIGHTS)
        except InputError:
            if wanted == "embeddings":
                raise
        else:
            return "embeddings"
    if wanted == "embeddings" or find_spec("bm25s") is None:
        raise MissingExtra("embeddings", "retrieval")
    return "bm25"


def best_similarity(wanted: str = "auto") -> tuple[str, Similarity]:
    """The name of the similarity, and the similarity.

    Args:
        wanted: as `similarity_for` takes it.

    Raises:
        MissingExtra: it is not installed.
        InputError: there is no such similarity, or its weights were not pulled.
    """
    if similarity_for(wanted) == "embeddings":
        from composers.knapsack.embeddings import Embeddings

        return Embeddings.name, Embeddings(path_of(WEIGHTS))
    from composers.knapsack.bm25 import Bm25

    return "bm25", Bm25()
