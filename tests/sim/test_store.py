#!/usr/bin/env python3
"""Snapshots in stores: each fault ends in the right bytes, or in one sentence and nothing left."""
import os
import select
import signal
import subprocess
import unittest

import outside
import web

MIB = 1 << 20
NAMES = ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE")


class Store(outside.Outside):
    s3 = False
    mib = 2

    def setUp(self):
        super().setUp()
        self.web = web.Web(self.s3)
        self.addCleanup(self.web.stop)
        home = os.path.join(self.dir, "home")
        os.mkdir(home)
        self.env = {"HOME": home, "FERRY_STORE_WAIT": "10ms", "FERRY_STORE_TRIES": "4",
                    "FERRY_STORE_STALL": "1s", "http_proxy": "", "no_proxy": "*"}
        self.env.update({name: "" for name in NAMES})
        self.url, self.path = self.web.url + "/dir/base", "/dir/base"

    def begin(self):
        """A ferryd with `base`, and what it is as one file."""
        self.make("base", 1, mib=self.mib)
        self.start()
        file = os.path.join(self.dir, "whole")
        self.must("snapshot", "export", "base", file)
        with open(file, "rb") as whole:
            self.data = whole.read()

    def put(self):
        return self.must("snapshot", "export", "base", self.url, env=self.env)

    def get(self):
        self.must("snapshot", "rm", "base")
        self.must("snapshot", "import", self.url, env=self.env)
        self.assertEqual(self.names(), ["base"])
        self.must("snapshot", "verify", "base")
        self.no_leftovers()

    def put_fails(self, text):
        self.fails(text, "snapshot", "export", "base", self.url, env=self.env)
        self.assertEqual(self.web.uploads, {})

    def get_fails(self, text):
        before = self.names()
        self.fails(text, "snapshot", "import", self.url, "new", env=self.env)
        self.assertEqual(self.names(), before)
        self.no_leftovers()

    def asked(self, method):
        return [path for m, path, _ in self.web.seen if m == method]


class Http(Store):
    def test_round_trip(self):
        self.begin()
        self.put()
        self.assertEqual(self.web.objects[self.path], self.data)
        self.get()

    def test_downloads_go_on_where_they_broke(self):
        self.begin()
        self.env["FERRY_STORE_TRIES"] = "8"
        self.web.objects[self.path] = self.data
        self.web.faults = [("GET", "", w) for w in ("short", "short-reset", 503, "short", "stall",
                                                    "reset", 429, "short-reset")]
        self.get()
        ranges = [h.get("Range") for _, _, h in self.web.seen]
        self.assertEqual(len(ranges), 9)
        self.assertIsNone(ranges[0])
        starts = [int(r[len("bytes="):-1]) for r in ranges[1:]]
        self.assertEqual(starts, sorted(starts))
        self.assertGreater(starts[-1], len(self.data) // 2)
        self.assertTrue(all("If-Range" in h for _, _, h in self.web.seen[1:]))

    def test_retries_are_told_and_end(self):
        self.begin()
        self.web.objects[self.path] = self.data
        self.web.faults = [("GET", "", 500)] * 2
        self.must("snapshot", "rm", "base")
        _, _, said = self.vmctl("snapshot", "import", self.url, env=self.env)
        self.assertEqual(said.count("the store answers 500 Injected; trying again in"), 2)
        self.web.faults = [("GET", "", 500)] * 9
        self.get_fails("given up after 4 tries: downloading: the store answers 500 Injected")
        self.assertEqual(len(self.web.faults), 5)
        self.web.faults = [("GET", "", (503, [("Retry-After", "1")]))]
        _, _, said = self.vmctl("snapshot", "import", self.url, "later", env=self.env)
        self.assertIn("trying again in 1.0 s", said)

    def test_what_is_no_use_to_try_again(self):
        self.begin()
        self.get_fails("downloading: the store answers 404 NoSuchKey: no such key")
        self.web.faults = [("GET", "", 403)]
        self.get_fails("downloading: the store answers 403 Injected")
        self.web.faults = [("PUT", "", 411)]
        self.put_fails("uploading: the store answers 411")
        self.assertEqual(len(self.web.seen), 3)

    def test_a_changed_object_is_noticed(self):
        self.begin()
        self.web.objects[self.path] = self.data
        for validators in (True, False):
            self.web.validators = validators
            self.web.faults = [("GET", "", "short")]
            length = len(self.data)
            served = []

            def change(method, path, served=served, length=length, fault=self.web.fault):
                served.append(path)
                if len(served) == 2:
                    self.web.objects[self.path] = b"x" * (length + 1)
                return fault(method, path)

            self.web.fault = change
            self.get_fails("the object was changed while it was read")
            del self.web.fault
            self.web.objects[self.path] = self.data

    def test_a_server_without_ranges(self):
        self.begin()
        self.web.objects[self.path] = self.data
        self.web.ranges = False
        self.web.faults = [("GET", "", "short-reset")] * 2
        self.get()

    def test_damage_in_the_store(self):
        self.begin()
        bad = bytearray(self.data)
        bad[len(bad) // 2] ^= 1
        self.web.objects[self.path] = bytes(bad)
        self.must("snapshot", "rm", "base")
        self.get_fails("")
        self.web.objects[self.path] = self.data[:-1]
        self.get_fails("the stream ends too early")
        self.web.objects[self.path] = b""
        self.get_fails("the stream ends too early")

    def test_uploads_begin_again(self):
        self.begin()
        for faults in (["half"], [503, "reset"], ["half", "silent", 500], ["lost"]):
            self.web.faults = [("PUT", "", w) for w in faults]
            self.put()
            self.assertEqual(self.web.objects.pop(self.path), self.data, faults)
            self.assertEqual(self.web.faults, [])
        self.web.faults = [("PUT", "", 500)] * 9
        self.put_fails("given up after 4 tries: uploading: the store answers 500")
        self.assertEqual(self.web.objects, {})

    def test_a_failing_export_leaves_nothing(self):
        """A stream that ends early must not look whole to the server."""
        self.begin()
        with open(os.path.join(self.snapshots, "base", "memory"), "r+b") as memory:
            memory.truncate(4096)
        self.put_fails("'memory' has 4096 bytes")
        self.assertEqual(self.web.objects, {})

    def test_redirects(self):
        self.begin()
        self.web.objects["/there"] = self.data
        self.web.faults = [("GET", "/dir", (302, [("Location", "/there")]))]
        self.get()
        self.web.faults = [("PUT", "/dir", (307, [("Location", "/moved")]))]
        self.put()
        self.assertEqual(self.web.objects["/moved"], self.data)
        self.web.faults = [("GET", "", (302, [("Location", self.path)]))] * 9
        self.get_fails("redirects more than 5 times")
        self.web.faults = [("GET", "", (302, [("Location", "file:///etc/passwd")]))]
        self.get_fails("redirects to what is neither")

    def test_credentials_of_another_host_stay_here(self):
        self.begin()
        with open(os.path.join(self.env["HOME"], ".netrc"), "w", encoding="utf-8") as netrc:
            netrc.write("machine 127.0.0.1 login me password pass\n")
        other = self.web.url.replace("127.0.0.1", "localhost") + "/there"
        self.web.objects["/there"] = self.data
        self.web.faults = [("GET", "/dir", (302, [("Location", other)]))]
        self.get()
        first, second = (h.get("Authorization") for _, _, h in self.web.seen)
        self.assertEqual(first, "Basic bWU6cGFzcw==")
        self.assertIsNone(second)

    def test_urls(self):
        self.begin()
        for url, text in (("ftp://host/x", "is none of https://, http:// and s3://"),
                          ("file:///etc/passwd", "is none of https://, http:// and s3://"),
                          ("http://me:pass@host/x", "no password belongs on a command line"),
                          ("http:///x", "names no host"),
                          ("http://host/x#y", "has a '#'"),
                          ("http://127.0.0.1:1/x", "given up after 4 tries")):
            self.fails(text, "snapshot", "export", "base", url, env=self.env)
        self.env["FERRY_STORE_TRIES"] = "many"
        self.put_fails("$FERRY_STORE_TRIES is 'many'")

    def test_cancelled(self):
        self.begin()
        self.env["FERRY_STORE_STALL"] = "1m"
        self.web.objects[self.path] = self.data
        for method, words in (("GET", ("import", self.url, "new")), ("PUT", ("export", "base", self.url))):
            self.web.faults = [(method, "", "stall" if method == "GET" else "silent")]
            before = len(self.web.seen)
            with subprocess.Popen(self.command("snapshot", *words), stderr=subprocess.PIPE,
                                  env=dict(os.environ, **self.env)) as vmctl:
                while len(self.web.seen) == before:
                    select.select([], [], [], 0.02)
                vmctl.send_signal(signal.SIGINT)
                self.assertIn("was cancelled", vmctl.stderr.read().decode())
            self.assertEqual(vmctl.returncode, 1)
            self.assertEqual(self.names(), ["base"])
            self.no_leftovers()
        self.assertEqual(self.web.objects, {self.path: self.data})


class S3(Store):
    s3 = True
    mib = 2

    def setUp(self):
        super().setUp()
        self.env.update({"AWS_ACCESS_KEY_ID": web.KEY_ID, "AWS_SECRET_ACCESS_KEY": web.SECRET,
                         "AWS_SESSION_TOKEN": web.TOKEN, "AWS_REGION": web.REGION,
                         "AWS_ENDPOINT_URL_S3": self.web.url})
        self.url, self.path = "s3://bucket/a dir/ba=s&e~ü", "/bucket/a dir/ba=s&e~ü"

    def test_small(self):
        self.begin()
        self.put()
        self.assertEqual(self.web.refused, [])
        self.assertEqual(self.web.objects, {self.path: self.data})
        self.assertEqual(len(self.asked("PUT")), 1)
        self.web.faults = [("GET", "", w) for w in ("short", 503, "short-reset", "stall")]
        self.get()
        self.assertEqual(self.web.refused, [])

    def test_small_faults(self):
        self.begin()
        self.web.faults = [("PUT", "", w) for w in (500, "reset", "lost")]
        self.put()
        self.assertEqual(self.web.objects, {self.path: self.data})
        self.assertEqual(len(self.asked("PUT")), 4)

    def test_credentials(self):
        self.begin()
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION",
                     "AWS_ENDPOINT_URL_S3"):
            self.env[name] = ""
        self.put_fails("no credentials for s3: set AWS_ACCESS_KEY_ID")
        os.mkdir(os.path.join(self.env["HOME"], ".aws"))
        with open(os.path.join(self.env["HOME"], ".aws", "credentials"), "w",
                  encoding="utf-8") as file:
            file.write("[default]\naws_access_key_id=other\naws_secret_access_key=other\n# x\n"
                       f"[me]\naws_access_key_id = {web.KEY_ID}\r\n"
                       f"aws_secret_access_key={web.SECRET}\naws_session_token={web.TOKEN}\n")
        with open(os.path.join(self.env["HOME"], ".aws", "config"), "w", encoding="utf-8") as file:
            file.write(f"[profile me]\nregion = {web.REGION}\nendpoint_url = {self.web.url}/\n")
        self.env["AWS_PROFILE"] = "me"
        self.put()
        self.assertEqual(self.web.objects, {self.path: self.data})
        self.env["AWS_SECRET_ACCESS_KEY"], self.env["AWS_ACCESS_KEY_ID"] = "wrong", web.KEY_ID
        self.env["AWS_SESSION_TOKEN"] = web.TOKEN
        self.put_fails("uploading: the store answers 403 SignatureDoesNotMatch: wrong signature")

    def test_keys(self):
        self.begin()
        for url, text in (("s3://bucket", "a key has 1 to"), ("s3://bucket/", "a key has 1 to"),
                          ("s3://B/x", "is no name of a bucket"),
                          ("s3://bucket/a+b", "has a '+'"),
                          ("s3://bucket/a/../b", "has '.' or '..' between slashes"),
                          ("s3://bucket/" + "k" * 1025, "a key has 1 to 1024")):
            self.fails(text, "snapshot", "export", "base", url, env=self.env)
        self.env["AWS_ENDPOINT_URL_S3"] = "ftp://host"
        self.put_fails("is neither http:// nor https://")

    def test_redirects_are_told_and_not_followed(self):
        """Who is asked elsewhere must not be given the credentials."""
        self.begin()
        self.web.objects[self.path] = self.data
        self.web.faults = [(m, "", (307, [("Location", self.web.url + "/x")])) for m in ("GET", "PUT")]
        self.get_fails("the store answers 307: it wants to be asked elsewhere")
        self.put_fails("the store answers 307: it wants to be asked elsewhere")
        self.assertEqual(len(self.web.seen), 2)


class S3Parts(S3):
    """More than one part of 8 MiB. What S3 tests is tested here with these, too, where it differs."""
    mib = 24

    test_keys = test_credentials = test_redirects_are_told_and_not_followed = None
    test_small_faults = None

    def test_small(self):
        self.begin()
        self.put()
        self.assertEqual(self.web.refused, [])
        self.assertEqual(self.web.objects, {self.path: self.data})
        self.assertEqual(len(self.asked("PUT")), 3)
        self.assertEqual(self.web.uploads, {})
        self.get()

    def test_parts_are_sent_again(self):
        self.begin()
        self.web.faults = [("POST", "uploads=", 503), ("PUT", "partNumber=1", "reset"),
                           ("PUT", "partNumber=2", 500), ("PUT", "partNumber=2", "silent"),
                           ("PUT", "partNumber=3", "lost"), ("POST", "uploadId", 503)]
        self.put()
        self.assertEqual(self.web.faults, [])
        self.assertEqual(self.web.objects, {self.path: self.data})
        self.assertEqual(self.web.refused, [])

    def test_a_lost_answer_to_the_last_request(self):
        self.begin()
        self.web.faults = [("POST", "uploadId", "lost")]
        self.put()
        self.assertEqual(self.web.objects, {self.path: self.data})

    def test_failures_leave_no_parts(self):
        self.begin()
        for faults, text in (([("PUT", "partNumber=2", 403)], "the store answers 403 Injected"),
                             ([("PUT", "partNumber=2", 500)] * 4, "given up after 4 tries"),
                             ([("POST", "uploads=", 403)], "the store answers 403"),
                             ([("POST", "uploadId", "error-in-200")],
                              "the store answers 200 InternalError: try later"),
                             ([("PUT", "partNumber=1", "reset")] * 4 + [("DELETE", "", 503)],
                              "given up after 4 tries")):
            self.web.faults = faults
            self.put_fails(text)
            self.assertEqual(self.web.faults, [])
            self.assertEqual(self.web.objects, {})
        with open(os.path.join(self.snapshots, "base", "memory"), "r+b") as memory:
            memory.seek(20 * MIB)
            memory.truncate(20 * MIB)
        self.put_fails("'memory' has 20971520 bytes")
        self.assertEqual(self.web.objects, {})

    def test_cancelled(self):
        self.begin()
        self.env["FERRY_STORE_STALL"] = "1m"
        self.web.faults = [("PUT", "partNumber=2", "silent")]
        with subprocess.Popen(self.command("snapshot", "export", "base", self.url),
                              stderr=subprocess.PIPE,
                              env=dict(os.environ, **self.env)) as vmctl:
            while len(self.asked("PUT")) < 2:
                select.select([], [], [], 0.02)
            vmctl.send_signal(signal.SIGINT)
            self.assertIn("was cancelled; nothing is left of it", vmctl.stderr.read().decode())
        self.assertEqual(vmctl.returncode, 1)
        self.assertEqual((self.web.objects, self.web.uploads), ({}, {}))
        self.assertEqual(len(self.asked("DELETE")), 1)


if __name__ == "__main__":
    outside.main()
