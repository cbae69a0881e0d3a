"""model.py - The model in PyTorch, to be trained: YOCO (arXiv:2405.05254) with dense cross-attention.

A batch is flat: B sequences of T tokens, one after the other, as they were packed (pack.py).
The self-decoder sees one document at a time: window, and in files the sink.  The cross-decoder
runs for the last M tokens of each sequence and attends to all before them; the tokens in front
only give K and V.  The index is trained afterwards (index.py).

Matrices of a kind are stacked over layers, self layers first, so that one product of the
optimizer serves them all.
"""
import json, struct

import numpy as np
import torch
import torch.nn.functional as fn
from torch.nn.attention.flex_attention import BlockMask, flex_attention

MATRICES = ("q", "k", "v", "o", "gate", "up", "down")  # trained by Muon
BLOCK = 128  # of the window mask


def compiled(f):
    return torch.compile(f, dynamic=False, fullgraph=True)


def rms(x, gain=None, eps=1e-6):
    y = x.float() * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + eps)
    return (y if gain is None else y * gain).to(x.dtype)


def rope(x, cos, sin):
    """x [n, heads, dim], cos and sin [n, 1, dim/2]: halves rotate against each other"""
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


def ffn(x, gain, gate_up, down):
    g, u = (rms(x, gain) @ gate_up.t()).chunk(2, -1)
    return x + (fn.silu(g) * u) @ down.t()


class Model(torch.nn.Module):
    def __init__(self, config, positions=16384):
        super().__init__()
        c = self.config = config
        self.d, self.heads, self.kv = c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"]
        self.dim, self.selfs, self.crosses = c["head_dim"], c["num_self_layers"], c["num_cross_layers"]
        L, d, ff = self.selfs + self.crosses, self.d, c["intermediate_size"]
        hq, hk = self.heads * self.dim, self.kv * self.dim
        p = torch.nn.Parameter
        normal = lambda *shape: p(torch.randn(*shape) * d**-0.5)
        self.embed = p(torch.randn(c["vocab_size"], d) * 0.02)
        self.q, self.o = normal(L, hq, d), p(torch.zeros(L, d, hq))
        self.k, self.v = normal(self.selfs + 1, hk, d), normal(self.selfs + 1, hk, d)  # last: shared
        self.gate, self.up, self.down = normal(L, ff, d), normal(L, ff, d), p(torch.zeros(L, d, ff))
        self.attn_norm, self.ffn_norm = p(torch.ones(L, d)), p(torch.ones(L, d))
        self.shared_norm, self.final_norm = p(torch.ones(d)), p(torch.ones(d))
        gain = torch.full((L, self.heads, self.dim), 1.5)
        gain[self.selfs :] = 2.0
        self.q_norm = p(gain)
        rate = c["rope_theta"] ** (-torch.arange(0, self.dim, 2).float() / self.dim)
        angle = torch.outer(torch.arange(positions).float(), rate)[:, None]
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def vectors(self):
        return [self.attn_norm, self.ffn_norm, self.shared_norm, self.final_norm, self.q_norm]

    def bf16(self):
        """The layers' weights in bf16, fused as they are used; gradients flow to the masters."""
        w = {m: getattr(self, m).bfloat16().unbind(0) for m in MATRICES}
        norms = [t.unbind(0) for t in (self.attn_norm, self.ffn_norm, self.q_norm)]
        layers = []
        for i in range(self.selfs + self.crosses):
            layer = {"n1": norms[0][i], "n2": norms[1][i], "gain": norms[2][i], "o": w["o"][i], "down": w["down"][i]}
            layer["gate_up"] = torch.cat([w["gate"][i], w["up"][i]])
            layer["q"] = torch.cat([w["q"][i], w["k"][i], w["v"][i]]) if i < self.selfs else w["q"][i]
            layers.append(layer)
        return layers, torch.cat([w["k"][-1], w["v"][-1]])


# ---- The steps of a layer, compiled ------------------------------------------------------


def make_steps(heads, kv, dim):
    scale = dim**-0.5

    @compiled
    def self_layer(x, n1, qkv, gain, o, n2, gate_up, down, cos, sin, mask):
        n = x.shape[0]
        q, k, v = (rms(x, n1) @ qkv.t()).split([heads * dim, kv * dim, kv * dim], -1)
        q = rope(rms(q.reshape(n, heads, dim), gain), cos, sin)
        k = rope(rms(k.reshape(n, kv, dim)), cos, sin)
        flat = lambda t: t.reshape(n, -1, dim).transpose(0, 1)[None]
        y = flex_attention(flat(q), flat(k), flat(v), block_mask=mask, enable_gqa=True, scale=scale)
        return ffn(x + y[0].transpose(0, 1).reshape(n, -1) @ o.t(), n2, gate_up, down)

    @compiled
    def shared(x, norm, kv_weight):
        h = rms(x, norm)
        k, v = (h @ kv_weight.t()).chunk(2, -1)
        return h, rms(k.reshape(len(x), kv, dim)), v.reshape(len(x), kv, dim)

    @compiled
    def cross_query(x, n1, q, gain):
        return rms((rms(x, n1) @ q.t()).reshape(len(x), heads, dim), gain)

    @compiled
    def cross_rest(x, y, o, n2, gate_up, down):
        return ffn(x + y.reshape(len(x), -1) @ o.t(), n2, gate_up, down)

    return self_layer, shared, cross_query, cross_rest


first = compiled(lambda x: rms(x).bfloat16())
last = compiled(lambda x, gain: rms(x, gain))


class Window:
    """The self-decoder's mask over a flat batch: own document, window, sink."""

    def __init__(self, tokens, window, device):
        self.start = torch.zeros(tokens, dtype=torch.int32, device=device)
        self.sink = torch.zeros(tokens, dtype=torch.int32, device=device)  # end of the document's sink
        start, sink = self.start, self.sink
        self.window, self.tokens = window, tokens

        def seen(b, h, q, k):
            return (k >= start[q]) & (k <= q) & ((q - k < window) | (k < sink[q]))

        self.seen = seen

    def build(self, start, sink):
        self.start.copy_(start)
        self.sink.copy_(sink)
        n, dev = self.tokens // BLOCK, start.device
        s, e = start.view(n, BLOCK), sink.view(n, BLOCK)
        at = torch.arange(self.tokens, device=dev, dtype=torch.int32).view(n, BLOCK)
        low = torch.maximum(s, at - (self.window - 1)).amin(1) // BLOCK
        head, tail, has = s[:, 0] // BLOCK, (e[:, 0] - 1) // BLOCK, e[:, 0] > s[:, 0]
        j = torch.arange(n, device=dev)[None]
        i = j.t()
        need = (j >= low[:, None]) | (has[:, None] & (j >= head[:, None]) & (j <= tail[:, None]))
        need &= j <= i
        count = need.sum(1, dtype=torch.int32)[None, None]
        order = torch.argsort(need.to(torch.int8), dim=1, descending=True, stable=True)
        order = order.to(torch.int32)[None, None].contiguous()
        return BlockMask.from_kv_blocks(
            count, order, BLOCK_SIZE=BLOCK, mask_mod=self.seen, seq_lengths=(self.tokens, self.tokens)
        )


# ---- Attention of the last M tokens to all T -----------------------------------------------


class TailAttention(torch.autograd.Function):
    """Two cuDNN calls, all keys before the tail and the tail's own causally, merged by their
    log-sum-exp: the fastest exact form for M queries at the end of T keys."""

    @staticmethod
    def forward(ctx, q, k, v, scale):
        call, S = torch.ops.aten._scaled_dot_product_cudnn_attention, k.shape[2] - q.shape[2]
        own = call(q, k[:, :, S:], v[:, :, S:], None, True, 0.0, True, False, scale=scale)
        far = call(q, k[:, :, :S], v[:, :, :S], None, True, 0.0, False, False, scale=scale)
        a, b = far[1].float(), own[1].float()
        lse = torch.logaddexp(a, b)
        share = (a - lse).exp()
        share = share[..., None] if share.dim() == 3 else share
        out = torch.lerp(own[0].float(), far[0].float(), share).to(q.dtype)
        ctx.save_for_backward(q, k, v, out, lse, far[6], far[7])
        ctx.rest = (far[2:6], own[2:6], scale)
        return out

    @staticmethod
    def backward(ctx, g):
        q, k, v, out, lse, seed, offset = ctx.saved_tensors
        far, own, scale = ctx.rest
        back, S = torch.ops.aten._scaled_dot_product_cudnn_attention_backward, k.shape[2] - q.shape[2]
        g = g.contiguous() if g.stride(-1) != 1 else g
        part = lambda k, v, m, causal: back(
            g, q, k, v, out, lse, seed, offset, None, m[0], m[1], m[2], m[3], 0.0, causal, scale=scale
        )
        q1, k1, v1 = part(k[:, :, :S], v[:, :, :S], far, False)
        q2, k2, v2 = part(k[:, :, S:], v[:, :, S:], own, True)
        return q1 + q2, torch.cat([k1, k2], 2), torch.cat([v1, v2], 2), None


def tail_attention(q, k, v):
    """q [B, M, heads, dim], k and v [B, T, heads, dim] -> [B, M, heads, dim]"""
    return TailAttention.apply(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), q.shape[-1] ** -0.5).transpose(1, 2)


def check_tail_attention(heads, dim):
    """Largest relative difference to plain attention, values and gradients."""
    B, M, T = 2, 1024, 4096
    make = lambda n: torch.randn(B, n, heads, dim, device="cuda", dtype=torch.bfloat16).requires_grad_()
    q, k, v, g = make(M), make(T), make(T), torch.randn(B, M, heads, dim, device="cuda", dtype=torch.bfloat16)
    mask = torch.ones(M, T, dtype=torch.bool, device="cuda").tril(T - M)
    plain = lambda: fn.scaled_dot_product_attention(
        *(t.float().transpose(1, 2) for t in (q, k, v)), attn_mask=mask).transpose(1, 2).bfloat16()
    results = []
    for attend in (plain, lambda: tail_attention(q, k, v)):
        q.grad = k.grad = v.grad = None
        y = attend()
        y.backward(g)
        results.append([t.float() for t in (y.detach(), q.grad, k.grad, v.grad)])
    return max(((a - b).norm() / a.norm()).item() for a, b in zip(*results))


# ---- Loss -----------------------------------------------------------------------------


@compiled
def loss_of_logits(logits, target, weight):
    l = logits.float()
    top = l.amax(-1, keepdim=True)
    lse = (l - top).exp().sum(-1, keepdim=True).log() + top
    right = l.gather(1, target[:, None])
    hit = torch.arange(l.shape[1], device=l.device)[None] == target[:, None]
    slope = (((l - lse).exp() - hit.float()) * weight[:, None]).to(logits.dtype)
    return (lse - right)[:, 0], slope, (right >= top)[:, 0]


class Loss(torch.autograd.Function):
    """Weighted cross-entropy through the output matrix, without the logits in memory."""

    @staticmethod
    def forward(ctx, x, out, target, weight, rows=16384):
        dx, dout = torch.empty_like(x), torch.zeros(out.shape, dtype=torch.float32, device=x.device)
        nll = torch.empty(len(x), device=x.device)
        right = torch.empty(len(x), dtype=torch.bool, device=x.device)
        for i in range(0, len(x), rows):
            at = slice(i, i + rows)
            nll[at], slope, right[at] = loss_of_logits(x[at] @ out.t(), target[at], weight[at])
            dx[at] = slope @ out
            dout += (slope.t() @ x[at]).float()
        ctx.save_for_backward(dx, dout)
        ctx.mark_non_differentiable(nll, right)
        return (nll * weight).sum(), nll, right

    @staticmethod
    def backward(ctx, g, *_):
        dx, dout = ctx.saved_tensors
        return dx * g.to(dx.dtype), (dout * g).bfloat16(), None, None, None


class Trained:
    """The model's forward pass over a flat batch."""

    def __init__(self, model):
        self.m = model
        self.self_layer, self.shared, self.cross_query, self.cross_rest = make_steps(model.heads, model.kv, model.dim)

    def __call__(self, token, pos, mask, B, T, M):
        """token, pos [B * T] -> final states of the last M tokens of each sequence [B * M, d]"""
        m = self.m
        layers, kv = m.bf16()
        x = first(fn.embedding(token, m.embed))
        cos, sin = m.cos[pos], m.sin[pos]
        for l in layers[: m.selfs]:
            x = self.self_layer(x, l["n1"], l["q"], l["gain"], l["o"], l["n2"], l["gate_up"], l["down"], cos, sin, mask)
        _, k, v = self.shared(x, m.shared_norm, kv)
        group = m.heads // m.kv
        wide = lambda t: t.view(B, T, m.kv, 1, m.dim).expand(-1, -1, -1, group, -1).reshape(B, T, m.heads, m.dim)
        k, v = wide(k), wide(v)
        x = x.view(B, T, m.d)[:, T - M :].reshape(B * M, m.d)
        for l in layers[m.selfs :]:
            q = self.cross_query(x, l["n1"], l["q"], l["gain"]).view(B, M, m.heads, m.dim)
            y = tail_attention(q, k, v)
            x = self.cross_rest(x, y.reshape(B * M, -1), l["o"], l["n2"], l["gate_up"], l["down"])
        return last(x, m.final_norm)


# ---- The file -------------------------------------------------------------------------


def read_safetensors(path):
    """-> {name: array}"""
    data = open(path, "rb").read()
    (size,) = struct.unpack("<Q", data[:8])
    head, kinds = json.loads(data[8 : 8 + size]), {"I8": np.int8, "F32": np.float32}
    head.pop("__metadata__", None)
    out = {}
    for name, t in head.items():
        a, b = (8 + size + o for o in t["data_offsets"])
        out[name] = np.frombuffer(data[a:b], kinds[t["dtype"]]).reshape(t["shape"])
    return out


def write_safetensors(path, tensors):
    head, at, kinds = {}, 0, {"int8": "I8", "float32": "F32"}
    for name, a in tensors.items():
        head[name] = {"dtype": kinds[a.dtype.name], "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(head, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for a in tensors.values():
            f.write(np.ascontiguousarray(a).tobytes())


def int8_rows(w):
    """[rows, cols] -> int8 rows and a scale a row"""
    w = w.detach().float().cpu()
    scale = (w.abs().amax(1) / 127).clamp_min(1e-12)
    return (w / scale[:, None]).round().to(torch.int8).numpy(), scale.numpy()


def names(model):
    """-> [(name in the file, master, index of the layer or None)] of all but the index"""
    out = [("embed", model.embed, None), ("shared.norm", model.shared_norm, None), ("final_norm", model.final_norm, None)]
    out += [("shared." + m, getattr(model, m), model.selfs) for m in ("k", "v")]
    for i in range(model.selfs + model.crosses):
        own = i < model.selfs
        name = "self.%d." % i if own else "cross.%d." % (i - model.selfs)
        for m in MATRICES:
            if own or m not in ("k", "v"):
                out.append((name + m, getattr(model, m), i))
        out += [(name + m, getattr(model, m), i) for m in ("attn_norm", "ffn_norm", "q_norm")]
    return out


@torch.no_grad()
def load(model, path):
    """Masters from a file; its index is not read."""
    have = read_safetensors(path)
    for name, master, i in names(model):
        to = master if i is None else master[i]
        if name.endswith("norm"):
            a = have[name + ".weight"] if name + ".weight" in have else have[name]
        else:
            a = have[name + ".weight"].astype(np.float32) * have[name + ".scale"][:, None]
        to.copy_(torch.from_numpy(np.array(a, np.float32)).view(to.shape))


def export(model, path, index):
    """The engine's file: int8 rows; `index` {name: array} of tensors to go with it."""
    out = {}
    for name, master, i in names(model):
        w = master if i is None else master[i]
        if name.endswith("norm"):
            out[name + ".weight"] = w.detach().float().cpu().numpy()
        else:
            out[name + ".weight"], out[name + ".scale"] = int8_rows(w)
    out.update(index)
    write_safetensors(path, out)
