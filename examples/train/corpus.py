#!/usr/bin/python3
"""corpus.py - Source trees to the text that a model is trained on and measured with.

    corpus.py OUT TREES    TREES/train/NAME and TREES/held/NAME, as fetch.sh leaves them

writes OUT/train.jsonl.xz and OUT/held.jsonl.xz: a row [project, path, text] a line, sorted by
project, extension and path; path is from the project's root.  A file is taken whole or not at all.

Held-out projects come first, and nothing of theirs is trained on: no project of that name, no file
with the same text, no file a third of whose lines stand in one of theirs.  Then each kind of file
has a share of the whole (SHARES), and the projects fill it: all of a small one, of a large one a part
that is random by folder and the same at each run.
"""
import argparse, collections, hashlib, json, lzma, multiprocessing, os, re, sys

MB = 1_000_000
FILE_BYTES = (200, 400_000)
PROJECT_BYTES = 14 * MB  # the most that one project gives, all kinds together
TEST_PART = 0.35  # of the files in folders of tests, how many may stay
BLOCKS = 2  # independent parts of an .xz file, compressed side by side
PERCENT = {"C": 35, "Python": 17, "JavaScript": 9, "TypeScript": 4, "Go": 11, "Rust": 9, "Java": 9,
           "shell": 2, "docs": 2.5, "config": 1.5}
SHARES = {kind: part / sum(PERCENT.values()) for kind, part in PERCENT.items()}

KINDS = {
    "C": "c h",
    "Python": "py pyi pyx",
    "JavaScript": "js mjs cjs jsx",
    "TypeScript": "ts tsx mts cts",
    "Go": "go",
    "Rust": "rs",
    "Java": "java",
    "shell": "sh bash zsh bats",
    "docs": "md rst adoc markdown",
    "config": "yml yaml toml ini cfg conf cmake mk am ac m4 json gradle properties proto mod service",
}
KIND = {ext: kind for kind, exts in KINDS.items() for ext in exts.split()}
NAMED = {"Makefile": "config", "CMakeLists.txt": "config", "Dockerfile": "config", "meson.build": "config",
         "Kconfig": "config", "configure.in": "config", "GNUmakefile": "config", "README": "docs",
         "README.txt": "docs", "INSTALL": "docs", "NEWS": "docs", "HACKING": "docs"}
SHEBANG = re.compile(rb"#! ?/(usr/)?bin/(env )?(ba|da|k|z)?sh\b")
DOC_TXT = re.compile(r"(^|/)docs?/[^.]*\.txt$")

def folders(names):
    return re.compile(r"(^|/)(" + names + r")/", re.I)


SKIP_DIR = folders(r"\.git|\.pc|node_modules|bower_components|vendor|vendored|_vendor|third[_-]?party|extern(al)?s?|deps|godeps"
                   r"|dist|minified|baselines|fonts|_static|locali[sz]ations?|locales?|po|translations|i18n"
                   r"|highlighting-speed-src|__pycache__|autom4te\.cache")
SKIP_NAME = re.compile(r"(^|/)((un)?licen[cs]es?|copying|notice|authors|contributors|changelog|changes|history)"
                       r"([-_][^./]*)?(\.(md|rst|txt|adoc))?$"
                       r"|(^|[-_./])(package-lock|pkgjs-lock|yarn|min\.m?js|bundle\.js|pb\.go|pb2\.py|generated|zz_generated.*|bindata"
                       r"|config\.guess|config\.sub|libtool|ltmain|aclocal|sqlite3)([-_.][^/]*)?$", re.I)
DATA = r"testdata|test[-_]data|fixtures?|__fixtures__|snapshots|corpus|cases|conformance"
DATA_DIR = folders(DATA)
TEST_DIR = folders(DATA + r"|tests?|testing|__tests__|specs?|testsuites?|benchmarks?|regress|samples?|examples?")
GENERATED = re.compile(r"do not (edit|modify)|(automatically|auto-?|machine[- ])generated"
                       r"|generated (by|from|with|automatically)", re.I)
COMMON = re.compile(r"[*#@]|//|/\*|--|import |from |package |use |extern |const \w+ = require|[^a-zA-Z]*$")
COPYLEFT = re.compile(r"GNU (Lesser |Library |Affero )?General Public|GPL-[23]|Mozilla Public License|\bA?GPL ?v?[23]", re.I)
OR_FREER = re.compile(r"\bBSD[- ](style|licen[cs]e|\d)|MIT licen|Apache[- ]2|\bOR (MIT|BSD|Apache)|dual[- ]licen|alternatively", re.I)


def kind_of(path):
    base = os.path.basename(path)
    if base in NAMED:
        return NAMED[base]
    if DOC_TXT.search(path):
        return "docs"
    return KIND.get(base.rsplit(".", 1)[-1].lower()) if "." in base else "shell"  # if it says so: SHEBANG


def part(text):
    """A number in [0, 1) that depends on `text` alone: the coin of every reproducible choice."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:6], "big") / 2**48


def clean(data):
    """-> (text, None), or (None, why this is no text that people write)"""
    if len(data) > FILE_BYTES[1]:
        return None, "large"
    if b"\0" in data:
        return None, "binary"
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
        if sum(c > "\x7f" for c in text) > 0.02 * len(text):
            return None, "encoding"
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    text = re.sub(r"[ \t]+\n", "\n", text).strip("\n") + "\n"
    size, lines = len(text), text.split("\n")
    if size < FILE_BYTES[0]:
        return None, "short"
    if max(map(len, lines)) > 1000 or size / len(lines) > 110:
        return None, "long lines"
    if sum(map(text.count, "0123456789")) > 0.25 * size or text.count("0x") * 4 > 0.12 * size:
        return None, "digits"
    if sum(map(str.isalpha, text)) < 0.35 * size:
        return None, "few letters"
    if len(text.encode()) > 1.05 * size:
        return None, "not ASCII"
    if GENERATED.search(text[:1500]):
        return None, "generated"
    return text, None


def digest(text):
    return hashlib.md5(re.sub(r"\s+", "", text).encode()).digest()


def long_lines(text):
    """The lines by which a copy is known: no comment, import or other line that strangers share."""
    return [hash(s) for s in map(str.strip, text.split("\n")) if len(s) >= 24 and not COMMON.match(s)]


def read_project(job):
    """One tree -> (split, project, [(kind, path, text, digest)], {why: files dropped})"""
    split, project, folder = job
    rows, dropped = [], collections.Counter()
    for root, dirs, names in os.walk(folder):
        dirs.sort()
        for name in names:
            full = os.path.join(root, name)
            path = os.path.relpath(full, folder)
            kind = kind_of(path)
            if kind is None or os.path.islink(full) or not path.isprintable():
                continue
            if SKIP_DIR.search(path) or SKIP_NAME.search(path):
                dropped["vendored or generated name"] += 1
                continue
            if split == "train":
                keep = 0.1 if DATA_DIR.search(path) else TEST_PART if TEST_DIR.search(path) else 1
                if kind in ("config", "docs") and keep < 1:
                    keep = 0.1
                if part(project + "/" + path) >= keep:
                    dropped["test data thinned"] += 1
                    continue
            with open(full, "rb") as f:
                data = f.read()
            if "." not in name and kind == "shell" and not SHEBANG.match(data):
                continue
            text, why = clean(data)
            if text and split == "train" and COPYLEFT.search(text[:4000]) and not OR_FREER.search(text[:4000]):
                text, why = None, "copyleft header"
            if text is None:
                dropped[why] += 1
                continue
            rows.append((kind, path, text, digest(text)))
    return split, project, rows, dropped


def parts(sizes, room):
    """How much of each vessel to take, `room` together: its whole, or a part that grows with the square root
    of its size, so that a large project gives more than a small one but does not rule."""
    low, high = 0.0, max(sizes.values(), default=0) ** 0.5
    for _ in range(60):
        scale = (low + high) / 2
        if sum(min(n, scale * n**0.5) for n in sizes.values()) < room:
            low = scale
        else:
            high = scale
    return {p: min(n, high * n**0.5) for p, n in sizes.items()}


def choose(projects, megabytes):
    """Cut {project: rows} to its shares: folder after folder, as files that belong together; in an order that
    is random and the same at each run."""
    kept = collections.defaultdict(list)
    total = collections.Counter()
    for kind, share in SHARES.items():
        size = {p: sum(len(r[2]) for r in rows if r[0] == kind) for p, rows in projects.items()}
        most = parts(size, share * megabytes * MB)
        for p, rows in projects.items():
            mine = sorted((r for r in rows if r[0] == kind), key=lambda r: (part(p + "/" + os.path.dirname(r[1])), r[1]))
            room = min(most[p], PROJECT_BYTES - total[p])
            for r in mine:
                if len(r[2]) <= room:
                    room -= len(r[2])
                    total[p] += len(r[2])
                    kept[p].append(r)
    return kept


def extension(path):
    return os.path.splitext(path)[1]


def compress(lines):
    return lzma.compress("".join(lines).encode(), preset=9 | lzma.PRESET_EXTREME)


def write(path, projects, pool):
    rows = sorted(((p, r[1], r[2]) for p, rows in projects.items() for r in rows),
                  key=lambda r: (r[0], extension(r[1]), r[1]))
    lines = [json.dumps(r, ensure_ascii=False) + "\n" for r in rows]
    half, blocks = sum(map(len, lines)) / BLOCKS + 1, [[] for _ in range(BLOCKS)]
    at = 0
    for line in lines:
        blocks[int(at / half)].append(line)
        at += len(line)
    with open(path, "wb") as f:
        for block in pool.map(compress, blocks):
            f.write(block)
    print(f"{path}: {len(lines)} files, {at / MB:.1f} MB of rows, {os.path.getsize(path) / 2**20:.1f} MiB")


def report(title, projects, languages):
    kinds, counts = collections.Counter(), collections.Counter()
    for rows in projects.values():
        for kind, _, text, _ in rows:
            kinds[kind] += len(text)
            counts[kind] += 1
    total = sum(kinds.values()) or 1
    print(f"\n{title}: {len(projects)} projects, {sum(counts.values())} files, {total / MB:.1f} MB")
    for kind in PERCENT:
        print(f"  {kind:<11} {counts[kind]:6} files {kinds[kind] / MB:8.2f} MB {100 * kinds[kind] / total:5.1f} %")
    by_language = collections.defaultdict(list)
    for p, rows in projects.items():
        by_language[languages.get(p, "?")].append((sum(len(r[2]) for r in rows), p))
    for language, sizes in by_language.items():
        names = ", ".join(f"{p} {s / MB:.2f}" for s, p in sorted(sizes, reverse=True))
        print(f"  projects of {language} ({sum(s for s, _ in sizes) / MB:.1f} MB): {names}")


def main():
    a = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    a.add_argument("out")
    a.add_argument("trees")
    a.add_argument("--mb", type=float, default=320, help="text to train on, in MB (default 320)")
    a.add_argument("--jobs", type=int, default=2)
    a = a.parse_args()
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "sources.txt")) as f:
        languages = {w[0]: w[2] for w in (line.split() for line in f) if len(w) > 2 and w[0] != "#"}
    jobs = []
    for split in ("held", "train"):
        folder = os.path.join(a.trees, split)
        if not os.path.isdir(folder):
            sys.exit(f"corpus: {folder} is missing; fetch.sh {a.trees} makes it")
        jobs += [(split, p, os.path.join(folder, p)) for p in sorted(os.listdir(folder)) if not p.endswith(".part")]
    held_names = {p for split, p, _ in jobs if split == "held"}
    jobs = [j for j in jobs if j[0] == "held" or j[1] not in held_names]

    splits, dropped = {"held": {}, "train": {}}, {"held": collections.Counter(), "train": collections.Counter()}
    seen, held_lines = set(), set()
    with multiprocessing.Pool(a.jobs) as pool:
        for split, project, rows, why in pool.imap(read_project, jobs):
            dropped[split] += why
            mine = []
            for r in rows:
                if r[3] in seen:
                    dropped[split]["duplicate"] += 1
                    continue
                if split == "held":
                    held_lines.update(long_lines(r[2]))
                else:
                    lines = long_lines(r[2])
                    if len(lines) >= 8 and sum(x in held_lines for x in lines) * 3 > len(lines):
                        dropped[split]["close to a held-out file"] += 1
                        continue
                seen.add(r[3])
                mine.append(r)
            if mine:
                splits[split][project] = mine
        for split in ("held", "train"):
            print(f"{split}: dropped", dict(dropped[split].most_common()))
        report("train, before the shares", splits["train"], languages)
        splits["train"] = choose(splits["train"], a.mb)
        os.makedirs(a.out, exist_ok=True)
        for split in ("held", "train"):
            report(split, splits[split], languages)
        sys.stdout.flush()
        for split in ("held", "train"):
            write(os.path.join(a.out, split + ".jsonl.xz"), splits[split], pool)


if __name__ == "__main__":
    main()
