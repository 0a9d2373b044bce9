#!/bin/sh
# The official SDK against the simulator: what it understands, other clients will.
#
#   run.sh PATH/TO/nightmill-sim WORK_DIR
#
# The SDK is installed into WORK_DIR, so that the checkout stays clean. One line a check;
# the last line says `N passed, N failed`. Exits with 0 only if none failed.
set -eu

if [ $# -ne 2 ]; then
    echo "usage: $0 PATH/TO/nightmill-sim WORK_DIR" >&2
    exit 2
fi
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
sim=$(realpath -- "$1")
mkdir -p -- "$2"
work=$(realpath -- "$2")

if ! command -v node >/dev/null 2>&1 || ! command -v npm >/dev/null 2>&1; then
    sudo=
    [ "$(id -u)" -eq 0 ] || sudo=sudo
    $sudo apt-get update >&2
    $sudo apt-get install -y --no-install-recommends nodejs npm >&2
fi

cp -- "$here/package.json" "$here/conformance.mjs" "$work/"
cd -- "$work"
[ -d node_modules/@anthropic-ai/sdk ] ||
    npm install --no-audit --no-fund --no-package-lock --loglevel=error >&2

pid=
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null || true' EXIT INT TERM
rm -f url
"$sim" --port 0 >url &
pid=$!
tries=0
until [ -s url ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 100 ] || ! kill -0 "$pid" 2>/dev/null; then
        echo "nightmill-sim did not start" >&2
        exit 1
    fi
    sleep 0.1
done

# A proxy would be asked even for loopback.
unset HTTP_PROXY HTTPS_PROXY http_proxy https_proxy ANTHROPIC_AUTH_TOKEN || true
failed=0
timeout 300 node conformance.mjs "$(head -n 1 url)" || failed=1
kill "$pid"
wait "$pid" || failed=1
pid=
exit "$failed"
