"""Plays tool calls with the official Python toolset; the same lines in and out as reference.mjs.

Usage: python reference.py <workdir>
"""

import asyncio
import json
import sys

from anthropic.lib.tools import ToolError
from anthropic.lib.tools.agent_toolset import AgentToolContext, beta_agent_toolset_20260401

NO_OUTPUT = "(no output)"


def shown(content):
    if isinstance(content, str):
        return content or NO_OUTPUT
    blocks = [block.get("text", f"[{block.get('type')}]") for block in content]
    return "\n".join(blocks) or NO_OUTPUT


async def play(tools, call):
    try:
        return {"text": shown(await tools[call["tool"]].call(call["input"])), "is_error": False}
    except ToolError as error:
        return {"text": shown(error.content), "is_error": True}
    except Exception as error:  # What the official session runner makes of it.
        return {"text": repr(error), "is_error": True}


async def main(workdir):
    context = AgentToolContext(workdir=workdir)
    tools = {tool.name: tool for tool in beta_agent_toolset_20260401(context)}
    # Half of a surrogate pair, which no UTF-8 can hold, shows as a question mark.
    sys.stdout.reconfigure(errors="replace")
    for line in sys.stdin:
        if line.strip():
            answer = await play(tools, json.loads(line))
            print(json.dumps(answer, ensure_ascii=False), flush=True)


asyncio.run(main(sys.argv[1]))
