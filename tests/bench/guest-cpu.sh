# Inside the guest: work for one processor, timed by the guest's own clock.
measure () {
  name=$1
  shift
  start=$(cut -d ' ' -f 1 /proc/uptime)
  "$@" >/dev/null
  end=$(cut -d ' ' -f 1 /proc/uptime)
  echo "BENCH $name $(awk "BEGIN { print $end - $start }")"
}
forks () { i=0; while [ $i -lt 100 ]; do /bin/busybox true; i=$((i + 1)); done; }
shell () { i=0; while [ $i -lt 40000 ]; do i=$((i + 1)); done; }
float () { awk 'BEGIN { x = 0; for (i = 1; i < 200000; i++) x += sin (i) / sqrt (i); print x }'; }
head -c 2097152 /dev/urandom > /tmp/random
measure sha256sum-16M sh -c 'head -c 16777216 /dev/zero | sha256sum'
measure md5sum-16M sh -c 'head -c 16777216 /dev/zero | md5sum'
measure gzip-2M gzip -9 -k /tmp/random
measure fork-exec-100 forks
measure shell-40000 shell
measure awk-float-200000 float
measure disk-read-64M dd if=/dev/vda of=/dev/null bs=1M count=64
