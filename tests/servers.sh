#!/bin/sh
# Unpacks store servers from other Debian releases than this machine's, to test against more versions:
# etcd 3.5, Consul and Valkey. Nothing is installed into the system: each server ends up in
# target/tools/servers/NAME, with its program in usr/bin below it. Needs no root. Downloads only what is missing.
set -eu
cd "$(dirname "$0")/.."

tools="$(realpath -m "${CARGO_TARGET_DIR:-target}/tools")"

# The mirror of this machine's own configuration, whichever that is.
mirror="$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' | sed -n 's/^Debian \(.*\)/\1/p' | head -n 1)"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
if [ -z "$mirror" ] || [ ! -r "$keyring" ]; then
    echo "error: cannot download store servers: apt has no Debian mirror, or $keyring is missing" >&2
    exit 1
fi

# fetch NAME SUITE PACKAGE PROGRAM [MORE PACKAGES]
fetch() {
    name=$1 suite=$2 program=$4
    packages=$3
    shift 4
    packages="$packages $*"
    into="$tools/servers/$name"
    if [ -x "$into/usr/bin/$program" ]; then
        return
    fi
    echo "Downloading $name from Debian $suite"
    apt="$tools/apt/$suite"
    rm -rf "$into" "$into.part"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$into.part"
    echo "deb [signed-by=$keyring] $mirror $suite main" >"$apt/sources.list"
    : >"$apt/status"
    set -- -qq -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
        -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt/cache" -o "Dir::State::status=$apt/status" \
        -o APT::Sandbox::User=root -o APT::Get::List-Cleanup=false
    apt-get "$@" update
    # shellcheck disable=SC2086 # a list of names
    (cd "$into.part" && apt-get "$@" download $packages && for package in *.deb; do dpkg -x "$package" . && rm "$package"; done)
    mv "$into.part" "$into"
    rm -rf "$apt/lists"
}

fetch etcd-3.5 trixie etcd-server etcd etcd-client
fetch consul-1.8 bullseye consul consul
fetch valkey-8 bookworm-backports valkey-server valkey-server valkey-tools valkey-sentinel
