"""A debate as anybody has it, in LangGraph: affirmative, negative, judge. It knows nothing of Orchestra.

    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=none MODEL=NAME python debate.py QUESTIONS.jsonl

A line of the file is `{"id": ..., "input": ...}`; what is printed for it is `{"id": ..., "answer": ...}`.
A reply has `MAX_TOKENS` at most, 32 unless that is set.
"""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TypedDict

from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, StateGraph

AFFIRMATIVE = "You open a debate. Answer the question in one short sentence that ends with the number."
NEGATIVE = "You reply in a debate. Check the other side, and answer in one sentence that ends with the number."
JUDGE = "You judge a debate. Give the right answer in one short sentence that ends with the number."
AT_ONCE = 8
MAX_TOKENS = int(os.environ.get("MAX_TOKENS", "32"))

model = ChatOpenAI(model=os.environ["MODEL"], temperature=0, max_tokens=MAX_TOKENS)


class Debate(TypedDict, total=False):
    """What was said so far."""

    question: str
    affirmative: str
    negative: str
    verdict: str


async def said(role: str, text: str) -> str:
    reply = await model.ainvoke([("system", role), ("user", text)])
    return str(reply.content)


async def affirmative(debate: Debate) -> Debate:
    return {"affirmative": await said(AFFIRMATIVE, debate["question"])}


async def negative(debate: Debate) -> Debate:
    return {"negative": await said(NEGATIVE, f"{debate['question']}\nAffirmative: {debate['affirmative']}")}


async def judge(debate: Debate) -> Debate:
    heard = f"{debate['question']}\nAffirmative: {debate['affirmative']}\nNegative: {debate['negative']}"
    return {"verdict": await said(JUDGE, heard)}


graph = StateGraph(Debate)
graph.add_node("affirm", affirmative)
graph.add_node("oppose", negative)
graph.add_node("decide", judge)
graph.add_edge(START, "affirm")
graph.add_edge("affirm", "oppose")
graph.add_edge("oppose", "decide")
graph.add_edge("decide", END)
app = graph.compile()


async def main() -> None:
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(question: dict[str, str]) -> None:
        async with turns:
            ended = await app.ainvoke({"question": question["input"]})
        print(json.dumps({"id": question["id"], "answer": ended["verdict"]}), flush=True)

    await asyncio.gather(*(one(json.loads(line)) for line in Path(sys.argv[1]).read_text().splitlines()))


asyncio.run(main())
