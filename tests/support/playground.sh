#!/usr/bin/env bash
# A playground: the agent beside a PostgreSQL and a Redis that may be broken at will.
#
#   tests/support/playground.sh                         until Ctrl-C, which removes all of it
#   tests/support/playground.sh stop  postgres|redis    connections are refused from now on
#   tests/support/playground.sh start postgres|redis    again: same port, same data
#   tests/support/playground.sh hang  postgres|redis    connections are accepted and never answered
#   tests/support/playground.sh wake  postgres|redis    undoes hang
#
# With DATABASE_HOST or DATABASE_URL set, no server is started: the agent watches the user's own.
# What is running is written down in .run/, for the other commands: .run/env (the environment, to be
# sourced) and .run/servers (where the servers are).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# shellcheck source=tests/support/postgres_bin.sh
source tests/support/postgres_bin.sh

state=.run/servers
binary=${CARGO_TARGET_DIR:-target}/debug/sickbay

fail() {
    echo "error: $*" >&2
    exit 1
}

# ---- The servers. `scratch`, `owner`, `postgres_port` and `redis_port` say where they are. ----

# PostgreSQL refuses to run as root; Redis has no need to.
as_owner() {
    if [ "$(id -u)" -eq 0 ]; then
        (cd "$scratch" && setpriv --reuid="$owner" --regid="$(id -g "$owner")" --clear-groups -- "$@")
    else
        (cd "$scratch" && "$@")
    fi
}

# Prints the first process of a server; fails where it is not running.
pid_of() {
    local pid
    case $1 in
        postgres) pid=$(head -n 1 "$scratch/data/postmaster.pid" 2>/dev/null) ;;
        redis) pid=$(cat "$scratch/redis.pid" 2>/dev/null) ;;
    esac || return 1
    is_ours "$pid" && echo "$pid"
}

# A number left over from a server that was killed may be another process by now: ours works in our folder.
is_ours() { [[ "$(readlink "/proc/$1/cwd")" == "$scratch"* ]]; }

# Prints a server's processes, the first one first, so that it cannot have another child meanwhile.
processes_of() {
    local first stat line fields
    first=$(pid_of "$1") || return 1
    echo "$first"
    for stat in /proc/[0-9]*/stat; do
        # pid (name) state parent ...: the name may hold anything.
        line=$(cat "$stat" 2>/dev/null) || continue
        read -ra fields <<<"${line##*) }"
        if [ "${fields[1]}" = "$first" ]; then basename "$(dirname "$stat")"; fi
    done
}

signal_all() {
    local pids
    mapfile -t pids < <(processes_of "$2")
    [ ${#pids[@]} -gt 0 ] || fail "$2 is not running"
    kill "-$1" "${pids[@]}"
}

pg_ctl() { as_owner "$pg_bin/pg_ctl" --silent --pgdata="$scratch/data" "$@"; }

start_postgres() {
    pg_ctl --wait --log="$scratch/postgres.log" --options="-p $postgres_port" start ||
        fail "PostgreSQL does not start: $(tail -n 5 "$scratch/postgres.log")"
}
start_redis() {
    as_owner redis-server "$scratch/redis.conf"
    local tries=100
    until [ "$(redis-cli -p "$redis_port" ping 2>/dev/null)" = PONG ]; do
        [ $((tries -= 1)) -gt 0 ] || fail "Redis does not start: $(tail -n 5 "$scratch/redis.log")"
        sleep 0.05
    done
}

# $2 is `fast` (clients are told) or `immediate`. One that hangs could not take notice.
stop_server() {
    local pid
    pid=$(pid_of "$1") || return 0
    signal_all CONT "$1"
    case $1 in
        postgres) pg_ctl --wait --mode="$2" stop ;;
        redis)
            kill "$pid"
            while is_ours "$pid"; do sleep 0.05; done
            ;;
    esac
}

make_servers() {
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/sickbay.XXXXXX")
    owner=$(id -un)
    if [ "$(id -u)" -eq 0 ]; then
        owner=postgres
        id "$owner" >/dev/null 2>&1 || owner=nobody
        chown "$owner" "$scratch"
    fi
    # Written down before anything runs: from here on, whatever happens can be cleared up.
    postgres_port=$(spare_port)
    redis_port=$(spare_port)
    declare -p scratch owner postgres_port redis_port pg_bin playground >"$state"

    # Nobody else may read it on the way from here to initdb.
    (umask 077 && printf '%s' "$password" >"$scratch/password")
    chown "$owner" "$scratch/password"
    as_owner "$pg_bin/initdb" --pgdata="$scratch/data" --username=postgres --pwfile="$scratch/password" \
        --auth=scram-sha-256 --encoding=UTF8 --locale=C --no-sync >"$scratch/initdb.log" 2>&1 ||
        fail "initdb: $(tail -n 5 "$scratch/initdb.log")"
    rm "$scratch/password"
    as_owner "$pg_bin/postgres" --single -D "$scratch/data" postgres \
        <<<'CREATE DATABASE mlflow_db' >>"$scratch/initdb.log" 2>&1
    cat >>"$scratch/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = '$scratch'
fsync = off
shared_buffers = 16MB
CONF
    cat >"$scratch/redis.conf" <<CONF
bind 127.0.0.1
port $redis_port
dir $scratch
pidfile $scratch/redis.pid
logfile $scratch/redis.log
daemonize yes
save ""
CONF
    start_postgres
    start_redis
}

remove_servers() {
    stop_server postgres immediate || true
    stop_server redis now || true
    rm -rf "$scratch"
}

# ---- Ports ----

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Below the range from which the kernel takes ports for clients: a server that is stopped gets its own back.
spare_port() {
    local port
    while port=$((15000 + RANDOM % 15000)); do
        listens "$port" || break
    done
    echo "$port"
}

# ---- The commands that act on a running playground ----

if [ $# -gt 0 ]; then
    [[ "$*" =~ ^(stop|start|hang|wake)\ (postgres|redis)$ ]] ||
        fail "one of:"$'\n'"$(sed -n '5,8s/^# */  /p' tests/support/playground.sh)"
    [ -f "$state" ] || fail "no playground with servers of its own is running here: start one with 'make run'"
    # shellcheck source=/dev/null
    source "$state"
    case $1 in
        stop) stop_server "$2" fast ;;
        start) pid_of "$2" >/dev/null || "start_$2" ;;
        hang) signal_all STOP "$2" ;;
        wake) signal_all CONT "$2" ;;
    esac
    case $1 in
        stop) echo "$2 is stopped: connections are refused. Undo: $0 start $2" ;;
        start) echo "$2 runs." ;;
        hang) echo "$2 hangs: connections are accepted and not answered. Undo: $0 wake $2" ;;
        wake) echo "$2 goes on." ;;
    esac
    exit
fi

# ---- The playground ----

mkdir -p .run
if [ -f "$state" ]; then
    # shellcheck source=/dev/null
    playground='' && source "$state"
    if [ -e "/proc/$playground" ] && [ "$(readlink "/proc/$playground/cwd")" = "$PWD" ]; then
        fail "a playground is running here already (process $playground)"
    fi
    # It was killed, and could not clear up.
    remove_servers
    rm -f "$state"
fi

cargo build --locked

# A shell that has sourced the environment of an earlier playground still points at servers that are gone.
if [ -n "${SICKBAY_PLAYGROUND-}" ]; then
    unset DATABASE_HOST DATABASE_PORT DATABASE_USER DATABASE_PASSWORD REDIS_HOST REDIS_PORT SICKBAY_LISTEN
fi

playground=$$
agent=
own_servers=no
if [ -z "${DATABASE_HOST-}${DATABASE_URL-}" ]; then own_servers=yes; fi

# shellcheck disable=SC2317 # a trap calls it
end() {
    local status=$? tries=100
    trap '' INT TERM
    if [ -n "$agent" ] && kill -0 "$agent" 2>/dev/null; then
        echo "Stopping"
        kill "$agent" 2>/dev/null || true
        while kill -0 "$agent" 2>/dev/null && [ $((tries -= 1)) -gt 0 ]; do sleep 0.05; done
        kill -KILL "$agent" 2>/dev/null || true
    fi
    if [ -f "$state" ]; then remove_servers; fi
    rm -f "$state" .run/env
    exit "$status"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

: >.run/env
chmod 600 .run/env
# Sets a variable here and in .run/env.
give() {
    export "$1=$2"
    printf 'export %s=%q\n' "$1" "$2" >>.run/env
}

random() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }

if [ "$own_servers" = yes ]; then
    pg_bin=$(postgres_bin) || fail "PostgreSQL is not installed: run tests/support/install.sh run"
    password=$(random)
    make_servers
    # What the caller's shell may have set for servers of its own.
    others=(DATABASE_URL DATABASE_NAME DATABASE_SSLMODE DATABASE_SSLROOTCERT
        REDIS_URL REDIS_USERNAME REDIS_PASSWORD REDIS_TLS)
    unset "${others[@]}"
    echo "unset ${others[*]}" >>.run/env
    give DATABASE_HOST 127.0.0.1
    give DATABASE_PORT "$postgres_port"
    give DATABASE_USER postgres
    give DATABASE_PASSWORD "$password"
    give REDIS_HOST 127.0.0.1
    give REDIS_PORT "$redis_port"
    give SICKBAY_PLAYGROUND yes
fi
listen=${SICKBAY_LISTEN-}
if [ -z "$listen" ]; then
    listen=127.0.0.1:8686
    if listens 8686; then
        listen=127.0.0.1:$(spare_port)
        echo "Port 8686 is taken: the agent listens on $listen."
    fi
fi
give SICKBAY_LISTEN "$listen"
give SICKBAY_ADMIN_TOKEN "${SICKBAY_ADMIN_TOKEN:-$(random)}"
export SICKBAY_LOG_FORMAT=${SICKBAY_LOG_FORMAT-text}
# No load balancer has to notice that this agent goes.
export SICKBAY_DRAIN=${SICKBAY_DRAIN-0s}

if [ "$own_servers" = yes ]; then
    cat <<TEXT

PostgreSQL  127.0.0.1:$postgres_port  process $(pid_of postgres)  log $scratch/postgres.log
Redis       127.0.0.1:$redis_port  process $(pid_of redis)  log $scratch/redis.log

Their environment, also in .run/env; password and token are this playground's and go with it:

$(sed 's/^/  /' .run/env)
TEXT
else
    echo "DATABASE_HOST or DATABASE_URL is set: no servers are started, yours are watched."
fi

# Waits for the agent's end. It is not meant to come before ours.
agent_ended() {
    local code=0
    wait "$agent" || code=$?
    fail "the agent ended with exit code $code"
}

echo
"$binary" run &
agent=$!
tries=200
until "$binary" healthcheck >/dev/null 2>&1; do
    kill -0 "$agent" 2>/dev/null || agent_ended
    [ $((tries -= 1)) -gt 0 ] || fail "the agent does not answer on $listen"
    sleep 0.1
done

echo
# A failed check is what may be seen here; it is no reason to end.
"$binary" check || true

base=http://localhost:${listen##*:}
cat <<TEXT

  $base/health/ready      can this task serve?
  $base/health/alb        should it stay in the load balancer?
  $base/health/detailed   everything
  $base/circuits          the circuit breakers

TEXT
if [ "$own_servers" = yes ]; then
    cat <<TEXT
In another terminal, from this folder:

  source .run/env
  $binary check
  DATABASE_NAME=mlflow $binary check database   # a wrong name
  $binary circuit open redis --reason maintenance --for 5m

Break it (redis works the same) and watch /health/ready, /health/alb and the log here:

  tests/support/playground.sh stop postgres    # refused;         undo: start postgres
  tests/support/playground.sh hang postgres    # accepts, mute;   undo: wake postgres
  watch -n 1 curl -si $base/health/ready

A check comes every 10 s, and five failed ones in a row open the circuit: /health/ready is 503 after some
50 s, /health/alb stays 200. Once the server is back, trials close the circuit within some 70 s.

Ctrl-C stops and removes all of it.

TEXT
else
    cat <<TEXT
In another terminal, with the same variables set: $binary check

Ctrl-C stops the agent; your servers are left alone.

TEXT
fi

agent_ended
