"""make_topk.py - The k largest of many awkward score lists, by sorting in Python.

    python3 tests/golden/make_topk.py            write tests/golden/topk.txt, topk.bin

The order is kernels/topk.h's: larger first; equal scores, lower position first; -0 equals
+0; infinities are ordinary.  For i = 0.. (format: golden.py; topk.txt says what each is):

    case<i>.scores       f32 [n]
    case<i>.k            i32 [1]
    case<i>.set          i32 [min(k, n)]   positions, ascending
    case<i>.threshold    f32 [1]           the k-th largest; -infinity if k >= n
"""
import os

import numpy as np

from golden import Golden

INF = float("inf")
TINY = 2.0**-149  # the smallest subnormal: larger than 0, also where a processor flushes it


def cases():
    r = np.random.RandomState(3)

    def pick(values, n):
        return r.choice(np.array(values, np.float32), n)

    yield "a single score", [0.5], [1, 2]
    yield "a single -infinity", [-INF], [1]
    yield "all equal", [1.25] * 50, [1, 7, 49, 50, 51]
    yield "k below, at and above n", r.standard_normal(40), [39, 40, 41, 1000]
    yield "few distinct values", pick([-2, -1, 0, 1, 2], 300), [1, 24, 100, 299]
    yield "both zeros, which are equal", pick([-0.0, 0.0], 64), [1, 20, 63]
    small = pick([-0.0, 0.0, TINY, -TINY, 1, -1], 200)
    yield "zeros, subnormals and signs", small, [30, 60, 90, 140, 190]
    yield "infinities of both signs", pick([INF, -INF, 0, 1, 3e38, -3e38], 128), [5, 40, 100, 120]
    yield "all +infinity but one", [INF] * 20 + [1.0] + [INF] * 20, [10, 40]
    yield "all -infinity but one", [-INF] * 20 + [1.0] + [-INF] * 20, [1, 10]
    up = np.arange(1000, dtype=np.float32)
    yield "ascending", up, [100]
    yield "descending", -up, [100]
    near = np.float32(1) + pick(range(64), 600) * np.float32(2.0**-23)
    yield "neighbours in the last bit", near, [100, 500]
    yield "negative neighbours", -near, [100, 500]
    for n in (15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 257):
        yield f"{n} normal scores", r.standard_normal(n), [n // 3]
    masked = np.append(r.standard_normal(3000), [-INF] * 500)
    yield "normal scores, with -infinity at the end", masked, [1024, 3100]
    yield "half of them relu's zeros", np.maximum(r.standard_normal(3000), 0), [1024, 2048]
    yield "many scores, few distinct", pick([0.5, 0.25, -0.0, 0.0, -3], 20000), [4096]


def main():
    g = Golden("The k largest scores; written by make_topk.py, which describes each array.")
    i = 0
    for what, scores, ks in cases():
        scores = np.asarray(scores, np.float32)
        values = [float(s) + 0.0 for s in scores]  # -0.0 + 0.0 is +0.0
        order = sorted(range(len(values)), key=lambda p: (-values[p], p))
        for k in ks:
            g.lines.append(f"# case{i}: {what}, k {k} of {len(values)}")
            g.put(f"case{i}.scores", "f32", scores)
            g.put(f"case{i}.k", "i32", k)
            g.put(f"case{i}.set", "i32", sorted(order[:k]))
            g.put(f"case{i}.threshold", "f32", values[order[k - 1]] if k < len(values) else -INF)
            i += 1
    g.write(os.path.join(os.path.dirname(os.path.abspath(__file__)), "topk"))


if __name__ == "__main__":
    main()
