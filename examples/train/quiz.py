"""quiz.py - Questions for the real program: on repositories that were never trained on.

    python3 quiz.py repos HELD.jsonl.xz DIR               a git repository a project, with a history
    python3 quiz.py ask DIR/NAME CAIRN BUDGET COUNT       JSON lines for `cairn bench retrieval --questions`
    python3 quiz.py score NAME:BUDGET:OUT.jsonl...        tables of what it answered (its --out)
    python3 quiz.py prompts DIR COUNT                     prompts for tests/golden/make_nano.py

`ask` takes the view from `cairn context --json`, so that it asks of what is in it; answers of tool
questions are made from what the tools print on that very repository.
"""
import collections, json, lzma, os, random, re, subprocess, sys

from questions import Document, World, call_text
from toolsim import Repo

FACTS = ("where", "signature", "value", "what", "show", "needle")
TOOLS = ("search", "includes", "folder", "log", "lines", "error")
TYPES = FACTS + ("section",) + TOOLS + ("absent", "chain", "missing", "paste", "again")
FIRST = "James Mary Ahmed Wei Yuki Olga Ivan Marta Pedro Anna Lars Nina Omar Priya Luis Eva Noah Zoe Karl Hana".split()
LAST = "Smith Johnson Garcia Tanaka Ivanov Novak Rossi Silva Kim Patel Larsen Dubois Okafor Nguyen Weber".split()
VERBS = ["Fix", "Add", "Remove", "Simplify", "Clean up", "Document", "Rework", "Handle errors in", "Speed up", "Test"]


def git(folder, *args, env=None):
    return subprocess.run(["git", "-C", folder, *args], check=True, capture_output=True, text=True, env=env).stdout


def repos(corpus, out):
    """The projects as repositories; files come in over 30 commits by several authors."""
    projects = collections.defaultdict(dict)
    with lzma.open(corpus, "rt", encoding="utf-8") as f:
        for project, path, text in map(json.loads, f):
            projects[project][path] = text
    for project, files in projects.items():
        folder, rng = os.path.join(out, project), random.Random(project)
        os.makedirs(folder)
        words = sorted({w for p in files for w in re.findall(r"[a-z]{4,}", p)})
        rng.shuffle(words)
        for path, word in zip(rng.sample(sorted(files), len(files) // 2), words):
            # A needle in every other file: the only facts that are made up.
            planted = World(rng, [], {path: ""}, [word], evaluate="plain")
            files[path] = planted.plant(files[path], path) or files[path]
        git(folder, "init", "-q")
        order, date = sorted(files), 1577836800
        rng.shuffle(order)
        step = max(1, len(order) // 30)
        for i in range(0, len(order), step):
            for path in order[i : i + step]:
                os.makedirs(os.path.dirname(os.path.join(folder, path)) or ".", exist_ok=True)
                with open(os.path.join(folder, path), "w", newline="") as f:
                    f.write(files[path])
            date += rng.randint(3600, 20 * 86400)
            name = rng.choice(FIRST) + " " + rng.choice(LAST)
            who = {k: v for r in ("AUTHOR", "COMMITTER") for k, v in (
                ("GIT_%s_NAME" % r, name), ("GIT_%s_EMAIL" % r, "a@example.invalid"), ("GIT_%s_DATE" % r, "%d +0000" % date))}
            subject = "%s %s" % (rng.choice(VERBS), os.path.basename(order[i]))
            git(folder, "add", "-A", "-f")
            git(folder, "commit", "-q", "-m", subject, env={**os.environ, **who})
        print(project, len(files))


class Tree(Repo):
    """A repository on disk, its history from git."""

    def __init__(self, folder):
        files = {}
        for path in git(folder, "ls-files", "-z").split("\0"):
            if path:
                with open(os.path.join(folder, path), newline="") as f:
                    files[path] = f.read()
        super().__init__(files)
        self.files, self.folder = files, folder

    def run(self, name, arguments):
        if name != "git_log":
            return super().run(name, arguments)
        form = "--format=%h %ad %an: %s"
        text = git(self.folder, "log", "-10", "--abbrev=7", "--date=short", form, "--", arguments["path"])
        return text.rstrip("\n") or "no commits", True


def view(folder, cairn, budget):
    """The documents of the view, as the program cuts and chooses them."""
    say = [cairn, "context", "-C", folder, "--budget", str(budget), "--dry-run", "--json", "--state", folder + "/../.state"]
    plan = json.loads(subprocess.run(say, check=True, capture_output=True, text=True).stdout.strip().split("\n")[-1])
    docs, lines = [], {}
    for d in plan["documents"]:
        if d["path"] not in lines:
            with open(os.path.join(folder, d["path"]), newline="") as f:
                lines[d["path"]] = f.read().split("\n")
        first = d["first_line"] - 1
        docs.append(Document(d["path"], "\n".join(lines[d["path"]][first : first + d["lines"]]) + "\n", first + 1))
    return docs


def needles(docs):
    """The made-up facts that stand in the view."""
    found = []
    for d in docs:
        for k, w, n in re.findall(r"The (passkey) for (\w+) is (\d+)\.", d.text):
            found.append({"q": "What is the %s for %s?" % (k, w), "answer": "The %s for %s is %s" % (k, w, n)})
    return found


def as_json(turn):
    calls = [{"name": n, "arguments": a} for n, a, _ in turn.calls]
    return {"q": turn.question, "calls": calls, "answer": turn.answer}


def ask(folder, cairn, budget, count):
    rng, docs = random.Random(budget), view(folder, cairn, budget)
    words = sorted({w for d in docs for w in re.findall(r"[a-z]{4,9}", d.path)})
    tree = Tree(folder)
    world = World(rng, docs, tree.files, words, tree)
    have = collections.defaultdict(list)
    for n in needles(docs):
        have["needle"].append([n])
    for type in FACTS[:5] + ("section",):
        while len(have[type]) < count:
            t = world.fact_turn(type)
            if t is None:
                break
            have[type].append([as_json(t)])
    for type in TOOLS + ("absent", "chain", "missing", "paste"):
        for _ in range(40 * count):
            if len(have[type]) >= count:
                break
            if type in ("absent", "chain") and not world.outside:
                world.outside = None  # look at other files
            t = getattr(world, "absent" if type == "chain" else type)()
            if t is not None and len(have[t.type]) < count:
                have[t.type].append([as_json(t)])
    for _ in range(12 * count):
        if len(have["again"]) >= count:
            break
        f, x, d = rng.choice(world.facts)
        type = rng.choice([t for t in world.types_of(f) if t != "section"] or ["where"])
        if type not in FACTS:
            continue
        one = world.turn_of(type, f, x, d)
        two = world.again(one)
        if two is not None:
            have["again"].append([as_json(one), as_json(two)])
    for type in TYPES:
        for turns in have[type][:count]:
            print(json.dumps({"type": type, "turns": turns}))


def prompts(folder, count):
    """Small views of some files and a message, or a message whose last call has its result."""
    rng, out, names = random.Random(200), [], sorted(n for n in os.listdir(folder) if n[0] != ".")
    trees = {n: Tree(os.path.join(folder, n)) for n in names}
    while len(out) < count:
        name = names[len(out) % len(names)]
        tree, paths, chars = trees[name], [], 0
        for path in rng.sample(sorted(tree.files), len(tree.files)):
            size = len(tree.files[path])
            if 400 < size and chars + size < 24000:
                paths.append(path)
                chars += size
        docs = [Document(p, tree.files[p], 1) for p in paths]
        world = World(rng, docs, tree.files, sorted({w for p in paths for w in re.findall(r"[a-z]{4,9}", p)}), tree)
        turn = world.turn()
        calls = [(call_text(n, a), result) for n, a, result in turn.calls]
        given = rng.randint(0, len(calls))
        talk = "<|user|>%s<|assistant|>" % turn.question
        for call, result in calls[:given]:
            talk += "<|tool_call|>%s<|end|><|tool_result|>%s<|end|><|assistant|>" % (call, result)
        if turn.type not in ("paste", "small") and len(talk) < 1000:
            right = "<|tool_call|>%s<|end|>" % calls[given][0] if given < len(calls) else turn.answer
            out.append([name, paths, talk, right])
    print(json.dumps(out))


def score(runs):
    """Per type and length: right of asked, in percent."""
    table, lengths = collections.defaultdict(lambda: [0, 0]), []
    for run in runs:
        name, budget, path = run.split(":", 2)
        lengths += [int(budget)] if int(budget) not in lengths else []
        for item in map(json.loads, open(path)):
            for key in ((item["type"], int(budget), "all"), (item["type"], int(budget), name)):
                table[key][0] += bool(item["right"])
                table[key][1] += 1
    names = sorted({k[2] for k in table} - {"all"}) + ["all"]
    for budget in sorted(lengths):
        print("\n%d tokens\n\n| type | %s |\n|%s" % (budget, " | ".join(names), "---|" * (len(names) + 1)))
        for type in TYPES:
            cells = [table.get((type, budget, n), [0, 0]) for n in names]
            if any(n for _, n in cells):
                print("| %s | %s |" % (type, " | ".join("%.1f (%d)" % (100 * a / n, n) if n else "" for a, n in cells)))
        for label, group in (("facts", FACTS), ("calls", TOOLS + ("absent", "chain")), ("missing", ("missing",))):
            cells = [[sum(table.get((t, budget, n), [0, 0])[i] for t in group) for i in (0, 1)] for n in names]
            print("| **%s** | %s |" % (label, " | ".join("%.1f (%d)" % (100 * a / n, n) if n else "" for a, n in cells)))


if __name__ == "__main__":
    verb, rest = sys.argv[1], sys.argv[2:]
    if verb == "repos":
        repos(*rest)
    elif verb == "ask":
        ask(rest[0], rest[1], int(rest[2]), int(rest[3]))
    elif verb == "prompts":
        prompts(rest[0], int(rest[1]))
    else:
        score(rest)
