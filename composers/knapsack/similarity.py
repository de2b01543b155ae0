"""Which similarity retrieval uses here: embeddings where they are installed and pulled, else BM25."""

from importlib.util import find_spec

from composers.knapsack.skills import Similarity
from orchestra.errors import InputError, MissingExtra


def best_similarity() -> tuple[str, Similarity]:
    """The name of the similarity, and the similarity.

    Raises:
        MissingExtra: neither is installed.
    """
    if find_spec("sentence_transformers") is not None:
        from orchestra.models.weights import path_of

        try:
            folder = path_of("all-minilm-l6-v2")
        except InputError:
            pass  # installed, but its weights were not pulled: words will do
        else:
            from composers.knapsack.embeddings import Embeddings

            return Embeddings.name, Embeddings(folder)
    if find_spec("bm25s") is None:
        raise MissingExtra("embeddings", "retrieval")
    from composers.knapsack.bm25 import Bm25

    return "bm25", Bm25()
