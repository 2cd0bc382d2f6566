#!/bin/sh
# `make demo`: installs the programs that the tasks run, builds the demo and starts it. It uses a
# development build, which takes less time and is fast enough for the demo.
set -eu
cd "$(dirname "$0")/.."

missing=
for pair in gzip:gzip sha256sum:coreutils; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done
if [ -n "$missing" ]; then
    echo "Installing$missing"
    as_root=
    [ "$(id -u)" = 0 ] || as_root=sudo
    $as_root apt-get update -qq
    # shellcheck disable=SC2086 # a list of names
    $as_root apt-get install -qq -y --no-install-recommends $missing >/dev/null
fi

echo "Building (the first build takes several minutes)"
cargo build --package rota --package rota-demo
exec "${CARGO_TARGET_DIR:-target}/debug/rota-demo" "${DIR:-/usr/share/doc}"
