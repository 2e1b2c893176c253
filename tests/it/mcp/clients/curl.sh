#!/bin/sh
# A client that is nothing but curl: the handshake, one call, and the session's
# stream, which is opened again where it broke. Each event is a line on stdout.
#
#   CONFIG (environment)  what `fleetctl mcp-config` printed
#   URL                   its address
#   HEADERS               a file with the token's header, which only its owner reads
set -u
work=$HOME/curl
mkdir "$work"

post() {
    curl -sS --max-time 5 -D "$work/head" -H "@$HEADERS" -H 'Content-Type: application/json' \
        -H 'Accept: application/json, text/event-stream' "$@" "$URL"
}

until post -d '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"curl","version":"0"}}}' >"$work/hello"; do
    sleep 0.1
done
session=$(tr -d '\r' <"$work/head" | sed -n 's/^[Mm]cp-[Ss]ession-[Ii]d: //p')
set -- -H "Mcp-Session-Id: $session" -H 'MCP-Protocol-Version: 2025-11-25'
post "$@" -d '{"jsonrpc":"2.0","method":"notifications/initialized"}'
called=$(post "$@" -d '{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"version","arguments":{}}}')
case $called in
*'"isError":false'*) echo '{"tools":[],"called":true}' ;;
*) echo '{"tools":[],"called":false}' ;;
esac

: >"$work/last"
while :; do
    last=$(cat "$work/last")
    # Without a place it begins with what happens from now on.
    curl -sSN -H "@$HEADERS" -H 'Accept: text/event-stream' "$@" \
        ${last:+-H "Last-Event-ID: $last"} "$URL" | while IFS= read -r line; do
        case $line in
        id:*) echo "${line#id:}" | tr -d ' \r' >"$work/last" ;;
        data:*notifications/message*)
            # In the shape that the other clients use.
            printf '{"message":%s}\n' "${line#data:}"
            ;;
        esac
    done
    sleep 0.1
done
