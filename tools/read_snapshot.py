#!/usr/bin/env python3
"""Reads a snapshot by docs/snapshot-format.md alone: checks it, prints what it is, writes its RAM.
    read_snapshot.py DIRECTORY [RAM-FILE]        exit code 77: the program zstd is needed"""
import os, pathlib, shutil, struct, subprocess, sys  # noqa: E401

PAGE, MIB, TABLE = 4096, 1 << 20, list(range(256))
for _ in range(8):
    TABLE = [n >> 1 ^ (0x82F63B78 if n & 1 else 0) for n in TABLE]
def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF
def varint(data, at):
    value, shift = data[at] & 127, 7
    while data[at] > 127:
        at += 1
        value, shift = value | (data[at] & 127) << shift, shift + 7
    return value, at + 1
def fields(data):  # of a protobuf message that has only numbers and bytes: {number: [values]}
    out, at = {}, 0
    while at < len(data):
        tag, at = varint(data, at)
        value, at = varint(data, at)
        if tag % 8 == 2:
            at, value = at + value, data[at:at + value]
        out.setdefault(tag // 8, []).append(value)
    return out
def manifest(directory):
    data = (directory / "manifest").read_bytes()
    assert struct.unpack("<4sIII", data[:16]) == (b"FSNP", 1, len(data) - 16, crc32c(data[16:]))
    return fields(data[16:])
def read(directory):  # the manifest's fields and the RAM, which a diff lays over its parent's
    m, held, at, content, crcs = manifest(directory), {}, 0, {}, {}
    for name, f in ((f[1][0].decode(), f) for f in map(fields, m[16])):
        data = content[name] = (directory / name).read_bytes()
        crcs[name] = [c for c, in struct.iter_unpack("<I", f.get(3, [b""])[0])]
        assert len(data) == f.get(2, [0])[0], name
        assert name == "memory" or [crc32c(data[i:i + MIB]) for i in range(0, len(data), MIB)] == crcs[name], name
    kind, ram, memory = m[15][0], bytearray(m[13][0]), content["memory"]
    if kind in (2, 4):  # the parent may be called anything, its uuid decides
        others = (d for d in directory.resolve().parent.iterdir() if d.name[0] != ".")
        ram = read(next(d for d in others if manifest(d)[5] == [fields(m[6][0])[1][0]]))[1]
    if kind > 2:
        for size, crc in struct.iter_unpack("<II", content["index"]):
            at, crc32 = at + size, crc32c(memory[at:at + size])
            assert crc == crc32, f"frame before {at}"
        assert at == len(memory), "more than frames"
        at, memory = 0, memory and subprocess.run(["zstd", "-dc"], input=memory, stdout=-1).stdout
    for page in range(len(ram) // PAGE):
        state = content["pages"][page // 4] >> 2 * (page % 4) & 3 if kind > 1 else 1
        begin = page * PAGE if kind < 3 else at
        if state == 1:
            at, ram[page * PAGE:(page + 1) * PAGE] = at + PAGE, memory[begin:begin + PAGE]
            held.setdefault(page * PAGE // MIB, bytearray()).extend(memory[begin:begin + PAGE])
        elif state == 2:
            ram[page * PAGE:(page + 1) * PAGE] = bytes(PAGE)
    assert [crc32c(held.get(i, b"")) for i in range(len(crcs["memory"]))] == crcs["memory"], "memory"
    return m, ram
shutil.which("zstd") or sys.exit(77)
top, whole = read(pathlib.Path(sys.argv[1]))
print(top[4][0].decode(), top[5][0].hex(), len(whole), "bytes of RAM")
len(sys.argv) > 2 and open(sys.argv[2], "wb").write(whole)
