#!/usr/bin/env bash
# Puts the files of a release below target/dist/stage: the stripped program, manual pages, completions and documents.
# Its symbols and lines go to a file of their own, which debuggers find by the build id.
cd "$(dirname "$0")/../.."
. deploy/dist/common.sh
[ -x "$built" ] || fail "$built is missing"

rm -rf "$stage"
mkdir -p "$stage"/{bin,share/doc/rota,share/man/man1,share/bash-completion/completions,share/zsh/site-functions,share/fish/vendor_completions.d}
if [ "$profile" = release ]; then
    objcopy --only-keep-debug --compress-debug-sections=zlib "$built" "$out/$name.debug"
    chmod 0644 "$out/$name.debug"
fi
# All names of symbols go, which are a third of the program. Panics still print their message and place.
strip --strip-all -o "$stage/bin/rota" "$built"
chmod 0755 "$stage/bin/rota"

rota=$stage/bin/rota
"$rota" man "$stage/share/man/man1"
"$rota" completions bash >"$stage/share/bash-completion/completions/rota"
"$rota" completions zsh >"$stage/share/zsh/site-functions/_rota"
"$rota" completions fish >"$stage/share/fish/vendor_completions.d/rota.fish"
install -m 0644 README.md CHANGELOG.md LICENSE "$stage/share/doc/rota/"
find "$stage" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
say "$(stat -c %s "$built" | numfmt --to=si) with symbols, $(stat -c %s "$rota" | numfmt --to=si) stripped: $("$rota" --version)"
