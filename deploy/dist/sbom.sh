#!/usr/bin/env bash
# Writes the bill of materials of the program: the crates in it, with versions, licences and checksums, as CycloneDX
# JSON, and validates it against the schema of CycloneDX.
cd "$(dirname "$0")/../.."
. deploy/dist/common.sh
cyclonedx=0.5.9
if ! "$target/tools/bin/cargo-cyclonedx" cyclonedx --version 2>/dev/null | grep -qF "$cyclonedx"; then
    say "installing cargo-cyclonedx $cyclonedx into $target/tools (takes some minutes, once)"
    # It runs once, so a fast build matters more than a fast program.
    CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_DEBUG=false \
        cargo install cargo-cyclonedx --locked --quiet --version "$cyclonedx" --root "$target/tools" \
        --target-dir "$target/tools/build"
    rm -rf "$target/tools/build"
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# cargo-cyclonedx writes beside the manifests of the workspace. So it works on a copy of them.
find . -path ./target -prune -o -path ./.git -prune -o \( -name Cargo.toml -o -name Cargo.lock -o -name '*.rs' \) -print0 |
    tar --create --null --files-from - | tar --extract --directory "$scratch"
(cd "$scratch" && PATH="$target/tools/bin:$PATH" cargo cyclonedx --quiet --format json --spec-version 1.5 \
    --describe binaries --target "$(rustc -vV | sed -n 's/^host: //p')" --no-build-deps \
    --manifest-path crates/rota/Cargo.toml)
sbom=$(find "$scratch/crates/rota" -name '*.cdx.json' | head -n 1)
[ -n "$sbom" ] || fail "cargo-cyclonedx wrote nothing"
# No path of this machine.
sed "s#path+file://$scratch#path+file:///rota#g; s#file://$scratch#file:///rota#g; s#$scratch#/rota#g" "$sbom" >"$out/rota-$version.cdx.json"
venv=$target/tools/sbom
if [ ! -x "$venv/bin/python" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check 'cyclonedx-python-lib[json-validation]==11.12.0'
fi
"$venv/bin/python" - "$out/rota-$version.cdx.json" <<'PYTHON'
import json, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

text = open(sys.argv[1]).read()
wrong = JsonStrictValidator(SchemaVersion.V1_5).validate_str(text)
if wrong:
    sys.exit(f"error: the bill of materials is invalid: {wrong}")
components = json.loads(text)["components"]
names = {component["name"] for component in components}
if not {"tokio", "rota-core"} <= names:
    sys.exit(f"error: the bill of materials lacks crates: {sorted(names)}")
print(f"== bill of materials: {len(components)} components, valid CycloneDX 1.5")
PYTHON
