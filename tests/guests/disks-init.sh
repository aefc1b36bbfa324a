# Runs inside the guest: writes a mark to each disk and reads it back past the page cache.
fail () { echo "DISKS FAILED: $*"; sync; poweroff -f; }

for disk in /dev/vd?; do
  size=$(cat "/sys/block/${disk#/dev/}/size") serial=$(cat "/sys/block/${disk#/dev/}/serial")
  echo "DISK ${disk#/dev/} $size sectors, serial '$serial', write cache $(cat "/sys/block/${disk#/dev/}/queue/write_cache")"
  echo "mark of $serial" | dd of="$disk" bs=4096 seek=3 conv=sync,fsync 2>/dev/null || fail "write $disk"
  echo 3 > /proc/sys/vm/drop_caches
  [ "$(dd if="$disk" bs=4096 skip=3 count=1 2>/dev/null | head -n 1)" = "mark of $serial" ] || fail "read $disk"
done
echo "DISKS PASSED IN THE GUEST"
