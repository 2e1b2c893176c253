// A client of the official TypeScript SDK, version 2, in the era with a handshake;
// it resumes its stream by itself. Its parent reads a JSON object per line from
// stdout.
//
//   CONFIG (environment)  what `fleetctl mcp-config` printed

import { execSync } from "node:child_process";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");

const server = JSON.parse(process.env.CONFIG).mcpServers.fleet;
const headers = JSON.parse(execSync(server.headersHelper, { encoding: "utf8" }));
const transport = new StreamableHTTPClientTransport(new URL(server.url), {
  requestInit: { headers },
  reconnectionOptions: {
    initialReconnectionDelay: 100,
    maxReconnectionDelay: 500,
    reconnectionDelayGrowFactor: 1.5,
    maxRetries: 200,
  },
});
const client = new Client(
  { name: "fleetd-tests-v2-legacy", version: "0" },
  { versionNegotiation: { mode: "legacy" } },
);
client.onerror = (error) => process.stderr.write(`${error}\n`);
client.setNotificationHandler("notifications/message", ({ params }) =>
  say({ pushed: params.logger, event: params.data }),
);
await client.connect(transport);
const { tools } = await client.listTools();
const version = await client.callTool({ name: "version", arguments: {} });
say({ tools: tools.map((tool) => tool.name), called: !version.isError });
