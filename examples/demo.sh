#!/usr/bin/env bash
# Starts a daemon on a private socket, verifies two photographs of one person and two of different persons, stops the daemon.
# Called by `make demo`, which builds the binaries and fetches models and photographs first.
set -euo pipefail
cd "$(dirname "$0")/.."

photos=.cache/photos
private=$(mktemp -d)
export VOUCH_SOCKET=$private/vouch.sock

target/release/vouchd 2>"$private/vouchd.log" &
daemon=$!
stop() {
    kill -TERM "$daemon" 2>/dev/null || true
    wait "$daemon" 2>/dev/null || true
    rm -rf "$private"
}
trap stop EXIT

printf 'starting vouchd '
for _ in $(seq 300); do
    target/release/vouch status >/dev/null 2>&1 && break
    if ! kill -0 "$daemon" 2>/dev/null; then
        printf '\nvouchd ended while starting:\n'
        cat "$private/vouchd.log"
        exit 1
    fi
    printf .
    sleep 0.2
done
printf ' ready\n\n'
target/release/vouch status

# Runs a verification and says whether the face match came out as expected. The exit code of `vouch` tells the outcome of all
# checks together, so the match's own outcome is read from what it printed.
verify() {
    local expected=$1 portrait=$2 selfie=$3 output=$private/output
    printf '\n\n$ vouch verify --portrait %s --selfie %s\n' "$portrait" "$selfie"
    local code=0
    target/release/vouch verify --portrait "$photos/$portrait" --selfie "$photos/$selfie" | tee "$output" || code=$?
    printf 'exit code %s\n' "$code"
    if ! grep -q " $expected face_match" "$output"; then
        printf 'face_match was expected to be %s\n' "$expected"
        exit 1
    fi
}

printf '\n\n== One person on two photographs: face_match should pass'
verify PASS portrait.jpg selfie.jpg
printf '\n\n== Two persons: face_match should fail'
verify FAIL portrait.jpg other-person.jpg
printf '\nBoth face matches came out as expected.\n'
