#!/bin/sh
# Installs Rota on Linux, without root into ~/.local, and as root into /usr/local.
#
#   ./install.sh                    from an unpacked archive
#   ./install.sh --from PLACE       from a directory or an URL that has the archive and SHA256SUMS
#   ./install.sh --uninstall        remove what an installation wrote; state and settings stay
#
# Options:
#   --prefix DIR     directory to install below [default: ~/.local, or /usr/local as root]
#   --from PLACE     as above [default: $ROTA_DOWNLOAD_URL, or https://downloads.example.com/rota/@VERSION@]
#
# It verifies the SHA-256 of every file before it writes any, and asks nothing.
set -eu

# Everything is in a function, so that half a script that was cut in a download does nothing.
main() {
    version=@VERSION@
    prefix=
    # A placeholder: there is no public host for downloads. Set ROTA_DOWNLOAD_URL to your own.
    from=${ROTA_DOWNLOAD_URL:-https://downloads.example.com/rota/$version}
    asked=
    uninstall=
    while [ $# -gt 0 ]; do
        case "$1" in
            --prefix) [ $# -ge 2 ] || wrong "--prefix needs a directory"; prefix=$2; shift 2 ;;
            --prefix=*) prefix=${1#--prefix=}; shift ;;
            --from) [ $# -ge 2 ] || wrong "--from needs a directory or an URL"; from=$2 asked=yes; shift 2 ;;
            --from=*) from=${1#--from=} asked=yes; shift ;;
            --uninstall) uninstall=yes; shift ;;
            -h | --help) usage; exit 0 ;;
            *) wrong "unknown option $1" ;;
        esac
    done
    if [ -z "$prefix" ]; then
        if [ "$(id -u)" = 0 ]; then prefix=/usr/local; else prefix=${HOME:?HOME is not set; use --prefix}/.local; fi
    fi
    case "$prefix" in /*) ;; *) prefix=$(pwd)/$prefix ;; esac
    list=$prefix/share/rota/installed
    if [ -n "$uninstall" ]; then
        remove
        exit 0
    fi

    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    trap 'exit 130' INT TERM
    # Next to this script, if it was unpacked from an archive.
    here=$(dirname -- "$0")
    if [ -z "$asked" ] && [ "$(basename -- "$0")" = install.sh ] && [ -f "$here/SHA256SUMS" ] && [ -f "$here/bin/rota" ]; then
        files=$here
    else
        download
    fi
    verify
    copy
    "$prefix/bin/rota" --version >/dev/null || fail "$prefix/bin/rota does not run on this machine (see above)"
    echo "Installed $("$prefix/bin/rota" --version) in $prefix/bin."
    case ":$PATH:" in
        *":$prefix/bin:"*) ;;
        *) echo "Add it to your PATH: export PATH=\"$prefix/bin:\$PATH\"" ;;
    esac
    echo "Start a server and a worker: rota dev --allow-command"
}

usage() {
    cat <<USAGE
Installs Rota below a prefix: ~/.local, or /usr/local as root.

Usage: install.sh [--prefix DIR] [--from DIR|URL] [--uninstall]

  --prefix DIR    Directory to install below
  --from PLACE    Directory or URL that has the archive and SHA256SUMS [default: the files beside this script, or
                  \$ROTA_DOWNLOAD_URL]
  --uninstall     Remove what an installation wrote; state and settings stay
USAGE
}

fail() {
    echo "error: $*" >&2
    exit 1
}

wrong() {
    echo "error: $*; see --help" >&2
    exit 2
}

need() {
    command -v "$1" >/dev/null 2>&1 || fail "$1 is missing"
}

# Gets a file from the place where the release is.
get() {
    case "$from" in
        http://* | https://* | file://*)
            if command -v curl >/dev/null 2>&1; then
                curl --fail --silent --show-error --location --output "$scratch/$1" "$from/$1" ||
                    fail "cannot download $from/$1"
            else
                need wget
                wget --quiet --output-document="$scratch/$1" "$from/$1" || fail "cannot download $from/$1"
            fi
            ;;
        *) cp -- "$from/$1" "$scratch/$1" || fail "cannot read $from/$1" ;;
    esac
}

# Downloads the archive for this machine, checks it and unpacks it.
download() {
    [ "$(uname -s)" = Linux ] || fail "there is no archive for $(uname -s); build from the sources"
    machine=$(uname -m)
    archive=rota-$version-$machine-linux-gnu.tar.gz
    need tar
    need sha256sum
    get SHA256SUMS
    grep "[ *]$archive\$" "$scratch/SHA256SUMS" >"$scratch/sum" ||
        fail "the release has no $archive; build from the sources"
    get "$archive"
    (cd "$scratch" && sha256sum --check --strict --status sum) ||
        fail "the checksum of $archive is wrong; nothing was installed"
    tar -xzf "$scratch/$archive" -C "$scratch"
    files=$scratch/${archive%.tar.gz}
}

verify() {
    need sha256sum
    (cd "$files" && sha256sum --check --strict --quiet SHA256SUMS) ||
        fail "a file of the archive is damaged (see above); nothing was installed"
}

copy() {
    mkdir -p "$prefix" 2>/dev/null || true
    [ -w "$prefix" ] ||
        fail "cannot write to $prefix; choose another directory with --prefix, or run as root"
    # Everything is written beside its place first, and then renamed: a program that runs cannot be written to, but it
    # can be replaced.
    new=$prefix/.rota-install.$$
    mkdir "$new"
    trap 'rm -rf "$scratch" "$new"' EXIT
    cp -R "$files/bin" "$files/share" "$new/"
    (cd "$new" && find bin share -type f) >"$scratch/installed"
    (cd "$new" && find bin share -type d) >"$scratch/directories"
    while read -r directory; do
        mkdir -p "$prefix/$directory"
        set --
        for file in "$new/$directory"/*; do
            [ ! -f "$file" ] || set -- "$@" "$file"
        done
        [ $# = 0 ] || mv -f "$@" "$prefix/$directory/"
    done <"$scratch/directories"
    # Units for this prefix.
    for unit in "$prefix"/share/rota/systemd/*.service; do
        sed "s#/usr/bin/rota#$prefix/bin/rota#" "$unit" >"$unit.new"
        mv -f "$unit.new" "$unit"
    done
    # Files that only the former version had.
    if [ -f "$list" ]; then
        grep -vxF -f "$scratch/installed" "$list" | while read -r file; do
            rm -f -- "${prefix:?}/$file"
        done
    fi
    mv -f "$scratch/installed" "$list"
}

remove() {
    [ -f "$list" ] || fail "nothing is installed in $prefix"
    (cd "$prefix" && xargs rm -f -- <"$list")
    rm -f -- "$list"
    rmdir "$prefix/share/rota/systemd" "$prefix/share/rota" "$prefix/share/doc/rota" 2>/dev/null || true
    echo "Removed Rota from $prefix. State and settings stay where they are."
}

main "$@"
