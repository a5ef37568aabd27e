"""The rules of the house that no outside tool knows, as tables and small scanners.

Each check takes a Source and yields (line, message). A rule is one row or one function here; who may
include whom is DESIGN's diagram, written down once more in ARROWS and LIBRARIES.
"""
import re

# Folder -> the folders that it may include besides itself. None: everything.
ARROWS = {
    "base": (),
    "vmstate": ("base",),
    "proto": ("base",),
    "machine": ("vmstate", "base"),
    "migrate": ("vmstate", "proto", "base"),
    "snapshot": ("vmstate", "proto", "base"),
    "daemon": ("machine", "migrate", "snapshot", "vmstate", "proto", "base"),
    "cli": ("proto", "base"),
    "guests": (),
    "tests": None,
    "bench": None,
}
FREE = ("tests", "bench")
PRODUCT = ("base", "vmstate", "proto", "machine", "migrate", "snapshot", "daemon", "cli")

# Header of an outside library -> its name and the only places that include it.
LIBRARIES = (
    (r"uv\.h", "libuv", ("daemon/", "machine/io.c", "machine/io.h", "machine/timer.c")),
    (r"(linux|asm)/kvm.*\.h", "the KVM interface", ("machine/",)),
    (r"liburing\.h", "liburing", ("machine/disk_ring.c",)),
    (r"zstd.*\.h", "zstd", ("vmstate/", "machine/boot/unpack.c")),
    (r"lz4.*\.h", "lz4", ("machine/boot/unpack.c",)),
    (r"(zlib|zconf)\.h", "zlib", ("machine/boot/unpack.c",)),
    (r"lzma.*", "lzma", ("machine/boot/unpack.c",)),
    (r"curl/.*", "libcurl", ("snapshot/",)),
    (r"openssl/.*", "OpenSSL", ("migrate/stream_tls.c", "migrate/tls_error.c",
                                "migrate/tls_identity.c", "migrate/tls_session.c")),
    (r"(protobuf-c|google)/.*", "protobuf-c", ("proto/",)),
    (r"cmocka\.h", "cmocka", ()),
)
# A message's generated code is for who handles that message.
GENERATED = ("proto/", "daemon/", "cli/", "migrate/", "snapshot/")
# What a guest may include of the compiler: it has no library below it.
FREESTANDING = ("stdint.h", "stddef.h", "stdbool.h", "stdarg.h", "limits.h", "immintrin.h",
                "x86intrin.h", "cpuid.h")

FILE_LINES = 600
FUNCTION_LINES = 60

# Pattern in code (comments and strings blanked), where, what to say.
EVERYWHERE = PRODUCT + FREE + ("guests",)
FORBIDDEN = (
    (r"\bu?sleep\s*\(", EVERYWHERE, "waits by the clock: wait for the event itself"),
    (r"\bnanosleep\s*\(|\bclock_nanosleep\s*\(", PRODUCT, "waits by the clock: wait for the event"),
    (r"\b(assert|abort)\s*\(", PRODUCT, "ends the process: return an error that names the field"),
    (r"\b(strcpy|strcat|stpcpy|sprintf|vsprintf|gets)\s*\(", EVERYWHERE,
     "knows no bound: use snprintf or a struct buf"),
    (r"\balloca\s*\(", EVERYWHERE, "is unbounded stack: use a fixed array or the heap"),
    (r"^\s*typedef\s+(struct|union|enum)\b", EVERYWHERE, "hides a struct behind a typedef"),
)
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]')
BLANKED = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)


class Source:
    """A text file: its path from the top, its lines, and its code without comments and strings."""

    def __init__(self, path, text):
        self.path = path
        self.folder = path.split("/")[0] if "/" in path else ""
        self.text = text
        self.lines = text.split("\n")
        if self.lines and self.lines[-1] == "":
            self.lines.pop()
        self.is_c = path.endswith((".c", ".h"))
        self.code = BLANKED.sub(blank, text).split("\n") if self.is_c else []

    def includes(self):
        """(line, is it a <system> one, name)"""
        for number, line in enumerate(self.lines, 1):
            match = INCLUDE.match(line)
            if match:
                yield number, match.group(1) == "<", match.group(2)


def blank(match):
    return re.sub(r"[^\n]", " ", match.group(0))


def among(path, places):
    return any(path == p or (p.endswith("/") and path.startswith(p)) for p in places)


def check_arrows(source):
    if not source.is_c or source.folder not in ARROWS:
        return
    allowed = ARROWS[source.folder]
    for number, system, name in source.includes():
        if system:
            continue
        if "/" not in name and source.folder == "guests":
            continue  # a small world of its own, built with its own flags
        if "/" not in name:
            yield number, f'"{name}": include from the top of the tree, as "{source.folder}/{name}"'
            continue
        target = name.split("/")[0]
        if allowed is None or target == source.folder:
            continue
        if target not in allowed:
            may = ", ".join(allowed) or "nothing but itself"
            yield number, (f"{source.folder}/ must not include {target}/ (\"{name}\"): "
                           f"it may include {may}")
        elif name.endswith(".pb-c.h") and not among(source.path, GENERATED):
            yield number, f'"{name}": generated messages are for {", ".join(GENERATED)}'


def check_libraries(source):
    if not source.is_c or source.folder in FREE:
        return
    for number, system, name in source.includes():
        if source.folder == "guests" and system and name not in FREESTANDING:
            yield number, f"<{name}>: a guest has no library below it"
            continue
        for pattern, library, places in LIBRARIES:
            if re.fullmatch(pattern, name) and not among(source.path, places):
                where = ", ".join(places) or "tests/"
                yield number, f"<{name}>: {library} is only for {where}"


def check_shape(source):
    """File length, function length, how a C file begins."""
    if len(source.lines) > FILE_LINES:
        yield FILE_LINES + 1, f"{len(source.lines)} lines; a file has {FILE_LINES} at most"
    if not source.is_c:
        return
    if not source.lines or not source.lines[0].startswith(("/*", "//")):
        yield 1, "begins without a comment that says what it is"
    if (source.path.endswith(".h") and source.folder != "guests" and
            "#pragma once" not in source.lines):
        yield 1, "a header without #pragma once"
    begin = 0
    for number, line in enumerate(source.code, 1):
        if line == "{":
            begin = number
        elif line.rstrip() == "}" and begin:
            if number - begin - 1 > FUNCTION_LINES:
                yield begin, (f"a function of {number - begin - 1} lines; "
                              f"it has {FUNCTION_LINES} at most")
            begin = 0


def check_forbidden(source):
    for number, line in enumerate(source.code, 1):
        for pattern, folders, why in FORBIDDEN:
            if source.folder not in folders:
                continue
            match = re.search(pattern, line)
            if match:
                yield number, f"{match.group(0).strip().rstrip('(').strip()} {why}"
    for number, line in enumerate(source.lines, 1):
        match = UNFINISHED.search(line)
        if match:
            yield number, f"{match.group(0)}: finish it, or leave it out"


def check_temp(source):
    """Files of a test go where ./dev test sees what is left behind."""
    if source.is_c and source.path != "tests/temp.h":
        for number, line in enumerate(source.lines, 1):
            if '"/tmp' in line:
                yield number, "/tmp by name: a test makes its directory with temp_dir (tests/temp.h)"


def check_spaces(source):
    for number, line in enumerate(source.lines, 1):
        if line != line.rstrip():
            yield number, "white space at the end of the line"
        if "\t" in line:
            yield number, "a tab: indent with spaces"
    if source.text and not source.text.endswith("\n"):
        yield len(source.lines), "no newline at the end of the file"


def check_packages(source, dependencies=""):
    """Every package that ./dev installs has its reason in docs/dependencies.md."""
    if source.path != "tools/deps.sh":
        return
    for match in re.finditer(r'deps_\w+="([^"]*)"', source.text):
        number = source.text.count("\n", 0, match.start()) + 1
        for name in re.split(r"[\s|]+", match.group(1)):
            if name and not name.startswith("$") and f"`{name}`" not in dependencies:
                yield number, f"docs/dependencies.md does not say why {name} is needed"


CHECKS = (check_arrows, check_libraries, check_shape, check_forbidden, check_temp, check_spaces)


def check(source, dependencies=""):
    """All findings of one file, in the order of its lines."""
    found = [finding for rule in CHECKS for finding in rule(source)]
    found += check_packages(source, dependencies)
    return sorted(found)
