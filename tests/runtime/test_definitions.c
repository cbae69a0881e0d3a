/* test_definitions.c - What counts as a definition, language by language. */
#include "tests/test.h"

#include "base/buf.h"
#include "runtime/definitions.h"

static bool put(void *ctx, const cn_definition *d) {
    cn_buf_printf(ctx, "%d %.*s", (int)d->line, d->name_bytes, d->name);
    if (d->is_clear)
        cn_buf_printf(ctx, " = %.*s", d->signature_bytes, d->signature ? d->signature : "");
    cn_buf_put_str(ctx, "\n");
    return true;
}

/* `want`: a line for each, "LINE NAME" if it is not clear, else "LINE NAME = SIGNATURE". */
static void check(const char *path, const char *text, const char *want) {
    cn_buf got = {0};
    t_note("%s", path);
    cn_definitions_find(cn_language_of(path), text, strlen(text), put, &got);
    assert_string_equal(cn_buf_str(&got), want);
    cn_buf_release(&got);
}

static void test_c(void **state) {
    (void)state;
    check("a/b.c",
          "int add(int a, int b)\n{\n    return sum(a, b);\n}\n"
          "static const char *name_of(struct thing *t) {\n"
          "int declared(int a);\n"
          "/* int in_comment(void) {\n"
          "int in_long_comment(void) {\n"
          "*/\n"
          "char *s = \"/* no comment\";\n"
          "void\nbelow_its_type(void)\n{\n"
          "int over_lines(int a,\n               int b)\n{\n"
          "#define MACRO_LIKE(x) f(x)\n"
          "MODULE_INIT(thing)\n"
          "DEFINE_TEST(int x)\n{\n"
          "int with_comment(int a /* why */)\n{\n"
          "int  two_blanks(void)\n{\n"
          "else if (x) {\n"
          "int Class::method(int a) {\n"
          "void attributed(void) __attribute__((cold))\n{\n"
          "return\nbelow_no_type(void)\n{\n"
          "EXPORTED\nbelow_a_macro(void)\n{\n"
          "int main(int argc, char **argv)\n{\n"
          "int f(void) {\n",
          "1 add = int add(int a, int b)\n"
          "5 name_of = static const char *name_of(struct thing *t)\n"
          "12 below_its_type = \n"
          "14 over_lines\n"
          "17 MACRO_LIKE\n"
          "18 MODULE_INIT\n"
          "19 DEFINE_TEST\n"
          "21 with_comment\n"
          "23 two_blanks\n"
          "26 method\n"
          "27 attributed\n"
          "30 below_no_type\n"
          "33 below_a_macro\n"
          "35 main\n");
}

static void test_python(void **state) {
    (void)state;
    check("m.py",
          "def add(a, b=(1, 2)):\n    def inner(): pass\n"
          "async def fetch(url: str) -> dict:\n"
          "class Thing(Base):\n    def method(self):\n"
          "\"\"\"\ndef in_text():\n\"\"\"\n"
          "def long(a,\n         b):\n"
          "def noted(a):  # why\n"
          "x = '''def one_line():'''\n"
          "definitely = 1\n",
          "1 add = def add(a, b=(1, 2))\n"
          "2 inner\n"
          "3 fetch = async def fetch(url: str) -> dict\n"
          "4 Thing\n5 method\n9 long\n11 noted\n");
}

static void test_script(void **state) {
    (void)state;
    check("m.ts",
          "export default async function load(url: string): Promise<void> {\n"
          "function plain(a, b) {\n"
          "  function nested() {\n"
          "const arrow = (a) => {\n"
          "class Thing {\n"
          "  method(a) {\n"
          "function one() { return 1; }\n"
          "function takes({a, b}) {\n"
          "exports.assigned = function (a) {\n"
          "  call(a);\n"
          "if (functional) {\n"
          "glob('src/*.js');\n"
          "function behind() {\n",
          "1 load = export default async function load(url: string): Promise<void>\n"
          "2 plain = function plain(a, b)\n"
          "3 nested\n4 arrow\n5 Thing\n6 method\n7 one\n8 takes\n9 assigned\n"
          "13 behind = function behind()\n");
    check("m.js", "glob(\"src/*.js\");\nfunction behind() {\n", "2 behind = function behind()\n");
}

static void test_go(void **state) {
    (void)state;
    check("m.go",
          "func Load(path string) (*Thing, error) {\n"
          "func (t *Thing) Save(path string) error {\n"
          "type Thing struct {\n"
          "func Empty() interface{} {\n"
          "func Map[T any](a []T) {\n"
          "\tfunc() {\n",
          "1 Load = func Load(path string) (*Thing, error)\n"
          "2 Save\n3 Thing\n4 Empty\n5 Map\n");
}

static void test_rust(void **state) {
    (void)state;
    check("m.rs",
          "pub fn load(path: &Path) -> Result<Thing> {\n"
          "pub(crate) async unsafe fn risky<T>(a: T) {\n"
          "impl Thing {\n    pub fn method(&self) -> u32 {\n"
          "fn bounded<T>(a: T) where T: Copy {\n"
          "fn declared(a: u32);\n"
          "pub struct Thing {\n"
          "macro_rules! shout {\n",
          "1 load = pub fn load(path: &Path) -> Result<Thing>\n"
          "2 risky = pub(crate) async unsafe fn risky<T>(a: T)\n"
          "4 method\n5 bounded\n6 declared\n7 Thing\n8 shout\n");
}

static void test_java(void **state) {
    (void)state;
    check("M.java",
          "public final class Thing {\n"
          "    public static List<String> load(Path path) throws IOException {\n"
          "    int packagePrivate(int a) {\n"
          "    public Thing(int a) {\n"
          "    private abstract int declared(int a);\n"
          "    return compute(a);\n"
          "    helper.call(a);\n"
          "    public int shorter() { return 1; }\n",
          "1 Thing\n"
          "2 load = public static List<String> load(Path path) throws IOException\n"
          "3 packagePrivate\n4 Thing\n5 declared\n8 shorter\n");
}

static void test_other_files_define_nothing(void **state) {
    (void)state;
    check("README.md", "int add(int a, int b)\n{\n", "");
    check("c", "int add(int a, int b)\n{\n", "");
    check("a.c", "", "");
    check("a.c", "int cut_off(int a", "1 cut_off\n");
}

static bool stop(void *ctx, const cn_definition *d) {
    put(ctx, d);
    return false;
}

static void test_the_caller_can_stop(void **state) {
    (void)state;
    static const char text[] = "int one(void) {\nint two(void) {\n";
    cn_buf            got = {0};
    cn_definitions_find(CN_LANGUAGE_C, text, sizeof(text) - 1, stop, &got);
    assert_string_equal(cn_buf_str(&got), "1 one = int one(void)\n");
    cn_buf_release(&got);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_c),
        cmocka_unit_test(test_python),
        cmocka_unit_test(test_script),
        cmocka_unit_test(test_go),
        cmocka_unit_test(test_rust),
        cmocka_unit_test(test_java),
        cmocka_unit_test(test_other_files_define_nothing),
        cmocka_unit_test(test_the_caller_can_stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
