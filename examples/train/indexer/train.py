"""train.py - The indexer of a CLSA model, trained on its own dense attention.

    python3 train.py --model DIR --train T.jsonl.xz --held H.jsonl.xz --out NEW.safetensors

The backbone stays as it is.  For a sample of query positions the target is the mean over
cross layers and heads of the dense attention distribution, on far tokens (older than the
last index_local); the loss is its KL divergence from softmax(I).  Only index.{q,k,w} of the
file change.  --seconds 0 measures the weights of --model alone.
"""
import argparse, json, random, struct, time

import numpy as np
import torch
from torch.nn import functional

from data import Packer, load

LENGTHS = (4096, 8192, 16384, 32768)
INDEX = ("index.q", "index.k", "index.w")

# ---- The file -------------------------------------------------------------------------


def read_safetensors(path):
    """-> bytes, {name: (dtype, shape, first, last)} with offsets into the bytes"""
    data = bytearray(open(path, "rb").read())
    (size,) = struct.unpack("<Q", data[:8])
    head = json.loads(data[8 : 8 + size])
    head.pop("__metadata__", None)
    place = lambda t: (t["dtype"], t["shape"], *(8 + size + o for o in t["data_offsets"]))
    return data, {name: place(t) for name, t in head.items()}


def read_weights(path, device):
    """Matrices as the engine reads them: int8 rows times their scales."""
    data, head = read_safetensors(path)
    raw = {}
    for name, (kind, shape, first, last) in head.items():
        rows = np.frombuffer(data[first:last], {"I8": np.int8, "F32": np.float32}[kind])
        raw[name] = torch.from_numpy(rows.reshape(shape).astype(np.float32)).to(device)
    out = {}
    for name in raw:
        if name.endswith(".weight"):
            scale = raw.get(name[:-7] + ".scale")
            out[name[:-7]] = raw[name] if scale is None else raw[name] * scale[:, None]
    return out


def write_index(source, index, out):
    """`source` with index.* replaced; every other byte is as it was."""
    data, head = read_safetensors(source)
    for name, w in zip(INDEX, index):
        w = w.detach().float().cpu()
        scale = (w.abs().amax(1) / 127).clamp_min(1e-12)
        rows = (w / scale[:, None]).round().to(torch.int8)
        for part, value in ((".weight", rows), (".scale", scale)):
            _, _, first, last = head[name + part]
            value = value.numpy().tobytes()
            assert len(value) == last - first
            data[first:last] = value
    open(out, "wb").write(data)


# ---- The model ------------------------------------------------------------------------


def rms(x, gain=None):
    y = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
    return y if gain is None else y * gain


def rope(x, cos, sin):
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Backbone:
    def __init__(self, folder, weights, device):
        self.config = c = json.load(open(folder + "/config.json"))
        self.w = read_weights(weights, device)
        self.device = device
        self.heads, self.kv = c["num_attention_heads"], c["num_key_value_heads"]
        self.dim, self.local = c["head_dim"], c["index_local"]
        power = torch.arange(0, self.dim, 2, device=device).float() / self.dim
        self.rate = c["rope_theta"] ** -power

    def index(self):
        return [self.w[name] for name in INDEX]

    def ffn(self, x, name):
        gate, up, down = (self.w[name + m].T for m in ("gate", "up", "down"))
        n = rms(x, self.w[name + "ffn_norm"])
        return x + (functional.silu(n @ gate) * (n @ up)) @ down

    def attend(self, q, k, v, seen):
        """q [n, heads, dim], k, v [t, kv, dim], seen [n, t] -> [n, heads*dim], p [heads, n, t]"""
        n, group = q.shape[0], self.heads // self.kv
        q = q.view(n, self.kv, group, self.dim).permute(1, 2, 0, 3).reshape(self.kv, -1, self.dim)
        s = (q @ k.permute(1, 2, 0) * self.dim**-0.5).view(self.heads, n, -1)
        p = s.masked_fill_(~seen, float("-inf")).softmax(-1)
        o = p.view(self.kv, group * n, -1) @ v.transpose(0, 1)
        return o.view(self.kv, group, n, self.dim).permute(2, 0, 1, 3).reshape(n, -1), p

    def window(self, tokens, file):
        """What each token of a document sees: its window, in files also the sink."""
        i = torch.arange(tokens, device=self.device)
        back = i[:, None] - i
        sink = self.config["document_sink"] if file else 0
        return (back >= 0) & ((back < self.config["sliding_window"]) | (i < sink))

    @torch.no_grad()
    def shared(self, token, start, files):
        """The self-decoder, cut at document borders: -> x, h, K, V of every token."""
        w, c, t = self.w, self.config, len(token)
        x = rms(w["embed"][token])
        place = torch.arange(t, device=self.device) - start
        angle = place[:, None, None] * self.rate
        cos, sin = angle.cos(), angle.sin()
        begins = torch.unique_consecutive(start).tolist() + [t]
        docs = list(zip(begins[:-1], begins[1:]))
        seen = {(b - a, a < files): self.window(b - a, a < files) for a, b in docs}
        for layer in range(c["num_self_layers"]):
            name = f"self.{layer}."
            n = rms(x, w[name + "attn_norm"])
            head = lambda m: (n @ w[name + m].T).view(t, -1, self.dim)
            q = rope(rms(head("q"), w[name + "q_norm"]), cos, sin)
            k, v = rope(rms(head("k")), cos, sin), head("v")
            o = [self.attend(q[a:b], k[a:b], v[a:b], seen[b - a, a < files])[0] for a, b in docs]
            x = self.ffn(x + torch.cat(o) @ w[name + "o"].T, name)
        h = rms(x, w["shared.norm"])
        head = lambda m: (h @ w["shared." + m].T).view(t, -1, self.dim)
        return x, h, rms(head("k")), head("v")

    @torch.no_grad()
    def cross(self, x, K, V, seen):
        """x [n, hidden] at the query positions -> final state, attention's mean [n, t]"""
        w, mean = self.w, 0
        for layer in range(self.config["num_cross_layers"]):
            name = f"cross.{layer}."
            q = (rms(x, w[name + "attn_norm"]) @ w[name + "q"].T).view(len(x), -1, self.dim)
            o, p = self.attend(rms(q, w[name + "q_norm"]), K, V, seen)
            x = self.ffn(x + o @ w[name + "o"].T, name)
            mean = mean + p.mean(0) / self.config["num_cross_layers"]
        return rms(x, w["final_norm"]), mean

    def logits(self, x):
        return x @ self.w["embed"].T


class View:
    """A sequence on the device: its states, and what each token may see."""

    def __init__(self, model, seq):
        to = lambda a: torch.from_numpy(a).to(model.device)
        self.model, self.files = model, seq["files"]
        self.token, self.start = to(seq["token"]), to(seq["start"])
        self.x, self.h, self.K, self.V = model.shared(self.token, self.start, self.files)
        at = torch.arange(len(self.token), device=model.device)
        # a conversation is the last document of its view: it stands right behind the files
        self.place = torch.where(at < self.files, at, at - self.start + self.files)

    def masks(self, pos):
        """pos [n] -> seen [n, t], and the far part of it, which the index chooses from"""
        at = torch.arange(len(self.token), device=pos.device)
        own = self.start[None] == self.start[pos, None]
        seen = (at <= pos[:, None]) & ((at < self.files) | own)
        return seen, seen & (self.place <= self.place[pos, None] - self.model.local)

    def dense(self, pos, seen):
        return self.model.cross(self.x[pos], self.K, self.V, seen)


def scores(index, hq, h):
    """I [n, t]: sum over heads of w_j relu(q_j . k_s), with 1/8 and 1/2 for the softmax"""
    q, k, w = index
    heads, dim = w.shape[0], k.shape[0]
    s = torch.einsum("nhd,td->hnt", (hq @ q.T).view(-1, heads, dim), rms(h @ k.T))
    return torch.einsum("hnt,nh->nt", s.relu() * dim**-0.5, hq @ w.T * heads**-0.5)


def top(values, far, k):
    """The far tokens among the k best, [n, t]"""
    if k >= values.shape[1]:
        return far
    best = values.masked_fill(~far, float("-inf")).topk(k, -1).indices
    return torch.zeros_like(far).scatter_(1, best, True) & far


# ---- Training -------------------------------------------------------------------------


class Stream(torch.utils.data.IterableDataset):
    def __init__(self, packer, tokens_max):
        self.packer, self.lengths = packer, [n for n in LENGTHS if n <= tokens_max]

    def __iter__(self):
        info = torch.utils.data.get_worker_info()
        rng = random.Random(1000 + (info.id if info else 0))
        while True:
            tokens = rng.choice(self.lengths)
            seq = self.packer.sequence(rng, tokens, 16, rng.choice((1, 3, 8)))
            if seq["files"] > 0.8 * tokens and seq["answers"]:
                yield seq


def sample_queries(seq, model, gen):
    """Positions whose next token is an answer's (192), in conversations (64), in files (128)"""
    answer = np.concatenate([np.arange(a - 1, b - 1) for _, a, b in seq["answers"]])
    talk, files = np.arange(seq["files"], len(seq["token"])), np.arange(1024, seq["files"])
    parts = (answer, 192), (talk, 64), (files, 128)
    pos = np.concatenate([gen.choice(p, n) for p, n in parts])
    return torch.from_numpy(pos).to(model.device)


def index_loss(index, view, pos):
    seen, far = view.masks(pos)
    _, mean = view.dense(pos, seen)
    mean = mean * far
    mass = mean.sum(-1, keepdim=True)
    target = mean / mass.clamp_min(1e-9)
    values = scores(index, view.h[pos], view.h).masked_fill(~far, -1e9)
    kl = (target * (target.clamp_min(1e-12).log() - values.log_softmax(-1))).sum(-1)
    weight = (mass[:, 0] * 4).clamp(0.1, 1)
    with torch.no_grad():
        share = (mean * top(values, far, 1024)).sum() / mean.sum()
    return (kl * weight).sum() / weight.sum(), share


def train(model, packer, args, log):
    index = [w.clone().requires_grad_() for w in model.index()]
    adam = torch.optim.Adam(index, lr=args.rate, betas=(0.9, 0.98))
    loader = torch.utils.data.DataLoader(
        Stream(packer, args.tokens),
        batch_size=None,
        num_workers=args.workers,
        collate_fn=lambda seq: seq,  # numpy arrays stay numpy arrays
    )
    stream, gen, begin, kls, shares = iter(loader), np.random.default_rng(0), time.time(), [], []
    step = 0
    while step < args.steps and time.time() - begin < args.seconds:
        done = max(step / args.steps, (time.time() - begin) / args.seconds)
        for group in adam.param_groups:
            group["lr"] = args.rate * min(1, (step + 1) / 20) * min(1, max(0.02, (1 - done) / 0.6))
        for _ in range(args.batch):
            seq = next(stream)
            kl, share = index_loss(index, View(model, seq), sample_queries(seq, model, gen))
            (kl / args.batch).backward()
            kls.append(kl.item())
            shares.append(share.item())
        adam.step()
        adam.zero_grad()
        step += 1
        if step % args.every == 0 or step == args.steps:
            share = np.mean(shares)
            log(f"step {step}: kl {np.mean(kls):.4f}, far mass in the top 1,024 {share:.4f}")
            kls, shares = [], []
    log(f"{step} steps of {args.batch} sequences in {time.time() - begin:.0f} s")
    return index


# ---- Evaluation -----------------------------------------------------------------------

SETS = (None, 1024, 256, 64)  # None: dense
NAMES = ["dense"] + [f"k={k}" for k in SETS[1:]]
SHARES = (64, 256, 512, 1024)


@torch.no_grad()
def measure(model, view, pos):
    """At positions of one view: hit [sets, n], loss [sets, n], and the far mass of the dense
    attention: all of it, the part in the index's sets, in the best sets [1 + 2 shares, n]"""
    index, hits, losses, masses = model.index(), [], [], []
    for p in pos.split(256):
        seen, far = view.masks(p)
        values, target = scores(index, view.h[p], view.h), view.token[p + 1]
        for k in SETS:
            y, mean = view.dense(p, seen if k is None else (seen & ~far) | top(values, far, k))
            logits = model.logits(y)
            hits.append(logits.argmax(-1) == target)
            losses.append(functional.cross_entropy(logits, target, reduction="none"))
            if k is None:
                mean = mean * far
                ours = [(mean * top(values, far, n)).sum(-1) for n in SHARES]
                best = [mean.topk(min(n, mean.shape[1]), -1).values.sum(-1) for n in SHARES]
                masses.append(torch.stack([mean.sum(-1)] + ours + best))
    sets = lambda parts: torch.stack([torch.cat(parts[i :: len(SETS)]) for i in range(len(SETS))])
    return [t.cpu().numpy() for t in (sets(hits), sets(losses), torch.cat(masses, 1))]


def table(log, title, head, rows):
    log(f"\n{title}\n\n| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        log("| " + " | ".join(map(str, row)) + " |")


def evaluate(model, packer, args, log):
    """Held-out projects: exact match of greedy answers, share of far mass, loss on files.

    An answer counts if at each of its tokens, the right ones before it given, the argmax is the
    right token: that is when greedy decoding gives this answer."""
    exact, kinds, mass, loss = [], {}, [], []
    names = list(packer.names)
    for tokens in [n for n in LENGTHS if n <= args.tokens]:
        rng, views, right, nll, far = random.Random(tokens), 0, [], [], []
        while len(right) < args.questions:
            project = names[views % len(names)]
            seq = packer.sequence(rng, tokens, min(20, args.questions - len(right)), 1, project)
            if seq["files"] < 0.8 * tokens:
                log(f"{project} has no {tokens} tokens of files: left out from here")
                names.remove(project)
                continue
            views += 1
            tail = np.arange(seq["files"] - 129, seq["files"] - 1)
            pos = np.concatenate([tail] + [np.arange(a - 1, b - 1) for _, a, b in seq["answers"]])
            view = View(model, seq)
            hit, lost, masses = measure(model, view, torch.from_numpy(pos).to(model.device))
            nll.append(lost[:, : len(tail)])
            far.append(masses[:, len(tail) :])
            at = len(tail)
            for kind, a, b in seq["answers"]:
                right.append(hit[:, at : at + b - a].all(1))
                kinds.setdefault(kind, []).append(right[-1])
                at += b - a
        percent = lambda rows: [f"{100 * v:.1f}" for v in np.mean(rows, 0)] + [len(rows)]
        exact.append([tokens] + percent(right))
        loss.append([tokens] + [f"{v:.4f}" for v in np.concatenate(nll, 1).mean(1)])
        whole, *share = np.concatenate(far, 1).sum(1)
        pairs = zip(share, share[len(SHARES) :])
        mass.append([tokens] + [f"{100 * a / whole:.1f} / {100 * b / whole:.1f}" for a, b in pairs])
    head = ["tokens"] + NAMES
    table(log, "Greedy exact match, %", head + ["questions"], exact)
    by_kind = [[kind] + percent(rows) for kind, rows in sorted(kinds.items())]
    table(log, "The same by kind, all lengths", ["kind"] + NAMES + ["questions"], by_kind)
    title = "Share of the far attention mass on answer tokens, %: index / best shared set"
    table(log, title, ["tokens"] + [f"k={k}" for k in SHARES], mass)
    table(log, "Loss on the last 128 tokens of the files, nats a token", head, loss)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--model", required=True, help="model folder")
    a.add_argument("--weights", help="instead of DIR/model.safetensors")
    a.add_argument("--train", help="corpus to train on")
    a.add_argument("--held", help="corpus to measure on")
    a.add_argument("--out", help="the new model.safetensors")
    a.add_argument("--steps", type=int, default=480)
    a.add_argument("--seconds", type=float, default=1e9, help="of training, at most")
    a.add_argument("--batch", type=int, default=4, help="sequences a step")
    a.add_argument("--rate", type=float, default=3e-3)
    a.add_argument("--tokens", type=int, default=32768, help="longest context")
    a.add_argument("--questions", type=int, default=200, help="for each length")
    a.add_argument("--workers", type=int, default=12)
    a.add_argument("--every", type=int, default=20, help="steps between lines of the log")
    args = a.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_float32_matmul_precision("high")
    torch.manual_seed(0)
    log = lambda text: print(text, flush=True)
    weights = args.weights or args.model + "/model.safetensors"
    model = Backbone(args.model, weights, device)
    tokenizer = args.model + "/tokenizer.json"
    if args.seconds > 0 and args.train:
        index = train(model, Packer(load(args.train), tokenizer), args, log)
        write_index(weights, index, args.out)
        model = Backbone(args.model, args.out, device)  # what is measured is what was written
    if args.held:
        evaluate(model, Packer(load(args.held), tokenizer), args, log)


if __name__ == "__main__":
    main()
