"""What the measurements share: a ferryd of their own, QEMU with the same guest, the memory of a
process, alternating runs, rows of a table."""
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

BUILD = os.environ.get("FERRY_BUILD", os.path.join(os.path.dirname(__file__), "..", "build"))
QEMU = shutil.which("qemu-system-x86_64")


def end_early(*_):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it may come twice, and cleaning up takes a while
    sys.exit(143)


def need_kvm():
    """The first call of a measurement: one that is ended from outside cleans up, too."""
    signal.signal(signal.SIGTERM, end_early)
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        sys.exit(f"{os.path.basename(sys.argv[0])}: /dev/kvm is not usable here")


def program(name):
    return os.path.join(BUILD, "bin", name)


def guest(name):
    return os.path.join(BUILD, "guests", name + ".elf")


class Ferry:
    """A ferryd on roots of its own; `where` is the directory that they are made in, `options` are
    more of its own, `inside` is a command that it is run by, as nsenter."""

    def __init__(self, where=None, options=(), inside=()):
        self.dir = tempfile.mkdtemp(prefix="fb-", dir=where)
        self.root = os.path.join(self.dir, "root")
        self.run = os.path.join(self.dir, "run")
        self.log = open(os.path.join(self.dir, "log"), "wb")
        self.daemon = subprocess.Popen([*inside, program("ferryd"), "--root", self.root, "--run",
                                        self.run, *options],
                                       stdout=self.log, stderr=self.log,
                                       start_new_session=True)  # who ends us must not end it first
        while subprocess.run(self.argv("version"), capture_output=True, check=False).returncode:
            if self.daemon.poll() is not None:
                sys.exit("ferryd does not start")

    def address(self):
        """Where it listens for other hosts."""
        with open(self.log.name, encoding="utf-8") as log:
            return re.search(r"listens for other hosts on (\S+)", log.read())[1]

    def argv(self, *args):
        return [program("vmctl"), "--run", self.run, *args]

    def vmctl(self, *args):
        done = subprocess.run(self.argv(*args), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"vmctl {' '.join(args)}: {done.stderr.strip()}")
        return done.stdout

    def start(self, name, kernel, memory_mib, cmdline):
        self.vmctl("start", name, "--kernel", guest(kernel), "--memory", f"{memory_mib}M",
                   "--cmdline", cmdline)

    def console(self, name):
        """A vmctl attached to the guest's console; ended with end()."""
        return subprocess.Popen(self.argv("console", name), stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def drop(self, name):
        self.vmctl("kill", name)
        self.vmctl("rm", name)

    def show(self, name):
        return json.loads(self.vmctl("show", name, "--json"))

    def pid(self, name):
        return self.show(name)["pid"]

    def close(self):
        """Also after a measure that failed half way: no guest outlives it."""
        listed = subprocess.run(self.argv("list", "--names"), capture_output=True, text=True, check=False)
        for name in listed.stdout.split():
            subprocess.run(self.argv("kill", name), capture_output=True, check=False)
        self.daemon.terminate()
        self.daemon.wait()
        self.log.close()
        shutil.rmtree(self.dir)


def qemu_argv(kernel, memory_mib, cmdline, *more):
    return [QEMU, "-M", "microvm,accel=kvm", "-m", str(memory_mib), "-nodefaults", "-no-user-config",
            "-display", "none", "-no-reboot", "-serial", "stdio", "-kernel", guest(kernel),
            "-append", cmdline, *more]


def qemu_start(kernel, memory_mib, cmdline, *more):
    """Its console is .stdout; ended with end()."""
    return subprocess.Popen(qemu_argv(kernel, memory_mib, cmdline, *more), stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def end(process):
    process.kill()
    process.wait()
    process.stdout.close()


def rollup(pid):
    """Kinds of memory of a process in KiB: private (only its own), guest RAM, shared with others."""
    kinds = {"private": 0, "guest": 0, "shared": 0}
    is_guest = False
    with open(f"/proc/{pid}/smaps", encoding="ascii") as smaps:
        for line in smaps:
            if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                is_guest = "guest-ram" in line
            match = re.match(r"(\w+):\s+(\d+) kB", line)
            if not match:
                continue
            key, kib = match.group(1), int(match.group(2))
            if key in ("Private_Clean", "Private_Dirty"):
                kinds["guest" if is_guest else "private"] += kib
            elif key in ("Shared_Clean", "Shared_Dirty"):
                kinds["guest" if is_guest else "shared"] += kib
    return kinds


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def alternate(runs, *measures):
    """Runs the measures in turn, after one turn to warm up; a list of figures for each."""
    figures = [[] for _ in measures]
    for run in range(runs + 1):
        for index, measure in enumerate(measures):
            value = measure()
            if run:
                figures[index].append(value)
    return figures


def spread(values, scale=1.0):
    """'median (lowest .. highest)', or '-' for no values."""
    if not values:
        return "-"
    low, mid, high = (x * scale for x in (min(values), statistics.median(values), max(values)))
    return f"{mid:10.1f} ({low:.1f} .. {high:.1f})"


def head(runs):
    print(f"{f'medians of {runs} alternating runs':34} {'':6} {'ferry':30} {'qemu microvm':30} {'ratio':>6}")


def row(name, unit, ferry, qemu=(), scale=1.0, bar=None):
    """One line of the table. `bar` is the most (or, negative, the least) that the median of ferry
    may be, in the row's unit; met or missed is printed beside."""
    ratio = f"{statistics.median(ferry) / statistics.median(qemu):.2f}" if qemu else "-"
    print(f"{name:34} {unit:6} {spread(ferry, scale):30} {spread(qemu, scale):30} {ratio:>6}"
          f"{judge(statistics.median(ferry) * scale, bar)}", flush=True)


def judge(value, bar):
    if bar is None:
        return ""
    met = value <= bar if bar >= 0 else value >= -bar
    return f"  bar {'<=' if bar >= 0 else '>='} {abs(bar):g}: {'met' if met else 'MISSED'}"
