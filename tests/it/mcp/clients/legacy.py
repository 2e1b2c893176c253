"""A client of the official Python SDK in the era with a handshake, over HTTP+SSE
or over streamable HTTP. A connection that is lost is followed by a new one. Its
parent reads a JSON object per line from stdout.

    CONFIG (environment)  what `fleetctl mcp-config` printed, with the transport
"""

import asyncio
import json
import os
import subprocess
import sys

from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client


def say(**value):
    print(json.dumps(value), flush=True)


async def pushed(params):
    say(pushed=params.logger, event=params.data)


async def connected(transport):
    """One connection, until it is lost."""
    async with Client(transport, mode="legacy", logging_callback=pushed) as client:
        tools = await client.list_tools()
        version = await client.call_tool("version", {})
        say(tools=[tool.name for tool in tools.tools], called=not version.is_error)
        # The SDK tells nobody that a stream was lost; a request finds it out.
        while True:
            await asyncio.sleep(0.2)
            await asyncio.wait_for(client.send_ping(), 2)


async def main():
    server = json.loads(os.environ["CONFIG"])["mcpServers"]["fleet"]
    helper = subprocess.run(server["headersHelper"], shell=True, capture_output=True, check=True)
    headers = json.loads(helper.stdout)
    while True:
        try:
            if server["type"] == "sse":
                await connected(sse_client(server["url"], headers=headers))
            else:
                async with create_mcp_http_client(headers=headers) as http:
                    await connected(streamable_http_client(server["url"], http_client=http))
        except Exception as error:
            print(repr(error), file=sys.stderr, flush=True)
        await asyncio.sleep(0.1)


asyncio.run(main())
