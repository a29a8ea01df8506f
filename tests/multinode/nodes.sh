#!/bin/bash
# Nodes for tests on one Linux machine: namespaces (network, mounts, processes, host name), each with its own sshd, home,
# /tmp and /dev/shm, on a bridge of their own. Root; needs iproute2, util-linux, openssh-server and rsync.
#
#   nodes.sh up                    client, head, w1 and w2; what a killed run has left of them goes
#   nodes.sh down
#   nodes.sh kill NODE             at once, with all that runs on it
#   nodes.sh start NODE            again, with its home and nothing else
#   nodes.sh cut NODE | join NODE  its network
#   nodes.sh slow NODE RATE        what comes to it, in tc's words, as 20mbit; RATE off: as before
#   nodes.sh exec NODE COMMAND...
#
# NODES: a folder under /tmp; NODES/shared is the storage that all nodes share. CHECKOUT: what they read, with its .venv.
set -euo pipefail
NODES=${NODES:?} CHECKOUT=${CHECKOUT:?} NET=${NET:-10.77.0}
python=$(dirname "$(dirname "$(readlink -f "$CHECKOUT/.venv/bin/python")")") # the interpreter, wherever it is installed
declare -A host=([client]=9 [head]=4 [w1]=5 [w2]=6) # the first three that Amazon's EC2 would give
declare -r path="$CHECKOUT/.venv/bin"

first_process() { cat "$NODES/$1/pid"; }

start() {
    local name=$1 place=$NODES/$1 parent process=
    rm -rf --one-file-system "$place/tmp" "$place/run" # the home outlives a reboot
    mkdir -p "$place"/{root/.ssh,tmp,run/sshd} "$NODES/shared"
    chmod 700 "$place/root" "$place/root/.ssh"
    chmod 1777 "$place/tmp"
    cp "$NODES/key.pub" "$place/root/.ssh/authorized_keys"
    install -m 600 "$NODES/key" "$place/tmp/hostkey"
    [[ $name != client ]] || install -m 600 "$NODES/key" "$place/root/.ssh/key"
    ip netns add "rc-$name"
    ip -n "rc-$name" link set lo up
    ip -n rc-switch link add "p-$name" type veth peer name eth0 netns "rc-$name"
    ip -n rc-switch link set "p-$name" master br0 up
    ip -n "rc-$name" addr add "$NET.${host[$name]}/24" dev eth0
    ip -n "rc-$name" link set eth0 up
    ip -n "rc-$name" route add default via "$NET.254" # nothing answers there: Ray finds its own address by the route
    NAME=$name PLACE=$place setsid ip netns exec "rc-$name" \
        unshare --mount --pid --fork --uts --ipc --kill-child "$0" boot </dev/null >"$place/log" 2>&1 &
    parent=$!
    for _ in $(seq 50); do
        process=$(pgrep -P "$parent" || true)
        [[ -z $process ]] || break
        sleep 0.1
    done
    echo "$process" >"$place/pid"
}

boot() { # the node's first process
    mount --make-rprivate /
    hostname "$NAME"
    lend() { # a path that the node's own /tmp or /root would hide
        local inside
        case $1 in
            /tmp/*) inside=$PLACE/tmp/${1#/tmp/} ;;
            /root/*) inside=$PLACE/root/${1#/root/} ;;
            *) return 0 ;;
        esac
        mkdir -p "$inside"
        mount --bind "$1" "$inside"
        [[ ${2:-} == writable ]] || mount -o remount,bind,ro "$inside"
    }
    lend "$CHECKOUT"
    lend "$python"
    lend "$NODES/shared" writable
    printf '127.0.0.1 localhost\n' >"$PLACE/hosts"
    for name in head w1 w2; do echo "$NET.${host[$name]} $name" >>"$PLACE/hosts"; done
    mount --bind "$PLACE/hosts" /etc/hosts # gloo resolves the host name to find its interface
    mount --rbind "$PLACE/root" /root
    mount --rbind "$PLACE/run" /run
    mount --rbind "$PLACE/tmp" /tmp # last: it hides NODES
    mount -t tmpfs -o size=2g tmpfs /dev/shm
    mount -t proc proc /proc
    mount -t sysfs sysfs /sys 2>/dev/null || true
    export HOME=/root
    cd /
    [[ $NAME == client ]] || /usr/sbin/sshd -D -e -f /dev/null -h /tmp/hostkey -o PidFile=none -o PasswordAuthentication=no \
        -o StrictModes=no -o UsePAM=no -o PermitRootLogin=yes -o MaxStartups=50 -o Subsystem="sftp internal-sftp" &
    while :; do
        sleep 3600 &
        wait $! || true
    done
}

stop() {
    [[ ! -s $NODES/$1/pid ]] || kill -9 "$(first_process "$1")" 2>/dev/null || true
    rm -f "$NODES/$1/pid"
    ip -n rc-switch link del "p-$1" 2>/dev/null || true
    ip netns del "rc-$1" 2>/dev/null || true
}

down() { # also nodes of another NODES, whose processes are known by their network alone
    for name in client head w1 w2; do
        ip netns pids "rc-$name" 2>/dev/null | xargs -r kill -9 2>/dev/null || true
        stop "$name"
    done
    ip netns del rc-switch 2>/dev/null || true
}

case ${1:?} in
    up)
        down
        mkdir -p "$NODES"
        [[ -f $NODES/key ]] || ssh-keygen -q -t ed25519 -N '' -f "$NODES/key"
        ip netns add rc-switch
        ip -n rc-switch link add br0 type bridge
        ip -n rc-switch link set br0 up
        ip -n rc-switch link set lo up
        for name in client head w1 w2; do start "$name"; done
        ;;
    down) down ;;
    kill) stop "$2" ;;
    start) start "$2" ;;
    boot) boot ;;
    cut) ip -n rc-switch link set "p-$2" down ;;
    slow)
        tc -n rc-switch qdisc del dev "p-$2" root 2>/dev/null || true
        [[ $3 == off ]] || tc -n rc-switch qdisc add dev "p-$2" root tbf rate "$3" burst 64kb latency 400ms
        ;;
    join) ip -n rc-switch link set "p-$2" up ;;
    exec)
        name=$2
        shift 2
        exec nsenter -t "$(first_process "$name")" -a env -i HOME=/root TERM=dumb LANG=C.UTF-8 \
            PATH="$path:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" "$@"
        ;;
    *) exit 2 ;;
esac
