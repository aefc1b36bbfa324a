#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# tenon-img on raw images: every command, next to qemu-img where there is one.
. "${TN_SRC_DIR:?}/tests/e2e/img-common.sh"

holey () { # FILE: 10 MiB with data at 1 MiB and at the end
  rm -f "$1"
  truncate -s 10M "$1"
  printf 'beginning' | dd of="$1" bs=1M seek=1 conv=notrunc status=none
  printf 'end' | dd of="$1" bs=1 seek=10485757 conv=notrunc status=none
}
holey a.raw
head -c 3000000 /dev/urandom > r.raw
truncate -s 3000320 r.raw

# ---- create
check "create makes an empty file" "$img" create -q new.raw 10M
check "it has the size" test "$(stat -c %s new.raw)" = 10485760
check "sizes are rounded up to sectors" sh -c "'$img' create -q -f raw odd.raw 1023 && test \$(stat -c %s odd.raw) = 1024"
check "falloc allocates" sh -c "'$img' create -q -o preallocation=falloc pre.raw 1M && test \$(stat -c %b pre.raw) -ge 2048"
check "the size may be an option" sh -c "'$img' create -q -o size=64k opt.raw && test \$(stat -c %s opt.raw) = 65536"
"$img" create -o help > help.out
check "-o help lists options" grep -q '  preallocation=<str>' help.out
"$img" create plain.raw 1M > out.txt
check "create says what it does" grep -q "^Formatting 'plain.raw', fmt=raw size=1048576" out.txt

# ---- convert, dd, resize
for options in "" "-m 1" "-m 16" "-W" "-S 0" "-S 64k" "-C" "-t none" "-t writethrough" "-t unsafe" "-T none" "-r 100M" "-p" "--salvage"; do
  rm -f o.raw
  # shellcheck disable=SC2086
  check "convert $options keeps the contents" sh -c "'$img' convert $options a.raw o.raw && cmp a.raw o.raw"
done
check "convert of random data" sh -c "'$img' convert r.raw o.raw && cmp r.raw o.raw"
"$img" convert a.raw o.raw
check "holes stay holes" test "$(stat -c %b o.raw)" -le 64
"$img" convert -S 0 a.raw full.raw
check "-S 0 allocates everything" test "$(stat -c %b full.raw)" -ge 20480
"$img" convert full.raw o.raw
check "zeroes in data become holes" test "$(stat -c %b o.raw)" -le 64
cat a.raw r.raw a.raw > cat.raw
check "several sources go one behind the other" sh -c "'$img' convert a.raw r.raw a.raw o.raw && cmp cat.raw o.raw"
"$img" convert -p a.raw o.raw > out.txt
check "-p prints percentages" sh -c "tr '\r' '\n' < out.txt | grep -qx '    (100.00/100%)'"
check "-n fills an existing target" sh -c "tr '\0' x < a.raw > used.raw; '$img' convert -n a.raw used.raw && cmp a.raw used.raw"
check "-n --target-is-zero" sh -c "truncate -s 0 z.raw; truncate -s 10M z.raw; '$img' convert -n --target-is-zero a.raw z.raw && cmp a.raw z.raw"
check "image options on both sides" sh -c "truncate -s 0 z.raw; truncate -s 10M z.raw; '$img' convert -n --image-opts --target-image-opts driver=raw,file.filename=a.raw driver=raw,file.driver=file,file.filename=z.raw && cmp a.raw z.raw"
check "--object secret is accepted" "$img" convert --object secret,id=s,data=x a.raw o.raw
check "dd copies a part" sh -c "'$img' dd if=a.raw of=d.raw bs=1M skip=1 count=3 && head -c 3M a.raw | tail -c 2M | cmp - d.raw"
check "dd to the end" sh -c "'$img' dd if=a.raw of=d.raw bs=1M skip=9 && tail -c 1M a.raw | cmp - d.raw"
check "dd -n writes into an existing file" sh -c "cp r.raw d.raw; '$img' dd -n if=a.raw of=d.raw bs=1M count=2 && head -c 2M a.raw | cmp -n 2097152 - d.raw && test \$(stat -c %s d.raw) = 3000320"
cp new.raw size.raw
check "resize grows" sh -c "'$img' resize -f raw size.raw +5M && test \$(stat -c %s size.raw) = 15728640"
check "resize --shrink" sh -c "'$img' resize -q -f raw --shrink size.raw -6M && test \$(stat -c %s size.raw) = 9437184"
check "resize --preallocation" sh -c "'$img' resize -f raw --preallocation=falloc size.raw 12M && test \$(stat -c %b size.raw) -ge 6144"

# ---- bench
"$img" bench -c 100 -d 8 -s 8k -S 16k -o 64k a.raw > out.txt
check "bench says what it sends" grep -qx 'Sending 100 read requests, 8192 bytes each, 8 in parallel (starting at offset 65536, step size 16384)' out.txt
check "and how long it took" grep -qx 'Run completed in [0-9.]* seconds\.' out.txt
cp new.raw b.raw
check "bench -w writes the pattern" sh -c "'$img' bench -w -c 16 -d 4 --pattern=65 --flush-interval=4 -f raw b.raw && test \$(head -c 65536 b.raw | tr -d A | wc -c) = 0 && test \$(tail -c +65537 b.raw | head -c 4096 | tr -d '\0' | wc -c) = 0"
check "bench --no-drain" "$img" bench -w -c 64 -d 4 --no-drain --flush-interval=8 -f raw b.raw
for engine in threads io_uring; do
  check "bench -i $engine" "$img" bench -c 100 -i $engine -t none a.raw
done

# ---- next to qemu-img
if [ -n "$qemu" ]; then
  same "info" info a.raw
  same_json "info, JSON" info --output=json a.raw
  same "info -f raw" info -f raw r.raw
  same "info of image options" info --image-opts driver=raw,file.filename=a.raw
  same "info of a json: name" info 'json:{"driver":"raw","file":{"driver":"file","filename":"a.raw"}}'
  same "map" map a.raw
  same "map, JSON" map --output=json a.raw
  same "map of a part" map --output=json --start-offset=512k --max-length=1M a.raw
  same "map behind the end" map --output=json --start-offset=100M a.raw
  same "check has nothing to do" check -f raw a.raw
  same "measure of a size" measure --size 1G
  same "measure of an image" measure -O raw a.raw
  same_json "measure, JSON" measure --output=json -O raw a.raw
  cp a.raw same.raw
  same "compare: equal" compare a.raw same.raw
  same "compare -s: equal" compare -s a.raw same.raw
  same "compare: allocated zeroes are equal" compare a.raw full.raw
  same "compare -s: but not strictly" compare -s a.raw full.raw
  same "compare: different" compare a.raw new.raw
  same "compare -q" compare -q a.raw new.raw
  same "compare: sizes" compare new.raw plain.raw
  same "compare -s: sizes" compare -s new.raw plain.raw
  same "compare: longer with data" compare plain.raw a.raw
  same "compare: second is missing" compare a.raw missing.raw
  same "compare -p" compare -p a.raw same.raw
  "$qemu" dd if=a.raw of=q.raw bs=1M skip=1 count=3
  "$img" dd if=a.raw of=d.raw bs=1M skip=1 count=3
  check "dd means the same" cmp q.raw d.raw
  same "snapshot -l of raw" snapshot -l a.raw
else
  skip "comparison with qemu-img" "qemu-img is not installed (qemu-utils)"
fi

# ---- refusals: one line, the right status, nothing changed
find . -name '*.raw' -exec sha256sum {} + | sort > before.txt
ls > before.ls
refused 1 "did you mean 'info'" inof a.raw
refused 1 "did you mean '--output'" info --outptu=json a.raw
refused 1 "unknown option '-z'" info -z a.raw
refused 1 "takes one of human, json" info --output=xml a.raw
refused 1 "needs a value" info -f
refused 1 "FILENAME" info
refused 1 "unexpected argument 'b'" info a.raw b
refused 1 "missing.raw" info missing.raw
refused 1 "nosuch" info -f nosuch a.raw
refused 1 "" info /
refused 1 "file name is needed" info ""
refused 1 "key=value" info --image-opts a.raw
refused 1 "exclude each other" info -f raw --image-opts driver=raw,file.filename=a.raw
refused 1 "is not a size" create x.raw 10Q
refused 1 "is not a size" create x.raw -- -5
refused 1 "size is needed" create x.raw
refused 1 "once" create -o size=1M x.raw 1M
refused 1 "larger than any disk" create x.raw 9E
refused 1 "foo" create -o foo=1 x.raw 1M
refused 1 "preallocation" create -o preallocation=some x.raw 1M
refused 1 "nosuch" create -f nosuch x.raw 1M
refused 1 "no backing files" create -b a.raw -F raw x.raw 1M
refused 1 "nosuch/x.raw" create nosuch/x.raw 1M
refused 1 "missing.raw" convert missing.raw x.raw
refused 1 "source and of the target" convert a.raw
refused 1 "nosuch" convert -O nosuch a.raw x.raw
refused 1 "cannot be its target" convert a.raw a.raw
refused 1 "compressed" convert -c a.raw x.raw
refused 1 "multiple of 512" convert -S 3 a.raw x.raw
refused 1 "number from 1 to 16" convert -m 99 a.raw x.raw
refused 1 "is not a size" convert -r fast a.raw x.raw
refused 1 "combined" convert -C -S 4k a.raw x.raw
refused 1 "add -n" convert --target-is-zero a.raw x.raw
refused 1 "add -n" convert --target-image-opts a.raw driver=raw,file.filename=x.raw
refused 1 "takes one of" convert -t fast a.raw x.raw
refused 1 "takes one of" convert -T fast a.raw x.raw
refused 1 "bitmaps" convert --bitmaps a.raw x.raw
refused 1 "missing.raw" convert -n a.raw missing.raw
refused 1 "smaller" convert -n a.raw plain.raw
refused 1 "nosuch/x.raw" convert a.raw nosuch/x.raw
refused 1 "needs id" convert --object secret,data=x a.raw x.raw
refused 1 "'tls-creds' is not supported" convert --object tls-creds,id=t a.raw x.raw
refused 1 "is not a size" resize -f raw new.raw big
refused 1 "--shrink" resize -f raw new.raw -5M
refused 1 "only 10485760 bytes" resize -f raw --shrink new.raw -50M
refused 1 "growing" resize -f raw --shrink --preallocation=full new.raw 1M
refused 1 "missing.raw" resize missing.raw 1M
refused 1 "size=SIZE" measure
refused 1 "size=SIZE" measure --size=1M a.raw
refused 1 "both an input and an output" dd if=a.raw
refused 1 "bs must be" dd if=a.raw of=x.raw bs=0
refused 1 "is not a size" dd if=a.raw of=x.raw bs=x
refused 1 "did you mean 'count'" dd if=a.raw of=x.raw cuont=3
refused 1 "cannot be its target" dd if=a.raw of=a.raw
refused 1 "no backing file" commit -f raw a.raw
refused 1 "-b" rebase a.raw
refused 1 "does not support changing its options" amend -o compat=0.10 a.raw
refused 1 "does not support dirty bitmaps" bitmap --add a.raw b
refused 1 "does not support internal snapshots" snapshot -c s a.raw
refused 1 "add -w" bench --flush-interval=64 a.raw
refused 1 "smaller than the depth" bench -w --flush-interval=4 a.raw
refused 1 "number from 1" bench -d 0 a.raw
refused 1 "number from 0 to 255" bench --pattern=300 a.raw
refused 1 "takes one of" bench -i fast a.raw
refused 2 "missing.raw" compare missing.raw a.raw
rm -f ours.out ours.err diff.out theirs.out theirs.err
find . -name '*.raw' -exec sha256sum {} + | sort > after.txt
check "no image has changed" cmp before.txt after.txt

# A target that cannot be completed does not stay.
if [ "$(id -u)" -ne 0 ] || [ -c /dev/full ]; then
  check "a full standard output is an error" sh -c "! '$img' info a.raw > /dev/full"
fi
check "a convert that runs out of space leaves nothing" sh -c "( ulimit -f 1000; trap '' XFSZ; ! '$img' convert r.raw lost.raw ) && ! test -e lost.raw"

check "--help" sh -c "'$img' --help | grep -q '^Supported formats:.* raw'"
for command in amend bench bitmap check commit compare convert create dd info map measure rebase resize snapshot; do
  check "$command --help" sh -c "'$img' $command --help | grep -q '^Usage: tenon-img $command'"
done
check "--version" sh -c "'$img' --version | grep -q '^tenon-img version [0-9]'"
check "the completion script is one" sh -c "'$img' --completion | bash -n"
finish
