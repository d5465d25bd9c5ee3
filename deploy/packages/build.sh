#!/bin/sh
# build.sh deb|rpm [FOLDER]: makes a package of target/release/spantap (or SPANTAP_BIN) in FOLDER (or target/).
# Takes nfpm on PATH (or NFPM): go install github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.43.4
set -eu
kind=${1:?deb or rpm}
cd "$(dirname "$0")/../.."
folder=${2:-target}
binary=${SPANTAP_BIN:-target/release/spantap}
STAGE=$(mktemp -d)
trap 'rm -rf "$STAGE"' EXIT
# Line numbers of panics stay out: they are most of the file.
strip --strip-debug -o "$STAGE/spantap" "$binary"
"$binary" man >"$STAGE/spantap.1"
"$binary" completions bash >"$STAGE/spantap.bash"
VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
case $(uname -m) in
    x86_64) ARCH=amd64 ;;
    aarch64) ARCH=arm64 ;;
    *) echo "build.sh: no package for $(uname -m)" >&2; exit 1 ;;
esac
export STAGE VERSION ARCH
"${NFPM:-nfpm}" package --config deploy/packages/nfpm.yaml --packager "$kind" --target "$folder"
