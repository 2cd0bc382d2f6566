#!/usr/bin/env bash
# Makes everything that a release needs in target/dist, and tests each artefact by installing it and running a first
# task. `make dist` runs it. common.sh explains the variables. Needs root for the tests in empty roots, and the Debian
# packages buildah and mmdebstrap.
cd "$(dirname "$0")/../.."
. deploy/dist/common.sh

mkdir -p "$out"
if [ "$profile" = release ] && [ "${DIST_BUILD:-yes}" != no ]; then
    commit=$(git rev-parse HEAD 2>/dev/null || echo unknown)
    [ -z "$(git status --porcelain 2>/dev/null)" ] || commit=$commit-dirty
    say "building the release (about ten minutes on two cores)"
    ROTA_BUILD_COMMIT=${ROTA_BUILD_COMMIT:-$commit} ROTA_BUILD_DATE=$(date --utc --date="@$SOURCE_DATE_EPOCH" +%F) \
        cargo build --release --locked --package rota
fi
find "$out" -mindepth 1 -maxdepth 1 -exec rm -rf {} +
deploy/dist/stage.sh
deploy/dist/tarball.sh
deploy/dist/test-tarball.sh
deploy/dist/deb.sh
deploy/dist/test-deb.sh
if command -v lintian >/dev/null; then
    # Lintian knows the customs of Debian. `make dist` fails for its errors and shows its warnings.
    lintian --allow-root --fail-on error --suppress-tags no-manual-page "$out"/rota_*.deb
else
    say "lintian is not installed; the package was not compared with Debian's customs"
fi
deploy/dist/image.sh
deploy/dist/manifests.sh package "$out/kubernetes"
mv "$out"/kubernetes/rota-*.tgz "$out/rota-chart-$version.tgz"
tar --create --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" --directory "$out" kubernetes |
    gzip -n >"$out/rota-kubernetes-$version.tar.gz"
rm -rf "$out/kubernetes"
install -m 0644 deploy/docker/single.yaml "$out/compose.yaml"
install -m 0755 deploy/docker/secret.sh "$out/secret.sh"
deploy/dist/sbom.sh
rm -rf "$stage"
(cd "$out" && find . -maxdepth 1 -type f ! -name SHA256SUMS -printf '%P\0' | sort -z | xargs -0 sha256sum >SHA256SUMS)
say "all artefacts are in $out:"
(cd "$out" && ls -sh --block-size=K -1)
say "they are for $machine. Other architectures were not built."
