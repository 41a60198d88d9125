#!/bin/bash
# Checks that a binary needs nothing of the host: no interpreter, no shared libraries, and it
# runs in a root directory that holds nothing but itself.
#
#   contrib/package/check-static.sh BINARY ARGUMENT...       e.g. target/package/vitald --version
#
# Wants readelf (binutils); for the empty root directory it wants to be root, or user namespaces.
set -euo pipefail

fail() { echo "check-static: $1" >&2; exit 1; }

[ $# -ge 2 ] || fail "usage: $0 BINARY ARGUMENT..."
binary=$1; shift

# Read first, look afterwards: a readelf that fails must not pass for one that finds nothing.
segments=$(readelf -lW "$binary") || fail "$binary: readelf cannot read it"
dynamic=$(readelf -dW "$binary") || fail "$binary: readelf cannot read it"
[[ $segments != *INTERP* ]] || fail "$binary: has an interpreter (PT_INTERP), so it is not static"
[[ $dynamic != *NEEDED* ]] || fail "$binary: needs shared libraries (DT_NEEDED)"

root=$(mktemp -d); trap 'rm -rf "$root"' EXIT
install -m 755 "$binary" "$root/it"
enter=(chroot "$root")
[ "$(id -u)" = 0 ] || enter=(unshare --user --map-root-user chroot "$root")
"${enter[@]}" /it "$@" || fail "$binary $*: exit status $? in an empty root directory"
echo "check-static: $binary: static, and runs in an empty root directory"
