#!/bin/bash
# What a request costs, alone and traced, in a guest whose clock counts instructions (`cargo xtask
# bench vm`). Prints `cost NAME REQUESTS all=NS server=NS [agent=NS]`: the guest's time on the CPU,
# of everything, of the server's tasks and of the agent's. One CPU: client, server and agent share it.
set -eu
spantap=${SPANTAP_BIN:?the agent to measure}
unset SPANTAP_BIN # the agent reads SPANTAP_* as its own settings
folder=$(mktemp -d)
seq 150 >"$folder/index.html"

listens() { (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
wait_for() { for _ in $(seq 600); do "$@" && return; sleep 0.1; done; return 1; }

# Nanoseconds that all tasks ran on CPU 0 (Documentation/scheduler/sched-stats.rst: the seventh
# number), and that the tasks of one process did. A task's time is added when it leaves the CPU.
ran() {
    local word numbers sum=0 file
    if [ -z "${1:-}" ]; then
        while read -r word numbers; do
            [ "$word" != cpu0 ] || { set -- $numbers; echo "$7"; return; }
        done </proc/schedstat
        return 1
    fi
    for file in /proc/"$1"/task/*/schedstat; do
        read -r word numbers <"$file" && sum=$((sum + word))
    done
    echo "$sum"
}

# measure NAME REQUESTS SERVER [AGENT]: of five runs the one with the least of everything, as now
# and then the kernel does something of its own; after a first, when everything is in memory.
measure() {
    local name=$1 requests=$2 server=$3 agent=${4:-} turn all least=
    local before after line
    load "$requests" >/dev/null
    for turn in 1 2 3 4 5; do
        before=("$(ran)" "$(ran "$server")" "$([ -z "$agent" ] || ran "$agent")")
        load "$requests" >/dev/null
        after=("$(ran)" "$(ran "$server")" "$([ -z "$agent" ] || ran "$agent")")
        all=$((after[0] - before[0]))
        [ -z "$least" ] || [ "$all" -lt "$least" ] || continue
        least=$all
        line="cost $name $requests all=$all server=$((after[1] - before[1]))"
        [ -z "$agent" ] || line+=" agent=$((after[2] - before[2]))"
    done
    echo "$line"
}

load() { ab -q -n "$1" -c 1 $keep "http://127.0.0.1:$port/index.html"; }

# both KIND [AGENT]: nginx over one connection, Python over one a request.
both() {
    port=18090 keep=-k
    measure "nginx-$1" 1000 "$nginx" "${2:-}"
    port=18091 keep=
    measure "python-$1" 100 "$python" "${2:-}"
}

cat >"$folder/nginx.conf" <<CONF
daemon off; master_process off; pid $folder/pid; error_log $folder/error;
events {}
http {
    access_log off; keepalive_requests 1000000;
    client_body_temp_path $folder; proxy_temp_path $folder; fastcgi_temp_path $folder;
    uwsgi_temp_path $folder; scgi_temp_path $folder;
    server { listen 127.0.0.1:18090; root $folder; }
}
CONF
/usr/sbin/nginx -p "$folder" -c "$folder/nginx.conf" 2>/dev/null &
nginx=$!
python3 -m http.server --bind 127.0.0.1 --directory "$folder" 18091 >/dev/null 2>&1 &
python=$!
wait_for listens 18090
wait_for listens 18091
both base
# Once for both: in a guest old verifiers take half a minute.
# As an equal of those it traces: with one CPU it would do most of its work after they are done.
"$spantap" agent --cpu-share 1 --export none --port 18090 --port 18091 2>"$folder/agent.log" &
agent=$!
wait_for grep -Eqi 'tracing|ready' "$folder/agent.log"
both traced "$agent"
kill "$agent"
wait "$agent"
kill "$nginx" "$python"
