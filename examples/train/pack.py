"""pack.py - Sequences to train on: what one view holds, then conversations about it.

    Packer(corpus, text, rng).sequence(T) -> Sequence of exactly T tokens

    [documents of one repository, cut as the engine cuts them][conversation][conversation]...

Every document is its own world for the self-decoder; a conversation is a document too.  The
repository is a part of a project; some of its files are in the view, the tools see all.  Names,
paths and numbers are changed at random, the same everywhere in a sequence, so that answers
must be read and cannot be remembered.

    python3 pack.py CORPUS.jsonl.xz MODEL_FOLDER [T]      prints a sequence, and the speed
"""
import bisect, itertools, json, lzma, os, random, re, sys, time

import numpy as np

import facts as F
from questions import Document, World, call_text

PAD, FILE, USER, ASSISTANT, CALL, RESULT, END = range(7)  # the roles of config.json
# Weight of a token in the loss, in tenths.
CODE, HEADER, NONE, ASKED, ANSWERED, GIVEN = 10, 3, 0, 3, 40, 3
REF_TOKENS, REF_EDGE = 768, 256  # a longer part of a message becomes documents
CHARS = 3.1  # of a token, about
NAME = re.compile(r"[A-Za-z_]\w{2,}")
REPO_CHARS = 150_000
CONVERSATION_MAX = 14_000  # tokens of all conversations of a sequence


def tail_of(T):
    """Tokens at the end of a sequence that go through the cross-decoder."""
    return min(T // 2, 16384)


class Corpus:
    """{project: [(path, text)]}, and what to draw from it with."""

    def __init__(self, path):
        self.projects = {}
        with lzma.open(path, "rt", encoding="utf-8") as f:
            for project, name, text in map(json.loads, f):
                self.projects.setdefault(project, []).append((name, text))
        self.names = list(self.projects)
        size = [sum(len(t) for _, t in self.projects[p]) for p in self.names]
        self.weight = list(itertools.accumulate(s**0.6 for s in size))
        rng, parts, words = random.Random(0), set(), {}
        for p in self.names:
            files = self.projects[p]
            for path, text in rng.sample(files, min(len(files), 80)):
                parts.update(c for c in re.split(r"[/.]", path) if re.fullmatch(r"[\w-]{2,18}", c))
                for w in {w.lower() for n in NAME.findall(text[:20000]) for w in n.split("_")}:
                    if 4 <= len(w) <= 10 and w.isalpha():
                        words[w] = words.get(w, 0) + 1
        self.parts = sorted(parts)
        self.words = sorted(w for w, n in words.items() if n >= 3)


def draw(cumulative, rng):
    return bisect.bisect_left(cumulative, rng.random() * cumulative[-1])


class Sequence:
    __slots__ = ("token", "weight", "start", "file", "project", "documents", "types", "spans")


class Packer:
    def __init__(self, corpus, text, rng):
        self.corpus, self.text, self.rng = corpus, text, rng
        self.name_cache = {}

    # ---- A repository ---------------------------------------------------------------

    def choose(self, chars):
        """-> project, {path: text} of about `chars` characters: a folder and others, or a draw"""
        rng, corpus = self.rng, self.corpus
        limit = max(20_000, chars // 3)
        files = []
        while not files:
            project = corpus.names[draw(corpus.weight, rng)]
            files = [f for f in corpus.projects[project] if len(f[1]) <= limit]
        order = list(range(len(files)))
        rng.shuffle(order)
        if rng.random() < 0.6:
            folder = os.path.dirname(files[order[0]][0])
            while folder.count("/") > 1 and rng.random() < 0.5:
                folder = os.path.dirname(folder)
            order.sort(key=lambda i: not files[i][0].startswith(folder))
        chosen, total = {}, 0
        for i in order:
            path, text = files[i]
            chosen[path] = text
            total += len(text)
            if total >= chars:
                break
        return project, chosen

    def names_of(self, project, path, text):
        key = (project, path)
        if key not in self.name_cache:
            found = F.extract(text, path)
            self.name_cache[key] = [f.name for f in found if f.kind not in ("section", "key")]
        return self.name_cache[key]

    def disguise(self, project, files):
        """The files with other paths, names and numbers."""
        rng, corpus = self.rng, self.corpus
        share, parts = rng.choice([0, 0, 0.3, 0.7]), {}
        out, taken = {}, set()
        names = rng.choice([0, 0.25, 0.5, 0.8])
        renamed = {}
        if names:
            for path, text in files.items():
                for name in self.names_of(project, path, text):
                    if name not in renamed and rng.random() < names and NAME.fullmatch(name):
                        renamed[name] = self.rename(name)
            new = list(renamed.values())
            seen = set()
            double = {n for n in new if n in seen or seen.add(n)}
            renamed = {a: b for a, b in renamed.items() if b not in double and b not in renamed}
        numbers = rng.random() < 0.4
        for path, text in files.items():
            if share:
                pieces = path.split("/")
                stem, dot, extension = pieces[-1].partition(".")
                pieces[-1] = stem
                for i, c in enumerate(pieces):
                    if c not in parts:
                        parts[c] = rng.choice(corpus.parts) if c and rng.random() < share else c
                    pieces[i] = parts[c]
                other = "/".join(pieces) + dot + extension
                if other not in taken and other not in files:
                    path = other
            taken.add(path)
            if renamed:
                text = NAME.sub(lambda m: renamed.get(m.group(), m.group()), text)
            if numbers:
                text = self.renumber(text)
            out[path] = text
        return out

    def renumber(self, text):
        """Other numbers in definitions of constants."""
        rng = self.rng
        digits = lambda m: str(rng.randint(10 ** (len(m.group()) - 1), 10 ** len(m.group()) - 1))
        line = re.compile(r"(?m)^(\s*#\s*define\s+\w+\s+|[\w. ]*\b[A-Z][A-Z0-9_]{2,} *[:=]+ *)(-?\d{2,})\b")
        return line.sub(lambda m: m.group(1) + re.sub(r"\d+", digits, m.group(2)), text)

    def rename(self, name):
        rng = self.rng
        parts = re.split(r"(_|(?<=[a-z0-9])(?=[A-Z]))", name)
        at = [i for i, p in enumerate(parts) if p and len(p) > 1 and p.isalpha()]
        if not at:
            return name
        for i in rng.sample(at, min(len(at), 1 if rng.random() < 0.6 else 2)):
            w, old = rng.choice(self.corpus.words), parts[i]
            parts[i] = w.upper() if old.isupper() else w.capitalize() if old[0].isupper() else w
        return "".join(p for p in parts if p)

    # ---- Conversations --------------------------------------------------------------

    def part(self, text, ref, extra):
        """Tokens of a part of a message; the middle of a long one becomes documents."""
        ids = self.text.encode(text)
        if len(ids) <= REF_TOKENS:
            return ids
        begin, end = self.text.decode(ids[:REF_EDGE]), self.text.decode(ids[-REF_EDGE:])
        begin = begin[: begin.rfind("\n") + 1] or begin
        if text[len(text) - len(end) - 1] != "\n":  # else it begins a line: it stays whole
            end = end[end.find("\n") + 1 :] or end
        middle = text[len(begin) : len(text) - len(end)]
        extra.append((ref, middle))
        if not begin.endswith("\n"):
            begin += "\n"
        return self.text.encode(begin + "[... more in file: " + ref + "]\n" + end)

    def encode(self, turn, number, extra):
        """-> ids, weights of a message and all that answers it"""
        enc = self.text.encode
        ids = [USER] + self.part(turn.question, "turn-%d/question.txt" % number, extra) + [ASSISTANT]
        w = [NONE] + [ASKED] * (len(ids) - 1)
        if len(ids) > 200:
            w = [min(x, 1) for x in w]
        for i, (name, arguments, result) in enumerate(turn.calls):
            call = enc(call_text(name, arguments))
            ids += [CALL] + call + [END]
            w += [ANSWERED] * (len(call) + 2)
            given = self.part(result, "turn-%d/result-%d.txt" % (number, i + 1), extra)
            ids += [RESULT] + given + [END, ASSISTANT]
            w += [GIVEN] * (len(given) + 3)
        answer = enc(turn.answer)
        # A long copied answer must not outweigh the others.
        each = ANSWERED if len(answer) <= 120 else max(CODE, ANSWERED * 120 // len(answer))
        return ids + answer + [END], w + [each] * (len(answer) + 1)

    def talk(self, world, room):
        """-> [(ids, weights, [(type, end)])] conversations of about `room` tokens, and documents they made"""
        rng, out, extra, used, number = self.rng, [], [], 0, 1
        while used < room:
            turns = rng.choice([1, 1, 1, 2, 3, 4, 5, 6, 8, 16])
            ids, w, types = [], [], []
            for turn in world.conversation(turns):
                a, b = self.encode(turn, number, extra)
                number += 1
                ids += a
                w += b
                types.append((turn.type, len(ids)))
                if used + len(ids) > room:
                    break
            used += len(ids)
            out.append((ids, w, types))
        return out, extra

    # ---- Sequences ------------------------------------------------------------------

    def documents(self, path, text):
        """-> [(tokens, header tokens, Document)]"""
        return [(t, h, Document(path, piece, line)) for t, h, piece, line in self.text.cut(path, text)]

    def plant(self, files, paths, count):
        """Needles in the first of the paths; -> their questions"""
        world = World(self.rng, [], files, self.corpus.words)
        for path in paths[: 4 * count]:
            if len(world.needles) < count and len(files[path]) > 800:
                files[path] = world.plant(files[path], path) or files[path]
        return world.needles

    def sequence(self, T):
        rng = self.rng
        share = rng.uniform(0.24, 0.34)
        talk = int(min(share * T, CONVERSATION_MAX))
        room = T - talk
        project, files = self.choose(max(REPO_CHARS, int(2.0 * room * CHARS)))
        files = self.disguise(project, files)
        paths = list(files)
        if rng.random() < 0.5:
            rng.shuffle(paths)
        planted = self.plant(files, paths, rng.choice([0, 0, 1, 2, 3]) * max(1, T // 8192))
        view, spare, total = [], [], 0
        for path in paths:
            if total >= 0.97 * room:
                spare.append(path)
                continue
            docs = self.documents(path, files[path])
            while docs and total + sum(len(d[0]) for d in docs) > room:  # a part of a long file
                docs.pop(rng.choice([0, -1]))
            if not docs:
                spare.append(path)
            else:
                view.append(docs)
                total += sum(len(d[0]) for d in docs)
        text = "".join(d.text for docs in view for _, _, d in docs)
        world = World(rng, [d for docs in view for _, _, d in docs], files, self.corpus.words)
        world.needles = [t for t in planted if t.answer.rsplit(" ", 1)[1] in text]
        talks, extra = self.talk(world, T - total)
        for path, middle in extra:
            docs = self.documents(path, middle)
            view.append(docs)
            total += sum(len(d[0]) for d in docs)
        # Whole conversations as long as there is room, then files, the last one cut short.
        rng.shuffle(talks)
        kept, used = [], 0
        for t in talks:
            if total + used + len(t[0]) <= T:
                kept.append(t)
                used += len(t[0])
        rng.shuffle(view)
        docs = [d for group in view for d in group]
        left = T - total - used
        rng.shuffle(spare)
        for path in itertools.chain(spare, itertools.cycle(paths)):
            if left <= 0:
                break
            for tokens, header, d in self.documents(path, files[path]):
                if left > 0:
                    docs.insert(rng.randint(0, len(docs)), (tokens[:left], min(header, left), d))
                    left -= min(left, len(tokens))
        if left < 0:  # the last document was one too many tokens
            tokens, header, d = docs[-1]
            docs[-1] = (tokens[: left or None], header, d)
        return self.lay(project, docs, kept, T)

    def lay(self, project, docs, talks, T):
        s = Sequence()
        s.project, s.types = project, [x for t in talks for x, _ in t[2]]
        s.spans = []  # (type, begin, end) of each message with all that answers it
        s.token, s.weight = np.zeros(T, np.uint16), np.zeros(T, np.uint8)
        s.start, s.file = np.zeros(T, np.int32), np.zeros(T, np.uint8)
        at = 0
        for tokens, header, _ in docs:
            n = min(len(tokens), T - at)
            s.token[at : at + n] = tokens[:n]
            s.weight[at : at + n] = CODE
            s.weight[at : at + min(header, n)] = HEADER
            s.weight[at : at + 1] = NONE
            s.start[at : at + n] = at
            s.file[at : at + n] = 1
            at += n
        s.documents = at  # tokens of all documents
        for ids, w, types in talks:
            n = min(len(ids), T - at)
            s.token[at : at + n], s.weight[at : at + n], s.start[at : at + n] = ids[:n], w[:n], at
            begin = at
            for type, end in types:
                if at + end < T:
                    s.spans.append((type, begin, at + end))
                begin = at + end
            at += n
        assert at == T, (at, T, s.documents)
        return s


def main():
    from native import Text

    text = Text(sys.argv[2])
    begin = time.time()
    packer = Packer(Corpus(sys.argv[1]), text, random.Random(int(os.environ.get("SEED", "1"))))
    print("corpus %.1f s, %d projects" % (time.time() - begin, len(packer.corpus.names)))
    T = int(sys.argv[3]) if len(sys.argv) > 3 else 8192
    s = packer.sequence(T)
    print(text.decode(s.token[s.documents :].tolist()))
    types, begin, n = {}, time.time(), 12
    for _ in range(n):
        s = packer.sequence(T)
        for t in s.types:
            types[t] = types.get(t, 0) + 1
    spent = time.time() - begin
    print("%s: %.0f tokens/s; documents %.0f %%; %s" % (s.project, n * T / spent, 100 * s.documents / T, types))


if __name__ == "__main__":
    main()
