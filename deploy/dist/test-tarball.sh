#!/usr/bin/env bash
# Tests the archive and install.sh: without root into a home directory, over HTTP, damaged, repeated, and removed.
cd "$(dirname "$0")/../.."
. deploy/dist/common.sh
archive=$out/$name.tar.gz
[ -e "$archive" ] || fail "$archive is missing"
scratch=$(mktemp -d)
web=
cleanup() {
    [ -z "$web" ] || kill "$web" 2>/dev/null || true
    rm -rf "$scratch"
}
trap cleanup EXIT
chmod 0755 "$scratch"
mkdir "$scratch/home" "$scratch/release" "$scratch/unpacked"
cp "$archive" "$out/install.sh" "$scratch/release/"
(cd "$scratch/release" && sha256sum "$name.tar.gz" install.sh >SHA256SUMS)
tar -xzf "$archive" -C "$scratch/unpacked"
# As a user without rights, if this is root.
words=(env -i HOME="$scratch/home" PATH="$scratch/home/.local/bin:/usr/bin:/bin" LANG=C.UTF-8)
if [ "$(id -u)" = 0 ]; then
    chown -R 65534:65534 "$scratch/home"
    words=(setpriv --reuid=65534 --regid=65534 --clear-groups "${words[@]}")
fi
refused() {
    if "$@" >"$scratch/said" 2>&1; then
        cat "$scratch/said" >&2
        fail "this was not refused: $*"
    fi
}

say "from an unpacked archive, without root"
"${words[@]}" "$scratch/unpacked/$name/install.sh"
for file in bin/rota share/man/man1/rota.1 share/bash-completion/completions/rota share/rota/installed; do
    [ -e "$scratch/home/.local/$file" ] || fail "$file was not installed"
done
deploy/dist/first-task.sh "$scratch/home" "${words[@]}"
# Again, over a version that had another file.
echo share/rota/former >>"$scratch/home/.local/share/rota/installed"
"${words[@]}" touch "$scratch/home/.local/share/rota/former"
"${words[@]}" "$scratch/unpacked/$name/install.sh" >/dev/null
[ ! -e "$scratch/home/.local/share/rota/former" ] || fail "a file of the former version is left"
"${words[@]}" "$scratch/unpacked/$name/install.sh" --uninstall
[ -z "$(find "$scratch/home/.local" -type f)" ] || fail "files are left: $(find "$scratch/home/.local" -type f)"

say "as curl … | sh, from a server"
: >"$scratch/web"
python3 -u -m http.server --bind 127.0.0.1 --directory "$scratch/release" 0 >"$scratch/web" 2>/dev/null &
web=$!
until port=$(grep -oE 'port [0-9]+' "$scratch/web" | cut -d' ' -f2) && [ -n "$port" ]; do sleep 0.02; done
"${words[@]}" sh -c "curl -fsS http://127.0.0.1:$port/install.sh | sh -s -- --from http://127.0.0.1:$port --prefix $scratch/home/elsewhere"
[ -x "$scratch/home/elsewhere/bin/rota" ] || fail "nothing was installed"

say "damaged files are refused, and nothing is written"
printf x >>"$scratch/release/$name.tar.gz"
refused "${words[@]}" sh "$scratch/release/install.sh" --from "http://127.0.0.1:$port" --prefix "$scratch/home/bad"
grep -q 'checksum' "$scratch/said" || fail "the error is another: $(cat "$scratch/said")"
printf x >>"$scratch/unpacked/$name/share/man/man1/rota.1"
refused "${words[@]}" "$scratch/unpacked/$name/install.sh" --prefix "$scratch/home/bad"
refused "${words[@]}" sh "$scratch/release/install.sh" --from "http://127.0.0.1:1" --prefix "$scratch/home/bad"
refused "${words[@]}" sh "$scratch/release/install.sh" --prefx x
# Half a script does nothing.
head -c 3000 "$scratch/release/install.sh" >"$scratch/half"
refused "${words[@]}" sh "$scratch/half" --prefix "$scratch/home/bad"
[ ! -e "$scratch/home/bad" ] || fail "something was written"
say "the archive installs without root, and damaged files are refused"
