#!/usr/bin/env bash
# Makes .venv, or says what is missing and the one line that installs it.
set -euo pipefail

cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

fail() {
    printf '%s\n%s\n' "$1" "$2" >&2
    [[ -z ${BUNDLE:-} ]] || echo "The bundle has it: docs/offline.md says how it is installed from there." >&2
    exit 1
}

command -v git >/dev/null || fail "git was not found." "Install it: sudo apt-get install git"
command -v "$python" >/dev/null || fail "$python was not found." "Install it: sudo apt-get install python3 python3-venv"

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    fail "$python is Python $version, and Python 3.11 or newer is needed." \
        "Install a newer one and name it, for example: sudo apt-get install python3.12-venv && make PYTHON=python3.12 up"
fi
# Debian and Ubuntu split ensurepip from python3: `import venv` works without it, making one does not.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    package=python3-venv
    [[ $python == python3 ]] || package=python$version-venv
    fail "$python has no venv module." "Install it: sudo apt-get install $package"
fi

# Before anything is changed: a file that was spoilt on its way is named.
if [[ -n ${BUNDLE:-} ]]; then
    "$python" scripts/check_bundle.py "$BUNDLE"
fi

# A whole venv is kept. One whose Python is gone (an upgraded system) or whose folder was moved is made anew: its
# programs start with the old path.
if ! .venv/bin/python -c 'import pip' 2>/dev/null || ! grep -qF "$PWD/.venv" .venv/bin/activate; then
    rm -rf .venv
    "$python" -m venv .venv
fi
