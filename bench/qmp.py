"""As much of QEMU's machine protocol as a migration takes."""
import json
import socket
import time


class Qmp:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        while True:
            try:
                self.socket.connect(path)
                break
            except OSError:
                time.sleep(0.01)
        self.file = self.socket.makefile("rw")
        self.file.readline()
        self.ask("qmp_capabilities")

    def ask(self, command, **arguments):
        self.file.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.file.flush()
        while True:
            answer = json.loads(self.file.readline())
            if "error" in answer:
                raise RuntimeError(f"QEMU: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def wait_status(self, *wanted):
        while True:
            status = self.ask("query-status")["status"]
            if status in wanted:
                return status
            time.sleep(0.0005)

    def close(self):
        self.file.close()
        self.socket.close()
