/*
 * make_tokenizer.mjs - Write the small tokenizers (*.json) and golden.json: texts and the ids
 * that Hugging Face's own tokenizers library (Rust, Oniguruma) gives them.
 *
 * Run: cd tests/golden/tokenizer && npm ci && node make_tokenizer.mjs
 * Same output on every machine: the library is pinned, nothing here is random.
 */
import fs from "node:fs";
import { createRequire } from "node:module";
const { Tokenizer } = createRequire(import.meta.url)("tokenizers");

// ---- Small tokenizers -----------------------------------------------------------------

const WORDS = `the of and to in is that for it as was with be by on not he his but at are this have
from or had an they which one you were all her she there would their we him been has when who will
no more if out so up said what its about than into them can only other time new some could these two
may first then do any like my now over such our man me even most made after also did many int char
return static const void if else for while struct size_t uint8_t NULL sizeof printf include define
caf\u00e9 na\u00efve \u00fcber stra\u00dfe \u041f\u0440\u0438\u0432\u0435\u0442 \u4f60\u597d \u4e16\u754c
the the the of of and and int int int return return -> == != /* */ // ... ((( ))) 123 000 2024`.split(/\s+/);

function byteAlphabet() {
  const chars = [];
  for (let byte = 0, other = 0x100; byte < 256; byte++) {
    const itself = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    chars.push(String.fromCharCode(itself ? byte : other++));
  }
  return chars;
}
const ALPHABET = byteAlphabet();
const spell = (text) => Array.from(Buffer.from(text, "utf8"), (b) => ALPHABET[b]);

/* Plain BPE training over the words, each also with a space before it. */
function train(merges_wanted) {
  const words = WORDS.flatMap((w) => [spell(w), spell(" " + w)]);
  const merges = [];
  while (merges.length < merges_wanted) {
    const counts = new Map();
    for (const w of words)
      for (let i = 0; i + 1 < w.length; i++) {
        const pair = w[i] + " " + w[i + 1];
        counts.set(pair, (counts.get(pair) ?? 0) + 1);
      }
    let best = null; // the most frequent; of equals the one that sorts first
    for (const [pair, n] of counts)
      if (!best || n > best[1] || (n === best[1] && pair < best[0])) best = [pair, n];
    const [left, right] = best[0].split(" ");
    merges.push([left, right]);
    for (const w of words)
      for (let i = 0; i + 1 < w.length; i++)
        if (w[i] === left && w[i + 1] === right) w.splice(i, 2, left + right);
  }
  return merges;
}
const MERGES = train(160);

function added(id, content, options = {}) {
  return { id, content, single_word: false, lstrip: false, rstrip: false, normalized: false,
           special: false, ...options };
}

/* `more`: entries that no merge makes.  `tokens`: [content, options]. */
function tokenizer({ normalizer = null, pre_tokenizer, post_processor = null, more = [],
                     tokens = [], strings = false, model = {} }) {
  const vocab = {};
  for (const entry of [...ALPHABET, ...MERGES.map((m) => m.join("")), ...more])
    vocab[entry] ??= Object.keys(vocab).length;
  const size = Object.keys(vocab).length;
  return {
    version: "1.0", truncation: null, padding: null,
    added_tokens: tokens.map(([content, options], i) => added(size + i, content, options)),
    normalizer, pre_tokenizer, post_processor,
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: "BPE", dropout: null, unk_token: null, continuing_subword_prefix: null,
             end_of_word_suffix: null, fuse_unk: false, byte_fallback: false, ignore_merges: false,
             ...model, vocab, merges: strings ? MERGES.map((m) => m.join(" ")) : MERGES },
  };
}

const split = (Regex, behavior = "Isolated", invert = false) =>
  ({ type: "Split", pattern: { Regex }, behavior, invert });
const byteLevel = (add_prefix_space = false, use_regex = false) =>
  ({ type: "ByteLevel", add_prefix_space, trim_offsets: true, use_regex });
const sequence = (...pretokenizers) => ({ type: "Sequence", pretokenizers });

// As published with the models that these are named after.
const CL100K = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const QWEN2 = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const O200K = [
  "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
  "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
  "\\p{N}{1,3}", " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*", "\\s*[\\r\\n]+", "\\s+(?!\\S)", "\\s+"].join("|");
const DEEPSEEK = [
  "\\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
  "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"];

const SMALL = {
  // ByteLevel alone, a prefix space, "a b" merges; every way to match an added token.
  gpt2: tokenizer({
    pre_tokenizer: byteLevel(true, true), post_processor: byteLevel(true, true), strings: true,
    tokens: [
      ["<|endoftext|>", { special: true }],
      ["<mask>", { special: true, lstrip: true }],
      ["<cut>", { special: true, rstrip: true, lstrip: true }],
      ["<sep>", { rstrip: true }],
      ["ony", { single_word: true, normalized: true }],
      ["<w>", { single_word: true, special: true }],
      ["<t", {}], ["<task>", {}], ["<task>end", { normalized: true }],
    ] }),
  // ignore_merges with an entry that the merges do not make; \p{N}{1,3}; (?i:.
  llama3: tokenizer({
    pre_tokenizer: sequence(split(CL100K), byteLevel()),
    post_processor: { type: "Sequence", processors: [byteLevel(),
      { type: "TemplateProcessing", single: [{ Sequence: { id: "A", type_id: 0 } }],
        pair: [{ Sequence: { id: "A", type_id: 0 } }, { Sequence: { id: "B", type_id: 1 } }],
        special_tokens: {} }] },
    more: ["zebra", "\u0120zebra", "\u0120zebras"], model: { ignore_merges: true },
    tokens: [["<|begin_of_text|>", { special: true }], ["<|eot_id|>", { special: true }]] }),
  // NFC, and an added token that is written decomposed.
  qwen2: tokenizer({
    normalizer: { type: "NFC" }, pre_tokenizer: sequence(split(QWEN2), byteLevel()),
    post_processor: byteLevel(),
    tokens: [["<|im_start|>", { special: true }], ["<tool_call>", {}],
             ["re\u0301sume\u0301", { normalized: true }], ["A\u030a", {}]] }),
  // Split within split, and the other long patterns.
  deepseek: tokenizer({
    normalizer: { type: "Sequence", normalizers: [] },
    pre_tokenizer: sequence(...DEEPSEEK.map((p) => split(p)), byteLevel()),
    tokens: [["<\uff5cbegin\u2581of\u2581sentence\uff5c>", { special: true }],
             ["<\uff5cend\u2581of\u2581sentence\uff5c>", { special: true }]] }),
  o200k: tokenizer({ pre_tokenizer: sequence(split(O200K, "Removed", true), byteLevel()),
    tokens: [["<|endofprompt|>", { special: true }]] }),
  // A pattern with gaps and empty matches, a literal one, anchors, words, a prefix space last.
  odd: tokenizer({
    pre_tokenizer: sequence(
      { type: "Split", pattern: { String: "||" }, behavior: "Isolated", invert: false },
      split("^\\w+$|\\W\\d*|(?<=e)|(?=\\D{3,}?\\z)|[^\\S\\n]x|\\x{4e16}[\\w.]|\\p{Han}"),
      byteLevel(true, false)) }),
};

// ---- Texts ----------------------------------------------------------------------------

const C_SOURCE = `/* ring.c - A ring of bytes. */
#include <stdint.h>
#include "ring.h"

#define RING_BYTES_MAX (1u << 20)

static uint32_t ring_mask(const struct ring *r)
{
\treturn r->size - 1;
}

int ring_put(struct ring *r, const uint8_t *data, size_t n) {
    if (n > r->size - (r->head - r->tail)) return -ENOSPC; // full
    for (size_t i = 0; i < n; i++)
        r->byte[(r->head + i) & ring_mask(r)] = data[i];
    r->head += n;
    printf("%zu\\t0x%08x\\n", n, 0xDEADBEEFu);

    return 0;
}
`;

/* Pseudo-random letters: long pieces whose merges interleave. */
function noise(bytes, letters) {
  let state = 12345, text = "";
  while (text.length < bytes) {
    state = (state * 1103515245 + 12345) % 2147483648;
    text += letters[Math.floor(state / 65536) % letters.length];
  }
  return text;
}

const TEXTS = [
  "", " ", "  ", "a", " a", "a ", "the", " the ", "\n", "\n\n\n", "\r\n", "\t", "\t\tx", " \n \n x",
  "Hello, world!", "hello  world   again    ", "   leading", "trailing   ", "one\ntwo\r\nthree\rfour",
  C_SOURCE, C_SOURCE.replaceAll("\n", "\r\n"), "#include\t<x.h>\n\n\n\n\tint\tx\t=\t1;\n",
  "snake_case_name __attribute__((packed)) _ __ ___ a_b _a a_ camelCaseName HTTPServer XMLHttpRequest2",
  "0 1 12 123 1234 12345 1234567890 3.14159 1e-9 0xFF 1_000_000 2024-01-02T03:04:05Z",
  "I'm you're he'll we've they'd it's don't I'M YOU'RE HE'LL WE'VE 'Tis 'sup ''' 'S's",
  "it'\u017f a'\u212a", // long s and Kelvin: they fold to letters of (?i:
  "a==b!=c<=d>=e&&f||g->h::i<<=j>>k|||l", "((([[[{{{}}}]]])))", "....,,,;;;:::???!!!", "\"quoted\\\"\" 'x' `y`",
  "caf\u00e9 na\u00efve \u00fcber stra\u00dfe \u00c5ngstr\u00f6m", "cafe\u0301 A\u030angstro\u0308m e\u0301\u0323 \u1100\u1161\u11a8",
  "r\u00e9sum\u00e9 re\u0301sume\u0301 resume\u0301s \u00c5 A\u030a \u212b",
  "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0388\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
  "\u4f60\u597d\u4e16\u754c\u3002\u3053\u3093\u306b\u3061\u306f\u30c6\u30b9\u30c8\u30fc 123\u4e16.\u754c\u4e16a \ud55c\uad6d\uc5b4",
  "\u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u0b85\u0baa\u0bcd",
  "\ud83d\ude00 \ud83d\udc69\u200d\ud83d\udc69\u200d\ud83d\udc67\u200d\ud83d\udc66 \ud83c\uddfa\ud83c\uddf3 \u2764\ufe0f 1\ufe0f\u20e3 \ud83d\udc4d\ud83c\udffd",
  "a\u00a0b\u2003c\u3000d\u2028e\u2029f\u0085g\u180eh\u200bi\ufeffj\u205fk\u1680l", "\u180e", " \u180e ", "x\u180e\u180e y",
  "\u00b2", "\u00bd x", "\u2160\u2161 \u00bd \u00b2 \u2070 \u0661\u0662\u0663 \u09e7\u09e8 \u24b6\u24d0 _\u203f_ \u02b0\u02b1",
  "\u{1d54f}\u{1d7d8}\u{20000}\u{1f1e6} \ue000 \uffff \u{10ffff} \ufdfa",
  "z\u0335\u0321\u0322a\u0336\u0321l\u0334g\u0337o\u0338", "\u0301 starts with a mark", "x\u0301\u0302\u0303\u0304\u0305",
  "\u0001\u0002\u001b[31mred\u001b[0m\u007f", "zebra zebras  zebra Zebra zebra\nzebra",
  "<|end|><|file|>a.c\nfile: a.c\nint x;<|user|>q<|assistant|>a<|end|>", "<|end|", "|end|>", "<<|end|>>", "<|end|><|end|>",
  " <|pad|> \n<|tool_call|>{\"name\":\"git_log\",\"arguments\":{\"path\":\"a.c\"}}<|end|><|tool_result|>",
  "a <mask> b", "a <mask><mask>b", "  <mask>  ", "<cut> x <cut> <cut> y\n\t<cut>\u2003\u00a0z", "<sep>   x<sep>", "<sep>  <mask> <sep>",
  "ony Anthony ony. -ony- \u0301ony onyx _ony ony\u200dx ony\u2460 \u24d0ony ony", "<w> a<w> <w>b (<w>) <w><w> \u00e9<w>", "<w>",
  "<t<ta<tas<task<task><task>end<task>en <taskk>", "<task>end<|endoftext|><task>end", "x<|endoftext|> y <|endoftext|>",
  "<|begin_of_text|>user\n\nhi<|eot_id|>", "<|im_start|>system\nx<tool_call>{}</tool_call>",
  "<\uff5cbegin\u2581of\u2581sentence\uff5c>hi<\uff5cend\u2581of\u2581sentence\uff5c>", "<\uff5cbegin", "<|endofprompt|>",
  "a||b|||c||||", "||", "word", "two words", "line\nword\nline two\n", "eee beef e", "e\n", "abc \n", "x y\tx \u00a0x",
  "a".repeat(300), " ".repeat(200) + "x", "\n".repeat(100), "-".repeat(120) + "\n" + "=".repeat(77), "\t".repeat(50) + "x",
  "the".repeat(60), "abcdefghijklmnopqrstuvwxyz".repeat(8), "0123456789".repeat(12), "\u00e9".repeat(60), "e\u0301".repeat(60),
  noise(700, "etaoinshrdlu"), noise(400, "theof"), noise(300, "ABCDEFghijklmnop0123456789+/"), noise(500, "in t\n"),
];

// ---- Golden ids -----------------------------------------------------------------------

const files = { nano: "../../../examples/models/cairn-nano/tokenizer.json" };
for (const [name, json] of Object.entries(SMALL)) {
  files[name] = `${name}.json`;
  fs.writeFileSync(files[name], JSON.stringify(json) + "\n");
}

const lines = [];
for (const [name, file] of Object.entries(files)) {
  const json = JSON.parse(fs.readFileSync(file, "utf8"));
  for (const mode of ["special", "text"]) {
    // Text mode is a tokenizer to which nobody has added the special tokens.
    const plain = { ...json, added_tokens: json.added_tokens.filter((t) => mode === "special" || !t.special) };
    const reference = Tokenizer.fromString(JSON.stringify(plain));
    // It numbers added tokens that are not in the vocabulary anew, in their order.
    const ours = new Map(plain.added_tokens.map((t) => [reference.tokenToId(t.content), t.id]));
    for (const text of TEXTS) {
      const ids = (await reference.encode(text, null, { addSpecialTokens: false })).getIds()
        .map((id) => ours.get(id) ?? id);
      const other = mode === "text" && lines.at(-TEXTS.length); // the same text, special
      lines.push({ tokenizer: name, mode, text, ids, same: other && other.ids.join() === ids.join() });
    }
  }
}
const cases = lines.filter((l) => !l.same).map(({ same, ...line }) => JSON.stringify(line));
fs.writeFileSync("golden.json", `[\n${cases.join(",\n")}\n]\n`);
console.log(`${cases.length} cases`);
