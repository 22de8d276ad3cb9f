#!/usr/bin/env bash
# Fetches the sample photographs of the demo and the tests: two of one person and one of another.
#
# They are test pictures of the Python package face_recognition 1.3.0 (MIT), official photographs of two public figures; its
# source archive is taken with pip, which checks its SHA-256 and runs its setup script to read the name and version; nothing of
# it is installed.
# usage: fetch-photos.sh FOLDER
set -euo pipefail

folder=$1
[ -e "$folder/.complete" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "fetching sample photographs"
cat >"$work/requirements.txt" <<'REQUIREMENTS'
face_recognition==1.3.0 --hash=sha256:5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec
REQUIREMENTS
python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-binary face_recognition --require-hashes \
    --dest "$work" -r "$work/requirements.txt"
images=face_recognition-1.3.0/tests/test_images
tar -xzf "$work/face_recognition-1.3.0.tar.gz" -C "$work" "$images"

mkdir -p "$folder"
# An official portrait plays the document's portrait; a photograph of the same person on another day plays the selfie.
cp "$work/$images/obama.jpg" "$folder/portrait.jpg"
cp "$work/$images/obama2.jpg" "$folder/selfie.jpg"
cp "$work/$images/biden.jpg" "$folder/other-person.jpg"
(cd "$folder" && sha256sum --check --quiet) <<'SUMS'
0930e3aa8cae5920329c0c8cbc6a2ab70f47b0e67b432875beaa95cbf7e741f6  portrait.jpg
a7efcc907375274796f39646510704aa86672d59f6d5469d69af3c85590976a6  selfie.jpg
3c17508bb91554c637a2eabddfae790e5bb1caba93130814fc2ac50be9760c4c  other-person.jpg
SUMS
touch "$folder/.complete"
