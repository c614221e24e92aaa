# shellcheck shell=bash
# Where the services keep their records: a file each (SQLite) or one MariaDB in the root, on a socket.

database_url() { # database
	case $DATABASE in
		sqlite) echo "sqlite:///$data/db/$1.db?timeout=60" ;;
		mariadb) echo "mysql+pymysql://root@localhost/$1?unix_socket=$state/mariadb.sock&charset=utf8mb4" ;;
	esac
}

start_database() {
	[[ $DATABASE == mariadb ]] || return 0
	if [[ ! -d $data/db/mysql ]]; then
		(inside mariadb-install-db --no-defaults --user=root --datadir="$data/db" --auth-root-authentication-method=normal \
			--skip-test-db) >"$state/log/mariadb-install.log" 2>&1 || die "MariaDB: see $state/log/mariadb-install.log"
	fi
	start mariadb 0 mariadbd --no-defaults --user=root --datadir="$data/db" --socket="$state/mariadb.sock" \
		--skip-networking --max-connections=500 --innodb-flush-log-at-trx-commit=0 --innodb-buffer-pool-size=64M \
		--log-error="$state/log/mariadb.log" --pid-file="$state/mariadb.pid"
	await mariadb mariadb_answers
	local name
	for name in keystone barbican glance; do mariadb_do "CREATE DATABASE IF NOT EXISTS $name CHARACTER SET utf8mb4"; done
}

mariadb_do() { (inside mariadb --no-defaults --user=root --socket="$state/mariadb.sock" -e "$1"); }

mariadb_answers() { mariadb_do 'SELECT 1' >/dev/null 2>&1; }

# migrate makes the tables, the token keys and the first user; the three services have nothing to wait for in each other.
migrate() {
	[[ ! -e $data/.migrated ]] || return 0
	say "== making the databases ($DATABASE)"
	local name job jobs=()
	for name in keystone barbican glance; do
		("migrate_$name") >"$state/log/migrate-$name.log" 2>&1 &
		jobs+=("$name:$!")
	done
	for job in "${jobs[@]}"; do
		wait "${job#*:}" || { tail -n 5 "$state/log/migrate-${job%:*}.log" >&2; die "${job%:*} could not make its database; see $state/log/migrate-${job%:*}.log"; }
	done
	touch "$data/.migrated"
}

migrate_keystone() {
	local manage=(keystone-manage --config-file "$state/etc/keystone.conf")
	(inside "${manage[@]}" db_sync)
	(inside "${manage[@]}" fernet_setup --keystone-user root --keystone-group root)
	(inside "${manage[@]}" credential_setup --keystone-user root --keystone-group root)
	(inside "${manage[@]}" bootstrap --bootstrap-password "$PASSWORD" --bootstrap-region-id RegionOne \
		--bootstrap-admin-url "$keystone" --bootstrap-internal-url "$keystone" --bootstrap-public-url "$keystone")
}

migrate_barbican() { (inside barbican-manage db upgrade --db-url "$(database_url barbican)"); }

migrate_glance() {
	(inside glance-manage --config-dir "$state/etc/eventlet" db_sync)
	(inside glance-manage --config-dir "$state/etc/eventlet" db_load_metadefs)
}
