"""train.py - Train the model for one piece of time, from a model folder or from random weights.

    python3 train.py --folder MODEL --train T.jsonl.xz --held H.jsonl.xz --out DIR --seconds N [--random]

MODEL has config.json, tokenizer.json and, without --random, the model.safetensors to go on from.
Leaves DIR/model.safetensors (int8 rows: at most 48 MB, the checkpoint of the next piece) and
DIR/log.txt.  A piece is a schedule of its own: warm-up, constant, then linear decay to nearly 0.
"""
import argparse, collections, json, multiprocessing, queue, random, threading, time, traceback

import numpy as np

from native import Text
from pack import CODE, Corpus, Packer, tail_of

TOKENS = 131072  # of a step, over all its sequences
# (until this share of the time, [(length, share of the steps)])
MIX = [
    (0.35, [(8192, 0.35), (16384, 0.40), (32768, 0.25)]),
    (0.75, [(8192, 0.15), (16384, 0.30), (32768, 0.45), (65536, 0.10)]),
    (1.01, [(8192, 0.10), (16384, 0.20), (32768, 0.45), (65536, 0.15), (131072, 0.10)]),
]
MIX_RANDOM = [(0.10, [(4096, 1.0)]), (0.45, [(8192, 0.8), (4096, 0.2)])] + MIX[1:]

# ---- Data -----------------------------------------------------------------------------


def flat(sequences, T, sink):
    """Arrays of a flat batch: token, target, weight, start, end of the sink, position"""
    B = len(sequences)
    stack = lambda name, kind: np.stack([getattr(s, name) for s in sequences]).astype(kind)
    token, start = stack("token", np.int64), stack("start", np.int32)
    target, weight = np.zeros_like(token), np.zeros((B, T), np.float32)
    target[:, :-1] = token[:, 1:]
    weight[:, :-1] = stack("weight", np.float32)[:, 1:] / 10
    base = (np.arange(B, dtype=np.int32) * T)[:, None]
    whole = start + base
    place = (np.arange(T)[None] - start).astype(np.int64)
    sinks = whole + stack("file", np.int32) * sink
    return [a.reshape(-1) for a in (token, target, weight, whole, sinks.astype(np.int32), place)]


def make(seed, corpus, folder, mixes, phase, out, stop):
    """A process: sequences of lengths by the phase, for ever."""
    rng, failed = random.Random(seed), 0
    packer = Packer(corpus, Text(folder), rng)
    while not stop.value:
        mix = mixes[min(phase.value, len(mixes) - 1)][1]
        T = rng.choices([t for t, _ in mix], [share / t for t, share in mix])[0]
        try:
            out.put((T, packer.sequence(T)))
        except Exception:
            failed += 1
            if failed <= 3:
                traceback.print_exc()


class Stream:
    def __init__(self, corpus, folder, mixes, workers, sink):
        self.phase, self.stop = multiprocessing.Value("i", 0), multiprocessing.Value("i", 0)
        self.made, self.ready = multiprocessing.Queue(160), queue.Queue(3)
        self.sink, self.waited = sink, 0.0
        self.types = collections.Counter()
        for i in range(workers):
            args = (1000 + i, corpus, folder, mixes, self.phase, self.made, self.stop)
            multiprocessing.Process(target=make, args=args, daemon=True).start()

    def start(self):
        threading.Thread(target=self.batch, daemon=True).start()

    def batch(self):
        import torch

        waiting = collections.defaultdict(list)
        while True:
            T, s = self.made.get()
            self.types.update(s.types)
            waiting[T].append(s)
            if len(waiting[T]) == max(1, TOKENS // T):
                arrays = [torch.from_numpy(a).pin_memory() for a in flat(waiting.pop(T), T, self.sink)]
                self.ready.put((T, arrays))

    def next(self):
        begin = time.time()
        T, arrays = self.ready.get()
        self.waited += time.time() - begin
        return T, [a.cuda(non_blocking=True) for a in arrays]


# ---- Optimizer --------------------------------------------------------------------------


class Optimizer:
    """Muon for the matrices (orthogonalised momentum), AdamW for the embedding and the gains."""

    def __init__(self, model, muon=0.02, decay=0.01):
        import torch
        from model import MATRICES

        self.muon, self.decay, self.steps = muon, decay, 0
        self.matrices = [getattr(model, m) for m in MATRICES]
        self.momentum = [torch.zeros_like(p) for p in self.matrices]
        groups = [{"params": [model.embed], "lr": 1.0, "rate": 3e-3}, {"params": model.vectors(), "lr": 1.0, "rate": 5e-3}]
        self.adam = torch.optim.AdamW(groups, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.0, fused=True)
        self.all = list(model.parameters())

    @staticmethod
    def orthogonal(g):
        """Newton-Schulz, five steps, in bf16"""
        x = g.bfloat16()
        tall = x.size(-2) > x.size(-1)
        x = x.mT if tall else x
        x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
        for _ in range(5):
            a = x @ x.mT
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
        return x.mT if tall else x

    def step(self, factor):
        import torch

        self.steps += 1
        beta = 0.85 + 0.10 * min(1, self.steps / 300)
        with torch.no_grad():
            for p, b in zip(self.matrices, self.momentum):
                b.lerp_(p.grad, 1 - beta)
                u = self.orthogonal(p.grad.lerp(b, beta))
                p.mul_(1 - self.muon * factor * self.decay)
                p.add_(u.to(p.dtype), alpha=-self.muon * factor * max(1, p.size(-2) / p.size(-1)) ** 0.5)
        for g in self.adam.param_groups:
            g["lr"] = g["rate"] * factor
        self.adam.step()
        for p in self.all:
            p.grad = None


# ---- Held-out measure ---------------------------------------------------------------------


def held_out(corpus, folder, lengths, count, seed=7):
    """[(T, Sequence)] of projects that are never trained on"""
    packer = Packer(corpus, Text(folder), random.Random(seed))
    return [(T, packer.sequence(T)) for T in lengths for _ in range(max(1, count * 8192 // T))]


def measure(forward, model, window, held, sink, log):
    """Share of messages whose every answered token is the argmax after the right ones, by type."""
    import torch
    from model import Loss

    right, text = collections.defaultdict(lambda: [0, 0]), collections.defaultdict(list)
    with torch.no_grad():
        for T, group in held:
            arrays = [torch.from_numpy(a).cuda() for a in flat(group, T, sink)]
            token, target, weight, start, sinks, place = arrays
            B, M = len(group), tail_of(T)
            y = forward(token, place, window.build(start, sinks), B, T, M)
            tail = lambda t: t.view(B, T)[:, T - M :].reshape(-1)
            _, nll, hit = Loss.apply(y, model.embed.bfloat16(), tail(target), tail(weight))
            hit, nll, w = hit.view(B, M).cpu().numpy(), nll.view(B, M).cpu().numpy(), tail(weight).view(B, M).cpu().numpy()
            for b, s in enumerate(group):
                code = (w[b] > 0.95) & (w[b] < 1.05)
                code[max(0, s.documents - (T - M) - 1) :] = False
                if code.any():
                    text[T].append(nll[b][code].mean())
                for type, begin, end in s.spans:
                    a, z = begin - (T - M), end - (T - M)
                    if a < 1:
                        continue
                    graded = w[b, a:z] >= CODE / 10
                    r = right[T, type]
                    r[0] += bool(hit[b, a:z][graded].all())
                    r[1] += 1
    for T in sorted({t for t, _ in right}):
        rows = {k[1]: v for k, v in right.items() if k[0] == T}
        total = [sum(v[i] for v in rows.values()) for i in (0, 1)]
        log("held-out %6d: %.1f %% of %d; text %.4f; %s" % (
            T, 100 * total[0] / max(1, total[1]), total[1], np.mean(text[T]) if text[T] else float("nan"),
            " ".join("%s %.0f/%d" % (k, 100 * a / n, n) for k, (a, n) in sorted(rows.items()))))  # fmt: skip


def batches_of(sequences):
    """Sequences in flat batches of TOKENS; a short last group is repeated up to size."""
    out, by = [], collections.defaultdict(list)
    for T, s in sequences:
        by[T].append(s)
    for T, group in by.items():
        n = max(1, TOKENS // T)
        for i in range(0, len(group) - n + 1, n):
            out.append((T, group[i : i + n]))
    return out


# ---- Training -------------------------------------------------------------------------


def train(args, log):
    begin = time.time()
    config = json.load(open(args.folder + "/config.json"))
    sink = config["document_sink"]
    mixes = MIX_RANDOM if args.random else MIX
    corpus, held = Corpus(args.train), Corpus(args.held)
    log("%d projects to train on, %d held out: %s" % (len(corpus.names), len(held.names), " ".join(held.names)))
    stream = Stream(corpus, args.folder, mixes, args.workers, sink)
    pool = multiprocessing.Pool(2)
    check = pool.apply_async(held_out, (held, args.folder, (8192, 32768, 131072), args.check))

    import torch
    from model import Loss, Model, Trained, Window, check_tail_attention, export, load, read_safetensors

    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    model = Model(config).cuda()
    index = {}
    if not args.random:
        load(model, args.folder + "/model.safetensors")
        index = {k: v for k, v in read_safetensors(args.folder + "/model.safetensors").items() if k.startswith("index.")}
    log("tail attention against plain attention: %.4f" % check_tail_attention(model.heads, model.dim))
    forward, optimizer = Trained(model), Optimizer(model)
    window = Window(TOKENS, config["sliding_window"], "cuda")
    stream.start()
    log("%.2f M parameters, ready after %.0f s" % (sum(p.numel() for p in model.parameters()) / 1e6, time.time() - begin))
    step, tokens, start, sums, mark, marked = 0, 0, None, [], time.time(), 0
    checks = [float(c) for c in args.checks.split(",") if c]
    paused = 0.0
    while True:
        now = time.time()
        done = 0.0 if start is None else (now - start - paused) / args.seconds
        if done >= 1 or now - begin > args.wall:
            break
        while done > mixes[stream.phase.value][0]:
            stream.phase.value += 1
        T, (token, target, weight, first, sinks, place) = stream.next()
        B, M = TOKENS // T, tail_of(T)
        y = forward(token, place, window.build(first, sinks), B, T, M)
        tail = lambda t: t.view(B, T)[:, T - M :].reshape(-1)
        w, wanted = tail(weight), tail(target)
        loss, nll, hit = Loss.apply(y, model.embed.bfloat16(), wanted, w / w.sum())
        loss.backward()
        warm = min(1, (step + 1) / 60)
        optimizer.step(args.peak * warm * (1 if done < args.hold else max(0.02, (1 - done) / (1 - args.hold))))
        step += 1
        tokens += TOKENS
        answer, code = w > 1.05, (w > 0.95) & (w < 1.05)
        mean = lambda v, at: (v * at).sum() / at.sum().clamp_min(1)
        sums.append(torch.stack([loss.detach(), mean(nll, answer), mean(hit.float(), answer), mean(nll, code)]))
        if start is None and step == 3:
            torch.cuda.synchronize()
            start = mark = time.time()
            marked = tokens
            log("first steps done after %.0f s" % (start - begin))
        if step % args.every == 0:
            v = torch.stack(sums).mean(0).tolist()
            rate, sums = (tokens - marked) / (time.time() - mark), []
            mark, marked = time.time(), tokens
            log("step %d done %.3f T %d loss %.4f answer %.4f (%.4f right) text %.4f | %.0f tokens/s, waited %.1f s, %.1f GB"
                % (step, done, T, *v, rate, stream.waited, torch.cuda.max_memory_allocated() / 2**30))  # fmt: skip
            stream.waited = 0.0
            if not np.isfinite(v[0]):
                raise RuntimeError("the loss is no number")
        if checks and done > checks[0]:
            checks.pop(0)
            pause = time.time()
            measure(forward, model, window, batches_of(check.get()), sink, log)
            paused += time.time() - pause
            mark, marked = time.time(), tokens
    spent = time.time() - start - paused
    log("%d steps, %.3f billion tokens in %.0f s; messages by type: %s" % (step, tokens / 1e9, spent, dict(stream.types)))
    export(model, args.out + "/model.safetensors", index)
    measure(forward, model, window, batches_of(check.get()), sink, log)
    stream.stop.value = 1


def main():
    a = argparse.ArgumentParser()
    for name in ("folder", "train", "held", "out"):
        a.add_argument("--" + name, required=True)
    a.add_argument("--seconds", type=float, required=True, help="of steps; compiling comes before")
    a.add_argument("--wall", type=float, default=1e9, help="seconds from the start, hard stop of the steps")
    a.add_argument("--random", action="store_true", help="from random weights")
    a.add_argument("--peak", type=float, default=1.0, help="factor of all learning rates")
    a.add_argument("--hold", type=float, default=0.4, help="share of the time before the decay")
    a.add_argument("--checks", default="0.5", help="measure on held-out text at these shares of the time")
    a.add_argument("--check", type=int, default=64, help="held-out sequences of 8K")
    a.add_argument("--workers", type=int, default=14)
    a.add_argument("--every", type=int, default=50)
    args = a.parse_args()
    multiprocessing.set_start_method("fork", force=True)
    begin, f = time.time(), open(args.out + "/log.txt", "a")

    def log(text):
        line = "%7.1f  %s" % (time.time() - begin, text)
        print(line, flush=True)
        f.write(line + "\n")
        f.flush()

    log("train.py " + " ".join("%s=%s" % kv for kv in sorted(vars(args).items()) if kv[0] not in ("folder", "train", "held", "out")))
    train(args, log)
    log("done")


if __name__ == "__main__":
    main()
