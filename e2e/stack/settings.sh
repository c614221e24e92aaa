# shellcheck shell=bash disable=SC2034
# Every knob of the stack, in one place. A knob is an environment variable; what is set here is its default.

: "${SUITE:=trixie}"            # Debian release the services come from: trixie (OpenStack 2025.1) or bookworm (Zed)
: "${DATABASE:=mariadb}"        # mariadb, or sqlite, which starts sooner and answers 500 to concurrent writers
: "${TOKEN_EXPIRATION:=3600}"   # seconds that a Keystone token lives
: "${HTTP_STORE:=false}"        # true: Glance also has an http store, and so takes locations by URL
: "${MULTIPLE_LOCATIONS:=false}" # true: Glance shows locations and lets them be patched (show_multiple_locations)
: "${PROPERTY_PROTECTIONS:=}"     # a file for Glance's property_protection_file, by roles; empty: everybody may set every property
: "${SIZE_CAP:=1099511627776}"  # bytes, Glance's image_size_cap
: "${GLANCE_WORKERS:=1}"        # eventlet workers; more than one collide on SQLite
: "${GLANCE_UWSGI_PROCESSES:=4}" # uWSGI workers: so many requests it serves at once
: "${GLANCE_DEBUG:=false}"      # true: Glance logs at debug level
: "${SERVICE_ROLES:=admin service}" # roles of the user countersign in the project service; NAME@system grants on the system
: "${PASSWORD:=stack}"          # of every user
: "${ADDRESS:=127.0.0.1}"      # address that everything listens on
: "${MIRROR:=}"                 # Debian mirror; empty: the one that apt is configured with

case $SUITE in
	trixie) : "${PORT_BASE:=25000}" ;;
	bookworm) : "${PORT_BASE:=26000}" ;;
	*) echo "stack: SUITE=$SUITE is not known; use trixie or bookworm" >&2; exit 2 ;;
esac
case $DATABASE in
	sqlite | mariadb) ;;
	*) echo "stack: DATABASE=$DATABASE is not known; use sqlite or mariadb" >&2; exit 2 ;;
esac

# Ports, all at ADDRESS. PORT_BASE moves them together.
: "${KEYSTONE_PORT:=$((PORT_BASE + 0))}"
: "${BARBICAN_PORT:=$((PORT_BASE + 311))}"
: "${GLANCE_PORT:=$((PORT_BASE + 292))}"       # RegionOne: Glance under eventlet
: "${GLANCE_UWSGI_PORT:=$((PORT_BASE + 293))}" # RegionUwsgi: Glance under uWSGI, same database and stores
: "${PROXY_PORT:=$((PORT_BASE + 290))}"        # RegionProxy: left free for Countersign in front of eventlet
: "${PROXY_UWSGI_PORT:=$((PORT_BASE + 291))}"  # RegionProxyUwsgi: left free for Countersign in front of uWSGI
: "${WEB_PORT:=$((PORT_BASE + 280))}"          # a web server over web/, a source for web-download

host=$ADDRESS
keystone=http://$host:$KEYSTONE_PORT/v3

cache=${E2E_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/countersign}/e2e
root=$(readlink -m "$cache/root-$SUITE") # the unpacked packages, wherever a link leads
state=$cache/run-$SUITE   # configuration, databases, images, logs, pids
data=$state/$DATABASE     # what a database and its images need; each kind keeps its own

# region|interface URL of Glance there
regions=(
	"RegionOne|http://$host:$GLANCE_PORT"
	"RegionUwsgi|http://$host:$GLANCE_UWSGI_PORT"
	"RegionProxy|http://$host:$PROXY_PORT"
	"RegionProxyUwsgi|http://$host:$PROXY_UWSGI_PORT"
)

say() { printf '%s\n' "$*" >&2; }
die() { printf 'stack: %s\n' "$*" >&2; exit 1; }
