#!/usr/bin/env bash
# Tests the Debian package in an empty root: install, first task, upgrade, remove, purge. Does not touch the packages
# of this machine.
#
#   test-deb.sh [archive|machine]    where the root comes from (root.sh)
cd "$(dirname "$0")/../.."
. deploy/dist/common.sh
deb=$out/rota_$version-1_$debian.deb
[ -e "$deb" ] || fail "$deb is missing"
root=$(mktemp -d)
cleanup() {
    umount "$root/proc" 2>/dev/null || true
    rm -rf --one-file-system "$root"
}
trap cleanup EXIT
deploy/dist/root.sh "$root" "${1:-archive}"
chmod 0755 "$root"
# The program reads /proc before it runs programs. Everything else works without it.
mount -t proc proc "$root/proc" 2>/dev/null || say "no /proc in the root: mounts are not allowed here"

inside() {
    chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@" </dev/null
}
as_user() {
    printf '%s\n' chroot --userspec="$1" "$root" env -i PATH=/usr/bin:/bin LANG=C.UTF-8
}
expect() {
    local what=$1
    shift
    "$@" || fail "$what"
}
package() {
    cp "$1" "$root/tmp/rota.deb"
    inside dpkg --install /tmp/rota.deb >"$root/tmp/log" 2>&1 || { cat "$root/tmp/log" >&2; fail "dpkg --install failed"; }
}

say "install"
package "$deb"
expect "the user rota is missing" inside getent passwd rota >/dev/null
expect "/var/lib/rota is not private to rota" [ "$(inside stat -c '%U:%G %a' /var/lib/rota)" = "rota:rota 700" ]
expect "the manual pages are missing" [ -e "$root/usr/share/man/man1/rota-task-create.1.gz" ]
expect "the unit is missing" [ -e "$root/usr/lib/systemd/system/rota-server.service" ]
expect "a service was enabled" [ ! -e "$root/etc/systemd/system/multi-user.target.wants/rota-server.service" ]
for settings in rota worker; do
    inside rota config --config "/etc/rota/$settings.toml" >/dev/null
    # Each example of the settings must be valid as well.
    sed -n 's/^# \([a-z_]* = .*\)$/\1/p' "$root/etc/rota/$settings.toml" >"$root/tmp/example.toml"
    expect "no examples in $settings.toml" [ -s "$root/tmp/example.toml" ]
    inside rota config --config /tmp/example.toml >/dev/null
done
if command -v systemd-analyze >/dev/null; then
    for unit in rota-server rota-worker; do
        # A level of 0 is perfect; 10 is a unit without any limits.
        quietly systemd-analyze security --offline=true --threshold=20 "$root/usr/lib/systemd/system/$unit.service"
    done
fi

say "first task, as a user without rights"
install -d -o 65534 -g 65534 "$root/tmp/home"
mapfile -t words < <(as_user 65534:65534)
deploy/dist/first-task.sh /tmp/home "${words[@]}"

say "state and settings are kept in an upgrade"
mapfile -t words < <(as_user rota:rota)
: >"$root/tmp/server.log"
"${words[@]}" sh -c 'cd /var/lib/rota && exec rota server --config /etc/rota/rota.toml --listen 127.0.0.1:0 --log-format json' \
    >/dev/null 2>"$root/tmp/server.log" </dev/null &
server=$!
until url=$(grep -oE 'http://127.0.0.1:[0-9]+' "$root/tmp/server.log" | head -n 1) && [ -n "$url" ]; do
    kill -0 "$server" 2>/dev/null || { cat "$root/tmp/server.log" >&2; fail "the server ended"; }
    sleep 0.05
done
"${words[@]}" sh -c "cd / && rota task create --url $url --kind k --id kept" >/dev/null
kill "$server"
wait "$server" || fail "the server did not end well"
[ -e "$root/var/lib/rota/rota-data" ] || fail "the server did not keep its state in /var/lib/rota"
echo 'slots = 3' >>"$root/etc/rota/worker.toml"
echo 'ROTA_API_TOKENS=secret-secret-secret' >"$root/etc/rota/server.env"
# Stand-ins for systemd write down what maintainer scripts ask of it.
mkdir -p "$root/run/systemd/system"
mkdir -p "$root/usr/local/bin"
for program in systemctl deb-systemd-invoke; do
    printf '#!/bin/sh\necho "%s $*" >>/tmp/asked\n' "$program" >"$root/usr/local/bin/$program"
    chmod 0755 "$root/usr/local/bin/$program"
done
inside_with_systemd() {
    chroot "$root" env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 "$@" </dev/null
}
upgraded=$out/rota_$version-2_$debian.deb
quietly env DIST_REVISION=2 deploy/dist/deb.sh
mv "$upgraded" "$root/tmp/rota.deb"
quietly inside_with_systemd dpkg --install /tmp/rota.deb
expect "the version is the old one" [ "$(inside dpkg-query -W -f '${Version}' rota)" = "$version-2" ]
expect "the state is gone" [ -e "$root/var/lib/rota/rota-data" ]
expect "changed settings are gone" grep -q '^slots = 3' "$root/etc/rota/worker.toml"
expect "the server was not restarted" grep -q 'deb-systemd-invoke try-restart rota-server.service' "$root/tmp/asked"
expect "the server was stopped" [ -z "$(grep 'stop' "$root/tmp/asked")" ]

say "a service is not restarted with settings that the new version refuses"
: >"$root/tmp/asked"
echo 'no_such_key = 1' >>"$root/etc/rota/rota.toml"
inside_with_systemd dpkg --install /tmp/rota.deb >"$root/tmp/log" 2>&1
expect "the server was restarted" [ -z "$(grep 'try-restart rota-server' "$root/tmp/asked")" ]
expect "the worker was not restarted" grep -q 'try-restart rota-worker' "$root/tmp/asked"
expect "nothing was said" grep -q 'no_such_key' "$root/tmp/log"
sed -i '/no_such_key/d' "$root/etc/rota/rota.toml"

say "remove"
: >"$root/tmp/asked"
quietly inside_with_systemd dpkg --remove rota
expect "the services were not stopped" grep -q 'stop rota-worker.service rota-server.service' "$root/tmp/asked"
expect "the program is still there" [ ! -e "$root/usr/bin/rota" ]
expect "the state is gone" [ -e "$root/var/lib/rota/rota-data" ]
expect "the settings are gone" [ -e "$root/etc/rota/rota.toml" ]

say "install again, and purge"
package "$deb"
inside sh -c 'cd /var/lib/rota && test "$(stat -c %U rota-data)" = rota'
quietly inside_with_systemd dpkg --purge rota
for path in /usr/bin/rota /etc/rota /var/lib/rota /usr/share/doc/rota /usr/lib/systemd/system/rota-server.service; do
    expect "$path is still there" [ ! -e "$root$path" ]
done
expect "the package is not gone" [ -z "$(inside dpkg-query -W -f '${Status}' rota 2>/dev/null)" ]
say "the package installs, upgrades, is removed and is purged"
