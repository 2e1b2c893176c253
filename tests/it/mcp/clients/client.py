"""A client of the official Python SDK, as its users write one: the SDK chooses
the era. Its parent reads a JSON object per line from stdout.

    CONFIG (environment)  what `fleetctl mcp-config` printed
"""

import asyncio
import json
import os
import subprocess
import sys

from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client


def say(**value):
    print(json.dumps(value), flush=True)


class Reader:
    """Reads on from where it was, once per notification."""

    def __init__(self):
        self.cursor = None

    async def read(self, client, by):
        more = True
        while more:
            uri = f"fleet://events?since={self.cursor}" if self.cursor else "fleet://events"
            result = await client.read_resource(uri)
            page = json.loads(result.contents[0].text)
            # The first reading is only for the place to go on from.
            for event in page["events"] if self.cursor else []:
                say(pushed=event["type"], event=event, by=by)
            self.cursor, more = page["cursor"], page["more"]


async def listen(server, headers, reader):
    """One connection, until it is lost."""
    http = create_mcp_http_client(headers=headers)
    async with http, Client(streamable_http_client(server["url"], http_client=http)) as client:
        tools = await client.list_tools()
        say(tools=[tool.name for tool in tools.tools], revision=client.protocol_version)
        if reader.cursor is None:
            await reader.read(client, "start")
        async with client.listen(resource_subscriptions=["fleet://events"]) as stream:
            # What happened before the stream was there is read once; the rest is pushed.
            await reader.read(client, "return")
            say(listening=True)
            async for notice in stream:
                say(notified=str(notice.uri))
                await reader.read(client, "push")


async def main():
    server = json.loads(os.environ["CONFIG"])["mcpServers"]["fleet"]
    helper = subprocess.run(server["headersHelper"], shell=True, capture_output=True, check=True)
    headers = json.loads(helper.stdout)
    reader = Reader()
    while True:
        # A Client whose server was away cannot be used again: its transport is
        # gone with the first refused connection. So there is a new one each time.
        try:
            await listen(server, headers, reader)
        except Exception as error:
            print(repr(error), file=sys.stderr, flush=True)
        await asyncio.sleep(0.1)


asyncio.run(main())
