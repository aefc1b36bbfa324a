#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Images made by other programs, and hostile ones: a folder with MANIFEST.tsv that is not part of the tree.
# TENON_IMAGES names it (default: ../shared/images beside the source tree); TENON_IMAGES_FORMATS the formats to judge.
. "${TN_SRC_DIR:?}/tests/e2e/img-common.sh"
images=${TENON_IMAGES:-$TN_SRC_DIR/../shared/images}
[ -r "$images/MANIFEST.tsv" ] || skip_all "there is no image corpus (TENON_IMAGES=$images)"
has_qcow2 || skip_all "the qcow2 format has not been built"
command -v python3 > /dev/null || skip_all "python3 is not installed"

python3 - "$images" "$img" "${TENON_IMAGES_FORMATS:-raw qcow2}" <<'PY'
import bz2, hashlib, os, resource, shutil, struct, subprocess, sys, time
images, tool, formats = sys.argv[1], sys.argv[2], sys.argv[3].split()
BLOCK = 65536
# A sanitizer answers this.
sanitized = b'Sanitizer' in subprocess.run([tool, '--version'], capture_output=True, env={
    **os.environ, 'ASAN_OPTIONS': 'help=1', 'TSAN_OPTIONS': 'help=1'}).stderr

def digest(path):
    """SHA-256 over number and bytes of each block that is not all zero, then the size."""
    h, size = hashlib.sha256(), os.stat(path).st_size
    with open(path, 'rb', 0) as f:
        at = 0
        while at < size:
            try: at = os.lseek(f.fileno(), at, os.SEEK_DATA) // BLOCK * BLOCK
            except OSError: break
            end = min(os.lseek(f.fileno(), at, os.SEEK_HOLE) or size, size)
            end = max(end, at + 1)
            while at < end:
                b = os.pread(f.fileno(), min(BLOCK, size - at), at)
                if b.count(0) != len(b):
                    h.update(struct.pack('<Q', at // BLOCK)); h.update(b)
                at += BLOCK
    h.update(struct.pack('<Q', size))
    return h.hexdigest()

def unpack(source, target):
    with (bz2.open(source) if source.endswith('.bz2') else open(source, 'rb')) as i, open(target, 'wb') as o:
        n = 0
        for b in iter(lambda: i.read(1 << 20), b''):
            if b.count(0) == len(b): o.seek(len(b), 1)
            else: o.write(b)
            n += len(b)
        o.truncate(n)

def limit():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not sanitized: resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))

def run(*command):
    """Status, CPU seconds, MiB resident."""
    p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, preexec_fn=limit)
    p.stderr.read()
    _, status, usage = os.wait4(p.pid, 0)
    p.returncode = 0
    return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024

def good(e, source):
    before = {n: digest(n) for n in os.listdir('.')}
    status = run(tool, 'convert', '-f', e['format'], source, '-O', 'raw', '../out.raw')[0]
    if status: return 'status %d' % status
    if os.stat('../out.raw').st_size != int(e['virtual_size']): return 'wrong size'
    if digest('../out.raw') != e['nzsha256']: return 'wrong contents'
    return '' if {n: digest(n) for n in os.listdir('.')} == before else 'the source has changed'

def hostile(e, source):
    level = e['level']
    if level in ('info', 'checkbad'): command = (tool, 'check' if level == 'checkbad' else 'info', '-f', e['format'], source)
    else: command = (tool, 'convert', '-f', e['format'], source, '-O', 'raw', '../out.raw')
    status, cpu, rss = run('timeout', '30', *command)
    if status < 0 or status in (124, 134, 139): return 'crashed or hung (%d)' % status
    if not sanitized and (cpu > 2 or rss > 256): return '%.1f s, %d MiB' % (cpu, rss)
    return 'was accepted' if status == 0 and level in ('refuse', 'checkbad') else ''

with open(images + '/MANIFEST.tsv') as f:
    head, *rows = [l.rstrip('\n').split('\t') for l in f if l.strip()]
n = failed = 0
for row in rows:
    e = dict(zip(head, row))
    if e['format'] not in formats or e.get('opts'): continue
    shutil.rmtree('work', ignore_errors=True); os.mkdir('work')
    if os.path.exists('out.raw'): os.unlink('out.raw')
    names = []
    for name in e['files'].split(','):
        base = os.path.basename(name)
        names.append(base[:-4] if base.endswith('.bz2') else base)
        unpack(os.path.join(images, name), os.path.join('work', names[-1]))
    os.chdir('work')
    why = good(e, names[0]) if e['class'] == 'good' else hostile(e, names[0])
    os.chdir('..')
    n += 1
    failed += why != ''
    print('%sok %d - %s%s' % ('not ' if why else '', n, e['id'], ': ' + why if why else ''), flush=True)
print('1..%d' % n)
sys.exit(failed != 0)
PY
