#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# demo.sh BINDIR: boots Debian's riscv64 kernel from a qcow2 overlay on virtio-blk, lets it write to ext4, and checks the
# image afterwards.  Exit status 77: the guest's packages can't be fetched here.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=${1:?usage: demo.sh BINDIR}
PATH=$bin:$PATH:/usr/sbin:/sbin

say () { printf '\n== %s\n' "$*"; }

guest=$("$here/fetch.sh") || exit $?
work=$(mktemp -d -p "${TMPDIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT

say "making a base image with a file on ext4, and an overlay on it"
mkdir "$work/files"
head -c 4194304 /dev/urandom > "$work/files/came"
(cd "$work/files" && sha256sum came > came.sha256)
truncate -s 128M "$work/base.raw"
mkfs.ext4 -q -F -d "$work/files" "$work/base.raw"
tenon-img convert -f raw -O qcow2 -c "$work/base.raw" "$work/base.qcow2"
tenon-img create -q -f qcow2 -b base.qcow2 -F qcow2 "$work/disk.qcow2"
tenon-img info --backing-chain "$work/disk.qcow2"
before=$(sha256sum < "$work/base.qcow2")

say "booting Linux $(cat "$guest/VERSION")"
TENON_GUEST_DIR=$guest "$here/mkinitrd.sh" "$work/initrd" "$here/demo-init.sh"
tenon -M virt-rv64 -m 256M -smp 2 -kernel "$guest/Image" -initrd "$work/initrd" -append "console=ttyS0 quiet" \
  -drive "file=$work/disk.qcow2,format=qcow2,if=virtio,cache=none,aio=io_uring" -nographic </dev/null | tee "$work/console"
grep -q 'DEMO PASSED IN THE GUEST' "$work/console" || { say "the guest did not finish"; exit 1; }

say "checking the disk from outside"
tenon-img check "$work/disk.qcow2"
[ "$(sha256sum < "$work/base.qcow2")" = "$before" ] || { say "the backing file has changed"; exit 1; }
tenon-img convert -O raw "$work/disk.qcow2" "$work/disk.raw"
e2fsck -fn "$work/disk.raw"
if command -v qemu-img >/dev/null; then
  qemu-img check "$work/disk.qcow2"
  qemu-img compare -f qcow2 -F raw "$work/disk.qcow2" "$work/disk.raw"
fi
say "the demo has passed"
