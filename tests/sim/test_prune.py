#!/usr/bin/env python3
"""vmctl snapshot rm and prune; snapshots that somebody copied or renamed by hand; leftovers."""
import fcntl
import os
import select
import shutil
import signal
import unittest

import outside

DAY = 86400


class Prune(outside.Outside):
    def make_some(self):
        self.make("old", 1, age=9 * DAY)
        self.make("base", 2, age=8 * DAY)
        self.make("diff", 3, age=1 * DAY, parent=("base", 2))
        self.make("new", 4)
        self.make("other", 5, age=30 * DAY, vm="db")
        self.start()

    def test_prune_by_number(self):
        self.make_some()
        plan = self.must_json("snapshot", "prune", "--keep", "2", "--dry-run")
        self.assertTrue(plan["dry_run"])
        self.assertEqual([s["name"] for s in plan["removed"]], ["old"])
        self.assertEqual({s["name"]: s["why"] for s in plan["kept"]},
                         {"base": "needed by 'diff'", "diff": "one of the newest 2 of 'web'",
                          "new": "one of the newest 2 of 'web'", "other": "one of the newest 2 of 'db'"})
        self.assertEqual(len(self.names()), 5)
        done = self.must_json("snapshot", "prune", "--keep", "2")
        self.assertEqual(done["removed"], plan["removed"])
        self.assertEqual(done["kept"], plan["kept"])
        self.assertEqual(self.names(), ["base", "diff", "new", "other"])
        self.must("snapshot", "prune", "--keep", "1", "web")
        self.assertEqual(self.names(), ["new", "other"])
        self.no_leftovers()

    def test_prune_by_age(self):
        self.make_some()
        out = self.must("snapshot", "prune", "--older", "7d").decode()
        self.assertEqual([line.split()[:2] for line in out.splitlines()],
                         [["removed", "old"], ["removed", "other"], ["kept", "base"],
                          ["kept", "diff"], ["kept", "new"]])
        self.assertIn("younger than 7d", out)
        self.assertEqual(self.names(), ["base", "diff", "new"])
        # both rules: only what both let go
        self.must("snapshot", "prune", "--older", "1h", "--keep", "1")
        self.assertEqual(self.names(), ["new"])

    def test_rm_with_children(self):
        self.make_some()
        self.make("leaf", 6, parent=("diff", 3))
        self.fails("snapshot 'base' is needed by diff", "snapshot", "rm", "base")
        out = self.must("snapshot", "rm", "base", "--with-children").decode()
        self.assertEqual(out, "removed leaf\nremoved diff\nremoved base\n")
        self.assertEqual(self.names(), ["new", "old", "other"])
        self.no_leftovers()

    def test_many_verdicts_come_in_parts(self):
        self.make("a", 1, age=DAY)
        self.start()
        path = os.path.join(self.snapshots, "broken-")
        for number in range(2500):
            os.mkdir(path + str(number))
        done = self.must_json("snapshot", "prune", "--older", "1h")
        self.assertEqual(len(done["removed"]), 1)
        self.assertEqual(len(done["kept"]), 2500)

    def test_by_hand(self):
        self.make("base", 1)
        self.make("diff", 2, parent=("base", 1))
        self.start()
        copy = os.path.join(self.snapshots, "copy")
        shutil.copytree(os.path.join(self.snapshots, "base"), copy)
        said = "it is a copy of 'base', with the same uuid"
        listed = self.must_json("snapshot", "list")
        self.assertEqual([s["name"] for s in listed["snapshots"]], ["base", "diff"])
        self.assertIn(said, listed["broken"][0])
        for words in (("snapshot", "show", "copy"), ("snapshot", "verify", "copy"),
                      ("restore", "copy")):
            self.fails(said, *words)
        self.must("snapshot", "rm", "copy")
        os.rename(os.path.join(self.snapshots, "base"), copy)
        listed = self.must_json("snapshot", "list")
        self.assertEqual([s["name"] for s in listed["snapshots"]], ["copy", "diff"])
        self.assertEqual(listed["broken"], [])
        self.must("snapshot", "verify", "copy")
        self.assertEqual(self.must_json("snapshot", "show", "copy")["name"], "copy")
        self.fails("snapshot 'copy' is needed by diff", "snapshot", "rm", "copy")

    def test_leftovers(self):
        """What nobody writes goes at the start, what a worker still writes when it lets go."""
        dead, busy = (os.path.join(self.snapshots, ".tmp-" + n) for n in ("dead", "busy"))
        for path in (dead, busy):
            os.mkdir(path)
            with open(os.path.join(path, "memory"), "wb") as memory:
                memory.write(bytes(4096))
        lock = os.open(busy, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        self.start()
        self.assertFalse(os.path.exists(dead))
        self.assertTrue(os.path.exists(busy))
        self.end(signal.SIGTERM, 0)  # who waits for a lock keeps nobody from ending
        self.start()
        os.close(lock)
        self.await_gone(busy)

    def await_gone(self, path):
        for _ in range(10 * outside.PATIENCE_S):
            if not os.path.exists(path):
                return
            select.select([], [], [], 0.1)
        self.fail(f"{path} is still there")


if __name__ == "__main__":
    outside.main()
