// A loopback proxy that adds the bearer token: the conformance suite has no
// option to send one. Prints its port. Arguments: the daemon's port and the file
// that holds the token (never the token itself: arguments are visible to all).
import { readFileSync } from 'node:fs';
import http from 'node:http';

const [port, tokenFile] = process.argv.slice(2);
const token = readFileSync(tokenFile, 'utf8').trim();

const proxy = http.createServer((request, response) => {
    const headers = { ...request.headers, authorization: `Bearer ${token}` };
    // The daemon accepts its own port only; a foreign host stays as it is, since
    // a scenario wants to see it refused.
    headers.host = headers.host.replace(`:${proxy.address().port}`, `:${port}`);
    if (headers.origin) {
        headers.origin = headers.origin.replace(`:${proxy.address().port}`, `:${port}`);
    }
    const options = { host: '127.0.0.1', port, method: request.method, path: request.url, headers };
    const upstream = http.request(options, (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        response.flushHeaders();
        answer.pipe(response);
        answer.on('error', () => response.destroy());
    });
    upstream.on('error', () => response.destroy());
    response.on('close', () => upstream.destroy());
    request.pipe(upstream);
});
proxy.listen(0, '127.0.0.1', () => console.log(proxy.address().port));
