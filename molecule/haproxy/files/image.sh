#!/bin/sh
# Makes the image of a plain Debian host: image.sh CACHE IMAGE:SUITE MIRROR...
# It has what Ansible needs and no package lists. Its only source is a folder of its own with the packages that the role installs, so that apt
# works in a container without a way to the internet too.
set -eu
cache=$1
image=$2
suite=${image##*:}
shift 2

key=$({ cat "$0"; echo "$image" "$@"; dpkg --print-architecture; } | sha256sum | cut -c1-16)
tar=$cache/debian-$suite-$key.tar

# Without the engine's configuration podman refuses any command.
test -z "${CONTAINERS_CONF:-}" || test -e "$CONTAINERS_CONF" || : > "$CONTAINERS_CONF"

label() {
    podman image inspect --format '{{index .Labels "recipe"}}' "$image" 2> /dev/null || true
}
test "$(label)" != "$key" || exit 0

mkdir -p "$cache"
# Another run may be at it.
exec 9> "$cache/lock"
flock 9

if ! test -e "$tar"; then
    rm -f "$cache/debian-$suite-"*
    for mirror in "$@"; do
        echo "$mirror" | sed "s/{suite}/$suite/"
    done > "$cache/debian-$suite-$key.list"
    # On Ubuntu, apt does not trust Debian's keys by itself.
    keyring=
    if ! ls /etc/apt/trusted.gpg.d/debian-archive-* > /dev/null 2>&1; then
        keyring=--keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    fi
    # What apt has downloaded for the system itself goes first; the rest becomes the folder of packages.
    # shellcheck disable=SC2016
    mmdebstrap --variant=minbase --quiet ${keyring:+"$keyring"} --include=python3,python3-apt \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --customize-hook='APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get clean' \
        --customize-hook='APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get --quiet --yes --no-install-recommends --download-only install haproxy' \
        --customize-hook='mkdir -p "$1/srv/packages" && mv "$1"/var/cache/apt/archives/*.deb "$1/srv/packages"' \
        --customize-hook='cd "$1/srv/packages" && for deb in *.deb; do
            dpkg-deb --field "$deb"
            echo "Filename: ./$deb"
            echo "Size: $(stat --format %s "$deb")"
            echo "SHA256: $(sha256sum "$deb" | cut -d" " -f1)"
            echo
        done > Packages' \
        --customize-hook='rm -rf "$1"/etc/apt/sources.list.d/*' \
        --customize-hook='echo "deb [trusted=yes] file:/srv/packages ./" > "$1/etc/apt/sources.list"' \
        "$suite" "$cache/new.tar" - < "$cache/debian-$suite-$key.list"
    mv "$cache/new.tar" "$tar"
fi

podman import --quiet --change "LABEL recipe=$key" "$tar" "$image" > /dev/null
echo "made $image"
