# Runs inside the guest: mounts the disk, checks what came with it, writes, checks again after a remount.
fail () { echo "DEMO FAILED: $*"; sync; poweroff -f; }

echo "--- $(uname -srm), $(grep -c ^processor /proc/cpuinfo) processors"
mount -t ext4 /dev/vda /mnt || fail "mount"
echo "--- the disk came with: $(ls /mnt)"
(cd /mnt && sha256sum -c came.sha256) || fail "the file from the backing image is wrong"

head -c 8388608 /dev/urandom > /mnt/written
cp /mnt/came /mnt/copy
rm /mnt/came
(cd /mnt && sha256sum written copy > written.sha256)
sync
umount /mnt || fail "umount"
echo 3 > /proc/sys/vm/drop_caches
mount -t ext4 /dev/vda /mnt || fail "second mount"
(cd /mnt && sha256sum -c written.sha256) || fail "what was written is wrong"
umount /mnt
echo "DEMO PASSED IN THE GUEST"
