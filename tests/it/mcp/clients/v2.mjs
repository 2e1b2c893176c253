// A client of the official TypeScript SDK, version 2, as its users write one for
// the era without sessions: listen, and read by cursor when told. Its parent
// reads a JSON object per line from stdout.
//
//   CONFIG (environment)  what `fleetctl mcp-config` printed

import { execSync } from "node:child_process";
import { setTimeout as pause } from "node:timers/promises";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const say = (value) => process.stdout.write(JSON.stringify(value) + "\n");

const server = JSON.parse(process.env.CONFIG).mcpServers.fleet;
const headers = JSON.parse(execSync(server.headersHelper, { encoding: "utf8" }));
const transport = new StreamableHTTPClientTransport(new URL(server.url), {
  requestInit: { headers },
});
const client = new Client(
  { name: "fleetd-tests-v2", version: "0" },
  { versionNegotiation: { mode: "auto" } },
);
client.onerror = (error) => process.stderr.write(`${error}\n`);

let cursor;
async function read(by) {
  for (let more = true; more; ) {
    const uri = cursor ? `fleet://events?since=${cursor}` : "fleet://events";
    const { contents } = await client.readResource({ uri });
    const page = JSON.parse(contents[0].text);
    // The first reading is only for the place to go on from.
    if (cursor) page.events.forEach((event) => say({ pushed: event.type, event, by }));
    ({ cursor, more } = page);
  }
}

// One reading after another, or two would tell of the same events.
let reading = Promise.resolve();
const readNext = (by) => (reading = reading.then(() => read(by)));

client.setNotificationHandler("notifications/resources/updated", ({ params }) => {
  say({ notified: params.uri });
  readNext("push").catch((error) => process.stderr.write(`${error}\n`));
});

await client.connect(transport);
const { tools } = await client.listTools();
say({ tools: tools.map((tool) => tool.name), revision: client.getNegotiatedProtocolVersion() });
await read("start");

for (;;) {
  try {
    const stream = await client.listen({ resourceSubscriptions: ["fleet://events"] });
    // What happened before the stream was there is read once; the rest is pushed.
    await readNext("return");
    say({ listening: true });
    say({ lost: await stream.closed });
  } catch (error) {
    process.stderr.write(`${error}\n`);
    reading = Promise.resolve();
  }
  await pause(100);
}
