#!/usr/bin/env python3
"""vmctl snapshot export and import: files and pipes, what is taken already, and what goes wrong."""
import os
import select
import signal
import stat
import subprocess
import unittest

import outside

MIB = 1 << 20


class Transfer(outside.Outside):
    def setUp(self):
        super().setUp()
        self.file = os.path.join(self.dir, "file")

    def export(self, name, *options):
        self.must("snapshot", "export", name, self.file, *options)
        with open(self.file, "rb") as file:
            data = file.read()
        os.unlink(self.file)
        return data

    def write(self, data):
        with open(self.file, "wb") as file:
            file.write(data)

    def remove_all(self):
        for name in self.names():
            if name in self.names():
                self.must("snapshot", "rm", name, "--with-children")

    def refuses(self, text, data, *name):
        """Such a stream is refused with one sentence, and the catalogue is as it was."""
        before = self.names()
        self.write(data)
        self.fails(text, "snapshot", "import", self.file, *name)
        self.assertEqual(self.names(), before)
        self.no_leftovers()

    def await_that(self, condition):
        for _ in range(20 * outside.PATIENCE_S):
            if condition():
                return
            select.select([], [], [], 0.05)
        self.fail("it does not come")

    def test_round_trip(self):
        self.make("base", 1, mib=3)
        self.make("diff", 2, mib=3, parent=("base", 1))
        self.start()
        out = self.must("snapshot", "export", "diff", self.file).decode()
        self.assertRegex(out, f"^diff: .* written to {self.file}\n$")
        self.assertEqual(stat.S_IMODE(os.stat(self.file).st_mode), 0o600)
        before = {n: self.must_json("snapshot", "show", n) for n in self.names()}
        self.remove_all()
        self.assertEqual(self.must("snapshot", "import", self.file).decode().split(":")[0], "diff")
        self.assertEqual(self.names(), ["base", "diff"])
        for name, was in before.items():
            now = self.must_json("snapshot", "show", name)
            for key in ("uuid", "parent", "files", "config", "time"):
                self.assertEqual(now[key], was[key])
            self.must("snapshot", "verify", name)
        self.fails("snapshot 'diff' is here already", "snapshot", "import", self.file)
        self.fails("is here already", "snapshot", "import", self.file, "other")
        self.must("snapshot", "rm", "diff")  # what it stands on is here: not written again
        done = self.must_json("snapshot", "import", self.file, "again")
        self.assertEqual((done["name"], done["parent"]), ("again", "base"))
        self.assertEqual(self.names(), ["again", "base"])
        self.no_leftovers()

    def test_pipes(self):
        self.make("base", 1, mib=5)
        self.start()
        self.fails("exists: remove it first", "snapshot", "export", "base", self.dir)
        status, _, said = self.vmctl("snapshot", "export", "base", "-", "--json")
        self.assertEqual(status, 2, said)
        with subprocess.Popen(self.command("snapshot", "export", "base", "-"),
                              stdout=subprocess.PIPE) as export:
            data = export.stdout.read()
        self.assertEqual(data, self.export("base"))
        self.remove_all()
        with subprocess.Popen(self.command("snapshot", "import", "-", "piped"),
                              stdin=subprocess.PIPE) as im:
            im.communicate(data)
            self.assertEqual(im.returncode, 0)
        self.assertEqual(self.names(), ["piped"])
        fifo = os.path.join(self.dir, "fifo")
        os.mkfifo(fifo)
        with subprocess.Popen(self.command("snapshot", "export", "piped", fifo)) as export:
            with open(fifo, "rb") as reader:
                copy = reader.read()
        self.assertEqual(export.returncode, 0)
        self.remove_all()
        self.write(copy)
        self.must("snapshot", "import", self.file)
        self.assertEqual(self.names(), ["piped"])

    def test_alone(self):
        self.make("base", 1)
        self.make("diff", 2, parent=("base", 1))
        self.start()
        data = self.export("diff", "--alone")
        self.assertLess(len(data), len(self.export("diff")))
        self.must("snapshot", "rm", "diff")
        self.write(data)
        self.must("snapshot", "import", self.file)
        self.remove_all()
        self.refuses("its parent 'base' is not there", data)

    def test_names(self):
        """A taken name is refused; one of the chain gives way."""
        self.make("base", 1)
        self.make("diff", 2, parent=("base", 1))
        self.start()
        data = self.export("diff")
        self.remove_all()
        self.make("base", 3)
        self.make("diff", 4)
        self.refuses("there is a snapshot of that name", data)
        self.write(data)
        self.must("snapshot", "import", self.file, "mine")
        self.assertEqual(self.names(), ["base", "base-01010101", "diff", "mine"])
        # renamed by hand: it leaves under the name that it has
        os.rename(os.path.join(self.snapshots, "mine"), os.path.join(self.snapshots, "thine"))
        os.unlink(self.file)
        self.write(self.export("thine"))
        self.must("snapshot", "rm", "thine")
        self.assertEqual(self.must_json("snapshot", "import", self.file)["name"], "thine")

    def test_no_file_is_replaced_or_half_there(self):
        self.make("base", 1)
        self.start()
        self.write(b"mine")
        self.fails("exists: remove it first", "snapshot", "export", "base", self.file)
        with open(self.file, "rb") as file:
            self.assertEqual(file.read(), b"mine")
        os.unlink(self.file)
        self.fails("there is no snapshot 'nobody'", "snapshot", "export", "nobody", self.file)
        self.fails("cannot open the directory of", "snapshot", "export", "base",
                   os.path.join(self.dir, "no", "file"))
        self.fails("cannot write '/dev/full'", "snapshot", "export", "base", "/dev/full")
        with open(os.path.join(self.snapshots, "base", "memory"), "r+b") as memory:
            memory.truncate(4096)
        self.fails("'memory' has 4096 bytes, not 1048576", "snapshot", "export", "base", self.file)
        self.assertFalse(os.path.exists(self.file))
        self.assertEqual([n for n in os.listdir(self.dir) if "part" in n], [])

    def test_damaged_streams(self):
        self.make("base", 1)
        self.start()
        data = self.export("base")
        self.remove_all()
        self.refuses("the stream ends too early", b"")
        self.refuses("this is not an exported snapshot", b"x" * 100)
        self.refuses("the stream has version 2, known is 1", data[:4] + b"\2" + data[5:])
        for at in (7, 9, 1000, len(data) // 2, len(data) - 1):
            self.refuses("stream", data[:at])
        for at in range(8, len(data), len(data) // 16):
            self.refuses("", data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1:])
        self.refuses("stream", data + b"more")

    def test_damaged_snapshot(self):
        """What is exported unverified is refused where it is imported."""
        self.make("base", 1)
        self.start()
        with open(os.path.join(self.snapshots, "base", "memory"), "r+b") as memory:
            memory.write(b"?")
        data = self.export("base")
        self.remove_all()
        self.refuses("'memory' is damaged at offset 0", data)

    def test_golden_stream(self):
        """A stream that version 1 wrote."""
        self.start()
        golden = os.path.join(outside.SOURCE, "tests", "golden", "export-v1")
        done = self.must_json("snapshot", "import", golden)
        self.assertEqual((done["name"], done["parent"]), ("diff", "full"))
        for name in ("diff", "full"):
            self.must("snapshot", "verify", name)

    def test_cancelled(self):
        self.make("base", 1, mib=40)
        self.start()
        with subprocess.Popen(self.command("snapshot", "export", "base", "-"),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE) as export:
            export.stdout.read(1000)  # and no more: it waits for its reader
            export.send_signal(signal.SIGINT)
            said = export.stderr.read().decode()
            self.assertIn("exporting 'base' was cancelled", said)
        self.assertEqual(export.returncode, 1)
        data = self.export("base")
        self.remove_all()
        with subprocess.Popen(self.command("snapshot", "import", "-"), stdin=subprocess.PIPE,
                              stderr=subprocess.PIPE) as im:
            im.stdin.write(data[:8 * MIB])
            im.stdin.flush()
            self.await_that(lambda: os.listdir(self.snapshots))
            im.send_signal(signal.SIGINT)
            said = im.stderr.read().decode()
            self.assertIn("was cancelled; nothing of it is in the catalogue", said)
            im.stdin.close()
        self.assertEqual(im.returncode, 1)
        self.await_that(lambda: not os.listdir(self.snapshots))  # what nobody sees goes a moment later

    def test_killed(self):
        """A client that is gone, and a ferryd that is, leave nothing."""
        self.make("base", 1, mib=40)
        self.start()
        data = self.export("base")
        self.remove_all()
        for victim in ("client", "ferryd"):
            with subprocess.Popen(self.command("snapshot", "import", "-"), stdin=subprocess.PIPE,
                                  stderr=subprocess.PIPE) as im:
                im.stdin.write(data[:8 * MIB])
                im.stdin.flush()
                self.await_that(lambda: os.listdir(self.snapshots))
                if victim == "client":
                    im.kill()
                else:
                    self.end(signal.SIGKILL, -signal.SIGKILL)
                im.stderr.read()
                try:
                    im.stdin.close()
                except BrokenPipeError:
                    pass
            if victim == "ferryd":
                self.assertEqual(im.returncode, 1)
                self.start()
            self.await_that(lambda: not os.listdir(self.snapshots))

    def test_many_at_once_and_memory_is_bounded(self):
        self.make("base", 1, mib=64)
        self.start()
        readers = [subprocess.Popen(self.command("snapshot", "export", "base", "-"),
                                    stdout=subprocess.PIPE) for _ in range(4)]
        for reader in readers:
            reader.stdout.read(1)
        self.assertEqual(self.names(), ["base"])
        lengths = {len(reader.stdout.read()) for reader in readers}
        self.assertEqual(len(lengths), 1)
        for reader in readers:
            self.assertEqual(reader.wait(), 0)
            reader.stdout.close()


if __name__ == "__main__":
    outside.main()
