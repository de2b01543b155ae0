"""What runs in every run of a graph, whatever its routers choose."""

from graphs import AgentGraph, RouterNode
from graphs.plan import LEAVES, WAITS, Plan, plan_of
from graphs.schedule import Progress


def surely_run(graph: AgentGraph) -> dict[str, int]:
    """How often each node runs at least in a run that does not fail; what a router may turn away is absent or less.

    Without routers this is exact: the schedule is then the same in every run. With them it is a lower bound: a node
    counts once when something leads to it that no router decides, and the output always counts once.
    """
    if not any(isinstance(node, RouterNode) for node in graph.nodes):
        return _run_through(graph)
    plan = plan_of(graph)
    routers = {number for number, node in enumerate(graph.nodes) if isinstance(node, RouterNode)}
    sure: set[int] = set()
    while True:
        more = {n for n in range(len(plan.ids)) if n not in sure and _is_sure(plan, n, sure, routers)}
        if not more:
            break
        sure |= more
    return {plan.ids[number]: 1 for number in sorted(sure)} | {graph.output: 1}


def _is_sure(plan: Plan, node: int, sure: set[int], routers: set[int]) -> bool:
    component = plan.component[node]
    certain = sure - routers
    if any(plan.kind[c] in (WAITS, LEAVES) and plan.source[c] in certain for c in plan.into[node]):
        return True
    if node not in plan.openers[component]:
        return False
    entered = (
        plan.source[c] in certain for n in plan.members[component] for c in plan.into[n] if plan.kind[c] == LEAVES
    )
    return plan.entrances[component] == 0 or any(entered)


def _run_through(graph: AgentGraph) -> dict[str, int]:
    progress, ran = Progress(graph), dict[str, int]()
    due = list(progress.start())
    while due:
        node_id = due.pop()
        ran[node_id] = ran.get(node_id, 0) + 1
        due.extend(progress.deliver(node_id))
    return ran
