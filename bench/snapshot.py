#!/usr/bin/env python3
"""What a snapshot costs: the pause that the guest sees, beside QEMU's, writing, diffs, coming back.

The guest `dirty` writes 1,000 pages a second and prints the longest time between two of its steps
and how long printing took. The pause is what a snapshot adds to either, against the medians of the
same guest without one. QEMU saves the same guest with the same fill by `migrate exec:cat > file`,
without a limit of bandwidth, goes on, and is started again by `-incoming exec:cat file`.

Numbers of one host at one moment: only the comparison within one table means something.
"""
import argparse
import json
import mmap
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
from common import QEMU, Ferry, end, judge, need_kvm, qemu_start, row, spread  # noqa: E402
from qmp import Qmp  # noqa: E402

LINE = re.compile(rb"gap_us=(\d+) print_us=(\d+)")
RATE = "rate=1000 pages=4096 sweep=0 fillmem=all"
MIB = 1 << 20


class Listener:
    """Reads a guest's console in a thread: (when it came, gap, print) of each line, in us."""

    def __init__(self, process):
        self.process = process
        self.lines = []
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self.listen)
        self.thread.start()

    def listen(self):
        for line in self.process.stdout:
            found = LINE.search(line)
            if b"FAIL" in line:
                print(line.decode(errors="replace"), file=sys.stderr)
            if found:
                with self.changed:
                    self.lines.append((time.monotonic(), int(found[1]), int(found[2])))
                    self.changed.notify()

    def wait(self, count):
        """`count` more lines from now on; they are returned."""
        with self.changed:
            begin = len(self.lines)
            if not self.changed.wait_for(lambda: len(self.lines) >= begin + count, timeout=300):
                raise RuntimeError("the guest says nothing more")
            return self.lines[begin:]

    def mark(self):
        with self.changed:
            return len(self.lines)

    def since(self, mark):
        self.wait(2)  # the line that was begun before now, and a whole one
        with self.changed:
            return self.lines[mark:]

    def close(self):
        self.process.kill()
        self.process.wait()
        self.thread.join()
        self.process.stdout.close()


def usual(lines):
    return tuple(statistics.median(line[i] for line in lines) for i in (1, 2))


def pause_ms(lines, without):
    return max(max(line[1] - without[0], line[2] - without[1]) for line in lines) / 1000


def save_qemu(qmp, path):
    """Until the guest goes on; QEMU leaves it stopped when all is written."""
    begin = time.monotonic()
    qmp.ask("migrate", uri=f"exec:cat > {path}")
    qmp.wait_status("postmigrate")
    qmp.ask("cont")
    return time.monotonic() - begin


def stolen_ms():
    """What the host of this host has taken from all CPUs; a guest of it stands still for it, too."""
    with open("/proc/stat", encoding="ascii") as stat:
        return int(stat.readline().split()[8]) * 1000 // os.sysconf("SC_CLK_TCK")


class Pauses:
    """One size of guest: snapshots of Ferry and of QEMU in turn, each with its own guest."""

    def __init__(self, ferry, mib, where):
        self.ferry, self.mib, self.where = ferry, mib, where
        self.figures = {"ferry": [], "qemu": []}
        self.took = {"ferry": [], "qemu": []}
        self.told = []
        self.calm = []  # pauses of runs in which nobody stole time

    def run_ferry(self):
        stolen = stolen_ms()
        mark = self.listener.mark()
        begin = time.monotonic()
        told = json.loads(self.ferry.vmctl("snapshot", "create", "guest", "s", "--json"))
        self.took["ferry"].append(time.monotonic() - begin)
        self.told.append(told["pause_ns"] / 1e6)
        self.figures["ferry"].append(pause_ms(self.listener.since(mark), self.without))
        if stolen_ms() == stolen:
            self.calm.append(self.figures["ferry"][-1])
        self.ferry.vmctl("snapshot", "rm", "s")

    def measure_ferry(self, runs):
        self.ferry.start("guest", "dirty", self.mib, RATE)
        self.listener = Listener(self.ferry.console("guest"))
        try:
            self.without = usual(self.listener.wait(12)[2:])
            for _ in range(runs):
                self.run_ferry()
        finally:
            self.listener.close()
            self.ferry.drop("guest")

    def measure_qemu(self, runs):
        path, monitor = os.path.join(self.where, "qemu"), os.path.join(self.where, "qmp")
        process = qemu_start("dirty", self.mib, RATE, "-qmp", f"unix:{monitor},server=on,wait=off")
        listener = Listener(process)
        qmp = Qmp(monitor)
        try:
            qmp.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
            without = usual(listener.wait(12)[2:])
            for _ in range(runs):
                mark = listener.mark()
                self.took["qemu"].append(save_qemu(qmp, path))
                self.figures["qemu"].append(pause_ms(listener.since(mark), without))
        finally:
            qmp.close()
            listener.close()
            os.unlink(monitor)
            os.unlink(path)

    def report(self):
        row(f"pause the guest sees, {self.mib} MiB", "ms", self.figures["ferry"],
            self.figures["qemu"], bar=4)
        if self.calm and len(self.calm) < len(self.figures["ferry"]):
            row(f"  {len(self.calm)} runs without stolen time", "ms", self.calm, bar=4)
        row("  of it the pause that vmctl tells", "ms", self.told)
        row("  the command", "ms", self.took["ferry"], self.took["qemu"], 1e3)


def measure_pauses(ferry, mib, where, runs, qemu_runs):
    """In halves, so that neither has the better hour."""
    pauses = Pauses(ferry, mib, where)
    for part in range(2):
        share = runs // 2 if part else runs - runs // 2
        qemu_share = qemu_runs // 2 if part else qemu_runs - qemu_runs // 2
        if share:
            pauses.measure_ferry(share)
        if QEMU and qemu_share:
            pauses.measure_qemu(qemu_share)
    pauses.report()


def room(ferry, name):
    path = os.path.join(ferry.root, "snapshots", name)
    return sum(os.stat(os.path.join(path, file)).st_blocks * 512 for file in os.listdir(path))


def write_plain(path, data):
    """The same bytes, written one after the other and synced."""
    begin = time.monotonic()
    with open(path, "wb", buffering=0) as file:
        for at in range(0, len(data), MIB):
            file.write(data[at:at + MIB])
        os.fsync(file.fileno())
    took = time.monotonic() - begin
    os.unlink(path)
    return took


def measure_writing(ferry, mib, where, runs):
    """A guest full of random pages, running but still: all of it is written."""
    ferry.start("guest", "dirty", mib, "rate=0 pages=16 sweep=0 fillmem=all")
    listener = Listener(ferry.console("guest"))
    speeds, plain, size = [], [], 0
    try:
        listener.wait(5)
        ferry.vmctl("snapshot", "create", "guest", "s")
        with open(os.path.join(ferry.root, "snapshots", "s", "memory"), "rb") as file:
            data = mmap.mmap(-1, mib * MIB)  # anonymous: nothing is read while it is written
            file.readinto(data)
        size = room(ferry, "s")
        ferry.vmctl("snapshot", "rm", "s")
        view = memoryview(data)
        for run in range(runs + 1):
            begin = time.monotonic()
            ferry.vmctl("snapshot", "create", "guest", "s")
            took = time.monotonic() - begin
            ferry.vmctl("snapshot", "rm", "s")
            other = write_plain(os.path.join(where, "plain"), view)
            if run:
                speeds.append(size / took / MIB)
                plain.append(mib * MIB / other / MIB)
        view.release()
    finally:
        listener.close()
        ferry.drop("guest")
    ratio = statistics.median(speeds) / statistics.median(plain)
    print(f"{f'a full one of {mib} MiB':34} {'MiB/s':6} {spread(speeds):30} a plain file: "
          f"{spread(plain)}, ratio {ratio:.2f}{judge(ratio, -0.8)}", flush=True)


def measure_diff(ferry, mib, runs):
    """Diffs beside full ones: the guest writes 1 % of its pages, each of them once or twice between
    two snapshots."""
    pages = mib * 256 // 100
    ferry.start("guest", "dirty", mib, f"rate=1000 pages={pages} sweep=0 fillmem=all")
    listener = Listener(ferry.console("guest"))
    times, rooms = {"full": [], "diff": []}, {"full": [], "diff": []}
    try:
        listener.wait(5)
        for run in range(runs + 1):
            for kind, name, options in (("full", "f", ["--track"]), ("diff", "d", ["--parent", "f", "--last"])):
                listener.wait(pages // 100 + 3)  # ten lines a second: all of them have been written
                begin = time.monotonic()
                ferry.vmctl("snapshot", "create", "guest", name, *options)
                if run:
                    times[kind].append(time.monotonic() - begin)
                    rooms[kind].append(room(ferry, name))
            ferry.vmctl("snapshot", "rm", "d")
            ferry.vmctl("snapshot", "rm", "f")
    finally:
        listener.close()
        ferry.drop("guest")
    for what, figures, unit, scale in (("time", times, "ms", 1e3), ("room", rooms, "MiB", 1 / MIB)):
        ratio = statistics.median(figures["diff"]) / statistics.median(figures["full"]) * 100
        print(f"{f'a diff of 1 % of {mib} MiB, {what}':34} {unit:6} {spread(figures['diff'], scale):30} "
              f"a full one: {spread(figures['full'], scale)}, {ratio:.1f} %{judge(ratio, 2)}", flush=True)


def restore_ferry(ferry):
    begin = time.monotonic()
    ferry.vmctl("restore", "s", "--name", "back")
    console = ferry.console("back")
    console.stdout.readline()
    took = time.monotonic() - begin
    end(console)
    ferry.drop("back")
    return took


def restore_qemu(mib, path):
    begin = time.monotonic()
    process = qemu_start("dirty", mib, RATE, "-incoming", f"exec:cat {path}")
    process.stdout.readline()
    took = time.monotonic() - begin
    end(process)
    return took


def measure_restore(ferry, mib, where, runs):
    """Until the next line of the guest, which prints one every 100 ms."""
    path, monitor = os.path.join(where, "incoming"), os.path.join(where, "qmp")
    figures = {"ferry": [], "qemu": []}
    ferry.start("guest", "dirty", mib, RATE)
    listener = Listener(ferry.console("guest"))
    try:
        listener.wait(5)
        ferry.vmctl("snapshot", "create", "guest", "s")
    finally:
        listener.close()
        ferry.drop("guest")
    if QEMU:
        listener = Listener(qemu_start("dirty", mib, RATE, "-qmp",
                                       f"unix:{monitor},server=on,wait=off"))
        qmp = Qmp(monitor)
        try:
            listener.wait(5)
            qmp.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 40})
            save_qemu(qmp, path)
        finally:
            qmp.close()
            listener.close()
    for run in range(runs + 1):
        took = restore_ferry(ferry)
        other = restore_qemu(mib, path) if QEMU else 0
        if run:
            figures["ferry"].append(took)
            figures["qemu"] += [other] if QEMU else []
    ferry.vmctl("snapshot", "rm", "s")
    row(f"restore to the guest's next line, {mib} MiB", "ms", figures["ferry"], figures["qemu"], 1e3)


def filesystem(path):
    return subprocess.run(["df", "--output=fstype", path], capture_output=True, text=True,
                          check=True).stdout.split()[-1]


PARTS = ("pause", "write", "diff", "restore")


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--sizes", default="64,512,4096", help="MiB of the guests that are paused")
    parser.add_argument("--qemu-runs", default="7,7,1", help="QEMU's runs for each of these sizes")
    parser.add_argument("--write", type=int, default=1024, help="MiB of the guest that is written")
    parser.add_argument("--only", default=",".join(PARTS), help="some of " + ", ".join(PARTS))
    parser.add_argument("--dir", help="where snapshots are written: a directory on a real disk")
    return parser.parse_args()


def main():
    args = options()
    need_kvm()
    where = tempfile.mkdtemp(prefix="fb-", dir=args.dir)
    ferry = Ferry(where)
    parts = args.only.split(",")
    sizes, qemu_runs = ([int(n) for n in text.split(",")] for text in (args.sizes, args.qemu_runs))
    try:
        print(f"medians of {args.runs} runs; snapshots on {filesystem(where)} in {where}")
        print(f"{'':34} {'':6} {'ferry':30} {'qemu microvm':30} {'ratio':>6}")
        for mib, qemu in zip(sizes, qemu_runs) if "pause" in parts else ():
            measure_pauses(ferry, mib, where, args.runs, qemu)
        if "write" in parts:
            measure_writing(ferry, args.write, where, args.runs)
        if "diff" in parts:
            measure_diff(ferry, args.write, args.runs)
        if "restore" in parts:
            measure_restore(ferry, 512, where, args.runs)
    finally:
        ferry.close()
        shutil.rmtree(where)


if __name__ == "__main__":
    main()
