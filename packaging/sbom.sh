#!/usr/bin/env bash
# Writes the bill of materials of crates, libraries that they bring along, and models, CycloneDX JSON. Needs cargo-cyclonedx.
# usage: sbom.sh OUT.json
set -euo pipefail
to=$(realpath "$1")
cd "$(dirname "$0")/.."
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(date -d "$(sed -n 's/^ -- .*>  //p;T;q' packaging/debian/changelog)" +%s)}

# It writes beside Cargo.toml and nowhere else.
trap 'rm -f vouch-crates.json' EXIT
cargo cyclonedx -qq --format json --spec-version 1.5 --target x86_64-unknown-linux-gnu --override-filename vouch-crates
python3 packaging/sbom.py vouch-crates.json "$to"
