#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# convert on a file system that lets files share what they store: the same bytes, and no room for a second copy.
. "$(dirname "$0")/img-common.sh"

has_qcow2 || skip_all 'there is no qcow2 plugin'
[ -n "$qemu" ] || skip_all 'qemu-img is not installed'
[ "$(id -u)" = 0 ] || skip_all 'mounting a file system takes root'
command -v mkfs.btrfs > /dev/null || skip_all 'btrfs-progs is not installed'
truncate -s 400M fs
mkfs.btrfs -q fs > mkfs.out 2>&1 || skip_all "mkfs.btrfs: $(cat mkfs.out)"
mkdir m
mount -o loop fs m 2> mount.err || skip_all "no loop mount here: $(cat mount.err)"
trap 'cd /; umount "$scratch/m"; rm -rf "$scratch"' EXIT

python3 - <<'PY'
import random
random.seed(9)
with open('m/s.raw', 'wb') as disk:
    disk.truncate((96 << 20) + 512)
    for at in range(0, 96 << 20, 4 << 20):
        disk.seek(at + (random.randrange(4) << 19))
        disk.write(random.randbytes(random.randrange(1, 40) << 16))
    disk.seek(96 << 20)
    disk.write(b'tail' * 128)
PY
"$qemu" convert -O qcow2 m/s.raw m/s.qcow2
sync

# MiB in use
used () {
  sync
  df -m m | awk 'END { print $3 }'
}

# shares NAME LIMIT CONVERT-ARGUMENT…: the result holds the same and takes less than LIMIT MiB more
shares () {
  what=$1 limit=$2
  shift 2
  before=$(used)
  check "$what" "$img" convert "$@" m/out
  check "$what: the same" "$qemu" compare m/s.raw m/out
  grown=$(($(used) - before))
  echo "$grown MiB more" > diff.out
  [ "$grown" -lt "$limit" ]
  verdict $? "$what: takes less than $limit MiB"
  rm -f m/out
}

# A unit of the target shares where it lies in one piece in the source: those of vdi and parallels are larger than
# clusters of qcow2, those of vhdx than the runs of data here.
for to in raw qcow2 qed vdi parallels vmdk; do
  shares "raw to $to" 8 -f raw -O $to m/s.raw
done
for to in raw qcow2 qed vmdk; do
  shares "qcow2 to $to" 8 -f qcow2 -O $to m/s.qcow2
done
for to in vdi parallels vhdx; do
  shares "qcow2 to $to, as far as it can" 120 -f qcow2 -O $to m/s.qcow2
done
shares "raw to vhdx, as far as it can" 120 -f raw -O vhdx m/s.raw
"$img" convert -O qcow2 m/s.raw m/checked.qcow2
check 'qemu-img check of what shares' "$qemu" check m/checked.qcow2
rm m/checked.qcow2

# What it must not do: change the source through the target, or share where it was told not to.
"$img" convert -O raw m/s.raw m/out
sum=$(sha256sum < m/s.raw)
"$(dirname "$img")/tenon-io" -f raw -c 'write -P 9 0 8M' m/out > /dev/null
check 'a write to the target leaves the source' test "$sum" = "$(sha256sum < m/s.raw)"
rm m/out
before=$(used)
"$img" convert --no-reflink -O raw m/s.raw m/out
echo "$(($(used) - before)) MiB more" > diff.out
[ "$(($(used) - before))" -gt 10 ]
verdict $? '--no-reflink copies'
finish
