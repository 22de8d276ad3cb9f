#!/usr/bin/env bash
# Makes the Debian package from binaries that are built, into target/package. The same binaries give the same bytes.
# Needs debhelper, and target/package/sbom.cdx.json (`make sbom`).
# DEB_BINARIES  the folder of vouchd and vouch (target/package/build/release)
# DEB_TOOL      the vouch that prints manual pages and completions, where the packaged one cannot run here
# DEB_VERSION   another version than that of packaging/debian/changelog
# DEB_COMPRESSION  as dpkg-deb's -Z (xz); "none" is fast
# DEB_TO        the folder for the package (target/package)
set -euo pipefail
cd "$(dirname "$0")/.."
binaries=$(realpath "${DEB_BINARIES:-target/package/build/release}")
tool=$(realpath "${DEB_TOOL:-$binaries/vouch}")
to=$(realpath -m "${DEB_TO:-target/package}")
# The environment is shown in help texts.
for name in $(compgen -e VOUCH_ || true); do unset "$name"; done
export LC_ALL=C.UTF-8
umask 022

parent=$(mktemp -d)
trap 'rm -rf "$parent"' EXIT
stage=$parent/vouch
mkdir -p "$stage"/{man,completions,docs,calibration} "$to"
cp -r packaging/debian "$stage/debian"
cp "$binaries/vouch" "$binaries/vouchd" systemd/vouch.toml systemd/vouchd.service systemd/vouchd.socket "$stage"
cp systemd/vouchd.service.d/gpu.conf systemd/monitoring/vouch-alerts.yml systemd/monitoring/vouch-dashboard.json README.md CHANGELOG.md models/manifest.toml proto/vouch/v1/vouch.proto target/package/sbom.cdx.json "$stage"
cp docs/*.md "$stage/docs"
cp calibration/*.toml "$stage/calibration"
cp systemd/vouch.sysusers.conf "$stage/debian/vouch.sysusers"
cp systemd/vouch.tmpfiles.conf "$stage/debian/vouch.tmpfiles"
"$tool" man "$stage/man"
"$tool" completions bash >"$stage/completions/vouch"
"$tool" completions zsh >"$stage/completions/_vouch"
"$tool" completions fish >"$stage/completions/vouch.fish"
python3 packaging/licences.py "$stage/debian/copyright" "$stage/licences.txt"
if [ -n "${DEB_VERSION:-}" ]; then
    sed -i "1s/(.*)/($DEB_VERSION)/" "$stage/debian/changelog"
fi
chmod -R u=rwX,go=rX "$stage"

# Takes SOURCE_DATE_EPOCH from the changelog.
(cd "$stage" && unset SOURCE_DATE_EPOCH && dpkg-buildpackage --build=binary --no-sign --no-pre-clean >"$parent/log" 2>&1) || {
    cat "$parent/log" >&2
    exit 1
}
grep -i warning "$parent/log" >&2 || true
for package in "$parent"/*.deb; do
    cp "$package" "$to"
    echo "$to/$(basename "$package")"
done
