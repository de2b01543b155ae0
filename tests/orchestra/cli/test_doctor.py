import json

import pytest

from orchestra.cli import main
from orchestra.cli.doctor import API_KEYS, cached_models, examine, extras, import_names
from orchestra.models import weights


def found(findings, section):
    return {finding.name: finding for finding in findings if finding.section == section}


@pytest.fixture
def no_keys(monkeypatch):
    for name in API_KEYS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ORCHESTRA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_key_is_named_and_never_shown(monkeypatch, no_keys, empty_cache, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    with pytest.raises(SystemExit):
        main(["doctor", "--quick"])
    said = capsys.readouterr().out
    assert "OPENAI_API_KEY" in said
    assert "very-secret" not in said


def test_json_is_one_document_with_every_finding(no_keys, empty_cache, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--quick", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert (ended.value.code, report["problems"]) == (0, 0)
    sections = {finding["section"] for finding in report["findings"]}
    assert sections == {"machine", "extras", "import names", "API keys", "store", "models"}


def test_a_missing_extra_comes_with_the_line_that_brings_it():
    for finding in extras():
        assert finding.status == "ok" or f"pip install 'orchestra-mas[{finding.name}]'" in finding.detail


def test_our_own_import_names_are_ours():
    assert all(finding.status == "ok" for finding in import_names())


def test_another_package_of_our_name_is_a_problem(tmp_path, monkeypatch):
    (tmp_path / "graphs").mkdir()
    (tmp_path / "graphs" / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    graphs = found(import_names(), "import names")["graphs"]
    assert graphs.status == "problem"
    assert str(tmp_path / "graphs") in graphs.detail


def test_a_store_that_is_no_database_is_a_problem(tmp_path, empty_cache):
    (tmp_path / "rubbish.sqlite").write_text("not a database, whatever its name says" * 100)
    store = found(examine(store=str(tmp_path / "rubbish.sqlite"), quick=True), "store")["traces"]
    assert store.status == "problem"


def test_a_store_that_is_not_there_yet_is_none_and_is_not_made(tmp_path, empty_cache):
    store = found(examine(store=str(tmp_path / "new.sqlite"), quick=True), "store")["traces"]
    assert store.status == "absent"
    assert not (tmp_path / "new.sqlite").exists()


def test_an_empty_cache_names_the_command_that_fills_it(empty_cache):
    assert "orchestra models pull" in found(cached_models(quick=False), "models")["local"].detail


def test_embeddings_are_not_asked_to_talk(empty_cache):
    folder = empty_cache / "models" / "all-minilm-l6-v2"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"architectures": ["BertModel"]}')
    assert "not asked" in found(cached_models(quick=False), "models")["all-minilm-l6-v2"].detail


@pytest.mark.filterwarnings("default")  # whatever transformers says about a file that is none
def test_weights_that_do_not_load_are_a_problem_and_the_rest_goes_on(empty_cache):
    pytest.importorskip("torch")
    folder = empty_cache / "models" / "broken"
    folder.mkdir(parents=True)
    (folder / "broken.gguf").write_bytes(b"GGUF and then nothing")
    assert found(cached_models(quick=False), "models")["local/broken"].status == "problem"


@pytest.mark.model
def test_the_embedded_model_answers():
    name = "smollm2-135m-instruct"
    if not any(model.name == name for model in weights.installed()):
        pytest.skip("not pulled")
    assert found(cached_models(quick=False), "models")[f"local/{name}"].status == "ok"
