#!/usr/bin/env bash
# Makes the container image from the staged files, with buildah and without a daemon, and tests it.
cd "$(dirname "$0")/../.."
. deploy/dist/common.sh
command -v buildah >/dev/null || fail "buildah is missing; install it: apt-get install buildah"
image=$out/image
rm -rf "$image" "$out/state"
mkdir -p "$image"/{usr/bin,etc/ssl/certs,tmp,run} "$out/state/rota"
chmod 0700 "$out/state/rota"
chmod 1777 "$image/tmp"
install -m 0755 "$stage/bin/rota" "$image/usr/bin/rota"
# The libraries that the program asks for, at the paths where its loader looks.
ldd "$stage/bin/rota" | grep -oE '/[^ ]+' | sort -u | while read -r library; do
    install -D -m 0755 "$(realpath "$library")" "$image$library"
    # The database of dpkg has some files below /lib and some below /usr/lib, which are the same.
    owner=$(dpkg-query -S "$library" "/usr$library" "$(realpath "$library")" 2>/dev/null | cut -d: -f1 | head -n 1 || true)
    [ -z "$owner" ] || install -D -m 0644 "/usr/share/doc/$owner/copyright" "$image/usr/share/doc/$owner/copyright"
done
install -m 0644 /etc/ssl/certs/ca-certificates.crt "$image/etc/ssl/certs/"
# Container runtimes replace this file; without one, `localhost` would have no address.
printf '127.0.0.1 localhost\n::1 localhost\n' >"$image/etc/hosts"
echo 'hosts: files dns' >"$image/etc/nsswitch.conf"
printf 'root:x:0:0:root:/:/sbin/nologin\nrota:x:65532:65532:Rota:/var/lib/rota:/sbin/nologin\n' >"$image/etc/passwd"
printf 'root:x:0:\nrota:x:65532:\n' >"$image/etc/group"
find "$image" "$out/state" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

# A storage of its own, so that nothing is left in that of the machine.
store=$(mktemp -d)
build() {
    buildah --root "$store/root" --runroot "$store/run" --storage-driver vfs "$@"
}
container=
cleanup() {
    kill $(jobs -p) 2>/dev/null || true
    rm -rf "$store"
}
trap cleanup EXIT
quietly build build --isolation chroot --format docker --pull-never --timestamp "$SOURCE_DATE_EPOCH" \
    --label org.opencontainers.image.title=rota --label "org.opencontainers.image.version=$version" \
    --label org.opencontainers.image.licenses=Apache-2.0 \
    --tag "rota:$version" --file deploy/docker/Dockerfile.release "$out"
archive=$out/rota-$version-image-$oci.tar
rm -f "$archive"
quietly build push "rota:$version" "docker-archive:$archive:rota:$version"
say "$(basename "$archive"): $(stat -c %s "$archive" | numfmt --to=si)"

# The test reads the image back from its archive.
quietly build rmi --all --force
quietly build pull "docker-archive:$archive"
settings=$(build inspect --type image "rota:$version")
for wanted in '"65532:65532"' '"HEALTHCHECK"\|"Healthcheck"\|healthcheck' '"/usr/bin/rota"'; do
    grep -q "$wanted" <<<"$settings" || fail "the image lacks $wanted"
done
container=$(build from --pull-never "rota:$version")
mounted=$(build mount "$container")
[ ! -e "$mounted/bin/sh" ] || fail "the image has a shell"
[ "$(stat -c '%u:%g %a' "$mounted/var/lib/rota")" = "65532:65532 700" ] || fail "the directory of the state is not private"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
# As the container would run it, but without namespaces: this also works where none can be made.
words=(timeout 60 chroot --userspec=65532:65532 "$mounted" /usr/bin/rota)
export ROTA_API_TOKENS=token-of-this-test-only ROTA_TOKEN=token-of-this-test-only ROTA_URL=http://127.0.0.1:$port
ROTA_STORE=file:/var/lib/rota/data "${words[@]}" server --listen "127.0.0.1:$port" >"$store/server.log" 2>&1 </dev/null &
node=$!
"${words[@]}" worker --http-allow-private >"$store/worker.log" 2>&1 </dev/null &
worker=$!
stop() {
    kill "$worker" "$node" 2>/dev/null || true # timeout passes the signal on
    wait "$worker" "$node" 2>/dev/null || true
}
for _ in $(seq 200); do
    "${words[@]}" info >/dev/null 2>&1 && break
    sleep 0.05
done
# The health check of the image.
"${words[@]}" info >/dev/null || { cat "$store/server.log"; stop; fail "the health check fails"; }
"${words[@]}" task create --wait --max-attempts 1 --http "http://localhost:$port/healthz" >"$store/said" 2>&1 || {
    cat "$store"/*.log "$store/said"
    stop
    fail "the first task failed"
}
[ -e "$mounted/var/lib/rota/data" ] || fail "the node did not keep its state in the volume"
stop
"${words[@]}" info >/dev/null 2>&1 && fail "the health check passes without a node"
say "the image has no shell, runs as 65532, its health check works, and a node and a worker in it ran a first task"
rm -rf "$image" "$out/state"
