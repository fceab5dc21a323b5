#!/usr/bin/env bash
# Checks the dependencies against deny.toml.
#
# Licences, bans and sources are read from what cargo has; known vulnerabilities come from a database on
# GitHub, which not every machine may reach. Where it can be had neither from there nor from an earlier
# fetch, that check is left out, and the last lines say so.
set -euo pipefail

command -v cargo-deny >/dev/null || cargo install cargo-deny --locked

cargo deny --locked check bans licenses sources

if timeout 120 cargo deny --locked fetch db; then
    cargo deny --locked check advisories
elif compgen -G "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs/*/crates" >/dev/null; then
    echo "warning: the advisory database could not be renewed; using the one from an earlier fetch" >&2
    cargo deny --locked check --disable-fetch advisories
else
    echo "WARNING: known vulnerabilities were NOT checked: the advisory database cannot be fetched here." >&2
    echo "WARNING: run 'make audit' on a machine that reaches github.com/rustsec/advisory-db." >&2
fi
