# Variables that the scripts in this directory share. A script sources it from the root of the repository.
# shellcheck shell=bash disable=SC2034 # the scripts use the variables
#
# DIST_PROFILE    release (default) or dev: the profile of the program. With dev, the scripts package
#                 target/debug/rota as it is, to try the packaging without a build of ten minutes.
# DIST_BUILD      no: package the program that is built already
# DIST_REVISION   revision of the Debian package [default: 1]

set -euo pipefail
target=$(realpath "${CARGO_TARGET_DIR:-target}")
profile=${DIST_PROFILE:-release}
version=$(sed -n '/^\[workspace.package\]/,/^\[/ s/^version = "\(.*\)"/\1/p' Cargo.toml)
case "$(uname -m)" in
    x86_64) machine=x86_64 debian=amd64 oci=amd64 ;;
    aarch64) machine=aarch64 debian=arm64 oci=arm64 ;;
    *) echo "error: packages are made on x86_64 and aarch64 only, not on $(uname -m)" >&2; exit 1 ;;
esac
case "$profile" in
    release) built=$target/release/rota out=$target/dist ;;
    dev) built=$target/debug/rota out=$target/dist-dev ;;
    *) echo "error: DIST_PROFILE is $profile; use release or dev" >&2; exit 1 ;;
esac
name=rota-$version-$machine-linux-gnu
# The installed files below one prefix: stage.sh makes them, and all packages hold them.
stage=$out/stage
# The same input makes the same archives: no file is younger than the commit.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

say() {
    printf '== %s\n' "$*"
}

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Runs a command as the only writer of its output, and shows it only if the command fails.
quietly() {
    local log
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}
