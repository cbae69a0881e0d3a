"""data.py - Source trees to a corpus file, and a corpus to packed sequences with questions.

    python3 data.py OUT.jsonl.xz DIR...    one project a DIR, [project, path, text] a line

A sequence is what one view holds: file documents of one project, each a piece of at most
PIECE tokens under its path, then conversations, each a document of its own that sees the
files and itself.  Questions are made from the files by patterns, in the forms that the
model was trained on; their answers stand in the files.
"""
import hashlib, json, lzma, os, re, sys

import numpy as np

FILE, USER, ASSISTANT, CALL, END = 1, 2, 3, 4, 6  # the roles of config.json
PIECE = 2000  # most tokens of a document
TALK = 480  # most tokens of a conversation: shorter than the window
CAP = 5_000_000  # most bytes of one project, so that none rules the corpus
C, TEXT = (".c", ".h"), (".md", ".rst", ".txt")

# ---- Corpus ---------------------------------------------------------------------------


def readable(text):
    """Written by people: no tables of numbers, no generated lines."""
    letters = sum(ch.isalpha() for ch in text)
    lines = text.split("\n")
    return 200 < len(text) < 400_000 and letters > 0.4 * len(text) and max(map(len, lines)) < 500


def collect(out, folders):
    seen = set()
    with lzma.open(out, "wt", encoding="utf-8", preset=9) as f:
        for folder in folders:
            project, found, total = os.path.basename(os.path.normpath(folder)), [], 0
            for root, _, names in os.walk(folder):
                found += [os.path.join(root, n) for n in names if n.endswith(C + TEXT)]
            found.sort(key=lambda p: hashlib.sha256(p[len(folder) :].encode()).digest())
            for path in found:
                data = open(path, "rb").read().replace(b"\r\n", b"\n")
                digest = hashlib.sha256(data).digest()
                try:
                    text = data.decode()
                except UnicodeDecodeError:
                    continue
                if digest in seen or not readable(text) or total + len(data) > CAP:
                    continue
                seen.add(digest)
                total += len(data)
                f.write(json.dumps([project, os.path.relpath(path, folder), text]) + "\n")
            print(f"{project}: {total / 1e6:.2f} MB")


def load(path):
    """-> {project: [(path, text)]}"""
    projects = {}
    with lzma.open(path, "rt", encoding="utf-8") as f:
        for project, name, text in map(json.loads, f):
            projects.setdefault(project, []).append((name, text))
    return projects


# ---- Facts and questions --------------------------------------------------------------

FUNCTION = re.compile(
    r"^([A-Za-z_][\w \t*]*[ \t*\n])([A-Za-z_]\w{2,})[ \t]*"  # type, name
    r"\([^;{}()#]{0,200}\)[ \t]*\n?\{[ \t]*$",  # arguments
    re.M,
)
MACRO = re.compile(r"^[ \t]*#[ \t]*define[ \t]+([A-Za-z_]\w{2,})[ \t]+(\S[^\n]*)$", re.M)
COMMENT = re.compile(r"/\*((?:(?!\*/).){10,1500})\*/[ \t]*\n\s?$", re.S)

ASK = {
    "where": ["Where is {x} defined?", "Which file defines {x}?", "In which file is {x} defined?"],
    "signature": [
        "What is the signature of {x}?",
        "How is {x} declared?",
        "What arguments does {x} take?",
    ],
    "value": ["What is the value of {x}?", "What is {x} defined as?", "What is {x} set to?"],
    "purpose": ["What does {x} do?", "What is {x} for?", "Explain {x}."],
    "body": ["Show me {x}.", "Show the code of {x}.", "What is the implementation of {x}?"],
    "note": ["What is the passkey for {x}?"],
    "absent": ["Where is {x} defined?", "Which file defines {x}?"],
}


def first_sentence(comment):
    lines = [line.strip().lstrip("*").strip() for line in comment.split("\n")]
    text = " ".join("\n".join(lines).strip().split("\n\n")[0].split())
    text = re.split(r"(?<=[.!?])\s+(?=[A-Z(])", text)[0]
    plain = re.fullmatch(r"[A-Za-z][^{};@\\*=<>]*", text) and "opyright" not in text
    return text if plain and 4 <= len(text.split()) <= 32 and len(text) <= 200 else None


def facts(path, text, rng):
    """-> [(type, name, answer)] of one piece of a file"""
    out = []
    if not path.endswith(C):
        return out
    for m in FUNCTION.finditer(text):
        name, signature = m[2], text[m.start() : text.rindex(")", 0, m.end()) + 1]
        if m[1].split()[0] in ("else", "return", "typedef", "case", "do"):
            continue
        out += [("where", name, f"{name} is defined in {path}"), ("signature", name, signature)]
        comment = COMMENT.search(text, max(0, m.start() - 1600), m.start())
        sentence = comment and first_sentence(comment[1])
        if sentence:
            out.append(("purpose", name, f"{name}: {sentence}"))
        end = text.find("\n}", m.end())
        if 0 <= end < m.start() + 330 and text.count("\n", m.start(), end) >= 2:
            out.append(("body", name, text[m.start() : end + 2]))
    macros = list(MACRO.finditer(text))
    for m in rng.sample(macros, min(8, len(macros))):
        value = re.sub(r"\s*(/\*.*?\*/|//.*)\s*$", "", m[2]).rstrip()
        out.append(("where", m[1], f"{m[1]} is defined in {path}"))
        if value and len(value) <= 60 and "\\" not in value and "/*" not in value:
            out.append(("value", m[1], f"{m[1]} is {value}"))
    return out


def hide_note(text, rng, word):
    """A comment with a number behind one of the blank lines: -> text, fact"""
    gaps = [m.end() for m in re.finditer(r"\n\n(?=\S)", text)]
    if not gaps:
        return text, None
    at, number = rng.choice(gaps), "".join(rng.choices("0123456789", k=6))
    said = f"The passkey for {word} is {number}"
    return f"{text[:at]}/* {said}. */\n\n{text[at:]}", ("note", word, said)


# ---- Sequences ------------------------------------------------------------------------


def pieces(text, limit):
    """Cut at line ends, at best after a function or before a blank line."""
    at = 0
    while len(text) - at > limit:
        for border in ("\n}\n", "\n\n", "\n"):
            cut = text.rfind(border, at + limit // 2, at + limit)
            if cut >= 0:
                break
        cut = at + limit if cut < 0 else cut + len(border)
        yield text[at:cut]
        at = cut
    yield text[at:]


class Packer:
    def __init__(self, projects, tokenizer_path):
        from tokenizers import Tokenizer

        self.projects = projects
        self.names = sorted(projects)
        size = [sum(len(t) for _, t in projects[n]) for n in self.names]
        self.weight = [s**0.5 for s in size]
        self.words = sorted(
            {w for n in self.names for p, _ in projects[n] for w in re.findall(r"[a-z]{4,10}", p)}
        )
        self.tokenizer = Tokenizer.from_file(tokenizer_path)

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def files(self, project, tokens, rng):
        """-> documents [(ids)], facts, names that stand in the text"""
        docs, found, names, total = [], [], set(), 0
        order = list(self.projects[project])
        rng.shuffle(order)
        order.sort(key=lambda f: f[0].endswith(TEXT) and rng.random() < 0.7)
        for path, text in order:
            cut = list(pieces(text, rng.choice((1500, 3000, 5500))))
            run = rng.choice((1, 3, 8))
            first = rng.randrange(max(1, len(cut) - run + 1))
            for piece in cut[first : first + run]:
                note = None
                if rng.random() < 0.15 and path.endswith(C):
                    piece, note = hide_note(piece, rng, rng.choice(self.words))
                ids = [FILE] + self.encode(f"{path}\nfile: {path}\n") + self.encode(piece)
                if len(ids) > PIECE or total + len(ids) > tokens:
                    continue
                docs.append(ids)
                total += len(ids)
                found += facts(path, piece, rng) + ([note] if note else [])
                names |= set(re.findall(r"\w{3,}", piece))
            if total > 0.96 * tokens:
                break
        once = {}
        for kind, name, _ in found:
            once[kind, name] = once.get((kind, name), 0) + 1
        return docs, [f for f in found if once[f[0], f[1]] == 1 and len(f[1]) <= 60], names

    def absent(self, project, names, rng, count):
        """Names of the project that are not in the view: the answer is a search."""
        out = []
        for path, text in rng.choices(self.projects[project], k=count):
            for m in FUNCTION.finditer(text):
                if m[2] not in names:
                    call = {"name": "search", "arguments": {"query": m[2]}}
                    out.append(("absent", m[2], json.dumps(call, separators=(",", ":"))))
                    break
        return out

    def turn(self, fact, rng):
        """-> question ids, answer ids"""
        kind, name, answer = fact
        question = rng.choice(ASK[kind]).format(x=name)
        call = [CALL] if kind == "absent" else []
        return (
            [USER] + self.encode(question) + [ASSISTANT],
            call + self.encode(answer) + [END],
        )

    def sequence(self, rng, tokens, talks, turns, project=None):
        """A view of about `tokens` tokens of files and `talks` conversations of 1..turns turns.

        token, start: [n], each token's id and the position where its document begins
        files:        tokens of files; what follows are conversations
        answers:      [(type, first, last)] ranges of answer tokens, <|end|> counted"""
        project = project or rng.choices(self.names, self.weight)[0]
        docs, found, names = self.files(project, tokens, rng)
        found += self.absent(project, names, rng, 1 + len(found) // 16)
        kinds = {}
        for fact in found:
            kinds.setdefault(fact[0], []).append(fact)
        for group in kinds.values():
            rng.shuffle(group)
        token, start, answers = [], [], []
        for ids in docs:
            start += [len(token)] * len(ids)
            token += ids
        files = len(token)
        for _ in range(talks):
            begin = len(token)
            for _ in range(rng.randint(1, turns)):
                left = [k for k in kinds if kinds[k]]
                if not left:
                    break
                kind = rng.choice(left)
                question, answer = self.turn(kinds[kind].pop(), rng)
                if len(token) + len(question) + len(answer) - begin > TALK:
                    continue
                first = len(token) + len(question)
                answers.append((kind, first, first + len(answer)))
                token += question + answer
            start += [begin] * (len(token) - begin)
        return {
            "project": project,
            "token": np.array(token, np.int64),
            "start": np.array(start, np.int64),
            "files": files,
            "answers": answers,
        }


if __name__ == "__main__":
    collect(sys.argv[1], sys.argv[2:])
