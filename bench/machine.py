#!/usr/bin/env python3
"""Start-up, port exits, memory and idle cost of a guest, beside QEMU's microvm with the same guest.

Prints a table of medians over alternating runs. Numbers of one host at one moment: only the
comparison within one table means something.
"""
import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

BUILD = os.environ.get("FERRY_BUILD", os.path.join(os.path.dirname(__file__), "..", "build"))
HELLO = os.path.join(BUILD, "guests", "hello.elf")
QEMU = shutil.which("qemu-system-x86_64")
MEMORY_MIB = 256


def program(name):
    return os.path.join(BUILD, "bin", name)


class Ferry:
    """A ferryd on roots of its own."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="fb-")
        self.run = os.path.join(self.dir, "run")
        self.log = open(os.path.join(self.dir, "log"), "wb")
        self.daemon = subprocess.Popen(
            [program("ferryd"), "--root", os.path.join(self.dir, "root"), "--run", self.run],
            stdout=self.log, stderr=self.log)
        while subprocess.run(self.argv("version"), capture_output=True, check=False).returncode:
            if self.daemon.poll() is not None:
                sys.exit("ferryd does not start")

    def argv(self, *args):
        return [program("vmctl"), "--run", self.run, *args]

    def vmctl(self, *args):
        return subprocess.run(self.argv(*args), check=True, capture_output=True, text=True).stdout

    def start(self, name, cmdline):
        self.vmctl("start", name, "--kernel", HELLO, "--memory", f"{MEMORY_MIB}M", "--cmdline", cmdline)

    def drop(self, name):
        self.vmctl("kill", name)
        self.vmctl("rm", name)

    def show(self, name):
        return json.loads(self.vmctl("show", name, "--json"))

    def pid(self, name):
        return json.loads(self.vmctl("show", name, "--json"))["pid"]

    def close(self):
        self.daemon.terminate()
        self.daemon.wait()
        self.log.close()
        shutil.rmtree(self.dir)


def qemu_argv(cmdline):
    return [QEMU, "-M", "microvm,accel=kvm", "-m", str(MEMORY_MIB), "-nodefaults", "-no-user-config",
            "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", HELLO, "-append", cmdline]


def qemu_start(cmdline):
    return subprocess.Popen(qemu_argv(cmdline), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL)


def end(process):
    process.kill()
    process.wait()
    process.stdout.close()


def first_byte_qemu():
    begin = time.monotonic()
    process = qemu_start("idle")
    process.stdout.read(1)
    took = time.monotonic() - begin
    end(process)
    return took


def first_byte_ferry(ferry):
    """From before `vmctl start` until a second vmctl, attached to the console, has the byte."""
    begin = time.monotonic()
    ferry.start("bench", "idle")
    console = subprocess.Popen(ferry.argv("console", "bench"), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    console.stdout.read(1)
    took = time.monotonic() - begin
    end(console)
    ferry.drop("bench")
    return took


def start_ferry(ferry):
    begin = time.monotonic()
    ferry.start("bench", "idle")
    took = time.monotonic() - begin
    ferry.drop("bench")
    return took


EXITS = re.compile(rb"ns_per_exit=(\d+)")


def read_exits(stream):
    for line in stream:
        found = EXITS.search(line)
        if found:
            return 1e9 / int(found.group(1))
    sys.exit("the guest told no exits")


def exits_qemu(count):
    process = qemu_start(f"exits={count}")
    rate = read_exits(process.stdout)
    end(process)
    return rate


def exits_ferry(ferry, count):
    ferry.start("bench", f"exits={count}")
    console = subprocess.Popen(ferry.argv("console", "bench"), stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    rate = read_exits(console.stdout)
    end(console)
    ferry.drop("bench")
    return rate


def rollup(pid):
    """Kinds of memory of a process in KiB: private (only its own), guest RAM, shared with others."""
    kinds = {"private": 0, "guest": 0, "shared": 0}
    guest = False
    with open(f"/proc/{pid}/smaps", encoding="ascii") as smaps:
        for line in smaps:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                guest = "guest-ram" in line
            match = re.match(r"(\w+):\s+(\d+) kB", line)
            if not match:
                continue
            key, kib = match.group(1), int(match.group(2))
            if key in ("Private_Clean", "Private_Dirty"):
                kinds["guest" if guest else "private"] += kib
            elif key in ("Shared_Clean", "Shared_Dirty"):
                kinds["guest" if guest else "shared"] += kib
    return kinds


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle(ferry, seconds):
    ferry.start("bench", "idle")
    pid = ferry.pid("bench")
    before = cpu_seconds(pid)
    time.sleep(seconds)  # idleness is measured over time
    used = cpu_seconds(pid) - before
    memory = rollup(pid)
    ferry.drop("bench")
    return used, memory


def alternate(runs, *measures):
    """Runs the measures in turn, after one turn to warm up; a list of figures for each."""
    figures = [[] for _ in measures]
    for run in range(runs + 1):
        for index, measure in enumerate(measures):
            value = measure()
            if run:
                figures[index].append(value)
    return figures


def row(name, unit, ferry, qemu, scale=1.0):
    cells = [name]
    for values in (ferry, qemu):
        if values:
            low, mid, high = (x * scale for x in (min(values), statistics.median(values), max(values)))
            cells.append(f"{mid:10.1f} ({low:.1f} .. {high:.1f})")
        else:
            cells.append("-")
    ratio = statistics.median(ferry) / statistics.median(qemu) if qemu else 0
    print(f"{cells[0]:34} {unit:6} {cells[1]:30} {cells[2]:30} {f'{ratio:.2f}' if qemu else '-':>6}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--exits", type=int, default=20000)
    args = parser.parse_args()
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        sys.exit("bench machine: /dev/kvm is not usable here")
    ferry = Ferry()
    try:
        print(f"{'medians of ' + str(args.runs) + ' alternating runs':34} {'':6} {'ferry':30} {'qemu microvm':30} {'ratio':>6}")
        first = alternate(args.runs, lambda: first_byte_ferry(ferry),
                          *([first_byte_qemu] if QEMU else []))
        row("start to first serial byte", "ms", first[0], first[1] if QEMU else [], 1e3)
        row("  of it `vmctl start` alone", "ms", alternate(args.runs, lambda: start_ferry(ferry))[0], [], 1e3)
        exits = alternate(args.runs, lambda: exits_ferry(ferry, args.exits),
                          *([lambda: exits_qemu(args.exits)] if QEMU else []))
        row("port exits", "1/s", exits[0], exits[1] if QEMU else [])
        used, memory = idle(ferry, 5)
        print(f"idle guest: {used * 1000 / 5:.1f} ms of CPU a second; worker memory besides guest RAM: "
              f"{memory['private'] / 1024:.1f} MiB private, {memory['shared'] / 1024:.1f} MiB shared with others")
    finally:
        ferry.close()


if __name__ == "__main__":
    main()
