"""make_ops.py - What single ops must give, in 60 decimal digits or exact fractions.

    python3 tests/golden/make_ops.py             write tests/golden/ops.txt, ops.bin

Inputs are exact: f32, f64, int8, or the bits of a bf16 (u16).  Expected values come from the
equations in the headers of kernels/, by Python's decimal and fractions, without a libm and
without numpy's arithmetic; they are f64, or f32 where the header defines every bit.  numpy
only draws the inputs.  Format: golden.py.

math_int.h
    exp32.x f32, exp32.y f64                 exp; y is infinite or 0 beyond the header's limits
    exp64.x f64, exp64.y f64
    log2.x f64, log2.y f64
    sincos.x f64, sincos.sin, .cos f64

rmsnorm.h   i = 0: heads with gain; 1: one head without; 2: rows of tiny and of large values
    rmsnorm<i>.x f32 [rows, heads * dim], .gain f32 [heads, dim], .eps f32, .heads i32, .y f64

rope.h
    angles<i>.theta f64, .dim i32, .position i32 [n], .cos, .sin f64 [n, dim/2]
    rope.x f32 [rows, heads * dim], .cos, .sin f32 [rows, dim/2], .heads i32
    rope.half_split, .interleaved f64 [rows, heads * dim]

swiglu.h
    swiglu.x f32 [rows, 2 * dim], .y f64 [rows, dim]

matmul.h    i = 0, 1: small integers and halves, where any order of the sum is exact; and reals
    bf16_<i>.x f32 [rows, cols], .w u16 [outputs, cols], .y f64 [rows, outputs]
    bf16_<i>.size f64 [rows, outputs]        the sum of |x w|, what an error is relative to
    int8.x f32 [rows, cols], .w i8 [outputs, cols], .scale f32 [outputs]
    int8.y f32 [rows, outputs]               every bit is defined; rows that are not finite give NaN
    int8.before, .after f32                  y before and after with `add`

window.h    i = 0: window 13, sink 3; 1: window 16, no sink
    window.q f32 [tokens, heads * dim]
    window.k, .v u16 [tokens, kv_heads * dim]
    window.shape i32 [heads, kv_heads, dim], .scale f32
    window<i>.shape i32 [window, sink], window<i>.out f64 [tokens, heads * dim]

attend.h    the first `count` rows: count in 1, 255, 256, 257, 300
    attend.rows u16 [300, K|V], .q f32 [heads, dim], .shape i32 [heads, kv_heads, dim], .scale f32
    attend<count>.out f64 [heads, dim]

index_scan.h
    index.keys u16 [tokens, dim], .q f32 [heads, dim], .weight f32 [heads]
    index.plain f64 [tokens]                 no activation, no weight
    index.relu f64 [tokens]                  relu, weights
    index.one f64 [tokens]                   the first head alone, no activation, no weight
    index.size f64 [tokens]                  the sum of |w q k|
"""
import os
from decimal import Decimal, getcontext
from fractions import Fraction

import numpy as np

from golden import Golden

getcontext().prec = 60
INF, NAN = float("inf"), float("nan")


# ---- Numbers -------------------------------------------------------------------------


def pi():
    """Machin: pi = 16 atan(1/5) - 4 atan(1/239)."""

    def atan_inverse(n):
        total, term, k = Decimal(0), Decimal(1) / n, 1
        while abs(term) > Decimal(10) ** -65:
            total += term / k if k % 4 == 1 else -term / k
            term, k = term / (n * n), k + 2
        return total

    return 16 * atan_inverse(5) - 4 * atan_inverse(239)


PI = pi()
LN2 = Decimal(2).ln()


def sin(x):
    x = x - (x / (2 * PI)).to_integral_value() * 2 * PI
    total, term, k = Decimal(0), x, 1
    while abs(term) > Decimal(10) ** -55:
        total, term, k = total + term, -term * x * x / ((k + 1) * (k + 2)), k + 2
    return total


def cos(x):
    return sin(x + PI / 2)


def softmax(scores):
    """Fractions or Decimals -> Decimals"""
    scores = [dec(s) for s in scores]
    top = max(scores)
    e = [(s - top).exp() for s in scores]
    total = sum(e)
    return [v / total for v in e]


def dec(x):
    if isinstance(x, Fraction):
        return Decimal(x.numerator) / Decimal(x.denominator)
    return Decimal(x)


def round_even(x):
    """A fraction to the nearest integer, ties to even: Python's rule for round()."""
    return round(x)


def round_binary(x, digits, lowest):
    """A fraction to `digits` binary digits, ties to even; the last digit is at least 2^lowest."""
    if x == 0:
        return Fraction(0)
    e = abs(x.numerator).bit_length() - x.denominator.bit_length()
    if abs(x) < Fraction(2) ** e:
        e -= 1
    unit = Fraction(2) ** max(e - digits + 1, lowest)
    return round_even(x / unit) * unit


def f32(x):
    return round_binary(x, 24, -149)


def bf16(x):
    return round_binary(x, 8, -133)


def bits_of_bf16(x):
    return np.asarray(x, np.float32).view(np.uint32) >> 16


def exact(a):
    """An array of floats as fractions, nested lists."""
    return [exact(row) for row in a] if np.ndim(a) else Fraction(float(a))


def floats(a):
    """Nested lists of exact numbers, each rounded to f64 once."""
    return [floats(row) for row in a] if isinstance(a, list) else float(a)


def dot(a, b):
    return sum((x * y for x, y in zip(a, b)), Fraction(0))


# ---- Ops -----------------------------------------------------------------------------


def bf16_normal(r, *shape):
    """Normal values that are bf16 already, and their bits."""
    v = np.float32(r.standard_normal(shape))
    v = (v.view(np.uint32) & 0xFFFF0000).view(np.float32)
    return exact(v), bits_of_bf16(v)


def exp(x, zero_below, infinite_above):
    if x < zero_below or x > infinite_above:
        return 0.0 if x < 0 else INF
    return float(dec(float(x)).exp())


def put_math(g):
    x = np.concatenate(
        [
            np.linspace(-110, 95, 165),
            np.linspace(-1, 1, 40),
            [-104.5, -104.01, -104, -103.98, -103.9, -103.28, -87.5, -87.33],
            [88.72, 88.7228, 88.73, 88.74, 89, 128],
            [0.0, -0.0, 1e-45, -1e-45, 1e-30, 1e-8, -1e-8, 2.0**-24, 0.5, 2.0**-12, -3e38, 3e38],
        ]
    ).astype(np.float32)
    g.put("exp32.x", "f32", x)
    g.put("exp32.y", "f64", [exp(v, -104, 88.73) for v in x])
    x = np.concatenate(
        [
            np.linspace(-700, 700, 161),
            np.linspace(-1, 1, 41),
            [-745.5, -746, 709.7, 709.78, 709.8, 1e300, -1e300, 5e-324, 1e-16],
        ]
    )
    g.put("exp64.x", "f64", x)
    g.put("exp64.y", "f64", [exp(v, -745, 709.79) for v in x])
    x = np.concatenate(
        [
            np.linspace(0.01, 3, 100),
            2.0 ** np.arange(-1022, 1024, 146),
            [1 - 2.0**-53, 1 + 2.0**-52, 10000, 5000, 5e5, 1e308, 5e-324],
        ]
    )
    g.put("log2.x", "f64", x)
    g.put("log2.y", "f64", [float(dec(float(v)).ln() / LN2) for v in x])
    quarter = float(PI / 4)
    large = [2.0**25, -(2.0**25), 2.0**25 - 0.3, 2.0**20, 1e6, 123456.789]
    x = np.concatenate(
        [np.linspace(-8, 8, 65), [0.0, 1e-300, 1e-9], large]
        + [
            [quarter * k, np.nextafter(quarter * k, 0), np.nextafter(quarter * k, 1e9)]
            for k in (1, 2, 3, 4, 7, 1001, 2.0**20)
        ]
    )
    g.put("sincos.x", "f64", x)
    g.put("sincos.sin", "f64", [float(sin(dec(float(v)))) for v in x])
    g.put("sincos.cos", "f64", [float(cos(dec(float(v)))) for v in x])


def put_rmsnorm(g, r):
    wide = r.standard_normal((6, 32)) * np.array([[1e-12], [1e-4], [1e-2], [1], [1e6], [1e17]])
    wide[0, :16] = 0
    for i, (x, heads, gain, eps) in enumerate(
        [
            (r.standard_normal((3, 48)), 3, r.uniform(-2, 2, (3, 16)), 1e-5),
            (r.standard_normal((2, 64)), 1, None, 1e-6),
            (wide, 2, r.uniform(0.5, 2, (2, 16)), 1e-5),
        ]
    ):
        x, eps = x.astype(np.float32), np.float32(eps)
        dim = x.shape[1] // heads
        gain = None if gain is None else gain.astype(np.float32)
        y = []
        for row in exact(x):
            out = []
            for h in range(heads):
                part = row[h * dim : (h + 1) * dim]
                root = dec(dot(part, part) / dim + exact(eps)).sqrt()
                scale = exact(gain[h]) if gain is not None else [1] * dim
                out += [dec(v) / root * dec(s) for v, s in zip(part, scale)]
            y.append(out)
        g.put(f"rmsnorm{i}.x", "f32", x)
        if gain is not None:
            g.put(f"rmsnorm{i}.gain", "f32", gain)
        g.put(f"rmsnorm{i}.eps", "f32", eps)
        g.put(f"rmsnorm{i}.heads", "i32", heads)
        g.put(f"rmsnorm{i}.y", "f64", floats(y))


def put_rope(g, r):
    position = [0, 1, 2, 511, 1999, 65535, 2**20 - 1, 2**20, 2**24 - 1]
    for i, (theta, dim) in enumerate([(10000, 64), (5000, 32), (500000, 128)]):
        frequency = [(Decimal(theta).ln() * -2 * k / dim).exp() for k in range(dim // 2)]
        g.put(f"angles{i}.theta", "f64", theta)
        g.put(f"angles{i}.dim", "i32", dim)
        g.put(f"angles{i}.position", "i32", position)
        g.put(f"angles{i}.cos", "f64", floats([[cos(p * f) for f in frequency] for p in position]))
        g.put(f"angles{i}.sin", "f64", floats([[sin(p * f) for f in frequency] for p in position]))
    rows, heads, dim = 3, 2, 32
    half = dim // 2
    x = r.standard_normal((rows, heads * dim)).astype(np.float32)
    angle = r.uniform(0, 6, (rows, half))
    c, s = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    g.put("rope.x", "f32", x)
    g.put("rope.cos", "f32", c)
    g.put("rope.sin", "f32", s)
    g.put("rope.heads", "i32", heads)
    for layout in ("half_split", "interleaved"):
        y = exact(x)
        for n in range(rows):
            for h in range(heads):
                for i in range(half):
                    first, second = (i, i + half) if layout == "half_split" else (2 * i, 2 * i + 1)
                    a, b = y[n][h * dim + first], y[n][h * dim + second]
                    co, si = Fraction(float(c[n, i])), Fraction(float(s[n, i]))
                    y[n][h * dim + first], y[n][h * dim + second] = a * co - b * si, b * co + a * si
        g.put(f"rope.{layout}", "f64", floats(y))


def put_swiglu(g, r):
    gate = [0.0, -0.0, 1e-8, -1e-8, 0.5, -0.5, 1, -1, 5, -5, 17, -17, 20, -20, 87, -87]
    gate += [88.8, -88.8, -100, 100, -103.9, -104.5, -110, 1e4, -1e4, 1e30, -1e30, 3, -3]
    gate += [-1.2784645, 2.0**-30, -(2.0**-30)]
    up = r.uniform(-3, 3, len(gate))
    dim = 16
    x = np.concatenate([np.reshape(v, (-1, dim)) for v in (gate, up)], 1).astype(np.float32)

    def silu(v):
        # Far below, 1 + exp(-v) is exp(-v) and the result is 0 in f64 as well.
        return dec(v) / (1 + (-dec(v)).exp()) if v > -800 else Decimal(0)

    y = [[silu(row[i]) * dec(row[dim + i]) for i in range(dim)] for row in exact(x)]
    g.put("swiglu.x", "f32", x)
    g.put("swiglu.y", "f64", floats(y))


def put_matmul(g, r):
    rows, outputs, cols = 3, 19, 48
    for i in (0, 1):
        if i == 0:
            x = r.randint(-16, 17, (rows, cols)).astype(np.float32)
            w = r.randint(-16, 17, (outputs, cols)).astype(np.float32) / 2
            wx, bits = exact(w), bits_of_bf16(w)
        else:
            x = r.standard_normal((rows, cols)).astype(np.float32)
            x[0, :3] = [1 + 2.0**-8, 1 + 3 * 2.0**-8, -(1 + 2.0**-8)]  # ties
            x[0, 3] = 1 + 2.0**-8 + 2.0**-23
            x[1, :4] = [2.0**-133, 2.0**-134, 1e-20, 255.5]
            wx, bits = bf16_normal(r, outputs, cols)
        rounded = [[bf16(v) for v in row] for row in exact(x)]
        size = [[dot(map(abs, a), map(abs, b)) for b in wx] for a in rounded]
        g.put(f"bf16_{i}.x", "f32", x)
        g.put(f"bf16_{i}.w", "u16", bits)
        g.put(f"bf16_{i}.y", "f64", floats([[dot(a, b) for b in wx] for a in rounded]))
        g.put(f"bf16_{i}.size", "f64", floats(size))

    rows, outputs, cols = 9, 37, 80
    x = r.standard_normal((rows, cols)).astype(np.float32)
    x[1] = 0
    x[2] *= np.float32(1e-30)
    x[3] *= np.float32(1e30)
    x[4] = np.where(r.randint(0, 2, cols), 127, -127)  # every |q| at its largest
    x[5, 3], x[6, 79], x[7, 0] = NAN, INF, -INF
    x[8] = r.randint(-32512, 32513, cols)  # with s = 32512: q is x, or half a step from it
    x[8, :4] = [32512, 0.5, 1.5, -2.5]
    w = r.randint(-127, 128, (outputs, cols)).astype(np.int8)
    w[0], w[1] = 127, np.where(x[4] > 0, 127, -127)  # the largest sum
    scale = r.uniform(1e-4, 1e-2, outputs).astype(np.float32)
    scale[2:5] = [-0.01, 0.0, 1e-12]
    before = r.standard_normal((rows, outputs)).astype(np.float32)
    y, after = [], []
    qmax = Fraction(32512)
    for m in range(rows):
        if not np.isfinite(x[m]).all():
            y.append([NAN] * outputs)
            after.append([NAN] * outputs)
            continue
        row = exact(x[m])
        s = max(map(abs, row))
        step = f32(qmax / s) if s else Fraction(0)
        q = [round_even(f32(v * step)) for v in row]
        assert max(map(abs, q)) <= qmax
        row = [
            f32(f32(dot(q, map(int, w[n]))) * f32(f32(s / qmax) * exact(scale[n])))
            for n in range(outputs)
        ]
        y.append(floats(row))
        after.append([float(f32(exact(b) + v)) for b, v in zip(before[m], row)])
    g.put("int8.x", "f32", x)
    g.put("int8.w", "i8", w)
    g.put("int8.scale", "f32", scale)
    g.put("int8.y", "f32", y)
    g.put("int8.before", "f32", before)
    g.put("int8.after", "f32", after)


def attention(q, keys, values, scale):
    """One head: q [dim], keys and values [rows][dim] -> [dim]"""
    p = softmax([scale * dot(q, k) for k in keys])
    return [sum(a * dec(v[i]) for a, v in zip(p, values)) for i in range(len(q))]


def put_attention(g, r):
    tokens, heads, groups, dim = 45, 4, 2, 16
    scale = np.float32(0.3)
    q = (2 * r.standard_normal((tokens, heads * dim))).astype(np.float32)
    q[7] *= 30  # one row whose softmax is all on one token
    k, k_bits = bf16_normal(r, tokens, groups * dim)
    v, v_bits = bf16_normal(r, tokens, groups * dim)
    g.put("window.shape", "i32", [heads, groups, dim])
    g.put("window.scale", "f32", scale)
    g.put("window.q", "f32", q)
    g.put("window.k", "u16", k_bits)
    g.put("window.v", "u16", v_bits)
    qx = exact(q)
    for i, (window, sink) in enumerate([(13, 3), (16, 0)]):
        out = []
        for t in range(tokens):
            seen = [s for s in range(t + 1) if t - s < window or s < sink]
            row = []
            for h in range(heads):
                at = h // (heads // groups) * dim
                keys, values = ([a[s][at : at + dim] for s in seen] for a in (k, v))
                row += attention(qx[t][h * dim : (h + 1) * dim], keys, values, exact(scale))
            out.append(row)
        g.put(f"window{i}.shape", "i32", [window, sink])
        g.put(f"window{i}.out", "f64", floats(out))

    rows, bits = bf16_normal(r, 300, 2 * groups * dim)
    q = (2 * r.standard_normal((heads, dim))).astype(np.float32)
    g.put("attend.shape", "i32", [heads, groups, dim])
    g.put("attend.scale", "f32", scale)
    g.put("attend.rows", "u16", bits)
    g.put("attend.q", "f32", q)
    for count in (1, 255, 256, 257, 300):
        out = []
        for h, row in enumerate(exact(q)):
            at = h // (heads // groups) * dim
            keys = [kv[at : at + dim] for kv in rows[:count]]
            values = [kv[groups * dim + at : groups * dim + at + dim] for kv in rows[:count]]
            out.append(attention(row, keys, values, exact(scale)))
        g.put(f"attend{count}.out", "f64", floats(out))


def put_index(g, r):
    tokens, heads, dim = 275, 3, 32
    keys, bits = bf16_normal(r, tokens, dim)
    q = r.standard_normal((heads, dim)).astype(np.float32)
    weight = np.float32([0.7, -1.3, 0.9])
    rounded = [[bf16(v) for v in row] for row in exact(q)]
    w = exact(weight)
    dots = [[dot(a, key) for a in rounded] for key in keys]
    size = [[dot(map(abs, a), map(abs, key)) for a in rounded] for key in keys]
    g.put("index.keys", "u16", bits)
    g.put("index.q", "f32", q)
    g.put("index.weight", "f32", weight)
    g.put("index.plain", "f64", floats([sum(d) for d in dots]))
    g.put("index.relu", "f64", floats([dot(w, [max(v, 0) for v in d]) for d in dots]))
    g.put("index.one", "f64", floats([d[0] for d in dots]))
    g.put("index.size", "f64", floats([dot(map(abs, w), d) for d in size]))


def main():
    r = np.random.RandomState(5)
    g = Golden("What single ops must give; written by make_ops.py, which describes each array.")
    put_math(g)
    put_rmsnorm(g, r)
    put_rope(g, r)
    put_swiglu(g, r)
    put_matmul(g, r)
    put_attention(g, r)
    put_index(g, r)
    g.write(os.path.join(os.path.dirname(os.path.abspath(__file__)), "ops"))


if __name__ == "__main__":
    main()
