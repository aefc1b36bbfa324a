#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Fetches a newer QEMU than this system's from Debian, with all the libraries that it needs, to measure against.
#
#   fetch-qemu.sh [DIR]     DIR defaults to ${XDG_CACHE_HOME:-~/.cache}/tenon
#
# Prints the folder that holds qemu-img, qemu-io, qemu-nbd and qemu-system-riscv64: small programs that start the fetched ones
# with their own loader and libraries.  Exit status 77: no way to fetch.
set -eu

suite=${TENON_QEMU_SUITE:-trixie}
dir=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/tenon}/qemu-$suite

say () { printf '%s\n' "fetch-qemu.sh: $*" >&2; }
unavailable () { say "$*"; exit 77; }

if [ -f "$dir/.complete-2" ] && [ -f "$dir/bin/qemu-nbd" ]; then
  printf '%s\n' "$dir/bin"
  exit 0
fi
. "$(dirname "$0")/../common/debian.sh"
mkdir -p "$dir"
say "reading the package lists of $suite"
debian_setup "$dir" "$(dpkg --print-architecture)" "$suite"
say "downloading qemu-utils, qemu-system-riscv and block drivers with what they need"
drivers=$(apt-cache search --names-only '^qemu-block-(extra|supplemental)$' | awk '{ print $1 }')
# shellcheck disable=SC2086
apt-get -q -y --no-install-recommends --download-only install qemu-utils qemu-system-riscv $drivers >"$dir/apt/download.log" 2>&1 \
  || unavailable "apt-get could not download them: see $dir/apt/download.log"

rm -rf "$dir/root" "$dir/bin"
mkdir -p "$dir/root/usr/lib" "$dir/root/usr/bin" "$dir/root/usr/lib64" "$dir/bin"
for l in lib bin lib64; do ln -s usr/$l "$dir/root/$l"; done
for deb in "$dir"/apt/cache/archives/*.deb; do
  dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$dir/root" ./usr ./lib ./lib64 2>/dev/null || true
done
loader=$(find "$dir/root/usr/lib64" "$dir/root/usr/lib" -name 'ld-linux*.so.*' | head -n 1)
libraries=$(dirname "$(find "$dir/root/usr/lib" -name 'libc.so.6' | head -n 1)")
[ -n "$loader" ] && [ -x "$dir/root/usr/bin/qemu-img" ] || { say "the packages hold no loader or no qemu-img"; exit 1; }
for tool in qemu-img qemu-io qemu-nbd qemu-system-riscv64; do
  printf '#!/bin/sh\nQEMU_MODULE_DIR="%s" exec "%s" --library-path "%s" "%s" "$@"\n' "$libraries/qemu" "$loader" "$libraries" "$dir/root/usr/bin/$tool" > "$dir/bin/$tool"
  chmod 755 "$dir/bin/$tool"
done
"$dir/bin/qemu-img" --version >/dev/null || { say "the fetched qemu-img does not run"; exit 1; }
rm -rf "$dir/apt/cache" "$dir/apt/lists"
: > "$dir/.complete-2"
printf '%s\n' "$dir/bin"
