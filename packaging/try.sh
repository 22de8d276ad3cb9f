#!/usr/bin/env bash
# Tries the package in a small Debian of its own, booted with systemd in namespaces (systemd-nspawn), without a network: install, run under the
# unit's restrictions, upgrade, remove, purge. A line for each step. As root. Takes debootstrap's result from target/ the second time.
# Takes what deb.sh takes (DEB_BINARIES, DEB_TOOL), and DEB_MIRROR in place of debootstrap's own mirror.
set -euo pipefail
cd "$(dirname "$0")/.."
base=target/debian/bookworm.tar
work=$(mktemp -d)
# systemd-nspawn mounts in its own namespace only, so there is nothing to unmount.
trap 'rm -rf --one-file-system "$work"' EXIT

if [ ! -s $base ]; then
    echo "making a small Debian"
    mkdir -p target/debian
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus bookworm "$work/base" ${DEB_MIRROR:+"$DEB_MIRROR"} >"$work/log" || { tail "$work/log"; exit 1; }
    rm -f "$work"/base/var/cache/apt/archives/*.deb
    tar -C "$work/base" -cf $base.new . && mv $base.new $base
    rm -rf "$work/base"
fi

version=$(sed -n '1s/.*(\(.*\)).*/\1/p' packaging/debian/changelog)
old=$(packaging/deb.sh)
again=$(DEB_TO=$work/again packaging/deb.sh)
cmp "$old" "$again" && echo "ok    built twice, the package has the same bytes: $(sha256sum <"$old" | cut -c1-16)"
new=$(DEB_TO=$work/new DEB_COMPRESSION=none DEB_VERSION=$version+try1 packaging/deb.sh)
# With another sample of the configuration, as the next version may have.
dpkg-deb -R "$new" "$work/next"
echo "# A line of the next version." >>"$work/next/etc/vouch/vouch.toml"
dpkg-deb -Znone --root-owner-group -b "$work/next" "$new" >"$work/log"
rm -r "$work/next"
# Apart from the line that tells of it: before && it would end nothing.
lintian --allow-root --fail-on error "$old"
echo "ok    lintian has no errors"

mkdir -p "$work/root"
tar -C "$work/root" -xf $base
cp "$old" "$work/root/opt/old.deb"
cp "$new" "$work/root/opt/new.deb"
mkdir "$work/root/opt/photos"
cp .cache/photos/{selfie,portrait}.jpg "$work/root/opt/photos"
"${DEB_TOOL:-${DEB_BINARIES:-target/package/build/release}/vouch}" models bundle --pack models/pack "$work/root/opt/models.tar" >/dev/null
install -m 755 packaging/try-inside.sh "$work/root/opt/try"
cat >"$work/root/etc/systemd/system/try.service" <<'END'
[Unit]
After=dbus.service systemd-user-sessions.service
[Service]
Type=oneshot
ExecStart=/bin/sh -c '/opt/try >/opt/report 2>&1; echo $? >/opt/status; exec systemctl poweroff --force'
END
mkdir -p "$work/root/etc/systemd/system/multi-user.target.wants"
ln -s ../try.service "$work/root/etc/systemd/system/multi-user.target.wants/try.service"
touch "$work/root/opt/report"

tail --pid=$$ -f "$work/root/opt/report" &
shown=$!
timeout --kill-after=10 300 systemd-nspawn --quiet --register=no --keep-unit --private-network --console=pipe --boot -D "$work/root" \
    systemd.unit=multi-user.target </dev/null >"$work/boot.log" 2>&1 || tail "$work/boot.log"
sleep 1
kill "$shown" 2>/dev/null || true
status=$(cat "$work/root/opt/status" 2>/dev/null || echo "none: it did not come to its end")
[ "$status" = 0 ] || { echo "the package does not hold: $status"; exit 1; }
echo "the package holds"
