"""index.py - The index of a trained model, learned from its own dense attention; forms side by side.

    python3 index.py --folder MODEL --train T.jsonl.xz --held H.jsonl.xz --out DIR --seconds N
                     [--forms deepseek,plain128,plain64] [--ship FORM]

The model stays as it is.  For a sample of query positions the target is the mean over cross
layers and heads of the dense attention distribution; the loss is its KL divergence from
softmax(I) (arXiv:2606.06467, stage 1).  All forms see the same positions of the same sequences.

    deepseek  4 heads of 64, ReLU, weights from the state, unit keys; the last 512 tokens are always
              in the set, the target is the rest
    plain128  the paper's: one head, a plain dot product, no forced tokens (plain64: half the size)

Then each form is measured on held-out projects at several k, and --ship is written into
DIR/model.safetensors and DIR/config.json.
"""
import argparse, json, multiprocessing, random, time

import numpy as np
import torch
from torch.nn import functional

from model import int8_rows, read_safetensors, rms, write_safetensors
from native import Text
from pack import CODE, Corpus, Packer
from train import make

FORMS = {
    "deepseek": dict(index_heads=4, index_head_dim=64, index_act="relu", index_weighted=True,
                     index_key_norm=True, index_local=512),
    "plain128": dict(index_heads=1, index_head_dim=128, index_act="none", index_weighted=False,
                     index_key_norm=False, index_local=0),
    "plain64": dict(index_heads=1, index_head_dim=64, index_act="none", index_weighted=False,
                    index_key_norm=False, index_local=0),
}  # fmt: skip
LENGTHS = [(1.01, [(8192, 0.3), (16384, 0.35), (32768, 0.35)])]
SETS = (256, 512, 1024, 2048)  # tokens in S, forced ones counted

# ---- The model, dense, at chosen positions ----------------------------------------------


class Frozen:
    def __init__(self, folder, device):
        self.config = c = json.load(open(folder + "/config.json"))
        self.file = read_safetensors(folder + "/model.safetensors")
        self.w = {}
        for name, a in self.file.items():
            if name.endswith(".weight"):
                scale = self.file.get(name[:-7] + ".scale")
                a = a.astype(np.float32) * (1 if scale is None else scale[:, None])
                self.w[name[:-7]] = torch.from_numpy(np.array(a, np.float32)).to(device)
        self.device, self.heads, self.kv = device, c["num_attention_heads"], c["num_key_value_heads"]
        self.dim = c["head_dim"]
        power = torch.arange(0, self.dim, 2, device=device).float() / self.dim
        self.rate = c["rope_theta"] ** -power

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
        i = torch.arange(tokens, device=self.device)
        back = i[:, None] - i
        sink = self.config["document_sink"] if file else 0
        return (back >= 0) & ((back < self.config["sliding_window"]) | (i < sink))

    @torch.no_grad()
    def shared(self, token, start, documents):
        """The self-decoder, cut at document borders: -> x, h, K, V of every token."""
        w, c, t = self.w, self.config, len(token)
        x = rms(w["embed"][token])
        angle = (torch.arange(t, device=self.device) - start)[:, None, None] * self.rate
        cos, sin = angle.cos(), angle.sin()
        begins = torch.unique_consecutive(start).tolist() + [t]
        docs, masks = list(zip(begins[:-1], begins[1:])), {}
        for layer in range(c["num_self_layers"]):
            name = "self.%d." % layer
            n = rms(x, w[name + "attn_norm"])
            head = lambda m: (n @ w[name + m].T).view(t, -1, self.dim)
            turn = lambda y: torch.cat([y[..., :h] * cos - y[..., h:] * sin, y[..., h:] * cos + y[..., :h] * sin], -1)
            h = self.dim // 2
            q, k, v = turn(rms(head("q"), w[name + "q_norm"])), turn(rms(head("k"))), head("v")
            out = []
            for a, b in docs:
                key = (b - a, a < documents)
                if key not in masks:
                    masks[key] = self.window(*key)
                out.append(self.attend(q[a:b], k[a:b], v[a:b], masks[key])[0])
            x = self.ffn(x + torch.cat(out) @ w[name + "o"].T, name)
        h = rms(x, w["shared.norm"])
        head = lambda m: (h @ w["shared." + m].T).view(t, -1, self.dim)
        return x, h, rms(head("k")), head("v")

    @torch.no_grad()
    def cross(self, x, K, V, seen):
        """x [n, hidden] at the query positions -> logits, attention's mean [n, t]"""
        w, mean, layers = self.w, 0, self.config["num_cross_layers"]
        for layer in range(layers):
            name = "cross.%d." % layer
            q = (rms(x, w[name + "attn_norm"]) @ w[name + "q"].T).view(len(x), -1, self.dim)
            o, p = self.attend(rms(q, w[name + "q_norm"]), K, V, seen)
            x = self.ffn(x + o @ w[name + "o"].T, name)
            mean = mean + p.mean(0) / layers
        return rms(x, w["final_norm"]) @ w["embed"].T, mean


class View:
    """A sequence on the device: its states, and what each token may see."""

    def __init__(self, model, s):
        to = lambda a: torch.from_numpy(a.astype(np.int64)).to(model.device)
        self.model, self.sequence, self.documents = model, s, s.documents
        self.token, self.start = to(s.token), to(s.start)
        self.x, self.h, self.K, self.V = model.shared(self.token, self.start, s.documents)
        self.at = torch.arange(len(self.token), device=model.device)
        # a conversation is the last document of its view: it stands right behind the others
        self.place = torch.where(self.at < s.documents, self.at, self.at - self.start + s.documents)

    def seen(self, pos):
        own = self.start[None] == self.start[pos, None]
        return (self.at <= pos[:, None]) & ((self.at < self.documents) | own)

    def dense(self, pos, seen):
        return self.model.cross(self.x[pos], self.K, self.V, seen)


# ---- The index --------------------------------------------------------------------------


class Index:
    def __init__(self, form, model):
        self.form, f = form, FORMS[form]
        self.heads, self.dim, self.local = f["index_heads"], f["index_head_dim"], f["index_local"]
        self.f, d = f, model.config["hidden_size"]
        random_ = lambda rows: torch.randn(rows, d, device=model.device) * d**-0.5
        self.w = [random_(self.heads * self.dim), random_(self.dim)]
        if f["index_weighted"]:
            self.w.append(random_(self.heads))
        old = [model.w.get("index." + m) for m in ("q", "k", "w")][: len(self.w)]
        if all(o is not None and o.shape == w.shape for o, w in zip(old, self.w)):
            self.w = [o.clone() for o in old]  # goes on from what the file has
        self.w = [w.requires_grad_() for w in self.w]

    def scores(self, hq, h):
        """I [n, t], scaled for the softmax"""
        k = h @ self.w[1].T
        if self.f["index_key_norm"]:
            k = rms(k)
        s = torch.einsum("nhd,td->hnt", (hq @ self.w[0].T).view(-1, self.heads, self.dim), k) * self.dim**-0.5
        if self.f["index_act"] == "relu":
            s = s.relu()
        if not self.f["index_weighted"]:
            return s.sum(0)
        return torch.einsum("hnt,nh->nt", s, hq @ self.w[2].T * self.heads**-0.5)

    def free(self, view, pos, seen):
        """The tokens that the index chooses from: all that are seen but the forced ones."""
        return seen & (view.place <= view.place[pos, None] - self.local)

    def loss(self, view, pos, seen, mean):
        free = self.free(view, pos, seen)
        mean = mean * free
        mass = mean.sum(-1, keepdim=True)
        target = mean / mass.clamp_min(1e-9)
        values = self.scores(view.h[pos], view.h).masked_fill(~free, -1e9)
        kl = (target * (target.clamp_min(1e-12).log() - values.log_softmax(-1))).sum(-1)
        weight = (mass[:, 0] * 4).clamp(0.1, 1)
        return (kl * weight).sum() / weight.sum()

    @torch.no_grad()
    def chosen(self, view, pos, seen, size):
        """S of `size` tokens, forced ones counted: [n, t]"""
        free = self.free(view, pos, seen)
        k = size - self.local
        if k <= 0:
            return seen & ~free
        if k >= free.shape[1]:
            return seen
        best = self.scores(view.h[pos], view.h).masked_fill(~free, float("-inf")).topk(k, -1).indices
        return (torch.zeros_like(free).scatter_(1, best, True) & free) | (seen & ~free)

    def tensors(self):
        out = {}
        for name, w in zip(("q", "k", "w"), self.w):
            out["index." + name + ".weight"], out["index." + name + ".scale"] = int8_rows(w)
        return out


# ---- Training -----------------------------------------------------------------------------


def queries(s, gen, device):
    """Positions whose next token is an answer's (192), in conversations (64), in documents (128)"""
    answers = np.flatnonzero(s.weight[1:] > CODE)
    parts = (answers, 192), (np.arange(s.documents, len(s.token) - 1), 64), (np.arange(1024, s.documents), 128)
    return torch.from_numpy(np.concatenate([gen.choice(p, n) for p, n in parts if len(p)])).to(device)


def train(model, indexes, stream, args, log):
    adams = [torch.optim.Adam(i.w, lr=args.rate, betas=(0.9, 0.98)) for i in indexes]
    gen, begin, step, sums = np.random.default_rng(0), time.time(), 0, []
    while time.time() - begin < args.seconds:
        done = (time.time() - begin) / args.seconds
        for _ in range(args.batch):
            _, s = stream.get()
            view, pos = View(model, s), queries(s, gen, model.device)
            seen = view.seen(pos)
            _, mean = view.dense(pos, seen)
            losses = [i.loss(view, pos, seen, mean) for i in indexes]
            (sum(losses) / args.batch).backward()
            sums.append([l.item() for l in losses])
        for adam in adams:
            for group in adam.param_groups:
                group["lr"] = args.rate * min(1, (step + 1) / 20) * min(1, max(0.02, (1 - done) / 0.6))
            adam.step()
            adam.zero_grad()
        step += 1
        if step % args.every == 0:
            log("step %d, kl: %s" % (step, " ".join("%s %.4f" % (i.form, v) for i, v in zip(indexes, np.mean(sums, 0)))))
            sums = []
    log("%d steps of %d sequences in %.0f s" % (step, args.batch, time.time() - begin))


# ---- Measure ------------------------------------------------------------------------------


@torch.no_grad()
def measure(model, indexes, held, log):
    """Messages whose answered tokens are all the argmax, mass of the dense attention in S, and
    the loss on the documents' own text: dense, and each form at each size of S."""
    modes = [("dense", None, 0)] + [("%s S=%d" % (i.form, k), i, k) for i in indexes for k in SETS]
    lengths = sorted({T for T, _ in held})
    for T in lengths:
        right, text, mass, oracle = {m[0]: [] for m in modes}, {m[0]: [] for m in modes}, {}, {}
        for t, s in held:
            if t != T:
                continue
            view = View(model, s)
            code = torch.arange(max(0, s.documents - 257), s.documents - 1, 2, device=model.device)
            answers = torch.from_numpy(np.flatnonzero(s.weight[1:] > CODE)).to(model.device)
            hit, lost = {m[0]: [] for m in modes}, {m[0]: [] for m in modes}
            for kind, group in (("code", code), ("answer", answers)):
                for pos in group.split(128):
                    seen = view.seen(pos)
                    logits, mean = view.dense(pos, seen)
                    target = view.token[pos + 1]
                    for name, i, k in modes:
                        if i is not None:
                            S = i.chosen(view, pos, seen, k)
                            mass.setdefault((kind, name), []).append((mean * S).sum(-1).mean().item())
                            logits, _ = view.dense(pos, S)
                        if kind == "code":
                            lost[name].append(functional.cross_entropy(logits, target).item())
                        else:
                            hit[name].append((logits.argmax(-1) == target).cpu().numpy())
                    for k in SETS:
                        oracle.setdefault((kind, k), []).append(mean.topk(min(k, T), -1).values.sum(-1).mean().item())
            order = {p: n for n, p in enumerate(answers.tolist())}
            for name in hit:
                text[name].append(np.mean(lost[name]))
                h = np.concatenate(hit[name])
                for _, begin, end in s.spans:
                    at = [order[p] for p in range(begin, end - 1) if p in order]
                    right[name].append(h[at].all())
        log("T %d, %d messages: right %%; loss on text; mass on answers (best set shared by all); mass on text (best)"
            % (T, len(right["dense"])))  # fmt: skip
        for name, i, k in modes:
            line = "  %-16s %5.1f  %.4f" % (name, 100 * np.mean(right[name]), np.mean(text[name]))
            if i is not None:
                line += "  %.3f (%.3f)  %.3f (%.3f)" % (
                    np.mean(mass["answer", name]), np.mean(oracle["answer", k]),
                    np.mean(mass["code", name]), np.mean(oracle["code", k]))  # fmt: skip
            log(line)


def main():
    a = argparse.ArgumentParser()
    for name in ("folder", "train", "held", "out"):
        a.add_argument("--" + name, required=True)
    a.add_argument("--seconds", type=float, required=True, help="of training")
    a.add_argument("--forms", default="deepseek,plain128,plain64")
    a.add_argument("--ship", default="deepseek")
    a.add_argument("--topk", type=int, default=1024, help="index_topk of the config that is written")
    a.add_argument("--batch", type=int, default=4, help="sequences a step")
    a.add_argument("--rate", type=float, default=3e-3)
    a.add_argument("--check", default="8192:6,32768:4", help="held-out sequences of each length")
    a.add_argument("--workers", type=int, default=12)
    a.add_argument("--every", type=int, default=25)
    args = a.parse_args()
    multiprocessing.set_start_method("fork", force=True)
    torch.set_float32_matmul_precision("high")
    begin, f = time.time(), open(args.out + "/log.txt", "a")

    def log(text):
        line = "%7.1f  %s" % (time.time() - begin, text)
        print(line, flush=True)
        f.write(line + "\n")
        f.flush()

    log("index.py seconds=%g batch=%d rate=%g" % (args.seconds, args.batch, args.rate))
    corpus, held = Corpus(args.train), Corpus(args.held)
    stream, stop, phase = multiprocessing.Queue(32), multiprocessing.Value("i", 0), multiprocessing.Value("i", 0)
    for i in range(args.workers):
        work = (5000 + i, corpus, args.folder, LENGTHS, phase, stream, stop)
        multiprocessing.Process(target=make, args=work, daemon=True).start()
    packer = Packer(held, Text(args.folder), random.Random(11))
    check = [(int(t), packer.sequence(int(t))) for t, n in (c.split(":") for c in args.check.split(",") if c) for _ in range(int(n))]
    torch.manual_seed(0)
    model = Frozen(args.folder, "cuda" if torch.cuda.is_available() else "cpu")
    indexes = [Index(form, model) for form in args.forms.split(",")]
    train(model, indexes, stream, args, log)
    stop.value = 1
    for i in indexes:  # what is measured is what will be written
        with torch.no_grad():
            for w in i.w:
                rows, scale = int8_rows(w)
                w.copy_(torch.from_numpy(rows.astype(np.float32) * scale[:, None]))
        write_safetensors("%s/index-%s.safetensors" % (args.out, i.form), i.tensors())
    ship = next(i for i in indexes if i.form == args.ship)
    tensors = {k: v for k, v in model.file.items() if not k.startswith("index.")}
    write_safetensors(args.out + "/model.safetensors", {**tensors, **ship.tensors()})
    config = {**model.config, **ship.f, "index_topk": args.topk}
    json.dump(config, open(args.out + "/config.json", "w"), indent=2)
    measure(model, indexes, check, log)
    log("done")


if __name__ == "__main__":
    main()
