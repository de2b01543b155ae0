from hypothesis import given
from hypothesis import strategies as st

from graphs import AgentNode
from orchestra.agents.prompts import filled, join, render

INBOX = (("calculator", "61 * 65 = 3965"), ("critic", "right"))


def user(layout, task, inbox=()):
    return render(AgentNode(id="a", layout=layout), task, inbox)[-1].content


def test_messages_stand_under_their_senders_names_in_channel_order():
    assert user(AgentNode(id="a").layout, "What is 61 * 65?", INBOX) == (
        "What is 61 * 65?\n\ncalculator: 61 * 65 = 3965\ncritic: right"
    )
    assert join([]) == ""


def test_without_messages_the_placeholder_and_its_blank_lines_vanish():
    assert user("{task}\n\n{messages}", "task") == "task"
    assert user("{messages}\n\n{task}", "task") == "task"
    assert user("{task}\n\n{messages}\n\nAnswer:", "task") == "task\n\nAnswer:"


def test_blank_lines_that_people_wrote_stay():
    assert user("{task}\n\n{messages}", "one\n\n\n\ntwo\n") == "one\n\n\n\ntwo\n"


def test_only_the_placeholders_of_the_layout_are_filled():
    assert user("{task} {x} {0}\n{messages}", "{messages} {{task}}", (("a", "{task}"),)) == (
        "{messages} {{task}} {x} {0}\na: {task}"
    )


def test_a_role_is_the_system_message_when_there_is_one():
    assert [m.role for m in render(AgentNode(id="a", role="Be brief."), "task", ())] == ["system", "user"]
    assert [m.role for m in render(AgentNode(id="a"), "task", ())] == ["user"]


@given(st.text(), st.lists(st.tuples(st.text(), st.text()), min_size=1))
def test_whatever_is_written_reaches_the_agent_unchanged(task, inbox):
    if task:
        assert user("Q: {task}\n\n{messages}", task, inbox) == f"Q: {task}\n\n{join(inbox)}"


def test_a_doubled_brace_is_one_brace():
    assert filled('{{"task": {task}}}', "2 + 2", "") == '{"task": 2 + 2}'
