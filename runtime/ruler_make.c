/* ruler_make.c - Texts, questions and right answers; and what an answer is worth. */
#include "runtime/ruler.h"

#include "base/rand.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    NEEDLES = 4, // of the tasks with several
    HOPS = 4,
    COMMON_WORDS = 10,
    COMMON_TIMES = 30,
    OTHER_TIMES = 3,
    CODED_LETTERS = 6,
    TOKENS_A_CODED_WORD = 50, // of the context
};

static const char noise[] =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

const char *cn_ruler_task_name(cn_ruler_task task) {
    static const char *const names[] = {
#define X(name, text, tokens) text,
        CN_RULER_TASK_LIST(X)
#undef X
    };
    return task >= 0 && task < CN_RULER_TASKS ? names[task] : "?";
}

int32_t cn_ruler_answer_tokens(cn_ruler_task task) {
    static const int32_t limits[] = {
#define X(name, text, tokens) tokens,
        CN_RULER_TASK_LIST(X)
#undef X
    };
    cn_assert(task >= 0 && task < CN_RULER_TASKS);
    return limits[task];
}

/* ---- Random things -------------------------------------------------------------------- */

static int64_t below(uint64_t *state, int64_t limit) {
    return (int64_t)(cn_rand_next(state) % (uint64_t)limit);
}

typedef char word[CN_RULER_OUTPUT_BYTES];

/* Kinds of words, each a number in another writing. */
typedef enum { KEY, WORD, VARIABLE, CODED } word_kind;

static const char consonants[] = "bdfgklmnprstvz", vowels[] = "aeiou";
enum { SYLLABLES = (sizeof(consonants) - 1) * (sizeof(vowels) - 1), LETTERS = 26 };

static int64_t power(int64_t base, int times) {
    return times ? base * power(base, times - 1) : 1;
}

static int64_t words_of(word_kind kind) {
    static const int64_t base[] = {SYLLABLES, SYLLABLES, LETTERS, LETTERS};
    static const int     times[] = {6, 4, 5, CODED_LETTERS};
    return power(base[kind], times[kind]);
}

static char *put_syllables(char *p, int64_t *number, int count) {
    for (; count > 0; count--, *number /= SYLLABLES) {
        *p++ = consonants[*number % SYLLABLES / (int64_t)(sizeof(vowels) - 1)];
        *p++ = vowels[*number % (int64_t)(sizeof(vowels) - 1)];
    }
    return p;
}

/* RULER's keys are adjective-noun; here two made-up words. */
static void spell(word out, word_kind kind, int64_t number) {
    char *p = out;
    if (kind == KEY || kind == WORD) p = put_syllables(p, &number, kind == KEY ? 3 : 4);
    if (kind == KEY) *p++ = '-', p = put_syllables(p, &number, 3);
    for (int i = kind == VARIABLE ? 5 : kind == CODED ? CODED_LETTERS : 0; i > 0; i--) {
        *p++ = (char)((kind == VARIABLE ? 'A' : 'a') + number % LETTERS);
        number /= LETTERS;
    }
    *p = 0;
}

/* `count` different words. */
static cn_err make_words(word *out, word_kind kind, int64_t count, uint64_t *state, cn_diag *diag) {
    const int64_t slots = 2 * count; // of a table of the numbers so far, each + 1; 0: free
    int64_t      *table = calloc((size_t)slots, sizeof(*table));
    if (!table) return CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " words", count);
    for (int64_t made = 0; made < count;) {
        const int64_t number = below(state, words_of(kind));
        int64_t       slot = number % slots;
        while (table[slot] && table[slot] != number + 1) slot = (slot + 1) % slots;
        if (table[slot]) continue; // drawn before
        table[slot] = number + 1;
        spell(out[made++], kind, number);
    }
    free(table);
    return CN_OK;
}

static void shuffle(int32_t *x, int64_t count, uint64_t *state) {
    for (int64_t i = count - 1; i > 0; i--) {
        const int64_t j = below(state, i + 1);
        const int32_t swapped = x[i];
        x[i] = x[j];
        x[j] = swapped;
    }
}

/* ---- Lines in noise -------------------------------------------------------------------- */

static int by_number(const void *a, const void *b) {
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* `lines` lines of noise with `line` among them, each before another one, in their order. */
static void put_noise(cn_buf *text, int64_t lines, const cn_buf *line, int count, uint64_t *state) {
    int64_t at[NEEDLES + 1];
    for (int i = 0; i < count; i++) {
        bool is_new = false;
        while (!is_new) {
            at[i] = below(state, lines);
            is_new = true;
            for (int j = 0; j < i; j++) is_new &= at[j] != at[i];
        }
    }
    qsort(at, (size_t)count, sizeof(*at), by_number);
    for (int64_t i = 0, next = 0; i < lines; i++) {
        if (next < count && at[next] == i) cn_buf_printf(text, "%s\n", cn_buf_str(&line[next++]));
        cn_buf_printf(text, "%s\n", noise);
    }
}

static void put_output(cn_ruler_sample *s, const char *text) {
    cn_assert(s->outputs < CN_RULER_OUTPUTS_MAX && strlen(text) < CN_RULER_OUTPUT_BYTES);
    strcpy(s->output[s->outputs++], text);
}

static cn_err make_niah(cn_ruler_sample *s, cn_ruler_task task, int64_t lines, uint64_t *state,
                        cn_diag *diag) {
    const int  needles = task == CN_RULER_NIAH_SINGLE ? 1 : NEEDLES;
    const bool one_key = task == CN_RULER_NIAH_MULTIVALUE;
    const bool asks_all = task == CN_RULER_NIAH_MULTIQUERY;
    const bool is_one = task == CN_RULER_NIAH_SINGLE || task == CN_RULER_NIAH_MULTIKEY;
    word       key[NEEDLES];
    cn_buf     line[NEEDLES] = {0};
    CN_TRY(make_words(key, KEY, NEEDLES, state, diag));
    const int64_t asked = below(state, needles);
    for (int i = 0; i < needles; i++) {
        char value[CN_RULER_OUTPUT_BYTES];
        snprintf(value, sizeof(value), "%" PRId64, 1000000 + below(state, 9000000));
        cn_buf_printf(&line[i], "One of the special magic numbers for %s is: %s.",
                      key[one_key ? 0 : i], value);
        if (one_key || asks_all || i == asked) put_output(s, value);
    }
    cn_buf_printf(&s->text,
                  "%s special magic number%s hidden within the following text. Make sure to "
                  "memorize it. I will quiz you about the number%s afterwards.\n",
                  is_one ? "A" : "Some", is_one ? " is" : "s are", is_one ? "" : "s");
    put_noise(&s->text, lines, line, needles, state);
    cn_buf_printf(&s->question, "What %s the special magic number%s for ",
                  is_one ? "is" : "are all", is_one ? "" : "s");
    if (asks_all)
        for (int i = 0; i < needles; i++)
            cn_buf_printf(&s->question, "%s%s",
                          i == 0            ? ""
                          : i + 1 < needles ? ", "
                                            : ", and ",
                          key[i]);
    else
        cn_buf_put_str(&s->question, key[one_key ? 0 : asked]);
    cn_buf_put_str(&s->question, " mentioned in the provided text?");
    for (int i = 0; i < needles; i++) {
        if (line[i].err) s->text.err = line[i].err;
        cn_buf_release(&line[i]);
    }
    return CN_OK;
}

static cn_err make_vt(cn_ruler_sample *s, int64_t lines, uint64_t *state, cn_diag *diag) {
    word   variable[HOPS + 1];
    cn_buf line[HOPS + 1] = {0};
    CN_TRY(make_words(variable, VARIABLE, HOPS + 1, state, diag));
    const int64_t value = 10000 + below(state, 90000);
    for (int i = 0; i <= HOPS; i++) {
        if (i == 0)
            cn_buf_printf(&line[i], "VAR %s = %" PRId64, variable[i], value);
        else
            cn_buf_printf(&line[i], "VAR %s = VAR %s", variable[i], variable[i - 1]);
        put_output(s, variable[i]);
    }
    cn_buf_put_str(&s->text, "Memorize and track the chain(s) of variable assignment hidden in the "
                             "following text.\n\n");
    put_noise(&s->text, lines, line, HOPS + 1, state);
    cn_buf_printf(&s->question,
                  "Question: Find all variables that are assigned the value %" PRId64
                  " in the text above.",
                  value);
    for (int i = 0; i <= HOPS; i++) {
        if (line[i].err) s->text.err = line[i].err;
        cn_buf_release(&line[i]);
    }
    return CN_OK;
}

/* ---- Words ------------------------------------------------------------------------------ */

static cn_err make_cwe(cn_ruler_sample *s, int64_t words, uint64_t *state, cn_diag *diag) {
    const int64_t count = COMMON_WORDS * COMMON_TIMES + (words - COMMON_WORDS) * OTHER_TIMES;
    word         *list = malloc((size_t)words * sizeof(*list));
    int32_t      *order = malloc((size_t)count * sizeof(*order));
    cn_err        err = CN_OK;
    if (!list || !order) err = CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " words", count);
    if (!err) err = make_words(list, WORD, words, state, diag);
    if (!err) {
        int64_t at = 0;
        for (int32_t i = 0; i < words; i++)
            for (int times = i < COMMON_WORDS ? COMMON_TIMES : OTHER_TIMES; times > 0; times--)
                order[at++] = i;
        shuffle(order, count, state);
        cn_buf_put_str(&s->text,
                       "Below is a numbered list of words. In these words, some appear more often "
                       "than others. Memorize the ones that appear most often.\n");
        for (int64_t i = 0; i < count; i++)
            cn_buf_printf(&s->text, "%s%" PRId64 ". %s", i ? " " : "", i + 1, list[order[i]]);
        cn_buf_put_str(&s->text, "\n");
        for (int i = 0; i < COMMON_WORDS; i++) put_output(s, list[i]);
        cn_buf_put_str(&s->question,
                       "Question: What are the 10 most common words in the above list?");
    }
    free(list);
    free(order);
    return err;
}

/* zeta(2): how often the k-th of many words stands is 1 / (zeta(2) k^2) of all. */
#define ZETA_2 (M_PI * M_PI / 6)

static cn_err make_fwe(cn_ruler_sample *s, int64_t words, int64_t length, uint64_t *state,
                       cn_diag *diag) {
    const int64_t vocab = length / TOKENS_A_CODED_WORD;
    word         *list = malloc((size_t)vocab * sizeof(*list));
    int32_t      *order = malloc((size_t)words * sizeof(*order));
    int64_t       count = 0;
    cn_err        err = CN_OK;
    if (!list || !order) err = CN_FAIL(diag, CN_ENOMEM, "no memory for %" PRId64 " words", words);
    if (!err) err = make_words(list, CODED, vocab, state, diag);
    if (!err) {
        strcpy(list[0], "..."); // the most frequent one is noise
        for (int32_t i = 0; i < vocab; i++) {
            const double share = 1 / (ZETA_2 * (i + 1.0) * (i + 1.0));
            for (int64_t times = (int64_t)((double)words * share); times > 0; times--)
                order[count++] = i;
        }
        shuffle(order, count, state);
        cn_buf_put_str(&s->text,
                       "Read the following coded text and track the frequency of each coded word. "
                       "Find the three most frequently appeared coded words. ");
        for (int64_t i = 0; i < count; i++)
            cn_buf_printf(&s->text, "%s%s", i ? " " : "", list[order[i]]);
        cn_buf_put_str(&s->text, "\n");
        for (int i = 1; i <= 3; i++) put_output(s, list[i]);
        cn_buf_put_str(
            &s->question,
            "Question: Do not provide any explanation. Please ignore the dots '....'. "
            "What are the three most frequently appeared words in the above coded text?");
    }
    free(list);
    free(order);
    return err;
}

/* ---- Samples ---------------------------------------------------------------------------- */

void cn_ruler_sample_release(cn_ruler_sample *s) {
    cn_buf_release(&s->text);
    cn_buf_release(&s->question);
    *s = (cn_ruler_sample){0};
}

/* The fourth word must stand less often than the third, and at all. */
static int64_t least_units(cn_ruler_task task) {
    return task == CN_RULER_CWE   ? COMMON_WORDS + 1
           : task == CN_RULER_FWE ? 64
           : task == CN_RULER_VT  ? HOPS + 1
                                  : NEEDLES;
}

cn_err cn_ruler_make(cn_ruler_sample *out, cn_ruler_task task, int64_t units, int64_t length,
                     uint64_t seed, cn_diag *diag) {
    uint64_t state = cn_rand_mix(seed + CN_RAND_STEP * (uint64_t)(task + 1));
    cn_err   err;
    *out = (cn_ruler_sample){0};
    if (units < least_units(task) || length < CN_RULER_LENGTH_MIN)
        return CN_FAIL(diag, CN_EINVAL,
                       "%s of %" PRId64 " units for %" PRId64 " tokens, want %" PRId64 " and %d",
                       cn_ruler_task_name(task), units, length, least_units(task),
                       (int)CN_RULER_LENGTH_MIN);
    switch (task) {
    case CN_RULER_VT:
        err = make_vt(out, units, &state, diag);
        break;
    case CN_RULER_CWE:
        err = make_cwe(out, units, &state, diag);
        break;
    case CN_RULER_FWE:
        err = make_fwe(out, units, length, &state, diag);
        break;
    default:
        err = make_niah(out, task, units, &state, diag);
    }
    if (!err && (out->text.err || out->question.err))
        err = CN_FAIL(diag, CN_ENOMEM, "no memory for a text of %" PRId64 " units", units);
    if (err) cn_ruler_sample_release(out);
    return err;
}

/* ---- Scores ----------------------------------------------------------------------------- */

double cn_ruler_match_all(const char *answer, const cn_ruler_sample *s) {
    int found = 0;
    for (int32_t i = 0; i < s->outputs; i++) found += strcasestr(answer, s->output[i]) != NULL;
    return s->outputs ? (double)found / s->outputs : 0;
}

double cn_ruler_match_part(const char *answer, const cn_ruler_sample *s) {
    return cn_ruler_match_all(answer, s) > 0;
}
