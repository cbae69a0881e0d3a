"""make_tiny.py - Tiny random models as model folders, and what they must compute.

    python3 tests/golden/make_tiny.py [NAME...]            write tests/golden/NAME; all of them
    python3 tests/golden/make_tiny.py deviation [NAME...]  write nothing; print how far an engine
                                                           is expected to be from these numbers

The numbers come straight from the equations (arXiv:2606.06467 on arXiv:2405.05254, with
the variants of engine/config.h) in f64, one token at a time.  It shares no code with the
engine: an error of the engine cannot hide here.  numpy is all it needs.

    tiny-a         every variant on: int8 rows, document sink, tied embedding with norm,
                   cross QK norm, four weighted ReLU index heads with key norm and local tokens
    tiny-b         the paper's form, bf16: one plain index head; interleaved rope
    tiny-b-yoco    tiny-b without its index: dense cross attention
    tiny-b-global  the same weights with rope on the shared K and the cross queries
    tiny-a-perlayer     the form of tiny-a, an index in each cross layer: keys from h, query from
                        the layer's own normed x
    tiny-b-transformer  the form of tiny-b, four layers that see all tokens; theta 500000

Scenario: documents of 300, 40 and 7 tokens and a conversation of 50; its last 6 tokens are
queries.  The view of a query is the documents in order, then the conversation up to and
with the query's token.  "alone" is one more query: its view is the conversation alone, shorter than
the set may be.  tiny-b-global, tiny-b-transformer: one document of 300 tokens, its last 6 are
queries.

golden.txt / golden.bin (format: golden.py), n tokens, N tokens in the view:

    doc<i>.tokens                i32 [n]     i = 0..2 are documents, doc3 is the conversation
    doc<i>.h                     f32 [n, hidden]     the shared state
    doc<i>.k, .v                 f32 [n, kv_heads * head_dim]     K after its norm
    doc<i>.index_key             f32 [n, index_head_dim]     after its norm; perlayer: of each
                                             cross layer, [n, layers, index_head_dim]
    query<j>.position            i32 [1]     in the conversation (or in the one document)
    query<j>.scores              f32 [N]     I[s] for the whole view, also the local tokens
    query<j>.set                 i32 [|S|]   positions in the view, ascending
    query<j>.gap                 f32 [1]     the k-th less the (k+1)-th largest score of those
                                             that compete
    query<j>.x                   f32 [1 + cross layers, hidden]     x before the first cross
                                             layer and after each
    query<j>.logits              f32 [vocab]
    alone.position, .scores, .set, .x, .logits     the same

perlayer: .scores, .set and .gap have a first dimension, cross layers.  tiny-b-yoco and
tiny-b-global hold tokens, positions and logits only; tiny-b-transformer also query<j>.x, f32
[1 + layers, hidden]: the embedding and x after each layer.
"""
import copy
import json
import os
import sys

import numpy as np

from golden import Golden, bf16, bf16_bits, write_safetensors

HERE = os.path.dirname(os.path.abspath(__file__))
QUERIES = 6
CONVERSATION = 50
ALONE = 19
DOCUMENTS = (300, 40, 7)
ROLES = ["pad", "file", "user", "assistant", "tool_call", "tool_result", "end"]

# How an engine rounds: not at all, as the headers of kernels/ say, or also the queries and
# probabilities of attention to bf16, which a fast path may do.
EXACT, HEADERS, WORST = range(3)

CONFIG_A = {
    "model_type": "clsa",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_self_layers": 2,
    "num_cross_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 272,
    "sliding_window": 32,
    "document_sink": 5,
    "rope_theta": 10000.0,
    "rope_layout": "half_split",
    "rope_global": False,
    "rms_norm_eps": 1e-6,
    "embed_norm": True,
    "tie_word_embeddings": True,
    "qk_norm_self": True,
    "qk_norm_cross": True,
    "index_heads": 4,
    "index_head_dim": 16,
    "index_act": "relu",
    "index_weighted": True,
    "index_key_norm": True,
    "index_local": 8,
    "index_topk": 24,
    "conversation_refs": False,
    "quantization": "int8_rows",
}

CONFIG_B = {
    "model_type": "clsa",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_self_layers": 2,
    "num_cross_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "vocab_size": 263,
    "sliding_window": 24,
    "document_sink": 0,
    "rope_theta": 5000.0,
    "rope_layout": "interleaved",
    "rope_global": False,
    "rms_norm_eps": 1e-5,
    "embed_norm": False,
    "embed_scale": 1.5,
    "tie_word_embeddings": False,
    "qk_norm_self": True,
    "qk_norm_cross": False,
    "index_heads": 1,
    "index_head_dim": 32,
    "index_act": "none",
    "index_weighted": False,
    "index_key_norm": False,
    "index_local": 0,
    "index_topk": 20,
    "conversation_refs": True,
    "quantization": "none",
}

CONFIG_PERLAYER = dict(CONFIG_A, model_type="yoco-perlayer")

CONFIG_TRANSFORMER = dict(
    CONFIG_B,
    model_type="transformer",
    num_self_layers=4,
    num_cross_layers=0,
    rope_theta=500000.0,
)


# ---- Weights -------------------------------------------------------------------------


def index_prefixes(c):
    """What stands before the names of each index, in order."""
    if c["model_type"] == "clsa":
        return [""]
    if c["model_type"] == "yoco-perlayer":
        return [f"cross.{i}." for i in range(c["num_cross_layers"])]
    return []


def shapes(c):
    """name -> shape, in the order of the file.  A matrix's fan-in is its last dimension."""
    d, f, hd = c["hidden_size"], c["intermediate_size"], c["head_dim"]
    q, kv = c["num_attention_heads"] * hd, c["num_key_value_heads"] * hd
    out = {"embed": (c["vocab_size"], d)}
    ffn = {"gate": (f, d), "up": (f, d), "down": (d, f)}
    for i in range(c["num_self_layers"]):
        layer = {"attn_norm": (d,), "ffn_norm": (d,)}
        layer |= {"q": (q, d), "k": (kv, d), "v": (kv, d), "o": (d, q)} | ffn
        if c["quantization"] == "int8_rows":  # tiny-a: a gain for each q head, none for k
            layer["q_norm"] = (c["num_attention_heads"], hd)
        else:
            layer |= {"q_norm": (hd,), "k_norm": (hd,)}
        out |= {f"self.{i}.{k}": v for k, v in layer.items()}
    if c["model_type"] != "transformer":
        out |= {"shared.norm": (d,), "shared.k": (kv, d), "shared.v": (kv, d)}
    heads, dim = c["index_heads"], c["index_head_dim"]
    for prefix in index_prefixes(c):
        out |= {prefix + "index.q": (heads * dim, d), prefix + "index.k": (dim, d)}
        if c["index_weighted"]:
            out[prefix + "index.w"] = (heads, d)
    for i in range(c["num_cross_layers"]):
        layer = {"attn_norm": (d,), "ffn_norm": (d,), "q": (q, d), "o": (d, q)} | ffn
        if c["qk_norm_cross"]:
            layer["q_norm"] = (c["num_attention_heads"], hd)
        out |= {f"cross.{i}.{k}": v for k, v in layer.items()}
    out["final_norm"] = (d,)
    if not c["tie_word_embeddings"]:
        out["lm_head"] = (c["vocab_size"], d)
    return out


def is_gain(name):
    return name.endswith("norm")


def make_weights(c, seed):
    """name -> (stored arrays, W as f64).  Scales keep x near 1 and logits within about 10."""
    r = np.random.RandomState(seed)
    stored, weights = [], {}
    for name, shape in shapes(c).items():
        if is_gain(name):
            w = r.uniform(0.5, 1.5, shape) * (1.6 if name.endswith("q_norm") else 1.0)
            if c["quantization"] == "none":
                stored.append((name + ".weight", "BF16", bf16_bits(w)))
                weights[name] = bf16(w)
            else:
                w = w.astype(np.float32)
                stored.append((name + ".weight", "F32", w))
                weights[name] = w.astype(np.float64)
            continue
        w = r.standard_normal(shape) / np.sqrt(shape[-1])
        w *= {"embed": 3.0, "lm_head": 3.0, "o": 0.7, "down": 0.7}.get(name.split(".")[-1], 1.0)
        if name.startswith("cross") and name.endswith(".q"):
            w *= 2.0
        if c["quantization"] == "none":
            stored.append((name + ".weight", "BF16", bf16_bits(w)))
            weights[name] = bf16(w)
        else:
            scale = (np.abs(w).max(1) / 127).astype(np.float32)
            q = np.rint(w / scale[:, None]).clip(-127, 127).astype(np.int8)
            stored += [(name + ".weight", "I8", q), (name + ".scale", "F32", scale)]
            weights[name] = q.astype(np.float64) * scale[:, None].astype(np.float64)
    return stored, weights


# ---- The equations -------------------------------------------------------------------


def rms(x, eps, gain=None):
    y = x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)
    return y if gain is None else y * gain


def rope(x, position, theta, layout):
    """x [heads, dim]"""
    dim = x.shape[1]
    y = np.empty_like(x)
    for i in range(dim // 2):
        angle = position * theta ** (-2.0 * i / dim)
        a, b = (i, i + dim // 2) if layout == "half_split" else (2 * i, 2 * i + 1)
        y[:, a] = x[:, a] * np.cos(angle) - x[:, b] * np.sin(angle)
        y[:, b] = x[:, b] * np.cos(angle) + x[:, a] * np.sin(angle)
    return y


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


class Model:
    def __init__(self, config, weights, rounding=EXACT):
        self.c, self.w, self.rounding = config, weights, rounding
        self.heads, self.groups = config["num_attention_heads"], config["num_key_value_heads"]
        self.dim, self.eps = config["head_dim"], config["rms_norm_eps"]

    def stored(self, x):
        """What is kept for later is kept in bf16."""
        return x if self.rounding == EXACT else bf16(x)

    def product(self, name, x):
        if self.rounding != EXACT:
            if self.c["quantization"] == "none":
                x = bf16(x)
            else:
                s = np.abs(x).max()
                x = np.rint(x * (32512 / s)) * (s / 32512)
        return self.w[name] @ x

    def rope(self, x, position):
        return rope(x, position, self.c["rope_theta"], self.c["rope_layout"])

    def ffn(self, prefix, x):
        n = rms(x, self.eps, self.w[prefix + ".ffn_norm"])
        gate, up = self.product(prefix + ".gate", n), self.product(prefix + ".up", n)
        return x + self.product(prefix + ".down", gate / (1 + np.exp(-gate)) * up)

    def attention(self, q, k, v):
        """q [heads, dim]; k, v [rows, groups, dim] -> [heads * dim]"""
        out = np.empty_like(q)
        if self.rounding == WORST:
            q = bf16(q)
        for h in range(self.heads):
            g = h // (self.heads // self.groups)
            p = softmax(k[:, g] @ q[h] / np.sqrt(self.dim))
            if self.rounding == WORST:
                p = bf16(p)
            out[h] = p @ v[:, g]
        return out.reshape(-1)

    def head_norm(self, x, name):
        """x [heads, dim]; the gain is [heads, dim], [dim] or absent."""
        return rms(x, self.eps, self.w.get(name))


class Document:
    """The self-decoder over one document: positions from 0, nothing seen beyond its borders."""

    def __init__(self, model, sink):
        self.m, self.sink = model, sink
        layers = model.c["num_self_layers"]
        self.k, self.v = [[] for _ in range(layers)], [[] for _ in range(layers)]
        self.x, self.h, self.K, self.V, self.Kidx = [], [], [], [], []
        self.layers = []  # x of the last token: its embedding, then after each layer

    def __deepcopy__(self, memo):
        other = Document(self.m, self.sink)
        for key in ("k", "v"):
            setattr(other, key, [list(rows) for rows in getattr(self, key)])
        for key in ("x", "h", "K", "V", "Kidx"):
            setattr(other, key, list(getattr(self, key)))
        return other

    def push(self, token):
        m, c, t = self.m, self.m.c, len(self.x)
        x = m.w["embed"][token]
        if c["embed_norm"]:
            x = rms(x, m.eps)
        x = x * c.get("embed_scale", 1.0)
        self.layers = [x]
        for i in range(c["num_self_layers"]):
            p = f"self.{i}"
            n = rms(x, m.eps, m.w[p + ".attn_norm"])
            q = m.product(p + ".q", n).reshape(m.heads, m.dim)
            k = m.product(p + ".k", n).reshape(m.groups, m.dim)
            v = m.product(p + ".v", n).reshape(m.groups, m.dim)
            if c["qk_norm_self"]:
                q, k = m.head_norm(q, p + ".q_norm"), m.head_norm(k, p + ".k_norm")
            self.k[i].append(m.stored(m.rope(k, t)))
            self.v[i].append(m.stored(v))
            seen = range(t + 1)
            if c["model_type"] != "transformer":
                seen = [s for s in seen if t - s < c["sliding_window"] or s < self.sink]
            o = m.attention(
                m.rope(q, t),
                np.array([self.k[i][s] for s in seen]),
                np.array([self.v[i][s] for s in seen]),
            )
            x = m.ffn(p, x + m.product(p + ".o", o))
            self.layers.append(x)
        self.x.append(x)
        if c["model_type"] == "transformer":
            return self
        h = rms(x, m.eps, m.w["shared.norm"])
        K = m.product("shared.k", h).reshape(m.groups, m.dim)
        if c["qk_norm_cross"]:
            K = m.head_norm(K, "shared.k_norm")
        if c["rope_global"]:
            K = m.rope(K, t)
        self.h.append(h)
        self.K.append(m.stored(K))
        self.V.append(m.stored(m.product("shared.v", h).reshape(m.groups, m.dim)))
        keys = [m.product(prefix + "index.k", h) for prefix in index_prefixes(c)]
        if keys:
            self.Kidx.append([m.stored(rms(k, m.eps) if c["index_key_norm"] else k) for k in keys])
        return self

    def run(self, tokens):
        for token in tokens:
            self.push(token)
        return self


def index_scores(m, prefix, x, keys):
    """x is what the query is made of: h, or a layer's normed state."""
    c = m.c
    q = m.stored(m.product(prefix + "index.q", x)).reshape(c["index_heads"], c["index_head_dim"])
    w = m.product(prefix + "index.w", x) if c["index_weighted"] else np.ones(c["index_heads"])
    scores = []
    for key in keys:
        dots = q @ key
        if c["index_act"] == "relu":
            dots = np.maximum(dots, 0)
        scores.append(w @ dots)
    return np.array(scores)


def select(c, scores):
    """The set, ascending, and the gap between the last score in and the first one out."""
    older = max(len(scores) - c["index_local"], 0)
    order = sorted(range(older), key=lambda s: (-scores[s], s))
    k = c["index_topk"]
    gap = scores[order[k - 1]] - scores[order[k]] if older > k else np.inf
    return sorted(order[:k]) + list(range(older, len(scores))), gap


def query(m, view, conversation, position):
    """A token of the conversation through the cross-decoder; `view` ends with the conversation."""
    c = m.c
    last = [(d, s) for d in view for s in range(position + 1 if d is conversation else len(d.x))]
    out = {"position": position, "scores": [], "set": [], "gap": []}

    def route(i, x):
        """The rows of index i for a query made of x."""
        keys = [d.Kidx[s][i] for d, s in last]
        out["scores"].append(index_scores(m, index_prefixes(c)[i], x, keys))
        s, gap = select(c, out["scores"][i])
        out["set"].append(s), out["gap"].append(gap)
        return [last[s] for s in out["set"][i]]

    rows = route(0, conversation.h[position]) if c["model_type"] == "clsa" else last
    x = conversation.x[position]
    out["x"] = [x]
    for i in range(c["num_cross_layers"]):
        p = f"cross.{i}"
        n = rms(x, m.eps, m.w[p + ".attn_norm"])
        if c["model_type"] == "yoco-perlayer":
            rows = route(i, n)
        K, V = np.array([d.K[s] for d, s in rows]), np.array([d.V[s] for d, s in rows])
        q = m.product(p + ".q", n).reshape(m.heads, m.dim)
        if c["qk_norm_cross"]:
            q = m.head_norm(q, p + ".q_norm")
        if c["rope_global"]:
            q = m.rope(q, position)
        x = m.ffn(p, x + m.product(p + ".o", m.attention(q, K, V)))
        out["x"].append(x)
    out["logits"] = logits(m, x)
    return out


def logits(m, x):
    c = m.c
    n = rms(x, m.eps, m.w["final_norm"])
    return m.product("embed" if c["tie_word_embeddings"] else "lm_head", n)


# ---- Scenarios -----------------------------------------------------------------------


def choose_tokens(m, seed):
    """Random tokens.  Those of the queries are the ones whose set is clearest: of all tokens
    that could come next, the one with the widest gap between in and out, in standard
    deviations of the scores.  So rounding does not change a set."""
    r = np.random.RandomState(seed)
    vocab = m.c["vocab_size"]
    tokens = [r.randint(0, vocab, n).tolist() for n in DOCUMENTS]
    view = [Document(m, m.c["document_sink"]).run(t) for t in tokens]
    talk = r.randint(0, vocab, CONVERSATION - QUERIES).tolist()
    conversation = Document(m, 0).run(talk)
    for _ in range(QUERIES):
        widest = 0.0
        for token in range(vocab):
            trial = copy.deepcopy(conversation).push(token)
            q = query(m, view + [trial], trial, len(trial.x) - 1)
            gap = min(g / s.std() for g, s in zip(q["gap"], q["scores"]))
            if gap > widest:
                widest, best = gap, token
        talk.append(best)
        conversation.push(best)
    return tokens + [talk]


def scenario(m, tokens):
    """tokens: of each document; the last list is the conversation, which has no sink.
    Gives the documents and the queries by name."""
    if m.c["model_type"] == "transformer":
        return sequence(m, tokens[-1])
    view = [Document(m, m.c["document_sink"]).run(t) for t in tokens[:-1]]
    talk = Document(m, 0).run(tokens[-1])
    view.append(talk)
    first = len(tokens[-1]) - QUERIES
    queries = {f"query{j}": query(m, view, talk, first + j) for j in range(QUERIES)}
    if index_prefixes(m.c):
        queries["alone"] = query(m, [talk], talk, ALONE)
    return view, queries


def sequence(m, tokens):
    """A transformer's scenario: one document, asked at its last tokens."""
    d, queries, first = Document(m, 0), {}, len(tokens) - QUERIES
    for t, token in enumerate(tokens):
        x = d.push(token).layers
        if t >= first:
            queries[f"query{t - first}"] = {"position": t, "x": x, "logits": logits(m, x[-1])}
    return [d], queries


def write_golden(name, m, tokens):
    c, indexes = m.c, len(index_prefixes(m.c))
    view, queries = scenario(m, tokens)
    g = Golden(f"What {name} computes; written by make_tiny.py, which describes each array.")
    for i, d in enumerate(view):
        g.put(f"doc{i}.tokens", "i32", tokens[i])
        if indexes:
            n = len(d.x)
            g.put(f"doc{i}.h", "f32", np.array(d.h))
            g.put(f"doc{i}.k", "f32", np.array(d.K).reshape(n, -1))
            g.put(f"doc{i}.v", "f32", np.array(d.V).reshape(n, -1))
            keys = np.array(d.Kidx)
            g.put(f"doc{i}.index_key", "f32", keys[:, 0] if c["model_type"] == "clsa" else keys)
    for key, q in queries.items():
        g.put(f"{key}.position", "i32", q["position"])
        for scores, chosen, gap in zip(q["scores"], q["set"], q["gap"]) if indexes else []:
            assert select(c, scores.astype(np.float32))[0] == chosen, "f32 scores: another set"
            if key != "alone":
                older = np.sort(scores[: len(scores) - c["index_local"]])[::-1]
                assert gap > 1e-3 * abs(older[c["index_topk"] - 1]), "a close call"
        if indexes:
            of_all = {k: q[k][0] if c["model_type"] == "clsa" else q[k] for k in ("scores", "set", "gap")}
            g.put(f"{key}.scores", "f32", np.array(of_all["scores"]))
            g.put(f"{key}.set", "i32", of_all["set"])
            if key != "alone":
                g.put(f"{key}.gap", "f32", of_all["gap"])
        if indexes or c["model_type"] == "transformer":
            g.put(f"{key}.x", "f32", np.array(q["x"]))
        g.put(f"{key}.logits", "f32", q["logits"])
    g.write(os.path.join(HERE, name, "golden"))


def byte_alphabet():
    """The printable stand-in of each byte (GPT-2's), in order of code point."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]


def write_folder(name, c, stored, roles_first):
    folder = os.path.join(HERE, name)
    os.makedirs(folder, exist_ok=True)
    specials = [f"<|{r}|>" for r in ROLES]
    words = specials + byte_alphabet() if roles_first else byte_alphabet() + specials
    vocab = {w: i for i, w in enumerate(words)}
    config = dict(c, roles={r: vocab[f"<|{r}|>"] for r in ROLES})
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    bytelevel = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": vocab[s], "content": s, **flags, "special": True} for s in specials
        ],
        "normalizer": None,
        "pre_tokenizer": {**bytelevel, "use_regex": False},
        "post_processor": None,
        "decoder": {**bytelevel, "use_regex": False},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": vocab,
            "merges": [],
        },
    }
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, indent=2)
        f.write("\n")
    with open(os.path.join(folder, "tokenizer.json"), "w") as f:
        json.dump(tokenizer, f, ensure_ascii=False)
        f.write("\n")
    write_safetensors(os.path.join(folder, "model.safetensors"), stored)


def stages(view, queries):
    """Everything that is compared, as one flat array a stage."""
    out = {}
    for key in ("h", "K", "V", "Kidx"):
        if getattr(view[0], key):
            out[key] = np.concatenate([np.array(getattr(d, key)).ravel() for d in view])
    queries = queries.values()
    if next(iter(queries)).get("scores"):
        out["scores"] = np.concatenate([s for q in queries for s in q["scores"]])
    kind = "cross layers" if view[0].h else "layers"
    for i in range(len(next(iter(queries))["x"])):
        out[f"x, {i} {kind}"] = np.concatenate([q["x"][i] for q in queries])
    out["logits"] = np.concatenate([q["logits"] for q in queries])
    return out


def deviation(name, c, weights, tokens):
    """Print a table of what the roundings of an engine do to each stage."""
    exact_view, exact = scenario(Model(c, weights), tokens)
    want = stages(exact_view, exact)
    row = {k: [np.sqrt((v * v).mean()), np.abs(v).max()] for k, v in want.items()}
    clear = np.inf
    for rounding in (HEADERS, WORST):
        view, queries = scenario(Model(c, weights, rounding), tokens)
        for key, v in stages(view, queries).items():
            e = v - want[key]
            row[key] += [np.abs(e).max(), np.sqrt((e * e).mean())]
        for key, q in queries.items():
            if not q.get("set"):
                continue
            assert q["set"] == exact[key]["set"], "rounding changes a set"
            for got, want_scores, gap in zip(q["scores"], exact[key]["scores"], exact[key]["gap"]):
                clear = min(clear, gap / np.abs(got - want_scores).max())
    note = "" if clear == np.inf else f", narrowest gap {clear:.1f} x the largest score error"
    print(f"\n{name}{note}\n")
    print("| stage | rms | max | max dev | rms dev | max dev, q p bf16 | rms dev, q p bf16 |")
    print("|---|---|---|---|---|---|---|")
    for key, v in row.items():
        e = " | ".join(f"{x:.4f}" for x in v[2:])
        print(f"| {key} | {v[0]:.2f} | {v[1]:.2f} | {e} |")


def runs(names):
    """(name, config, stored tensors, weights, tokens) of each model that is wanted."""

    def wanted(*some):
        return not names or any(n in names for n in some)

    out = []
    if wanted("tiny-a"):
        stored, weights = make_weights(CONFIG_A, 1)
        out.append(("tiny-a", CONFIG_A, stored, weights, choose_tokens(Model(CONFIG_A, weights), 11)))
    if wanted("tiny-b", "tiny-b-yoco", "tiny-b-global"):
        stored, weights = make_weights(CONFIG_B, 2)
        tokens = choose_tokens(Model(CONFIG_B, weights), 12)
        yoco = dict(CONFIG_B, model_type="yoco")
        globally = dict(yoco, rope_global=True)
        dense = [t for t in stored if not t[0].startswith("index.")]
        out += [
            ("tiny-b", CONFIG_B, stored, weights, tokens),
            ("tiny-b-yoco", yoco, dense, weights, tokens),
            ("tiny-b-global", globally, dense, weights, tokens[:1]),
        ]
    if wanted("tiny-a-perlayer"):
        c = CONFIG_PERLAYER
        stored, weights = make_weights(c, 3)
        out.append(("tiny-a-perlayer", c, stored, weights, choose_tokens(Model(c, weights), 13)))
    if wanted("tiny-b-transformer"):
        c = CONFIG_TRANSFORMER
        stored, weights = make_weights(c, 4)
        tokens = np.random.RandomState(14).randint(0, c["vocab_size"], DOCUMENTS[0]).tolist()
        out.append(("tiny-b-transformer", c, stored, weights, [tokens]))
    return [r for r in out if not names or r[0] in names]


def main():
    names = [a for a in sys.argv[1:] if a != "deviation"]
    for name, c, stored, weights, tokens in runs(names):
        if "deviation" in sys.argv[1:]:
            deviation(name, c, weights, tokens)
        else:
            write_folder(name, c, stored, roles_first=name.startswith("tiny-a"))
            write_golden(name, Model(c, weights), tokens)


if __name__ == "__main__":
    main()
