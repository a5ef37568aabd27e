"""A ferryd on roots of its own and the programs of this build, for tests from outside (test_*.py)."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import unittest

BUILD = os.environ["FERRY_BUILD"]
SOURCE = os.environ["FERRY_SOURCE"]
PATIENCE_S = 60
SKIPPED = 77


class Outside(unittest.TestCase):
    """Each test has a directory with root/ and run/, and ferryd once it was started."""

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="t")
        self.root = os.path.join(self.dir, "root")
        self.snapshots = os.path.join(self.root, "snapshots")
        self.run_dir = os.path.join(self.dir, "run")
        self.ferryd = None
        os.makedirs(self.snapshots, mode=0o700)

    def tearDown(self):
        if self.ferryd:
            self.end(signal.SIGTERM, 0)
        shutil.rmtree(self.dir)

    def start(self):
        """Starts ferryd and waits for its READY=1."""
        path = os.path.join(self.dir, "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(path)
            notify.settimeout(PATIENCE_S)
            with open(os.path.join(self.dir, "log"), "ab") as log:
                self.ferryd = subprocess.Popen(
                    [f"{BUILD}/bin/ferryd", "--root", self.root, "--run", self.run_dir, "--worker",
                     f"{BUILD}/tests/fake-worker", "--kvm", "/dev/null"],
                    stderr=log, env=dict(os.environ, NOTIFY_SOCKET=path))
            self.assertEqual(notify.recv(100), b"READY=1")
        os.unlink(path)

    def end(self, number, status):
        """Ends ferryd by a signal."""
        ferryd, self.ferryd = self.ferryd, None
        ferryd.send_signal(number)
        self.assertEqual(ferryd.wait(PATIENCE_S), status, self.log())

    def log(self):
        with open(os.path.join(self.dir, "log"), encoding="utf-8") as log:
            return log.read()[-4000:]

    def command(self, *words):
        return [f"{BUILD}/bin/vmctl", "--run", self.run_dir, *map(str, words)]

    def vmctl(self, *words, env=None, stdin=subprocess.DEVNULL):
        """Status, output and complaint of one command."""
        done = subprocess.run(self.command(*words), stdin=stdin, capture_output=True, check=False,
                              timeout=PATIENCE_S, env=dict(os.environ, **(env or {})))
        return done.returncode, done.stdout, done.stderr.decode()

    def must(self, *words, **more):
        status, out, complaint = self.vmctl(*words, **more)
        self.assertEqual(status, 0, complaint)
        return out

    def fails(self, text, *words, **more):
        status, out, complaint = self.vmctl(*words, **more)
        self.assertEqual(status, 1, complaint)
        self.assertIn(text, complaint)
        self.assertNotIn("Sanitizer", complaint)
        self.assertEqual(out, b"")

    def must_json(self, *words, **more):
        return json.loads(self.must(*words, "--json", **more))

    def make(self, name, number, mib=1, age=0, vm="web", parent=()):
        """A snapshot; `parent` is (name, number)."""
        subprocess.run([f"{BUILD}/tests/make-snapshot", self.snapshots, name, vm, str(number),
                        str(mib), str(age), *map(str, parent)], check=True)

    def names(self):
        return [s["name"] for s in self.must_json("snapshot", "list")["snapshots"]]

    def no_leftovers(self):
        self.assertEqual([n for n in os.listdir(self.snapshots) if n.startswith(".")], [])


def main():
    program = unittest.main(exit=False, verbosity=2)
    sys.exit(0 if program.result.wasSuccessful() else 1)
