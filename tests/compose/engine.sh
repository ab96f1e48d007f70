#!/bin/bash
# A container engine for tests, on a machine that has none: Debian 12, root, nothing pulled.
#
#   engine.sh start   install what is missing, start dockerd, print the DOCKER_HOST to use
#   engine.sh images  make local stand-ins for the base images that are not there
#   engine.sh stop    end the dockerd that `start` started
#   engine.sh remove  stop, and delete everything it kept
#
# Everything comes from Debian's packages, through the mirror this machine already uses. A machine
# whose `docker` answers needs none of this: the tests use that engine and leave it as it was.
set -euo pipefail

state=${STAGEGATE_ENGINE_STATE:-${XDG_CACHE_HOME:-$HOME/.cache}/stagegate-engine}
socket=$state/docker.sock
pid_file=$state/dockerd.pid
export DEBIAN_FRONTEND=noninteractive

refuse() { echo "engine.sh: $*" >&2; exit 69; }

mirror() {
    local uri
    uri=$(awk '/^URIs:/ { print $2; exit }' /etc/apt/sources.list.d/*.sources 2>/dev/null || true)
    if [ -z "$uri" ]; then
        uri=$(awk '$1 == "deb" { for (i = 2; i <= NF; i++) if ($i ~ /:\/\//) { print $i; exit } }' \
            /etc/apt/sources.list 2>/dev/null || true)
    fi
    [ -n "$uri" ] || refuse "apt names no mirror; configure one in /etc/apt, or start an engine yourself"
    echo "$uri"
}

install_from_stable() {
    local missing=() package
    for package in containerd runc iptables debootstrap; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q ' installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends tini "${missing[@]}" >/dev/null
}

# Compose v2 and buildx are packaged one release later, and run on this release's libc. An apt state
# of its own keeps the later release out of the machine's package selection.
install_from_next() {
    local apt=$state/apt wanted=() options
    command -v dockerd >/dev/null || wanted+=(docker.io)
    command -v docker >/dev/null || wanted+=(docker-cli)
    docker compose version >/dev/null 2>&1 || wanted+=(docker-compose)
    docker buildx version >/dev/null 2>&1 || wanted+=(docker-buildx)
    [ ${#wanted[@]} -gt 0 ] || return 0
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/packages"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) trixie main" \
        >"$apt/sources.list"
    options=(
        -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o Dir::Etc::preferencesparts=/dev/null -o "Dir::State::lists=$apt/lists"
        -o "Dir::Cache=$apt/cache" -o Acquire::Languages=none -o APT::Sandbox::User=root
    )
    apt-get "${options[@]}" update -qq
    rm -f "$apt"/packages/*.deb
    (cd "$apt/packages" && apt-get "${options[@]}" download -qq "${wanted[@]}")
    dpkg -i "$apt"/packages/*.deb >/dev/null
}

answers() { DOCKER_HOST=unix://$socket docker version >/dev/null 2>&1; }

start() {
    [ "$(id -u)" = 0 ] || refuse "no engine answers and only root can start one"
    grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release \
        || refuse "no engine answers and this is not Debian 12: start one, or set DOCKER_HOST"
    mkdir -p "$state"
    if ! answers; then
        install_from_stable
        install_from_next
        setsid nohup dockerd --data-root "$state/data" --exec-root "$state/exec" \
            --host "unix://$socket" --pidfile "$pid_file" >"$state/dockerd.log" 2>&1 </dev/null &
        for _ in $(seq 240); do answers && break; sleep 0.25; done
        answers || { tail -n 20 "$state/dockerd.log" >&2; refuse "dockerd did not start"; }
    fi
    echo "unix://$socket"
}

make_root() {
    local root=$state/root
    [ -e "$state/root.done" ] && return 0
    command -v debootstrap >/dev/null || install_from_stable
    rm -rf "$root"
    debootstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates \
        bookworm "$root" "$(mirror)" >"$state/debootstrap.log" 2>&1 \
        || { tail -n 20 "$state/debootstrap.log" >&2; refuse "debootstrap failed"; }
    # What the image it stands for has: a `python`, and a pip that may install.
    ln -sf python3 "$root/usr/bin/python"
    rm -f "$root"/usr/lib/python3*/EXTERNALLY-MANAGED
    # The roots this machine trusts, so that pip reaches inside `build` what it reaches outside.
    cp /usr/local/share/ca-certificates/*.crt "$root/usr/local/share/ca-certificates/" 2>/dev/null || true
    chroot "$root" update-ca-certificates >/dev/null 2>&1
    printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' >"$root/etc/pip.conf"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    touch "$state/root.done"
}

images() {
    local python=python:3.11-slim-bookworm
    docker image inspect "$python" >/dev/null 2>&1 && return 0
    make_root
    tar --numeric-owner -C "$state/root" -c . | docker import \
        --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' \
        --change 'CMD ["python3"]' - "$python" >/dev/null
}

stop() {
    local pid
    pid=$(cat "$pid_file" 2>/dev/null) || return 0
    kill -TERM "$pid" 2>/dev/null || return 0
    for _ in $(seq 120); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.5; done
    refuse "dockerd ($pid) does not stop"
}

case ${1:-} in
    start) start ;;
    images) images ;;
    stop) stop ;;
    remove) stop; rm -rf "$state" ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 64 ;;
esac
