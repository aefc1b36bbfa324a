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

suites=${TENON_GUEST_SUITE:-trixie forky}
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

# Newer suites have the kernel in packages of its own.
packages_of () {
  printf '%s\n' "$1"
  for part in base binary modules; do
    apt-cache show "linux-$part-${1#linux-image-}" >/dev/null 2>&1 && printf '%s\n' "linux-$part-${1#linux-image-}"
  done
  return 0
}

# Sets $kernel, and leaves its packages in $out/debs.
download () {
  say "reading the package lists of $1/$arch"
  debian_setup "$dir" $arch "$1"
  kernel=$(apt-cache depends linux-image-$arch 2>/dev/null \
             | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
  [ -n "$kernel" ] || unavailable "$1 has no linux-image-$arch"
  say "downloading $kernel and busybox-static"
  rm -rf "$out/debs" "$out/root"
  mkdir -p "$out/debs" "$out/root"
  (cd "$out/debs" && apt-get -q download $(packages_of "$kernel") busybox-static) >"$dir/apt/download.log" 2>&1 \
    || unavailable "apt-get download failed: see $dir/apt/download.log"
  printf '%s\n' "${kernel#linux-image-}" >"$out/debs/version"
}

# A mirror in the middle of its update has one suite whose lists do not fit together; the next one may be whole.
status=77
for suite in $suites; do
  status=0
  (download "$suite") || status=$?
  [ $status != 0 ] || break
done
[ $status = 0 ] || exit $status

for deb in "$out"/debs/*.deb; do
  dpkg-deb -x "$deb" "$out/root"
done

version=$(cat "$out/debs/version")
image=
for f in "$out/root/boot/vmlinux-$version" "$out/root/boot/vmlinuz-$version" \
  "$out/root/usr/lib/modules/$version/vmlinuz"; do
  [ -f "$f" ] && image=$f
done
[ -n "$image" ] || { say "the package linux-image-$version holds no kernel"; exit 1; }
mv "$image" "$out/Image"
rm -rf "$out/debs" "$dir/apt/lists"
printf '%s\n' "$version" > "$out/VERSION"
: > "$out/.complete"
printf '%s\n' "$out"
