#!/usr/bin/env bash
# scripts/pgvector.sh DIRECTORY: runs a PostgreSQL 17 that has pgvector, from Debian's packages, for the
# tests that need one. Needs root, Linux and debootstrap. The first run makes the directory (about 700 MB);
# each run starts with an empty cluster. Prints a connection string on stdout when it can be used, for
# AGENTSTORE_TEST_PGVECTOR_URL, and serves until it is stopped. For tests only: nothing is synced to disk.
set -euo pipefail

directory=${1:?"say in which directory"}
if [ ! -e "$directory/complete" ]; then
  rm -rf "$directory"
  mkdir -p "$directory"
  timeout 240 debootstrap --variant=minbase --include=postgresql-17,postgresql-17-pgvector trixie \
    "$directory/root" >"$directory/debootstrap.log" 2>&1
  touch "$directory/complete"
fi

root=$directory/root
bin=/usr/lib/postgresql/17/bin
port=$(node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })')
within=(chroot --userspec=postgres:postgres "$root" env LC_ALL=C.UTF-8)

rm -rf "$root/var/lib/postgresql/test"
"${within[@]}" "$bin/initdb" -D /var/lib/postgresql/test --auth=trust --no-sync --encoding=UTF8 \
  --locale-provider=builtin --builtin-locale=C.UTF-8 >/dev/null
# Not by a function: signals have to reach Postgres, not a shell around it.
"${within[@]}" "$bin/postgres" -D /var/lib/postgresql/test -c listen_addresses=127.0.0.1 \
  -c "port=$port" -c unix_socket_directories= -c fsync=off -c synchronous_commit=off \
  -c full_page_writes=off -c max_connections=200 -c dynamic_shared_memory_type=mmap \
  >"$directory/postgres.log" 2>&1 &
server=$!
stop() {
  trap - EXIT INT TERM
  kill -INT "$server" 2>/dev/null || true
  wait "$server" || true
  exit
}
trap stop EXIT INT TERM
until "${within[@]}" "$bin/pg_isready" -q -h 127.0.0.1 -p "$port"; do
  kill -0 "$server"
  sleep 0.1
done
echo "postgresql://postgres@127.0.0.1:$port/postgres"
wait "$server"
