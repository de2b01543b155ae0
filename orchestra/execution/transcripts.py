"""What a node function of LangGraph is shown: the task and everything said so far, as one list of messages.

Routers only pass on what they heard and are left out. Nodes that speak at the same time are put in the order of their
names, which is where LangGraph's own reducer puts them, whoever was faster.
"""

import json

from graphs.schedule import stages
from orchestra.execution.play import Play


def transcript(play: Play) -> str:
    """JSON list of the messages so far, in the form `langchain_core.messages.convert_to_messages` reads."""
    stage_of = {node_id: at for at, stage in enumerate(stages(play.graph)) for node_id in stage}
    routers = {node.id for node in play.graph.nodes if node.kind == "router"}
    said: list[tuple[tuple[int, int], str, str]] = []
    for (node_id, round_number), text in play.said_in.items():
        if node_id in routers:
            continue
        moment, at = (round_number, stage_of[node_id]), len(said)
        while at and said[at - 1][0] == moment and said[at - 1][1] > node_id:
            at -= 1
        said.insert(at, (moment, node_id, text))
    messages = [{"role": "user", "content": play.task}]
    messages += [{"role": "assistant", "name": node_id, "content": text} for _, node_id, text in said]
    return json.dumps(messages, ensure_ascii=False)
