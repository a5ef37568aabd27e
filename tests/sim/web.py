"""A server that stores objects and misbehaves when told to: HTTP with ranges, and S3.

S3's signatures are computed here anew, from Amazon's description of version 4 alone: a canonical
request from what came, never anything of the client's. What is not signed as it must be is refused.
"""
import hashlib
import hmac
import http.server
import socket
import struct
import threading
import time
import urllib.parse

KEY_ID, SECRET, TOKEN, REGION = "AKIDTEST", "secret/with+signs=:", "token/with+signs==", "eu-test-1"
STALL_S = 60


class Web:
    """`faults` are done in order, each for the first request that fits: (method, part of the path,
    what). `what` is a status, (status, headers), or one of reset, short, stall, silent, 100-reset."""

    def __init__(self, s3=False):
        self.s3 = s3
        self.objects, self.uploads, self.faults, self.seen, self.refused = {}, {}, [], [], []
        self.etags = {}
        self.ranges = self.validators = True
        self.leaving = threading.Event()
        self.lock = threading.Lock()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.web = self
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}).start()

    def stop(self):
        self.leaving.set()
        self.server.shutdown()
        self.server.server_close()

    def fault(self, method, path):
        with self.lock:
            for fault in self.faults:
                if fault[0] == method and fault[1] in path:
                    self.faults.remove(fault)
                    return fault[2]
        return None


def sign(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def canonical_query(query):
    pairs = urllib.parse.parse_qsl(query, keep_blank_values=True)
    quoted = sorted((urllib.parse.quote(k, safe="-_.~"), urllib.parse.quote(v, safe="-_.~"))
                    for k, v in pairs)
    return "&".join(f"{k}={v}" for k, v in quoted)


def wrong_signature(method, target, headers, body):
    """What is wrong with a request, or None."""
    parts = urllib.parse.urlsplit(target)
    scheme, _, rest = headers.get("Authorization", "").partition(" ")
    if scheme != "AWS4-HMAC-SHA256":
        return "no signature"
    fields = dict(field.strip().split("=", 1) for field in rest.split(","))
    key_id, day, region, service, end = fields["Credential"].split("/")
    if (key_id, region, service, end) != (KEY_ID, REGION, "s3", "aws4_request"):
        return f"wrong scope {fields['Credential']}"
    names = fields["SignedHeaders"].split(";")
    if names != sorted(names):
        return "signed headers are not sorted"
    must = {"host"} | {n.lower() for n in headers.keys() if n.lower().startswith("x-amz-")}
    if not must <= set(names):
        return f"unsigned: {must - set(names)}"
    if headers.get("x-amz-security-token") != TOKEN:
        return "no token"
    sha256 = headers.get("x-amz-content-sha256", "")
    if sha256 != hashlib.sha256(body).hexdigest():
        return "wrong x-amz-content-sha256"
    when = headers["x-amz-date"]
    if not when.startswith(day) or abs(time.time() - time.mktime(time.strptime(
            when, "%Y%m%dT%H%M%SZ")) + time.timezone) > 900:
        return "wrong date"
    if "uploads" in parts.query and "uploads=" not in parts.query:
        return "uploads without its equals sign"
    path = urllib.parse.quote(urllib.parse.unquote(parts.path), safe="/-_.~")
    canonical = "\n".join([method, path, canonical_query(parts.query)] +
                          [f"{n}:{' '.join(headers[n].split())}" for n in names] +
                          ["", ";".join(names), sha256])
    text = "\n".join(["AWS4-HMAC-SHA256", when, f"{day}/{region}/s3/aws4_request",
                      hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + SECRET).encode()
    for word in (day, region, "s3", "aws4_request"):
        key = sign(key, word)
    wanted = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    return None if hmac.compare_digest(wanted, fields["Signature"]) else "wrong signature"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):  # pylint: disable=redefined-builtin
        pass

    def handle(self):
        try:
            super().handle()
        except OSError:
            pass

    # ways to misbehave

    def reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def stall(self):
        self.server.web.leaving.wait(STALL_S)
        self.close_connection = True

    def take_body(self, most=None):
        """The body; with `most` only about so much of it."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while most is None or len(body) < most:
            line = self.rfile.readline()
            if not line:
                raise ConnectionError("cut off")
            size = int(line.split(b";")[0], 16)
            body += self.rfile.read(size)
            self.rfile.readline()
            if size == 0:
                return body
        return None

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status, code, message):
        self.server.web.refused.append(message)
        self.answer(status, f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}"
                    "</Message></Error>".encode())

    def misbehave(self, what, body):
        """True when that was the answer."""
        if what in ("reset", "100-reset"):
            self.reset()
        elif what == "silent":
            self.stall()
        elif isinstance(what, int):
            self.answer(what, b"<Error><Code>Injected</Code></Error>")
        elif isinstance(what, tuple):
            self.answer(what[0], b"", what[1])
        else:
            return False
        return True

    # requests

    def do(self):
        web = self.server.web
        what = web.fault(self.command, self.path)
        with web.lock:
            web.seen.append((self.command, self.path, dict(self.headers)))
        if what == "half":  # of a body that comes
            self.take_body(1 << 20)
            self.reset()
            return
        body = self.take_body()
        if body is None or self.misbehave(what, body):
            return
        wrong = web.s3 and wrong_signature(self.command, self.path, self.headers, body)
        if wrong:
            self.refuse(403, "SignatureDoesNotMatch", wrong)
            return
        parts = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        path = urllib.parse.unquote(parts.path)
        with web.lock:
            reply = getattr(self, "on_" + self.command.lower())(web, path, query, body, what)
        if reply:
            self.answer(*reply)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = do

    def on_head(self, web, path, query, body, what):
        if path not in web.objects:
            return 404, b""
        self.send_response(200)
        self.send_header("Content-Length", str(len(web.objects[path])))
        self.end_headers()
        return None

    def on_get(self, web, path, query, body, what):
        if path not in web.objects:
            return 404, b"<Error><Code>NoSuchKey</Code><Message>no such key</Message></Error>"
        data = web.objects[path]
        etag = web.etags.get(path) or '"' + hashlib.md5(data).hexdigest() + '"'
        status, start, headers = 200, 0, []
        asked = self.headers.get("Range")
        if asked and web.ranges and self.headers.get("If-Range", etag) == etag:
            start = int(asked[len("bytes="):].split("-")[0])
            status = 206
            headers.append(("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}"))
        if web.validators:
            headers.append(("ETag", etag))
        self.send_response(status)
        for name, value in headers + [("Content-Length", str(len(data) - start))]:
            self.send_header(name, value)
        self.end_headers()
        if what in ("short", "short-reset", "stall"):
            self.wfile.write(data[start:start + max(1, (len(data) - start) // 2)])
            self.wfile.flush()
            if what == "stall":
                web.lock.release()
                self.stall()
                web.lock.acquire()
            elif what == "short-reset":
                self.reset()
            self.close_connection = True
            return None
        self.wfile.write(data[start:])
        return None

    def on_put(self, web, path, query, body, what):
        etag = '"' + hashlib.md5(body).hexdigest() + '"'
        if "uploadId" not in query:
            web.objects[path] = body
        else:
            upload = web.uploads.get(query["uploadId"])
            if upload is None:
                return 404, b"<Error><Code>NoSuchUpload</Code></Error>"
            upload[1][int(query["partNumber"])] = (etag, body)
        if what == "lost":
            self.reset()
            return None
        return 200, b"", [("ETag", etag)]

    def on_post(self, web, path, query, body, what):
        if "uploads" in query:
            name = f"id+/&={len(web.seen)}"
            web.uploads[name] = (path, {})
            quoted = name.replace("&", "&amp;")
            return 200, f"<R><Bucket>b</Bucket><UploadId>{quoted}</UploadId></R>".encode()
        upload = web.uploads.get(query["uploadId"])
        if upload is None:
            return 404, b"<Error><Code>NoSuchUpload</Code></Error>"
        if what == "error-in-200":
            return 200, b"<Error><Code>InternalError</Code><Message>try later</Message></Error>"
        listed = [part.split("</ETag>")[0] for part in body.decode().split("<ETag>")[1:]]
        if listed != [upload[1][n][0] for n in sorted(upload[1])]:
            return 400, b"<Error><Code>InvalidPart</Code></Error>"
        web.objects[path] = b"".join(upload[1][n][1] for n in sorted(upload[1]))
        del web.uploads[query["uploadId"]]
        if what == "lost":
            self.reset()
            return None
        return 200, b"<CompleteMultipartUploadResult><ETag>x-1</ETag></CompleteMultipartUploadResult>"

    def on_delete(self, web, path, query, body, what):
        web.uploads.pop(query.get("uploadId"), None)
        return 204, b""
