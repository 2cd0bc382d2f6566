#!/bin/sh
# Fetches the pinned version of Swagger UI, verifies its checksum, and stores the files that nodes serve, compressed.
# To take another version, change both values below and those in src/rest/docs.rs.
set -eu
cd "$(dirname "$0")"

version=5.35.0
sum=1b8e891893404ea4c3558b6a87e2a3e494e7eedba41168c2ece5800a391a6ea6

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
registry=$(npm config get registry 2>/dev/null || echo https://registry.npmjs.org/)
curl -fsSL -o "$work/package.tgz" "${registry%/}/swagger-ui-dist/-/swagger-ui-dist-$version.tgz"
echo "$sum  $work/package.tgz" | sha256sum --check --quiet
tar -xzf "$work/package.tgz" -C "$work"
for file in swagger-ui-bundle.js swagger-ui.css; do
    gzip -9nc "$work/package/$file" >"$file.gz"
done
cp "$work/package/LICENSE" "$work/package/NOTICE" .
cp "$work/package/swagger-ui-bundle.js.LICENSE.txt" .
echo "swagger-ui-dist $version"
