"""toolsim.py - The tools that a model may call, over a repository that is only in memory.

    repo = Repo({"src/a.c": "int a;\\n"}, seed=7)
    repo.run("search", {"query": "int"})  ->  ("src/a.c:1:int a;", True)

The results are those of tools/tools.c, byte for byte, limits, cut marks and error messages
included; its limits stand here under the same names.  What differs is what there is to see:

* `files` holds what the C tools would list and read: text files under clean relative paths,
  none of them left out by .gitignore, .cairnignore or .gitattributes, no symbolic links.
  A file that is binary or over a mebibyte is treated as there.
* Sources for training have no history, so one is made up from the seed: commits() tells it,
  and git_log prints it.  Or give one.

The table of tools, their help and schemas, is tools.json, which the C table writes:

    CN_TOOLS_JSON=$PWD/examples/train/tools.json build/release-cpu/tests/tools/test_tools

(and which the same program, run without that variable, compares with its table).

Time: search and list_dir look at all of a repository, some 1 ms for each MB; a history is made
when it is first asked for, some 5 us a commit.
"""
import bisect
import json
import os
import random
import re

RESULT_BYTES_MAX = 64 << 10
ARGUMENT_BYTES_MAX = 16 << 10
ARGUMENT_DEPTH_MAX = 8
ARGUMENT_VALUES_MAX = 64
LINES_MAX = 1000  # of read_lines
ENTRIES_MAX = 1000  # of list_dir
MATCHES_MAX = 12  # of search
MATCH_BYTES_MAX = 200
QUERY_BYTES_MAX = 256
COMMITS_MAX = 10  # of git_log
FILE_BYTES_MAX = 1 << 20
PATH_BYTES_MAX = 1024
NAME_BYTES_MAX = 255  # of one component: the file system's limit
BINARY_BYTES = 8000  # a NUL in so many first bytes: binary
CUT_BYTES = 80  # kept free for the line that says that the result is cut
DIAG_BYTES = 240  # of an error below the tools, with its NUL
BLANKS = b" \t\v\f\0"  # what strchr finds in " \t\v\f": its NUL as well

COMMITS_PER_FILE = 3  # of a history that is made up
HISTORY_MAX = 2000


def schemas():
    """[{"name", "help", "schema"}] in the order of the C table; the schema is its JSON text."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "tools.json"), encoding="utf-8") as f:
        return json.load(f)


class Refused(Exception):
    """A call that fails; the text is for the model to read."""

    def __init__(self, text):
        super().__init__()
        self.text = whole_utf8(text[: 2 * DIAG_BYTES - 1])


class Commit:
    """One commit: what git_log prints of it, and the set of paths that it changed."""

    __slots__ = ("id", "date", "author", "subject", "paths")

    def __init__(self, id, date, author, subject, paths):
        self.id, self.date, self.author, self.subject, self.paths = id, date, author, subject, paths

    def line(self):
        return f"{self.id[:7]} {self.date} {self.author}: {self.subject}"


def whole_utf8(data):
    """The bytes without a character at their end that is cut off (cn_utf8_cut)."""
    start = len(data)
    while start > 0 and len(data) - start < 3 and data[start - 1] & 0xC0 == 0x80:
        start -= 1
    if start == 0:
        return data
    lead = data[start - 1]
    size = 1 if lead < 0x80 else 0 if lead < 0xC2 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4 if lead < 0xF5 else 0
    return data[: start - 1] if start - 1 + size > len(data) else data


def cut_utf8(data, size):
    """At most `size` bytes, cut between characters."""
    return data if len(data) <= size else whole_utf8(data[:size])


class Result:
    """The text of a result, line by line, up to the limit (put_line, put_cut)."""

    def __init__(self):
        self.text = bytearray()
        self.is_full = False

    def put_line(self, line):
        if len(self.text) + len(line) + 1 > RESULT_BYTES_MAX - CUT_BYTES:
            self.is_full = True
        if not self.is_full:
            if self.text:
                self.text += b"\n"
            self.text += line

    def put_cut(self, text):
        self.text += (b"\n... " if self.text else b"... ") + text.encode()


class Repo:
    """An immutable repository.

    files    {path: text}, str or bytes
    seed     of the made-up history
    history  [Commit], newest first, instead of one that is made up
    """

    def __init__(self, files, seed=0, history=None):
        self.data = {
            path.encode(): text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
            for path, text in files.items()
        }
        self.paths = sorted(self.data)
        self.seed = seed
        self.history = history

    def run(self, name, arguments):
        """Call a tool by name.  `arguments` is a dict, or the JSON text of what should be one.
        -> (text for the model, whether the call did not fail)"""
        text, ok = self.run_bytes(name, arguments)
        return text.decode("utf-8", "replace"), ok

    def run_bytes(self, name, arguments):
        """The same with the exact bytes, which are not UTF-8 where a cut or a file is not."""
        result = Result()
        try:
            if name not in TOOLS:
                raise Refused(b"no tool of the name " + name.encode())
            if not isinstance(arguments, dict):
                arguments = parse_arguments(arguments)
            check_arguments(SCHEMAS[name], arguments)
            TOOLS[name](self, result, arguments)
        except Refused as e:
            return e.text, False
        return bytes(result.text), True

    # ---- The tools ----------------------------------------------------------------------

    def read_lines(self, result, arguments):
        path = get_path(arguments["path"])
        start, end = arguments["start"], arguments["end"]
        if end < start:
            raise Refused(b'argument "end" is before "start"')
        if not path:
            raise Refused(b"the root is a folder: list_dir lists it")
        data = self.read(path)
        if b"\0" in data[:BINARY_BYTES]:
            raise Refused(path[:200] + b" is binary")
        lines = data.split(b"\n")
        if not lines[-1]:
            lines.pop()
        if len(lines) < start:
            raise Refused(path[:200] + b" has %d lines" % len(lines))
        put = 0
        for line in lines[start - 1 : min(end, start - 1 + LINES_MAX)]:
            result.put_line(line[:-1] if line.endswith(b"\r") else line)
            if result.is_full:
                break
            put += 1
        if result.is_full or (put == LINES_MAX and start - 1 + put < min(end, len(lines))):
            result.put_cut(f"cut after {put} lines")

    def list_dir(self, result, arguments):
        folder = get_path(arguments["path"])
        if folder in self.data:
            raise Refused(folder[:200] + b" is no folder")
        if folder:
            folder += b"/"
        count, last = 0, None
        i = bisect.bisect_left(self.paths, folder)
        while i < len(self.paths) and self.paths[i].startswith(folder) and not result.is_full:
            path = self.paths[i]
            slash = path.find(b"/", len(folder))
            name = path[len(folder) :] if slash < 0 else path[len(folder) : slash + 1]
            i += 1
            if name == last:
                continue
            last = name
            if count == ENTRIES_MAX:
                result.is_full = True
            else:
                result.put_line(name)
            count += not result.is_full
        if result.is_full:
            result.put_cut(f"cut after {count} names")
        elif count == 0:
            raise Refused(b"no such folder: " + folder[:200] if folder else b"the repository has no files")

    def search(self, result, arguments):
        query = arguments["query"].encode()
        if not 0 < len(query) <= QUERY_BYTES_MAX or b"\n" in query or b"\r" in query:
            raise Refused(b'argument "query" must be one line of 1 to %d bytes' % QUERY_BYTES_MAX)
        matches = 0
        for path in self.paths:
            data = self.data[path]
            at = data.find(query)
            if at < 0 or len(data) > FILE_BYTES_MAX or b"\0" in data[:BINARY_BYTES]:
                continue
            number, counted = 1, 0
            while at >= 0 and not result.is_full:
                number += data.count(b"\n", counted, at)
                begin = data.rfind(b"\n", 0, at) + 1
                end = data.find(b"\n", at)
                end = len(data) if end < 0 else end
                if matches == MATCHES_MAX:
                    result.is_full = True
                    break
                line = match_text(data[begin:end], at - begin)
                result.put_line(path + b":%d:" % number + line)
                matches += not result.is_full
                counted = end
                at = data.find(query, end)
            if result.is_full:
                break
        if result.is_full:
            result.put_cut(f"cut after {matches} matches")
        elif matches == 0:
            result.text += b"no matches"

    def git_log(self, result, arguments):
        path = get_path(arguments["path"]).decode()
        commits = self.commits(path, COMMITS_MAX + 1)
        for commit in commits[:COMMITS_MAX]:
            result.put_line(commit.line().encode())
        if len(commits) > COMMITS_MAX:
            result.put_cut("there may be more")
        elif not commits:
            result.text += b"no commits"

    # ---- What they look at ----------------------------------------------------------------

    def read(self, path):
        """The bytes of a file, or the error that opening it ends with."""
        data = self.data.get(path)
        if data is None:
            known = b""
            for name in path.split(b"/"):
                if known in self.data:
                    break  # a file is no folder
                if len(name) > NAME_BYTES_MAX:
                    raise Refused(cut_utf8(path + b" is not a regular file below the root", DIAG_BYTES - 1))
                known = known + b"/" + name if known else name
                if known not in self.data and not self.is_folder(known):
                    break
            if self.is_folder(path):
                raise Refused(cut_utf8(path + b" is not a regular file below the root", DIAG_BYTES - 1))
            raise Refused(cut_utf8(b"no such file: " + path, DIAG_BYTES - 1))
        if len(data) > FILE_BYTES_MAX:
            raise Refused(cut_utf8(path + b": more than %d bytes" % FILE_BYTES_MAX, DIAG_BYTES - 1))
        return data

    def is_folder(self, path):
        i = bisect.bisect_left(self.paths, path + b"/")
        return i < len(self.paths) and self.paths[i].startswith(path + b"/")

    def commits(self, path="", most=None):
        """The newest commits, at most `most`, that changed a file, or anything in a folder; ""
        is the root.  Newest first."""
        if self.history is None:
            self.history = make_history([p.decode("utf-8", "replace") for p in self.paths], self.seed)
        found = []
        for commit in self.history:
            if not path or path in commit.paths or any(p.startswith(path + "/") for p in commit.paths):
                found.append(commit)
                if len(found) == most:
                    break
        return found


def match_text(line, at):
    """A matching line without the blanks around it, from the match on if that is far in."""
    if line.endswith(b"\r"):
        line = line[:-1]
    begin = len(line) - len(line.lstrip(BLANKS))
    end = len(line.rstrip(BLANKS + b"\r"))
    if at - begin > MATCH_BYTES_MAX // 2:
        begin = at
    return cut_utf8(line[begin : max(begin, end)], MATCH_BYTES_MAX)


TOOLS = {
    "read_lines": Repo.read_lines,
    "list_dir": Repo.list_dir,
    "search": Repo.search,
    "git_log": Repo.git_log,
}


# ---- Arguments ------------------------------------------------------------------------------


def get_path(text):
    """The argument "path" as the repository names it: "./a//b/" is "a/b", "." is ""."""
    path = text.encode()
    if path[:1] == b"/":
        raise Refused(b'path "%s" is absolute; paths begin at the root of the repository' % path[:200])
    kept, size = [], 0
    for name in path.split(b"/"):
        if name == b"..":
            raise Refused(b'path "%s" has a ".."; paths begin at the root of the repository' % path[:200])
        if name.lower() == b".git":
            raise Refused(b'path "%s" is git\'s own' % path[:200])
        if name and name != b".":
            if size + 1 + len(name) > PATH_BYTES_MAX:
                raise Refused(b"path of more than %d bytes" % PATH_BYTES_MAX)
            size += len(name) + (1 if kept else 0)
            kept.append(name)
    return b"/".join(kept)


def check_arguments(schema, arguments):
    """The arguments against the tool's own schema."""
    if not isinstance(arguments, dict):
        raise Refused(b"arguments must be an object")
    properties = schema["properties"]
    for name, value in arguments.items():
        if name not in properties:
            raise Refused(b'unknown argument "%s"' % name.encode()[:100])
        kind = properties[name]["type"]
        if kind == "string":
            fits = isinstance(value, str)
        else:
            fits = type(value) is int and -(1 << 63) <= value < 1 << 63
        if not fits:
            raise Refused(f'argument "{name}" must be of type {kind}'.encode())
        least = properties[name].get("minimum")
        if least is not None and value < least:
            raise Refused(f'argument "{name}" is {value}, the least is {least}'.encode())
    for name in schema["required"]:
        if name not in arguments:
            raise Refused(f'missing argument "{name}"'.encode())


SPACE = re.compile(rb"[ \t\n\r]*")
DIGITS = re.compile(rb"[0-9]*")
PLAIN = re.compile(rb'[^"\\\x00-\x1f\x80-\xff]*')
UNIT = re.compile(rb"\\u([0-9a-fA-F]{4})")


class Scan:
    """The strict JSON reader of base/json.c, with its messages."""

    def __init__(self, text):
        self.text, self.at, self.values = text, 0, 0

    def fail(self, at, what):
        text = f"arguments: byte {at}: {what}".encode()
        raise Refused(cut_utf8(text, DIAG_BYTES - 1))

    def expected(self, what):
        c = self.peek()
        if c < 0:
            self.fail(self.at, f"{what} expected, but the text ends")
        if c <= 0x20 or c > 0x7E:
            self.fail(self.at, f"{what} expected, found byte 0x{c:02x}")
        self.fail(self.at, f"{what} expected, found '{chr(c)}'")

    def peek(self):
        return self.text[self.at] if self.at < len(self.text) else -1

    def peek_token(self):
        self.at = SPACE.match(self.text, self.at).end()
        return self.peek()

    def escape(self):
        start = self.at
        if self.text[start + 1 : start + 2] and self.text[start + 1] in b'"\\/bfnrt':
            self.at += 2
            return
        m = UNIT.match(self.text, start)
        if not m:
            self.fail(start, "not an escape")
        self.at = m.end()
        unit = int(m.group(1), 16)
        if unit == 0:
            self.fail(start, "NUL in a string")
        if 0xD800 <= unit <= 0xDFFF:
            m = UNIT.match(self.text, self.at) if unit < 0xDC00 else None
            if not m or not 0xDC00 <= int(m.group(1), 16) <= 0xDFFF:
                self.fail(start, "half a surrogate pair")
            self.at = m.end()

    def string(self):
        start = self.at
        self.at += 1
        while True:
            self.at = PLAIN.match(self.text, self.at).end()
            c = self.peek()
            if c == 0x22:
                break
            if c == 0x5C:
                self.escape()
            elif c < 0:
                self.fail(start, "a string without end")
            elif c < 0x20:
                self.fail(self.at, "a control character in a string")
            else:
                size = 2 if c < 0xE0 else 3 if c < 0xF0 else 4
                try:
                    self.text[self.at : self.at + size].decode()
                except UnicodeDecodeError:
                    self.fail(self.at, "not UTF-8")
                self.at += size
        self.at += 1
        return json.loads(self.text[start : self.at])

    def digits(self):
        end = DIGITS.match(self.text, self.at).end()
        if end == self.at:
            self.expected("a digit")
        self.at = end

    def number(self):
        start = self.at
        if self.peek() == 0x2D:
            self.at += 1
        digits = self.at
        self.digits()
        if self.text[digits] == 0x30 and self.at - digits > 1:
            self.fail(start, "a number with a leading 0")
        whole = True
        if self.peek() == 0x2E:
            self.at += 1
            self.digits()
            whole = False
        if self.peek() in (0x45, 0x65):
            self.at += 1
            if self.peek() in (0x2B, 0x2D):
                self.at += 1
            self.digits()
            whole = False
        text = self.text[start : self.at]
        if float(text) in (float("inf"), float("-inf")):
            self.fail(start, "a number that overflows a double")
        return int(text) if whole else float(text)

    def container(self, depth):
        is_object = self.text[self.at] == 0x7B
        close = 0x7D if is_object else 0x5D
        if depth > ARGUMENT_DEPTH_MAX:
            self.fail(self.at, f"nested {depth} deep, limit {ARGUMENT_DEPTH_MAX}")
        out, keys = ([], None) if not is_object else (Members(), None)
        self.at += 1
        if self.peek_token() == close:
            self.at += 1
            return out
        while True:
            if is_object:
                if self.peek_token() != 0x22:
                    self.expected("a key")
                key_at = self.at
                keys = self.string()
                if self.peek_token() != 0x3A:
                    self.expected("':'")
                self.at += 1
                out.add(keys, key_at, self.value(depth))
            else:
                out.append(self.value(depth))
            c = self.peek_token()
            if c not in (0x2C, close):
                self.expected("',' or '}'" if is_object else "',' or ']'")
            self.at += 1
            if c == close:
                return out

    def value(self, depth):
        c = self.peek_token()
        self.values += 1
        if self.values > ARGUMENT_VALUES_MAX:
            self.fail(self.at, f"value number {self.values}, limit {ARGUMENT_VALUES_MAX}")
        if c in (0x7B, 0x5B):
            return self.container(depth + 1)
        if c == 0x22:
            return self.string()
        for word, value in ((b"true", True), (b"false", False), (b"null", None)):
            if c == word[0]:
                if not self.text.startswith(word, self.at):
                    self.expected("a value")
                self.at += len(word)
                return value
        if c == 0x2D or 0x30 <= c <= 0x39:
            return self.number()
        return self.expected("a value")

    def check_keys(self, value):
        """The first key, in the order of the text, that its object has twice."""
        children = value.members if isinstance(value, Members) else value if isinstance(value, list) else ()
        seen = set()
        for child in children:
            if isinstance(value, Members):
                key, at, child = child
                if key in seen:
                    self.fail(at, f'duplicate key "{key}"')
                seen.add(key)
            self.check_keys(child)


class Members:
    """An object while it is read: (key, its offset, value) in the order of the text."""

    def __init__(self):
        self.members = []

    def add(self, key, at, value):
        self.members.append((key, at, value))


def parse_arguments(text):
    """The value of a JSON text, or the message of the reader."""
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    if len(data) > ARGUMENT_BYTES_MAX:
        raise Refused(b"arguments: %d bytes, limit %d" % (len(data), ARGUMENT_BYTES_MAX))
    scan = Scan(data)
    value = scan.value(0)
    if scan.peek_token() >= 0:
        scan.expected("the end")
    scan.check_keys(value)
    return {key: member for key, _, member in value.members} if isinstance(value, Members) else value


# ---- A history -------------------------------------------------------------------------------

FIRST_NAMES = (
    "Ada Ahmed Aiko Anna Bruno Carla Chen Daniel Elif Emma Eva Fatima Felix Grace Hana Hugo Igor Ines Ivan James "
    "Jonas Karl Kofi Lars Lena Linda Luis Marta Mary Mia Miguel Nadia Nina Noah Olga Omar Paul Pedro Priya Ravi Robert "
    "Rosa Sara Sofia Tom Uma Viktor Wei Yuki Zoe"
).split()
LAST_NAMES = (
    "Adams Alvarez Becker Brown Chen Costa Dubois Eriksen Fischer Fox Garcia Haddad Hansen Ivanov Jensen Johnson Kim "
    "Klein Kowalski Kumar Larsen Lee Lopez Mbeki Moreau Mueller Nguyen Novak Okafor Olsen Park Patel Popov Reed Rossi "
    "Santos Sato Schmidt Silva Singh Smith Tanaka Torres Varga Walker Weber Wright Yilmaz Young Zhang"
).split()
ACTIONS = (
    "Fix {n} on an empty input|Add tests for {n}|Remove what {n} no longer needs|Simplify {n}|Document {n}|"
    "Make {n} faster|Split {n} in two|Handle errors of {n}|Fix a leak in {n}|Fix a crash in {n}|Drop unused code from {n}|"
    "Use const in {n}|Rework {n}|Clean up {n}|Check the limits of {n}|Avoid a copy in {n}|Rename variables in {n}|"
    "Move helpers out of {n}|Support larger files in {n}|Fix a typo in {n}|{n}: fix an off-by-one|{n}: add a missing check|"
    "{n}: keep the order of entries|{n}: no global state|{n}: update for the new interface|fix({d}): wrong result of {n}|"
    "feat({d}): let {n} take a limit|refactor({d}): shorter {n}|docs({d}): say what {n} does|Revert changes to {n}"
).split("|")
FIRSTS = ("Import the sources", "Initial commit", "First version", "Start of the project")


def make_history(paths, seed):
    """[Commit], newest first: a few authors, files of one folder changed together, and at the
    root one commit that brought all of them."""
    rng = random.Random(f"{seed} {len(paths)}")
    pick = rng.random
    authors = [f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}" for _ in range(rng.randint(2, 12))]
    count = min(COMMITS_PER_FILE * len(paths) + rng.randint(0, 8), HISTORY_MAX)
    day = rng.randint(13_000, 19_000)  # of the first commit, since 1970
    step = rng.uniform(0.2, 6.0)  # days from one to the next
    history = []
    if paths:
        history.append(Commit(hex_id(rng), date_of(day), authors[0], rng.choice(FIRSTS), set(paths)))
    for _ in range(count if paths else 0):
        day += step * 2 * pick()
        i = int(pick() * len(paths))
        path = paths[i]
        changed = {path}
        while pick() < 0.35:
            j = i + int(pick() * 7) - 3
            if 0 <= j < len(paths):
                changed.add(paths[j])
        folder, _, name = path.rpartition("/")
        subject = ACTIONS[int(pick() * len(ACTIONS))].format(
            n=name.partition(".")[0] or name, d=folder.rpartition("/")[2] or "core"
        )
        author = authors[int(pick() * pick() * len(authors))]
        history.append(Commit(hex_id(rng), date_of(min(day, 20_400)), author, subject[:120], changed))
    history.reverse()
    return history


def hex_id(rng):
    return f"{rng.getrandbits(160):040x}"


def date_of(day):
    """The date, "2024-05-17", of a day since 1970 (Howard Hinnant, chrono-compatible low-level
    date algorithms, civil_from_days)."""
    z = int(day) + 719468
    era = z // 146097
    doe = z - era * 146097
    yoe = (doe - doe // 1460 + doe // 36524 - doe // 146096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    month = mp + 3 if mp < 10 else mp - 9
    return f"{yoe + era * 400 + (month <= 2):04d}-{month:02d}-{doy - (153 * mp + 2) // 5 + 1:02d}"


SCHEMAS = {tool["name"]: json.loads(tool["schema"]) for tool in schemas()}
