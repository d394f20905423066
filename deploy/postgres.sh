#!/bin/sh
# PostgreSQL with the databases prefect and mlflow of user foredrift. The password comes from a file, the first time.
set -eu
umask 077
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  rm -rf "$PGDATA.new"
  initdb --pgdata="$PGDATA.new" --username=foredrift --pwfile="$FIRST_PASSWORD_FILE" \
    --auth-local=trust --auth-host=scram-sha-256 --encoding=UTF8 --locale=C
  for name in prefect mlflow; do
    echo "CREATE DATABASE $name;" | postgres --single -D "$PGDATA.new" template1 >/dev/null
  done
  echo "host all foredrift all scram-sha-256" >>"$PGDATA.new/pg_hba.conf"
  mv "$PGDATA.new" "$PGDATA" # whole or not at all
fi
exec postgres -D "$PGDATA" -p "${PGPORT:-5432}" -k "${PGSOCKETS:-/tmp}" -c listen_addresses='*' -c log_checkpoints=off \
  -c autovacuum=on -c autovacuum_vacuum_scale_factor=0.05 -c max_wal_size=1GB -c idle_in_transaction_session_timeout=1h
