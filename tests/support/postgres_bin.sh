#!/usr/bin/env bash
# Sourced: finds PostgreSQL's programs.

# Prints the folder with `postgres`, `initdb` and `pg_ctl`; fails where there is none. Debian keeps them out
# of PATH, one folder for each version: the newest is taken.
postgres_bin() {
    local dir
    dir=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort --version-sort | tail -n 1)
    if [ ! -x "$dir/initdb" ]; then
        dir=$(command -v initdb) || return 1
        dir=$(dirname "$(readlink -f "$dir")")
    fi
    [ -x "$dir/initdb" ] && [ -x "$dir/postgres" ] && echo "$dir"
}
