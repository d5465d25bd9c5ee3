#!/bin/busybox sh
# PID 1 of a test guest, run by busybox from the initramfs that xtask/src/vm/image.rs makes.
# It builds a system out of the host's files (read-only) and a layer in memory, runs the one
# command xtask asked for, and sends output and exit code back over three virtio ports.
/bin/busybox mkdir -p /bin /proc /sys /dev /host /layer /system
/bin/busybox --install -s /bin
export PATH=/bin

lost() { echo "guest: $1" >/dev/console; reboot -f; }

mount -t proc none /proc && mount -t sysfs none /sys && mount -t devtmpfs none /dev || lost "no proc, sys or dev"
for module in /modules/*; do insmod "$module" || echo "guest: $module does not load" >/dev/console; done

# Ports come one by one, some time after the driver.
for turn in $(seq 200); do
    for port in /sys/class/virtio-ports/*; do
        read -r name <"$port/name" && [ -c "/dev/${port##*/}" ] && ln -sf "/dev/${port##*/}" "/$name"
    done 2>/dev/null
    [ -e /stdout ] && [ -e /stderr ] && [ -e /status ] && break
    usleep 10000
done
[ -e /status ] || lost "no virtio ports"

mount -t virtiofs -o ro host /host || lost "no virtiofs"
mount -t tmpfs -o size=60% layer /layer
mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work overlay /system || lost "no overlay"

for place in proc sys dev; do mount -o bind /$place /system/$place; done
cd /system
mkdir -p dev/pts dev/shm lib/modules
mount -t devpts none dev/pts
for place in dev/shm run; do mount -t tmpfs none $place; done
mkdir -p run/lock
chmod 1777 dev/shm run/lock
ln -sf /proc/self/fd dev/fd
for number in 0:stdin 1:stdout 2:stderr; do ln -sf "/proc/self/fd/${number%%:*}" "dev/${number##*:}"; done
mount -t tracefs none sys/kernel/tracing
mount -t debugfs none sys/kernel/debug
mount -t securityfs none sys/kernel/security
mount -t bpf none sys/fs/bpf
mount -t cgroup2 none sys/fs/cgroup
ifconfig lo 127.0.0.1 up
hostname guest
# What xtask passes on the kernel's command line: where the modules and the command lie, on the host.
for word in $(cat /proc/cmdline); do
    case $word in
    spantap.modules=*) mount -o bind "/host${word#*=}" lib/modules ;;
    spantap.command=*) command=${word#*=} ;;
    esac
done

# The command gets plain pipes: a port can't be opened twice, and programs do reopen /dev/stdout.
mkfifo /pipe-out /pipe-err
cat /pipe-out >/stdout & out=$!
cat /pipe-err >/stderr & err=$!
echo "guest: up" >/dev/console
chroot /system /bin/bash "$command" </dev/null >/pipe-out 2>/pipe-err
code=$?
# Whatever it left running may hold the pipes open; what it has written is through in a moment.
for turn in 1 2 3 4 5 6 7 8 9 10; do
    kill -0 $out 2>/dev/null || kill -0 $err 2>/dev/null || break
    usleep 20000
done
echo $code >/status
usleep 50000
reboot -f
