#!/bin/bash
# One traced HTTP scenario: a server that runs before the agent, N requests, N server and N client
# spans; once for each capture path that is named (auto, socket, syscall). Run in a guest by `cargo
# xtask vm`; runs as well on any machine, as root:
#   SPANTAP_BIN=target/release/spantap bash tests/vm/scenario.sh auto syscall
set -u
spantap=${SPANTAP_BIN:?the agent to test}
unset SPANTAP_BIN # the agent reads SPANTAP_* as its own settings
[ $# -gt 0 ] || set -- auto
requests=5 port=18099
folder=$(mktemp -d) || exit 1
failed=0

fail() { echo "scenario: $path: FAILED: $1"; failed=1; }

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
listens() { (: <>"/dev/tcp/127.0.0.1/$port"); }

# count NUMBER WHAT PATTERN: so many spans have it.
count() {
    local found
    found=$(grep -c "$3" "$folder/spans")
    [ "$found" = "$1" ] || fail "$found $2, want $1"
}

# The requests, traced on this path.
scenario() {
    "$spantap" agent --export json --port "$port" --capture-path "$path" >"$folder/spans" 2>"$folder/agent.log" &
    local agent=$! number code traces
    if ! until_true "$agent" grep -Eqi 'tracing|ready' "$folder/agent.log"; then
        fail "the agent does not start"
        return
    fi
    for number in $(seq "$requests"); do
        code=$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$port/index.html?n=$number")
        [ "$code" = 200 ] || fail "request $number: status $code"
    done
    kill -TERM "$agent" 2>/dev/null
    wait "$agent" || fail "the agent exited with $?"

    count "$requests" "server spans" '"kind":"server"'
    count "$requests" "client spans" '"kind":"client"'
    count $((2 * requests)) "spans with status 200" '"http.response.status_code":200'
    # Client and server of one request are one trace.
    traces=$(grep -o '"trace_id":"[0-9a-f]*"' "$folder/spans" | sort -u | wc -l)
    [ "$traces" = "$requests" ] || fail "$traces traces for $requests requests"
}

seq 100 >"$folder/index.html"
path=$1
python3 -m http.server --bind 127.0.0.1 --directory "$folder" "$port" >"$folder/server.log" 2>&1 &
server=$!
until_true "$server" listens || fail "the server does not start: $(cat "$folder/server.log")"

for path in "$@"; do
    before=$failed failed=0
    scenario
    if [ "$failed" = 1 ]; then
        cat "$folder/agent.log" "$folder/spans"
    else
        tail -n 3 "$folder/agent.log"
        echo "scenario: $path: passed: $requests requests, $requests server and $requests client spans on $(uname -r)"
    fi
    [ "$before" = 0 ] || failed=1
done

kill "$server" 2>/dev/null
rm -rf "$folder"
exit "$failed"
