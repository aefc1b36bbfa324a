#!/bin/bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# make-seeds.sh BUILD [FORMAT…]: makes the seeds of image formats (corpus/FORMAT/seed-*) anew with the tools in BUILD/bin
# and, for what only QEMU writes, qemu-img; those of formats that are only read by make-seeds.py.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$(cd "${1:?usage: make-seeds.sh BUILD [FORMAT...]}" && pwd)
shift
img=$build/bin/tenon-img io=$build/bin/tenon-io
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# The contents of every seed: a little text, a run of one byte, zeroes, and something that cannot be compressed.
make_contents () {
  printf 'tenon %.0s' {1..200} >contents
  head -c 2000 /dev/zero | tr '\0' '\125' >>contents
  head -c 8192 /dev/zero >>contents
  seq 1 200 | sha256sum | head -c 64 >>contents
  truncate -s 65536 contents
}

# keep FORMAT LABEL FILE
keep () {
  mkdir -p "$here/corpus/$1"
  cp "$3" "$here/corpus/$1/seed-$2"
}

# one FORMAT LABEL SIZE OPTIONS [TENON-IO COMMAND…]: an image made by create and written to.
one () {
  local format=$1 label=$2 size=$3 options=$4 command args=()
  shift 4
  rm -f fuzz
  "$img" create -q -f "$format" ${options:+-o "$options"} fuzz "$size"
  for command in "$@"; do
    args+=(-c "$command")
  done
  [ $# = 0 ] || "$io" -f "$format" "${args[@]}" fuzz >/dev/null
  keep "$format" "$label" fuzz
}

# packed FORMAT LABEL OPTIONS: the contents, compressed.
packed () {
  "$img" convert -c -f raw -O "$1" ${3:+-o "$3"} contents fuzz
  keep "$1" "$2" fuzz
}

seeds_qcow2 () {
  local small=cluster_size=512
  one qcow2 v2 64k "$small,compat=0.10" 'write -P 1 0 1k' 'write -P 2 60k 512' 'discard 0 512'
  one qcow2 v3 64k "$small" 'write -P 1 0 1k' 'write -z 2k 1k' 'write -P 2 60k 512' 'discard 0 512'
  one qcow2 empty 1M "$small"
  one qcow2 huge 1G cluster_size=4k
  one qcow2 clusters-4k 256k cluster_size=4k 'write -P 1 0 4k'
  one qcow2 refcount-1 64k "$small,refcount_bits=1" 'write -P 1 0 3k'
  one qcow2 refcount-64 64k "$small,refcount_bits=64" 'write -P 1 0 3k'
  one qcow2 lazy 64k "$small,lazy_refcounts=on" 'write -P 1 0 3k'
  one qcow2 extended 256k cluster_size=16k,extended_l2=on 'write -P 1 512 512' 'write -z 8k 1k'
  one qcow2 metadata 8k "$small,preallocation=metadata"
  one qcow2 backing 64k "$small,backing_file=fuzz.data,backing_fmt=raw" 'write -P 1 1k 1k'
  one qcow2 data-file 64k "$small,data_file=fuzz.data" 'write -P 1 1k 1k'
  one qcow2 data-file-raw 64k "$small,data_file=fuzz.data,data_file_raw=on" 'write -P 1 1k 1k'
  packed qcow2 deflate "$small"
  packed qcow2 zstd cluster_size=4k,compression_type=zstd
  # Snapshots and dirty bitmaps are QEMU's alone to write.
  qemu-img create -q -f qcow2 -o "$small" fuzz 64k
  qemu-io -f qcow2 -c 'write -P 1 0 2k' fuzz >/dev/null
  qemu-img snapshot -c first fuzz
  qemu-io -f qcow2 -c 'write -P 2 1k 2k' fuzz >/dev/null
  keep qcow2 snapshot fuzz
  qemu-img create -q -f qcow2 -o "$small" fuzz 64k
  qemu-img bitmap --add -g 512 fuzz changed
  qemu-io -f qcow2 -c 'write -P 1 0 2k' fuzz >/dev/null
  keep qcow2 bitmap fuzz
}

seeds_qed () {
  one qed small 1M cluster_size=4k,table_size=2 'write -P 1 0 4k' 'write -z 8k 4k'
  one qed empty 1G cluster_size=4k,table_size=4
}

seeds_vdi () {
  one vdi dynamic 64k block_size=1k 'write -P 1 0 1k'
  one vdi static 32k block_size=4k,static=on 'write -P 1 1k 512'
}

seeds_qcow () {
  one qcow small 1M '' 'write -P 1 0 4k' 'write -P 2 12k 512'
  one qcow backing 64k backing_file=fuzz.data,backing_fmt=raw 'write -P 1 1k 1k'
  one qcow empty 16M ''
  packed qcow deflate ''
}

seeds_parallels () {
  one parallels small 64k cluster_size=512 'write -P 1 0 1k' 'write -P 2 8k 512'
  one parallels clusters-4k 1M cluster_size=4k 'write -P 1 0 4k' 'write -P 2 64k 8k'
  one parallels empty 2M cluster_size=4k
  # An image of a Parallels of old, with clusters of 3 sectors, and the mark of one that was not closed.
  printf 'WithoutFreeSpace\2\0\0\0\20\0\0\0\1\0\0\0\3\0\0\0\4\0\0\0\14\0\0\0\0\0\0\0Ynot' >fuzz
  printf '\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0' >>fuzz
  truncate -s 3584 fuzz
  keep parallels old fuzz
}

seeds_cso () {
  packed cso v1 version=1
  packed cso v2 version=2,block_size=4k
  one cso unfinished 4k block_size=512
}

seeds_zso () {
  packed zso plain block_size=2k
}

seeds_lz4 () {
  packed lz4 whole block_size=64k
  "$img" create -q -f lz4 fuzz 200k
  keep lz4 new fuzz
  lz4 -q -f -B4 --content-size contents fuzz
  keep lz4 without-table fuzz
}

seeds_vpc () {
  one vpc dynamic 64k block_size=4k 'write -P 1 0 1k'
  one vpc fixed 8k subformat=fixed
}

make_contents
truncate -s 64k fuzz.data
[ $# != 0 ] || { "$here/make-seeds.py" "$here/corpus"; "$here/make-seeds-nbd.py" "$here/corpus"; "$here/make-seeds-vhost-user.py" "$here/corpus"; set -- $(declare -F | sed -n "s/^declare -f seeds_//p"); }
for format in "$@"; do
  "seeds_$format"
done
