#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# The ways in which users give disks to `tenon`: -drive with and without snapshot=on, -blockdev as JSON and as keys
# with -device, a node used by name, the global -snapshot's counterpart per drive; what each leaves in its file.
set -uo pipefail
src=${TN_SRC_DIR:?} build=${TN_BUILD_DIR:?}
PATH=$build/bin:$PATH

guest=$("$src/tests/guests/fetch.sh" 2>&1) || { echo "1..0 # SKIP the guest's packages can't be fetched: ${guest##*$'\n'}"; exit 0; }
work=$(mktemp -d -p "${TMPDIR:-/var/tmp}")
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1

n=0
result () { # STATUS NAME
  n=$((n + 1))
  if [ "$1" = 0 ]; then echo "ok $n - $2"; else echo "not ok $n - $2"; tail -n 20 console | sed 's/^/# /'; fi
}
mark () { # FILE FORMAT: the mark that the guest left there, as text
  tenon-io -f "$2" -r -c 'read -v 12288 32' "$1" | sed -n 's/.*  \(mark.of.[a-z]*\).*/\1/p'
}

echo 1..9
for name in plain kept json keys; do tenon-img create -q -f qcow2 $name.qcow2 $((16 + n))M; done
truncate -s 20M raw.img
kept=$(sha256sum < kept.qcow2)
TENON_GUEST_DIR=$guest "$src/tests/guests/mkinitrd.sh" initrd "$src/tests/guests/disks-init.sh"
tenon -M virt-rv64 -m 256M -kernel "$guest/Image" -initrd initrd -append "console=ttyS0 quiet" -nographic \
  -drive file=plain.qcow2,if=none,id=p,format=qcow2,cache=writethrough -device virtio-blk-device,drive=p,serial=plain \
  -drive file=kept.qcow2,if=none,id=s,format=qcow2,snapshot=on -device virtio-blk-device,drive=s,serial=kept \
  -blockdev '{"driver": "qcow2", "node-name": "j", "file": {"driver": "file", "filename": "json.qcow2"}}' \
  -device virtio-blk-device,drive=j,serial=json \
  -blockdev driver=file,filename=keys.qcow2,node-name=f -blockdev driver=qcow2,file=f,node-name=k \
  -device virtio-blk-device,drive=k,serial=keys \
  -blockdev driver=raw,node-name=r,file.driver=file,file.filename=raw.img,file.aio=threads \
  -device virtio-blk-device,drive=r,serial=raw \
  </dev/null >console 2>&1
result $? "the machine starts, and ends when the guest powers off"
grep -q 'DISKS PASSED IN THE GUEST' console
result $? "the guest read back what it wrote"
[ "$(grep -c '^DISK vd' console)" = 5 ]
result $? "it saw five disks"
grep -q "serial 'plain', write cache write through" console && grep -q "serial 'json', write cache write back" console
result $? "cache=writethrough shows no write cache, the default does"
[ "$(mark plain.qcow2 qcow2)" = "mark.of.plain" ]
result $? "-drive: the file has changed"
[ "$(sha256sum < kept.qcow2)" = "$kept" ]
result $? "snapshot=on: the file has not"
[ "$(mark json.qcow2 qcow2)" = "mark.of.json" ] && [ "$(mark keys.qcow2 qcow2)" = "mark.of.keys" ]
result $? "-blockdev as JSON and as keys"
[ "$(mark raw.img raw)" = "mark.of.raw" ]
result $? "-blockdev driver=raw with an engine chosen for its file"
status=0
for image in plain json keys; do tenon-img check -q $image.qcow2 || status=1; done
result $status "the images are clean"
