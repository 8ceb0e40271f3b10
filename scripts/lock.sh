#!/usr/bin/env bash
# Writes requirements/runtime.txt and requirements/test.txt from the groups in pyproject.toml.
# The test lock leaves out what the runtime lock already pins: each pin stands in one place.
# Arguments go to uv: scripts/lock.sh --upgrade
set -euo pipefail

cd "$(dirname "$0")/.."
compile=(uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes
    --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock")

"${compile[@]}" "$@" --group pyproject.toml:runtime --output-file requirements/runtime.txt

pinned=()
while IFS= read -r name; do
    pinned+=(--no-emit-package "$name")
done < <(sed -n 's/^\([A-Za-z0-9][A-Za-z0-9._-]*\)==.*/\1/p' requirements/runtime.txt)
"${compile[@]}" "$@" --group pyproject.toml:test --constraints requirements/runtime.txt \
    "${pinned[@]}" --output-file requirements/test.txt
