#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Fetches Debian's riscv64 kernel and static busybox, unpacks them, and prints the folder that holds them.
#
#   fetch.sh [DIR]        DIR defaults to ${XDG_CACHE_HOME:-~/.cache}/tenon
#
# Results in DIR/riscv64:
#   Image            the kernel
#   root/            the unpacked packages (root/bin/busybox, root/usr/lib/modules/VERSION)
#   VERSION          kernel release
# Exit status: 0 done or already there, 77 no way to fetch (the reason is printed), 1 anything else.
set -eu

suite=${TENON_GUEST_SUITE:-trixie}
arch=riscv64
dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/tenon}
out=$dir/$arch

say () { printf '%s\n' "fetch.sh: $*" >&2; }
unavailable () { say "$*"; exit 77; }

if [ -f "$out/.complete" ]; then
  printf '%s\n' "$out"
  exit 0
fi

. "$(dirname "$0")/../common/debian.sh"

mkdir -p "$out/debs"
say "reading the package lists of $suite/$arch"
debian_setup "$dir" $arch "$suite"

kernel=$(apt-cache depends linux-image-$arch 2>/dev/null \
           | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
[ -n "$kernel" ] || unavailable "$suite has no linux-image-$arch"

say "downloading $kernel and busybox-static"
rm -f "$out"/debs/*.deb
(cd "$out/debs" && apt-get -q download "$kernel" busybox-static) >"$dir/apt/download.log" 2>&1 \
  || unavailable "apt-get download failed: see $dir/apt/download.log"

rm -rf "$out/root"
mkdir -p "$out/root"
for deb in "$out"/debs/*.deb; do
  dpkg-deb -x "$deb" "$out/root"
done

version=${kernel#linux-image-}
image=
for f in "$out/root/boot/vmlinux-$version" "$out/root/boot/vmlinuz-$version"; do
  [ -f "$f" ] && image=$f
done
[ -n "$image" ] || { say "the package $kernel holds no kernel"; exit 1; }
mv "$image" "$out/Image"
rm -rf "$out/debs" "$dir/apt/lists"
printf '%s\n' "$version" > "$out/VERSION"
: > "$out/.complete"
printf '%s\n' "$out"
