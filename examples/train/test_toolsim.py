"""test_toolsim.py - The tools in memory answer as tests/tools/test_tools.c wants the C tools to.

    python3 -m unittest test_toolsim      in this folder
"""
import json
import unittest

import toolsim

SMALL = {
    "src/a.c": "int one;\n\n\tint two(void);\nreturn two();\n",
    "src/b.c": "int one;\r\nint two(void);\r\nlast",
    "src/deep/c.c": b"caf\xe9 two\n",
    "src.h": "x\n",
    "src0": "",
    "src/bin": "two\0",
}


class Tools(unittest.TestCase):
    def setUp(self):
        self.repo = toolsim.Repo(SMALL, seed=1)

    def done(self, want, name, **arguments):
        """The result, and the same from JSON text."""
        self.assertEqual(self.repo.run(name, arguments), (want, True))
        self.assertEqual(self.repo.run(name, json.dumps(arguments)), (want, True))

    def refused(self, want, name, **arguments):
        self.assertEqual(self.repo.run(name, arguments), (want, False))
        self.assertEqual(self.repo.run(name, json.dumps(arguments)), (want, False))

    def test_read_lines(self):
        self.done("\tint two(void);\nreturn two();", "read_lines", path="src/a.c", start=3, end=9)
        self.done("int one;\nint two(void);\nlast", "read_lines", path="./src//b.c", start=1, end=3)
        self.refused("src/a.c has 4 lines", "read_lines", path="src/a.c", start=5, end=5)
        self.refused("src0 has 0 lines", "read_lines", path="src0", start=1, end=1)
        self.refused("src/bin is binary", "read_lines", path="src/bin", start=1, end=1)
        self.refused("no such file: src/x", "read_lines", path="src/x", start=1, end=1)
        self.refused("no such file: src.h/x", "read_lines", path="src.h/x", start=1, end=1)
        self.refused("src is not a regular file below the root", "read_lines", path="src", start=1, end=1)
        self.refused('argument "end" is before "start"', "read_lines", path="src.h", start=2, end=1)
        self.refused("the root is a folder: list_dir lists it", "read_lines", path=".", start=1, end=1)
        self.assertEqual(self.repo.run_bytes("read_lines", {"path": "src/deep/c.c", "start": 1, "end": 1})[0], b"caf\xe9 two")

    def test_list_dir(self):
        self.done("src.h\nsrc/\nsrc0", "list_dir", path=".")
        self.done("a.c\nb.c\nbin\ndeep/", "list_dir", path="src/")
        self.refused("src.h is no folder", "list_dir", path="src.h")
        self.refused("no such folder: sr/", "list_dir", path="sr")

    def test_search(self):
        want = "src/a.c:3:int two(void);\nsrc/a.c:4:return two();\nsrc/b.c:2:int two(void);\nsrc/deep/c.c:1:caf\ufffd two"
        self.done(want, "search", query="two")
        self.done("no matches", "search", query="three")
        self.done("src/b.c:3:last", "search", query="last")
        self.refused('argument "query" must be one line of 1 to 256 bytes', "search", query="")
        self.refused('argument "query" must be one line of 1 to 256 bytes', "search", query="a\nb")

    def test_git_log(self):
        commits = self.repo.commits("src/a.c")
        self.assertEqual(commits[-1].paths, set(SMALL))  # the one that brought all
        self.assertEqual([c.date for c in self.repo.commits()], sorted((c.date for c in self.repo.commits()), reverse=True))
        self.done("\n".join(c.line() for c in commits[:10]) + ("\n... there may be more" if len(commits) > 10 else ""), "git_log", path="src/a.c")
        text, ok = self.repo.run("git_log", {"path": ""})
        self.assertTrue(ok and text.count("\n") == 10 and text.endswith("\n... there may be more"))
        self.assertRegex(text.split("\n")[0], r"^[0-9a-f]{7} \d{4}-\d\d-\d\d \w+ \w+: \S")
        self.done("no commits", "git_log", path="src/none.c")
        again = toolsim.Repo(SMALL, seed=1)
        self.assertEqual(again.run("git_log", {"path": ""}), (text, True))
        self.assertNotEqual(toolsim.Repo(SMALL, seed=2).run("git_log", {"path": ""})[0], text)

    def test_arguments(self):
        self.refused('missing argument "path"', "list_dir")
        self.refused('unknown argument "x"', "list_dir", x=1)
        self.refused('argument "path" must be of type string', "list_dir", path=1)
        self.refused('argument "start" must be of type integer', "read_lines", path="a", start=True, end=2)
        self.refused('argument "start" is 0, the least is 1', "read_lines", path="a", start=0, end=2)
        self.refused('path "/a" is absolute; paths begin at the root of the repository', "list_dir", path="/a")
        self.refused('path "a/.." has a ".."; paths begin at the root of the repository', "list_dir", path="a/..")
        self.refused('path "a/.GIT/x" is git\'s own', "git_log", path="a/.GIT/x")
        self.refused("path of more than 1024 bytes", "list_dir", path="a/" * 600)
        self.assertEqual(self.repo.run("rm", {}), ("no tool of the name rm", False))
        for text, want in (
            ("[]", "arguments must be an object"),
            ("{", "arguments: byte 1: a key expected, but the text ends"),
            ('{"path":"a" "b"}', "arguments: byte 12: ',' or '}' expected, found '\"'"),
            ('{"path":"\\u0000"}', "arguments: byte 9: NUL in a string"),
            ('{"path":"a","path":"b"}', 'arguments: byte 12: duplicate key "path"'),
            ('{"path":01}', "arguments: byte 8: a number with a leading 0"),
            ('{"path":' + "[" * 9, "arguments: byte 15: nested 9 deep, limit 8"),
        ):
            self.assertEqual(self.repo.run("list_dir", text), (want, False))

    def test_cuts(self):
        files = {f"d/{i:04}": "two " + "é" * 150 + "\n" for i in range(1100)}
        files["long"] = "q\n" * 1200
        repo = toolsim.Repo(files)
        lines = repo.run("search", {"query": "two"})[0].split("\n")
        self.assertEqual((len(lines), lines[-1]), (13, "... cut after 12 matches"))
        self.assertEqual(lines[0], "d/0000:1:two " + "é" * 98)
        lines = repo.run("list_dir", {"path": "d"})[0].split("\n")
        self.assertEqual((len(lines), lines[-1]), (1001, "... cut after 1000 names"))
        lines = repo.run("read_lines", {"path": "long", "start": 1, "end": 1200})[0].split("\n")
        self.assertEqual((len(lines), lines[-1]), (1001, "... cut after 1000 lines"))
        lines = repo.run("read_lines", {"path": "long", "start": 201, "end": 1200})[0].split("\n")
        self.assertEqual((len(lines), lines[-1]), (1000, "q"))
        repo = toolsim.Repo({"big": "two\n" * (1 << 18) + "x"})
        self.assertEqual(repo.run("search", {"query": "two"}), ("no matches", True))
        text = "big: more than 1048576 bytes"
        self.assertEqual(repo.run("read_lines", {"path": "big", "start": 1, "end": 1}), (text, False))
        text = toolsim.Repo({"a": "x" * 150 + " needle " + "y" * 300}).run("search", {"query": "needle"})[0]
        self.assertEqual(text, "a:1:needle " + "y" * 193)

    def test_table(self):
        names = [tool["name"] for tool in toolsim.schemas()]
        self.assertEqual(names, list(toolsim.TOOLS))
        for tool in toolsim.schemas():
            self.assertEqual(json.loads(tool["schema"])["type"], "object")


if __name__ == "__main__":
    unittest.main()
