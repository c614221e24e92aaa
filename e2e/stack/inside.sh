# shellcheck shell=bash
# Entering the root. A command gets a mount namespace of its own, so that nothing is left to unmount, and keeps the
# network of the machine, so that loopback is loopback. Every step execs: the pid is the command's own.

# inside CMD… runs a command in the root. It sees the state folder, the temporary folder and the present folder under
# the same names as outside, and of the environment only OS_*.
inside() {
	local kept=() pair folder shared=()
	while IFS= read -r -d '' pair; do
		case $pair in OS_*) kept+=("$pair") ;; esac
	done < <(env -0)
	case ${PWD%/}/ in
		/ | /usr/* | /etc/* | /var/* | /bin/* | /sbin/* | /lib*/* | /dev/* | /proc/* | /sys/*) ;; # the root has its own
		*) shared+=("$PWD") ;;
	esac
	shared+=("${TMPDIR:-/tmp}" "$state")
	for folder in "${shared[@]}"; do mkdir -p "$root$folder"; done
	exec unshare --mount bash -c '
		set -e
		root=$1 work=$2 barbican=$3
		shift 3
		mount --rbind /dev "$root/dev"
		mount --rbind /proc "$root/proc"
		while [[ $1 != -- ]]; do
			mount --bind "$1" "$root$1"
			shift
		done
		shift
		# Barbican looks for its paste configuration in /etc alone.
		[[ ! -d $barbican ]] || mount --bind "$barbican" "$root/etc/barbican"
		[[ -d $root$work ]] || work=/
		exec chroot "$root" /usr/bin/env -i -C "$work" PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
			TERM=dumb PYTHONWARNINGS=ignore "$@"
	' inside "$root" "$PWD" "$state/etc/barbican" "${shared[@]}" -- HOME="$state/home" "${kept[@]}" "$@"
}
