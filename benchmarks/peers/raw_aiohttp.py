"""A loop over aiohttp: the fastest common client of the language."""

import asyncio

import aiohttp
from timing import ROLES, TASK, measure, url

sessions: dict[asyncio.AbstractEventLoop, aiohttp.ClientSession] = {}


async def episode() -> str:
    loop = asyncio.get_running_loop()
    if loop not in sessions:
        sessions[loop] = aiohttp.ClientSession()
    said = TASK
    for role in ROLES:
        messages = [{"role": "system", "content": role}, {"role": "user", "content": said}]
        body = {"model": "test", "messages": messages}
        async with sessions[loop].post(f"{url()}/chat/completions", json=body) as reply:
            said = (await reply.json())["choices"][0]["message"]["content"]
    return said


measure(episode)
