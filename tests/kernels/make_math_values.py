"""Print a table of exact values for the tests of kernels/: exp, log2, sincos, rope or silu.

40 digits and more by Python's decimal module, rounded to 20; nothing of ours is used.
Arguments are the exact binary numbers that the C compiler reads back.

Run: python3 tests/kernels/make_math_values.py exp
"""
import random
import struct
import sys
from decimal import Decimal, getcontext

getcontext().prec = 80  # room for the reduction of large angles
getcontext().Emin, getcontext().Emax = -99999, 99999


def arctan_inverse(n):
    """atan(1/n)"""
    total, term, k = Decimal(0), Decimal(1) / n, 1
    while abs(term) > Decimal(10) ** -78:
        total += term / k if k % 4 == 1 else -term / k
        term, k = term / (n * n), k + 2
    return total


PI = 4 * (4 * arctan_inverse(5) - arctan_inverse(239))  # Machin 1706


def sin_cos(x):
    """sin and cos of a Decimal, by Taylor series after reduction to [-pi, pi]."""
    x -= (x / (2 * PI)).to_integral_value() * 2 * PI
    sums, term = [Decimal(0), Decimal(0)], Decimal(1)
    for k in range(1, 120):
        sums[1 - k % 2] += term if (k - 1) % 4 < 2 else -term
        term = term * x / k
    return sums[1], sums[0]


def f32(x):
    return struct.unpack("f", struct.pack("f", x))[0]


def show(x):
    return f"{x:.19E}".replace("E", "e") if x else "0"


def table_exp():
    xs = [0.0, 5e-324, 1e-300, 1e-17, -1e-17, 1e-9, 1e-3, 0.34657359027997264, -0.34657359027997264,
          0.5, -0.5, 1.0, -1.0, 2.0, -10.0, 10.0, 43.5, -87.3, 88.7, -103.9, 300.0, -300.0, 699.9,
          700.0, -700.0, 709.7, -708.3, -745.0]
    rng = random.Random(1)
    for x in xs + [rng.uniform(-700, 700) for _ in range(8)]:
        yield x, [Decimal(x).exp()]


def table_log2():
    xs = [1.0, 2.0, 0.5, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 0.9999999999999999,
          1.0000000000000002, 1.4142135623730951, 1.414213562373095, 0.7071067811865476, 1.1, 3.0,
          10.0, 1e4, 1e6, 5e5, 1e-300, 1e-20]
    rng = random.Random(2)
    ln2 = Decimal(2).ln()
    for x in xs + [rng.uniform(0.5, 2) for _ in range(4)]:
        yield x, [Decimal(x).ln() / ln2]


def table_sincos():
    half_pi = float(PI / 2)
    xs = [0.0, 1e-300, -1e-9, 0.5, -0.5, half_pi / 2, -half_pi / 2, 1.0, half_pi, -half_pi,
          2 * half_pi, 3 * half_pi, 4.0, -5.0, 6.5, 100.0, 1e4, 131071.0, 1048577.0, 2.0**24,
          2.0**24 - 1, 2.0**25, -(2.0**25), 2.0**25 - 1]
    xs += [float(k * PI / 2) for k in (1001, 65537, 1048575, 10000001, 16777213, 21361414)]
    rng = random.Random(3)
    xs += [rng.uniform(0, 2**25) for _ in range(8)]
    for x in xs:
        yield x, sin_cos(Decimal(x))


def table_rope():
    for theta, dim, position, i in [
            (1e4, 64, 0, 5), (1e4, 64, 1, 0), (1e4, 64, 1, 31), (1e4, 64, 2047, 1),
            (1e4, 64, 2047, 17), (1e4, 64, 131071, 0), (1e4, 64, 131071, 9), (5e5, 128, 131071, 3),
            (5e5, 128, 131071, 63), (1e6, 256, 99999, 100), (1e4, 16, 4096, 7),
            (1e4, 64, 2**24 - 1, 0), (1e4, 64, 2**24 - 1, 1), (1e6, 256, 2**24 - 1, 2)]:
        freq = (-Decimal(2 * i) / dim * Decimal(theta).ln()).exp()
        yield f"{theta:g}, {dim}, {position}, {i}", sin_cos(position * freq)


def table_silu():
    for gate, up in [(0.0, 5.0), (1.0, 1.0), (-1.0, 2.0), (1e-3, 1e3), (-1e-3, -1e3), (10.0, 0.1),
                     (-10.0, 7.0), (-20.0, 1e6), (20.0, 1.0), (-50.0, 1.0), (-80.0, 1e10),
                     (-88.0, 1.0), (-88.5, 1.0), (-88.8, 1.0), (-90.0, 1.0), (-104.0, 1e3),
                     (-150.0, 1.0), (-1e4, 1e4), (1e4, 1e4), (1e4, -1.0), (-3e38, 3.0), (3e38, 0.5),
                     (1.4e-45, 1.0), (-1.4e-45, 1e20), (1e-39, 1e-3), (1.0, 1.4e-45), (88.7, 2.0),
                     (104.0, 2.0)]:
        v = Decimal(f32(gate))
        silu = v / (1 + (-v).exp()) if v > -20000 else Decimal(0)
        value = silu * Decimal(f32(up))
        yield f"{gate!r}f, {up!r}f", [value if abs(value) > Decimal("1e-46") else Decimal(0)]


for x, values in globals()["table_" + sys.argv[1]]():
    cells = [x if isinstance(x, str) else repr(x)] + [show(v) for v in values]
    print("        {" + ", ".join(cells) + "},")
