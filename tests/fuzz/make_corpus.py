"""Write the first inputs of fuzz_config, fuzz_safetensors and fuzz_model.

Only the Python standard library; the same bytes every time.
Run: python3 tests/fuzz/make_corpus.py
"""
import json
import os
import struct

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")


def put(folder, name, data):
    os.makedirs(os.path.join(ROOT, folder), exist_ok=True)
    with open(os.path.join(ROOT, folder, name), "wb") as f:
        f.write(data)


def safetensors(tensors, metadata=None, pad=0):
    """tensors: [(name, dtype, shape)]; the data is small numbers of that type."""
    code = {"F32": ("<f", 4), "F16": ("<e", 2), "BF16": (None, 2), "I8": ("<b", 1), "I64": ("<q", 8)}
    header, data, i = {}, b"", 0
    if metadata:
        header["__metadata__"] = metadata
    for name, dtype, shape in tensors:
        count = 1
        for dim in shape:
            count *= dim
        begin = len(data)
        for _ in range(count):
            i += 1
            value = i * 37 % 101 - 50
            if dtype == "BF16":
                data += struct.pack("<f", value / 64)[2:]
            elif dtype in ("I8", "I64"):
                data += struct.pack(code[dtype][0], value)
            else:
                data += struct.pack(code[dtype][0], value / 64)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header, separators=(",", ":")).encode() + b" " * pad
    return struct.pack("<Q", len(text)) + text + data


def model(matrix, clsa):
    names = [("embed.weight", [1, 16])]
    if not clsa:
        names.append(("lm_head.weight", [1, 16]))
    for layer, parts in ("self.0.", "q k v o gate up down"), ("cross.0.", "q o gate up down"):
        names += [(layer + p + ".weight", [16, 16]) for p in parts.split()]
    names += [("shared.k.weight", [16, 16]), ("shared.v.weight", [16, 16])]
    if clsa:
        names += [("index.q.weight", [16, 16]), ("index.k.weight", [16, 16]), ("index.w.weight", [1, 16])]
    tensors = [(name, matrix, shape) for name, shape in names]
    if matrix == "I8":
        tensors += [(name.replace("weight", "scale"), "F32", shape[:1]) for name, shape in names]
    for name in "self.0.attn_norm self.0.ffn_norm shared.norm cross.0.attn_norm cross.0.ffn_norm final_norm".split():
        tensors.append((name + ".weight", "F32", [16]))
    tensors.append(("self.0.q_norm.weight", "F16", [16]))
    if clsa:
        tensors.append(("shared.k_norm.weight", "BF16", [1, 16]))
    return safetensors(tensors)


put("safetensors", "empty", safetensors([]))
put("safetensors", "types", safetensors(
    [("b", "F32", [2, 2]), ("a", "F16", [3]), ("z", "BF16", []), ("q", "I8", [1, 0, 2]), ("i", "I64", [1])],
    {"format": "pt"}, 5))
put("safetensors", "hole", safetensors([("a", "I8", [4])]) + b"\0")
put("model", "yoco_f16", model("F16", False))
put("model", "yoco_bf16", model("BF16", False))
put("model", "clsa_i8", model("I8", True))

need = {"model_type": "clsa", "hidden_size": 64, "intermediate_size": 128, "num_self_layers": 2,
        "num_cross_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "vocab_size": 100}
more = {"sliding_window": 512, "document_sink": 48, "rope_theta": 5e5, "rope_layout": "interleaved",
        "rope_global": False, "rms_norm_eps": 1e-06, "embed_norm": True, "embed_scale": -2.5,
        "tie_word_embeddings": True, "qk_norm_self": True, "qk_norm_cross": True, "index_heads": 4,
        "index_head_dim": 64, "index_act": "relu", "index_weighted": True, "index_key_norm": True,
        "index_local": 512, "index_topk": 1024, "conversation_refs": False,
        "quantization": "int8_rows", "roles": {"user": 2, "end": 99}}
put("config", "required", json.dumps(need).encode())
put("config", "all", json.dumps({**need, **more}).encode())
put("config", "other_model", json.dumps({**need, "model_type": "llama"}).encode())
put("config", "heads", json.dumps({**need, "num_key_value_heads": 3}).encode())
put("config", "role", json.dumps({**need, "roles": {"user": 100}}).encode())


def value(kind, number, tokens, lines, total, body, page=64):
    """A value of the page cache as store/pages.h lays it out; its checksum is not right."""
    head = struct.pack("<4sIQQiiqQ", b"CnV1", kind << 28 | number, 7, len(body), tokens, lines, total, 0)
    whole = head + body
    return whole + b"\0" * (-(len(whole) + 16) % page)


def page_input(kind, number, what, *rest):
    return bytes(range(32)) + struct.pack(">I", kind << 28 | number) + bytes([what]) + value(kind, number, *rest)


put("page", "page", page_input(1, 3, 100, 256, 0, 0, bytes(range(200))))
put("page", "empty_doc", page_input(2, 0, 0, 0, 0, 99, b""))
put("page", "doc", page_input(2, 0, 200, 5, 2, 99, bytes(28)))
put("page", "window", page_input(3, 1, 255, 0, 0, 1000, bytes(160)))
put("page", "use", page_input(0, 0, 1, 0, 0, 0, b""))
put("page", "header", page_input(1, 0, 1, 1, 0, 0, b"")[:60])


def lmdb(pages, free_root, main_root, last, free_counts, main_counts, txn=9):
    """A data file of LMDB; pages: {number: bytes}; counts: depth, branch, leaf, overflow, entries."""
    def tree(flags, pad, counts, root):
        return struct.pack("<IHHQQQQQ", pad, flags, *counts, root)

    out = b""
    for i in range(max(pages) + 1):
        if i < 2:
            page = struct.pack("<QHHHH", i, 0, 8, 0, 0) + struct.pack("<IIQQ", 0xBEEFC0DE, 1, 0, 64 << 20)
            page += tree(8, 4096, free_counts, free_root) + tree(0, 0, main_counts, main_root)
            page += struct.pack("<QQ", last, txn if i == txn % 2 else 0)
        else:
            page = pages.get(i, b"")
        out += page + b"\0" * (-len(page) % 4096)
    return out


def tree_page(number, flags, nodes):
    """nodes: bytes of each, in order; they lie at the end of the page, the last one first."""
    offsets, body, at = b"", b"", 4096
    for node in nodes:
        node += b"\0" * (len(node) % 2)
        at -= len(node)
        offsets += struct.pack("<H", at)
        body = node + body
    head = struct.pack("<QHHHH", number, 0, flags, 16 + len(offsets), at) + offsets
    return head + b"\0" * (at - len(head)) + body


def leaf(key, data, big=None):
    n = len(data) if big is None else data
    head = struct.pack("<HHHH", n & 0xFFFF, n >> 16, 0 if big is None else 1, len(key))
    return head + key + (data if big is None else struct.pack("<Q", big))


def branch(key, child):
    return struct.pack("<HHHH", child & 0xFFFF, child >> 16 & 0xFFFF, child >> 32, len(key)) + key


def overflow(number, pages, data):
    return struct.pack("<QHHI", number, 0, 4, pages) + data


def ids(*numbers):
    return struct.pack("<%dQ" % (len(numbers) + 1), len(numbers), *numbers)


def pack(data):
    """Runs of zeros as fuzz_lmdb.c reads them."""
    out, i = bytearray(), 0
    while i < len(data):
        zeros = 0
        while i + zeros < len(data) and data[i + zeros] == 0 and zeros < 65535:
            zeros += 1
        if zeros > 3:
            out += bytes([0xA7]) + struct.pack("<H", zeros)
            i += zeros
        else:
            out += b"\xa7\0\0" if data[i] == 0xA7 else data[i:i + 1]
            i += 1
    return bytes(out)


none, NO_ROOT = (0, 0, 0, 0, 0), (1 << 64) - 1
small = {2: tree_page(2, 2, [leaf(b"a", b"1"), leaf(b"b" * 36, b"22"), leaf(b"root", b"x" * 24)])}
put("lmdb", "empty", pack(lmdb({1: b""}, NO_ROOT, NO_ROOT, 1, none, none)))
put("lmdb", "leaf", pack(lmdb(small, NO_ROOT, 2, 2, none, (1, 0, 1, 0, 3))))
full = {
    2: tree_page(2, 1, [branch(b"", 3), branch(b"m", 4)]),
    3: tree_page(3, 2, [leaf(b"a", 9000, 6), leaf(b"b", b"2")]),
    4: tree_page(4, 2, [leaf(b"m", b"3"), leaf(b"n", 4080, 9)]),
    5: tree_page(5, 2, [leaf(struct.pack("<Q", 4), ids(14, 13)), leaf(struct.pack("<Q", 7), ids(12, 11, 10))]),
    6: overflow(6, 3, b"v" * 9000),
    9: overflow(9, 1, b"w" * 4080),
}
put("lmdb", "full", pack(lmdb(full, 5, 2, 14, (1, 0, 1, 0, 2), (2, 1, 2, 4, 4))))
put("lmdb", "twice", pack(lmdb({**full, 5: tree_page(5, 2, [leaf(struct.pack("<Q", 4), ids(9))])},
                               5, 2, 14, (1, 0, 1, 0, 1), (2, 1, 2, 4, 4))))
put("lmdb", "loop", pack(lmdb({**full, 2: tree_page(2, 1, [branch(b"", 3), branch(b"m", 2)])},
                              5, 2, 14, (1, 0, 1, 0, 2), (2, 1, 2, 4, 4))))
