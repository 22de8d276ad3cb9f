#!/usr/bin/env bash
# Builds the tracked files twice, in two folders of different names, and compares the binaries. Ends with 1 if they differ; else they are in target/package/reproduced
# (`make deb DEB_BINARIES=target/package/reproduced` packs them).
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
profile=${REPRODUCIBLE_PROFILE:-release}
built=$([ "$profile" = dev ] && echo debug || echo "$profile")

for folder in one another/and/deeper; do
    mkdir -p "$work/$folder"
    git ls-files -z | tar --null -T - -c | tar -C "$work/$folder" -x
    "$work/$folder/packaging/build.sh" "$work/$folder/target"
    (cd "$work/$folder/target/$built" && sha256sum vouchd vouch) | tee "$work/$(basename "$folder").sums"
    # One at a time is enough of the disk.
    find "$work/$folder/target/$built" -mindepth 1 -maxdepth 1 ! -name vouch ! -name vouchd -exec rm -rf {} +
done
cmp "$work/one.sums" "$work/deeper.sums"
mkdir -p target/package/reproduced
cp "$work/another/and/deeper/target/$built"/{vouch,vouchd} target/package/reproduced
echo "the binaries of both folders are the same"
