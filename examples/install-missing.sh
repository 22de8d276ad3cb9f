#!/usr/bin/env bash
# Installs the Debian package of each command that is missing; does nothing, offline too, when all are there.
# usage: install-missing.sh COMMAND...
set -euo pipefail

# Command to Debian package, where the names differ.
declare -A package=([pip3]=python3-pip [tesseract]="tesseract-ocr tesseract-ocr-eng"
    [systemd-analyze]=systemd [systemd-socket-activate]=systemd [cc]=gcc [systemd-nspawn]=systemd-container [dh]=debhelper [dpkg-shlibdeps]=dpkg-dev [clang-19]="clang-19 libclang-rt-19-dev")

missing=()
for command in "$@"; do
    command -v "$command" >/dev/null && continue
    if [ "$command" = cargo ]; then
        echo "cargo is missing: install Rust with rustup (rust-toolchain.toml names the version)" >&2
        exit 1
    fi
    # Unquoted: a command may take several packages.
    missing+=(${package[$command]:-$command})
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "please install as root: apt-get install ${missing[*]}" >&2
        exit 1
    fi
    as_root=(sudo)
fi
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${as_root[@]}" apt-get -qq update
"${as_root[@]}" apt-get -qq install --yes --no-install-recommends "${missing[@]}" >/dev/null
