#!/usr/bin/env bash
# Compare what is on the machine before and after a run: loop devices, mounts, control groups,
# processes and directories of vssemu. `leaks.sh before DIR`, later `leaks.sh after DIR`.
set -euo pipefail
list() {
    losetup --list --noheadings --output NAME,BACK-FILE | sort
    grep -i vssemu /proc/self/mounts | sort || true
    find /sys/fs/cgroup -maxdepth 3 -type d -name 'vssemu-*' 2>/dev/null | sort
    pgrep -af 'vssemu\.(daemons|lab)|vssemu_fuse' | sort || true
    find /var/lib/vssemu /run/vssemu -maxdepth 3 2>/dev/null | sort || true
}
case "$1" in
before) list >"$2/before" ;;
after)
    list >"$2/after"
    if ! diff "$2/before" "$2/after"; then
        echo "leaks: the run left or took the above" >&2
        exit 1
    fi
    echo "leaks: nothing left"
    ;;
esac
