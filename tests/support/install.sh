#!/usr/bin/env bash
# Installs what building, running, testing or linting Sickbay needs and the machine lacks.
#
#   tests/support/install.sh build|run|test|lint|bench
#
# It looks for programs, not for packages: a PostgreSQL from another source is as good as Debian's. Where
# nothing is missing it ends at once, without network, without sudo. Where something is missing it asks
# apt, as root or through a sudo that asks for no password; where it may not, it says what to install and
# fails.
#
# Debian's server packages start a server on the standard port when they are installed. Sickbay starts its
# own, throw-away ones on spare ports, so nothing is left running here that did not run before, and nothing
# that ran before is touched.
set -euo pipefail

# shellcheck source=tests/support/postgres_bin.sh
source "$(dirname "${BASH_SOURCE[0]}")/postgres_bin.sh"

usage() {
    echo "usage: $0 build|run|test|lint|bench" >&2
    exit 2
}

have() { command -v "$1" >/dev/null 2>&1; }

# Daemons live in sbin, which is not in every user's PATH.
have_daemon() { have "$1" || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ]; }

# Fills `missing` with one Debian package for each thing that is not there.
missing=()
need_build() {
    have make || missing+=(make)
    have cc || missing+=(gcc libc6-dev)
    have pkg-config || missing+=(pkg-config)
    # native-tls links OpenSSL; a pkg-config that is yet to come cannot be asked.
    { have pkg-config && pkg-config --exists openssl; } || missing+=(libssl-dev)
}
need_run() {
    need_build
    postgres_bin >/dev/null || missing+=(postgresql)
    have redis-server || missing+=(redis-server)
}
need_test() {
    need_run
    # dnsmasq-base is the program alone; the package `dnsmasq` adds a service that takes port 53.
    have_daemon dnsmasq || missing+=(dnsmasq-base)
    have_daemon pgbouncer || missing+=(pgbouncer)
    have openssl || missing+=(openssl)
    # Networks to be broken: tests/support/lab.rs.
    have_daemon ip || missing+=(iproute2)
    have_daemon nft || missing+=(nftables)
    { have unshare && have nsenter; } || missing+=(util-linux)
    # Without ensurepip, which Debian has in a package of its own, no virtual environment can be made.
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
}
need_bench() {
    need_test
    have_daemon haproxy || missing+=(haproxy)
    have wrk || missing+=(wrk)
    have curl || missing+=(curl)
    have taskset || missing+=(util-linux)
}
need_lint() {
    need_build
    have shellcheck || missing+=(shellcheck)
}

case "${1-}" in
    build | run | test | lint | bench) "need_$1" ;;
    *) usage ;;
esac
have cargo || {
    echo "error: cargo is not in PATH: install Rust 1.95 or newer, see https://rustup.rs" >&2
    exit 1
}

# Validators that are not ours, from PyPI, in a folder of their own: .venv, beside Cargo.toml.
python_tools() {
    local root requirements
    root=$(dirname "${BASH_SOURCE[0]}")/../..
    requirements=$root/tests/support/requirements.txt
    cmp --quiet "$requirements" "$root/.venv/requirements.txt" && return
    rm -rf "$root/.venv"
    python3 -m venv "$root/.venv"
    "$root/.venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$requirements" || {
        echo "error: pip could not install what tests/support/requirements.txt names" >&2
        exit 1
    }
    # Last, so that a half-made folder is made again.
    cp "$requirements" "$root/.venv/requirements.txt"
}
finish() { if [ "$1" = test ]; then python_tools; fi; }
if [ ${#missing[@]} -eq 0 ]; then
    finish "$1"
    exit 0
fi

tell() {
    echo "error: missing: ${missing[*]}" >&2
    if have apt-get; then
        echo "Neither root nor a sudo without a password is at hand. Please run:" >&2
        echo "  sudo apt-get update && sudo apt-get install --no-install-recommends ${missing[*]}" >&2
    else
        echo "These are Debian's package names and this machine has no apt-get: install their like." >&2
    fi
    exit 1
}
have apt-get || tell
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    { have sudo && sudo -n true 2>/dev/null; } || tell
    as_root=(sudo -n)
fi

apt_install() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install --quiet --yes --no-install-recommends "$@"
}

# What was changed to keep services from starting, and how to undo it, whatever happens.
policy=/usr/sbin/policy-rc.d
cluster_conf=/etc/postgresql-common/createcluster.d/sickbay.conf
undo=()
undo_all() {
    local step
    for step in "${undo[@]}"; do "${as_root[@]}" sh -c "$step"; done
}
trap undo_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# policy-rc.d is how Debian is told not to start services while packages are installed. One that is there
# already is somebody's decision: it stays.
hold_services() {
    [ -e "$policy" ] && return
    undo+=("rm -f $policy")
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
}

# A newly installed PostgreSQL makes a cluster that starts with the machine, unless its settings say not to.
hold_cluster() {
    undo+=("rm -f $cluster_conf")
    "${as_root[@]}" mkdir -p "$(dirname "$cluster_conf")"
    echo 'create_main_cluster = false' | "${as_root[@]}" tee "$cluster_conf" >/dev/null
}

# A service that came with a package of ours would start with the machine and take its standard port.
disable_service() {
    if have systemctl; then "${as_root[@]}" systemctl --quiet disable "$1" 2>/dev/null || true; fi
}

wanted() { [[ " ${missing[*]} " == *" $1 "* ]]; }

echo "Installing ${missing[*]}" >&2
"${as_root[@]}" apt-get update --quiet
hold_services
if wanted postgresql; then hold_cluster; fi
apt_install "${missing[@]}"
if wanted redis-server; then disable_service redis-server.service; fi
if wanted pgbouncer; then disable_service pgbouncer.service; fi
if wanted haproxy; then disable_service haproxy.service; fi
finish "$1"
