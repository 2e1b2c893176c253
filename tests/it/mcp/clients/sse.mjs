// A client of the official TypeScript SDK, version 1, over HTTP+SSE (2024-11-05).
// That transport does not come back by itself, so the script connects anew. Its
// parent reads a JSON object per line from stdout.
//
//   CONFIG (environment)  what `fleetctl mcp-config --transport sse` printed

import { execSync } from "node:child_process";
import { setTimeout as pause } from "node:timers/promises";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { LoggingMessageNotificationSchema } from "@modelcontextprotocol/sdk/types.js";

const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");

const server = JSON.parse(process.env.CONFIG).mcpServers.fleet;
const headers = JSON.parse(execSync(server.headersHelper, { encoding: "utf8" }));

for (;;) {
  const transport = new SSEClientTransport(new URL(server.url), { requestInit: { headers } });
  const client = new Client({ name: "fleetd-tests-sse", version: "0" });
  client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) =>
    say({ pushed: params.logger, event: params.data }),
  );
  // An error of this transport is its end: it would open its stream again, but to
  // a session that nobody has shaken hands in.
  const ended = new Promise((resolve) => {
    client.onclose = resolve;
    client.onerror = resolve;
  });
  try {
    await client.connect(transport);
    const { tools } = await client.listTools();
    const version = await client.callTool({ name: "version", arguments: {} });
    say({ tools: tools.map((tool) => tool.name), called: !version.isError });
    say({ ended: String(await ended) });
    await client.close();
  } catch (error) {
    process.stderr.write(`${error}\n`);
  }
  await pause(100);
}
