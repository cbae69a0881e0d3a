"""facts.py - What a piece of a source file says of itself, from its text alone.

    python3 facts.py FILE...    print what is found in each

A fact is something that a question can ask and the text answers word for word: where a
function is, its signature, its first sentence of documentation, its source, the value of a
constant.  No language is parsed.  Comments and the insides of strings are blanked, so that
offsets stay; blocks in braces are paired; then regular expressions look at what is left.

A wrong fact teaches a model to be wrong, so doubt gives nothing: a name that stands twice
with different values has no value, a block whose end does not stand where its begin does has
no body, and what is nested in a function is not told.  A piece may begin and end anywhere;
a method whose class is not in the piece has no owner.

    extract(text, path) -> [Fact]            in the order of the text
    imports(text, path) -> [str]             what it includes or imports, as written
    calls(text, path, names) -> {name: [enclosing functions]}
    language(path) -> str                    "" for a file that is not looked at

The time is linear in the text, some 5 to 20 MB/s on one core.
"""
import bisect
import re
import sys

BODY_CHARS = 330  # most of a body; a longer one is not told
BODY_LINES = 3  # and the fewest lines of one
VALUE_CHARS = 60
SIGNATURE_CHARS = 300
NAME_CHARS = 60
WORDS = range(4, 33)  # of a comment's first sentence
PARENTHESIS_CHARS = 2000  # how far the end of a parameter list is looked for

LANGUAGES = {
    "c": "c h",
    "c++": "cc cpp cxx hh hpp hxx ipp inl",
    "python": "py pyi",
    "javascript": "js jsx mjs cjs",
    "typescript": "ts tsx mts cts",
    "go": "go",
    "rust": "rs",
    "java": "java",
    "shell": "sh bash",
    "markdown": "md markdown",
    "rst": "rst",
    "ini": "ini cfg",
    "conf": "conf",
    "properties": "properties",
    "toml": "toml",
    "yaml": "yaml yml",
    "json": "json",
    "make": "mk mak",
}
BY_ENDING = {ending: name for name, endings in LANGUAGES.items() for ending in endings.split()}
BY_NAME = {
    "Makefile": "make",
    "makefile": "make",
    "GNUmakefile": "make",
    "Cargo.lock": "toml",
    ".editorconfig": "ini",
    ".gitconfig": "ini",
}


def language(path):
    """"c", "c++", "python", ... by the path alone; "" for anything else."""
    name = path.rpartition("/")[2]
    if name in BY_NAME:
        return BY_NAME[name]
    stem, _, ending = name.rpartition(".")
    return BY_ENDING.get(ending.lower(), "") if stem else ""


class Fact:
    """One definition (or section, or key) of a piece.

    kind      function method class struct union enum interface trait type macro constant
              variable section key
    at, end   offsets: from its first character (decorators and attributes are part of it,
              its comment is not) to behind its last, or behind its signature if the last is
              not in the piece
    line      of its name, from 1
    sig       its signature; in C and C++ on one line, else as written; or None
    comment   the first sentence of its documentation, on one line; or None
    body      its whole lines as written, if they are few; or None
    value     as written; of a section: its first sentence if that is short; or None
    owner     the type that a method, or a constant in a type, belongs to; or None
    declared  it is only declared here (a prototype, a method without a body): the definition
              stands elsewhere, if there is one
    """

    __slots__ = (
        "kind", "name", "at", "end", "line", "sig", "comment", "body", "value", "owner", "declared",
    )  # fmt: skip

    def __init__(self, kind, name, at, end, sig=None, value=None, owner=None, declared=False):
        self.kind, self.name, self.at, self.end = kind, name, at, end
        self.sig, self.value, self.owner, self.declared = sig, value, owner, declared
        self.line, self.comment, self.body = 0, None, None

    def __repr__(self):
        told = (f"{s}={getattr(self, s)!r}" for s in self.__slots__ if getattr(self, s) is not None)
        return f"Fact({', '.join(told)})"


# ---- Blanking comments and strings --------------------------------------------------------

SLASH_COMMENTS = r"//[^\n]*+|/\*(?:[^*]|\*(?!/))*+(?:\*/)?"
DOUBLE = r'"(?:[^"\\\n]|\\.)*+"'
SINGLE = r"'(?:[^'\\\n]|\\.)*+'"
TRIPLE = r'"""(?:[^"\\]|\\.|"(?!""))*+(?:"""|\Z)'
BACKTICK = r"`(?:[^`\\$]|\\.|\$\{(?:[^{}`]|`[^`]*+`|\{[^{}`]*+\})*+\}|\$)*+`"
SINGLE_CHAR = r"'(?:[^'\\\n]|\\(?:u\{\w+\}|x\w\w|.))'"
HASH_COMMENT = r"(?<![^\s;&|(])#[^\n]*+"
HEREDOC = r"<<-?[ \t]*+(?P<q>['\"]?)(?P<end>[A-Za-z_]\w*)(?P=q)[^\n]*\n(?s:.*?)^\t*(?P=end)$"

TOKENS = {
    "c": "|".join((SLASH_COMMENTS, DOUBLE, SINGLE)),
    "c++": "|".join((SLASH_COMMENTS, r'\bu?8?R"(?P<d>[^()\\\s]{0,16})\((?s:.*?)\)(?P=d)"', DOUBLE, SINGLE)),
    "python": "|".join((r"#[^\n]*+", TRIPLE, TRIPLE.replace('"', "'"), DOUBLE, SINGLE)),
    "javascript": "|".join(
        (SLASH_COMMENTS, DOUBLE, SINGLE, BACKTICK, r"/(?:[^/\\\n\[]|\\.|\[(?:[^\]\\\n]|\\.)*+\])++/\w*+")
    ),
    "go": "|".join((SLASH_COMMENTS, DOUBLE, SINGLE, "`[^`]*+`")),
    "rust": "|".join(
        (SLASH_COMMENTS, r'\bb?r(?P<d>#*)"(?s:.*?)"(?P=d)', r'"(?:[^"\\]|\\.)*+"', SINGLE_CHAR)
    ),
    "java": "|".join((SLASH_COMMENTS, TRIPLE, DOUBLE, SINGLE)),
    "shell": "|".join((r"\\.", HASH_COMMENT, HEREDOC, r'"(?:[^"\\]|\\.)*+"', r"'[^']*+'")),
}
TOKENS["typescript"] = TOKENS["javascript"]
TOKENS = {name: re.compile(tokens, re.S | re.M) for name, tokens in TOKENS.items()}
ANNOTATED = {"python", "rust", "java", "typescript"}
BRACES = {"c", "c++", "javascript", "typescript", "go", "rust", "java"}

BEFORE_REGEX = re.compile(
    r"(?:[(,=:\[!&|?{};+~^<>*%-]|\b(?:return|typeof|case|in|of|do|else))\s*\Z|\A\s*\Z"
)


def blank(text):
    """Spaces for all but the line ends."""
    if "\n" not in text:
        return " " * len(text)
    return "\n".join([" " * len(line) for line in text.split("\n")])


def blank_tokens(text, tokens):
    """The text with comments blank, and strings blank between their quotes.  The last line of a
    string that goes over lines is blank to its end: nothing there is in the column of code."""
    out, last = [], 0
    for m in tokens.finditer(text):
        at, end = m.span()
        token = m.group()
        out.append(text[last:at])
        first = token[0]
        if first in "/#\\<":
            out.append(blank(token))
        elif "\n" in token:
            out.append('"' + blank(token[1:]))
        elif len(token) > 1:
            out.append('"' + " " * (end - at - 2) + '"')
        last = end
    out.append(text[last:])
    return "".join(out)


def blank_script(text, tokens):
    """The same for JavaScript, where a slash may begin a regular expression or divide."""
    out, last, look = [], 0, 0
    while True:
        m = tokens.search(text, look)
        if not m:
            break
        at, look = m.span()
        token = m.group()
        if token[:2] in ("//", "/*"):
            told = blank(token)
        elif token[0] == "/":
            if not BEFORE_REGEX.search(text, max(0, at - 40), at):
                look = at + 1
                continue
            told = '"' + " " * (len(token) - 2) + '"'
        elif "\n" in token:
            told = '"' + blank(token[1:])
        else:
            told = '"' + " " * (len(token) - 2) + '"'
        out.append(text[last:at])
        out.append(told)
        last = look
    out.append(text[last:])
    return "".join(out)


PYTHON_CODE = re.compile(
    r"^[ \t]*(?:(?:def|class) \w+[(:]|(?:return|raise|import) |from \w+ import|self\.\w|if .*:$"
    r")",
    re.M,
)


def blank_python(text, tokens):
    """A piece may begin within a docstring: of the two readings, the one with more code."""
    code = blank_tokens(text, tokens)
    quotes = text.find('"""')
    if quotes < 0 or text.count('"""') % 2 == 0:
        return code
    other = blank(text[: quotes + 3]) + blank_tokens(text[quotes + 3 :], tokens)
    more = len(PYTHON_CODE.findall(other)) > len(PYTHON_CODE.findall(code))
    return other if more else code


def blank_begin(text):
    """A piece may begin within a comment of the /* */ kind."""
    end = text.find("*/")
    begin = text.find("/*")
    if end < 0 or 0 <= begin < end:
        return text
    line = text[text.rfind("\n", 0, end) + 1 : end + 2].strip()
    if end > 3000 or not line.startswith("*"):
        return text
    return blank(text[: end + 2]) + text[end + 2 :]


DIRECTIVE = re.compile(r"^[ \t]*#[ \t]*(\w*)((?:[^\\\n]|\\.)*+)", re.M | re.S)


def blank_directives(code):
    """C without its directives, and without all branches of an #if but the first (the second
    where the first is `#if 0`): so braces pair.  -> (code, names defined in branches left out,
    [(offset, end) of each #define that holds for certain or in some branch])"""
    out, gone, defines, last = [], [], [], 0
    stack = []  # for each open #if: is this branch kept, was one kept
    dropped_from = -1  # where the text that is left out begins
    for m in DIRECTIVE.finditer(code):
        at, end = m.span()
        word = m.group(1)
        if dropped_from < 0:
            out.append(code[last:at])
        if word == "define":
            defines.append((m.start(), end))
        elif word in ("if", "ifdef", "ifndef"):
            kept = not (word == "if" and m.group(2).strip() == "0")
            stack.append([kept, kept])
        elif word in ("else", "elif") and stack:
            stack[-1][0] = not stack[-1][1] and word == "else"
            stack[-1][1] = stack[-1][1] or stack[-1][0]
        elif word == "endif" and stack:
            stack.pop()
        is_kept = all(kept for kept, _ in stack)
        if dropped_from < 0:
            out.append(blank(code[at:end]))
            last = end
            if not is_kept:
                dropped_from = end
        elif is_kept:
            gone.append(code[dropped_from:at])
            out.append(blank(code[dropped_from:end]))
            last, dropped_from = end, -1
    if dropped_from >= 0:
        gone.append(code[dropped_from:])
        out.append(blank(code[dropped_from:]))
    else:
        out.append(code[last:])
    names = set()
    for part in gone:
        names.update(re.findall(r"\b(\w+)[ \t]*\(|\b(?:struct|union|enum|class)[ \t]+(\w+)", part))
    return "".join(out), {n for pair in names for n in pair}, defines


# ---- A piece ------------------------------------------------------------------------------

BRACE = re.compile(r"[{}]")
PARENTHESIS = re.compile(r"[()]")


class Piece:
    """A text, its code (comments and strings blanked) and its blocks in braces."""

    def __init__(self, text, path):
        self.text, self.path, self.language = text, path, language(path)
        self.facts, self.doubtful, self.defines = [], set(), []
        tokens = TOKENS.get(self.language)
        if not tokens:
            self.code = text
        elif self.language == "python":
            self.code = blank_python(text, tokens)
        elif self.language in ("javascript", "typescript"):
            self.code = blank_script(blank_begin(text), tokens)
        elif self.language in BRACES:
            self.code = blank_tokens(blank_begin(text), tokens)
        else:
            self.code = blank_tokens(text, tokens)
        if self.language in ("c", "c++"):
            self.masked = self.code
            self.code, self.doubtful, self.defines = blank_directives(self.code)
        if self.language in BRACES:
            self.pair_braces()

    def pair_braces(self):
        """opens, closes (-1: not in the piece), parents: of each block, in order of its begin."""
        opens, closes, parents, stack = [], [], [], []
        code = self.code
        for m in BRACE.finditer(code):
            i = m.start()
            if code[i] == "{":
                parents.append(stack[-1] if stack else -1)
                stack.append(len(opens))
                opens.append(i)
                closes.append(-1)
            elif stack:
                closes[stack.pop()] = i
        self.opens, self.closes, self.parents = opens, closes, parents
        self.owners = {}  # begin of the block of a type or namespace -> its name, None for the latter

    def block_at(self, at):
        """The innermost block around an offset; -1 for none."""
        i = bisect.bisect_left(self.opens, at) - 1
        while i >= 0 and 0 <= self.closes[i] < at:
            i = self.parents[i]
        return i

    def scope(self, at):
        """(depth, owner): depth 0 outside of all blocks, 1 in a type, -1 within anything else."""
        block = self.block_at(at)
        if block < 0:
            return 0, None
        open_at = self.opens[block]
        if open_at not in self.owners:
            return -1, None
        owner = self.owners[open_at]
        return (1 if owner else 0), owner

    def close_of(self, open_at):
        """The brace that closes the one at `open_at`, if it stands where it should: on the same
        line, or in the column of the line that begins the block's statement; else -1."""
        i = bisect.bisect_left(self.opens, open_at)
        return self.closes[i] if i < len(self.opens) and self.opens[i] == open_at else -1

    def line_start(self, at):
        return self.text.rfind("\n", 0, at) + 1

    def line_end(self, at):
        end = self.text.find("\n", at)
        return end if end >= 0 else len(self.text)

    def column(self, at):
        """The blanks before an offset on its line; None if something else stands there."""
        before = self.code[self.line_start(at) : at]
        return len(before) if not before.strip() else None

    def close_parenthesis(self, open_at):
        """The parenthesis that closes the one at `open_at`, or -1."""
        depth = 0
        for m in PARENTHESIS.finditer(self.code, open_at, open_at + PARENTHESIS_CHARS):
            depth += 1 if m.group() == "(" else -1
            if depth == 0:
                return m.start()
        return -1

    def has_comment(self, at, end):
        """Whether a comment stands in there (strings keep their quotes in `code`)."""
        part = self.text[at:end]
        return "/*" in part or "//" in part or ("#" in part and self.language == "python")

    def signature(self, at, end):
        """What stands there, as written; None if it is long or has comments in it."""
        text = self.text[at:end].rstrip()
        if len(text) > SIGNATURE_CHARS or self.has_comment(at, end):
            return None
        return squash(text) if self.language in ("c", "c++") else text

    def value(self, at, end):
        """What stands there, as written, without a comment behind it; None unless it is short,
        on one line and whole."""
        code = self.code[at:end].rstrip()
        if not code or code.count('"') % 2:
            return None  # the latter: a string that goes on in the next line
        return whole_value(self.text[at : at + len(code)], code)

    def add(self, fact):
        self.facts.append(fact)
        return fact

    def add_comment(self, fact, at):
        """The comment that stands directly above `at`."""
        lines = comment_above(self.text, self.code, at, self.language)
        if lines:
            fact.comment = first_sentence(lines, fact.name)

    def add_block(self, fact, at, open_at):
        """The end and the body of what begins at `at` and has its block at `open_at`."""
        close = self.close_of(open_at)
        if close < 0:
            return False
        column = self.column(at)
        if self.column(close) != column and "\n" in self.code[at:close]:
            return False
        fact.end = close + 1
        self.add_body(fact, at, close + 1)
        return True

    def add_body(self, fact, at, end):
        """The body: whole lines, if nothing else stands on them and they are few."""
        start, stop = self.line_start(at), self.line_end(end)
        if start == 0 and self.language in ANNOTATED:
            return  # its annotations may stand before the piece
        if self.column(at) is None or self.code[end:stop].strip() not in ("", ";", ","):
            return
        body = self.text[start:stop].rstrip()
        if len(body) <= BODY_CHARS and body.count("\n") + 1 >= BODY_LINES:
            fact.body = body


def squash(text):
    return " ".join(text.split())


UNBALANCED = re.compile(r"[()\[\]{}]")
PAIRS = {")": "(", "]": "[", "}": "{"}


def whole_value(text, code):
    """A value as written; None unless short, on one line, and with its brackets in pairs."""
    text = text.strip()
    if not 0 < len(text) <= VALUE_CHARS or "\n" in text or "/*" in text:
        return None
    if text[-1] == "\\":
        return None  # it goes on
    if text[-1] in ",([{=+-*/&|?:<>" and code.rstrip()[-1:] == text[-1]:
        return None
    stack = []
    for bracket in UNBALANCED.findall(code):
        if bracket not in PAIRS:
            stack.append(bracket)
        elif not stack or stack.pop() != PAIRS[bracket]:
            return None
    return None if stack else text


BRACKETED = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|\{[^{}]*\}|<[^<>]*>")


def is_list(code):
    """Whether there are commas outside of brackets: `a = 1, b = 2`, or an unpacked tuple."""
    while "," in code:
        code, count = BRACKETED.subn("", code)
        if not count:
            return "," in code
    return False


# ---- Comments -----------------------------------------------------------------------------

NOT_PROSE = re.compile(
    r"copyright|licen[cs]e|spdx|\btodo\b|\bfixme\b|\bxxx\b|\(c\)|generated|lint|pragma|noqa|esl"
    r"int|vim:|coding[:=]|\bnote\b[(:]",
    re.I,
)
MARKUP = re.compile(r"[{};]|[@\\]\w|={2,}|-{3,}|\*{2,}|~{3,}|#{2,}|<[/a-z]|:\w+:|https?:")
TAG = re.compile(r"\{@\w+\s+([^{}]*)\}|</?(?:p|code|em|b|i|tt|pre|br)\s*/?>", re.I)
ROLE = re.compile(r":(?:\w+:)?\w+:`~?([^`<>]*)`")
SENTENCE_END = re.compile(r"[.!?](?=\s+[A-Z(`\"'])|[.!?]$")
ABBREVIATION = re.compile(r"(?:\b(?:e\.g|i\.e|etc|vs|cf|approx|resp|incl|Mr|Dr|St|No)|\b[A-Z])\.$")
COMMENT_LEAD = re.compile(r"^(?:/\*+[!<]*|//+[!<]?|\*+(?=\s|$|\*?/)|#+)[ \t]?")
NEW_PARAGRAPH = re.compile(
    r"[@\\]\w|[-*+] |\d+[.)] |[A-Z]\w+\s*:\s*$|:\w+|>>> |#|\||={3,}|-{3,}|Args:|Returns:|Parame"
    r"ters\b"
)
TITLE = re.compile(r"[\\@]?(?:fn\s+|class\s+)?(?:\w+[\s*]+)*\0\s*(?:\([^)]*\))?\s*[:.-]*")
NAME_LEAD = re.compile(r"(?:\s*\([^)]*\))?\s*(?::|--?|–|—)\s+")
DIRECTIVE_COMMENT = re.compile(r"//(?:go:|nolint|export |line |\+build|@ts-)|#!|/// <reference")


def comment_above(text, code, at, lang):
    """The lines, cleaned, of the comment that ends on the line above the one of `at`."""
    end = text.rfind("\n", 0, at)
    if end <= 0:
        return None
    start = text.rfind("\n", 0, end) + 1
    line = text[start:end].strip()
    if not line:
        return None
    if line.endswith("*/") and lang not in ("python", "shell", "make"):
        begin = text.rfind("/*", 0, end)
        if begin < 0 or end - begin > 4000 or text[text.rfind("\n", 0, begin) + 1 : begin].strip():
            return None
        if code[begin:end].strip():
            return None
        raw = text[begin:end].split("\n")
        last = raw[-1].rstrip()[:-2].rstrip("*")
        raw[-1] = last
    else:
        mark = "#" if lang in ("python", "shell", "make") else "//"
        raw = []
        while line.startswith(mark) and len(raw) < 60:
            if not DIRECTIVE_COMMENT.match(line):
                raw.append(line)
            if start == 0:
                break
            end = start - 1
            start = text.rfind("\n", 0, end) + 1
            line = text[start:end].strip()
        raw.reverse()
    lines = []
    for line in raw:
        line = COMMENT_LEAD.sub("", line.strip()).strip()
        lines.append(line if any(map(str.isalnum, line)) else "")
    return lines


def first_sentence(lines, name):
    """The first sentence of a comment's cleaned lines; None unless it is plain prose of its own."""
    lines = list(lines)
    while lines and not lines[0]:
        lines.pop(0)
    if lines and name in lines[0] and TITLE.fullmatch(lines[0].replace(name, "\0", 1)):
        lines.pop(0)  # a title that only names it
        while lines and not lines[0]:
            lines.pop(0)
    paragraph = []
    for line in lines:
        if not line or (paragraph and NEW_PARAGRAPH.match(line)):
            break
        paragraph.append(line)
        if len(paragraph) == 8:
            break
    text = TAG.sub(lambda m: m.group(1) or " ", " ".join(paragraph))
    text = squash(ROLE.sub(r"`\1`", text))
    text = re.sub(r"^[@\\](?:brief|short)\s+", "", text)
    if text.startswith(name):
        lead = NAME_LEAD.match(text, len(name))
        text = text[lead.end() :] if lead else text
    return sentence_of(text)


def sentence_of(text):
    """The first sentence of a line of prose, or None."""
    if not text or not text[0].isalpha() and text[0] != "`":
        return None
    for m in SENTENCE_END.finditer(text):
        if not ABBREVIATION.search(text, max(0, m.end() - 8), m.end()):
            text = text[: m.end()]
            break
    else:
        if text[-1] in ":,(":
            return None
    if len(text.split()) not in WORDS or len(text) > 220:
        return None
    if NOT_PROSE.search(text) or MARKUP.search(text) or text.count("`") % 2 or text.count("(") != text.count(")"):
        return None
    return text


# ---- C and C++ ----------------------------------------------------------------------------

C_WORDS = frozenset(
    "if for while switch return else do sizeof defined typedef case goto break continue default catch throw "
    "new delete using template operator alignas alignof decltype static_assert _Static_assert _Alignas "
    "__attribute__ __attribute __declspec __asm__ asm __typeof__ typeof struct union enum class namespace "
    "int char void long short unsigned signed float double const static extern inline volatile register auto bool "
    "public private protected virtual friend noexcept requires".split()
)
C_TYPE = re.compile(
    r"^([ \t]*+)(typedef[ \t]+)?(struct|union|enum(?:[ \t]+(?:class|struct))?|class)\b[ \t]*"
    r"(?:[A-Z][A-Z0-9_]{3,}[ \t]+(?=\w))?"
    r"(\w*)(?:[ \t]+final)?\s*(:[^;{}()=]*)?\{",
    re.M,
)
C_NAMESPACE = re.compile(
    r"^[ \t]*+(?:(?:inline[ \t]+)?namespace\b[ \t]*([\w:]*)|extern[ \t]+\"[ ]*\")\s*\{",
    re.M,
)
C_TYPEDEF = re.compile(r"^typedef[ \t]+[^;{}=#]{3,250}?;", re.M)
C_DECLARATION = re.compile(r"^[A-Za-z_][\w\s*&:<>,~]{0,300}+\(", re.M)
CPP_DECLARATION = re.compile(r"^[ \t]*+[A-Za-z_~][\w\s*&:<>,~]{0,300}+\(", re.M)
C_TAIL = re.compile(
    r"(?:\s*(?:const|noexcept|override|final|volatile|&{1,2}|__attribute__[ ]*\(\([^;{}]*?\)\)|"
    r"[A-Z_][A-Z0-9_]{3,}(?:[ ]?\([\w\s,\"]*\))?))*"
    r"\s*([{;])"
)
C_VARIABLE = re.compile(
    r"^((?:static[ \t]+|extern[ \t]+|const[ \t]+|constexpr[ \t]+|inline[ \t]+|volatile[ \t]+)*)"
    r"((?:unsigned[ \t]+|signed[ \t]+|struct[ \t]+|enum[ \t]+)?[A-Za-z_]\w*(?:::\w+)?"
    r"(?:[ \t]+(?:const|int|long|char|short))*[ \t*&]+(?:const[ \t]+)?)([A-Za-z_]\w*)[ \t]*("
    r"(?:\[[^\]\n]*\])*)[ \t]*=[ \t]*([^;{}\n]+);",
    re.M,
)
C_ENUMERATOR = re.compile(
    r"^[ \t]*+([A-Za-z_]\w{2,})[ \t]*=[ \t]*([^,\n{}]+?)[ \t]*(?:,[ \t]*|(?=\}))?$",
    re.M,
)
C_DEFINE = re.compile(r"[ \t]*#[ \t]*define[ \t]+([A-Za-z_]\w*)(\([^()\n]*\))?[ \t]*")
C_ALIAS = re.compile(r"typedef\s+(?:struct|union|enum)\s+(\w+)\s+(\w+)\s*;")


def find_c(piece):
    is_cpp = piece.language == "c++" or bool(re.search(r"^[ \t]*(?:class|namespace|template)\b", piece.code, re.M))
    find_c_macros(piece)
    find_c_types(piece, is_cpp)
    find_c_functions(piece, is_cpp)
    find_c_variables(piece)


def find_c_macros(piece):
    for at, end in piece.defines:
        m = C_DEFINE.match(piece.masked, at, end)
        if not m or len(m.group(1)) < 3:
            continue
        name, value_at = m.group(1), m.end()
        code = piece.masked[value_at:end].rstrip()
        if not code and not m.group(2):
            continue  # a guard, or a flag
        fact = Fact("macro", name, at, value_at + len(code))
        if m.group(2):
            fact.sig = squash(name + m.group(2))
        else:
            fact.value = whole_value(piece.text[value_at : value_at + len(code)], code)
        if "\\\n" in piece.text[at:end]:
            piece.add_body(fact, at, fact.end)
        piece.add_comment(fact, at)
        piece.add(fact)


def find_c_types(piece, is_cpp):
    code = piece.code
    found = [(m.start(), m, True) for m in C_TYPE.finditer(code)]
    if is_cpp or '"' in code:
        found += [(m.start(), m, False) for m in C_NAMESPACE.finditer(code)]
    found.sort(key=lambda item: item[0])
    for at, m, is_type in found:
        open_at = m.end() - 1
        depth, owner = piece.scope(at + len(m.group(1) or "") + 1)
        if depth < 0:
            continue
        if not is_type:
            piece.owners[open_at] = None
            continue
        tag, kind = m.group(4), m.group(3).split()[0]
        at += len(m.group(1))
        if (m.group(1) and not (is_cpp or depth)) or tag in C_WORDS:
            continue
        close = piece.close_of(open_at)
        end = code.find(";", close, close + 300) if close >= 0 else -1
        names, after = [], ""
        if end >= 0:
            after = code[close + 1 : end]
            if not re.fullmatch(r"[\w\s*,()\"]*", after):
                continue
            typedef = re.search(r"(\w+)\s*\Z", after) if m.group(2) else None
            if m.group(2) and (not typedef or "(" in after or "*" in after or "," in after):
                continue
            if tag:
                names.append((kind, tag))
            if typedef and typedef.group(1) != tag:
                names.append((kind if not tag else "type", typedef.group(1)))
        elif tag and close < 0 and not m.group(2):
            names.append((kind, tag))
        if not names:
            continue
        if is_cpp or kind == "enum":
            piece.owners[open_at] = names[0][1]
        for kind_told, name in names:
            if name in piece.doubtful or len(name) < 2:
                continue
            fact = Fact(kind_told, name, at, open_at, owner=owner)
            if is_cpp and kind != "enum" and not m.group(2):
                fact.sig = piece.signature(at, open_at)
            if end >= 0 and piece.column(close) == piece.column(at):
                fact.end = end + 1
                piece.add_body(fact, at, end + 1)
            if name != tag:
                fact.line = close + 1 + typedef.start(1)
            piece.add_comment(fact, at)
            piece.add(fact)
        if kind == "enum" and close >= 0:
            for e in C_ENUMERATOR.finditer(code, open_at + 1, close):
                value = piece.value(e.start(2), e.end(2))
                if value:
                    piece.add(Fact("constant", e.group(1), e.start(1), e.end(2), value=value, owner=names[0][1]))
    for m in C_TYPEDEF.finditer(code):
        if piece.scope(m.start() + 1)[0] < 0:
            continue
        text = m.group()
        name = re.search(r"\(\s*\*\s*(\w+)\s*\)\s*\(|(\w+)\s*(?:\[[^\]]*\]\s*)*;\Z", text)
        name = name and (name.group(1) or name.group(2))
        if not name or name in C_WORDS or "," in text and "(" not in text:
            continue
        alias = C_ALIAS.match(text)
        if alias and alias.group(1) == alias.group(2):
            continue  # it names what is elsewhere
        fact = Fact("type", name, m.start(), m.end(), sig=piece.signature(m.start(), m.end() - 1))
        piece.add_comment(fact, m.start())
        piece.add(fact)


def find_c_functions(piece, is_cpp):
    code = piece.code
    for m in (CPP_DECLARATION if is_cpp else C_DECLARATION).finditer(code):
        paren = m.end() - 1
        head = m.group()[:-1]
        before = head.rstrip()
        # Only what follows the last empty line belongs to it; a line above may be its type.
        lines = before.split("\n")
        keep = len(lines) - 1
        while keep > 0 and lines[keep - 1].strip() and len(lines) - keep < 2:
            keep -= 1
        if keep < len(lines) - 1 and (
            re.fullmatch(r"\s*[A-Z_][A-Z0-9_]*\s*", lines[keep]) or lines[keep].rstrip().endswith(":")
        ):
            keep += 1
        start = m.start() + sum(len(line) + 1 for line in lines[:keep])
        before = "\n".join(lines[keep:])
        start += len(before) - len(before.lstrip())
        before = before.strip()
        name_m = re.search(r"((?:\w+::)*)(~?\w+)\Z", before)
        if not name_m:
            continue
        name, returns = name_m.group(2), before[: name_m.start()]
        words = returns.split()
        if not words or "operator" in words or name in C_WORDS:
            continue
        if name[0] == "~" or name[0].isdigit() or (name.isupper() and len(name) > 1):
            continue
        if words[0] in C_WORDS and words[0] in C_NOT_FIRST or not re.fullmatch(r"(?:[\w\s*&<>,]|::)+", returns):
            continue
        if "," in returns and "<" not in returns or returns.count("<") != returns.count(">"):
            continue
        depth, owner = piece.scope(paren)
        if depth < 0 or (depth == 0 and not is_cpp and piece.column(start) != 0):
            continue
        close = piece.close_parenthesis(paren)
        tail = C_TAIL.match(code, close + 1) if close >= 0 else None
        if not tail:
            continue
        declared = tail.group(1) == ";"
        if depth == 0 and is_cpp and piece.column(start) and piece.block_at(paren) < 0:
            continue  # a statement, or of a class that is not in the piece
        if not is_parameter_list(code[paren + 1 : close], declared):
            continue
        if name_m.group(1):
            if declared:
                continue
            owner = name_m.group(1)[:-2].rpartition("::")[2]
        if name == owner or name in piece.doubtful:
            continue
        end = close + 1
        stop = tail.start(1)
        qualifier = re.match(r"\s*(?:const|noexcept|override)\b", code[end:stop])
        if qualifier:
            end += qualifier.end()
        fact = Fact("method" if owner else "function", name, start, end, owner=owner, declared=declared)
        fact.line = start + name_m.start(2)
        fact.sig = piece.signature(start, end)
        if declared:
            fact.end = tail.end()
        elif not piece.add_block(fact, start, stop):
            if piece.close_of(stop) >= 0:
                continue  # the braces do not pair as the lines say
        piece.add_comment(fact, start)
        piece.add(fact)


C_NOT_FIRST = frozenset(
    "else return case do typedef goto using new delete throw template operator friend if for while switch namespace "
    "public private protected".split()
)


C_EXPRESSION = re.compile(r"[{};!+?%^|/-]|==|\"|\b(?:sizeof|return)\b|(?<!\.)\.(?!\.)")
C_PARAMETER = re.compile(
    r"\w[\s*&]+\w|\*|\b(?:int|char|long|float|double|bool|size_t|va_list|unsigned)\b|_t\b|^\.\.\."
)


def is_parameter_list(text, declared):
    """Whether it may be one: types with names, not the arguments of a call."""
    text = text.strip()
    if not text or text == "void":
        return True
    if C_EXPRESSION.search(text):
        return False
    if not declared:
        return True
    # In a prototype each parameter has at least a type that looks like one.
    first = text.split(",")[0].strip()
    return bool(C_PARAMETER.search(first))


def find_c_variables(piece):
    for m in C_VARIABLE.finditer(piece.code):
        words, kind_text, name = m.group(1), m.group(2), m.group(3)
        first = kind_text.split()[0]
        if first in C_NOT_FIRST or name in C_WORDS or piece.scope(m.start(3))[0] != 0 or len(name) < 3:
            continue
        if name in piece.doubtful or m.group(5).lstrip()[:1] == "=":
            continue
        value = piece.value(m.start(5), m.end(5))
        if not value or is_list(m.group(5)):
            continue
        is_constant = "const" in words and "*" not in kind_text or "constexpr" in words or name.isupper()
        fact = Fact("constant" if is_constant else "variable", name, m.start(), m.end(), value=value)
        fact.sig = piece.signature(m.start(), m.end(4))
        piece.add_comment(fact, m.start())
        piece.add(fact)


# ---- Python -------------------------------------------------------------------------------

PY_DEFINITION = re.compile(
    r"^([ \t]*+)((?:async[ \t]+)?def|class)[ \t]+(\w+)[ \t]*(?=[(:\[])",
    re.M,
)
PY_ASSIGN = re.compile(
    r"^([ \t]*+)([A-Za-z_]\w*)[ \t]*(:[ \t]*[^=\n#]+?)?[ \t]*=(?!=)[ \t]*(\S[^\n]*)$",
    re.M,
)
PY_OPEN = re.compile(r"[()\[\]{}:]")
PY_SKIP = re.compile(
    r"@\s*(?:typing\.)?overload\b|@\s*\w+\.(?:setter|deleter|getter|register)\b|@\s*abstractmet"
    r"hod"
)
DEDENT = {}


def dedent_after(code, at, indent):
    """The end of the block that begins behind `at`, in a line with `indent` blanks before it."""
    if indent not in DEDENT:
        DEDENT[indent] = re.compile(r"\n[ \t]{0,%d}(?=[^\s)\]}])" % indent)
    m = DEDENT[indent].search(code, at)
    return m.start() if m else -1


def header_end(code, at):
    """The colon that ends a def or class whose name ends at `at`; -1 if there is none near."""
    depth = 0
    for m in PY_OPEN.finditer(code, at, at + PARENTHESIS_CHARS):
        c = m.group()
        if c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
            if depth < 0:
                return -1
        elif depth == 0:
            return m.start()
    return -1


def find_python(piece):
    code, text = piece.code, piece.text
    stack = []  # (end, kind, name) of the definitions around
    classes = []
    for m in PY_DEFINITION.finditer(code):
        at, indent = m.end(1), len(m.group(1).expandtabs())
        colon = header_end(code, m.end(3))
        if colon < 0:
            continue
        end = dedent_after(code, colon, len(m.group(1)))
        is_whole = end >= 0
        if not is_whole:
            end = len(code)
        while stack and stack[-1][0] <= at:
            stack.pop()
        kind = "class" if m.group(2) == "class" else "function"
        name = m.group(3)
        around = stack[-1] if stack else None
        stack.append((end, kind, name))
        if any(kind == "function" for _, kind, _ in stack[:-1]):
            continue
        owner = around[2] if around else None
        first = re.match(r"\s*\(?\s*(self|cls)\b", code[m.end(3) : colon])
        if kind == "function":
            if owner:
                kind = "method"
            elif 0 < indent <= 4 and first:
                kind = "method"  # its class is not in the piece
            elif indent and not is_conditional(code, at, len(m.group(1))):
                continue
        elif indent and not owner and not is_conditional(code, at, len(m.group(1))):
            stack[-1] = (end, "function", name)  # it may stand in one, and what is in it too
            continue
        start = decorators_above(piece, at)
        if PY_SKIP.search(code, start, at):
            continue
        stop = colon + 1 + len(code[colon + 1 : end].rstrip())
        # Docstrings are blank in `code`: the text says where the last line ends.
        stop = colon + 1 + len(strip_comments(text[colon + 1 : end]))
        fact = Fact(kind, name, start, stop if is_whole else colon, owner=owner)
        fact.sig = piece.signature(at, colon)
        if (is_whole or piece_ends_whole(text)) and is_begin(piece, start):
            piece.add_body(fact, start, stop)
        if DOCSTRING.match(text, colon + 1, end):
            fact.comment = docstring(piece, colon, end, name)
        else:
            piece.add_comment(fact, start)
        if kind == "class":
            classes.append((at, end, name))
        fact.line = at
        piece.add(fact)
    find_python_values(piece, classes)


def piece_ends_whole(text):
    """A last definition may go on behind the piece unless the piece ends with empty lines."""
    return text.endswith("\n\n")


def strip_comments(text):
    """The text without empty and comment lines at its end."""
    lines = text.split("\n")
    while lines and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    return "\n".join(lines).rstrip()


def is_conditional(code, at, indent):
    """Whether what is indented at `at` stands in an if, else, try or with at column 0."""
    line = code.rfind("\n", 0, at) + 1
    while line > 0:
        end = line - 1
        line = code.rfind("\n", 0, end) + 1
        text = code[line:end]
        if text.strip() and len(text) - len(text.lstrip()) < indent:
            return bool(re.match(r"(?:if|elif|else|try|except|finally)\b.*:\s*$", text))
    return False


def decorators_above(piece, at):
    """Where the decorators of the definition at `at` begin; its own line without any."""
    code = piece.code
    start = piece.line_start(at)
    column = at - start
    best = at
    depth_lines = 0
    while start > 0 and depth_lines < 40:
        line_at = code.rfind("\n", 0, start - 1) + 1
        line = code[line_at : start - 1]
        if not line.strip():
            if not piece.text[line_at : start - 1].strip():
                break
            start = line_at  # a comment
            continue
        stripped = line.lstrip()
        if len(line) - len(stripped) == column and stripped[0] == "@":
            best = line_at + column
        elif len(line) - len(stripped) <= column and stripped[0] not in ")]}":
            break
        start = line_at
        depth_lines += 1
    return best


def is_begin(piece, at):
    """Whether a definition begins at `at` for certain: its decorators may stand before the piece."""
    line = piece.line_start(at)
    above = piece.code[piece.line_start(line - 1) : line].strip() if line else ")"
    return above[:1] not in (")", "]", "}")


DOCSTRING = re.compile(r"\s*[rRuU]?(\"\"\"|'''|\"|')")


def docstring(piece, colon, end, name):
    m = DOCSTRING.match(piece.text, colon + 1, end)
    if not m or piece.code[colon + 1 : m.start(1)].strip(" \n\trRuU"):
        return None
    close = piece.text.find(m.group(1), m.end(), end)
    if close < 0:
        return None
    return first_sentence([line.strip() for line in piece.text[m.end() : close].split("\n")], name)


def find_python_values(piece, classes):
    code = piece.code
    starts = [c[0] for c in classes]
    for m in PY_ASSIGN.finditer(code):
        name, indent = m.group(2), len(m.group(1))
        if len(name) < 3 or name[0].isdigit() or name in ("self", "cls"):
            continue
        owner = None
        is_upper = name.isupper()
        if indent:
            if not is_upper or indent not in (4, 8, 1):
                continue
            i = bisect.bisect_right(starts, m.start()) - 1
            while i >= 0 and classes[i][1] <= m.start():
                i -= 1
            if i < 0:
                continue
            column = piece.column(classes[i][0])
            if column is None or indent - column not in (4, 1):
                continue
            # Directly in the class: nothing that is less indented, and no def, in between.
            if not is_direct(code, classes[i][0], m.start(), column):
                continue
            owner = classes[i][2]
        value = piece.value(m.start(4), m.end(4))
        if not value or value[-1] == ";":
            continue
        if re.search(r"(?<![=!<>:])=(?!=)", BRACKETED.sub("", code[m.start(4) : m.end(4)])):
            continue  # a = b = c
        kind = "constant" if is_upper else "variable"
        fact = Fact(kind, name, m.end(1), m.start(4) + len(value), value=value, owner=owner)
        piece.add_comment(fact, m.end(1))
        piece.add(fact)


def is_direct(code, class_at, at, column):
    """Whether the statement at `at` stands in the class itself, not in a method of it."""
    line = code.rfind("\n", 0, at) + 1
    own = re.match(r"[ \t]*", code[line : line + 80]).end()
    while line > class_at:
        end = line - 1
        line = code.rfind("\n", 0, end) + 1
        text = code[line:end]
        if text.strip():
            depth = len(text) - len(text.lstrip())
            if depth < own:
                return line <= class_at or text.lstrip().startswith(")")
    return True


# ---- JavaScript and TypeScript --------------------------------------------------------------

JS_CLASS = re.compile(
    r"^((?:export[ \t]+)?(?:default[ \t]+)?(?:declare[ \t]+)?(?:abstract[ \t]+)?)"
    r"(class|interface|enum|const[ \t]+enum|namespace)[ \t]+(\w+)[^;{}()=]*\{",
    re.M,
)
JS_FUNCTION = re.compile(
    r"^((?:export[ \t]+)?(?:default[ \t]+)?(?:declare[ \t]+)?"
    r"(?:async[ \t]+)?function\b[ \t]*\*?[ \t]*)([\w$]+)[ \t]*(<[^;{}=()]*>)?[ \t]*\(",
    re.M,
)
JS_ARROW = re.compile(
    r"^(?:export[ \t]+)?(?:const|let|var)[ \t]+([\w$]+)[ \t]*(?::[^=\n]+?)?=[ \t]*"
    r"(async[ \t]+)?(?:(function\b[ \t]*\*?[ \t]*[\w$]*[ \t]*\()|(\()|([\w$]+)[ \t]*=>)",
    re.M,
)
JS_ASSIGNED = re.compile(
    r"^((?:module\.)?exports|[\w$]+(?:\.prototype)?)\.([\w$]+)[ \t]*=[ \t]*"
    r"(async[ \t]+)?function\b[ \t]*\*?[ \t]*[\w$]*[ \t]*\(",
    re.M,
)
JS_METHOD = re.compile(
    r"^([ \t]++)((?:(?:public|private|protected|static|async|readonly|override|abstract|get|set)[ \t]+)*"
    r"\*?[ \t]*)(#?[\w$]+)[ \t]*(<[^;{}=()]*>)?\(",
    re.M,
)
JS_TYPE = re.compile(
    r"^(?:export[ \t]+)?(?:declare[ \t]+)?type[ \t]+(\w+)[ \t]*(<[^=\n]*>)?[ \t]*=[ \t]*",
    re.M,
)
JS_VALUE = re.compile(
    r"^(?:export[ \t]+)?(const|let|var)[ \t]+([\w$]+)[ \t]*(:[ \t]*[^=\n;]{1,120}+)?="
    r"(?![=>])[ \t]*+([^\n]{1,62})$",
    re.M,
)
JS_WORDS = frozenset(
    "if for while switch catch function return with do else new typeof await super constructor import "
    "export case throw delete void in of yield".split()
)
JS_NO_VALUE = re.compile(r"(?:await[ \t]+)?(?:require|import|function|async|class)\b")
JS_TAIL = re.compile(
    r"[ \t]*+(?::(?:[^;{}()=\n]|\{[^{}\n]{0,80}+\}(?=[^\n]{0,80}[{;])){1,200}?)?[ \t]*"
    r"(=>|\{|;|$)",
    re.M,
)


def find_script(piece):
    code = piece.code
    for m in JS_CLASS.finditer(code):
        if piece.block_at(m.start() + 1) >= 0:
            continue
        open_at, kind, name = m.end() - 1, m.group(2).split()[-1], m.group(3)
        if name in JS_WORDS:
            continue
        if kind == "namespace":
            continue
        piece.owners[open_at] = name
        fact = Fact(kind, name, m.start(), open_at)
        fact.sig = piece.signature(m.start(), open_at)
        piece.add_block(fact, m.start(), open_at)
        piece.add_comment(fact, m.start())
        piece.add(fact)
    for m in JS_FUNCTION.finditer(code):
        add_script_function(piece, m.start(), m.group(2), m.end() - 1)
    for m in JS_ARROW.finditer(code):
        if m.group(5):
            add_script_arrow(piece, m.start(), m.group(1), m.end())
        elif m.group(3):
            add_script_function(piece, m.start(), m.group(1), m.end() - 1)
        else:
            close = piece.close_parenthesis(m.end() - 1)
            tail = JS_TAIL.match(code, close + 1) if close >= 0 else None
            if tail and tail.group(1) == "=>":
                add_script_arrow(piece, m.start(), m.group(1), tail.end())
    for m in JS_ASSIGNED.finditer(code):
        owner = m.group(1).removesuffix(".prototype")
        owner = None if owner in ("exports", "module.exports", "module", "window", "global") else owner
        add_script_function(piece, m.start(), m.group(2), m.end() - 1, owner)
    for m in JS_METHOD.finditer(code):
        add_script_method(piece, m)
    for m in JS_TYPE.finditer(code):
        if piece.block_at(m.start() + 1) >= 0:
            continue
        end = code.find(";", m.end(), m.end() + 400)
        fact = Fact("type", m.group(1), m.start(), m.end())
        line_end = piece.line_end(m.end())
        if 0 <= end < line_end:
            fact.value = piece.value(m.end(), end)
            fact.end = end + 1
        piece.add_comment(fact, m.start())
        piece.add(fact)
    for m in JS_VALUE.finditer(code):
        if piece.block_at(m.start() + 1) >= 0 or len(m.group(2)) < 3:
            continue
        raw = m.group(4).rstrip(" \t;")
        if "require(" in raw or "=>" in raw or ";" in raw or JS_NO_VALUE.match(raw):
            continue
        value = piece.value(m.start(4), m.start(4) + len(raw))
        if not value or not is_script_end(code, m.end()):
            continue
        if is_list(code[m.start(4) : m.start(4) + len(raw)]):
            continue  # let a = 1, b = 2
        fact = Fact("constant" if m.group(1) == "const" else "variable", m.group(2), m.start(), m.end(), value=value)
        piece.add_comment(fact, m.start())
        piece.add(fact)


def is_script_end(code, at):
    """Whether a statement without a semicolon ends there: the next line does not go on with it."""
    if code[:at].rstrip().endswith(";"):
        return True
    following = code[at : at + 200].lstrip()
    return not following or following[0] not in ".?:+-*/&|=,)(["


def add_script_function(piece, at, name, paren, owner=None):
    if piece.block_at(at + 1) >= 0 or name in JS_WORDS:
        return
    close = piece.close_parenthesis(paren)
    tail = JS_TAIL.match(piece.code, close + 1) if close >= 0 else None
    if not tail or tail.group(1) not in "{;":
        return
    declared = tail.group(1) != "{"
    if declared and piece.language != "typescript":
        return
    end = tail.start(1)
    fact = Fact("method" if owner else "function", name, at, end, owner=owner, declared=declared)
    fact.sig = piece.signature(at, end)
    if not declared and not piece.add_block(fact, at, end) and piece.close_of(end) >= 0:
        return
    piece.add_comment(fact, at)
    piece.add(fact)


def add_script_arrow(piece, at, name, arrow_end):
    if piece.block_at(at + 1) >= 0 or name in JS_WORDS:
        return
    fact = Fact("function", name, at, arrow_end)
    fact.sig = piece.signature(at, arrow_end)
    m = re.compile(r"\s*\{").match(piece.code, arrow_end)
    if m:
        if not piece.add_block(fact, at, m.end() - 1) and piece.close_of(m.end() - 1) >= 0:
            return
    piece.add_comment(fact, at)
    piece.add(fact)


def add_script_method(piece, m):
    name = m.group(3)
    if name in JS_WORDS or m.group(2).split()[:1] in (["get"], ["set"]):
        return
    depth, owner = piece.scope(m.start(3))
    if depth != 1:
        return
    at = m.end(1)
    close = piece.close_parenthesis(m.end() - 1)
    tail = JS_TAIL.match(piece.code, close + 1) if close >= 0 else None
    if not tail or tail.group(1) == "=>":
        return
    declared = tail.group(1) != "{"
    if declared and piece.language != "typescript":
        return
    end = tail.start(1)
    fact = Fact("method", name, at, end, owner=owner, declared=declared)
    fact.sig = piece.signature(at, end)
    if not declared and not piece.add_block(fact, at, end) and piece.close_of(end) >= 0:
        return
    start = annotations_above(piece, at)
    piece.add_comment(fact, start)
    piece.add(fact)


# ---- Go -----------------------------------------------------------------------------------

GO_FUNCTION = re.compile(r"^func[ \t]+(?:\(([^()\n]*)\)[ \t]*)?(\w+)(\[[^\]\n]*\])?\(", re.M)
GO_TYPE = re.compile(
    r"^type[ \t]+(\w+)(?:\[[^\]\n]*\])?[ \t]+(struct|interface)?[ \t]*(\{)?([^\n]*)$",
    re.M,
)
GO_TYPE_TEXT = re.compile(r"(?:func\b|map\[|\[|chan\b|<-chan\b|\*?[\w.]+(?:\[[^\n]*\])?[ \t]*$)[^\n]*", re.M)
GO_VALUE = re.compile(r"^(const|var)[ \t]+(\w+)[ \t]*([\w.*\[\]]*)[ \t]*=[ \t]*([^\n]+)$", re.M)
GO_GROUP = re.compile(r"^(const|var)[ \t]*\(\n", re.M)
GO_ENTRY = re.compile(r"^\t(\w+)[ \t]*([\w.*\[\]]*)[ \t]*=[ \t]*([^\n]+)$", re.M)


def find_go(piece):
    code = piece.code
    for m in GO_FUNCTION.finditer(code):
        paren = m.end() - 1
        close = piece.close_parenthesis(paren)
        if close < 0 or piece.block_at(m.start() + 1) >= 0 or m.group(2) == "init":
            continue
        end = go_result_end(piece, close + 1)
        if end < 0:
            continue
        owner = None
        if m.group(1) is not None:
            receiver = re.match(r"(?:\w+\s+)?\*?\s*(\w+)(?:\[.*\])?\s*\Z", m.group(1).strip())
            if not receiver:
                continue
            owner = receiver.group(1)
        fact = Fact("method" if owner else "function", m.group(2), m.start(), end, owner=owner)
        fact.sig = piece.signature(m.start(), end)
        if not piece.add_block(fact, m.start(), end) and piece.close_of(end) >= 0:
            continue
        piece.add_comment(fact, m.start())
        piece.add(fact)
    for m in GO_TYPE.finditer(code):
        kind = m.group(2) or "type"
        if piece.block_at(m.start() + 1) >= 0:
            continue
        fact = Fact(kind, m.group(1), m.start(), m.end())
        if m.group(3):
            fact.sig = piece.signature(m.start(), m.start(3))
            fact.end = m.start(3)
            piece.add_block(fact, m.start(), m.start(3))
        elif m.group(2):
            continue
        else:
            at = m.start(4) + (2 if m.group(4).startswith("= ") else 0)
            if not GO_TYPE_TEXT.match(code, at):
                continue
            fact.value = piece.value(at, m.end(4))
        piece.add_comment(fact, m.start())
        piece.add(fact)
    for m in GO_VALUE.finditer(code):
        if piece.block_at(m.start() + 1) < 0:
            add_go_value(piece, m.group(1), m.group(2), m.start(), m.start(4), m.end(4))
    for group in GO_GROUP.finditer(code):
        if piece.block_at(group.start() + 1) >= 0:
            continue
        end = code.find("\n)", group.end())
        for m in GO_ENTRY.finditer(code, group.end(), end if end >= 0 else len(code)):
            if piece.block_at(m.start() + 1) < 0:
                add_go_value(piece, group.group(1), m.group(1), m.start() + 1, m.start(3), m.end(3))


def go_result_end(piece, at):
    """The brace that begins the body of a function whose parameters end at `at`, or -1: a
    result may be `interface{}` or `struct{}`, or a list in parentheses."""
    code = piece.code
    stop = piece.line_end(at)
    m = re.compile(r"[ \t]*\(").match(code, at)
    if m:
        at = piece.close_parenthesis(m.end() - 1) + 1
        if at == 0:
            return -1
        stop = piece.line_end(at)
    rest = code[at:stop].rstrip()
    if not rest.endswith("{"):
        one_line = re.match(r"[ \t]*[\w.*\[\] ]*\{[^{}\n]*\}\s*$", code[at:stop])
        return at + one_line.group().index("{") if one_line else -1
    return at + len(rest) - 1


def add_go_value(piece, word, name, at, value_at, value_end):
    if len(name) < 3:
        return
    value = piece.value(value_at, value_end)
    if not value or "iota" in value:
        return
    fact = Fact("constant" if word == "const" else "variable", name, at, value_at + len(value), value=value)
    piece.add_comment(fact, at)
    piece.add(fact)


# ---- Rust ---------------------------------------------------------------------------------

RUST_VISIBLE = r"(?:pub(?:\([^)\n]*\))?[ \t]+)?"
RUST_TYPE = re.compile(
    rf"^([ \t]*+)({RUST_VISIBLE})((?:unsafe[ \t]+)?(?:struct|enum|union|trait))[ \t]+(\w+)"
    rf"([^;{{}}()=]{{0,600}}+)([{{;(])",
    re.M,
)
RUST_IMPL = re.compile(r"^([ \t]*+)(?:unsafe[ \t]+)?impl\b([^;{}]*)\{", re.M)
RUST_MODULE = re.compile(
    rf"^([ \t]*+){RUST_VISIBLE}(?:mod[ \t]+(\w+)|extern[ \t]+\"[ ]*\")[ \t]*\{{",
    re.M,
)
RUST_FUNCTION = re.compile(
    rf"^([ \t]*+)({RUST_VISIBLE}(?:default[ \t]+)?(?:const[ \t]+)?(?:async[ \t]+)?"
    rf"(?:unsafe[ \t]+)?(?:extern[ \t]+\"[ ]*\"[ \t]+)?fn[ \t]+)(\w+)[ \t]*(<[^;{{}}()]*"
    rf"(?:\([^()]*\)[^;{{}}()]*)*>)?[ \t]*\(",
    re.M,
)
RUST_VALUE = re.compile(
    rf"^([ \t]*+){RUST_VISIBLE}(const|static(?:[ \t]+mut)?|type)[ \t]+(\w+)[ \t]*"
    rf"(<[^=\n]*>)?[ \t]*(:[^=;\n]+)?=[ \t]*([^;\n]+);",
    re.M,
)
RUST_MACRO = re.compile(r"^macro_rules![ \t]+(\w+)[ \t]*\{", re.M)
RUST_TAIL = re.compile(r"\s*(?:->[^;{}]*?)?\s*(?:where\b[^;{}]*?)?([{;])")
RUST_SIG_END = re.compile(r"\s*(?:->(?:(?!\bwhere\b)[^;{}])*)?")


def find_rust(piece):
    code = piece.code
    found = [(m.start(), m, "type") for m in RUST_TYPE.finditer(code)]
    found += [(m.start(), m, "impl") for m in RUST_IMPL.finditer(code)]
    found += [(m.start(), m, "mod") for m in RUST_MODULE.finditer(code)]
    found.sort(key=lambda item: item[0])
    for at, m, what in found:
        at += len(m.group(1))
        if piece.scope(at + 1)[0] < 0 or (m.group(1) and piece.block_at(at + 1) < 0):
            continue
        open_at = m.end() - 1
        if what == "impl":
            owner = rust_owner(m.group(2))
            if owner:
                piece.owners[open_at] = owner
        elif what == "mod":
            if m.group(2) not in ("tests", "test"):
                piece.owners[open_at] = None
        else:
            add_rust_type(piece, m, at, open_at)
    for m in RUST_FUNCTION.finditer(code):
        add_rust_function(piece, m)
    for m in RUST_VALUE.finditer(code):
        depth, owner = piece.scope(m.end(1) + 1)
        if depth < 0 or (m.group(1) and piece.block_at(m.end(1) + 1) < 0) or m.group(3) == "_":
            continue
        kind = {"c": "constant", "s": "variable", "t": "type"}[m.group(2)[0]]
        if kind == "type" and owner:
            continue
        value = piece.value(m.start(6), m.end(6))
        if not value:
            continue
        fact = Fact(kind, m.group(3), m.end(1), m.end(), value=value, owner=owner)
        piece.add_comment(fact, annotations_above(piece, m.end(1)))
        piece.add(fact)
    for m in RUST_MACRO.finditer(code):
        fact = Fact("macro", m.group(1), m.start(), m.end() - 1)
        piece.add_block(fact, m.start(), m.end() - 1)
        piece.add_comment(fact, annotations_above(piece, m.start()))
        piece.add(fact)


def rust_owner(header):
    """The type of an `impl` from what stands between it and its brace."""
    header = header.split(" where ")[0].split("\nwhere")[0].strip()
    if header.startswith("<"):
        depth = 0
        for i, c in enumerate(header):
            depth += (c == "<") - (c == ">" and header[i - 1] != "-")
            if depth == 0:
                header = header[i + 1 :].strip()
                break
    header = re.split(r"\bfor\b(?!\s*<)", header)[-1].strip()
    m = re.match(r"&?\s*(?:'\w+\s+)?(?:mut\s+)?(?:dyn\s+)?(?:\w+::)*(\w+)", header)
    return m.group(1) if m else None


def add_rust_type(piece, m, at, open_at):
    kind = m.group(3).split()[-1]
    mark, name = m.group(6), m.group(4)
    depth, owner = piece.scope(at + 1)
    if owner:
        return
    start = annotations_above(piece, at)
    fact = Fact(kind, name, start, m.end(5))
    fact.sig = piece.signature(at, m.end(5))
    if mark == "{":
        if kind == "trait":
            piece.owners[open_at] = name
        if piece.add_block(fact, at, open_at):
            fact.body = None
            piece.add_body(fact, start, fact.end)
    elif mark == "(":
        close = piece.close_parenthesis(open_at)
        if close < 0:
            return
        fact.sig = None if "#[" in piece.code[at:close] else piece.signature(at, close + 1)
        fact.end = close + 1
    fact.line = at
    piece.add_comment(fact, start)
    piece.add(fact)


def add_rust_function(piece, m):
    code, at, name = piece.code, m.end(1), m.group(3)
    depth, owner = piece.scope(at + 1)
    if depth < 0:
        return
    close = piece.close_parenthesis(m.end() - 1)
    tail = RUST_TAIL.match(code, close + 1) if close >= 0 else None
    if not tail:
        return
    has_self = bool(re.match(r"\s*&?\s*(?:'\w+\s+)?(?:mut\s+)?self\b", code[m.end() : close]))
    is_cut = bool(m.group(1)) and piece.block_at(at + 1) < 0  # its impl is not in the piece
    if is_cut and not has_self:
        return
    start = annotations_above(piece, at)
    if "#[test]" in code[start:at] or "#[cfg(" in code[start:at]:
        return
    declared = tail.group(1) == ";"
    end = RUST_SIG_END.match(code, close + 1, tail.start(1)).end()
    fact = Fact("method" if owner or is_cut else "function", name, start, end, owner=owner, declared=declared)
    fact.sig = piece.signature(at, end)
    if not declared:
        if piece.add_block(fact, at, tail.start(1)):
            fact.body = None
            piece.add_body(fact, start, fact.end)
        elif piece.close_of(tail.start(1)) >= 0:
            return
    fact.line = at
    piece.add_comment(fact, start)
    piece.add(fact)


def annotations_above(piece, at):
    """Where the annotations or attributes above the line of `at` begin; `at` without any."""
    start, best, lines = piece.line_start(at), at, 0
    while start > 0 and lines < 10:
        line_at = piece.code.rfind("\n", 0, start - 1) + 1
        line = piece.code[line_at : start - 1].strip()
        if line[:1] == "@" and line[:10] != "@interface" or line[:2] == "#[" and line[-1:] == "]":
            if line.count("(") != line.count(")") or line[-1] in "{;":
                break
            best = line_at + len(piece.code[line_at : start - 1]) - len(piece.code[line_at : start - 1].lstrip())
        else:
            break
        start = line_at
        lines += 1
    return best


# ---- Java ---------------------------------------------------------------------------------

JAVA_MODIFIERS = (
    r"(?:(?:public|private|protected|static|final|abstract|default|synchronized|native|strictfp|sealed|"
    r"transient|volatile)\s+)"
)
JAVA_TYPE = re.compile(
    rf"^([ \t]*+)((?:@\w+[ \t]+)?{JAVA_MODIFIERS}*)(class|interface|enum|record|@interface)[ \t"
    rf"]+(\w+)([^;{{}}]{{0,600}}+)\{{",
    re.M,
)
JAVA_METHOD = re.compile(
    rf"^([ \t]++)((?:@\w+[ \t]+)*)({JAVA_MODIFIERS}*(?:<[^;{{}}()=]*?>\s*)?)([A-Za-z_][\w.]*"
    rf"(?:<[^;{{}}()=]*?>)?(?:\[\])*)[ \t]+(\w+)[ \t]*\(",
    re.M,
)
JAVA_TAIL = re.compile(r"\s*(?:throws\s+[\w.,\s]+?)?\s*([{;])")
JAVA_FIELD = re.compile(
    rf"^([ \t]++)({JAVA_MODIFIERS}+)([A-Za-z_][\w.]*(?:<[^;{{}}()=\n]*>)?(?:\[\])*)[ \t]+(\w+)[ \t]*=[ \t]*([^;\n]+);", re.M
)
JAVA_WORDS = frozenset(
    "return new throw else if for while switch catch case assert package import do try instanceof yield "
    "public private protected static final abstract default synchronized native".split()
)


def find_java(piece):
    code = piece.code
    for m in JAVA_TYPE.finditer(code):
        at, open_at, name = m.end(1), m.end() - 1, m.group(4)
        depth, owner = piece.scope(at + 1)
        if depth < 0 or name in JAVA_WORDS:
            continue
        kind = {"record": "class", "@interface": "interface"}.get(m.group(3), m.group(3))
        piece.owners[open_at] = name
        start = annotations_above(piece, at)
        fact = Fact(kind, name, start, open_at, owner=owner)
        fact.sig = piece.signature(at, m.end(5))
        if piece.add_block(fact, at, open_at):
            fact.body = None
            piece.add_body(fact, start, fact.end)
        fact.line = at
        piece.add_comment(fact, start)
        piece.add(fact)
    for m in JAVA_METHOD.finditer(code):
        add_java_method(piece, m)
    for m in JAVA_FIELD.finditer(code):
        words = m.group(2).split()
        depth, owner = piece.scope(m.start(4))
        if depth < 0 or m.group(3) in JAVA_WORDS or len(m.group(4)) < 3:
            continue
        if "static" not in words or "final" not in words:
            continue
        value = piece.value(m.start(5), m.end(5))
        if not value or is_list(m.group(5)):
            continue
        at = m.end(1)
        fact = Fact("constant", m.group(4), at, m.end(), value=value, owner=owner)
        piece.add_comment(fact, annotations_above(piece, at))
        piece.add(fact)


def add_java_method(piece, m):
    code, at, name = piece.code, m.start(3), m.group(5)
    if m.group(4) in JAVA_WORDS or name in JAVA_WORDS:
        return
    depth, owner = piece.scope(m.start(5))
    if depth < 0 or (depth == 0 and not m.group(3).strip()):
        return
    close = piece.close_parenthesis(m.end() - 1)
    tail = JAVA_TAIL.match(code, close + 1) if close >= 0 else None
    if not tail:
        return
    declared = tail.group(1) == ";"
    end = tail.start(1)
    start = annotations_above(piece, m.end(1))
    fact = Fact("method", name, start, end, owner=owner, declared=declared)
    fact.sig = piece.signature(at if m.group(3) else m.start(4), end)
    if not declared:
        if piece.add_block(fact, m.end(1), end):
            fact.body = None
            piece.add_body(fact, start, fact.end)
        elif piece.close_of(end) >= 0:
            return
    fact.line = at
    piece.add_comment(fact, start)
    piece.add(fact)


# ---- Shell and make -------------------------------------------------------------------------

SHELL_FUNCTION = re.compile(
    r"^(?:function[ \t]+([\w-]+)[ \t]*(?:\(\))?|([\w-]+)[ \t]*\(\))[ \t]*\n?\{",
    re.M,
)
SHELL_VALUE = re.compile(
    r"^(?:(?:readonly|export|declare -r)[ \t]+)?([A-Za-z_]\w{2,})=([^\n]*)$",
    re.M,
)
SHELL_AGAIN = re.compile(
    r"(?:^[ \t]+|[;&|({][ \t]*)(?:export[ \t]+|local[ \t]+)?([A-Za-z_]\w*)\+?=|\bread[ \t]+"
    r"(\w+)",
    re.M,
)
MAKE_VALUE = re.compile(
    r"^(?:export[ \t]+|override[ \t]+)?([A-Za-z_][\w.-]*)[ \t]*(:=|::=|\?=|=|\+=)[ \t]*"
    r"([^\n]*)$",
    re.M,
)


def find_shell(piece):
    code, text = piece.code, piece.text
    for m in SHELL_FUNCTION.finditer(code):
        name = m.group(1) or m.group(2)
        fact = Fact("function", name, m.start(), m.end())
        end = code.find("\n}", m.end())
        line = code[m.end() : piece.line_end(m.end())]
        if line.strip():  # on one line
            if line.rstrip().endswith("}"):
                fact.end = m.end() + len(line.rstrip())
        elif end >= 0 and not re.search(r"^[\w-]+[ \t]*\(\)", code[m.end() : end], re.M):
            fact.end = end + 2
            piece.add_body(fact, m.start(), end + 2)
        piece.add_comment(fact, m.start())
        piece.add(fact)
    again = {name for pair in SHELL_AGAIN.findall(code) for name in pair}  # set in some branch too
    for m in SHELL_VALUE.finditer(code):
        if m.group(1) in again:
            continue
        raw = code[m.start(2) : m.end(2)].rstrip()
        value = whole_value(text[m.start(2) : m.start(2) + len(raw)], raw)
        if not value or (" " in raw and raw[0] != '"' and "(" not in raw):
            continue  # NAME=value command
        if raw[0] in "\"'" and (len(raw) < 2 or raw[-1] not in "\"'" or value[0] != value[-1]):
            continue
        fact = Fact("variable", m.group(1), m.start(), m.start(2) + len(raw), value=value)
        piece.add_comment(fact, m.start())
        piece.add(fact)


def find_make(piece):
    text, added = piece.text, set()
    found = []
    for m in MAKE_VALUE.finditer(text):
        if m.group(2) == "+=":
            added.add(m.group(1))
            continue
        if text[: m.start()].endswith("\\\n"):
            continue
        found.append(m)
    for m in found:
        if m.group(1) in added:
            continue
        raw = re.sub(r"[ \t]*(?<!\\)#.*", "", m.group(3)).rstrip()
        value = None if "$(" in raw and raw.count("(") != raw.count(")") else whole_value(raw, raw)
        if not value:
            continue
        fact = Fact("key", m.group(1), m.start(), m.start(3) + len(raw), value=value)
        piece.add_comment(fact, m.start())
        piece.add(fact)


# ---- Documents and configuration --------------------------------------------------------------

MD_FENCE = re.compile(r"^[ ]{0,3}(```+|~~~+)[^\n]*\n(?s:.*?)(?:^[ ]{0,3}\1[`~]*[ \t]*$|\Z)", re.M)
MD_FENCE_LINE = re.compile(r"^[ ]{0,3}(?:```+|~~~+)[ \t]*([^\s`]*)[^\n`]*$", re.M)
MD_HEADING = re.compile(r"^(#{1,6})[ \t]+(\S[^\n]*?)[ \t]*#*[ \t]*$", re.M)
MD_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|!?\[([^\]]*)\]\[[^\]]*\]")
RST_HEADING = re.compile(r"^([^\s\n][^\n]*)\n([=~^\"'#*+-])\2{2,}[ \t]*$", re.M)


def is_fence_open(text):
    """Whether a piece begins, or may begin, within a block of code: where a fence that should
    close a block names a language, or a lonely one names none."""
    fences = MD_FENCE_LINE.findall(text)
    is_inside = False
    for info in fences:
        if is_inside and info:
            return True
        is_inside = not is_inside
    return is_inside and not fences[0]


def find_markdown(piece):
    if is_fence_open(piece.text):
        return
    code = MD_FENCE.sub(lambda m: blank(m.group()), piece.text)
    for m in MD_HEADING.finditer(code):
        add_section(piece, code, m.group(2), m.start(), m.end())
    for m in RST_HEADING.finditer(code):
        if m.group(2) in "=-" and code[m.start() - 2 : m.start()] in ("", "\n", "\n\n") and m.group(1)[0] not in "#|>-*":
            add_section(piece, code, m.group(1), m.start(), m.end())


def find_rst(piece):
    for m in RST_HEADING.finditer(piece.text):
        underline = len(m.group()) - len(m.group(1)) - 1
        if underline >= len(m.group(1)) and not m.group(1).startswith(("..", "=", "-", "*", "|", "+")):
            add_section(piece, piece.text, m.group(1), m.start(), m.end())


def without_links(text):
    """The text of links and pictures in place of them."""
    return MD_LINK.sub(lambda m: m.group(1) or m.group(2) or "", text)


def add_section(piece, text, title, at, end):
    """A heading, and the first sentence of the paragraph under it."""
    title = without_links(title).replace("*", "").replace("``", "`").strip()
    if not 3 <= len(title) <= NAME_CHARS or not any(map(str.isalpha, title)) or "<" in title:
        return
    fact = Fact("section", title, at, end)
    behind = text[end : end + 1500]
    under = behind.lstrip("\n")
    if under.strip() and len(behind) - len(under) <= 3:
        lines = []
        for line in under.split("\n"):
            if not line.strip() or line[0] in "#-*>|`=~+:. \t<[" or NEW_PARAGRAPH.match(line):
                break
            lines.append(line.strip())
        sentence = sentence_of(squash(without_links(" ".join(lines)).replace("**", "")))
        if sentence:
            fact.comment = sentence
            fact.value = sentence if len(sentence) <= VALUE_CHARS else None
    piece.add(fact)


INI_LINE = re.compile(
    r"^(?:\[([^\[\]\n]+)\][ \t]*(?:[#;].*)?|([A-Za-z_][\w.@/ -]*?)[ \t]*[=:][ \t]*([^\n]*))$",
    re.M,
)
TOML_LINE = re.compile(
    r"^(?:\[([\w.\"' -]+)\][ \t]*(?:#.*)?|(\[)[^\n]*|([\w-]+)[ \t]*=[ \t]*([^\n]*))$", re.M
)
PROPERTY = re.compile(r"^([A-Za-z_][\w.-]*)[ \t]*[=:][ \t]*([^\n]*)$", re.M)
CONF_WORDS = re.compile(r"^([A-Za-z_][\w.-]*)[ \t]+(\S[^\n]*)$", re.M)
YAML_TEMPLATE = re.compile(r"(?<!\$)\{\{")
YAML_LINE = re.compile(
    r"^([ ]*)(- )?([A-Za-z_][\w./-]*|\"[^\"\n]+\"|'[^'\n]+')?(:)?(?:[ \t]+([^\n]*))?$",
    re.M,
)


def add_key(piece, name, at, value, value_at, value_end):
    if value and len(name) <= NAME_CHARS:
        piece.add(Fact("key", name, at, value_at + len(value), value=value))


def find_ini(piece):
    section = None
    for m in INI_LINE.finditer(piece.text):
        if m.group(1):
            section = m.group(1).strip()
        elif section and m.group(3):
            following = piece.text[m.end() + 1 : m.end() + 2]
            value = whole_value(re.split(r"[ \t]+[#;]", m.group(3))[0], "")
            if value and following not in (" ", "\t"):
                add_key(piece, f"{section}.{m.group(2)}", m.start(), value, m.start(3), m.end(3))


def find_toml(piece):
    section, text = None, piece.text
    skip_to = 0
    for m in TOML_LINE.finditer(text):
        if m.start() < skip_to:
            continue
        if m.group(1):
            section = m.group(1).strip() if m.group(1).count(".") <= 2 else None
        elif m.group(2):
            section = None  # a table of a list, or a name that is not looked at
        elif m.group(4):
            raw = m.group(4)
            quotes = raw[:3]
            if quotes in ('"""', "'''"):
                close = text.find(quotes, m.start(4) + 3)
                skip_to = close if close >= 0 else len(text)
                continue
            if raw[0] not in "\"'":
                raw = raw.split(" #")[0].rstrip()
            else:
                string = re.match(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'", raw)
                if not string or raw[string.end() :].strip()[:1] not in ("", "#"):
                    continue
                raw = string.group()
            code = re.sub(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'", '""', raw)
            value = whole_value(raw, code)
            if section and value:
                add_key(piece, f"{section}.{m.group(3)}", m.start(), value, m.start(4), m.end(4))


def find_properties(piece):
    for m in PROPERTY.finditer(piece.text):
        if m.group(2) and not piece.text[: m.start()].endswith("\\\n"):
            add_key(piece, m.group(1), m.start(), whole_value(m.group(2), ""), m.start(2), m.end(2))


def find_conf(piece):
    """`key = value`, or `key value` where no line of the file has the former."""
    if re.search(r"^\[[^\]\n]+\][ \t]*$", piece.text, re.M):
        find_ini(piece)
        return
    if re.search(r"[{}]\s*$|^\s*<", piece.text, re.M):
        return  # blocks: the same words stand in many
    pattern = PROPERTY if re.search(r"^[\w.-]+[ \t]*=", piece.text, re.M) else CONF_WORDS
    for m in pattern.finditer(piece.text):
        if m.group(2) and not piece.text[: m.start()].endswith("\\\n"):
            raw = re.split(r"[ \t]+#", m.group(2))[0]
            add_key(piece, m.group(1), m.start(), whole_value(raw, raw), m.start(2), m.end(2))


def find_yaml(piece):
    """Keys of the two outer levels, without what stands in lists and in text blocks."""
    parent, inner, text_block, at = None, 0, None, 0
    if YAML_TEMPLATE.search(piece.text):
        return
    for line in piece.text.split("\n"):
        start, at = at, at + len(line) + 1
        stripped = line.strip()
        if not stripped or stripped[0] == "#":
            continue
        indent = len(line) - len(line.lstrip(" "))
        if text_block is not None:
            if indent > text_block:
                continue
            text_block = None
        if indent and not inner:
            inner = indent  # what stands further in, as the keys in a list do, is not looked at
        m = YAML_LINE.match(line)
        if not m or m.group(2) or not m.group(3) or not m.group(4):
            if indent == 0:
                parent = None
                if stripped[0] not in "-]}" and stripped not in ("---", "..."):
                    return  # no mapping
            continue
        key, raw = m.group(3).strip("\"'"), (m.group(5) or "").strip()
        if raw[:1] in ("|", ">"):
            text_block = indent
        if indent == 0:
            parent, inner, name = key, 0, key
        elif parent is None:
            continue
        else:
            if indent != inner:
                continue
            name = f"{parent}.{key}"
        if not raw or raw[0] in "|>&*!#%@":
            continue
        if raw[0] in "\"'":
            string = re.match(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^']|'')*'", raw)
            if not string or raw[string.end() :].strip()[:1] not in ("", "#"):
                continue
            raw = string.group()
        else:
            raw = re.split(r"\s+#", raw)[0]
            # A plain value may go on in the next line, further in.
            following = piece.text[at : at + 200].split("\n")[0]
            if following.strip() and len(following) - len(following.lstrip(" ")) > indent:
                continue
        code = re.sub(r"\"(?:[^\"\\]|\\.)*\"|'[^']*'", '""', raw)
        value = whole_value(raw, code)
        key_at = start + indent
        add_key(piece, name, key_at, value, start + line.find(raw, m.end(4)), 0)


JSON_TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def find_json(piece):
    """Keys of the two outer levels; a piece that does not begin with its object has none."""
    text = piece.text
    if not text.lstrip().startswith("{"):
        return
    path, depth, lists, key = [], 0, 0, None
    key_at, expect_value = 0, False
    for m in JSON_TOKEN.finditer(text):
        token = m.group()
        c = token[0]
        if c == "{":
            depth += 1
            path.append(key)
            expect_value = False
        elif c == "}":
            depth -= 1
            path.pop()
            expect_value = False
            if depth == 0:
                return
        elif c == "[":
            lists += 1
            expect_value = False
        elif c == "]":
            lists -= 1
        elif c == ",":
            expect_value = False
        elif c == ":":
            expect_value = True
        elif lists == 0 and depth <= 2:
            if expect_value:
                expect_value = False
                name = key if depth == 1 else f"{path[1]}.{key}"
                if key and whole_value(token, ""):
                    add_key(piece, name, key_at, token, m.start(), m.end())
            elif c == '"':
                key, key_at = token[1:-1], m.start()


FINDERS = {
    "c": find_c,
    "c++": find_c,
    "python": find_python,
    "javascript": find_script,
    "typescript": find_script,
    "go": find_go,
    "rust": find_rust,
    "java": find_java,
    "shell": find_shell,
    "make": find_make,
    "markdown": find_markdown,
    "rst": find_rst,
    "ini": find_ini,
    "conf": find_conf,
    "properties": find_properties,
    "toml": find_toml,
    "yaml": find_yaml,
    "json": find_json,
}


# ---- All together -----------------------------------------------------------------------------


def look_at(text, path):
    """The piece with all that was found in it, doubles too."""
    piece = Piece(text, path)
    if piece.language:
        FINDERS[piece.language](piece)
        piece.facts.sort(key=lambda f: (f.at, -f.end))
    return piece


def settle(facts):
    """One fact a name and owner: a definition goes before declarations; where several differ in
    a point (overloads, branches), the point is left open."""
    groups = {}
    for f in facts:
        if len(f.name) <= NAME_CHARS:
            groups.setdefault((f.owner, f.name), []).append(f)
    out = []
    for group in groups.values():
        definitions = [f for f in group if not f.declared]
        group = definitions or group
        first = group[0]
        for other in group[1:]:
            if other.kind != first.kind:
                first = None  # a macro and a function, a struct and a type: which is meant?
                break
            for point in ("sig", "comment", "body", "value"):
                if getattr(first, point) != getattr(other, point):
                    setattr(first, point, None)
        if first and (first.value or first.kind not in ("key", "variable")):
            out.append(first)
    out.sort(key=lambda f: f.at)
    return out


def number_lines(facts, text):
    """Each fact's line, from the offset of its name's line that a finder left there, or of itself."""
    last, line = 0, 1
    for f in sorted(facts, key=lambda f: max(f.line, f.at)):
        at = max(f.line, f.at)
        line += text.count("\n", last, at)
        last = at
        f.line = line


def extract(text, path):
    """All facts of the piece `text` of the file at `path`, in order."""
    piece = look_at(text, path)
    facts = settle(piece.facts)
    number_lines(facts, text)
    return facts


IMPORTS = {
    "c": r"^[ \t]*#[ \t]*(?:include|import)[ \t]*[<\"]([^>\"\n]+)[>\"]",
    "python": r"^[ \t]*(?:from[ \t]+([.\w]+)[ \t]+import\b|"
    r"import[ \t]+([\w.]+(?:[ \t]+as[ \t]+\w+)?(?:[ \t]*,[ \t]*[\w.]+(?:[ \t]+as[ \t]+\w+)?)*))",
    "javascript": r"^(?:import|export)\b[^;'\"\n]*(?:\n[^;'\"]*?)?['\"]([^'\"\n]+)['\"]|"
    r"\b(?:require|import)\([ \t]*['\"]([^'\"\n]+)['\"][ \t]*\)",
    "rust": rf"^[ \t]*{RUST_VISIBLE}use[ \t]+((?:::)?\w+(?:::\w+)*)|^[ \t]*extern[ \t]+crate[ \t]+(\w+)",
    "java": r"^import[ \t]+(?:static[ \t]+)?([\w.]+(?:\.\*)?)[ \t]*;",
    "shell": r"^[ \t]*(?:\.|source)[ \t]+[\"']?([\w./$@{}-]+)[\"']?[ \t]*$",
    "make": r"^[ \t]*-?s?include[ \t]+([^\s#]+)[ \t]*$",
}
IMPORTS["c++"], IMPORTS["typescript"] = IMPORTS["c"], IMPORTS["javascript"]
IMPORTS = {name: re.compile(pattern, re.M) for name, pattern in IMPORTS.items()}
GO_IMPORT = re.compile(r"^import[ \t]+(?:\(([^)]*)\)|(?:[\w.]+[ \t]+)?\"([^\"\n]+)\")", re.M)
GO_IMPORTED = re.compile(r"^[ \t]*(?:[\w.]+[ \t]+)?\"([^\"\n]+)\"", re.M)


def imports(text, path):
    """What the piece includes or imports, as written, each once: "stdio.h", "os.path", ".."."""
    lang = language(path)
    found = []
    if lang == "go":
        for m in GO_IMPORT.finditer(text):
            found += [m.group(2)] if m.group(2) else GO_IMPORTED.findall(m.group(1))
        return list(dict.fromkeys(found))
    if lang not in IMPORTS:
        return []
    if lang in ("shell", "make"):
        code = text
    else:
        piece = Piece(text, path)
        code = getattr(piece, "masked", piece.code)
    for m in IMPORTS[lang].finditer(text):
        # What is a comment or within a string is blank in the code.
        start = m.start() + len(m.group()) - len(m.group().lstrip())
        if code[start] != text[start]:
            continue
        for name in m.groups():
            if name and lang == "python" and m.group(2):
                found += [part.split()[0] for part in name.split(",")]
            elif name:
                found.append(name)
    return list(dict.fromkeys(found))


CALL = re.compile(r"(?<![\w$])([A-Za-z_]\w*)[ \t]*\(")
OWN = re.compile(r"\b(?:self|this|Self)(?:\.|->|::)\Z")
NO_CALL = re.compile(r"\b(?:def|func|fn|function|class|new|struct|void|int|char)[ \t*]+\Z")


def calls(text, path, names):
    """{name: [functions and methods of the piece that call it]} for those of `names` (a set) that
    are called.  A call on another object than `self` may be of another function: not told."""
    piece = look_at(text, path)
    around = [f for f in piece.facts if f.kind in ("function", "method") and not f.declared]
    starts = [f.at for f in around]
    code = getattr(piece, "code", text)
    found = {}
    if piece.language == "shell":
        return {}
    for m in CALL.finditer(code):
        name = m.group(1)
        if name not in names:
            continue
        at = m.start()
        before = code[max(0, at - 24) : at]
        if before.endswith((".", "->", "::")) and not OWN.search(before):
            continue
        if NO_CALL.search(before):
            continue
        i = bisect.bisect_right(starts, at) - 1
        while i >= 0 and around[i].end <= at:
            i -= 1
        if i < 0 or at <= (around[i].line or around[i].at) + len(around[i].sig or around[i].name):
            continue
        told = found.setdefault(name, [])
        if around[i].name not in told:
            told.append(around[i].name)
    return found


def show(path):
    """Print what is found in a file."""
    with open(path, encoding="utf-8", errors="replace") as f:
        text = f.read()
    print(f"{path}: {language(path) or 'not looked at'}; imports {', '.join(imports(text, path)) or 'nothing'}")
    for fact in extract(text, path):
        owner = f"{fact.owner}." if fact.owner else ""
        print(f"{fact.line:6} {fact.kind} {owner}{fact.name}{' (declared)' if fact.declared else ''}")
        for point in ("sig", "value", "comment", "body"):
            if getattr(fact, point) is not None:
                told = getattr(fact, point).replace("\n", "\n              | ")
                print(f"       {point:>7}: {told}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: facts.py FILE...")
    for name in sys.argv[1:]:
        show(name)
