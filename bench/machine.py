#!/usr/bin/env python3
"""Start-up, port exits, memory and idle cost of a guest, beside QEMU's microvm with the same guest.

Prints a table of medians over alternating runs. Numbers of one host at one moment: only the
comparison within one table means something.
"""
import argparse
import re
import sys
import time

sys.dont_write_bytecode = True
from common import (QEMU, Ferry, alternate, cpu_seconds, end, head, need_kvm,  # noqa: E402
                    qemu_start, rollup, row)

MEMORY_MIB = 256


def first_byte_qemu():
    begin = time.monotonic()
    process = qemu_start("hello", MEMORY_MIB, "idle")
    process.stdout.read(1)
    took = time.monotonic() - begin
    end(process)
    return took


def first_byte_ferry(ferry):
    """From before `vmctl start` until a second vmctl, attached to the console, has the byte."""
    begin = time.monotonic()
    ferry.start("bench", "hello", MEMORY_MIB, "idle")
    console = ferry.console("bench")
    console.stdout.read(1)
    took = time.monotonic() - begin
    end(console)
    ferry.drop("bench")
    return took


def start_ferry(ferry):
    begin = time.monotonic()
    ferry.start("bench", "hello", MEMORY_MIB, "idle")
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
    process = qemu_start("hello", MEMORY_MIB, f"exits={count}")
    rate = read_exits(process.stdout)
    end(process)
    return rate


def exits_ferry(ferry, count):
    ferry.start("bench", "hello", MEMORY_MIB, f"exits={count}")
    console = ferry.console("bench")
    rate = read_exits(console.stdout)
    end(console)
    ferry.drop("bench")
    return rate


def idle(ferry, seconds):
    ferry.start("bench", "hello", MEMORY_MIB, "idle")
    pid = ferry.pid("bench")
    before = cpu_seconds(pid)
    time.sleep(seconds)  # idleness is measured over time
    used = cpu_seconds(pid) - before
    memory = rollup(pid)
    ferry.drop("bench")
    return used, memory


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--exits", type=int, default=20000)
    args = parser.parse_args()
    need_kvm()
    ferry = Ferry()
    try:
        head(args.runs)
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
