"""test_facts.py - What facts.py finds, and what it must not, in each language.

    python3 -m unittest test_facts      in this folder
"""
import random
import unittest

import facts


def found(text, path):
    """{name, or owner.name: fact}"""
    out = {}
    for f in facts.extract(text, path):
        out[f"{f.owner}.{f.name}" if f.owner else f.name] = f
    return out


class Base(unittest.TestCase):
    def look(self, path, text, *names):
        """The facts of a text, which must be those of `names`, in any order."""
        self.text, self.facts = text, found(text, path)
        self.assertEqual(sorted(self.facts), sorted(names))
        for f in self.facts.values():
            self.assertTrue(0 <= f.at < f.end <= len(text), f)
            self.assertIn(f.name, text.split("\n")[f.line - 1], f)

    def fact(self, name, **points):
        for point, value in points.items():
            self.assertEqual(getattr(self.facts[name], point), value, f"{name}.{point}")


class C(Base):
    def test_functions(self):
        self.look(
            "a/pool.c",
            """\
/* Copyright 2001 A person who wrote it. */

/*
 * pool_take - Take a block from the pool.  More follows.
 *
 * @pool: where from
 */
static struct block *
pool_take(struct pool *pool,
          size_t bytes)
{
    if (!bytes) {
        return take(pool, "}", '"');
    }
    return NULL;
}

// Give a block back to its pool.
void pool_give(struct block *b) { b->next = 0; }

int never(void); /* int in_comment(void) { } */
const char *text = "int in_string(void) {";
int x = sizeof(int (*)(int));
""",
            "pool_take", "pool_give", "never", "text",
        )  # fmt: skip
        self.fact("pool_take", kind="function", comment="Take a block from the pool.", line=9, declared=False)
        self.fact("pool_take", sig="static struct block * pool_take(struct pool *pool, size_t bytes)")
        body = self.facts["pool_take"].body
        self.assertTrue(body.startswith("static struct block *\npool_take") and body.endswith("NULL;\n}"))
        self.fact("pool_give", body=None, comment="Give a block back to its pool.")
        self.fact("never", declared=True, sig="int never(void)", comment=None)
        self.fact("text", kind="variable", value='"int in_string(void) {"')

    def test_macros_and_branches(self):
        self.look(
            "a.h",
            """\
#ifndef A_H
#define A_H
#define ROOM 64 // of a line
#define FLAGS (ONE | \\
               TWO)
#define LEAST(a, b) ((a) < (b) ? (a) : (b))
#ifdef WIDE
#define UNIT 8
int grow(int by, int more) {
#else
#define UNIT 4
int grow(int by) {
#endif
    return by;
}
#if 0
#define NOT_SEEN 1
int gone(void) { {
#else
int stays(void) { return 1; }
#endif
static inline int fixed(void)
{
    return 1;
}
#endif
""",
            "ROOM", "FLAGS", "LEAST", "UNIT", "NOT_SEEN", "stays", "fixed",
        )  # fmt: skip
        self.fact("ROOM", kind="macro", value="64")
        self.fact("FLAGS", value=None)
        self.fact("LEAST", sig="LEAST(a, b)", value=None)
        self.fact("UNIT", value=None)  # which?
        self.fact("fixed", sig="static inline int fixed(void)")

    def test_types(self):
        self.look(
            "t.h",
            """\
struct forward;
/* A point of the plane, in pixels. */
typedef struct point {
    int x;
    int y;
} point_t;
typedef struct {
    int unused;
} only_name;
enum color {
    RED = 1,
    GREEN = 1 << 4,
    BLUE,
};
typedef int (*compare_fn)(const void *, const void *);
typedef struct forward forward;
struct point origin = {0, 0};
""",
            "point", "point_t", "only_name", "color", "color.RED", "color.GREEN", "compare_fn",
        )  # fmt: skip
        self.fact("point", kind="struct", comment="A point of the plane, in pixels.")
        self.assertTrue(self.facts["point"].body.endswith("} point_t;"))
        self.fact("point_t", kind="type")
        self.fact("only_name", kind="struct")
        self.fact("color.GREEN", kind="constant", value="1 << 4")
        self.fact("compare_fn", sig="typedef int (*compare_fn)(const void *, const void *)")

    def test_cpp(self):
        self.look(
            "w.cpp",
            """\
namespace ui {
/// Draws itself on a surface of its parent.
class Widget : public Base {
  public:
    Widget(int w);
    ~Widget();
    int width() const { return w_; }
    void paint(Surface &s) override;
    void over(int);
    void over(double);
  private:
    int w_;
};
int Widget::height(bool all) const
{
    return all ? 1 : 2;
}
}
""",
            "Widget", "Widget.width", "Widget.paint", "Widget.over", "Widget.height",
        )  # fmt: skip
        self.fact("Widget", kind="class", comment="Draws itself on a surface of its parent.")
        self.fact("Widget.width", kind="method", sig="int width() const", declared=False)
        self.fact("Widget.paint", declared=True)
        self.fact("Widget.over", sig=None)  # overloaded
        self.fact("Widget.height", sig="int Widget::height(bool all) const")

    def test_piece(self):
        """A piece that begins within a comment and a function, and ends within another."""
        text = " * It's { here.\n */\nint c(void)\n{\n    return '{';\n}\nint d(void);\n"
        self.look("p.c", text, "c", "d")
        text = "void f(int a)\n{\n    WRAP {\n    a;\n}\n  }\n"
        self.look("p.c", text)  # a brace that stands in the wrong column
        self.look("p.c", " * of it */\n    if (a) {\n        b();\n    }\n}\n\nint c(int d)\n{\n    e(d);\n", "c")
        self.fact("c", sig="int c(int d)", body=None)

    def test_calls(self):
        text = 'int f(int a);\nint g(void) {\n    /* f(1) */ puts("f(2)");\n    return f(3) + x.h(4);\n}\n'
        text += "int k(void)\n{\n    return f(g());\n}\n#define M() g()\n"
        self.assertEqual(facts.calls(text, "a.c", {"f", "g", "h"}), {"f": ["g", "k"], "g": ["k"]})


class Python(Base):
    def test_definitions(self):
        self.look(
            "m.py",
            """\
'''def in_docstring(): pass'''
import os, sys as system
from .near import (
    thing,
)

LIMIT = 10  # of all
TABLE = {
    "a": 1,
}
name = "def x(): pass"
a = b = 3
total = 0
total = 1


class Store(Base, metaclass=Meta):
    '''A place where things are kept, e.g. A box.  Longer text.'''

    SIZE: int = 4096

    @property
    @cached(
        size=3,
    )
    def size(self):
        # how many
        return self._size

    @size.setter
    def size(self, value):
        self._size = value

    async def fetch(
        self, key: str, default={"a": (1, 2)}
    ) -> dict[str, int]:
        '''Fetch the value that belongs to a key.'''

        def inner(self):
            return 1

        return inner(self)


if os.name == "nt":
    def only_there():
        return 1


def plain(a, b=")", *c):
    x = '''
def not_code(): pass
'''
    return x
""",
            "LIMIT", "name", "Store", "Store.SIZE", "Store.size", "Store.fetch", "only_there", "plain",
        )  # fmt: skip
        self.fact("LIMIT", kind="constant", value="10")
        self.fact("name", kind="variable", value='"def x(): pass"')
        self.fact("Store", kind="class", sig="class Store(Base, metaclass=Meta)", body=None)
        self.fact("Store", comment="A place where things are kept, e.g. A box.")
        self.fact("Store.SIZE", value="4096", owner="Store")
        self.fact("Store.size", kind="method", sig="def size(self)", line=26)
        self.assertTrue(self.facts["Store.size"].body.startswith("    @property\n    @cached("))
        self.assertTrue(self.facts["Store.size"].body.endswith("return self._size"))
        sig = 'async def fetch(\n        self, key: str, default={"a": (1, 2)}\n    ) -> dict[str, int]'
        self.fact("Store.fetch", sig=sig, comment="Fetch the value that belongs to a key.")
        self.fact("plain", sig='def plain(a, b=")", *c)', body=None)  # it may go on behind the piece
        self.assertEqual(facts.imports(self.text, "m.py"), ["os", "sys", ".near"])

    def test_piece(self):
        """One that begins in a docstring, or in a class."""
        text = 'class C: in prose\n\n    """\n    return 1\n\n    def take(self, a):\n        return a\n'
        self.look("a.py", text, "take")
        self.fact("take", kind="method", owner=None)
        self.look("a.py", "    def inner(a):\n        return a\n")

    def test_overload(self):
        text = "@overload\ndef f(a: int): ...\n@overload\ndef f(a: str): ...\ndef f(a):\n    return a\n"
        self.look("a.py", text, "f")
        self.fact("f", sig="def f(a)")

    def test_calls(self):
        text = "def f():\n    return 1\n\nclass C:\n    def g(self):\n        f()\n        self.h()\n        x.h()\n        # f()\n\nf()\n"
        self.assertEqual(facts.calls(text, "a.py", {"f", "h"}), {"f": ["g"], "h": ["g"]})


class Script(Base):
    def test_javascript(self):
        self.look(
            "a.js",
            """\
import { a } from './a.js';
const fs = require('fs');
export const LIMIT = 20;
let started = false;
const pattern = /["'{]/g;
const half = 4 / 2; // '
const text = `function no() { ${started ? `x` : '}'} `;
/**
 * Adds one number to {@code b} and returns it.
 * @param {number} a
 */
export function add(a, b = { c: 1 }) {
  return a + b.c;
}
export const twice = async (n) => {
  // function no() {}
  return n * 2;
};
class Box extends Base {
  constructor() { super(); }
  get size() { return 1; }
  static open(path) {
    if (path) {
      return new Box(path);
    }
  }
}
Box.prototype.close = function (now) {
  function inner() {}
  return now;
};
""",
            "LIMIT", "started", "pattern", "half", "text", "add", "twice", "Box", "Box.open", "Box.close",
        )  # fmt: skip
        self.fact("LIMIT", kind="constant", value="20")
        self.fact("started", kind="variable", value="false")
        self.fact("half", value="4 / 2")
        self.fact("add", kind="function", sig="export function add(a, b = { c: 1 })")
        self.fact("add", comment="Adds one number to b and returns it.")
        self.fact("twice", sig="export const twice = async (n) =>")
        self.assertTrue(self.facts["twice"].body.endswith("return n * 2;\n};"))
        self.fact("Box", kind="class", sig="class Box extends Base")
        self.fact("Box.open", kind="method", sig="static open(path)")
        self.fact("Box.close", sig="Box.prototype.close = function (now)")
        self.assertEqual(facts.imports(self.text, "a.js"), ["./a.js", "fs"])

    def test_typescript(self):
        self.look(
            "a.ts",
            """\
export interface Point { x: number; y: number; }
export type Name = string | number;
enum Color { Red, Green }
function at(p: Point): string;
function at(p: Name): string;
function at(p: any): string {
  return String(p);
}
export abstract class Shape<T> implements Drawable {
  private readonly sides: number = 3;
  protected area(scale: number, f: (a: T) => void): Promise<number> {
    return f(scale);
  }
  abstract draw(): void;
}
export const find = (a: Map<string, T>, b?: number): boolean => a.has(b);
""",
            "Point", "Name", "Color", "at", "Shape", "Shape.area", "Shape.draw", "find",
        )  # fmt: skip
        self.fact("Point", kind="interface", sig="export interface Point")
        self.fact("Name", kind="type", value="string | number")
        self.fact("at", sig="function at(p: any): string", declared=False)
        self.fact("Shape", sig="export abstract class Shape<T> implements Drawable")
        self.fact("Shape.area", sig="protected area(scale: number, f: (a: T) => void): Promise<number>")
        self.fact("Shape.draw", declared=True)
        self.fact("find", sig="export const find = (a: Map<string, T>, b?: number): boolean =>")


class Go(Base):
    def test_all(self):
        self.look(
            "a.go",
            """\
package a

import (
	"fmt"
	str "strings"
)

const Limit = 10 // most
const (
	first = iota
	Second = "b {"
)

var ErrGone = errors.New("gone")

// Store keeps all that was put into it.
//go:generate stringer
type Store struct {
	m map[string]int
}
type Reader interface {
	Read(p []byte) (n int, err error)
}
type ID = string

// Get returns what was put under a key.
func (s *Store) Get(key string, or interface{}) (int, error) {
	f := func(a int) int { return a }
	return f(s.m[key]), nil
}

func New[T any](a ...T) *Store { return nil }
func any() interface{} {
	return `
func no() {
`
}
func split(
	a int,
) (b struct{}, err error) {
	return
}
""",
            "Limit", "Second", "ErrGone", "Store", "Reader", "ID", "Store.Get", "New", "any", "split",
        )  # fmt: skip
        self.fact("Limit", kind="constant", value="10")
        self.fact("Second", value='"b {"')
        self.fact("ErrGone", kind="variable", value='errors.New("gone")')
        self.fact("Store", kind="struct", comment="Store keeps all that was put into it.")
        self.fact("Reader", kind="interface")
        self.fact("ID", kind="type", value="string")
        sig = "func (s *Store) Get(key string, or interface{}) (int, error)"
        self.fact("Store.Get", kind="method", sig=sig, comment="Get returns what was put under a key.")
        self.fact("New", sig="func New[T any](a ...T) *Store")
        self.fact("any", sig="func any() interface{}")
        self.fact("split", sig="func split(\n\ta int,\n) (b struct{}, err error)")
        self.assertEqual(facts.imports(self.text, "a.go"), ["fmt", "strings"])


class Rust(Base):
    def test_all(self):
        self.look(
            "a.rs",
            """\
use std::collections::{HashMap, HashSet};
pub(crate) use crate::base::Error as E;

/// The most bytes that one line may have.
pub const LIMIT: usize = 1 << 10;

/// A parser of *lines*, one after the other.
#[derive(Debug)]
pub struct Parser<'a, T: Clone> {
    text: &'a str,
}
pub struct Pair(pub u8, u8);
enum Kind { A, B }
pub trait Visit {
    /// Called for every node of the tree.
    fn visit(&mut self, node: &Node) -> bool;
}
impl<'a, T: Clone> Visit for Parser<'a, T>
where
    T: Copy,
{
    #[inline]
    fn visit(&mut self, node: &Node) -> bool {
        let c = '"'; // "
        let s = r#"fn no() { "#;
        self.ok(c, s)
    }
}
impl<F: Fn(u8) -> u8> crate::Other<F> {
    pub fn new<G>(f: G) -> Option<Self>
    where
        G: Into<F>,
    {
        None
    }
}
macro_rules! check {
    ($a:expr) => { fn no() {} };
}
pub async unsafe fn run(a: [u8; 4]) -> Result<(), Box<dyn Error>> {
    fn inner() {}
}
#[cfg(test)]
mod tests {
    fn helper() {}
    #[test]
    fn works() {}
}
#[cfg(unix)]
pub fn on_some(a: u8) -> bool {
    true
}
""",
            "LIMIT", "Parser", "Pair", "Kind", "Visit", "Visit.visit", "Parser.visit", "Other.new", "check", "run",
        )  # fmt: skip
        self.fact("LIMIT", value="1 << 10", comment="The most bytes that one line may have.")
        self.fact("Parser", kind="struct", sig="pub struct Parser<'a, T: Clone>")
        self.fact("Parser", comment="A parser of *lines*, one after the other.")
        self.assertTrue(self.facts["Parser"].body.startswith("#[derive(Debug)]\npub struct"))
        self.fact("Pair", sig="pub struct Pair(pub u8, u8)")
        self.fact("Visit", kind="trait")
        self.fact("Visit.visit", declared=True, comment="Called for every node of the tree.")
        self.fact("Parser.visit", kind="method", sig="fn visit(&mut self, node: &Node) -> bool", declared=False)
        self.fact("Other.new", sig="pub fn new<G>(f: G) -> Option<Self>")
        self.fact("check", kind="macro")
        self.fact("run", kind="function", sig="pub async unsafe fn run(a: [u8; 4]) -> Result<(), Box<dyn Error>>")
        self.assertEqual(facts.imports(self.text, "a.rs"), ["std::collections", "crate::base::Error"])


class Java(Base):
    TEXT = """\
package a.b;

import java.util.List;
import static java.lang.Math.*;

/**
 * Keeps all the boxes of one {@link House}.
 *
 * @since 1.2
 */
@Entity
public final class Store<T> extends Base implements Closeable {
    private static final String NAME = "a { b";
    public static final int LIMIT = 10, OTHER = 11;
    private int size = 3;

    public Store(int size) {
        this.size = size;
    }

    /** Returns how many boxes there are.  More. */
    @Override
    public synchronized int size(List<? extends T> all,
            Map<String, int[]> more) throws IOException {
        if (all.isEmpty()) {
            return helper(all);
        }
        Runnable r = new Runnable() {
            public void run() { size(null, null); }
        };
        return 1;
    }

    void put(int a) { }
    void put(String a) { }

    enum Kind { A, B }
    interface Visitor {
        void visit(T t);
    }
}
"""

    def test_all(self):
        self.look(
            "Store.java", self.TEXT,
            "Store", "Store.NAME", "Store.size", "Store.put", "Store.Kind", "Store.Visitor", "Visitor.visit",
        )  # fmt: skip
        self.fact("Store", kind="class", sig="public final class Store<T> extends Base implements Closeable")
        self.fact("Store", comment="Keeps all the boxes of one House.", line=12)
        self.fact("Store.NAME", kind="constant", value='"a { b"')
        sig = "public synchronized int size(List<? extends T> all,\n            Map<String, int[]> more) throws IOException"
        self.fact("Store.size", kind="method", sig=sig, comment="Returns how many boxes there are.")
        self.fact("Store.put", sig=None)
        self.fact("Store.Kind", kind="enum")
        self.fact("Visitor.visit", declared=True)
        self.assertEqual(facts.imports(self.text, "a.java"), ["java.util.List", "java.lang.Math.*"])
        self.assertEqual(facts.calls(self.text, "a.java", {"helper"}), {"helper": ["size"]})

    def test_piece(self):
        """From the middle of the class on: methods without their class."""
        text = self.TEXT[self.TEXT.index("    /** Returns") : self.TEXT.index("    void put")]
        self.look("Store.java", text, "size")
        self.fact("size", owner=None, kind="method")


class Shell(Base):
    def test_all(self):
        self.look(
            "a.sh",
            """\
#!/bin/sh
. ./lib.sh
LIMIT=10
readonly NAME="a b" # of it
CC=gcc make all
MODE=fast
[ -n "$1" ] && MODE=slow

# Print the text and stop with an error.
die() {
    echo "it's { over" >&2
    exit 1
}
usage() { echo no; }
cat <<'EOF'
no() {
NOT=1
EOF
""",
            "LIMIT", "NAME", "die", "usage",
        )  # fmt: skip
        self.fact("LIMIT", kind="variable", value="10")
        self.fact("NAME", value='"a b"')
        self.fact("die", kind="function", comment="Print the text and stop with an error.", line=10)
        self.assertTrue(self.facts["die"].body.endswith("exit 1\n}"))
        self.assertEqual(facts.imports(self.text, "a.sh"), ["./lib.sh"])


class Documents(Base):
    def test_markdown(self):
        got = found("# The Tool\nIt reads all of the lines.  It ends.\n\n```sh\n# no\n```\n## Using `it` ##\n\n- a list\n", "a.md")
        self.assertEqual(sorted(got), ["The Tool", "Using `it`"])
        self.assertEqual(got["The Tool"].kind, "section")
        self.assertEqual(got["The Tool"].value, "It reads all of the lines.")
        self.assertEqual(got["The Tool"].comment, "It reads all of the lines.")
        self.assertIsNone(got["Using `it`"].comment)

    def test_markdown_piece(self):
        """One that begins, or may begin, within a block of code."""
        self.assertEqual(found("# not this\n```\n\n# Nor this\n", "a.md"), {})
        self.assertEqual(found("# not this\n```\ntext\n```sh\n# no\n```\n", "a.md"), {})
        self.assertEqual(list(found("# A heading\n```sh\n# no\n", "a.md")), ["A heading"])

    def test_rst(self):
        self.look("a.rst", "Title here\n==========\n\nThe tool reads every line of it.\n\nshort\n---\n", "Title here")
        self.fact("Title here", value="The tool reads every line of it.")


class Configuration(Base):
    def look_keys(self, path, text, **values):
        got = {f.name: f.value for f in facts.extract(text, path)}
        self.assertEqual(got, {name.replace("__", "."): value for name, value in values.items()})

    def test_ini(self):
        text = "top = 1\n[core]\neditor = vi ; best\n; a = b\nlist =\n  a\n  b\n[user]\nname=me\nname=you\n"
        self.look_keys("a.ini", text, core__editor="vi")

    def test_toml(self):
        text = '[package]\nname = "a # b" # c\nkeys = ["a",\n  "b"]\nn = 3\nt = """\nx = 1\n"""\n[[bin]]\nname = "no"\n[c.\'d(e)\']\nf = 1\n[a.b]\nc = true\n'
        self.look_keys("a.toml", text, package__name='"a # b"', package__n="3", a__b__c="true")

    def test_yaml(self):
        text = "name: CI\non:\n  push: yes # now\n  deep:\n    no: 1\ntext: |\n  no: 2\nlist:\n  - no: 3\n    also: no\nurl: 'a: b'\nlong: a\n  b\n"
        self.look_keys("a.yml", text, name="CI", on__push="yes", url="'a: b'")

    def test_json(self):
        text = '{"name": "a\\"b", "n": 12, "o": {"p": true, "q": {"no": 1}}, "l": [{"no": 2}, "no"]}'
        self.look_keys("a.json", text, name='"a\\"b"', n="12", o__p="true")
        self.look_keys("b.json", '"name": "cut", "n": 1}')

    def test_make(self):
        text = "CC ?= gcc # c\nFLAGS := -O2\nFLAGS += -g\nOBJ = a.o \\\n  b.o\nall: x\n\tNO = 1\n"
        self.look_keys("Makefile", text, CC="gcc")

    def test_properties(self):
        self.look_keys("a.properties", "# c\na.b=c d\nlong = a \\\n  b = c\n", **{"a.b": "c d"})

    def test_conf(self):
        self.look_keys("a.conf", "listen 80\nuser www # w\n", listen="80", user="www")
        self.look_keys("b.conf", "server {\n  listen 80;\n}\nuser www;\n")


class Rules(unittest.TestCase):
    def test_language(self):
        cases = {"a/b.h": "c", "b.tsx": "typescript", "Makefile": "make", "a.tar": "", ".c": "", "x/c": ""}
        for path, name in cases.items():
            self.assertEqual(facts.language(path), name, path)

    def test_comment(self):
        """Titles, tags and roles go; what is no sentence of its own is none."""
        cases = [
            (["f - Does one thing with it."], "Does one thing with it."),
            (["f()", "", "Does one thing", "with it. And more."], "Does one thing with it."),
            (["Uses i.e. The first of all. More."], "Uses i.e. The first of all."),
            (["See :class:`~a.B` of it now."], "See `a.B` of it now."),
            (["Too short."], None),
            (["Copyright is with all of them."], None),
            (["---- A banner of the file ----"], None),
            (["As in these lines:"], None),
        ]
        for lines, want in cases:
            self.assertEqual(facts.first_sentence(lines, "f"), want)

    def test_limits(self):
        long = "x" * (facts.VALUE_CHARS + 1)
        got = found(f"#define AAA {long}\n#define BBB {long[1:]}\n", "a.c")
        self.assertIsNone(got["AAA"].value)
        self.assertEqual(got["BBB"].value, long[1:])
        body = "int f(void)\n{\n    return 1;%s\n}"
        room = facts.BODY_CHARS - len(body % "")
        self.assertIsNotNone(found(body % (" " * (room - 1) + ";") + "\n", "a.c")["f"].body)
        self.assertIsNone(found(body % (" " * room + ";") + "\n", "a.c")["f"].body)

    def test_any_text(self):
        """Any piece of any text is read without an error, as any language."""
        rng = random.Random(1)
        with open(__file__, encoding="utf-8") as f:
            text = f.read() + Java.TEXT
        for path in ["a." + ending for ending in facts.BY_ENDING]:
            for _ in range(40):
                at = rng.randrange(len(text))
                piece = text[at : at + rng.randrange(3000)]
                for f in facts.extract(piece, path):
                    self.assertTrue(0 <= f.at <= f.end <= len(piece), (path, f))
                    if f.body:
                        self.assertIn(f.body, piece)
                    if f.value and f.kind != "section":
                        self.assertIn(f.value, piece)
                facts.imports(piece, path)
                facts.calls(piece, path, {"open", "f"})


if __name__ == "__main__":
    unittest.main()
