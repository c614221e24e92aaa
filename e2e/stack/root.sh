# shellcheck shell=bash
# The root: Debian packages unpacked into a folder of their own, without running a maintainer script. Nothing is
# installed on the machine but mmdebstrap, and the same packages come out on every Debian host.

tools=base-files,base-passwd,bash,ca-certificates,coreutils,curl,dash,findutils,grep,libc-bin,openssl,procps,python3,qemu-utils,sed,sqlite3,util-linux
servers=keystone,barbican-api,glance-api,glance-common,python3-keystone,python3-barbican,python3-glance,uwsgi-core,uwsgi-plugin-python3
databases=mariadb-server-core,mariadb-client-core,python3-pymysql
clients=python3-openstackclient,python3-glanceclient,python3-barbicanclient
tests=tempest
others=python3-jwcrypto # implementations by others, which tests compare ours with
recipe="1 $tools,$servers,$databases,$clients,$tests" # what the services run on; the number counts changes to the steps below
packages=$recipe,$others

root_ready() { [[ -r $root/.packages && $(<"$root/.packages") == "$packages" ]]; }

# make_root builds the root unless it is there already, made by this very recipe.
make_root() {
	root_ready && return
	need_privileges
	need_mmdebstrap
	local mirror new=$root.new begin=$SECONDS apt
	mirror=$(find_mirror)
	say "== unpacking Debian $SUITE with Keystone, Barbican, Glance and clients into $root"
	say "   once; about two minutes and 900 MB"
	remove_tree "$new"
	mkdir -p "$cache"
	# What apt needs to reach the mirror from here (proxies, certificates) is needed here too.
	apt=$(mktemp "$cache/apt.XXXXXX")
	apt-config dump --no-empty --format '%f "%v";%n' | grep -E '^Acquire::(https?::|Retries)' >"$apt" || true
	local status=0
	mmdebstrap --mode=root --variant=extract --architectures="$(dpkg --print-architecture)" \
		--aptopt="$apt" --aptopt='APT::Install-Recommends "false"' \
		--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/lib/locale/*_*' \
		--dpkgopt='path-include=/usr/lib/locale/C.utf8/*' \
		--include="${packages#* }" "$SUITE" "$new" "deb $mirror $SUITE main" 2>&1 |
		while IFS= read -r line; do printf '   %4d s  %s\n' $((SECONDS - begin)) "$line"; done >&2 || status=$?
	rm -f "$apt"
	if ((status)); then
		remove_tree "$new"
		die "mmdebstrap could not build $SUITE from $mirror (its own words are above); MIRROR=URL names another mirror"
	fi
	finish_root "$new"
	printf '%s\n' "$packages" >"$new/.packages"
	rm -f "$state/.settings" # whatever runs from the root before is to be ended
	remove_tree "$root"
	mv "$new" "$root"
	say "   $((SECONDS - begin)) s, $(du -sm "$root" | cut -f1) MB"
}

# finish_root does by hand the little that maintainer scripts would have done and the services need.
finish_root() {
	local r=$1 service plugins plugin
	cp "$r/usr/share/base-passwd/passwd.master" "$r/etc/passwd"
	cp "$r/usr/share/base-passwd/group.master" "$r/etc/group"
	echo '127.0.0.1 localhost' >"$r/etc/hosts"
	printf '%s: files\n' passwd group hosts services protocols >"$r/etc/nsswitch.conf"
	mkdir -p "$r/etc/ssl/certs" "$r/tmp" "$r/var/tmp" "$r/proc" "$r/dev"
	chmod 1777 "$r/tmp" "$r/var/tmp"
	find "$r/usr/share/ca-certificates" -name '*.crt' -exec cat {} + >"$r/etc/ssl/certs/ca-certificates.crt"
	chroot "$r" /sbin/ldconfig
	for service in glance barbican; do
		mkdir -p "$r/etc/$service"
		cp -rn "$r/usr/share/$service-common/." "$r/etc/$service/"
	done
	[[ -e $r/usr/bin/uwsgi_python3 ]] || ln -s uwsgi-core "$r/usr/bin/uwsgi_python3"
	plugins=$r/usr/lib/uwsgi/plugins
	if [[ ! -e $plugins/python3_plugin.so ]]; then
		for plugin in "$plugins"/python31*_plugin.so; do ln -sf "${plugin##*/}" "$plugins/python3_plugin.so"; done
	fi
}

# find_mirror prints the Debian mirror that this machine uses already.
find_mirror() {
	[[ -z $MIRROR ]] || { echo "$MIRROR"; return; }
	local found
	found=$(apt-get indextargets --format '$(COMPONENT) $(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
		awk '$1 == "main" && $2 !~ /-/ && $3 ~ /debian/ && $3 ~ /^(https?|file):/ { print $3; exit }')
	[[ -n $found ]] || die "apt is configured with no Debian mirror; name one: MIRROR=http://… $0 root"
	echo "$found"
}

need_mmdebstrap() {
	command -v mmdebstrap >/dev/null && return
	command -v apt-get >/dev/null ||
		die "mmdebstrap is missing, and so is apt-get to install it; use a Debian machine or container"
	say "== installing mmdebstrap (the only package that the machine itself gets)"
	install_mmdebstrap || { apt-get -qq update && install_mmdebstrap; } ||
		die "mmdebstrap cannot be installed; see what this says: apt-get update && apt-get install mmdebstrap"
}

install_mmdebstrap() { DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install mmdebstrap >/dev/null; }

# need_privileges says what is missing to unpack and enter a root, and what cures it.
need_privileges() {
	need_root
	unshare --mount mount -t tmpfs none /tmp 2>/dev/null ||
		die "this root may not mount; in a container add the capability: docker run --cap-add SYS_ADMIN --security-opt apparmor=unconfined …"
}

need_root() { ((EUID == 0)) || die "this needs root, to unpack and enter a root folder: sudo -E $self ${command:-up}"; }

# remove_tree refuses to walk into something mounted below.
remove_tree() { rm -rf --one-file-system -- "$1"; }
