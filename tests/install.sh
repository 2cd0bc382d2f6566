#!/bin/sh
# Installs the tools that the tests need besides Rust: Debian packages (as root or with sudo), store servers of
# other Debian releases (servers.sh), and schemathesis, axe-core, the Grafana foundation SDK and Helm's engine
# below the build output. Installs only what is missing.
set -eu
cd "$(dirname "$0")/.."

schemathesis=4.32.5

missing=
need() {
    command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}
need curl curl
need jq jq
need openssl openssl
need chromium chromium
need ip iproute2
need etcd etcd-server
need etcdctl etcd-client
need redis-server redis-server
need redis-cli redis-tools
need prometheus prometheus
need promtool prometheus
need python3 python3
if ! python3 -c 'import ensurepip, venv' >/dev/null 2>&1; then
    missing="$missing python3-venv"
fi

# libfaketime shifts the wall clock of a process.
find /usr/lib -path '*/faketime/libfaketime.so.1' 2>/dev/null | grep -q . || missing="$missing libfaketime"

if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ]; then
        as_root=
    elif command -v sudo >/dev/null 2>&1; then
        as_root=sudo
    else
        echo "error: cannot install the Debian packages$missing: not root, and sudo is missing. Install them, then run the command again." >&2
        exit 1
    fi
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "error: cannot install the Debian packages$missing: apt-get is missing. Install the same tools another way, then run the command again." >&2
        exit 1
    fi
    echo "Installing$missing"
    $as_root apt-get update -qq
    # shellcheck disable=SC2086 # a list of names
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $missing >/dev/null
fi

tests/servers.sh

venv="${CARGO_TARGET_DIR:-target}/tools/schemathesis"
if [ "$("$venv/bin/schemathesis" --version 2>/dev/null | grep -oE '[0-9]+(\.[0-9]+)+')" != "$schemathesis" ]; then
    echo "Installing schemathesis $schemathesis into $venv"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "schemathesis==$schemathesis"
fi

# axe-core, which checks pages for accessibility.
axe=0.1.0
if [ ! -d "${CARGO_TARGET_DIR:-target}/tools/axe/axe_core_python-$axe.dist-info" ]; then
    echo "Installing axe-core"
    rm -rf "${CARGO_TARGET_DIR:-target}/tools/axe"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
        --target "${CARGO_TARGET_DIR:-target}/tools/axe" "axe-core-python==$axe"
fi

venv="${CARGO_TARGET_DIR:-target}/tools/grafana"
if ! cmp -s deploy/grafana/requirements.txt "$venv/requirements.txt"; then
    echo "Installing the Grafana foundation SDK into $venv"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r deploy/grafana/requirements.txt
    cp deploy/grafana/requirements.txt "$venv/requirements.txt"
fi

deploy/dist/manifests.sh install
