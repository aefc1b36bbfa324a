#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Fetches Debian's riscv64 kernel and static busybox, unpacks them, and prints the folder that holds them.
#
#   fetch.sh [DIR]        DIR defaults to ${XDG_CACHE_HOME:-~/.cache}/tenon
#
# The packages come from this machine's own Debian mirror: the URIs and the key ring are taken from its
# apt sources, only suite and architecture differ.  All of apt's state lives below DIR, so the system's
# package lists and its list of architectures stay as they are.  Results in DIR/riscv64:
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

for tool in apt-get dpkg-deb awk; do
  command -v $tool >/dev/null || unavailable "$tool is missing: this needs a Debian system"
done

# The archive that holds this system's main suites: the first Debian source without "-security".
archive_uri () {
  for f in /etc/apt/sources.list.d/*.sources; do
    [ -f "$f" ] || continue
    awk 'tolower ($1) == "uris:" && $2 !~ /security/ && $2 ~ /debian/ { print $2; exit }' "$f"
  done
  for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -f "$f" ] || continue
    sed -e 's/\[[^]]*\]//' "$f" | awk '$1 == "deb" && $2 !~ /security/ && $2 ~ /debian/ { print $2; exit }'
  done
}

uri=$(archive_uri | head -n 1)
[ -n "$uri" ] || unavailable "no Debian archive among this machine's apt sources"
keyring=
for k in /usr/share/keyrings/debian-archive-keyring.gpg /usr/share/keyrings/debian-archive-keyring.pgp; do
  [ -f "$k" ] && keyring=$k
done
[ -n "$keyring" ] || unavailable "no Debian key ring: install debian-archive-keyring"

apt_dir=$dir/apt
mkdir -p "$apt_dir/lists/partial" "$apt_dir/cache/archives/partial" "$apt_dir/etc" "$out/debs"
: > "$apt_dir/status"
printf 'deb [arch=%s signed-by=%s] %s %s main\n' "$arch" "$keyring" "$uri" "$suite" > "$apt_dir/etc/sources.list"
cat > "$apt_dir/etc/apt.conf" <<CONF
Dir::Etc::SourceList "$apt_dir/etc/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State "$apt_dir";
Dir::State::Lists "$apt_dir/lists";
Dir::State::Status "$apt_dir/status";
Dir::Cache "$apt_dir/cache";
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
CONF
# Our settings come last, so that they win over the machine's (whose proxy settings stay in force).
apt () { APT_CONFIG=$apt_dir/etc/apt.conf command "$@"; }

say "reading the package lists of $suite/$arch"
apt apt-get -q update >"$apt_dir/update.log" 2>&1 || unavailable "apt-get update failed: see $apt_dir/update.log"

kernel=$(apt apt-cache depends linux-image-$arch 2>/dev/null \
           | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2; exit }')
[ -n "$kernel" ] || unavailable "$suite has no linux-image-$arch"

say "downloading $kernel and busybox-static"
rm -f "$out"/debs/*.deb
(cd "$out/debs" && apt apt-get -q download "$kernel" busybox-static) >"$apt_dir/download.log" 2>&1 \
  || unavailable "apt-get download failed: see $apt_dir/download.log"

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
rm -rf "$out/debs" "$apt_dir/lists"
printf '%s\n' "$version" > "$out/VERSION"
: > "$out/.complete"
printf '%s\n' "$out"
