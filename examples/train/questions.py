"""questions.py - What people ask of a repository, with the answer that is right.

    world = World(rng, docs, repo, words)     a view: documents, and the repository behind it
    turns = world.conversation()              -> [Turn], one message each

Answers are made from the text alone: from the documents of the view, or, where the view
does not hold it, from what Cairn's own tools give (toolsim.py prints what they print).  A
question is asked only where the answer is the only one: names that are defined once.

Forms of answers (the model learns them, bench retrieval checks them):

    where       X is defined in PATH          signature   the signature, on one line
    value       X is VALUE                    what        X: first sentence of its comment
    show        the source, as written        needle      The K for W is N
    section     the section X is in PATH      tools       what the result says, see below
"""
import json, os, re

import facts as F
from toolsim import Repo

ASKED_MAX = 60  # characters of a name that is asked for
RESULT_LINES = 20  # lines that a chain reads from a definition on

KIND = {
    "function": "the function", "method": "the method", "class": "the class", "struct": "struct",
    "union": "union", "enum": "enum", "interface": "the interface", "trait": "the trait",
    "type": "the type", "macro": "the macro", "constant": "the constant",
    "variable": "the variable", "key": "the setting", "section": "the section",
}

ASK = {
    "where": ["Where is {k}{x} defined?", "Which file defines {k}{x}?", "In which file is {x} defined?",
              "Find the definition of {k}{x}.", "Where can I find {k}{x}?", "where is {x} implemented?",
              "Where does {x} live?", "What file is {x} in?", "Locate {k}{x}.", "where is {x}?"],
    "signature": ["What is the signature of {x}?", "Show the signature of {x}.", "How is {x} declared?",
                  "What are the parameters of {x}?", "What arguments does {x} take?", "How do I call {x}?",
                  "give me the prototype of {x}", "What does the declaration of {x} look like?"],
    "value": ["What is the value of {k}{x}?", "What is {x} set to?", "What value does {x} have?",
              "What is {x} defined as?", "value of {x}?", "Tell me the value of {k}{x}."],
    "what": ["What does {x} do?", "What is {x} for?", "Explain {x}.", "Describe {k}{x}.",
             "what is the purpose of {x}?", "Summarize {x}.", "What does {k}{x} do?", "Tell me about {x}."],
    "show": ["Show me {x}.", "Show the code of {x}.", "Print the source of {k}{x}.", "show {x}",
             "What is the implementation of {x}?", "Give me the full code of {x}.",
             "Can you show {k}{x}?", "Quote the definition of {x}."],
    "section": ["Where is the section {x}?", "Which file has the section {x}?", "Which document describes {x}?",
                "Where can I read about {x}?"],
    "search": ["Who calls {x}?", "Where is {x} used?", "Which files use {x}?", "Find all uses of {x}.",
               "Search for {x}.", "Which files mention {x}?", "grep for {x}", "What calls {x}?"],
    "includes": ["Which files include {x}?", "Which files import {x}?", "Who includes {x}?",
                 "What imports {x}?", "Where is {x} included?", "Where is {x} imported?"],
    "folder": ["What files are in {x}?", "List the directory {x}.", "list {x}", "What is in the folder {x}?",
               "What's inside {x}?", "Show me the contents of {x}.", "ls {x}"],
    "log_who": ["Who last changed {x}?", "Who was the last to modify {x}?", "Which author touched {x} last?",
                "who edited {x} most recently?"],
    "log_when": ["When was {x} last changed?", "When was {x} last modified?",
                 "What is the date of the last commit to {x}?"],
    "log_what": ["What was the last change to {x}?", "What is the latest commit to {x}?",
                 "Show the last commit of {x}."],
    "log_list": ["Show the history of {x}.", "git log {x}", "List the last commits of {x}."],
    "lines": ["Show lines {a} to {b} of {x}.", "Read lines {a}-{b} of {x}.", "print {x} lines {a}-{b}",
              "What is on lines {a} to {b} of {x}?", "Show me {x}, lines {a} through {b}."],
    "top": ["Show the first {b} lines of {x}.", "head -{b} {x}", "Print the first {b} lines of {x}."],
}
# Of what was just spoken of.
AGAIN = {
    "where": ["and where is it defined?", "Where is it?", "which file is that in?", "In which file?"],
    "signature": ["and its signature?", "What is its signature?", "how do I call it?", "Its parameters?"],
    "value": ["and its value?", "What is it set to?", "What is its value?"],
    "what": ["and what does it do?", "What is it for?", "Explain it.", "what does it do?"],
    "show": ["show it", "Show me the code.", "Can you show it?", "and its code?"],
    "search": ["who calls it?", "and its callers?", "Where is it used?", "Who uses it?"],
    "log_who": ["who last changed that file?", "Who touched that file last?"],
    "log_when": ["when was that file last changed?", "When was it last changed?"],
    "folder": ["what else is in that folder?", "What other files are in that folder?"],
    "top": ["show the first {b} lines of that file", "Print the first {b} lines of it."],
    "other": ["and {x}?", "And for {x}?", "the same for {x}", "What about {x}?"],
}
PASTE = ["{q}\n\n{t}", "{t}\n\n{q}", "Here is some code:\n{t}\n{q}", "```\n{t}\n```\n{q}",
         "{q}\n```\n{t}\n```", "Look at this:\n\n{t}\n\n{q}"]

NEEDLE_KIND = ["passkey", "secret code", "access code", "ticket number", "build id", "magic number",
               "PIN", "serial number"]
NEEDLE_TEXT = ["The {k} for {w} is {n}.", "{k} of {w}: {n}", "NOTE: the {k} of {w} is {n}",
               "Remember: {w} has {k} {n}."]
NEEDLE_ASK = ["What is the {k} for {w}?", "What is the {k} of {w}?", "Tell me the {k} of {w}.",
              "Which {k} does {w} have?", "{k} of {w}?"]

HELLO = "Hello! Ask me about the files in this repository."
SMALL = [
    ("Hello", HELLO), ("Hi", HELLO), ("hello there", HELLO), ("good morning", HELLO), ("hey", HELLO),
    ("Thanks", "You're welcome."), ("Thank you!", "You're welcome."), ("great, thanks", "You're welcome."),
    ("What can you do?", "I answer questions about the files in this repository, and I can search it, list "
     "folders, read lines and look at the history."),
    ("Who are you?", "I am a small model that answers questions about a repository."),
    ("help", "Ask where something is defined, what its signature or value is, what it does, or ask me to show "
     "it; I can also search, list folders, read lines and look at the history."),
]  # fmt: skip

# How often each type is asked, before what a view has to offer.
SHARE = dict(where=16, signature=15, value=11, what=17, show=14, section=9, search=8, includes=6, folder=5,
             log=4, lines=6, absent=16, missing=8, error=2, paste=10, small=1)  # fmt: skip


class Turn:
    """One message: the calls that answer it in order, each with its result, and the answer."""

    __slots__ = ("type", "question", "calls", "answer", "paste", "name")

    def __init__(self, type, question, answer, calls=(), paste=None, name=None):
        self.type, self.question, self.answer = type, question, answer
        self.calls = list(calls)  # [(name, arguments, result)]
        self.paste, self.name = paste, name


def squash(text):
    return re.sub(r"\s+", " ", text).strip()


def one_line(sig, path):
    """A signature on one line; in C a star stands at its name, wherever the line was broken."""
    text = squash(sig)
    return re.sub(r"\* (?=[\w(])", "*", text) if F.language(path) in ("c", "c++") else text


def call_text(name, arguments):
    """A call as the model writes it."""
    return json.dumps({"name": name, "arguments": arguments}, separators=(",", ":"), ensure_ascii=False)


def comment_line(path, text):
    """`text` as a comment in a file of this language."""
    lang = F.language(path)
    if lang == "c":
        return "/* %s */" % text
    if lang in ("c++", "javascript", "typescript", "go", "rust", "java"):
        return "// " + text
    if lang in ("markdown", "rst"):
        return text
    return "# " + text


class Document:
    """A piece of a file as the view holds it."""

    __slots__ = ("path", "text", "line", "facts")

    def __init__(self, path, text, line, facts=None):
        self.path, self.text, self.line = path, text, line
        self.facts = F.extract(text, path) if facts is None else facts


def asked_name(fact, single):
    """What a user would call it: its name, or owner and name where the name alone is not one."""
    if fact.name in single:
        return fact.name
    if fact.owner:
        return "%s.%s" % (fact.owner, fact.name)
    return None


class World:
    def __init__(self, rng, docs, files, words, repo=None, evaluate=False):
        """files {path: text}: the whole repository; repo: its tools, if not those over `files`"""
        self.r, self.docs, self.files, self.words = rng, docs, files, words
        self.repo = repo or Repo(files, seed=rng.randrange(1 << 30))
        self.evaluate = evaluate  # plain forms only, no made-up typing habits
        count, full = {}, {}
        made = {f.name for d in docs for f in d.facts if not f.declared}
        for d in docs:
            d.facts = [f for f in d.facts if not (f.declared and f.name in made)]
        for d in docs:
            for f in d.facts:
                count[f.name] = count.get(f.name, 0) + 1
                if f.owner:
                    key = (f.owner, f.name)
                    full[key] = full.get(key, 0) + 1
        self.single = {n for n, c in count.items() if c == 1}
        self.defined = set(count)
        self.facts = []
        for d in docs:
            for f in d.facts:
                if f.name in self.single or (f.owner and full[f.owner, f.name] == 1):
                    x = asked_name(f, self.single)
                    if x and 2 < len(x) <= ASKED_MAX:
                        self.facts.append((f, x, d))
        self.r.shuffle(self.facts)
        self.by_type = {}
        for entry in self.facts:
            for t in self.types_of(entry[0]):
                self.by_type.setdefault(t, []).append(entry)
        self.text = None
        self.paths = sorted({d.path for d in docs})
        self.all_paths = sorted(files)
        self.needles = []
        self.asked = {}
        self.outside = None

    # ---- Words ----------------------------------------------------------------------

    def fill(self, form, **k):
        for a, b in k.items():
            form = form.replace("{" + a + "}", str(b))
        if self.evaluate:
            return form
        if self.r.random() < 0.1:
            form = form.rstrip(".?")
        if self.r.random() < 0.08:
            form = form[0].lower() + form[1:]
        return form

    def quote(self, x, callable_):
        z = 1 if self.evaluate else self.r.random()
        if z < 0.15:
            return "`%s`" % x
        if callable_ and z < 0.3:
            return x + "()"
        return x

    def form(self, forms):
        return forms[0] if self.evaluate == "plain" else self.r.choice(forms)

    def ask(self, type, fact, x):
        k = ""
        if fact.kind in KIND and (fact.kind in ("struct", "union", "enum") or self.r.random() < 0.4):
            k = KIND[fact.kind] + " "
        return self.fill(self.form(ASK[type]), k=k, x=self.quote(x, fact.kind in ("function", "method")))

    # ---- Facts of the view ----------------------------------------------------------

    @staticmethod
    def types_of(f):
        if f.kind == "section":
            return ["section"] + (["what"] if f.comment else [])
        if f.kind == "key":
            return ["value"] if f.value else []
        out = [] if f.declared else ["where"]
        if f.sig and len(squash(f.sig)) <= 240:
            out.append("signature")
        if f.value:
            out.append("value")
        if f.comment:
            out.append("what")
        if f.body:
            out.append("show")
        return out

    @staticmethod
    def answer(type, f, x, path):
        if type == "where":
            return "%s is defined in %s" % (x, path)
        if type == "signature":
            return one_line(f.sig, path)
        if type == "value":
            return "%s is %s" % (x, f.value)
        if type == "what":
            return "%s: %s" % (x, f.comment)
        if type == "section":
            return "The section %s is in %s" % (x, path)
        return f.body

    def fact_turn(self, type):
        pool = self.by_type.get(type)
        while pool:
            f, x, d = pool.pop()
            if self.asked.get(x, 0) < 2:
                self.asked[x] = self.asked.get(x, 0) + 1
                return self.turn_of(type, f, x, d)
        return None

    def turn_of(self, type, f, x, d, question=None):
        return Turn(type, question or self.ask(type, f, x), self.answer(type, f, x, d.path), name=(f, x, d))

    # ---- Tools ----------------------------------------------------------------------

    def run(self, name, **arguments):
        """-> (name, arguments, result), and whether it worked"""
        result, ok = self.repo.run(name, arguments)
        return (name, arguments, result), ok

    def appears(self, x, result):
        paths = []
        for line in result.split("\n"):
            path = line.split(":", 1)[0]
            if line.startswith("... "):
                continue
            if path not in paths:
                paths.append(path)
        more = "\n... and more" if result.rsplit("\n", 1)[-1].startswith("... ") else ""
        return "%s appears in:\n%s%s" % (x, "\n".join(paths), more)

    def not_found(self, x):
        return "I could not find %s in this repository." % x

    def search_turn(self, type, question, x, query):
        call, _ = self.run("search", query=query)
        if len(call[2]) > 2400:
            return None
        if call[2] == "no matches":
            return Turn("missing", question, self.not_found(x), [call])
        return Turn(type, question, self.appears(x, call[2]), [call])

    def search(self):
        if self.facts and self.r.random() < 0.8:
            f, x, _ = self.r.choice(self.facts)
            if f.kind in ("section", "key"):
                return None
            x = f.name
        else:
            ids = re.findall(r"[A-Za-z_]\w{3,40}", self.r.choice(self.docs).text[:4000])
            if not ids:
                return None
            x = self.r.choice(ids)
        return self.search_turn("search", self.fill(self.form(ASK["search"]), x=self.quote(x, False)), x, x)

    def includes(self):
        d = self.r.choice(self.docs)
        found = [x for x in F.imports(d.text, d.path) if 2 < len(x) <= ASKED_MAX]
        if not found:
            return None
        x = self.r.choice(found)
        return self.search_turn("includes", self.fill(self.form(ASK["includes"]), x=x), x, x)

    def folder_of(self, path):
        return os.path.dirname(path) or "."

    def folder_turn(self, folder, question):
        call, ok = self.run("list_dir", path=folder)
        if not ok or len(call[2]) > 1800:
            return None
        return Turn("folder", question, "%s contains:\n%s" % (folder, call[2]), [call])

    def folder(self):
        folder = self.folder_of(self.r.choice(self.paths if self.r.random() < 0.7 else self.all_paths))
        shown = folder + "/" if folder != "." and self.r.random() < 0.3 else folder
        if folder == "." and self.r.random() < 0.5:
            shown = "the root folder"
        return self.folder_turn(folder, self.fill(self.form(ASK["folder"]), x=shown))

    def log_turn(self, sub, path, question, type="log"):
        call, ok = self.run("git_log", path=path)
        if not ok or len(call[2]) > 1800:
            return None
        if call[2] == "no commits":
            return Turn(type, question, "There are no commits for %s." % path, [call])
        first = call[2].split("\n", 1)[0]
        m = re.match(r"(\w+) (\S+) (.*?): (.*)$", first)
        if not m:
            return None
        commit, date, author, subject = m.groups()
        answer = {
            "log_who": "%s last changed %s on %s" % (author, path, date),
            "log_when": "%s was last changed on %s by %s" % (path, date, author),
            "log_what": "The last change to %s is %s: %s" % (path, commit, subject),
            "log_list": call[2],
        }[sub]
        return Turn(type, question, answer, [call])

    def log(self):
        sub = self.r.choice(["log_who", "log_who", "log_when", "log_what", "log_list"])
        path = self.r.choice(self.paths if self.r.random() < 0.8 else self.all_paths)
        if self.r.random() < 0.1:
            path = self.folder_of(path)
        return self.log_turn(sub, path, self.fill(self.form(ASK[sub]), x=path))

    def lines_turn(self, path, a, b, question):
        call, ok = self.run("read_lines", path=path, start=a, end=b)
        text = call[2]
        limit = 6000 if self.r.random() < 0.15 else 1800
        if not ok or len(text) > limit or not text.strip() or text.rsplit("\n", 1)[-1].startswith("... "):
            return None
        return Turn("lines", question, text.strip("\n"), [call])

    def lines(self):
        path = self.r.choice(self.paths if self.r.random() < 0.7 else self.all_paths)
        total = self.files[path].count("\n") + 1
        n = self.r.choice([3, 5, 8, 10, 15, 20, 30, 60])
        if self.r.random() < 0.25:
            n = min(n, total)
            return self.lines_turn(path, 1, n, self.fill(self.form(ASK["top"]), x=path, b=n))
        a = self.r.randint(1, max(1, total - n))
        b = min(total, a + n - 1)
        return self.lines_turn(path, a, b, self.fill(self.form(ASK["lines"]), x=path, a=a, b=b))

    # ---- What the view does not hold -------------------------------------------------

    def find_outside(self):
        """Facts of the repository whose names are nowhere in the view."""
        if self.outside is None:
            if self.text is None:
                self.text = "\n".join(d.text for d in self.docs)
            inside, self.outside = set(self.paths), []
            others = [p for p in self.all_paths if p not in inside]
            for path in self.r.sample(others, min(len(others), 24)):
                text = self.files[path]
                for f in F.extract(text[:20000], path):
                    if f.declared or f.kind in ("section", "key") or not 3 < len(f.name) <= ASKED_MAX:
                        continue
                    if f.name not in self.text:
                        self.outside.append((f, path))
            self.r.shuffle(self.outside)
        return self.outside

    def absent(self):
        """Not in the view: found by search, read where a line of the result does not say it."""
        pool = self.find_outside()
        if not pool:
            return None
        f, path = pool.pop()
        type = self.r.choice(self.types_of(f))
        question = self.ask(type, f, f.name)
        search, _ = self.run("search", query=f.name)
        if len(search[2]) > 2400:
            return None
        start = "%s:%d:" % (path, f.line)
        line = next((s for s in search[2].split("\n") if s.startswith(start)), None)
        if line is None:
            return None
        answer = self.answer(type, f, f.name, path)
        if type == "where" or (type == "signature" and answer in line) or (type == "value" and f.value in line):
            return Turn("absent", question, answer, [search])
        read, ok = self.run("read_lines", path=path, start=f.line, end=f.line + RESULT_LINES - 1)
        body = one_line(read[2], path)
        piece = one_line(f.comment if type == "what" else f.body if type == "show" else answer, path)
        if not ok or piece not in body or len(read[2]) > 2400:
            return None
        return Turn("chain", question, answer, [search, read])

    def missing(self):
        """In no file: searched for, and said so."""
        base = self.r.choice(self.facts)[0] if self.facts else None
        name = self.mutate(base.name if base else "config_value")
        if any(name in d.text for d in self.docs):
            return None
        type = self.r.choice(["where", "signature", "value", "what", "show", "search"])
        question = self.fill(self.form(ASK[type]), k="", x=self.quote(name, type in ("signature", "where")))
        call, _ = self.run("search", query=name)
        if call[2] != "no matches":
            return None
        return Turn("missing", question, self.not_found(name), [call])

    def mutate(self, name):
        parts = re.split(r"(_|(?<=[a-z0-9])(?=[A-Z]))", name)
        at = [i for i, p in enumerate(parts) if len(p) > 1 and p.isalpha()]
        if not at:
            return name + "_" + self.r.choice(self.words)
        i = self.r.choice(at)
        w = self.r.choice(self.words)
        old = parts[i]
        parts[i] = w.upper() if old.isupper() else w.capitalize() if old[0].isupper() else w
        return "".join(parts)

    def error(self):
        """A tool that fails: its text is the answer."""
        path = self.r.choice(self.all_paths)
        z = self.r.random()
        if z < 0.35:
            stem, ext = os.path.splitext(path)
            path = os.path.join(os.path.dirname(path), self.mutate(os.path.basename(stem)) + ext)
            a = self.r.randint(1, 300)
            call, ok = self.run("read_lines", path=path, start=a, end=a + 9)
            question = self.fill(self.form(ASK["lines"]), x=path, a=a, b=a + 9)
        elif z < 0.6:
            a = self.files[path].count("\n") + self.r.randint(50, 900)
            call, ok = self.run("read_lines", path=path, start=a, end=a + 9)
            question = self.fill(self.form(ASK["lines"]), x=path, a=a, b=a + 9)
        else:
            folder = self.folder_of(path)
            path = path if z < 0.7 or folder == "." else self.mutate(folder)
            call, ok = self.run("list_dir", path=path)
            question = self.fill(self.form(ASK["folder"]), x=path)
        return None if ok else Turn("error", question, "That failed: " + call[2], [call])

    def paste(self):
        """A question about a text that the message itself brings."""
        path = self.r.choice(self.all_paths)
        text = self.files[path]
        if len(text) > 9000 or path in self.paths:
            at = self.r.randint(0, max(0, len(text) - 3000))
            at = text.find("\n", at) + 1
            text = text[at : at + self.r.choice([600, 1200, 2400, 6000])]
            text = text[: text.rfind("\n") + 1] or text
        found = [f for f in F.extract(text, path) if f.kind not in ("section", "key")]
        names = [f.name for f in found]
        found = [f for f in found if names.count(f.name) == 1 and f.name not in self.defined]
        self.r.shuffle(found)
        for f in found:
            types = [t for t in self.types_of(f) if t != "where"]
            if types:
                type = self.r.choice(types)
                q = self.ask(type, f, f.name)
                message = self.r.choice(PASTE).replace("{q}", q).replace("{t}", text.strip("\n"))
                return Turn("paste", message, self.answer(type, f, f.name, path), paste=text)
        return None

    def small(self):
        q, a = self.r.choice(SMALL)
        return Turn("small", q, a)

    # ---- Needles --------------------------------------------------------------------

    def plant(self, doc_text, path):
        """-> the text with a made-up fact in a comment, or None; the question is remembered"""
        blank = [m.end() for m in re.finditer(r"\n\n", doc_text)]
        if not blank:
            return None
        at, w = self.r.choice(blank), self.r.choice(self.words)
        k = NEEDLE_KIND[0] if self.evaluate else self.r.choice(NEEDLE_KIND)
        n = "".join(self.r.choice("0123456789") for _ in range(6 if self.evaluate else self.r.randint(4, 8)))
        line = comment_line(path, self.form(NEEDLE_TEXT).format(k=k, w=w, n=n))
        question = self.fill(self.form(NEEDLE_ASK), k=k, w=w)
        self.needles.append(Turn("needle", question, "The %s for %s is %s" % (k, w, n)))
        return doc_text[:at] + line + "\n\n" + doc_text[at:]

    # ---- Turns ----------------------------------------------------------------------

    def turn(self):
        """A message that opens a subject."""
        if self.needles and self.r.random() < 0.1:
            return self.needles.pop()
        kinds = list(SHARE)
        for _ in range(40):
            kind = self.r.choices(kinds, SHARE.values())[0]
            t = self.fact_turn(kind) if kind in self.by_type or kind in ASK and kind in (
                "where", "signature", "value", "what", "show", "section") else getattr(self, kind)()
            if t is not None:
                return t
        return self.small()

    def again(self, last):
        """A message about what the last one spoke of; None if it spoke of nothing."""
        if not last.name:
            return None
        f, x, d = last.name
        have = [t for t in self.types_of(f) if t not in (last.type, "section")]
        z = self.r.random()
        if have and z < 0.5:
            type = self.r.choice(have)
            return self.turn_of(type, f, x, d, self.fill(self.r.choice(AGAIN[type])))
        if z < 0.6 and f.kind not in ("section", "key"):
            t = self.search_turn("search", self.fill(self.r.choice(AGAIN["search"])), f.name, f.name)
        elif z < 0.7:
            sub = self.r.choice(["log_who", "log_when"])
            t = self.log_turn(sub, d.path, self.fill(self.r.choice(AGAIN[sub])))
        elif z < 0.76:
            t = self.folder_turn(self.folder_of(d.path), self.fill(self.r.choice(AGAIN["folder"])))
        elif z < 0.8:
            n = self.r.choice([3, 5, 10, 20])
            t = self.lines_turn(d.path, 1, n, self.fill(self.r.choice(AGAIN["top"]), b=n))
        else:
            pool = self.by_type.get(last.type)
            if last.type not in AGAIN or not pool:
                return None
            f2, x2, d2 = pool.pop()
            q = self.fill(self.r.choice(AGAIN["other"]), x=self.quote(x2, False))
            return self.turn_of(last.type, f2, x2, d2, q)
        if t is not None:
            t.name = last.name
        return t

    def conversation(self, turns):
        out = []
        while len(out) < turns:
            t = self.again(out[-1]) if out and self.r.random() < 0.4 else None
            out.append(t or self.turn())
        return out
