import pytest

from composers.knapsack.similarity import best_similarity
from orchestra.errors import InputError
from orchestra.models.weights import MissingWeights, path_of


def test_retrieval_falls_back_to_words_where_no_embedding_model_is(tmp_path, monkeypatch):
    pytest.importorskip("bm25s", reason="the retrieval extra")
    monkeypatch.setenv("ORCHESTRA_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    name, similarity = best_similarity()
    assert name == "bm25"
    assert similarity(["multiply"], ["multiply", "divide"]).argmax() == 0


@pytest.mark.model
def test_embeddings_find_what_is_meant_in_other_words():
    pytest.importorskip("sentence_transformers", reason="the embeddings extra")
    try:
        path_of("all-minilm-l6-v2")
    except MissingWeights as missing:
        pytest.skip(str(missing))
    name, similarity = best_similarity()
    documents = ["calculator: adds and multiplies", "weather: tells if it rains", "calendar: weekdays of dates"]
    scores = similarity(["product of two figures", "will I need an umbrella", "what day is Christmas"], documents)
    assert name == "all-minilm-l6-v2"
    assert scores.argmax(axis=1).tolist() == [0, 1, 2]
    assert similarity(documents, documents).diagonal() == pytest.approx([1, 1, 1], abs=1e-5)


def test_a_folder_without_a_model_names_the_command_that_brings_it(tmp_path):
    pytest.importorskip("sentence_transformers", reason="the embeddings extra")
    from composers.knapsack.embeddings import Embeddings

    with pytest.raises(InputError, match="orchestra models pull all-minilm-l6-v2"):
        Embeddings(tmp_path)
