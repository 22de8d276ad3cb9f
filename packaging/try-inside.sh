#!/usr/bin/env bash
# What try.sh runs in its Debian, with systemd as the first process: the life of an installation. A line for each step; ends at the first that fails.
set -uo pipefail
old=/opt/old.deb new=/opt/new.deb
photos=/opt/photos

step() { printf 'ok    %s\n' "$1"; }
fail() {
    printf 'FAIL  %s\n' "$1"
    systemctl status vouchd.service vouchd.socket --no-pager -l 2>&1 | tail -30
    journalctl -u vouchd --no-pager -o cat 2>/dev/null | tail -30
    exit 1
}
# must WORDS COMMAND...: the command succeeds. Its output is shown only if not.
must() {
    local words=$1 output
    shift
    if output=$("$@" 2>&1); then step "$words"; else printf '%s\n' "$output"; fail "$words"; fi
}
must_not() {
    local words=$1
    shift
    if "$@" >/dev/null 2>&1; then fail "$words"; else step "$words"; fi
}
says() { grep -qF -- "$1" "$2"; }
property() { systemctl show -p "$1" --value vouchd.service; }
equals() { [ "$1" = "$2" ] || { printf '%s is not %s\n' "$1" "$2"; return 1; }; }
# A client, as somebody of the group vouch-client.
as_client() { setpriv --reuid=client --regid=client --init-groups env HOME=/tmp "$@"; }
answers() { as_client vouch status; }
verify() { as_client vouch verify --portrait $photos/portrait.jpg --selfie $photos/selfie.jpg --timeout 60s; }
tells_status() { as_client vouch status >/tmp/status.txt 2>&1 && says "$1" /tmp/status.txt; }
# What the daemon has written since it was started last: no warning, and at least that it is ready.
is_quiet() {
    journalctl --no-pager -o cat "_SYSTEMD_INVOCATION_ID=$(property InvocationID)" >/tmp/journal.txt
    says '"message":"ready"' /tmp/journal.txt || { echo "the journal does not even tell that it is ready"; return 1; }
    ! grep -E '"level":"(WARN|ERROR)"|Operation not permitted' /tmp/journal.txt
}
# Files with the status of the daemon's decoder processes.
decoders() { grep -lsE "^PPid:[[:space:]]*$1\$" /proc/[0-9]*/status | xargs -r grep -lsE '^Name:[[:space:]]*vouch-decoder$'; }
filters() { sed -n 's/^Seccomp_filters:[[:space:]]*//p' "$1"; }
# are_confined DAEMON FILE...: each has filters of its own, beside those of the unit, which it has from the daemon.
are_confined() {
    local file of_unit
    of_unit=$(filters /proc/"$1"/status)
    shift
    [ $# -gt 0 ] || { echo "there is no decoder process"; return 1; }
    for file; do
        grep -qE '^Seccomp:[[:space:]]*2$' "$file" && [ "$(filters "$file")" -gt "$of_unit" ] || { cat "$file"; return 1; }
    done
}
# scrape USER: reads the metrics as that user.
scrape() {
    setpriv --reuid="$1" --regid="$1" --init-groups perl -MIO::Socket::UNIX -e \
        '$s = IO::Socket::UNIX->new(Peer => shift) or die "$!\n"; print $s "GET /metrics HTTP/1.0\r\n\r\n"; print while <$s>' \
        /run/vouch-metrics/metrics.sock >/tmp/metrics.txt && says vouch_build_info /tmp/metrics.txt
}

dpkg -i $old >/tmp/install.log 2>&1 || { cat /tmp/install.log; fail "install"; }
step "install"
must "it says which commands come next" says "vouch models pull" /tmp/install.log
must "the user and the group are there" id -nG vouch
must "/var/lib/vouch is root's and the daemon reads it" equals "$(stat -c '%U:%G %a' /var/lib/vouch)" "root:vouch 750"
must "/run/vouch has the clients' group" equals "$(stat -c '%U:%G %a' /run/vouch)" "vouch:vouch-client 2750"
must "vouchd is enabled" systemctl --quiet is-enabled vouchd.service
must_not "vouchd is not started without models" systemctl --quiet is-active vouchd.service
must_not "vouchd.socket is left to the operator" systemctl --quiet is-enabled vouchd.socket

systemctl start vouchd.service >/dev/null 2>&1
sleep 5
must "started without models it fails with 66" equals "$(property ExecMainStatus)" 66
must "and is not tried again" equals "$(property NRestarts) $(property ActiveState)" "0 failed"
systemctl reset-failed vouchd.service

must "vouch models import takes the models from an archive" vouch models import /opt/models.tar
must "into the place where vouchd looks for them" test -s /var/lib/vouch/pack/sface.onnx
useradd --system --groups vouch-client client
useradd --system stranger
must "vouchd starts under its restrictions" systemctl start vouchd.service
must "vouch status answers a member of vouch-client" answers
must "vouch verify passes" verify
must_not "somebody else cannot connect" setpriv --reuid=stranger --regid=stranger --init-groups vouch status
pid=$(property MainPID)
must "it runs as vouch" equals "$(stat -c %U /proc/"$pid")" vouch
must "under a filter of system calls" grep -q "^Seccomp:.*2" /proc/"$pid"/status
must "optimised graphs are in /var/cache/vouch" test -n "$(ls /var/cache/vouch)"
must "nothing else was written" equals "$(find /var/lib/vouch -newer /tmp/install.log -not -path '*/pack*' -type f | wc -l)" 0
# Words, of which none has a space.
# shellcheck disable=SC2046
must "its decoders are processes under filters of their own" are_confined "$pid" $(decoders "$pid")
must_not "vouch status does not say that they are part of the daemon" tells_status "in the daemon's own process"
must "no warning in the journal" is_quiet

# What docs/observability.md tells to do for an agent; and decoders that are not confined, so that the checks above are seen to fail.
groupadd --system vouch-metrics
useradd --system --groups vouch-metrics agent
mkdir /etc/systemd/system/vouchd.service.d
cat >/etc/systemd/system/vouchd.service.d/try.conf <<'END'
[Service]
SupplementaryGroups=vouch-metrics
RuntimeDirectory=vouch-metrics
Environment=VOUCH_METRICS__SOCKET=/run/vouch-metrics/metrics.sock VOUCH_METRICS__GROUP=vouch-metrics
Environment=VOUCH_DECODERS__ISOLATED=false
END
systemctl daemon-reload
must "vouchd starts with a socket for metrics, and without decoder processes" systemctl restart vouchd.service
must "an agent of the group reads the metrics" scrape agent
must_not "a caller does not" scrape client
pid=$(property MainPID)
# shellcheck disable=SC2046
must_not "there is no decoder process" are_confined "$pid" $(decoders "$pid")
must "vouch status says so" tells_status "in the daemon's own process"
must_not "the journal has a warning" is_quiet
must "of decoders" says "decoders.isolated = false" /tmp/journal.txt
rm -r /etc/systemd/system/vouchd.service.d
systemctl daemon-reload

systemctl stop vouchd.service
must "vouchd.socket takes over the socket" systemctl start vouchd.socket
must "its file is the clients'" equals "$(stat -c '%U:%G %a' /run/vouch/vouch.sock)" "root:vouch-client 660"
must "the first caller starts vouchd and waits for it" answers
must "vouch verify passes there too" verify

sed -i 's/^#max_waiting = .*/max_waiting = 77/' /etc/vouch/vouch.toml
before=$(property MainPID)
must "upgrade with a changed configuration" dpkg --force-confold -i $new
must "the configuration is kept" says "max_waiting = 77" /etc/vouch/vouch.toml
must_not "as it is" says "of the next version" /etc/vouch/vouch.toml
must "and the new sample lies beside it" says "of the next version" /etc/vouch/vouch.toml.dpkg-dist
must "the version is the new one" equals "$(dpkg-query -W -f '${Version}' vouch)" "$(dpkg-deb -f $new Version)"
after=$(property MainPID)
must "the running daemon was restarted" test "$after" != 0 -a "$after" != "$before"
must "and systemd holds the socket all the time" systemctl --quiet is-active vouchd.socket
must "and answers" answers
as_client vouch status >/tmp/status.txt 2>&1
must "with the kept configuration" says "of 77 waiting" /tmp/status.txt

pid=$(property MainPID)
must "remove" dpkg --remove vouch
must_not "the daemon is gone" test -e /proc/"$pid"
must "configuration and models are kept" test -s /etc/vouch/vouch.toml -a -s /var/lib/vouch/pack/sface.onnx
must "install again" dpkg -i $new
must "the kept configuration is used" says "max_waiting = 77" /etc/vouch/vouch.toml
must "and vouchd starts" systemctl start vouchd.service
must "purge" dpkg --purge vouch
left=$(find / -xdev \( -path /proc -o -path /sys -o -path /opt -o -path /tmp -o -path /var/log -o -path /var/lib/dpkg -o -path /run/systemd \) -prune -o -name '*vouch*' -print)
must "nothing is left of it" equals "$left" ""

must "install the old version" dpkg -i $old
must "upgrade with an untouched configuration" dpkg -i $new
must "the new sample takes its place" says "of the next version" /etc/vouch/vouch.toml
must "and nothing lies beside it" equals "$(ls /etc/vouch)" vouch.toml
must "purge again" dpkg --purge vouch
