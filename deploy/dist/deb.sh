#!/usr/bin/env bash
# Makes the Debian package from the staged files, with dpkg-deb. cargo-deb would need a Rust build of minutes for
# what these lines do, and its maintainer scripts would be ours all the same.
cd "$(dirname "$0")/../.."
. deploy/dist/common.sh
revision=${DIST_REVISION:-1}
root=$out/deb
rm -rf "$root"
mkdir -p "$root"/{DEBIAN,usr,etc/rota,usr/lib/systemd/system,usr/share/lintian/overrides}
cp -a "$stage/." "$root/usr/"
doc=$root/usr/share/doc/rota
# Debian has one copy of the licence, and another place for the completions of zsh.
rm "$doc/LICENSE"
mkdir -p "$root/usr/share/zsh/vendor-completions"
mv "$root/usr/share/zsh/site-functions/_rota" "$root/usr/share/zsh/vendor-completions/"
rmdir "$root/usr/share/zsh/site-functions"
mv "$doc/CHANGELOG.md" "$doc/changelog"
printf 'rota (%s-%s) unstable; urgency=medium\n\n  * Release %s. See changelog.gz.\n\n -- Rota maintainers <rota@example.com>  %s\n' \
    "$version" "$revision" "$version" "$(date --utc --date="@$SOURCE_DATE_EPOCH" -R)" >"$doc/changelog.Debian"
gzip -9n "$doc/changelog" "$doc/changelog.Debian" "$root"/usr/share/man/man1/*.1
install -m 0644 deploy/debian/copyright "$doc/copyright"
install -m 0644 deploy/debian/lintian-overrides "$root/usr/share/lintian/overrides/rota"
install -m 0644 deploy/systemd/rota-server.service deploy/systemd/rota-worker.service "$root/usr/lib/systemd/system/"
install -m 0644 deploy/debian/rota.toml deploy/debian/worker.toml "$root/etc/rota/"

# The newest version of the C library that the program names.
libc=$(objdump -T "$root/usr/bin/rota" | grep -oE 'GLIBC_[0-9.]+' | cut -d_ -f2 | sort -V | tail -n 1)
sed -e "s/@VERSION@/$version-$revision/" -e "s/@ARCHITECTURE@/$debian/" -e "s/@LIBC@/$libc/" \
    -e "s/@SIZE@/$(du -sk --exclude=DEBIAN "$root" | cut -f1)/" deploy/debian/control.in >"$root/DEBIAN/control"
printf '/etc/rota/rota.toml\n/etc/rota/worker.toml\n' >"$root/DEBIAN/conffiles"
install -m 0755 deploy/debian/postinst deploy/debian/prerm deploy/debian/postrm "$root/DEBIAN/"
(cd "$root" && find usr -type f -printf '%P\0' | sort -z | sed -z 's#^#usr/#' | xargs -0 md5sum >DEBIAN/md5sums)
find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

# A package of the dev profile is only tried, so it is packed fast.
compression=$([ "$profile" = dev ] && echo "-Zgzip -z1" || echo "-Zxz")
deb=$out/rota_$version-${revision}_$debian.deb
# shellcheck disable=SC2086 # two words
quietly dpkg-deb --root-owner-group $compression --build "$root" "$deb"
rm -rf "$root"
say "$(basename "$deb"): $(stat -c %s "$deb" | numfmt --to=si)"
