"""The outside judges: clang-format, clang-tidy and cppcheck, found, run in parallel and cached."""
import concurrent.futures
import hashlib
import json
import os
import re
import shutil
import subprocess

import lint_source

BUILD = "build-fuzz"  # clang's build: its compile commands are in clang's own words
OTHER_BUILDS = ("tests/fuzz/replay.c",)  # in place of libFuzzer where there is none
JOBS = int(os.environ.get("FERRY_JOBS") or os.cpu_count() or 1)


class LeftOut(Exception):
    """The check cannot be made here; the text says why."""


def run(*command):
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          check=False)


def find(name, version):
    """The path of that tool in that version, which judges; `version` begins its number."""
    for candidate in (f"{name}-{version}", name):
        path = shutil.which(candidate)
        if not path:
            continue
        number = re.search(r"\d+\.\d+", run(path, "--version").stdout)
        if number and f"{number.group(0)}.".startswith(f"{version}."):
            return path
        seen = number.group(0) if number else "another"
    if not shutil.which(name):
        raise LeftOut(f"{name} is not installed")
    raise LeftOut(f"{name} {version} judges, version {seen} is installed")


def units(names):
    return [n for n in names if n.endswith(".c")]


def run_format(names, fix):
    tool = find("clang-format", "14")
    files = [n for n in names if n.endswith((".c", ".h"))]
    result = run(tool, *(["-i"] if fix else ["--dry-run"]), *files)
    found = re.findall(r"^(\S+?:\d+):\d+: (?:warning|error): (.*?) \[", result.stderr, re.M)
    if result.returncode and not found:
        return [result.stderr.strip()]
    lines = dict.fromkeys(where for where, _ in found)
    return [f"{where}: not laid out as .clang-format says: ./dev fmt" for where in lines]


class Digest:
    """The digest of a file and of all that it includes of this tree, each file read once."""

    def __init__(self, roots):
        self.roots = roots
        self.seen = {}

    def read(self, name):
        """(digest of the content, files it includes), both empty for a file that is not there."""
        if name not in self.seen:
            try:
                with open(name, "rb") as f:
                    data = f.read()
            except OSError:
                self.seen[name] = (b"", [])
                return self.seen[name]
            source = lint_source.Source(name, data.decode("utf-8", "replace"))
            includes = [os.path.join(root, n) for _, system, n in source.includes() if not system
                        for root in self.roots]
            self.seen[name] = (hashlib.sha256(data).digest(), includes)
        return self.seen[name]

    def of(self, name):
        total, todo, done = hashlib.sha256(), [name], set()
        while todo:
            current = os.path.normpath(todo.pop())
            if current in done:
                continue
            done.add(current)
            digest, includes = self.read(current)
            total.update(digest)
            todo += sorted(includes)
        return total


def tidy_key(digest, entry, name, judge):
    key = digest.of(name)
    key.update(judge)
    key.update((entry.get("command") or " ".join(entry.get("arguments", []))).encode())
    return key.hexdigest()


def tidy_one(tool, name):
    result = run(tool, "-p", BUILD, "--quiet", name)
    top = os.getcwd() + "/"
    found = re.findall(r"^(\S+?):(\d+):\d+: (?:warning|error): (.*)$", result.stdout, re.M)
    findings = [f"{path.replace(top, '')}:{line}: {message}" for path, line, message in found]
    if result.returncode and not findings:
        findings = [f"{name}:1: clang-tidy failed: {(result.stderr or result.stdout).strip()}"]
    return findings


def run_tidy(names, fix):
    tool = find("clang-tidy", "14")
    commands = os.path.join(BUILD, "compile_commands.json")
    if not os.path.exists(commands):
        raise LeftOut(f"{BUILD} is not configured: ./dev lint does that")
    with open(commands, encoding="utf-8") as f:
        entries = {os.path.relpath(e["file"]): e for e in json.load(f)}
    judge = run(tool, "--version").stdout.encode()
    for config in (n for n in names if os.path.basename(n) == ".clang-tidy"):
        with open(config, "rb") as f:
            judge += f.read()
    cache = os.path.join(BUILD, "tidy-cache")
    os.makedirs(cache, exist_ok=True)
    digest = Digest([".", os.path.join(BUILD, "generated")])
    keys = {n: tidy_key(digest, entries[n], n, judge) for n in units(names) if n in entries}
    clean = set(os.listdir(cache))
    for stale in clean - set(keys.values()):
        os.unlink(os.path.join(cache, stale))
    findings = [f"{n}:1: nothing compiles this file" for n in units(names)
                if n not in entries and n not in OTHER_BUILDS]
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        work = [n for n, key in keys.items() if key not in clean]
        for name, found in zip(work, pool.map(lambda n: tidy_one(tool, n), work)):
            findings += found
            if not found:
                with open(os.path.join(cache, keys[name]), "w", encoding="utf-8"):
                    pass
    return list(dict.fromkeys(findings))  # a finding in a header is seen by each that includes it


def run_cppcheck(names, fix):
    tool = find("cppcheck", "2.10")
    cache = os.path.join(BUILD, "cppcheck-cache")
    os.makedirs(cache, exist_ok=True)
    result = run(tool, "--enable=warning,performance,portability", "--inline-suppr", "--quiet",
                 "--std=c11", "--platform=unix64", f"-j{JOBS}", "-I.",
                 # <sys/queue.h>, which it does not read
                 "-DTAILQ_HEAD(name,type)=struct name{struct type*tqh_first;struct type**tqh_last;}",
                 "-DTAILQ_ENTRY(type)=struct{struct type*tqe_next;struct type**tqe_prev;}",
                 "-DTAILQ_FIRST(head)=((head)->tqh_first)",
                 "-DTAILQ_NEXT(elm,field)=((elm)->field.tqe_next)",
                 "-DTAILQ_FOREACH(v,head,f)=for((v)=(head)->tqh_first;(v);(v)=(v)->f.tqe_next)",
                 f"--cppcheck-build-dir={cache}", "--suppressions-list=tools/cppcheck.txt",
                 "--template={file}:{line}: {message} [{id}]", *units(names))
    findings = [line for line in result.stderr.splitlines() if re.match(r"\S+:\d+: ", line)]
    if result.returncode and not findings:
        findings = [f"cppcheck failed: {(result.stderr or result.stdout).strip()}"]
    return findings
