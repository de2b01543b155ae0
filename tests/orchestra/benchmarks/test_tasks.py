import json

import pytest

from orchestra.benchmarks import Task, of_split, read_tasks, split_of, tasks_hash
from orchestra.benchmarks.tasks import check_ids
from orchestra.errors import InputError

GOOD = """{"schema_version": 1}
{"id": "t1", "input": "61 * 65?", "target": "3965", "scorer": "numeric", "skills": ["arithmetic"], "split": "trial"}

{"id": "t2", "input": "Grüße\u2028?", "target": "5"}
{"id": "t3", "input": "Say something."}
"""

BAD = """{"id": "t1", "input": "a", "target": "5"}
{"id": "t1", "input": "a", "target": "5"}
{"id": "t2", "input": "a", "target": "five", "scorer": "numeric"}
{"id": "t3", "input": "a", "target": "5", "scorer": "numerics"}
{"id": "t4", "input": "a", "targt": "5"}
{"id": "t5", "input": "a", "target": "(", "scorer": "regex"}
{"id": "t6", "input": "a", "scorer": "exact"}
{"id": "t7", "input": "a", "target": "5", "split": "test"}
{"id": "t8", "input": "a", "target": 5}
{"id": "t9", "input": "a", "input": "b"}
{"input": ""}
[1]
{"id": "t10", "input": "a"
"""


def written(folder, text):
    path = folder / "tasks.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def test_tasks_are_read_line_by_line(tmp_path):
    tasks = read_tasks(written(tmp_path, GOOD))
    assert [task.id for task in tasks] == ["t1", "t2", "t3"]
    assert tasks[0] == Task(
        id="t1", input="61 * 65?", target="3965", scorer="numeric", skills=("arithmetic",), split="trial"
    )
    assert (tasks[1].scorer, tasks[1].skills, tasks[1].split) == ("contains", (), None)


def test_every_mistake_is_told_at_once_with_its_line(tmp_path):
    with pytest.raises(InputError) as caught:
        read_tasks(written(tmp_path, BAD))
    message = str(caught.value)
    for mistake in (
        "tasks.jsonl: 13 mistakes",
        "line 2: id 't1' is that of line 1; give each task an id of its own",
        "line 3: scorer 'numeric' needs a number as target, got 'five'",
        "line 4: unknown scorer 'numerics'; did you mean 'numeric'?",
        "line 5: targt: unknown key 'targt'; did you mean 'target'?",
        "line 6: target '(' is not a regular expression",
        "line 7: scorer 'exact' needs a target",
        "line 8: split: must be 'trial' or 'heldout'; got 'test'",
        "line 9: target: must be a valid string; got 5",
        "line 10: key 'input' is written twice",
        "line 11: id: is required",
        "line 12: must be a mapping",
        "line 13: is not JSON (column 27)",
    ):
        assert mistake in message, message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no tasks"),
        ('{"schema_version": 1}\n', "holds no tasks"),
        ('{"schema_version": 2}\n{"id": "a", "input": "b"}', "line 1: schema_version is 2"),
        ('{"id": "a", "input": "b"}\n{"schema_version": 1}', "line 2: .*unknown key 'schema_version'"),
        ('{"id": "a", "input": "b"}\nnonsense', r"tasks.jsonl, line 2: is not JSON \(column 1\)"),
        ("[" * 100_000, "line 1: "),
    ],
)
def test_a_file_that_is_wrong_is_one_clear_error(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_tasks(written(tmp_path, text))


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match="no such tasks file"):
        read_tasks(tmp_path / "absent.jsonl")
    with pytest.raises(InputError, match="is a folder"):
        read_tasks(tmp_path)
    (tmp_path / "latin.jsonl").write_bytes(b'{"id": "\xff"}')
    with pytest.raises(InputError, match="not UTF-8"):
        read_tasks(tmp_path / "latin.jsonl")
    with pytest.raises(InputError, match="download it first"):
        read_tasks("https://example.org/tasks.jsonl")


def test_many_mistakes_are_counted_and_the_first_are_told(tmp_path):
    with pytest.raises(InputError, match=r"100 mistakes(\n.*){20}\n  - and 80 more$"):
        read_tasks(written(tmp_path, "nonsense\n" * 100))


def test_a_split_is_what_a_task_says_or_a_hash_of_its_id_that_never_changes():
    assert split_of(Task(id="t1", input="?", split="heldout")) == "heldout"
    tasks = [Task(id=f"t{i}", input="?") for i in range(1000)]
    assert [split_of(task) for task in tasks[:6]] == ["trial"] * 2 + ["heldout"] * 4
    assert 450 < len(of_split(tasks, "trial")) < 550
    assert len(of_split(tasks, "trial")) + len(of_split(tasks, "heldout")) == len(of_split(tasks, None)) == 1000
    assert of_split(tasks, "all") == tuple(tasks)


def test_the_hash_of_tasks_follows_what_they_say_not_how_they_are_written(tmp_path):
    tasks = read_tasks(written(tmp_path, GOOD))
    spaced = "\n".join(json.dumps(task.model_dump(mode="json"), indent=None, sort_keys=True) for task in tasks)
    assert tasks_hash(read_tasks(written(tmp_path, spaced))) == tasks_hash(tasks)
    assert tasks_hash(tasks[::-1]) != tasks_hash(tasks)


def test_tasks_of_two_files_that_share_an_id_are_told():
    task = Task(id="1", input="?", target="5")
    check_ids([task, Task(id="2", input="?")])
    with pytest.raises(InputError, match="two tasks have the id '1'"):
        check_ids([task, task])
