# shellcheck shell=bash
# Starting, finding and ending the services. A pid file names the leader of a process group; a process counts as ours
# only if it lives in our root, so that a pid file that outlived its process (kill -9, a reboot) misleads nobody.

ours() { [[ $(readlink "/proc/$1/root" 2>/dev/null) == "$root" ]]; }

# group prints the pids of a service's processes that live in our root; its leader may be gone already.
group() { # name
	local leader pid stat
	[[ -s $state/pid/$1 ]] || return 0
	leader=$(<"$state/pid/$1")
	for pid in $(find /proc -maxdepth 2 -name root -path '/proc/[0-9]*' -lname "$root" -printf '%P\n' 2>/dev/null); do
		pid=${pid%/root}
		stat=$(cat "/proc/$pid/stat" 2>/dev/null) || continue
		read -r _ _ pgrp _ <<<"${stat##*) }"
		if ((pgrp == leader)); then echo "$pid"; fi
	done
}

alive() { # name
	[[ -s $state/pid/$1 ]] || return 1
	local leader
	leader=$(<"$state/pid/$1")
	# A service that was started a moment ago is on its way into the root; it is a job of this shell.
	ours "$leader" || [[ -n $(jobs -rp | grep -x "$leader") ]]
}

# start runs a command in the root as a service, unless it runs already.
start() { # name port command…
	local name=$1 port=$2 stray
	shift 2
	! alive "$name" || return 0
	# A leader that was killed may leave workers behind; they hold the port.
	for stray in $(group "$name"); do kill -KILL "$stray" 2>/dev/null || true; done
	((port == 0)) || free "$name" "$port"
	(
		exec {lock}>&- # the lock is the command's, not the service's
		cd /
		exec setsid "$self" exec "$@"
	) >"$state/log/$name.out" 2>&1 </dev/null &
	echo $! >"$state/pid/$name"
}

listening() { (: </dev/tcp/"$host/$1") 2>/dev/null; }

# free waits a moment for a port to be let go, and says who holds it otherwise.
free() { # name port
	local i holder
	for ((i = 0; i < 15; i++)); do
		listening "$2" || return 0
		sleep 0.2
	done
	holder=$(ss -Hltnp "sport = :$2" 2>/dev/null | grep -o 'users:.*' || true)
	die "port $2, meant for $1, is taken by something else ${holder:+($holder)}; end that, or choose other ports: PORT_BASE=27000 $0 up"
}

# await waits until a check holds, as long as the service lives.
await() { # name check…
	local name=$1 i
	shift
	for ((i = 0; i < 450; i++)); do
		"$@" && return 0
		alive "$name" || { tail -n 15 "$state/log/$name"*.{out,log} >&2 2>/dev/null || true; die "$name ended while starting; its last words are above, more in $state/log"; }
		sleep 0.2
	done
	die "$name does not answer after 90 s; see $state/log"
}

# answers says whether HTTP is spoken at a port, and not to say that the server is broken.
answers() ( # port path
	exec 3<>"/dev/tcp/$host/$1" || exit 1
	printf 'GET %s HTTP/1.0\r\nHost: %s:%s\r\n\r\n' "$2" "$host" "$1" >&3
	IFS= read -r -t 20 line <&3
	[[ $line =~ ^HTTP/1.[01]\ [234] ]]
) 2>/dev/null

services=(keystone barbican glance-eventlet glance-uwsgi web mariadb)

# stop ends a service: gently, then by force.
stop() { # name
	local i pids
	mapfile -t pids < <(group "$1")
	((${#pids[@]} == 0)) || kill -TERM "${pids[@]}" 2>/dev/null || true
	for ((i = 0; i < 50 && ${#pids[@]} > 0; i++)); do
		sleep 0.1
		mapfile -t pids < <(group "$1")
	done
	((${#pids[@]} == 0)) || kill -KILL "${pids[@]}" 2>/dev/null || true
	rm -f "$state/pid/$1"
}

stop_all() {
	local service stopping=()
	for service in "${services[@]:0:5}"; do stop "$service" & stopping+=($!); done
	((${#stopping[@]} == 0)) || wait "${stopping[@]}"
	stop mariadb # last: the others talk to it
}
