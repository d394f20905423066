#!/bin/sh
# Folders and secrets of deploy/compose.yaml in the folder given (default /srv/foredrift). Replaces nothing; run it as root.
set -eu
umask 077
root=${1:-/srv/foredrift}
ours=${FOREDRIFT_UID:-10001} theirs=${POSTGRES_UID:-999}
mkdir -p "$root/project" "$root/artifacts" "$root/postgres" "$root/prometheus" "$root/secrets"

made() { # NAME: the file's content comes on stdin; a file that exists stays
  if [ ! -e "$root/secrets/$1" ]; then cat >"$root/secrets/$1"; else cat >/dev/null; fi
}
random() { head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n'; }
random | made postgres_password
printf '*:*:*:foredrift:%s\n' "$(cat "$root/secrets/postgres_password")" | made pgpass
random | made page_token
for name in passphrase notify telegram; do printf '' | made "$name"; done # yours to fill in, or to leave empty

chmod 600 "$root"/secrets/*
if [ "$(id -u)" = 0 ]; then
  chown "$ours:$ours" "$root/project" "$root/artifacts" "$root/prometheus" "$root"/secrets/*
  chown "$theirs:$theirs" "$root/postgres" "$root/secrets/postgres_password"
fi
[ -e "$root/project/foredrift.toml" ] || echo "put foredrift.toml into $root/project (foredrift init writes one), mode 600, owner $ours"
echo "secrets are in $root/secrets: the keystore's passphrase into passphrase, Apprise addresses into notify"
