#!/usr/bin/env bash
# Builds the binaries that are packaged: of the same source the same bytes, in whatever folder. Paths of this machine are mapped away in Rust, C and
# C++; lines for backtraces are left out, since the package is stripped of them. Other flags mean other artifacts, so it has a folder of its own.
# usage: build.sh TARGET_DIR        binaries in TARGET_DIR/release (REPRODUCIBLE_PROFILE=dev: TARGET_DIR/debug, to try it fast)
set -euo pipefail
target=$(realpath -m "$1")
cd "$(dirname "$0")/.."
source=$PWD
cargo_home=$(realpath "${CARGO_HOME:-$HOME/.cargo}")

export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(date -d "$(sed -n 's/^ -- .*>  //p;T;q' packaging/debian/changelog)" +%s)}
# The last that matches is taken, so the folder of the artifacts, which lies within the source, comes after it.
export CARGO_ENCODED_RUSTFLAGS
CARGO_ENCODED_RUSTFLAGS=$(printf '%s\x1f' "--remap-path-prefix=$cargo_home=/cargo" "--remap-path-prefix=$source=/vouch" \
    "--remap-path-prefix=$target=/target")
CARGO_ENCODED_RUSTFLAGS=${CARGO_ENCODED_RUSTFLAGS%$'\x1f'}
maps="-ffile-prefix-map=$cargo_home=/cargo -ffile-prefix-map=$source=/vouch -ffile-prefix-map=$target=/target"
export CFLAGS="$maps" CXXFLAGS="$maps" ASMFLAGS=""
export CARGO_INCREMENTAL=0 CARGO_PROFILE_RELEASE_DEBUG=false CARGO_PROFILE_DEV_DEBUG=false
export LC_ALL=C.UTF-8 TZ=UTC
cargo build --locked --bins --profile "${REPRODUCIBLE_PROFILE:-release}" --target-dir "$target"
