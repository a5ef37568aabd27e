#!/usr/bin/env python3
"""Prints where the kernel of the tests' Linux guests lies: vmlinux and bzImage in one directory.

It is built from Debian's package linux-source-6.1 with kernel.config and the CHANGES below, once:
the result stays in the cache ($FERRY_CACHE, else $XDG_CACHE_HOME/ferry, else ~/.cache/ferry) under a
name that follows from all that it is made of. A lock lets one builder work while others wait for the
result; it is built aside and renamed, so nobody sees half of it, and what a killed builder left is
removed by the next one.

Ends with 77 and the reason where it cannot be built; with 1 and the end of the log when that fails.
"""
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE = "linux-source-6.1"
SOURCE = f"/usr/src/{PACKAGE}.tar.xz"
CONFIG = os.path.join(HERE, "kernel.config")
RESULTS = (("vmlinux", "vmlinux"), ("bzImage", "arch/x86/boot/bzImage"))
TOOLS = ("gcc", "make", "flex", "bison", "bc", "xz", "zstd")

# Big parts that this kernel has nothing of; their Kconfig files are read all the same.
LEFT_OUT = ("*/Documentation/*/*", "*/drivers/gpu/*.[ch]", "*/drivers/net/ethernet/*.[ch]",
            "*/drivers/net/wireless/*.[ch]", "*/drivers/media/*.[ch]", "*/drivers/scsi/*.[ch]",
            "*/drivers/staging/*.[ch]", "*/sound/*.[ch]", "*/tools/perf/*", "*/tools/testing/*",
            "*/arch/arm/*.[chS]", "*/arch/arm64/*.[chS]", "*/arch/mips/*.[chS]",
            "*/arch/powerpc/*.[chS]", "*.dts", "*.dtsi")

# (file, what is there once, what stands there instead). A KVM without VT-x or SVM runs the guest's
# user code natively and emulates its kernel, but not all of it.
CHANGES = (
    # int3 is not emulated: it is not tried, and not used to end in a triple fault.
    ("arch/x86/kernel/alternative.c",
     "\tint3_selftest();\n",
     "\t(void)int3_selftest;\n"),
    ("arch/x86/kernel/reboot.c",
     '__asm__ __volatile__("int3");',
     '__asm__ __volatile__("ud2");'),
    # Nor is fwait.
    ("arch/x86/kernel/fpu/core.c",
     '\t\tasm volatile("1: fwait\\n"\n\t\t\t     "2:\\n"\n\t\t\t     _ASM_EXTABLE(1b, 2b));\n',
     ""),
    # SYSCALL arrives with all in place but CS and SS, which are still the program's: the fetch of
    # its entry faults. It is told by that address, and goes on as the entry would.
    ("arch/x86/mm/fault.c",
     "#include <asm/irq_stack.h>\n",
     "#include <asm/irq_stack.h>\n#include <asm/proto.h>\n#include <asm/syscall.h>\n"),
    ("arch/x86/mm/fault.c",
     "DEFINE_IDTENTRY_RAW_ERRORCODE(exc_page_fault)\n"
     "{\n"
     "\tunsigned long address = read_cr2();\n"
     "\tirqentry_state_t state;\n",
     "DEFINE_IDTENTRY_RAW_ERRORCODE(exc_page_fault)\n"
     "{\n"
     "\tunsigned long address = read_cr2();\n"
     "\tunsigned long entry = (unsigned long)entry_SYSCALL_64;\n"
     "\tirqentry_state_t state;\n"
     "\n"
     "\tif (user_mode(regs) && regs->ip == entry && address == entry) {\n"
     "\t\tregs->ip = regs->cx;\n"
     "\t\tregs->flags = regs->r11;\n"
     "\t\tregs->orig_ax = regs->ax;\n"
     "\t\tregs->ax = -ENOSYS;\n"
     "\t\tdo_syscall_64(regs, (int)regs->orig_ax);\n"
     "\t\treturn;\n"
     "\t}\n"),
)


class Failed(Exception):
    """The kernel cannot be built; the text says why."""


def tell(text):
    print(f"kernel: {text}", file=sys.stderr, flush=True)


def missing():
    """Why no kernel can be built here; None when it can."""
    if not os.path.exists(SOURCE):
        return f"{SOURCE} is missing: install {PACKAGE}, which Debian 12 has"
    lacks = [t for t in TOOLS if not shutil.which(t)]
    if not os.path.exists("/usr/include/libelf.h"):
        lacks.append("libelf-dev")
    return f"these are missing: {', '.join(lacks)}" if lacks else None


def said(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def key():
    """Follows from everything that the kernel is made of."""
    parts = [said("dpkg-query", "-W", "-f=${Version}", PACKAGE), str(os.path.getsize(SOURCE)),
             said("gcc", "-dumpfullversion"), repr(CHANGES), repr(RESULTS)]
    with open(CONFIG, encoding="utf-8") as f:
        parts.append(f.read())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def cache_dir():
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    path = os.environ.get("FERRY_CACHE") or os.path.join(home, "ferry")
    os.makedirs(path, exist_ok=True)
    return path


def run(log, *command):
    with open(log, "ab") as out:
        status = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                check=False).returncode
    if status:
        with open(log, errors="replace", encoding="utf-8") as f:
            end = "".join(f.readlines()[-30:])
        raise Failed(f"{end}{command[0]} {command[1]} failed with status {status}")


def change(tree):
    for name, old, new in CHANGES:
        path = os.path.join(tree, name)
        with open(path, encoding="utf-8") as f:
            text = f.read()
        if text.count(old) != 1:
            raise Failed(f"{name} is not what CHANGES knows: it has {text.count(old)} times {old!r}")
        with open(path, "w", encoding="utf-8") as f:
            f.write(text.replace(old, new))


def settings(path):
    """Each option of a configuration as its line; one that is off may be left out."""
    found = {}
    with open(path, encoding="utf-8") as f:
        for line in f.read().splitlines():
            if line.startswith("# CONFIG_") and line.endswith(" is not set"):
                found[line.split()[1]] = None
            elif line.startswith("CONFIG_"):
                found[line.split("=")[0]] = line
    return found


def configure(log, tree, make):
    path = os.path.join(tree, ".config")
    run(log, *make, "tinyconfig")
    with open(CONFIG, encoding="utf-8") as wanted, open(path, "a", encoding="utf-8") as out:
        out.write(wanted.read())
    run(log, *make, "olddefconfig")
    got = settings(path)
    for option, line in settings(CONFIG).items():
        if got.get(option) != line:
            raise Failed(f"{option} is '{got.get(option)}' in the end, not '{line}'")


def build(work):
    tree, out, log = (os.path.join(work, n) for n in ("tree", "out", "log"))
    jobs = os.environ.get("FERRY_JOBS") or str(os.cpu_count() or 1)
    make = ("make", "-C", tree, f"-j{jobs}", "ARCH=x86", "KBUILD_BUILD_USER=ferry",
            "KBUILD_BUILD_HOST=ferry", "KBUILD_BUILD_TIMESTAMP=1970-01-01")
    os.mkdir(tree)
    run(log, "tar", "-xf", SOURCE, "-C", tree, "--strip-components=1", "--wildcards",
        *(f"--exclude={pattern}" for pattern in LEFT_OUT))
    change(tree)
    configure(log, tree, make)
    run(log, *make, *(name for name, _ in RESULTS))
    os.mkdir(out)
    for name, made in RESULTS:
        shutil.copyfile(os.path.join(tree, made), os.path.join(out, name))
    return out


@contextlib.contextmanager
def locked(path):
    with open(path, "w", encoding="utf-8") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def make_it(cache, name):
    """Under the lock: whatever else begins with the name is what a killed builder left."""
    begin = f".{name}."
    for left in os.listdir(cache):
        if left.startswith(begin):
            shutil.rmtree(os.path.join(cache, left))
    with tempfile.TemporaryDirectory(prefix=begin, dir=cache) as work:
        tell(f"building {PACKAGE} once, for a few minutes, into {cache}/{name}")
        os.rename(build(work), os.path.join(cache, name))


def main():
    why = missing()
    if why:
        tell(f"skipped: {why}")
        return 77
    cache = cache_dir()
    name = f"linux-{key()}"
    path = os.path.join(cache, name)
    try:
        if not os.path.isdir(path):
            with locked(f"{path}.lock"):
                if not os.path.isdir(path):
                    make_it(cache, name)
    except (Failed, OSError) as e:
        tell(str(e))
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
