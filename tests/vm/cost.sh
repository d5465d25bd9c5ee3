#!/bin/bash
# What a request costs, alone and traced, in a guest whose clock counts instructions (`cargo xtask
# bench vm`). Prints `cost NAME REQUESTS NANOSECONDS`; the time is the guest's, less what it idled.
# One CPU: client, server and agent share it, so the sum of all three is what is measured.
set -eu
spantap=${SPANTAP_BIN:?the agent to measure}
unset SPANTAP_BIN # the agent reads SPANTAP_* as its own settings
folder=$(mktemp -d)
seq 150 >"$folder/index.html"
port=18090

listens() { (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
wait_for() { for _ in $(seq 600); do "$@" && return; sleep 0.1; done; return 1; }

# Nanoseconds since boot that the CPU did not idle (/proc/stat counts idling in ticks of 10 ms).
busy() {
    local now=${EPOCHREALTIME/./} cpu idle
    read -r _ _ _ _ idle cpu </proc/stat
    echo $((now * 1000 - idle * 10000000))
}

# measure NAME REQUESTS COMMAND...: the second of two runs, when everything is in memory.
measure() {
    local name=$1 requests=$2 before after
    shift 2
    "$@" >/dev/null
    before=$(busy)
    "$@" >/dev/null
    after=$(busy)
    echo "cost $name $requests $((after - before))"
}

load() { ab -q -n "$1" -c 1 $2 "http://127.0.0.1:$port/index.html"; }

both() {
    local name=$1 requests=$2 keep=$3
    wait_for listens "$port"
    measure "$name-base" "$requests" load "$requests" "$keep"
    "$spantap" agent --export none --port "$port" 2>"$folder/agent.log" &
    local agent=$!
    wait_for grep -Eqi 'tracing|ready' "$folder/agent.log"
    measure "$name-traced" "$requests" load "$requests" "$keep"
    kill "$agent"
    wait "$agent"
}

cat >"$folder/nginx.conf" <<END
daemon off; master_process off; pid $folder/pid; error_log $folder/error;
events {}
http {
    access_log off; keepalive_requests 1000000;
    client_body_temp_path $folder; proxy_temp_path $folder; fastcgi_temp_path $folder;
    uwsgi_temp_path $folder; scgi_temp_path $folder;
    server { listen 127.0.0.1:$port; root $folder; }
}
END
/usr/sbin/nginx -p "$folder" -c "$folder/nginx.conf" 2>/dev/null &
server=$!
both nginx 3000 -k
kill "$server"
wait "$server" || true

port=18091
python3 -m http.server --bind 127.0.0.1 --directory "$folder" "$port" >/dev/null 2>&1 &
server=$!
both python 300 ""
kill "$server"
