#!/usr/bin/env python3
"""How long it takes until a restored guest runs, and what a clone costs.

The time is that of the whole command, from its start to its end: `vmctl restore` ends when the
guest's first instruction has been let run. Beside it is what the memory slots of KVM cost in it (the
worker's log), because on hosts with shadow paging they grow with RAM and nobody can spare them.

Numbers of one host at one moment: only the comparison within one table means something.
"""
import argparse
import os
import re
import statistics
import sys
import time

sys.dont_write_bytecode = True
from common import Ferry, judge, need_kvm, row, spread  # noqa: E402

SLOTS = re.compile(r"restored in ([\d.]+) ms: .*memory slots ([\d.]+)")
SMALL_MIB, LARGE_MIB, CLONE_MIB = 256, 8192, 512
RESTORE_MS, CLONES_S, CLONE_OWN_MIB = 15, 2, 3


def take(ferry, name, memory_mib):
    """A snapshot of an idle guest, and nothing else left of that."""
    ferry.start("source", "hello", memory_mib, "idle")
    time.sleep(0.3)  # it boots; then it sleeps for good
    ferry.vmctl("snapshot", "create", "source", name)
    ferry.drop("source")


def restore(ferry, snapshot):
    """Seconds of the command, and of the memory slots in it."""
    begin = time.monotonic()
    ferry.vmctl("restore", snapshot, "--name", "bench")
    took = time.monotonic() - begin
    with open(os.path.join(ferry.root, "vms", "bench", "log"), encoding="utf-8") as log:
        found = SLOTS.search(log.read())
    ferry.drop("bench")
    return took, float(found[2]) / 1e3


def own_mib(pid):
    """What a process has for itself, but for the pages that its guest has written."""
    kib, is_guest = 0, False
    with open(f"/proc/{pid}/smaps", encoding="utf-8") as smaps:
        for line in smaps:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                is_guest = line.rstrip().endswith("/memory")
            match = re.match(r"Private_(?:Clean|Dirty):\s+(\d+) kB", line)
            if match and not is_guest:
                kib += int(match[1])
    return kib / 1024


def clones(ferry, snapshot, count):
    begin = time.monotonic()
    ferry.vmctl("restore", snapshot, "--name", "clone", "--count", str(count))
    took = time.monotonic() - begin
    own = [own_mib(ferry.pid(f"clone-{i + 1}")) for i in range(count)]
    for i in range(count):
        ferry.drop(f"clone-{i + 1}")
    return took, own


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=21)
    parser.add_argument("--clones", type=int, default=64)
    parser.add_argument("--large", type=int, default=LARGE_MIB, metavar="MIB")
    args = parser.parse_args()
    need_kvm()
    ferry = Ferry()
    try:
        print(f"{f'medians of {args.runs} alternating runs':34} {'':6} {'ferry':30}")
        sizes = (SMALL_MIB, args.large)
        figures = {size: [] for size in sizes}
        for size in sizes:
            take(ferry, f"of-{size}", size)
        for run in range(args.runs + 1):
            for size in sizes:
                value = restore(ferry, f"of-{size}")
                if run:
                    figures[size].append(value)
        slots = {size: [f[1] for f in figures[size]] for size in sizes}
        for size in sizes:
            allowed = RESTORE_MS + 1e3 * (statistics.median(slots[size]) - statistics.median(slots[SMALL_MIB]))
            row(f"restore of {size} MiB", "ms", [f[0] for f in figures[size]], scale=1e3, bar=round(allowed, 1))
            row("  of it KVM's memory slots", "ms", slots[size], scale=1e3)
        take(ferry, "to-clone", CLONE_MIB)
        clones(ferry, "to-clone", args.clones)
        runs = [clones(ferry, "to-clone", args.clones) for _ in range(3)]
        row(f"{args.clones} clones of {CLONE_MIB} MiB", "s", [r[0] for r in runs], bar=CLONES_S)
        own = [mib for r in runs for mib in r[1]]
        print(f"{'  private memory of each':34} {'MiB':6} {spread(own):30} {'-':30} {'-':>6}"
              f"{judge(max(own), CLONE_OWN_MIB)}")
    finally:
        ferry.close()


if __name__ == "__main__":
    main()
