#!/bin/bash
# Traced scenarios: servers that run before the agent, N requests to each, N server and N client
# spans of each; once for each capture path that is named (auto, socket, syscall). Plain HTTP and
# OpenSSL by Python and curl, Go's TLS by tests/apps/go at both ends, the kernel's by ktls.py. Run in a guest by `cargo xtask
# vm`; runs as well on any machine, as root:
#   SPANTAP_BIN=target/release/spantap GO_APP=target/vm/go-app bash tests/vm/scenario.sh auto syscall
set -u
spantap=${SPANTAP_BIN:?the agent to test}
go_app=${GO_APP:?the program of tests/apps/go}
unset SPANTAP_BIN # the agent reads SPANTAP_* as its own settings
[ $# -gt 0 ] || set -- auto
requests=5
declare -A port=([http]=18099 [openssl]=18100 [go]=18101)
cells="http openssl go"
# Not every kernel has its own TLS. In a guest it cannot ask for its ciphers itself.
if modprobe -qa tls crypto-gcm crypto-ctr crypto-ghash crypto-aes; then
    port[ktls]=18102
    cells="$cells ktls"
fi
folder=$(mktemp -d) || exit 1
export TLS_CERT=$folder/certificate.pem TLS_KEY=$folder/key.pem SSL_CERT_FILE=$folder/certificate.pem
failed=0

fail() { echo "scenario: $path: ${cell:-agent}: FAILED: $1"; failed=1; }

# Waits until a command succeeds, while process $1 lives, at most 200 s: a guest on a busy machine verifies slowly.
until_true() {
    local process=$1 deadline=$((SECONDS + 200))
    shift
    while [ $SECONDS -lt $deadline ] && kill -0 "$process" 2>/dev/null; do
        "$@" >/dev/null 2>&1 && return 0
        sleep 0.2
    done
    return 1
}
listens() { (: <>"/dev/tcp/127.0.0.1/$1"); }

serve_http() { exec python3 -m http.server --bind 127.0.0.1 --directory "$folder" "${port[http]}"; }
serve_openssl() {
    exec python3 -c '
import functools, http.server, os, ssl, sys
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), handler)
tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
tls.load_cert_chain(os.environ["TLS_CERT"], os.environ["TLS_KEY"])
server.socket = tls.wrap_socket(server.socket, server_side=True)
server.serve_forever()' "$folder" "${port[openssl]}"
}
serve_ktls() { exec python3 tests/vm/ktls.py server "${port[ktls]}"; }
serve_go() { exec "$go_app" server "${port[go]}"; }

# Each writes a status per request.
ask_http() { fetch "http://127.0.0.1:${port[http]}"; }
ask_openssl() { fetch "https://127.0.0.1:${port[openssl]}"; }
ask_ktls() { python3 tests/vm/ktls.py client "${port[ktls]}" "$requests"; }
ask_go() {
    for number in $(seq "$requests"); do printf 'GET\t/bytes/100/%d\t-\n' "$number"; done |
        "$go_app" client "https://127.0.0.1:${port[go]}" | sed -n 's/ 100$//p'
}
fetch() {
    local number
    for number in $(seq "$requests"); do
        curl -s -o /dev/null -w '%{http_code}\n' --cacert "$TLS_CERT" "$1/index.html?n=$number"
    done
}

# count NUMBER WHAT PATTERN: so many of this cell's spans have it.
count() {
    local found
    found=$(grep "\"server.port\":${port[$cell]}\b" "$folder/spans" | grep -c "$3")
    [ "$found" = "$1" ] || fail "$found $2, want $1"
}

# What must be there of a cell.
judge() {
    local scheme=https traces linked=$requests
    [ "$cell" != http ] || scheme=http
    count "$requests" "server spans" '"kind":"server"'
    count "$requests" "client spans" '"kind":"client"'
    count $((2 * requests)) "spans with status 200" '"http.response.status_code":200'
    count $((2 * requests)) "spans of $scheme" "\"url.scheme\":\"$scheme\""
    count "$requests" "clients' spans with $scheme" "\"url.full\":\"$scheme://"
    count "$requests" "spans with the right peer" "\"network.peer.port\":${port[$cell]}\b"
    # Client and server of one request are one trace; but TCP's positions in the kernel's TLS link nothing.
    [ "$cell" != ktls ] || linked=$((2 * requests))
    traces=$(grep "\"server.port\":${port[$cell]}\b" "$folder/spans" | grep -o '"trace_id":"[0-9a-f]*"' | sort -u | wc -l)
    [ "$traces" = "$linked" ] || fail "$traces traces for $requests requests"
}

# The requests, traced on this path.
scenario() {
    local agent cell='' statuses spans
    env -u TLS_CERT -u TLS_KEY -u SSL_CERT_FILE "$spantap" agent --export json --capture-path "$path" \
        $(printf ' --port %s' "${port[@]}") >"$folder/spans" 2>"$folder/agent.log" &
    agent=$!
    if ! until_true "$agent" grep -Eqi 'tracing|ready' "$folder/agent.log"; then
        fail "the agent does not start"
        return
    fi
    for cell in $cells; do
        statuses=$("ask_$cell" | sort | uniq -c | xargs)
        [ "$statuses" = "$requests 200" ] || fail "statuses: $statuses"
    done
    cell=
    kill -TERM "$agent" 2>/dev/null
    wait "$agent" || fail "the agent exited with $?"
    spans=$(grep -c '"kind":' "$folder/spans")
    for cell in $cells; do judge; done
    cell=
    [ "$spans" = $((2 * requests * ${#port[@]})) ] || fail "$spans spans in all"
}

seq 100 >"$folder/index.html"
path=$1
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -out "$TLS_CERT" -keyout "$TLS_KEY" 2>"$folder/openssl.log" ||
    fail "no certificate: $(cat "$folder/openssl.log")"
servers=
for cell in $cells; do
    "serve_$cell" >"$folder/$cell.log" 2>&1 &
    servers="$servers $!"
    until_true $! listens "${port[$cell]}" || fail "the server does not start: $(cat "$folder/$cell.log")"
done
cell=

for path in "$@"; do
    before=$failed failed=0
    scenario
    if [ "$failed" = 1 ]; then
        cat "$folder/agent.log" "$folder/spans"
    else
        tail -n 3 "$folder/agent.log"
        echo "scenario: $path: passed: $cells: $requests requests, $requests server and $requests client spans each on $(uname -r)"
    fi
    [ "$before" = 0 ] || failed=1
done

kill $servers 2>/dev/null
rm -rf "$folder"
exit "$failed"
