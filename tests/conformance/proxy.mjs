// A loopback proxy that adds the bearer token: the conformance suite has no
// option to send one. Prints its port. Arguments: the daemon's port and the file
// that holds the token (never the token itself: arguments are visible to all).
//
// What is sent to /in/REVISION/mcp asks for that revision in its handshake: for
// --spec-version 2025-06-18 the suite chooses other scenarios, but its client goes
// on asking for 2025-11-25. A handshake that asks for another one is left alone.
import { readFileSync } from 'node:fs';
import http from 'node:http';

const [port, tokenFile] = process.argv.slice(2);
const asked = '"protocolVersion":"2025-11-25"';
const whole = async (stream) => Buffer.concat(await stream.toArray());
const token = readFileSync(tokenFile, 'utf8').trim();

const proxy = http.createServer((request, response) => {
    const [, revision, path] = /^\/in\/([\d-]+)(\/.*)$/.exec(request.url) ?? [, , request.url];
    const headers = { ...request.headers, authorization: `Bearer ${token}` };
    // The daemon accepts its own port only; a foreign host stays as it is, since
    // a scenario wants to see it refused.
    headers.host = headers.host.replace(`:${proxy.address().port}`, `:${port}`);
    if (headers.origin) {
        headers.origin = headers.origin.replace(`:${proxy.address().port}`, `:${port}`);
    }
    const options = { host: '127.0.0.1', port, method: request.method, path, headers };
    const upstream = http.request(options, (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        response.flushHeaders();
        answer.pipe(response);
        answer.on('error', () => response.destroy());
    });
    upstream.on('error', () => response.destroy());
    response.on('close', () => upstream.destroy());
    if (!revision || request.method !== 'POST') {
        request.pipe(upstream);
        return;
    }
    whole(request).then((body) => {
        const text = body.toString();
        const begins = text.includes('"method":"initialize"');
        const said = begins ? text.replace(asked, asked.replace('2025-11-25', revision)) : text;
        upstream.setHeader('content-length', Buffer.byteLength(said));
        upstream.end(said);
    }, () => upstream.destroy());
});
proxy.listen(0, '127.0.0.1', () => console.log(proxy.address().port));
