#!/usr/bin/env bash
# Makes an empty root of Debian in a directory, for tests of packages: the essential packages, and those that the
# package of Rota depends on.
#
#   root.sh DIR           fresh from the Debian archive, with mmdebstrap; kept as target/tools/root.tar
#   root.sh DIR machine   fast and without the network: copies of the packages of this machine
cd "$(dirname "$0")/../.."
. deploy/dist/common.sh
directory=${1:?the directory}
needed="adduser ca-certificates libgcc-s1"

from_archive() {
    local kept=$target/tools/root.tar
    if [ ! -e "$kept" ]; then
        command -v mmdebstrap >/dev/null || fail "mmdebstrap is missing; install it: apt-get install mmdebstrap"
        mkdir -p "$target/tools"
        say "making an empty root of Debian (about a minute, once)"
        quietly mmdebstrap --variant=essential --include="${needed// /,}" bookworm "${kept%.tar}.new.tar"
        mv "${kept%.tar}.new.tar" "$kept"
    fi
    mkdir -p "$directory"
    tar --extract --file "$kept" --directory "$directory" --numeric-owner
}

from_machine() {
    local packages package
    mkdir -p "$directory"/{usr/{bin,sbin,lib,lib64},var/{lib/dpkg/{info,updates},log},dev,proc,sys,tmp,run,etc,root}
    chmod 1777 "$directory/tmp"
    for link in bin sbin lib lib64; do
        ln -s "usr/$link" "$directory/$link"
    done
    # shellcheck disable=SC2016,SC2046,SC2086 # fields of dpkg; lists
    packages=$(apt-cache depends --recurse --installed --no-recommends --no-suggests --no-conflicts --no-breaks \
        --no-replaces --no-enhances $needed $(dpkg-query -W -f '${Essential} ${Package}\n' | sed -n 's/^yes //p') |
        sed -n 's/^\([a-z0-9][^ <]*\)$/\1/p' | sort -u)
    # Some names are of virtual packages, which dpkg-query does not know.
    # shellcheck disable=SC2016,SC2086 # fields of dpkg; a list
    packages=$(dpkg-query -W -f '${db:Status-Abbrev} ${binary:Package}\n' $packages 2>/dev/null |
        sed -n 's/^ii *//p' || true)
    for package in $packages; do
        dpkg-query -s "$package"
        echo
    done >"$directory/var/lib/dpkg/status"
    # shellcheck disable=SC2086 # a list
    dpkg-query -L $packages | sort -u | grep -E '^/(usr|etc|bin|sbin|lib|lib64)/' |
        grep -vE '^/usr/share/(doc|man|locale|info)/' | while read -r path; do
        [ -d "$path" ] && [ ! -L "$path" ] || [ ! -e "$path" ] || printf '%s\n' "${path#/}"
    done | tar --create --directory / --no-recursion --files-from - 2>/dev/null |
        tar --extract --directory "$directory" --keep-directory-symlink
    for package in $packages; do
        for file in /var/lib/dpkg/info/"$package".*; do
            [ ! -e "$file" ] || cp -a "$file" "$directory/var/lib/dpkg/info/"
        done
    done
    echo 1 >"$directory/var/lib/dpkg/info/format"
    mkdir -p "$directory/etc/alternatives" "$directory/etc/ssl/certs"
    cp /etc/ssl/certs/ca-certificates.crt "$directory/etc/ssl/certs/"
    cp -a /etc/pam.d "$directory/etc/"
    cp -a /etc/alternatives/awk "$directory/etc/alternatives/" 2>/dev/null || true
    ln -sf /etc/alternatives/awk "$directory/usr/bin/awk"
    cp /usr/share/base-passwd/passwd.master "$directory/etc/passwd"
    cp /usr/share/base-passwd/group.master "$directory/etc/group"
    : >"$directory/etc/shadow"
    for device in "null 1 3" "zero 1 5" "urandom 1 9"; do
        # shellcheck disable=SC2086 # three words
        set -- $device
        mknod -m 0666 "$directory/dev/$1" c "$2" "$3"
    done
    ldconfig -r "$directory"
}

[ "$(id -u)" = 0 ] || fail "a root needs chroot; run as root"
case "${2:-archive}" in
    archive) from_archive ;;
    machine) from_machine ;;
    *) fail "unknown kind of root: $2" ;;
esac
cp /etc/resolv.conf "$directory/etc/" 2>/dev/null || true
