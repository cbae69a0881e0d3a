"""golden.py - What the makers of golden files share: the file format, bf16, safetensors.

A set of golden arrays is two files:

    STEM.txt   one line an array: name dtype offset dim...
               a line that starts with # is a comment
    STEM.bin   the arrays, little-endian, row-major, each at a multiple of 64 bytes

dtype is f32, f64, i32, u16 (a token id or the bits of a bf16) or i8.  `offset` counts
bytes of STEM.bin.  A name holds no blank; a scalar is an array of one element.
"""
import json
import struct

import numpy as np

DTYPES = {"f32": "<f4", "f64": "<f8", "i32": "<i4", "u16": "<u2", "i8": "|i1"}


class Golden:
    def __init__(self, comment):
        self.lines = ["# " + line for line in comment.strip().split("\n")]
        self.data = bytearray()

    def put(self, name, dtype, values):
        a = np.ascontiguousarray(np.atleast_1d(values))
        if dtype in ("f32", "f64"):
            a = a.astype(DTYPES[dtype])
        else:
            wide = a.astype(np.int64)
            a = wide.astype(DTYPES[dtype])
            assert (a.astype(np.int64) == wide).all(), name
        assert " " not in name
        self.data += bytes(-len(self.data) % 64)
        dims = " ".join(str(n) for n in a.shape)
        self.lines.append(f"{name} {dtype} {len(self.data)} {dims}")
        self.data += a.tobytes()

    def write(self, stem):
        with open(stem + ".txt", "w") as f:
            f.write("\n".join(self.lines) + "\n")
        with open(stem + ".bin", "wb") as f:
            f.write(self.data)


def bf16_bits(x):
    """Round f32 to bf16, nearest, ties to even: the upper half of the f32."""
    bits = np.asarray(x, np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def bf16(x):
    """x rounded to f32, then to bf16, as f64.  Finite values only."""
    return (bf16_bits(x).astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def write_safetensors(path, tensors):
    """tensors: list of (name, dtype, array whose bytes are the data)."""
    header, data = {"__metadata__": {"format": "pt"}}, bytearray()
    for name, dtype, a in tensors:
        begin = len(data)
        data += np.ascontiguousarray(a).tobytes()
        header[name] = {"dtype": dtype, "shape": list(a.shape), "data_offsets": [begin, len(data)]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)
