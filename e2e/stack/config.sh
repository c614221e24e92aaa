# shellcheck shell=bash
# The services' configuration, written anew at every start from the knobs.

write_config() {
	mkdir -p "$state"/{etc/barbican,etc/eventlet,etc/uwsgi,home,lock,log,pid,web} \
		"$data"/{db,images/fast,images/slow,keystone/credential,keystone/fernet,staging,tasks}
	chmod 700 "$data/keystone"/*
	keystone_conf >"$state/etc/keystone.conf"
	cp -r "$root/etc/barbican/." "$state/etc/barbican/"
	barbican_conf >"$state/etc/barbican/barbican.conf"
	glance_conf eventlet "$GLANCE_PORT" >"$state/etc/eventlet/glance-api.conf"
	glance_conf uwsgi "$GLANCE_UWSGI_PORT" >"$state/etc/uwsgi/glance-api.conf"
	local server
	for server in eventlet uwsgi; do
		cp "$root/etc/glance/glance-api-paste.ini" "$state/etc/$server/"
		import_conf >"$state/etc/$server/glance-image-import.conf"
	done
	uwsgi_ini keystone "$KEYSTONE_PORT" keystone-wsgi-public 2 >"$state/etc/keystone.ini" <<-END
		env = OS_KEYSTONE_CONFIG_FILES=$state/etc/keystone.conf
		rem-header = Content-Length
		add-header = Connection: close
	END
	uwsgi_ini barbican "$BARBICAN_PORT" barbican-wsgi-api 2 >"$state/etc/barbican.ini" <<-END
		add-header = Connection: close
	END
	# From rem-header on these are the lines with which Debian's own package runs Glance under uWSGI, but for
	# http-keepalive, which its http-socket does not heed.
	uwsgi_ini glance-uwsgi "$GLANCE_UWSGI_PORT" glance-wsgi-api "$GLANCE_UWSGI_PROCESSES" >"$state/etc/glance-uwsgi.ini" <<-END
		env = OS_GLANCE_CONFIG_DIR=$state/etc/uwsgi
		env = OS_GLANCE_CONFIG_FILES=glance-api.conf
		rem-header = Content-Length
		socket-timeout = 10
		http-auto-chunked = true
		http-chunked-input = true
		http-raw-body = true
		wsgi-manage-chunked-input = true
		add-header = Connection: close
	END
}

keystone_conf() {
	cat <<-END
		[DEFAULT]
		log_file = $state/log/keystone.log
		[database]
		connection = $(database_url keystone)
		[token]
		provider = fernet
		expiration = $TOKEN_EXPIRATION
		[fernet_tokens]
		key_repository = $data/keystone/fernet
		[fernet_receipts]
		key_repository = $data/keystone/fernet
		[credential]
		key_repository = $data/keystone/credential
		[cache]
		enabled = true
		backend = dogpile.cache.memory
		[identity]
		password_hash_rounds = 4
		[oslo_messaging_notifications]
		driver = noop
	END
}

barbican_conf() {
	local url
	url=$(database_url barbican)
	cat <<-END
		[DEFAULT]
		log_file = $state/log/barbican.log
		sql_connection = $url
		db_auto_create = false
		host_href = http://$host:$BARBICAN_PORT
		transport_url = fake://
		[database]
		connection = $url
		[queue]
		enable = false
		[secretstore]
		enabled_secretstore_plugins = store_crypto
		[crypto]
		enabled_crypto_plugins = simple_crypto
		[simple_crypto_plugin]
		kek = '$(printf 'a throw-away key for loopback...' | base64)'
		[oslo_policy]
		policy_dirs = /etc/barbican/policy.d
		[keystone_notifications]
		enable = false
	END
	auth_conf barbican
}

glance_conf() { # server port
	local stores=fast:file,slow:file
	[[ $HTTP_STORE != true && $MULTIPLE_LOCATIONS != true ]] || stores+=,web:http
	cat <<-END
		[DEFAULT]
		bind_host = $host
		bind_port = $2
		${PROPERTY_PROTECTIONS:+property_protection_file = $(readlink -f "$PROPERTY_PROTECTIONS")}
		workers = $GLANCE_WORKERS
		log_file = $state/log/glance-$1.log
		debug = $GLANCE_DEBUG
		enabled_backends = $stores
		enabled_import_methods = [glance-direct,web-download,copy-image]
		show_image_direct_url = $MULTIPLE_LOCATIONS
		show_multiple_locations = $MULTIPLE_LOCATIONS
		image_size_cap = $SIZE_CAP
		transport_url = fake://
		worker_self_reference_url = http://$host:$2
		node_staging_uri = file://$data/staging
		use_keystone_limits = false
		[database]
		connection = $(database_url glance)
		max_retries = -1
		# One process serves a hundred uploads at once, each of which may want a connection.
		max_overflow = 250
		[glance_store]
		default_backend = fast
		[fast]
		filesystem_store_datadir = $data/images/fast
		store_description = fast
		[slow]
		filesystem_store_datadir = $data/images/slow
		store_description = slow
		[web]
		store_description = http
		[os_glance_staging_store]
		filesystem_store_datadir = $data/staging
		[os_glance_tasks_store]
		filesystem_store_datadir = $data/tasks
		[paste_deploy]
		flavor = keystone
		config_file = /usr/share/glance-common/glance-api-paste.ini
		[oslo_concurrency]
		lock_path = $state/lock
		[oslo_messaging_notifications]
		driver = noop
		[key_manager]
		backend = barbican
		[barbican]
		auth_endpoint = $keystone
		barbican_endpoint_type = public
		barbican_region_name = RegionOne
	END
	auth_conf glance
}

# Scenarios serve data by ports of their own, on this host; Glance refuses loopback unless it is listed.
import_conf() {
	cat <<-END
		[image_import_opts]
		image_import_plugins = []
		[import_filtering_opts]
		allowed_schemes = [http,https]
		allowed_hosts = [$host]
		allowed_ports = []
	END
}

auth_conf() { # service user
	cat <<-END
		[keystone_authtoken]
		www_authenticate_uri = http://$host:$KEYSTONE_PORT
		auth_url = http://$host:$KEYSTONE_PORT
		auth_type = password
		username = $1
		password = $PASSWORD
		project_name = service
		user_domain_name = Default
		project_domain_name = Default
		region_name = RegionOne
		service_token_roles_required = true
	END
}

uwsgi_ini() { # name port application processes; further lines come on standard input
	cat <(cat <<-END
		[uwsgi]
		plugins = python3
		http-socket = $host:$2
		wsgi-file = /usr/bin/$3
		name = $1
		processes = $4
		threads = 1
		master = true
		lazy-apps = true
		enable-threads = true
		thunder-lock = true
		listen = 100
		buffer-size = 65535
		die-on-term = true
		no-orphans = true
		exit-on-reload = true
		close-on-exec = true
		logto = $state/log/$1-uwsgi.log
	END
	) -
}
