"""Tests of tools/lint_source.py: each rule sees what breaks it, and passes what is right."""
import os
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import lint_source  # noqa: E402

HEAD = "/* See it. */\n"


def found(path, text, dependencies=""):
    return [f"{line}: {message}"
            for line, message in lint_source.check(lint_source.Source(path, text), dependencies)]


class Arrows(unittest.TestCase):
    def include(self, path, name):
        return found(path, f"{HEAD}#include {name}\n")

    def test_downwards_is_allowed(self):
        for path, name in (("vmstate/a.c", '"base/err.h"'), ("daemon/a.c", '"machine/vm.h"'),
                           ("migrate/a.c", '"proto/frame.h"'), ("cli/a.c", '"proto/ferry.pb-c.h"'),
                           ("machine/devices/a.c", '"machine/bus.h"'), ("guests/a.c", '"guest.h"'),
                           ("tests/kvm/test_a.c", '"daemon/conn.h"')):
            self.assertEqual(self.include(path, name), [], path)

    def test_upwards_and_sideways_is_named(self):
        for path, name in (("base/a.c", '"vmstate/field.h"'), ("machine/a.c", '"proto/frame.h"'),
                           ("machine/a.c", '"daemon/conn.h"'), ("migrate/a.c", '"snapshot/x.h"'),
                           ("daemon/a.c", '"cli/x.h"'), ("cli/a.c", '"daemon/conn.h"'),
                           ("guests/a.c", '"base/le.h"'), ("daemon/a.c", '"tests/x.h"')):
            findings = self.include(path, name)
            self.assertEqual(len(findings), 1, path)
            self.assertRegex(findings[0], r"^2: \w+/ must not include \w+/")

    def test_include_starts_at_the_top(self):
        self.assertIn('as "base/err.h"', self.include("base/a.c", '"err.h"')[0])

    def test_generated_messages_stay_with_who_handles_them(self):
        self.assertEqual(len(self.include("machine/a.c", '"proto/worker.pb-c.h"')), 1)


class Libraries(unittest.TestCase):
    def include(self, path, name):
        return found(path, f"{HEAD}#include <{name}>\n")

    def test_each_has_its_place(self):
        for path, name in (("daemon/a.c", "uv.h"), ("machine/io.c", "uv.h"),
                           ("machine/timer.c", "uv.h"), ("machine/vm.c", "linux/kvm.h"),
                           ("vmstate/a.c", "zstd.h"), ("machine/boot/unpack.c", "lzma.h"),
                           ("snapshot/a.c", "curl/curl.h"), ("proto/a.c", "protobuf-c/protobuf-c.h"),
                           ("tests/kvm/test_a.c", "linux/kvm.h"), ("guests/a.c", "stdint.h")):
            self.assertEqual(self.include(path, name), [], path)

    def test_elsewhere_is_named(self):
        for path, name in (("machine/vm.c", "uv.h"), ("machine/bus.c", "uv.h"),
                           ("daemon/a.c", "linux/kvm.h"), ("machine/boot/elf.c", "zlib.h"),
                           ("machine/mem.c", "zstd.h"), ("daemon/a.c", "curl/curl.h"),
                           ("daemon/a.c", "protobuf-c/protobuf-c.h"), ("base/a.c", "cmocka.h"),
                           ("guests/a.c", "stdio.h")):
            self.assertEqual(len(self.include(path, name)), 1, f"{path} {name}")


class Shape(unittest.TestCase):
    def function(self, lines):
        return HEAD + "int f(void)\n{\n" + "    g();\n" * lines + "}\n"

    def test_function_length(self):
        self.assertEqual(found("base/a.c", self.function(60)), [])
        self.assertEqual(found("base/a.c", self.function(61)),
                         ["3: a function of 61 lines; it has 60 at most"])

    def test_a_table_may_be_longer(self):
        table = HEAD + "static const int t[] = {\n" + "    1,\n" * 200 + "};\n"
        self.assertEqual(found("base/a.c", table), [])

    def test_file_length(self):
        self.assertEqual(found("base/a.c", HEAD + "int x;\n" * 599), [])
        self.assertIn("601 lines", found("base/a.c", HEAD + "int x;\n" * 600)[0])

    def test_head_and_guard(self):
        self.assertIn("without a comment", found("base/a.c", "int x;\n")[0])
        self.assertIn("#pragma once", found("base/a.h", HEAD + "int x;\n")[0])
        self.assertEqual(found("base/a.h", HEAD + "#pragma once\nint x;\n"), [])


class Forbidden(unittest.TestCase):
    def code(self, line, path="base/a.c"):
        return found(path, f"{HEAD}    {line}\n")

    def test_calls(self):
        for line in ("sleep(1);", "usleep(10);", "nanosleep(&t, NULL);", "assert(x);", "abort();",
                     "strcpy(a, b);", "sprintf(a, b);", "strcat(a, b);", "char *p = alloca(n);"):
            self.assertEqual(len(self.code(line)), 1, line)

    def test_words_that_only_look_like_it(self):
        for line in ("_Static_assert(1, \"\");", "my_sleep(1);", "snprintf(a, n, b);",
                     "x = \"assert(0)\";", "/* sleep(1) would not do */", "char t[] = \"a-XXXXXX\";"):
            self.assertEqual(self.code(line), [], line)

    def test_tests_may_assert_but_not_sleep(self):
        self.assertEqual(self.code("assert(x);", "tests/sim/test_a.c"), [])
        self.assertEqual(len(self.code("sleep(1);", "tests/sim/test_a.c")), 1)

    def test_unfinished(self):
        self.assertEqual(len(self.code("/* TO" "DO: more */")), 1)
        self.assertEqual(len(found("docs/a.md", "FIX" "ME\n")), 1)

    def test_typedef_of_a_struct(self):
        self.assertEqual(len(self.code("typedef struct { int x; } y;")), 1)
        self.assertEqual(self.code("typedef int (*fn)(void);"), [])


class Text(unittest.TestCase):
    def test_white_space(self):
        self.assertEqual(found("docs/a.md", "a \n"), ["1: white space at the end of the line"])
        self.assertEqual(found("docs/a.md", "\ta\n"), ["1: a tab: indent with spaces"])
        self.assertEqual(found("docs/a.md", "a"), ["1: no newline at the end of the file"])
        self.assertEqual(found("docs/a.md", "a\n\nb\n"), [])

    def test_temporary_files(self):
        line = HEAD + 'char d[] = "/tmp/x-XXXXXX";\n'
        self.assertEqual(len(found("tests/sim/test_a.c", line)), 1)

    def test_packages_have_their_reason(self):
        text = 'deps_build="gcc a|b $deps_x"\n'
        self.assertEqual(found("tools/deps.sh", text, "`gcc` `a` `b`"), [])
        self.assertEqual(found("tools/deps.sh", text, "`gcc` `a`"),
                         ["1: docs/dependencies.md does not say why b is needed"])


if __name__ == "__main__":
    unittest.main()
