#!/usr/bin/env python3
"""What it costs to move a running guest, beside QEMU: time, the gap that the guest sees, CPU.

The guest `dirty` has all its memory filled with random bytes, writes pages at a rate and prints the
longest time between two of its steps. It goes to and fro between two daemons; the same guest does so
between processes of QEMU, which are there before the clock starts. QEMU moves one with a single stream
and one with two (multifd), its bandwidth not limited, with the same downtime allowed; the better of
its medians counts.

    --path loopback     127.0.0.1
           veth         two network namespaces of our own, joined by a veth pair
           1gbit        the same, shaped to 1 Gbit/s

Beside them: what it costs to get the target's memory from the host, without which nobody can receive
anything, and what iperf3 gets on the same path. The memory that a move will need is touched and freed
just before it, for hosts on which the first touch is slow. Numbers of one host at one moment: only the
comparison within one table means something.
"""
import argparse
import ctypes
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
from common import QEMU, Ferry, judge, need_kvm, qemu_argv, row, spread  # noqa: E402
from qmp import Qmp  # noqa: E402

LINE = re.compile(rb"gap_us=(\d+) print_us=(\d+)[^\n]*errors=(\d+)")
DOWNTIME_MS = 50
GIB = 1 << 30
MADV_POPULATE_WRITE = 23


def populate(mib):
    """Seconds to get that much memory from the host; it goes back at once."""
    size = mib << 20
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    libc = ctypes.CDLL(None, use_errno=True)
    first = ctypes.c_char.from_buffer(memory)
    begin = time.monotonic()
    if libc.madvise(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(size), MADV_POPULATE_WRITE):
        raise OSError(ctypes.get_errno(), "madvise")
    took = time.monotonic() - begin
    del first
    memory.close()
    return took


class Cpu:
    """The CPU time of processes but for that of their guests, also of threads that end meanwhile."""

    def __init__(self, *pids):
        self.pids = pids
        self.seen = {}
        self.done = threading.Event()
        self.sample()
        self.begin = dict(self.seen)
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def sample(self):
        for pid in self.pids:
            try:
                threads = os.listdir(f"/proc/{pid}/task")
            except OSError:
                continue
            for thread in threads:
                self.sample_thread(pid, thread)

    def sample_thread(self, pid, thread):
        where = f"/proc/{pid}/task/{thread}"
        try:
            with open(where + "/comm", encoding="utf-8") as comm:
                name = comm.read()
            with open(where + "/schedstat", encoding="ascii") as stat:
                self.seen[pid, thread] = 0 if is_vcpu(name) else int(stat.read().split()[0])
        except OSError:
            pass  # it has ended; what it had is known up to the last look

    def watch(self):
        while not self.done.wait(0.004):
            self.sample()

    def stop(self):
        self.done.set()
        self.thread.join()
        self.sample()
        return sum(ns - self.begin.get(key, 0) for key, ns in self.seen.items()) / 1e9


def is_vcpu(name):
    return name.startswith("vcpu") or name.startswith("CPU ")


class Console:
    """What a guest said, wherever it was."""

    def __init__(self):
        self.text = bytearray()
        self.changed = threading.Condition()

    def hear(self, stream):
        def listen():
            while piece := os.read(stream.fileno(), 65536):
                with self.changed:
                    self.text += piece
                    self.changed.notify_all()
        thread = threading.Thread(target=listen)
        thread.start()
        return thread

    def lines(self):
        found = [(int(m[1]), int(m[2])) for m in LINE.finditer(self.text)]
        if b"FAIL" in self.text:
            raise RuntimeError("the guest found an error")
        return found

    def wait(self, count):
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.lines()) >= count, timeout=300):
                raise RuntimeError("the guest says nothing more")


class Guest:
    """One that moves; `gap` is what a move adds to the longest gap or to the printing of a line."""

    def __init__(self):
        self.console = Console()
        self.without = None

    def settle(self):
        self.console.wait(len(self.console.lines()) + 10)
        last = self.console.lines()[-8:]
        self.without = tuple(statistics.median(line[i] for line in last) for i in (0, 1))

    def gap(self, mark):
        self.console.wait(mark + 3)
        return max(max(gap - self.without[0], printing - self.without[1])
                   for gap, printing in self.console.lines()[mark:]) / 1e3


class FerryGuest(Guest):
    def __init__(self, path, mib, cmdline):
        super().__init__()
        self.hosts = [Ferry(options=("--listen", f"{address}:0", "--insecure"), inside=inside)
                      for address, inside in (path.here, path.there)]
        self.at = 0
        self.told = None
        self.hosts[0].start("guest", "dirty", mib, cmdline)
        self.attach()
        self.settle()

    def attach(self):
        self.console = Console()  # the scrollback comes along: it says all once more
        self.process = self.hosts[self.at].console("guest")
        self.thread = self.console.hear(self.process.stdout)

    def detach(self):
        self.process.kill()
        self.process.wait()
        self.thread.join()
        self.process.stdout.close()

    def move(self):
        source, target = self.hosts[self.at], self.hosts[1 - self.at]
        mark = len(self.console.lines())
        cpu = Cpu(source.pid("guest"), target.daemon.pid, source.daemon.pid)
        known = set(children(target.daemon.pid))
        finder = threading.Thread(target=add_child, args=(cpu, target.daemon.pid, known))
        finder.start()
        begin = time.monotonic()
        self.told = json.loads(source.vmctl("migrate", "guest", target.address(), "--json",
                                            "--downtime", f"{DOWNTIME_MS}ms"))
        took = time.monotonic() - begin
        finder.join()
        used = cpu.stop()
        self.detach()
        self.at = 1 - self.at
        self.attach()
        return took, self.gap(mark), used / (self.told["sent_bytes"] / GIB)

    def close(self):
        self.detach()
        for host in self.hosts:
            host.close()


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


def add_child(cpu, pid, known):
    """The target's worker, as soon as there is one."""
    while not cpu.done.is_set():
        for child in children(pid):
            if child not in known:
                cpu.pids += (child,)
                return
        time.sleep(0.001)


class QemuGuest(Guest):
    def __init__(self, path, mib, cmdline, streams):
        super().__init__()
        self.path, self.mib, self.cmdline, self.streams = path, mib, cmdline, streams
        self.dir = tempfile.mkdtemp(prefix="fb-")
        self.at = self.number = 0
        self.process, self.qmp, self.thread = self.start(0)
        self.settle()

    def start(self, at, *more):
        monitor = os.path.join(self.dir, f"qmp{self.number}")
        self.number += 1
        argv = qemu_argv("dirty", self.mib, self.cmdline, "-qmp", f"unix:{monitor},server=on,wait=off", *more)
        process = subprocess.Popen([*(self.path.there if at else self.path.here)[1], *argv],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        qmp = Qmp(monitor)
        qmp.ask("migrate-set-parameters", **{"max-bandwidth": 1 << 40, "downtime-limit": DOWNTIME_MS})
        if self.streams > 1:
            qmp.ask("migrate-set-capabilities", capabilities=[{"capability": "multifd", "state": True}])
            qmp.ask("migrate-set-parameters", **{"multifd-channels": self.streams})
        return process, qmp, self.console.hear(process.stdout)

    def move(self):
        there = 1 - self.at
        process, qmp, thread = self.start(there, "-incoming", "defer")
        address = (self.path.there if there else self.path.here)[0]
        port = free_port((self.path.there if there else self.path.here)[1], address)
        qmp.ask("migrate-incoming", uri=f"tcp:{address}:{port}")
        mark = len(self.console.lines())
        cpu = Cpu(self.process.pid, process.pid)
        begin = time.monotonic()
        self.qmp.ask("migrate", uri=f"tcp:{address}:{port}")
        while (status := self.qmp.ask("query-migrate")).get("status") != "completed":
            if status.get("status") == "failed":
                raise RuntimeError("QEMU's migration failed")
            time.sleep(0.002)
        qmp.wait_status("running")
        took = time.monotonic() - begin
        used = cpu.stop()
        sent = status["ram"]["transferred"]
        self.drop()
        self.process, self.qmp, self.thread, self.at = process, qmp, thread, there
        return took, self.gap(mark), used / (sent / GIB)

    def drop(self):
        self.qmp.close()
        self.process.kill()
        self.process.wait()
        self.thread.join()
        self.process.stdout.close()

    def close(self):
        self.drop()
        shutil.rmtree(self.dir)


def free_port(inside, address):
    code = ("import socket; s = socket.socket(); s.bind((%r, 0)); print(s.getsockname()[1])" % address)
    return int(subprocess.run([*inside, sys.executable, "-c", code], capture_output=True, text=True,
                              check=True).stdout)


class Path:
    """Two places and how to get a program there: (address, command to run it by)."""

    def __init__(self, kind):
        self.keeper = None
        self.here, self.there = ("127.0.0.1", ()), ("127.0.0.1", ())
        if kind != "loopback":
            self.join(kind == "1gbit")

    def join(self, shaped):
        self.keeper = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        own = os.readlink("/proc/self/ns/net")
        while os.readlink(f"/proc/{self.keeper.pid}/ns/net") == own:
            time.sleep(0.01)
        inside = ("nsenter", f"--net=/proc/{self.keeper.pid}/ns/net")
        self.here, self.there = ("10.99.0.1", ()), ("10.99.0.2", inside)
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "here", "type", "veth", "peer", "name", "there", "netns", str(self.keeper.pid))
        for place, device, address in (((), "here", "10.99.0.1/24"), (inside, "there", "10.99.0.2/24")):
            run(*place, "ip", "address", "add", address, "dev", device)
            run(*place, "ip", "link", "set", device, "up")
            if shaped:
                run(*place, "tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", "1gbit", "burst",
                    "512kb", "latency", "20ms")

    def iperf(self):
        """MiB/s of one stream; None without iperf3."""
        if not shutil.which("iperf3"):
            return None
        port = free_port(self.there[1], self.there[0])
        server = subprocess.Popen([*self.there[1], "iperf3", "-s", "-1", "-p", str(port)], stdout=subprocess.DEVNULL)
        try:
            while True:
                done = subprocess.run(["iperf3", "-c", self.there[0], "-p", str(port), "-t", "2", "-J"],
                                      capture_output=True, text=True, check=False)
                told = json.loads(done.stdout or "{}").get("end", {})  # empty until the server listens
                if "sum_received" in told:
                    return told["sum_received"]["bits_per_second"] / 8 / (1 << 20)
                if server.poll() is not None:
                    return None
        finally:
            server.kill()
            server.wait()

    def close(self):
        if self.keeper:
            self.keeper.kill()
            self.keeper.wait()


def run(*argv):
    subprocess.run(argv, check=True)


def best(guests):
    """Of QEMU's two ways the one with the lower median."""
    return min(guests, key=statistics.median) if guests else []


def measure(path, mib, rate, runs):
    cmdline = f"rate={rate} pages={max(16, min(mib * 64, rate * 4))} sweep=0 fillmem=all"
    kinds = [FerryGuest(path, mib, cmdline)]
    try:
        if QEMU:
            kinds += [QemuGuest(path, mib, cmdline, streams) for streams in (1, 2)]
        figures = [[] for _ in kinds]
        warm = []
        for turn in range(runs + 1):
            for kind, figure in zip(kinds, figures):
                warm.append(populate(mib))
                figure.append(kind.move())
    finally:
        for kind in kinds:
            kind.close()
    report(path, mib, rate, [figure[1:] for figure in figures], warm)


def report(path, mib, rate, figures, warm):
    columns = [[[move[i] for move in figure] for figure in figures] for i in range(3)]
    print(f"{mib} MiB, {rate} pages/s; memory from the host alone: {spread(warm, 1e3)} ms")
    for (what, unit, scale), column in zip((("  total", "ms", 1e3), ("  gap the guest sees", "ms", 1),
                                            ("  CPU per GiB", "s", 1)), columns):
        other = best(column[1:])
        row(what, unit, column[0], other, scale)
    bars(rate, columns)
    if rate == 0 and (speed := path.iperf()):
        mine = mib / statistics.median(columns[0][0])
        print(f"{'  of one stream of iperf3':34} {'':6} {mine:.0f} of {speed:.0f} MiB/s: "
              f"{mine / speed:.2f}{judge(mine / speed, -0.8)}")


def bars(rate, columns):
    ratios = [statistics.median(c[0]) / statistics.median(best(c[1:])) if len(c) > 1 else 0 for c in columns]
    gap = statistics.median(columns[1][0])
    print(f"{'  bars':34} {'':6} total / QEMU{judge(ratios[0], 0.75)}; CPU / QEMU{judge(ratios[2], 0.75)}"
          + (f"; gap{judge(gap, 2.5)}" if rate == 1000 else "")
          + (f"; gap / QEMU{judge(ratios[1], 0.33)}" if rate == 20000 else ""), flush=True)


def options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--path", choices=("loopback", "veth", "1gbit"), default="loopback")
    parser.add_argument("--guests", default="512:0,512:1000,512:20000,3072:5000", help="MiB:RATE,...")
    return parser.parse_args()


def main():
    args = options()
    need_kvm()
    if args.path != "loopback" and "FERRY_BENCH_INSIDE" not in os.environ:
        os.environ["FERRY_BENCH_INSIDE"] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])
    path = Path(args.path)
    try:
        print(f"medians of {args.runs} alternating moves, {args.path}, downtime {DOWNTIME_MS} ms")
        print(f"{'':34} {'':6} {'ferry':30} {'qemu microvm':30} {'ratio':>6}")
        for guest in args.guests.split(","):
            mib, rate = map(int, guest.split(":"))
            measure(path, mib, rate, args.runs)
    finally:
        path.close()


if __name__ == "__main__":
    main()
