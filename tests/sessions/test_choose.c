/*
 * test_choose.c - Which files go in, in which order they are asked, and what a session keeps.
 *
 *   test_choose                      the tests
 *   test_choose BUDGET <FILE_LIST    the choice from lines "BYTES PATH" (find . -printf '%s %P\n')
 */
#include "sessions/choose.h"

#include "base/fault.h"
#include "tests/test.h"

enum { FILES_MAX = 64 };

static cn_choice choose(const cn_choose_args *args) {
    cn_choice choice;
    assert_err(cn_choose(&choice, args, &t_diag), CN_OK);
    assert_int_equal(choice.chosen_files + choice.left_files, args->files);
    int64_t chosen = 0, left = 0;
    for (int64_t i = 0; i < choice.chosen_files; i++) chosen += args->file[choice.chosen[i]].tokens;
    for (int64_t i = 0; i < choice.left_files; i++) {
        assert_in_range(choice.left[i].reason, 0, CN_LEFT_COUNT - 1);
        left += choice.left[i].tokens;
    }
    assert_int_equal(choice.chosen_tokens, chosen);
    assert_int_equal(choice.left_tokens, left);
    for (int64_t i = 1; i < choice.chosen_files; i++)
        assert_true(
            strcmp(args->file[choice.chosen[i - 1]].path, args->file[choice.chosen[i]].path) < 0);
    for (int64_t i = 1; i < choice.left_files; i++)
        assert_true(strcmp(args->file[choice.left[i - 1].file].path,
                           args->file[choice.left[i].file].path) < 0);
    return choice;
}

static bool has(const cn_choice *c, const cn_choose_file *file, const char *path) {
    for (int64_t i = 0; i < c->chosen_files; i++)
        if (strcmp(file[c->chosen[i]].path, path) == 0) return true;
    return false;
}

/* Why a path is left out; COUNT if it is not. */
static cn_left_reason reason_of(const cn_choice *c, const cn_choose_file *file, const char *path) {
    for (int64_t i = 0; i < c->left_files; i++)
        if (strcmp(file[c->left[i].file].path, path) == 0) return c->left[i].reason;
    return CN_LEFT_COUNT;
}

/* `first` is asked before `second`: where a kept file leaves room for one it is the one. */
static void assert_before(const cn_choose_file *first, const cn_choose_file *second) {
    const char   *kept = "kept";
    const int64_t most = first->tokens > second->tokens ? first->tokens : second->tokens;
    for (int swap = 0; swap < 2; swap++) {
        const cn_choose_file file[] = {swap ? *second : *first,
                                       swap ? *first : *second,
                                       {.path = kept, .tokens = 1000 - most}};
        const cn_choose_args args = {
            .file = file, .files = 3, .budget = 1000, .kept = &kept, .kept_files = 1};
        cn_choice c = choose(&args);
        t_note("%s before %s", first->path, second->path);
        assert_int_equal(c.chosen_files, 2);
        assert_true(has(&c, file, first->path));
        assert_int_equal(reason_of(&c, file, second->path), CN_LEFT_BUDGET);
        cn_choice_release(&c);
    }
}

// ---- Order -----------------------------------------------------------------------------

static void test_groups_follow_each_other(void **state) {
    (void)state;
    // One row a group, names that belong to it.
    static const char *const rows[][16] = {
        {"README", "README.md", "readme.txt"},
        {"HACKING", "README.zh.md", "CONTRIBUTING.md", "INSTALL.rst", "design.txt"},
        {"main.c", "Makefile", "src/a.RS", "lib/CMakeLists.txt", "x/y/README.md", "go.mod",
         "news.py", "history.h"},
        {"data.json", "docs/guide.md", ".gitignore", "a/b.svg", "x/notes"},
        {"LICENSE", "COPYING.LESSER", "ChangeLog", "docs/CHANGES.md", "LICENSE-MIT", "AUTHORS",
         "00-RELEASENOTES"},
        {"tests/a.c", "test_a.py", "src/a_test.go", "a.test.ts", "pkg/testdata/x", "t/x.sh",
         "spec/readme.md", "tests/README.md"},
        {"vendor/a.c", "deps/lua/lua.c", "x/third_party/README.md", "node_modules/a/test/b.js"},
        {"configure", "a/b.pb.go", "vendor/x_pb2.py", "aclocal.m4"},
    };
    enum { ROWS = sizeof(rows) / sizeof(rows[0]) };
    for (int r = 1; r < ROWS; r++)
        for (int i = 0; rows[r - 1][i]; i++)
            for (int k = 0; rows[r][k]; k++) {
                const cn_choose_file a = {.path = rows[r - 1][i], .tokens = 10};
                const cn_choose_file b = {.path = rows[r][k], .tokens = 10};
                assert_before(&a, &b);
            }
    // Text at the root is asked early while it is short: up to 1/8 of the budget.
    const cn_choose_file sources[] = {{.path = "README", .tokens = 870},
                                      {.path = "DESIGN.md", .tokens = 125},
                                      {.path = "GUIDE.md", .tokens = 126},
                                      {.path = "main.c", .tokens = 5}};
    const cn_choose_args args = {.file = sources, .files = 4, .budget = 1000};
    cn_choice            c = choose(&args);
    assert_true(has(&c, sources, "DESIGN.md") && has(&c, sources, "main.c"));
    assert_false(has(&c, sources, "GUIDE.md"));
    cn_choice_release(&c);
    // What .gitattributes says goes over the name.
    const cn_choose_file generated = {.path = "main.c", .tokens = 10, .is_generated = true};
    const cn_choose_file vendored = {.path = "README.md", .tokens = 10, .is_vendored = true};
    const cn_choose_file test = {.path = "tests/a.c", .tokens = 10};
    assert_before(&test, &vendored);
    assert_before(&vendored, &generated);
}

static void test_within_a_group_depth_then_size_then_path(void **state) {
    (void)state;
    static const cn_choose_file order[] = {
        {.path = "z.c", .tokens = 600},      {.path = "b/a.c", .tokens = 10},
        {.path = "b/c.c", .tokens = 10},     {.path = "a/big.c", .tokens = 600},
        {.path = "a/b/a.c", .tokens = 10},   {.path = "a/b/c/a.c", .tokens = 10},
        {.path = "a/b/c/b.c", .tokens = 10},
    };
    for (size_t i = 1; i < sizeof(order) / sizeof(order[0]); i++)
        assert_before(&order[i - 1], &order[i]);
}

/* Sizes are classes: up to 1/8, 1/4, 1/2, all of the budget; within one the path decides. */
static void test_size_classes(void **state) {
    (void)state;
    static const struct {
        int64_t tokens[2]; // of a.c and b.c
        char    first;
    } cases[] = {
        {{100, 100}, 'a'}, {{100, 1}, 'a'},   {{101, 100}, 'b'}, {{200, 101}, 'a'},
        {{201, 200}, 'b'}, {{400, 201}, 'a'}, {{401, 400}, 'b'}, {{799, 401}, 'a'},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        // What is left of the budget of 800 holds either, not both.
        const int64_t        a = cases[i].tokens[0], b = cases[i].tokens[1];
        const cn_choose_file file[] = {
            {.path = "README", .tokens = 800 - (a > b ? a : b)},
            {.path = "a.c", .tokens = a},
            {.path = "b.c", .tokens = b},
        };
        const cn_choose_args args = {.file = file, .files = 3, .budget = 800};
        cn_choice            c = choose(&args);
        t_note("case %zu", i);
        assert_int_equal(has(&c, file, "a.c"), cases[i].first == 'a');
        assert_int_equal(has(&c, file, "b.c"), cases[i].first == 'b');
        cn_choice_release(&c);
    }
}

/* `file` is in the order in which it is asked: room for the first n takes those.  The last
 * place of the array is taken for a README that leaves so much room of 1000 tokens. */
static void assert_order(cn_choose_file *file, int files) {
    int64_t room = 0;
    for (int n = 1; n <= files; n++) {
        room += file[n - 1].tokens;
        file[files] = (cn_choose_file){.path = "README", .tokens = 1000 - room};
        const cn_choose_args args = {.file = file, .files = files + 1, .budget = 1000};
        cn_choice            c = choose(&args);
        t_note("room for %d", n);
        for (int i = 0; i < files; i++)
            if (has(&c, file, file[i].path) != (i < n))
                t_fail(__FILE__, __LINE__, "%s", file[i].path);
        cn_choice_release(&c);
    }
}

static void test_folders_take_turns(void **state) {
    (void)state;
    cn_choose_file file[] = {
        {.path = "a/9.h", .tokens = 10},     {.path = "ab/1.c", .tokens = 10},
        {.path = "b/8.c", .tokens = 10},     {.path = "a/main.c", .tokens = 10},
        {.path = "b/9.c", .tokens = 10},     {.path = "a/1.c", .tokens = 10},
        {.path = "a/main1.c", .tokens = 10}, {.path = "c/1.c", .tokens = 130},
        {.path = "a/b/1.c", .tokens = 10},   {.path = ""},
    };
    assert_order(file, 9);
    // Each group and each size begins with the first turn of each folder.
    cn_choose_file sizes[] = {{.path = "a/1.c", .tokens = 10},
                              {.path = "a/2.c", .tokens = 130},
                              {.path = "b/3.c", .tokens = 130},
                              {.path = ""}};
    assert_order(sizes, 3);
    cn_choose_file groups[] = {{.path = "a/1.c", .tokens = 10},
                               {.path = "a/x.json", .tokens = 10},
                               {.path = "b/y.json", .tokens = 10},
                               {.path = ""}};
    assert_order(groups, 3);
}

// ---- Budget ----------------------------------------------------------------------------

static void test_smaller_files_still_fit(void **state) {
    (void)state;
    static const cn_choose_file file[] = {
        {.path = "d.c", .tokens = 30},  {.path = "b.c", .tokens = 50},
        {.path = "a.c", .tokens = 60},  {.path = "c.c", .tokens = 10},
        {.path = "e.c", .tokens = 101}, {.path = "f.c", .tokens = 1},
    };
    const cn_choose_args args = {.file = file, .files = 6, .budget = 100};
    cn_choice            c = choose(&args);
    // Asked: c, f (up to 1/8), b, d (1/2), a, e.
    assert_int_equal(c.chosen_tokens, 91);
    assert_int_equal(reason_of(&c, file, "a.c"), CN_LEFT_BUDGET);
    assert_int_equal(reason_of(&c, file, "e.c"), CN_LEFT_TOO_BIG);
    assert_int_equal(c.left_files, 2);
    assert_int_equal(c.left_tokens, 161);
    cn_choice_release(&c);

    const cn_choose_file tight[] = {{.path = "a.c", .tokens = 60},
                                    {.path = "b.c", .tokens = 55},
                                    {.path = "z.c", .tokens = 40}};
    const cn_choose_args tight_args = {.file = tight, .files = 3, .budget = 100};
    c = choose(&tight_args);
    assert_int_equal(c.chosen_tokens, 100); // asked: z, a, b
    assert_int_equal(reason_of(&c, tight, "b.c"), CN_LEFT_BUDGET);
    cn_choice_release(&c);
}

static void test_a_file_of_all_the_budget_fits(void **state) {
    (void)state;
    const cn_choose_file file[] = {{.path = "a.c", .tokens = CN_CHOOSE_BUDGET}};
    const cn_choose_args args = {.file = file, .files = 1}; // the default
    cn_choice            c = choose(&args);
    assert_int_equal(c.chosen_files, 1);
    cn_choice_release(&c);
    const cn_choose_file more[] = {{.path = "a.c", .tokens = CN_CHOOSE_BUDGET + 1}};
    const cn_choose_args more_args = {.file = more, .files = 1};
    c = choose(&more_args);
    assert_int_equal(reason_of(&c, more, "a.c"), CN_LEFT_TOO_BIG);
    cn_choice_release(&c);
}

static void test_locks_and_minified_files_are_skipped(void **state) {
    (void)state;
    static const struct {
        const char    *path;
        cn_left_reason reason;
    } cases[] = {
        {"package-lock.json", CN_LEFT_LOCK},
        {"a/b/Cargo.lock", CN_LEFT_LOCK},
        {"go.sum", CN_LEFT_LOCK},
        {"vendor/yarn.lock", CN_LEFT_LOCK},
        {"a/jquery.min.js", CN_LEFT_MINIFIED},
        {"b.MIN.CSS", CN_LEFT_MINIFIED},
        {"app.js.map", CN_LEFT_MINIFIED},
        {"lock.c", CN_LEFT_COUNT},
        {"min.js", CN_LEFT_COUNT},
        {".lock", CN_LEFT_COUNT},
        {"go.summary", CN_LEFT_COUNT},
        {"a.map", CN_LEFT_COUNT},
        {"go.sum/a.c", CN_LEFT_COUNT},
        {"package.json", CN_LEFT_COUNT},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const cn_choose_file file[] = {{.path = cases[i].path, .tokens = 1}};
        const cn_choose_args args = {.file = file, .files = 1};
        cn_choice            c = choose(&args);
        t_note("%s", cases[i].path);
        assert_int_equal(reason_of(&c, file, cases[i].path), cases[i].reason);
        cn_choice_release(&c);
        // Somebody who kept it wanted it.
        const cn_choose_args kept = {
            .file = file, .files = 1, .kept = &cases[i].path, .kept_files = 1};
        c = choose(&kept);
        assert_true(has(&c, file, cases[i].path));
        cn_choice_release(&c);
    }
}

static void test_unknown_tokens_are_estimated(void **state) {
    (void)state;
    const cn_choose_file file[] = {{.path = "a.c", .bytes = 300}};
    const cn_choose_args args = {.file = file, .files = 1, .budget = cn_choose_estimate(300)};
    cn_choice            c;
    assert_err(cn_choose(&c, &args, &t_diag), CN_OK);
    assert_int_equal(c.chosen_tokens, cn_choose_estimate(300));
    cn_choice_release(&c);
    assert_true(cn_choose_estimate(0) > 0); // a header
    assert_true(cn_choose_estimate(30000) > 30000 / 4 && cn_choose_estimate(30000) < 30000 / 2);
}

static void test_reasons_have_texts(void **state) {
    (void)state;
    for (int i = 0; i < CN_LEFT_COUNT; i++) {
        assert_true(strlen(cn_left_text((cn_left_reason)i)) > 10);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(cn_left_text((cn_left_reason)i),
                                    cn_left_text((cn_left_reason)k));
    }
    assert_string_equal(cn_left_text(CN_LEFT_COUNT), "?");
    assert_string_equal(cn_left_text((cn_left_reason)-1), "?");
}

// ---- A choice that is kept -------------------------------------------------------------

typedef struct paths {
    const char *kept[FILES_MAX], *passed[FILES_MAX];
} paths;

/* The arguments that go on from a choice. */
static cn_choose_args after(const cn_choice *c, const cn_choose_file *then, paths *p,
                            const cn_choose_file *now, int64_t files, int64_t budget) {
    for (int64_t i = 0; i < c->chosen_files; i++) p->kept[i] = then[c->chosen[i]].path;
    for (int64_t i = 0; i < c->left_files; i++) p->passed[i] = then[c->left[i].file].path;
    return (cn_choose_args){.file = now,
                            .files = files,
                            .budget = budget,
                            .kept = p->kept,
                            .kept_files = c->chosen_files,
                            .passed = p->passed,
                            .passed_files = c->left_files};
}

static void test_a_kept_choice_stays(void **state) {
    (void)state;
    const cn_choose_file then[] = {
        {.path = "a.c", .tokens = 40},
        {.path = "b.c", .tokens = 30},
        {.path = "c.c", .tokens = 90},
        {.path = "x/d.c", .tokens = 20},
    };
    const cn_choose_args first = {.file = then, .files = 4, .budget = 100};
    cn_choice            c = choose(&first);
    assert_int_equal(c.chosen_tokens, 90); // all but c.c
    paths p;

    // The same files: the same choice.
    cn_choose_args args = after(&c, then, &p, then, 4, 100);
    cn_choice      d = choose(&args);
    assert_int_equal(d.chosen_files, 3);
    assert_int_equal(reason_of(&d, then, "c.c"), CN_LEFT_BEFORE);
    cn_choice_release(&d);

    // An edit lets a.c shrink so far that c.c would fit, and be asked early: nothing moves.
    const cn_choose_file shrunk[] = {{.path = "a.c", .tokens = 1},
                                     {.path = "b.c", .tokens = 30},
                                     {.path = "c.c", .tokens = 2},
                                     {.path = "x/d.c", .tokens = 20}};
    args = after(&c, then, &p, shrunk, 4, 100);
    d = choose(&args);
    assert_int_equal(d.chosen_tokens, 51);
    assert_int_equal(reason_of(&d, shrunk, "c.c"), CN_LEFT_BEFORE);
    cn_choice_release(&d);

    // b.c is gone; two new files come, of which one fits; what was passed over stays out.
    const cn_choose_file changed[] = {{.path = "x/d.c", .tokens = 20},
                                      {.path = "README", .tokens = 41},
                                      {.path = "z.c", .tokens = 40},
                                      {.path = "c.c", .tokens = 1},
                                      {.path = "a.c", .tokens = 40}};
    args = after(&c, then, &p, changed, 5, 100);
    d = choose(&args);
    assert_true(has(&d, changed, "a.c") && has(&d, changed, "x/d.c") && has(&d, changed, "z.c"));
    assert_int_equal(d.chosen_files, 3);
    assert_int_equal(reason_of(&d, changed, "README"), CN_LEFT_BUDGET);
    assert_int_equal(reason_of(&d, changed, "c.c"), CN_LEFT_BEFORE);
    cn_choice_release(&d);

    // Who forgets what was passed over gets it asked again.
    args.passed_files = 0;
    d = choose(&args);
    assert_true(has(&d, changed, "c.c") && !has(&d, changed, "z.c"));
    cn_choice_release(&d);
    cn_choice_release(&c);
}

static void test_kept_files_may_grow_by_a_quarter(void **state) {
    (void)state;
    const char    *kept[] = {"a.c", "b.c", "gone.c"};
    cn_choose_file file[] = {
        {.path = "a.c", .tokens = 60}, {.path = "b.c", .tokens = 65}, {.path = "n.c", .tokens = 1}};
    const cn_choose_args args = {
        .file = file, .files = 3, .budget = 100, .kept = kept, .kept_files = 3};
    cn_choice c = choose(&args);
    assert_int_equal(c.chosen_tokens, 125);
    assert_int_equal(reason_of(&c, file, "n.c"), CN_LEFT_BUDGET); // over the budget: nothing new
    cn_choice_release(&c);

    file[0].tokens = 61; // and now the last in order leaves, which makes room
    c = choose(&args);
    assert_true(has(&c, file, "a.c") && has(&c, file, "n.c"));
    assert_int_equal(reason_of(&c, file, "b.c"), CN_LEFT_BUDGET);
    cn_choice_release(&c);
}

// ---- Always ----------------------------------------------------------------------------

/* What was added is in and takes nothing from the others; what was dropped is out. */
static void test_added_and_dropped_go_before_all(void **state) {
    (void)state;
    const char          *kept[] = {"a.c", "b.c"}, *passed[] = {"c.c", "d.c"};
    const cn_choose_file file[] = {
        {.path = "a.c", .tokens = 400},      {.path = "b.c", .tokens = 500},
        {.path = "big.c", .tokens = 5000},   {.path = "c.c", .tokens = 50},
        {.path = "d.c", .tokens = 60},       {.path = "new.c", .tokens = 100},
        {.path = "x.lock", .tokens = 70000},
    };
    const char    *added[] = {"big.c", "c.c", "x.lock", "gone.c", "b.c"};
    const char    *dropped[] = {"a.c", "b.c", "nowhere.c"};
    cn_choose_args args = {.file = file,
                           .files = 7,
                           .budget = 1000,
                           .kept = kept,
                           .kept_files = 2,
                           .passed = passed,
                           .passed_files = 2,
                           .added = added,
                           .added_files = 4};
    cn_choice      c = choose(&args);
    const char    *in[] = {"a.c", "b.c", "big.c", "c.c", "new.c", "x.lock"};
    for (int i = 0; i < 6; i++) assert_true(has(&c, file, in[i]));
    assert_int_equal(reason_of(&c, file, "d.c"), CN_LEFT_BEFORE);
    cn_choice_release(&c);

    args.added_files = 5; // b.c is in both
    args.dropped = dropped;
    args.dropped_files = 3;
    c = choose(&args);
    assert_int_equal(reason_of(&c, file, "a.c"), CN_LEFT_DROPPED);
    assert_int_equal(reason_of(&c, file, "b.c"), CN_LEFT_DROPPED);
    assert_int_equal(c.chosen_files, 4); // what was dropped makes no room for what was passed over
    assert_int_equal(reason_of(&c, file, "d.c"), CN_LEFT_BEFORE);
    cn_choice_release(&c);
}

static void test_the_order_of_the_input_does_not_count(void **state) {
    (void)state;
    t_seed(1);
    static const char *const folders[] = {"", "a/", "b/", "a/c/", "tests/", "vendor/x/"};
    static const char *const names[] = {"README.md", "LICENSE", "x.c", "y.h", "z.json", "a.lock"};
    char                     path[36][32];
    cn_choose_file           file[36];
    for (int i = 0; i < 36; i++) {
        snprintf(path[i], sizeof(path[i]), "%s%s", folders[i / 6], names[i % 6]);
        file[i] = (cn_choose_file){.path = path[i], .tokens = t_rand_range(1, 900)};
    }
    const cn_choose_args args = {.file = file, .files = 36, .budget = 4000};
    cn_choice            c = choose(&args);
    assert_true(c.chosen_files > 5 && c.left_files > 5);
    for (int round = 0; round < 50; round++) {
        cn_choose_file mixed[36];
        memcpy(mixed, file, sizeof(file));
        for (int64_t i = 35; i > 0; i--) {
            const int64_t        k = t_rand_range(0, i);
            const cn_choose_file held = mixed[i];
            mixed[i] = mixed[k];
            mixed[k] = held;
        }
        const cn_choose_args again = {.file = mixed, .files = 36, .budget = 4000};
        cn_choice            d = choose(&again);
        assert_int_equal(c.chosen_files, d.chosen_files);
        for (int64_t i = 0; i < c.chosen_files; i++)
            assert_string_equal(file[c.chosen[i]].path, mixed[d.chosen[i]].path);
        for (int64_t i = 0; i < c.left_files; i++) {
            assert_string_equal(file[c.left[i].file].path, mixed[d.left[i].file].path);
            assert_int_equal(c.left[i].reason, d.left[i].reason);
        }
        cn_choice_release(&d);
    }
    cn_choice_release(&c);
}

static void test_no_files(void **state) {
    (void)state;
    cn_choice c = choose(&(cn_choose_args){0});
    assert_int_equal(c.chosen_files + c.left_files, 0);
    cn_choice_release(&c);
    assert_null(c.chosen);
}

static void assert_refused(const cn_choose_args *args, cn_err want, const char *say) {
    cn_choice c;
    memset(&c, 0xA5, sizeof(c));
    t_diag = (cn_diag){0};
    assert_err(cn_choose(&c, args, &t_diag), want);
    assert_int_equal(t_diag.err, want);
    if (!strstr(t_diag.text, say)) t_fail(__FILE__, __LINE__, "\"%s\": no %s", t_diag.text, say);
    assert_true(!c.chosen && !c.left && !c.chosen_files && !c.left_files);
}

static void test_bad_input_is_refused_by_name(void **state) {
    (void)state;
    static const struct {
        cn_choose_file file;
        cn_err         err;
        const char    *say;
    } cases[] = {
        {{.path = ""}, CN_EINVAL, "without a path"},
        {{.path = "b", .bytes = -1}, CN_EINVAL, "-1 bytes, 0 tokens: b"},
        {{.path = "b", .tokens = -7}, CN_EINVAL, "0 bytes, -7 tokens: b"},
        {{.path = "a"}, CN_EINVAL, "given twice: a"},
        {{.path = "b", .bytes = CN_CHOOSE_TOKENS_MAX + 1}, CN_ETOOBIG, "1099511627777 bytes"},
        {{.path = "b", .tokens = CN_CHOOSE_TOKENS_MAX + 1}, CN_ETOOBIG, "1099511627777 tokens"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const cn_choose_file file[] = {{.path = "a"}, cases[i].file};
        t_note("case %zu", i);
        assert_refused(&(cn_choose_args){.file = file, .files = 2}, cases[i].err, cases[i].say);
    }
    assert_refused(&(cn_choose_args){.files = -1}, CN_EINVAL, "-1 files");
    assert_refused(&(cn_choose_args){.budget = -5}, CN_EINVAL, "-5 tokens");
    assert_refused(&(cn_choose_args){.files = CN_CHOOSE_FILES_MAX + 1}, CN_ETOOBIG,
                   "1048577 files, limit 1048576");
    assert_refused(&(cn_choose_args){.budget = CN_CHOOSE_TOKENS_MAX + 1}, CN_ETOOBIG,
                   "budget of 1099511627777");
}

static void test_choosing_survives_failing_memory(void **state) {
    (void)state;
    const cn_choose_file file[] = {{.path = "a", .tokens = 1}};
    const cn_choose_args args = {.file = file, .files = 1};
    for (int64_t n = 1;; n++) {
        cn_choice c;
        t_diag = (cn_diag){0};
        cn_fault_arm(CN_FAULT_ONCE, n);
        const cn_err err = cn_choose(&c, &args, &t_diag);
        const bool   hit = cn_fault_was_hit();
        cn_fault_arm(CN_FAULT_OFF, 0);
        assert_err(err, hit ? CN_ENOMEM : CN_OK);
        assert_int_equal(c.chosen_files, !hit);
        cn_choice_release(&c);
        if (hit) assert_int_equal(t_diag.err, CN_ENOMEM);
        if (hit) continue;
        assert_int_equal(n, 4);
        break;
    }
}

// ---- By hand ---------------------------------------------------------------------------

static int report(int64_t budget) {
    enum { ROOM = 100000 };
    cn_choose_file *file = calloc(ROOM, sizeof(*file));
    cn_choose_args  args = {.file = file, .budget = budget};
    char            path[4096];
    long long       bytes;
    while (args.files < ROOM && scanf("%lld %4095[^\n]", &bytes, path) == 2)
        file[args.files++] = (cn_choose_file){.path = strdup(path), .bytes = bytes};
    cn_choice c;
    if (cn_choose(&c, &args, &t_diag)) {
        fprintf(stderr, "%s\n", t_diag.text);
        return 1;
    }
    for (int64_t i = 0; i < c.chosen_files; i++)
        printf("%7lld %s\n", (long long)cn_choose_estimate(file[c.chosen[i]].bytes),
               file[c.chosen[i]].path);
    printf("%lld tokens of %lld files; %lld of %lld left out\n", (long long)c.chosen_tokens,
           (long long)c.chosen_files, (long long)c.left_tokens, (long long)c.left_files);
    cn_choice_release(&c);
    for (int64_t i = 0; i < args.files; i++) free((void *)(uintptr_t)file[i].path);
    free(file);
    return 0;
}

int main(int argc, char **argv) {
    if (argc > 1) return report(atoll(argv[1]));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups_follow_each_other),
        cmocka_unit_test(test_within_a_group_depth_then_size_then_path),
        cmocka_unit_test(test_size_classes),
        cmocka_unit_test(test_folders_take_turns),
        cmocka_unit_test(test_smaller_files_still_fit),
        cmocka_unit_test(test_a_file_of_all_the_budget_fits),
        cmocka_unit_test(test_locks_and_minified_files_are_skipped),
        cmocka_unit_test(test_unknown_tokens_are_estimated),
        cmocka_unit_test(test_reasons_have_texts),
        cmocka_unit_test(test_a_kept_choice_stays),
        cmocka_unit_test(test_kept_files_may_grow_by_a_quarter),
        cmocka_unit_test(test_added_and_dropped_go_before_all),
        cmocka_unit_test(test_the_order_of_the_input_does_not_count),
        cmocka_unit_test(test_no_files),
        cmocka_unit_test(test_bad_input_is_refused_by_name),
        cmocka_unit_test(test_choosing_survives_failing_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
