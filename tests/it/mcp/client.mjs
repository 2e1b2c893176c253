// The official SDK's client, driven by its parent: a command per line on
// stdin, a JSON object per line on stdout.
//
//   CONFIG (environment)  what `fleetctl mcp-config` printed
//   run LINE              calls execute_command with async

import { execSync } from "node:child_process";
import { createInterface } from "node:readline";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { LoggingMessageNotificationSchema } from "@modelcontextprotocol/sdk/types.js";

const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");

const server = JSON.parse(process.env.CONFIG).mcpServers.fleet;
const headers = JSON.parse(execSync(server.headersHelper, { encoding: "utf8" }));

const transport = new StreamableHTTPClientTransport(new URL(server.url), {
  requestInit: { headers },
  // The SDK gives up after two attempts by itself; a daemon may be away longer.
  reconnectionOptions: {
    initialReconnectionDelay: 100,
    maxReconnectionDelay: 500,
    reconnectionDelayGrowFactor: 1.5,
    maxRetries: 200,
  },
});
const client = new Client({ name: "fleetd-tests", version: "0" });
client.setNotificationHandler(LoggingMessageNotificationSchema, ({ params }) =>
  say({ pushed: params.logger, level: params.level, event: params.data }),
);
client.onerror = (error) => process.stderr.write(`${error}\n`);
await client.connect(transport);
const { tools } = await client.listTools();
say({ tools: tools.map((tool) => tool.name), revision: transport.protocolVersion });

for await (const line of createInterface({ input: process.stdin })) {
  const command = line.replace(/^run /, "");
  // The SDK checks the result against the tool's outputSchema.
  const result = await client.callTool({
    name: "execute_command",
    arguments: { command, async: true },
  });
  say({ started: result.structuredContent });
}
await client.close();
process.exit(0);
