#!/usr/bin/env bash
# Fetch what package-lock.json names, and put the few files that the page uses beside this script. Run it after a change
# of package.json; nothing runs it when the page is served.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp "$here/package.json" "$here/package-lock.json" "$work"
(cd "$work" && npm ci --ignore-scripts --no-audit --no-fund --omit-lockfile-registry-resolved >/dev/null)

take() { # package, files below its src/
    local package=$1 file
    shift
    for file in "$@"; do
        install -D -m 644 "$work/node_modules/$package/src/$file" "$here/$package/$file"
    done
    install -m 644 "$work/node_modules/$package/LICENSE" "$here/$package/LICENSE"
}
take d3-array ticks.js
take d3-scale-chromatic colors.js sequential-multi/viridis.js
