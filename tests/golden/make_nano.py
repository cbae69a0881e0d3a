"""make_nano.py - Greedy answers of cairn-nano over real source files, by a plain PyTorch model.

    python3 tests/golden/make_nano.py MODEL SOURCES             write tests/golden/nano*
    python3 tests/golden/make_nano.py MODEL SOURCES FILE STEM   prompts of a file, to STEM.txt, .bin

MODEL is the folder of cairn-nano.  SOURCES holds the projects below, each made by
tests/source-repo.sh PROJECT SOURCES/PROJECT.  FILE is JSON, an array of [project, files, conversation,
right answer], as PROMPTS below; examples/train/quiz.py prints such ones, and test_nano reads
what CN_NANO names.  DEVICE=cuda computes there.  The answers come from the model's equations
(arXiv:2606.06467 on arXiv:2405.05254, with the variants of the model's config.json) in f32 on
dequantised weights, nothing rounded to bf16; torch and numpy are all it needs.

A file is cut at line borders into documents of at most 2,000 tokens, the special token
<|file|> and then

    path\\nfile: path\\n      and, tokenised on its own, the piece of the text

A prompt is a view of documents and a conversation that ends in <|assistant|>; its answer is
greedy, up to 48 tokens or <|end|>.  Self-decoder attention is cut at document borders; the
conversation, shorter than the window, has no sink.

nano.txt / nano.bin (format: golden.py):

    prompts                    i32 [1]             how many; then, for i = 0 ... prompts - 1:

    prompt<i>.documents        i32 [documents]     tokens of each
    prompt<i>.tokens           u16 [their sum]     documents in order of the view
    prompt<i>.conversation     u16 [n]
    prompt<i>.answer           u16 [m]             <|end|> included if it was reached
    prompt<i>.top              f32 [m]             the largest logit at each step
    prompt<i>.gap              f32 [m]             and its distance to the second
    prompt<i>.move             f32 [m]             how far the roundings of an engine move that
                                                   distance, after the same tokens
    prompt<i>.dense.answer ... .move               the same with every token selected: the index
                                                   plays no part

`move` comes from the same code with K, V, index keys and index queries rounded to bf16.  Where it
is of the size of `gap`, an engine may well choose another token.

nano-prompts.txt shows the same to people; nano-licences.txt holds the licences of the sources.
"""
import json
import os
import re
import sys

import numpy as np
import torch

from bpe import Bpe
from golden import Golden

HERE = os.path.dirname(os.path.abspath(__file__))
DOCUMENT_TOKENS = 2000
ANSWER_TOKENS = 48

LICENCES = {
    "lmdb": ["libraries/liblmdb/COPYRIGHT", "libraries/liblmdb/LICENSE"],
    "cjson": ["LICENSE"],
    "memcached": ["COPYING", "LICENSE.bipbuffer"],
    "jq": ["COPYING"],
    "tmux": ["COPYING"],
}


def ask(question):
    return f"<|user|>{question}<|assistant|>"


def call(name, **arguments):
    text = json.dumps({"name": name, "arguments": arguments}, separators=(",", ":"))
    return f"<|tool_call|>{text}<|end|>"


def called(question, tool_call, result):
    return f"{ask(question)}{tool_call}<|tool_result|>{result}<|end|><|assistant|>"


def where(name, path):
    return f"{name} is defined in {path}<|end|>"


LMDB = "libraries/liblmdb/"
HISTORY = """8be01f4 2021-08-20 Nina Weber: Simplify style_add
51c2a9d 2020-03-02 Omar Kim: Document style_parse"""
HITS = """src/execute.c:1021:jq_state *jq_init(void) {
src/main.c:318:    jq = jq_init();"""

# (project, files in order of the view, conversation, the right answer)
PROMPTS = [
    (
        "lmdb",
        [LMDB + "midl.h", LMDB + "midl.c"],
        ask("Where is mdb_midl_xmerge defined?"),
        where("mdb_midl_xmerge", LMDB + "midl.c"),
    ),
    (
        "lmdb",
        [LMDB + "midl.h", LMDB + "mdb_stat.c"],
        ask("What is the value of MDB_IDL_UM_SIZE?"),
        "MDB_IDL_UM_SIZE is (1<<(MDB_IDL_LOGN+1))<|end|>",
    ),
    (
        "lmdb",
        [LMDB + "mdb_dump.c", LMDB + "mdb_stat.c", LMDB + "midl.c"],
        ask("What is the signature of dumpit?"),
        "static int dumpit(MDB_txn *txn, MDB_dbi dbi, char *name)<|end|>",
    ),
    (
        "cjson",
        ["cJSON.h", "cJSON_Utils.h"],
        ask("What does CJSON_NESTING_LIMIT expand to?"),
        "CJSON_NESTING_LIMIT is 1000<|end|>",
    ),
    (
        "cjson",
        ["test.c"],
        ask("Show lines 40 to 52 of test.c."),
        call("read_lines", path="test.c", start=40, end=52),
    ),
    (
        "cjson",
        ["cJSON_Utils.h", "test.c"],
        ask("grep for cJSON_Duplicate"),
        call("search", query="cJSON_Duplicate"),
    ),
    (
        "memcached",
        ["stats_prefix.h", "stats_prefix.c"],
        ask("What is PREFIX_HASH_SIZE set to?"),
        "PREFIX_HASH_SIZE is 256<|end|>",
    ),
    (
        "memcached",
        ["cache.h", "bipbuffer.c", "cache.c", "bipbuffer.h"],
        ask("Show the code of bipbuf_push."),
        "int bipbuf_push(bipbuf_t* me, const int size)\n{",
    ),
    (
        "memcached",
        ["assoc.c", "util.c", "assoc.h"],
        ask("What does assoc_expand do?"),
        "assoc_expand: grows the hashtable to the next power of 2.<|end|>",
    ),
    (
        "memcached",
        ["items.h", "slabs.h", "crawler.h", "hash.c"],
        ask("Where is enum crawler_result_type defined?")
        + where("crawler_result_type", "crawler.h")
        + ask("What is COLD_LRU defined as?"),
        "COLD_LRU is 128<|end|>",
    ),
    (
        "memcached",
        ["base64.c", "itoa_ljust.h", "sasl_defs.h", "tls.h"],
        ask("Who last changed base64.c?"),
        call("git_log", path="base64.c"),
    ),
    (
        "memcached",
        ["assoc.c", "slabs.h", "cache.c"],
        ask("Where is process_lru_command defined?"),
        call("search", query="process_lru_command"),
    ),
    (
        "jq",
        ["src/jv_alloc.c", "src/jv_alloc.h", "src/jv_unicode.c", "src/locfile.c", "src/locfile.h"],
        ask("Which file defines jvp_utf8_encode?"),
        where("jvp_utf8_encode", "src/jv_unicode.c"),
    ),
    (
        "jq",
        ["src/jv_unicode.c", "src/util.h", "src/jq.h"],
        ask("What does jvp_utf8_decode_length do?"),
        "jvp_utf8_decode_length: "
        "Assumes startchar is the first byte of a valid character sequence<|end|>",
    ),
    (
        "jq",
        ["src/jv_print.c", "src/bytecode.c", "src/bytecode.h", "src/exec_stack.h"],
        ask("What are the parameters of dump_operation?"),
        "void dump_operation(struct bytecode* bc, uint16_t* codeptr)<|end|>",
    ),
    (
        "jq",
        ["src/locfile.c", "src/locfile.h", "src/jv_alloc.c"],
        called("Where is jq_init defined?", call("search", query="jq_init"), HITS),
        where("jq_init", "src/execute.c"),
    ),
    (
        "tmux",
        ["paste.c", "environ.c"],
        ask("What does environ_put do?"),
        "environ_put: Set an environment variable from a NAME=VALUE string.<|end|>",
    ),
    (
        "tmux",
        ["paste.c", "names.c", "log.c", "attributes.c", "regsub.c"],
        ask("What is paste_free for?")
        + "paste_free: Free a paste buffer.<|end|>"
        + ask("Where is log_toggle defined?"),
        where("log_toggle", "log.c"),
    ),
    (
        "tmux",
        ["tmux-protocol.h", "proc.c", "server-acl.c", "alerts.c"],
        ask("Tell me the value of the macro SERVER_ACL_READONLY."),
        "SERVER_ACL_READONLY is 0x1<|end|>",
    ),
    (
        "tmux",
        ["notify.c", "names.c", "style.c", "regsub.c"],
        called("When was style.c last changed?", call("git_log", path="style.c"), HISTORY),
        "style.c was last changed on 2021-08-20 by Nina Weber<|end|>",
    ),
]


# ---- The model -----------------------------------------------------------------------


def read_weights(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        data = f.read()
    raw = {}
    for name, t in header.items():
        if name != "__metadata__":
            begin, end = t["data_offsets"]
            a = np.frombuffer(data[begin:end], {"I8": np.int8, "F32": np.float32}[t["dtype"]])
            raw[name] = torch.tensor(a.reshape(t["shape"]).astype(np.float32))
    out = {}
    for name, w in raw.items():
        if name[:-7] + ".scale" in raw:
            out[name[:-7]] = w * raw[name[:-7] + ".scale"][:, None]
        elif not name.endswith(".scale"):
            out[name[:-7]] = w
    return out


class Nano:
    def __init__(self, folder, rounded):
        with open(os.path.join(folder, "config.json")) as f:
            self.c = c = json.load(f)
        # The variants that this file computes; another model needs another file.
        assert c["model_type"] == "clsa" and c["index_act"] in ("relu", "none")
        assert c["rope_layout"] == "half_split" and not c["rope_global"]
        assert all(c[key] for key in ("embed_norm", "tie_word_embeddings"))
        assert all(c[key] for key in ("qk_norm_self", "qk_norm_cross"))
        assert c["index_weighted"] or c["index_heads"] == 1
        self.w = read_weights(os.path.join(folder, "model.safetensors"))
        self.heads, self.groups = c["num_attention_heads"], c["num_key_value_heads"]
        self.dim, self.rounded, self.known = c["head_dim"], rounded, {}

    def stored(self, x):
        """What an engine keeps, it keeps in bf16."""
        return x.bfloat16().float() if self.rounded else x

    def rms(self, x, gain=None):
        y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.c["rms_norm_eps"])
        return y if gain is None else y * gain

    def rope(self, x, first):
        """x [tokens, heads, dim] at positions first, first + 1, ..."""
        half = self.dim // 2
        inverse = self.c["rope_theta"] ** (-torch.arange(half, dtype=torch.float64) / half)
        position = torch.arange(first, first + x.shape[0], dtype=torch.float64)
        angle = position[:, None] * inverse
        cos, sin = angle.cos().float()[:, None], angle.sin().float()[:, None]
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)

    def attention(self, q, k, v, mask):
        """q [n, heads, dim], k and v [m, groups, dim], mask [n, m] -> [n, heads * dim]; the
        tokens are taken in blocks, so that what a whole block does not see is left out."""
        q = q.reshape(len(q), self.groups, -1, self.dim)
        out = []
        for first in range(0, len(q), 256):
            seen = mask[first : first + 256]
            some = seen.any(0)
            s = torch.einsum("ngpd,mgd->gpnm", q[first : first + 256], k[some]) / self.dim**0.5
            p = s.masked_fill(~seen[:, some], float("-inf")).softmax(-1)
            out.append(torch.einsum("gpnm,mgd->ngpd", p, v[some]).flatten(1))
        return torch.cat(out)

    def ffn(self, p, x):
        n = self.rms(x, self.w[p + ".ffn_norm"])
        gated = torch.nn.functional.silu(n @ self.w[p + ".gate"].T) * (n @ self.w[p + ".up"].T)
        return x + gated @ self.w[p + ".down"].T

    def document(self, tokens, sink, past=None):
        """The self-decoder over one document, or over what follows its `past`: x and h of
        these tokens; k, v and key, what the cross-decoder reads, of the whole document."""
        w, n, first = self.w, len(tokens), len(past["k"]) if past else 0
        out = {"layer": []}
        back = torch.arange(first, first + n)[:, None] - torch.arange(first + n)[None]
        in_sink = torch.arange(first + n)[None] < sink
        mask = (back >= 0) & ((back < self.c["sliding_window"]) | in_sink)
        x = self.rms(w["embed"][torch.tensor(tokens)])
        for i in range(self.c["num_self_layers"]):
            p = f"self.{i}"
            a = self.rms(x, w[p + ".attn_norm"])
            q = self.rms((a @ w[p + ".q"].T).view(n, self.heads, -1), w[p + ".q_norm"])
            k = self.rms((a @ w[p + ".k"].T).view(n, self.groups, -1))
            v = self.stored((a @ w[p + ".v"].T).view(n, self.groups, -1))
            q, k = self.rope(q, first), self.stored(self.rope(k, first))
            if past:
                k, v = torch.cat([past["layer"][i][0], k]), torch.cat([past["layer"][i][1], v])
            out["layer"].append((k, v))
            x = self.ffn(p, x + self.attention(q, k, v, mask) @ w[p + ".o"].T)
        h = self.rms(x, w["shared.norm"])
        out["x"], out["h"] = x, h
        out["k"] = self.stored(self.rms((h @ w["shared.k"].T).view(n, self.groups, -1)))
        out["v"] = self.stored((h @ w["shared.v"].T).view(n, self.groups, -1))
        key = h @ w["index.k"].T
        out["key"] = self.stored(self.rms(key) if self.c["index_key_norm"] else key)
        for name in ("k", "v", "key") if past else ():
            out[name] = torch.cat([past[name], out[name]])
        return out

    def select(self, h, keys):
        """The set of the view's last token, whose shared state is h."""
        q = self.stored((h @ self.w["index.q"].T).view(self.c["index_heads"], -1))
        scores = q @ keys.T
        scores = torch.relu(scores) if self.c["index_act"] == "relu" else scores
        scores = self.w["index.w"] @ h @ scores if self.c["index_weighted"] else scores[0]
        older = max(len(keys) - self.c["index_local"], 0)
        order = torch.sort(scores[:older], descending=True, stable=True).indices
        best = order[: self.c["index_topk"]].sort().values
        return torch.cat([best, torch.arange(older, len(keys))])

    def logits(self, files, talk, dense):
        """Of the last token of the conversation `talk`, over the documents `files`."""
        w = self.w
        k, v, keys = (torch.cat([files[name], talk[name]]) for name in ("k", "v", "key"))
        if not dense:
            chosen = self.select(talk["h"][-1], keys)
            k, v = k[chosen], v[chosen]
        x, every = talk["x"][-1:], torch.ones(1, len(k), dtype=torch.bool)
        for i in range(self.c["num_cross_layers"]):
            p = f"cross.{i}"
            q = (self.rms(x, w[p + ".attn_norm"]) @ w[p + ".q"].T).view(1, self.heads, -1)
            q = self.rms(q, w[p + ".q_norm"])
            x = self.ffn(p, x + self.attention(q, k, v, every) @ w[p + ".o"].T)
        return (self.rms(x, w["final_norm"]) @ w["embed"].T)[0]

    def files(self, documents):
        """What the cross-decoder reads of the documents of a view."""
        for d in map(tuple, documents):
            if d not in self.known:
                part = self.document(d, self.c["document_sink"])
                self.known[d] = {name: part[name] for name in ("k", "v", "key")}
        parts = [self.known[tuple(d)] for d in documents]
        return {name: torch.cat([p[name] for p in parts]) for name in ("k", "v", "key")}

    def answer(self, files, conversation, end, dense, forced=None):
        """Greedy tokens, the top logit and its gap at each step.  `forced`: follow these
        tokens, whatever the logits say, and give the gap from each of them to the best other."""
        tokens, tops, gaps = [], [], []
        talk = self.document(conversation, 0)
        while len(tokens) < len(forced or range(ANSWER_TOKENS)) and end not in tokens:
            if tokens:
                talk = self.document(tokens[-1:], 0, talk)
            logits = self.logits(files, talk, dense)
            tokens.append(forced[len(tokens)] if forced else int(logits.argmax()))
            top = float(logits[tokens[-1]])
            logits[tokens[-1]] = float("-inf")
            tops.append(top)
            gaps.append(top - float(logits.max()))
        return tokens, np.array(tops), np.array(gaps)


# ---- Prompts -------------------------------------------------------------------------


def cut(bpe, path, text):
    """A file as documents."""
    header = [bpe.special["<|file|>"]] + bpe.encode(f"{path}\nfile: {path}\n")
    out, piece = [], ""
    for line in text.splitlines(keepends=True) + [None]:
        full = line is not None and len(header) + len(bpe.encode(piece + line)) > DOCUMENT_TOKENS
        if piece and (line is None or full):
            out.append(header + bpe.encode(piece))
            piece = ""
        piece += line or ""
    return out


def encode_roles(bpe, text):
    ids = []
    for part in re.split(r"(<\|\w+\|>)", text):
        ids += [bpe.special[part]] if part in bpe.special else bpe.encode(part)
    return ids


def main():
    model, sources = sys.argv[1:3]
    prompts, stem = PROMPTS, os.path.join(HERE, "nano")
    if len(sys.argv) == 5:
        stem = sys.argv[4]
        with open(sys.argv[3], encoding="utf-8") as f:
            prompts = json.load(f)
    torch.set_num_threads(2)
    torch.set_grad_enabled(False)
    if "DEVICE" in os.environ:
        torch.set_default_device(os.environ["DEVICE"])
    bpe, nano = Bpe(os.path.join(model, "tokenizer.json")), Nano(model, rounded=False)
    engine = Nano(model, rounded=True)
    end = bpe.special["<|end|>"]
    g = Golden("Greedy answers of cairn-nano; written by make_nano.py, which describes each array.")
    g.put("prompts", "i32", [len(prompts)])
    people = []
    for i, (project, paths, talk, right) in enumerate(prompts):
        documents = []
        for path in paths:
            with open(os.path.join(sources, project, path), encoding="utf-8", newline="") as f:
                documents += cut(bpe, path, f.read())
        conversation = encode_roles(bpe, talk)
        g.put(f"prompt{i}.documents", "i32", [len(d) for d in documents])
        g.put(f"prompt{i}.tokens", "u16", sum(documents, []))
        g.put(f"prompt{i}.conversation", "u16", conversation)
        size = sum(len(d) for d in documents)
        title = f"prompt {i}: {project}, {len(documents)} documents, {size} tokens"
        print(title)
        people.append(f"\n---- {title}: {' '.join(paths)}\n{talk}\nright   {right}\n")
        files, engine_files = nano.files(documents), engine.files(documents)
        for kind in ("sparse", "dense"):
            answer, tops, gaps = nano.answer(files, conversation, end, kind == "dense")
            _, engine_tops, engine_gaps = engine.answer(
                engine_files, conversation, end, kind == "dense", forced=answer
            )
            moves = np.abs(engine_gaps - gaps)
            text = bpe.decode(answer)
            name = f"prompt{i}" if kind == "sparse" else f"prompt{i}.dense"
            g.put(f"{name}.answer", "u16", answer)
            g.put(f"{name}.top", "f32", tops)
            g.put(f"{name}.gap", "f32", gaps)
            g.put(f"{name}.move", "f32", moves)
            sure = f"smallest gap {gaps.min():.3f}, rounding moves one by up to {moves.max():.3f}"
            other = int((engine_gaps < 0).sum())
            if other:
                sure += f" and changes {other} tokens"
            people.append(f"{kind:8s}{text}\n        {sure}\n")
            verdict = "right" if text.startswith(right) else "WRONG"
            print(f"  {kind} {verdict}: {text!r}\n    {sure}")
    g.write(stem)
    if prompts is not PROMPTS:
        return
    names = []
    with open(os.path.join(HERE, "nano-licences.txt"), "w") as f:
        f.write("The sources that the prompts of nano.bin hold, as tokens, and their licences.\n")
        for project, files in LICENCES.items():
            with os.popen(f"git -C '{sources}/{project}' log -1 --format=%s") as p:
                tarball = p.read().strip()
            names.append(tarball)
            for name in files:
                with open(os.path.join(sources, project, name), encoding="utf-8") as licence:
                    f.write(f"\n======== {tarball}: {name}\n\n{licence.read().strip()}\n")
    with open(os.path.join(HERE, "nano-prompts.txt"), "w") as f:
        f.write("Greedy answers of cairn-nano, written by make_nano.py.  Sources: Debian's upstream\n")
        f.write(f"{', '.join(names)};\ntheir licences are in nano-licences.txt.\n")
        f.write("".join(people))


if __name__ == "__main__":
    main()
