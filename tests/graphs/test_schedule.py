import gc
import pickle
import random
from collections import Counter

import networkx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphs import AgentGraph, AgentNode, Channel, Progress, RouterNode, Tool, plan
from graphs.schedule import carried, cycles, runs, stages


def team(text, *, routers="", rounds=1, output=None, default=None):
    """`a>b` is a channel, `a>>b` one that is heard in the next round; nodes in order of mention."""
    channels, ids = [], []
    for word in text.split():
        source, _, target = word.replace(">>", ">").partition(">")
        ids += [source, target] if target else [source]
        if target:
            channels.append(Channel(source=source, target=target, next_round=">>" in word))
    chooser = Tool(name="choose", call="choose")
    nodes = [
        RouterNode(id=i, call=chooser, default=(default or {}).get(i, ())) if i in routers.split() else AgentNode(id=i)
        for i in dict.fromkeys(ids)
    ]
    return AgentGraph(nodes=nodes, channels=channels, output=output or ids[-1], rounds=rounds)


def play(graph, choice=lambda node, number: None, pick=lambda due: 0):
    """Every (node, round, inbox) of one run, in the order of delivery."""
    progress, said = Progress(graph), []
    due = list(progress.start())
    while due:
        node = due.pop(pick(due))
        said.append((node, progress.round_of(node), progress.inbox(node)))
        due += progress.deliver(node, choice(node, progress.round_of(node)))
    assert progress.finished
    return said


def calls(graph, **choices):
    """How often each node runs; a choice is what a router fires, round after round, the last one repeated."""
    said = play(
        graph, lambda node, number: choices[node][min(number, len(choices[node])) - 1] if node in choices else None
    )
    return dict(Counter(node for node, _, _ in said))


def heard(graph, **choices):
    said = play(
        graph, lambda node, number: choices[node][min(number, len(choices[node])) - 1] if node in choices else None
    )
    return {(node, number): inbox for node, number, inbox in said}


# Outside cycles


def test_a_join_fed_at_unequal_depth_runs_once_and_hears_both():
    diamond = team("a>b b>c c>join a>join")
    assert calls(diamond) == {"a": 1, "b": 1, "c": 1, "join": 1}
    assert heard(diamond)["join", 1] == ("c", "a")


def test_nodes_without_a_channel_start_together_in_declared_order():
    assert Progress(team("b>join a>join c>join")).start() == ("b", "a", "c")


def test_a_join_after_a_router_runs_once_with_the_live_branch():
    graph = team("r>left r>right left>join right>join", routers="r")
    assert calls(graph, r=[{"left"}]) == {"r": 1, "left": 1, "join": 1}
    assert heard(graph, r=[{"left"}])["join", 1] == ("left",)


def test_a_router_may_fire_several_channels():
    graph = team("r>a r>b r>c a>join b>join c>join", routers="r")
    assert heard(graph, r=[{"a", "c"}])["join", 1] == ("a", "c")


def test_a_dead_branch_stays_dead_to_its_end():
    graph = team("r>a a>b b>c c>join r>d d>join", routers="r", output="join")
    assert calls(graph, r=[{"d"}]) == {"r": 1, "d": 1, "join": 1}


def test_a_very_long_dead_branch_needs_no_recursion():
    chain = " ".join(f"n{i}>n{i + 1}" for i in range(5000))
    assert calls(team(f"r>n0 r>other {chain}", routers="r", output="other"), r=[{"other"}]) == {"r": 1, "other": 1}


def test_when_everything_is_dead_the_output_never_speaks():
    progress = Progress(team("r>a r>b a>out b>out", routers="r"))
    assert progress.start() == ("r",)
    assert progress.deliver("r", ()) == ()
    assert progress.finished
    assert progress.spoken == {"r"}


def test_two_routers_upstream_leave_a_join_with_what_is_left():
    graph = team("r>x r>join s>y s>join x>end y>end join>end", routers="r s")
    assert calls(graph, r=[{"x"}], s=[{"y"}]) == {"r": 1, "s": 1, "x": 1, "y": 1, "end": 1}


# Cycles


def test_a_cycle_runs_its_rounds_and_what_follows_runs_once():
    graph = team("brief>write write>review review>write review>print", rounds=3)
    assert calls(graph) == {"brief": 1, "write": 3, "review": 3, "print": 1}


def test_in_later_rounds_a_member_hears_the_outside_and_the_round_before():
    graph = team("brief>write write>review review>write review>print", rounds=2)
    assert heard(graph) == {
        ("brief", 1): (),
        ("write", 1): ("brief",),
        ("review", 1): ("write",),
        ("write", 2): ("brief", "review"),
        ("review", 2): ("write",),
        ("print", 1): ("review",),
    }


def test_what_leaves_a_cycle_in_the_middle_waits_for_its_end():
    graph = team("write>review review>>write write>print", rounds=2, output="print")
    assert [node for node, _, _ in play(graph)] == ["write", "review", "write", "review", "print"]


def test_a_router_in_a_cycle_leaves_early():
    graph = team("task>write write>check check>write check>print", routers="check", rounds=5)
    found = calls(graph, check=[{"write"}, {"print"}])
    assert found == {"task": 1, "write": 2, "check": 2, "print": 1}


def test_a_router_that_fires_nothing_leaves_too():
    graph = team("task>write write>check check>write write>print", routers="check", rounds=5, output="print")
    assert calls(graph, check=[()]) == {"task": 1, "write": 1, "check": 1, "print": 1}


def test_a_router_that_fires_inside_and_outside_stays_and_its_last_choice_counts():
    graph = team("task>write write>check check>write check>print", routers="check", rounds=3)
    both = {"write", "print"}
    assert calls(graph, check=[both]) == {"task": 1, "write": 3, "check": 3, "print": 1}
    assert calls(graph, check=[both, {"write"}]) == {"task": 1, "write": 3, "check": 3}


def test_when_rounds_run_out_a_wish_for_another_kills_what_it_did_not_choose():
    graph = team("task>write write>check check>write check>print", routers="check", rounds=3)
    assert calls(graph, check=[{"write"}]) == {"task": 1, "write": 3, "check": 3}


def test_when_rounds_run_out_a_wish_for_another_falls_to_the_default_outside():
    graph = team(
        "task>write write>check check>write check>print", routers="check", rounds=3, default={"check": ("print",)}
    )
    assert calls(graph, check=[{"write"}]) == {"task": 1, "write": 3, "check": 3, "print": 1}


def test_the_default_does_not_overrule_a_router_that_chose_to_end():
    graph = team(
        "task>write write>check check>write check>print", routers="check", rounds=3, default={"check": ("print",)}
    )
    assert calls(graph, check=[()]) == {"task": 1, "write": 1, "check": 1}


def test_the_round_in_which_a_router_leaves_is_finished_whoever_is_quicker():
    graph = team("task>open open>check open>slow slow>late late>open check>open check>print", routers="check", rounds=4)
    for pick in (lambda due: 0, lambda due: -1):
        said = play(graph, lambda node, number: {"print"} if node == "check" else None, pick)
        assert Counter(n for n, _, _ in said) == {"task": 1, "open": 1, "check": 1, "slow": 1, "late": 1, "print": 1}


def test_a_member_whose_live_inputs_die_in_a_later_round_is_skipped_and_keeps_its_last_reply():
    graph = team(
        "task>plan plan>r r>work work>plan r>plan plan>print work>print", routers="r", rounds=3, output="print"
    )
    found = heard(graph, r=[{"work"}, {"plan"}])
    assert ("work", 1) in found
    assert ("work", 2) not in found
    assert found["print", 1] == ("plan", "work")


def test_two_nested_cycles_are_one():
    graph = team("task>a a>b b>c c>b c>a c>end", rounds=3)
    assert cycles(graph) == (("a", "b", "c"),)
    assert calls(graph) == {"task": 1, "a": 3, "b": 3, "c": 3, "end": 1}


def test_two_cycles_in_a_row_each_run_their_rounds():
    graph = team("task>a a>b b>a b>c c>d d>c d>end", rounds=2)
    assert calls(graph) == {"task": 1, "a": 2, "b": 2, "c": 2, "d": 2, "end": 1}
    assert [n for n, _, _ in play(graph)] == ["task", "a", "b", "a", "b", "c", "d", "c", "d", "end"]


def test_a_node_with_a_channel_to_itself_runs_every_round_and_hears_itself():
    graph = team("think>think think>say", rounds=3)
    assert calls(graph) == {"think": 3, "say": 1}
    assert heard(graph)["think", 1] == ()
    assert heard(graph)["think", 2] == ("think",)


def test_in_a_debate_all_speak_at_once_and_hear_the_round_before():
    graph = team("a>>b b>>a a>judge b>judge", rounds=2)
    progress = Progress(graph)
    assert progress.start() == ("a", "b")
    assert progress.deliver("b") == ()
    assert progress.deliver("a") == ("a", "b")
    assert progress.inbox_rounds("a") == (("b", 1),)
    progress.deliver("a")
    assert progress.inbox_rounds("b") == (("a", 1),)  # although a has spoken again
    assert progress.deliver("b") == ("judge",)
    assert progress.inbox_rounds("judge") == (("a", 2), ("b", 2))


def test_a_cycle_whose_every_entrance_is_dead_does_not_run():
    graph = team("r>a r>end a>>b b>>a a>end", routers="r", rounds=3, output="end")
    assert calls(graph, r=[{"end"}]) == {"r": 1, "end": 1}
    assert calls(graph, r=[{"a"}]) == {"r": 1, "a": 3, "b": 3, "end": 1}


def test_a_cycle_in_which_nobody_runs_ends_at_once():
    graph = team("r>a a>b b>a a>end r>end", routers="r", rounds=10**9)
    assert calls(graph, r=[{"end"}]) == {"r": 1, "end": 1}


def test_declared_order_decides_where_a_cycle_with_two_entries_begins():
    assert [(c.source, c.target) for c in carried(team("t>a t>b a>b b>a b>end"))] == [("b", "a")]
    assert [(c.source, c.target) for c in carried(team("t>b t>a a>b b>a b>end"))] == [("a", "b")]


def test_members_behind_a_next_round_channel_are_searched_from_where_it_leads():
    graph = team("t>a c>a c>b b>c a>>b c>end", rounds=2)
    assert {(c.source, c.target) for c in carried(graph)} == {("a", "b"), ("c", "b")}
    assert calls(graph) == {"t": 1, "a": 2, "b": 2, "c": 2, "end": 1}


def test_next_round_outside_a_cycle_is_an_ordinary_channel():
    assert calls(team("a>>b")) == {"a": 1, "b": 1}


# Using it


def test_delivering_a_node_that_is_not_due_is_refused():
    progress = Progress(team("a>b"))
    progress.start()
    with pytest.raises(ValueError, match="'b' is not due; due now: 'a'"):
        progress.deliver("b")


def test_firing_a_target_without_a_channel_is_refused_and_changes_nothing():
    progress = Progress(team("r>a r>b a>c b>c", routers="r"))
    progress.start()
    with pytest.raises(ValueError, match=r"no channel to \['z'\]"):
        progress.deliver("r", {"z"})
    assert progress.deliver("r", {"a"}) == ("a",)


def test_a_run_starts_once():
    progress = Progress(team("a>b"))
    assert not progress.finished
    progress.start()
    with pytest.raises(ValueError, match="started already"):
        progress.start()


def test_a_graph_is_planned_once_and_forgotten_with_it():
    gc.collect()  # graphs of earlier tests that hang in cycles
    graph = team("a>b")
    assert plan.plan_of(graph) is plan.plan_of(graph)
    before = len(plan._PLANS)
    del graph
    gc.collect()
    assert len(plan._PLANS) == before - 1


def test_progress_survives_pickling_in_the_middle_of_a_run():
    progress = Progress(team("a>b b>a b>c", rounds=2))
    progress.start()
    progress.deliver("a")
    again = pickle.loads(pickle.dumps(progress))
    assert again.deliver("b") == progress.deliver("b") == ("a",)


def test_stages_run_left_to_right_and_what_follows_a_cycle_stands_after_it():
    graph = team("t>a a>b b>c c>a a>end other>end", output="end")
    assert stages(graph) == (("t", "other"), ("a",), ("b",), ("c",), ("end",))


def test_runs_counts_rounds_for_members_of_cycles_only():
    assert runs(team("t>a a>b b>a b>end", rounds=4)) == {"t": 1, "a": 4, "b": 4, "end": 1}


# Properties


@st.composite
def digraphs(draw, *, acyclic=False):
    size = draw(st.integers(1, 7))
    names = [f"n{i}" for i in range(size)]
    pairs = [(a, b) for a in range(size) for b in range(size) if not acyclic or a < b]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=14)) if pairs else []
    order = draw(st.permutations(names))
    kinds = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    chooser = Tool(name="choose", call="choose")
    nodes = [RouterNode(id=n, call=chooser) if kind else AgentNode(id=n) for n, kind in zip(order, kinds, strict=True)]
    later = draw(st.sets(st.integers(0, len(chosen))))
    channels = [
        Channel(source=names[a], target=names[b], next_round=position in later)
        for position, (a, b) in enumerate(chosen)
    ]
    return AgentGraph(nodes=nodes, channels=channels, output=names[-1], rounds=draw(st.integers(1, 4)))


@given(digraphs(acyclic=True), st.randoms(use_true_random=False))
def test_without_cycles_every_node_runs_once_after_all_it_hears(graph, rng):
    said = [node for node, _, _ in play(graph, pick=lambda due: rng.randrange(len(due)))]
    assert sorted(said) == sorted(node.id for node in graph.nodes)
    assert all(said.index(c.source) < said.index(c.target) for c in graph.channels)


@given(digraphs(), st.randoms(use_true_random=False))
def test_with_cycles_members_run_every_round_and_the_others_once(graph, rng):
    said = play(graph, pick=lambda due: rng.randrange(len(due)))
    assert len({(node, number) for node, number, _ in said}) == len(said)
    assert Counter(node for node, _, _ in said) == runs(graph)


@given(digraphs(), st.integers(0, 10**6), st.randoms(use_true_random=False))
def test_a_run_agrees_with_a_plain_simulation_in_any_order_of_delivery(graph, seed, rng):
    def choice(node, number):
        targets = [c.target for c in graph.channels if c.source == node]
        if graph.node(node).kind != "router":
            return None
        coin = random.Random(f"{seed} {node} {number}")
        return {target for target in targets if coin.randrange(3)}

    said = play(graph, choice, lambda due: rng.randrange(len(due)))
    assert len({(node, number) for node, number, _ in said}) == len(said)
    assert {(node, number): inbox for node, number, inbox in said} == simulated(graph, choice)


def simulated(graph, choice):
    """What each (node, round) hears, found sequentially: component by component, round by round, member by member."""
    whole = networkx.DiGraph()
    whole.add_nodes_from(node.id for node in graph.nodes)
    whole.add_edges_from((c.source, c.target) for c in graph.channels)
    later = {(c.source, c.target) for c in carried(graph)}
    condensed = networkx.condensation(whole)
    heard, out = {}, {}  # `out`: which channels between components are live
    for number in networkx.topological_sort(condensed):
        members = condensed.nodes[number]["members"]
        inside = whole.subgraph(members)
        entrances = [e for e in whole.edges if e[1] in members and e[0] not in members]
        if entrances and not any(out[e] for e in entrances):
            out |= {e: False for e in whole.edges if e[0] in members and e[1] not in members}
            continue
        within = networkx.DiGraph(e for e in inside.edges if e not in later)
        within.add_nodes_from(members)
        before, latest = set(), {}
        for turn in range(1, (graph.rounds if inside.edges else 1) + 1):
            fired, left, ran = set(), False, False
            for node in networkx.topological_sort(within):
                into = [(c.source, c.target) for c in graph.channels if c.target == node]
                live = [e for e in into if (e in before if e in later else e in fired or out.get(e, False))]
                fresh = turn == 1 and all(e in later for e in into)
                if not live and not fresh:
                    continue
                heard[node, turn] = tuple(source for source, _ in live)
                targets = [c.target for c in graph.channels if c.source == node]
                chosen = choice(node, turn)
                latest[node] = set(targets) if chosen is None else chosen
                fired |= {(node, target) for target in latest[node]}
                ran = True
                kept = [target for target in targets if target in members]
                left |= chosen is not None and bool(kept) and not any(target in chosen for target in kept)
            before = fired
            if left or not ran:
                break
        for e in whole.edges:
            if e[0] in members and e[1] not in members:
                out[e] = e[1] in latest.get(e[0], ())
    return heard
