#!/bin/sh
# Makes a root of its own around the systemd that is installed here, and becomes it: PID 1 of a new PID, mount, network,
# UTS, IPC and cgroup namespace, which is what `unshare` has made. Nothing is written outside of it: $1 is an overlay.
#
#   init.sh SCRATCH    a folder for the overlay; SCRATCH/root becomes /, what is in SCRATCH/upper is laid over the system
set -eu
scratch=$1 root=$1/root

mount --make-rprivate /
mkdir -p "$root" "$scratch/work"
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$root"

mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
for place in run tmp var/tmp; do
    mount -t tmpfs -o mode=1777 tmpfs "$root/$place"
done
chmod 755 "$root/run"

mount -t tmpfs -o mode=755 tmpfs "$root/dev"
device() { mknod -m "$2" "$root/dev/$1" c "$3" "$4"; }
device null 666 1 3
device zero 666 1 5
device full 666 1 7
device random 666 1 8
device urandom 666 1 9
device tty 666 5 0
device console 666 1 3
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"

ip link set lo up
cd "$root"
mkdir -p .before
pivot_root . .before
umount -l /.before
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=test \
    /lib/systemd/systemd --system --unit=booted.target --log-target=journal --show-status=false </dev/null
