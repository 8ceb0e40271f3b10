#!/bin/bash
# Writes the containers.conf that podman needs on this machine (to $CONTAINERS_CONF): engine.sh IMAGE
# Some machines need nothing. On one with hybrid control groups crun refuses to work and runc does not; a root user
# without the right to raise limits has to keep the ones that it has.
set -euo pipefail
image=$1

# cap OPTION NUMBER: a limit that is enough for the test, or the lower one that is there.
cap() {
    local hard
    hard=$(ulimit -H "$1")
    if [[ $hard == unlimited || $hard -gt $2 ]]; then hard=$2; fi
    echo "$hard:$hard"
}
limits="default_ulimits = [\"nofile=$(cap -n 20000)\", \"nproc=$(cap -u 4096)\"]"

said=""
for configuration in "" "$limits" "runtime = \"runc\"" "runtime = \"runc\" $limits"; do
    {
        echo "[containers]"
        [[ $configuration != *default_ulimits* ]] || echo "$limits"
        echo "[engine]"
        [[ $configuration != *runc* ]] || echo "runtime = \"runc\""
    } > "$CONTAINERS_CONF"
    if said+=$(podman run --rm --network none "$image" true 2>&1); then
        exit 0
    fi
    said+=$'\n'
done
echo "podman starts no container here, neither with its own settings nor with runc:" >&2
echo "$said" >&2
exit 1
