"""bpe.py - A plain byte-level BPE from tokenizer.json, for the makers: slow and short.

It reads the subset that our models use: one Split by a regular expression and ByteLevel,
no normalizer, merges.  Special tokens are the caller's: encode() sees plain text.  Standard
library only.
"""
import json
import re


def byte_names():
    """The character that stands for each byte in a vocabulary (GPT-2's table)."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return {b: chr(b) for b in plain} | {b: chr(256 + i) for i, b in enumerate(rest)}


class Bpe:
    def __init__(self, path):
        with open(path, encoding="utf-8") as f:
            t = json.load(f)
        split, level = t["pre_tokenizer"]["pretokenizers"]
        assert t["normalizer"] is None and t["model"]["type"] == "BPE"
        assert split["behavior"] == "Isolated" and not split["invert"]
        assert not level["add_prefix_space"] and not level["use_regex"]
        self.pattern = re.compile(split["pattern"]["Regex"])
        self.vocab = t["model"]["vocab"]
        self.rank = {tuple(pair): i for i, pair in enumerate(t["model"]["merges"])}
        self.special = {a["content"]: a["id"] for a in t["added_tokens"]}
        self.name = byte_names()
        byte = {c: b for b, c in self.name.items()}
        plain = [w for w in self.vocab if w not in self.special]
        self.text = {self.vocab[w]: bytes(byte[c] for c in w) for w in plain}
        self.text |= {i: w.encode() for w, i in self.special.items()}
        self.cache = {}

    def word(self, word):
        """Merge the lowest-ranked pair, the leftmost of equals, until no pair has a rank."""
        if word not in self.cache:
            parts = [self.name[b] for b in word.encode()]
            while len(parts) > 1:
                ranks = [self.rank.get(pair, len(self.rank)) for pair in zip(parts, parts[1:])]
                best = min(ranks)
                if best == len(self.rank):
                    break
                i = ranks.index(best)
                parts[i : i + 2] = [parts[i] + parts[i + 1]]
            self.cache[word] = [self.vocab[p] for p in parts]
        return self.cache[word]

    def encode(self, text):
        ids, end = [], 0
        for m in self.pattern.finditer(text):
            if m.start() > end:  # what the pattern passes over is a word too
                ids += self.word(text[end : m.start()])
            ids += self.word(m.group())
            end = m.end()
        return ids + (self.word(text[end:]) if end < len(text) else [])

    def decode(self, ids):
        return b"".join(self.text[i] for i in ids).decode("utf-8", "replace")
