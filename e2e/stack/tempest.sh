# shellcheck shell=bash
# Tempest inside the root. The region chooses the Glance, and so whether a proxy stands in between.

run_tempest() { # region regex
	local region=$1 regex=$2 work=$state/tempest-$1
	url "$region" >/dev/null
	[[ -e $state/stack.json ]] || die "nothing is up: $0 up"
	mkdir -p "$work"/{etc,lock}
	# Tempest lets Glance fetch a true image over HTTP.
	(inside qemu-img create -q -f qcow2 "$state/web/tiny.qcow2" 1M)
	tempest_conf "$region" "$work" >"$work/etc/tempest.conf"
	printf '%s\n' '[DEFAULT]' test_path=/usr/lib/python3/dist-packages/tempest/test_discover \
		top_dir=/usr/lib/python3/dist-packages 'group_regex=([^\.]*\.)*' >"$work/.stestr.conf"
	cd "$work"
	[[ -d .stestr ]] || (inside stestr init)
	# One at a time: SQLite answers 500 to a second writer.
	local status=0
	(inside env TEMPEST_CONFIG_DIR="$work/etc" TEMPEST_CONFIG=tempest.conf stestr run --concurrency 1 "$regex") |
		tee "$work/output" || status=$?
	# A line is: {worker} test [seconds] ... verdict: reason
	sed -nE '/^\{[0-9]+\}/ { s/ \[[0-9.]+s\] / /; s/^\{[0-9]+\} (.*) \.\.\. (ok|FAILED|SKIPPED).*/\2 \1/p }' "$work/output" |
		sort >"$work/verdicts"
	return "$status"
}

tempest_conf() { # region folder
	cat <<-END
		[DEFAULT]
		log_file = $2/tempest.log
		[oslo_concurrency]
		lock_path = $2/lock
		[auth]
		admin_username = admin
		admin_password = $PASSWORD
		admin_project_name = admin
		admin_domain_name = Default
		use_dynamic_credentials = true
		tempest_roles = member,creator
		[identity]
		uri_v3 = $keystone
		auth_version = v3
		region = RegionOne
		[identity-feature-enabled]
		api_v2 = false
		[service_available]
		cinder = false
		neutron = false
		nova = false
		swift = false
		horizon = false
		glance = true
		[image]
		region = $1
		catalog_type = image
		http_image = http://$host:$WEB_PORT/tiny.qcow2
		http_qcow2_image = http://$host:$WEB_PORT/tiny.qcow2
		build_timeout = 60
		image_caching_enabled = false
		[image-feature-enabled]
		import_image = true
		os_glance_reserved = true
		manage_locations = $MULTIPLE_LOCATIONS
		[validation]
		run_validation = false
	END
}
