#!/usr/bin/env bash
# Makes .venv, or says what is missing and the one line that installs it.
set -euo pipefail

cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

fail() {
    echo "$1" >&2
    echo "Install it: $2" >&2
    exit 1
}

command -v git >/dev/null || fail "git was not found." "sudo apt-get install git"
command -v "$python" >/dev/null || fail "$python was not found." "sudo apt-get install python3 python3-venv"

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    fail "$python is Python $version, and Python 3.11 or newer is needed." \
        "a newer one, for example 'sudo apt-get install python3.12 python3.12-venv', then 'make PYTHON=python3.12 up'"
fi
# Debian and Ubuntu split ensurepip from python3: `import venv` works without it, making one does not.
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    fail "$python has no venv module." "sudo apt-get install python3-venv  (python$version-venv for a Python that is not the default)"
fi

# A venv whose Python is gone (an upgraded system, a moved checkout) is made anew; a whole one is kept.
if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
    rm -rf .venv
    "$python" -m venv .venv
fi
