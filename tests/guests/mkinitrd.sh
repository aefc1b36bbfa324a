#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Makes an initramfs of static busybox, the modules that a guest needs, and a given init script.
#
#   mkinitrd.sh OUTPUT INIT [MODULE…]
#
# INIT is a shell script run as /init after /proc, /sys and /dev are mounted and the modules are loaded;
# when it ends, the guest powers off.  MODULEs default to virtio_mmio virtio_blk ext4 (with what they need).
# One with a question mark is left out where the kernel has none of that name.
# The guest files come from fetch.sh; TENON_GUEST_DIR names them when they are elsewhere.
set -eu

[ $# -ge 2 ] || { echo "usage: mkinitrd.sh OUTPUT INIT [MODULE...]" >&2; exit 1; }
here=$(cd "$(dirname "$0")" && pwd)
output=$1 init=$2
shift 2
[ $# -gt 0 ] || set -- virtio_mmio virtio_blk ext4 'crc32c_generic?'  # ext4 of older kernels asks for crc32c by a name of its own.
[ -r "$init" ] || { echo "mkinitrd.sh: cannot read $init" >&2; exit 1; }
command -v cpio >/dev/null || { echo "mkinitrd.sh: cpio is missing: install the package cpio" >&2; exit 77; }
command -v xz >/dev/null || { echo "mkinitrd.sh: xz is missing: install the package xz-utils" >&2; exit 77; }

guest=${TENON_GUEST_DIR:-}
[ -n "$guest" ] || guest=$("$here/fetch.sh") || exit $?
version=$(cat "$guest/VERSION")
modules=$guest/root/usr/lib/modules/$version
[ -d "$modules" ] || modules=$guest/root/lib/modules/$version
busybox=$guest/root/usr/bin/busybox
[ -f "$busybox" ] || busybox=$guest/root/bin/busybox

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root/bin" "$root/dev" "$root/proc" "$root/sys" "$root/mnt" "$root/tmp" "$root/lib/modules"
cp "$busybox" "$root/bin/busybox"
: > "$work/order"

# Adds module $1 after everything that it depends on.  A module's own "depends" field is the source, so no
# depmod is needed.
add_module () {
  optional=
  case $1 in *'?') optional=yes && set -- "${1%'?'}" ;; esac
  case $(cat "$work/order") in *"<$1>"*) return 0 ;; esac
  file=$(find "$modules" -name "$1.ko*" -o -name "$(printf %s "$1" | tr _ -).ko*" | head -n 1)
  if [ -z "$file" ]; then
    grep -qE "/($1|$(printf %s "$1" | tr _ -))\.ko" "$modules/modules.builtin" && return 0
    [ -z "$optional" ] || return 0
    echo "mkinitrd.sh: the kernel $version has no module $1" >&2
    exit 1
  fi
  case $file in
    *.xz) xz -dc "$file" > "$root/lib/modules/$1.ko" ;;
    *) cp "$file" "$root/lib/modules/$1.ko" ;;
  esac
  for d in $(tr '\0' '\n' < "$root/lib/modules/$1.ko" | sed -n 's/^depends=//p' | tr ',' ' '); do
    add_module "$d"
  done
  # A recursive call has changed $1's shadows only; positional parameters are per call.
  echo "<$1>" >> "$work/order"
}
for m in "$@"; do
  add_module "$m"
done
sed 's/[<>]//g' "$work/order" > "$root/lib/modules/order"

cat > "$root/init" <<'INIT'
#!/bin/busybox sh
export PATH=/bin
/bin/busybox mkdir -p /bin /proc /sys /dev
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
while read -r module; do
  insmod /lib/modules/$module.ko || echo "init: module $module failed"
done < /lib/modules/order
sh /init.sh
sync
poweroff -f
INIT
chmod 755 "$root/init"
cp "$init" "$root/init.sh"
(cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) > "$output.tmp"
mv "$output.tmp" "$output"
