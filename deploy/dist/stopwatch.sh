#!/usr/bin/env bash
# Measures the first minute of a new user: from the Debian package to the first result, on the command line and in Rust.
# It takes every command and the program from docs/getting-started.md, and runs them in an empty root of Debian.
#
#   stopwatch.sh [archive|machine] [rust]    where the root comes from (root.sh); with `rust`, also the Rust program
#
# Two things differ from the page: dpkg installs the package, because an empty root has no apt and needs no sudo, and the
# crates come from this directory instead of GitHub. Cargo runs outside the root, with an empty build directory.
cd "$(dirname "$0")/../.."
. deploy/dist/common.sh
page=docs/getting-started.md
root=$(mktemp -d)
cleanup() {
    # shellcheck disable=SC2046 # a list
    kill $(jobs -p) 2>/dev/null || true
    wait 2>/dev/null || true
    umount "$root/proc" 2>/dev/null || true
    rm -rf --one-file-system "$root"
}
trap cleanup EXIT
deploy/dist/root.sh "$root" "${1:-archive}"
chmod 0755 "$root"
mount -t proc proc "$root/proc" 2>/dev/null || true
install -d -o 65534 -g 65534 "$root/home/new" "$root/tmp"
cp "$out/rota_$version-1_$debian.deb" "$root/home/new/"

# The lines of the page in a block of this language that begin with these words.
command_of() {
    local found
    found=$(awk '/^```sh/ { on = 1; next } /^```/ { on = 0 } on' "$page" | grep -m 1 -F -- "$1") || fail "$page has no command $1"
    printf '%s\n' "$found"
}
installation=$(command_of 'sudo apt install ./rota' | sed 's/^sudo apt install/dpkg --install/')
start=$(command_of 'rota dev')
first=$(command_of 'rota task create')
as_root() {
    chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -c "cd /home/new && $1" </dev/null
}
new=(chroot --userspec=65534:65534 "$root" env -i HOME=/home/new PATH=/usr/bin:/bin sh -c)
now() {
    date +%s%3N
}
seconds() {
    awk -v ms="$1" 'BEGIN { printf "%.1f s", ms / 1000 }'
}

begin=$(now)
quietly as_root "$installation"
installed=$(now)
: >"$root/banner"
"${new[@]}" "cd /home/new && exec $start" >"$root/banner" 2>"$root/log" </dev/null &
dev=$!
until grep -q 'rota task create' "$root/banner"; do
    kill -0 "$dev" 2>/dev/null || fail "$start ended: $(cat "$root/log")"
    [ $(($(now) - installed)) -lt 30000 ] || fail "$start shows no banner: $(cat "$root/log")"
    sleep 0.02
done
ready=$(now)
result=$("${new[@]}" "cd /home/new && $first" 2>/dev/null </dev/null)
ended=$(now)
grep -q hello <<<"$result" || fail "$first printed: $result"
echo "command line: $(seconds $((ended - begin))): $(seconds $((installed - begin))) to install, $((ready - installed)) ms until the banner, $((ended - ready)) ms for the first task"

[ "${2:-}" = rust ] || exit 0
program=$root/home/new/hello
begin=$(now)
crates=$PWD/crates
# The page adds the crates from GitHub.
cargo() {
    case "$*" in
        "add --git "*) command cargo add --quiet --path "$crates/rota-client" && command cargo add --quiet --path "$crates/rota-worker" ;;
        new* | add*) command cargo "$1" --quiet "${@:2}" ;;
        *) command cargo "$@" ;;
    esac
}
steps=$(awk '/^```sh/ { on = 1; next } /^```/ { on = 0 } on' "$page" | grep -E '^cargo (new|add)')
(cd "$root/home/new" && eval "$steps")
awk '/^```rust/ { on = 1; next } /^```/ { on = 0 } on' "$page" >"$program/src/main.rs"
built=$(now)
result=$(cd "$program" && CARGO_TARGET_DIR=$root/home/new/target cargo run --quiet)
ended=$(now)
[ "$result" = "hello, Ada" ] || fail "cargo run printed: $result"
again=$(now)
(cd "$program" && touch src/main.rs && CARGO_TARGET_DIR=$root/home/new/target cargo run --quiet >/dev/null)
echo "Rust: $(seconds $((ended - begin))): $(seconds $((built - begin))) for the project, $(seconds $((ended - built))) to build and run; after a change $(seconds $(($(now) - again)))"
