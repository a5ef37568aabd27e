#!/usr/bin/env python3
"""Snapshots on a web server as others run it: nginx with WebDAV, ranges and TLS, below a directory
of the test's own, started by the test and never by the system."""
import os
import select
import shutil
import socket
import subprocess
import sys
import unittest

import outside

NGINX = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin")

CONFIG = """
daemon off; master_process off; pid {dir}/pid; error_log {dir}/error;
{user}
events {{}}
http {{
    log_format plain "$request_method $uri $status $http_range";
    access_log {dir}/access plain;
    client_max_body_size 1g;
    client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
    server {{
        listen 127.0.0.1:{http};
        listen 127.0.0.1:{https} ssl;
        ssl_certificate {dir}/server.crt; ssl_certificate_key {dir}/server.key;
        root {dir}/files;
        location / {{ dav_methods PUT DELETE; create_full_put_path on; }}
        location /slow/ {{ alias {dir}/files/; limit_rate 4m; }}
        location /limited/ {{ client_max_body_size 1m; dav_methods PUT; }}
        location /plain {{ return 302 http://127.0.0.1:{http}/file; }}
        location /moved {{ return 307 https://localhost:{https}/file; }}
        location /private/ {{ auth_basic "x"; auth_basic_user_file {dir}/users; dav_methods PUT;
                              create_full_put_path on; }}
    }}
}}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def openssl(*words, **more):
    subprocess.run(["openssl", *words], check=True, capture_output=True, **more)


class Nginx(outside.Outside):
    def setUp(self):
        super().setUp()
        self.web = os.path.join(self.dir, "web")
        os.makedirs(os.path.join(self.web, "files"))
        self.make_certificates()
        with open(os.path.join(self.web, "users"), "w", encoding="utf-8") as users:
            users.write("me:{PLAIN}pass\n")
        self.start_nginx()
        self.addCleanup(self.stop_nginx)
        self.env = {"HOME": self.dir, "FERRY_STORE_WAIT": "10ms", "FERRY_STORE_TRIES": "3",
                    "FERRY_STORE_CA": os.path.join(self.web, "ca.crt"), "no_proxy": "*"}
        self.make("base", 1, mib=4)
        self.start()

    def make_certificates(self):
        """A CA of this test's, and a server that it vouches for as localhost and 127.0.0.1."""
        at = {"cwd": self.web}
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-days", "2", "-subj", "/CN=test CA", "-keyout", "ca.key", "-out", "ca.crt", **at)
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
                "/CN=localhost", "-keyout", "server.key", "-out", "server.csr", **at)
        with open(os.path.join(self.web, "names"), "w", encoding="utf-8") as names:
            names.write("subjectAltName=DNS:localhost,IP:127.0.0.1")
        openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
                "-CAcreateserial", "-days", "2", "-extfile", "names", "-out", "server.crt", **at)

    def start_nginx(self):
        """On free ports; another process may take one in between, so more than once."""
        for _ in range(20):
            self.http, self.https = free_port(), free_port()
            config = os.path.join(self.web, "nginx.conf")
            with open(config, "w", encoding="utf-8") as file:
                file.write(CONFIG.format(dir=self.web, http=self.http, https=self.https,
                                         user="user root;" if os.geteuid() == 0 else ""))
            self.nginx = subprocess.Popen([NGINX, "-p", self.web, "-c", config, "-e",
                                           os.path.join(self.web, "error")],
                                          stderr=subprocess.DEVNULL)
            if self.answers():
                return
        with open(os.path.join(self.web, "error"), encoding="utf-8") as error:
            self.fail("nginx does not start: " + error.read()[-1000:])

    def answers(self):
        for _ in range(20 * outside.PATIENCE_S):
            if self.nginx.poll() is not None:
                return False
            try:
                socket.create_connection(("127.0.0.1", self.https), timeout=5).close()
                return True
            except OSError:
                select.select([], [], [], 0.05)
        return False

    def stop_nginx(self):
        self.nginx.terminate()
        self.nginx.wait(outside.PATIENCE_S)

    def file(self, name="file"):
        return os.path.join(self.web, "files", name)

    def url(self, path="file", tls=True):
        return f"https://localhost:{self.https}/{path}" if tls else f"http://127.0.0.1:{self.http}/{path}"

    def round_trip(self, url):
        self.must("snapshot", "export", "base", url, env=self.env)
        whole = os.path.join(self.dir, "whole")
        self.must("snapshot", "export", "base", whole)
        with open(whole, "rb") as a, open(self.file(), "rb") as b:
            self.assertEqual(a.read(), b.read())
        self.must("snapshot", "rm", "base")
        self.must("snapshot", "import", url, env=self.env)
        self.must("snapshot", "verify", "base")
        self.no_leftovers()

    def test_http(self):
        self.round_trip(self.url(tls=False))

    def test_https(self):
        self.round_trip(self.url())

    def test_who_is_not_vouched_for_is_refused(self):
        self.env["FERRY_STORE_CA"] = ""
        self.fails("certificate", "snapshot", "export", "base", self.url(), env=self.env)
        self.env["FERRY_STORE_CA"] = os.path.join(self.web, "none")
        self.fails("uploading: ", "snapshot", "export", "base", self.url(), env=self.env)
        self.assertFalse(os.path.exists(self.file()))

    def test_never_from_https_to_http(self):
        self.must("snapshot", "export", "base", self.url(), env=self.env)
        self.fails("the store redirects from https to something less", "snapshot", "import",
                   self.url("plain"), "new", env=self.env)
        self.must("snapshot", "rm", "base")
        self.must("snapshot", "import", self.url("moved", tls=False), env=self.env)

    def test_refusals(self):
        for path, text in (("limited/x", "413"), ("none/file", "404")):
            words = ("export", "base", self.url(path)) if path[0] == "l" else \
                ("import", self.url(path), "new")
            self.fails(f"the store answers {text}", "snapshot", *words, env=self.env)
        self.assertEqual(os.listdir(os.path.join(self.web, "files")), [])

    def test_netrc(self):
        self.fails("the store answers 401: it wants credentials", "snapshot", "import",
                   self.url("private/file"), "new", env=self.env)
        netrc = os.path.join(self.dir, "credentials")
        with open(netrc, "w", encoding="utf-8") as file:
            file.write("machine localhost login me password pass\n")
        self.must("snapshot", "export", "base", self.url("private/file"),
                  env=dict(self.env, NETRC=netrc))

    def test_a_restarted_server(self):
        """The connection breaks in the middle; the rest is fetched by range."""
        self.must("snapshot", "export", "base", self.url(), env=self.env)
        self.must("snapshot", "rm", "base")
        self.env["FERRY_STORE_TRIES"] = "50"
        with subprocess.Popen(self.command("snapshot", "import", self.url("slow/file", tls=False)),
                              stderr=subprocess.DEVNULL,
                              env=dict(os.environ, **self.env)) as vmctl:
            while not [n for n in os.listdir(self.snapshots) if n.startswith(".tmp-")]:
                select.select([], [], [], 0.02)
            self.nginx.kill()
            self.nginx.wait()
            self.nginx = subprocess.Popen(self.nginx.args, stderr=subprocess.DEVNULL)
            self.assertEqual(vmctl.wait(outside.PATIENCE_S), 0)
        self.must("snapshot", "verify", "base")
        with open(os.path.join(self.web, "access"), encoding="utf-8") as log:
            self.assertIn("206 bytes=", log.read())


if __name__ == "__main__":
    if not NGINX or not shutil.which("openssl"):
        print("nginx or openssl is not installed")
        sys.exit(outside.SKIPPED)
    outside.main()
