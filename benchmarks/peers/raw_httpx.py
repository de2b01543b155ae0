"""A loop over httpx: what the calls themselves cost with the client that the runtime uses."""

import httpx
from timing import ROLES, TASK, measure, url

client = httpx.AsyncClient(trust_env=False)


async def episode() -> str:
    said = TASK
    for role in ROLES:
        messages = [{"role": "system", "content": role}, {"role": "user", "content": said}]
        reply = await client.post(f"{url()}/chat/completions", json={"model": "test", "messages": messages})
        said = reply.json()["choices"][0]["message"]["content"]
    return said


measure(episode)
