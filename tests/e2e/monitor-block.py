#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Drives by the monitor of a running machine: what it says of them, resizing, another cache mode and engine."""
import os
import struct
import subprocess
import tempfile

BIN = os.path.join(os.environ["TN_BUILD_DIR"], "bin")
PROMPT = "(tenon) "
LOOP_FOR_EVER = struct.pack("<I", 0x0000006F)


class Monitor:
    def __init__(self, *arguments):
        self.process = subprocess.Popen([os.path.join(BIN, "tenon"), "-M", "virt-rv64", "-m", "64M", "-nographic", *arguments],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.send("\x01c")
        self.until_prompt()

    def send(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def until_prompt(self):
        said = ""
        while not said.endswith(PROMPT):
            byte = self.process.stdout.read(1)
            if not byte:
                return said
            said += byte.decode(errors="replace")
        return said[:-len(PROMPT)].replace("\r", "")

    def ask(self, command):
        self.send(command + "\n")
        return self.until_prompt().replace(command + "\n", "", 1).strip()

    def quit(self):
        self.send("quit\n")
        self.process.communicate(timeout=60)
        return self.process.returncode


class Tap:
    def __init__(self):
        self.n = 0

    def __call__(self, good, name, why=""):
        self.n += 1
        print(("ok" if good else "not ok"), self.n, "-", name)
        if not good:
            print("#", why)


def check(ok, folder):
    image = os.path.join(folder, "disk.qcow2")
    loop = os.path.join(folder, "loop.bin")
    subprocess.run([os.path.join(BIN, "tenon-img"), "create", "-q", "-f", "qcow2", image, "16M"], check=True)
    with open(loop, "wb") as f:
        f.write(LOOP_FOR_EVER * 1024)
    monitor = Monitor("-bios", loop, "-drive", f"file={image},if=none,id=d0", "-device", "virtio-blk-device,drive=d0")
    said = monitor.ask("info block")
    ok(said.startswith("d0: ") and "(qcow2), 16777216 bytes, cache=writeback, guest's write cache on" in said, "info block", said)
    said = monitor.ask("block_reopen d0 cache=writethrough,aio=threads")
    ok(said == "", "block_reopen to another mode and engine", said)
    said = monitor.ask("info block")
    ok("cache=writethrough, guest's write cache off" in said, "the mode has changed", said)
    said = monitor.ask("block_reopen d0 aio=native")
    ok("cache.direct=on" in said, "an engine that does not fit the mode is refused", said)
    said = monitor.ask("block_reopen d0 cache=never")
    ok("there is no cache mode 'never'" in said, "an unknown mode is refused", said)
    said = monitor.ask("block_reopen d0 file.locking=off")
    ok("locking" in said, "an option that cannot change while it is open is refused", said)
    said = monitor.ask("info block")
    ok("cache=writethrough" in said, "what was refused has changed nothing", said)
    ok(monitor.ask("block_resize d0 32M") == "" and "33554432 bytes" in monitor.ask("info block"), "block_resize")
    said = monitor.ask("block_resize d0 much")
    ok("'much' is not a size" in said, "block_resize to what is no size", said)
    said = monitor.ask("eject d0")
    ok("eject: " in said and "disk.qcow2: is not in a drive" in said, "what is in no drive is not ejected", said)
    said = monitor.ask("eject -f d0")
    ok("is not in a drive" in said, "neither with -f", said)
    said = monitor.ask("block_resize d1 32M")
    ok("there is no drive 'd1'" in said, "a drive that is not there", said)
    ok("reads 0" in monitor.ask("info blockstats"), "info blockstats")
    ok(monitor.quit() == 0, "the machine ends")
    info = subprocess.run([os.path.join(BIN, "tenon-img"), "info", image], stdout=subprocess.PIPE, text=True, check=True)
    ok("32 MiB" in info.stdout, "the image has the new size", info.stdout)


def main():
    print("1..15")
    with tempfile.TemporaryDirectory() as folder:
        check(Tap(), folder)


main()
