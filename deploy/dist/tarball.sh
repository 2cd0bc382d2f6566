#!/usr/bin/env bash
# Makes the archive for any Linux with glibc from the staged files: with install.sh and checksums inside.
cd "$(dirname "$0")/../.."
. deploy/dist/common.sh
pack=$out/$name
rm -rf "$pack"
mkdir -p "$pack"
cp -a "$stage/." "$pack/"
mkdir -p "$pack/share/rota/systemd"
install -m 0644 deploy/systemd/rota-server.service deploy/systemd/rota-worker.service "$pack/share/rota/systemd/"
install -m 0644 deploy/debian/rota.toml deploy/debian/worker.toml "$pack/share/rota/"
sed "s/@VERSION@/$version/" deploy/dist/install.sh >"$out/install.sh"
install -m 0755 "$out/install.sh" "$pack/install.sh"
(cd "$pack" && find . -type f ! -name SHA256SUMS -printf '%P\0' | sort -z | xargs -0 sha256sum >SHA256SUMS)
find "$pack" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
level=$([ "$profile" = dev ] && echo 1 || echo 9)
tar --create --sort=name --owner=0 --group=0 --numeric-owner --directory "$out" "$name" | gzip -n "-$level" >"$out/$name.tar.gz"
rm -rf "$pack"
say "$name.tar.gz: $(stat -c %s "$out/$name.tar.gz" | numfmt --to=si)"
