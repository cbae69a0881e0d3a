/*
 * test_kill.c - Whenever a process dies, the session opens, says so, and goes on as if it had not.
 *
 * Method: actors (actor.h) die at a fault point, in a call that changes a file, or by kill -9 at
 * any moment.  After each death another process opens the session, and all of this must hold:
 * the stores are whole; each turn that was reported done is there; each finished turn is, to the
 * byte, that of an actor whom nobody disturbed; a turn that was left open is said, and no other;
 * no tool has run more often than it was called.  Then the act is played again, and its logits
 * must be those of the undisturbed one.
 *
 *   test_kill                        the short form: each kind of fault point and of call once
 *   test_kill soak KILLS EVERY SEED  KILLS at random, then EVERY n-th fault point and call
 */
#include "tests/fault/check.h"
#include "tests/fault/disk_log.h"

/* The session goes on as it is, an interrupted turn and all: with what the caches have, and with
 * nothing but the ledger, the same bits. */
static void check_twins(const stage *st) {
    k_asked a[2];
    for (int i = 0; i < 2; i++) {
        stage twin = *st;
        new_home(&twin);
        copy_home(st, &twin);
        if (i == 1) t_shell("rm -rf %s/cache", twin.state);
        cn_host    *h = open_stage(&twin);
        cn_session *s = find_session(h, &twin);
        a[i] = k_ask(h, s, "and now?", NULL);
        cn_session_close(s);
        cn_host_close(h);
        remove_home(&twin);
    }
    k_assert_same(&a[1], &a[0], "behind a death");
    figures.twins++;
}

/* ---- At a point ---------------------------------------------------------------------- */

/* One death in act i, and what follows.  False: it did not die, the act has no such point. */
static bool die_once(const reference *r, int i, const life *l, const char *what, bool has_twin) {
    stage st = r->stage;
    new_home(&st);
    copy_home(&r->before[i], &st);
    write_version(&st, i == 0 ? 1 : acts[i - 1].version);
    const told t = run(&st, l);
    t_note("act %d, %s: %s", i, what, t.call);
    if (t.is_dead) {
        figures.deaths++;
        figures.phase[t.phase]++;
        for (int k = 0; k < ACTS; k++) assert_true(t.hash[k] == 0 || t.hash[k] == r->hash[k]);
        if (has_twin && t.done < i) check_twins(&st);
        check_state(&st, r, t.done < i ? i - 1 : i, i);
    }
    remove_home(&st);
    return t.is_dead;
}

static reference plain, with_refs;

static int make_references(void **state) {
    (void)state;
    make_reference(&plain, false);
    make_reference(&with_refs, true);
    return 0;
}

static int drop_references(void **state) {
    (void)state;
    release_reference(&plain);
    release_reference(&with_refs);
    return 0;
}

/* Act i in peace, from where it begins; what it leaves is thrown away. */
static void play_once(const reference *r, int i, const life *l) {
    stage st = r->stage;
    new_home(&st);
    copy_home(&r->before[i], &st);
    write_version(&st, i == 0 ? 1 : acts[i - 1].version);
    const told t = run(&st, l);
    assert_int_equal(t.done, i);
    remove_home(&st);
}

/* A place where a process can die. */
typedef struct place {
    char name[96]; // of a fault point; or kind and file of a call
    int  act;
    long n; // in its act, from 1
    bool is_call, is_write;
    bool has_refs; // played by a model with refs
} place;

typedef struct places {
    place *at;
    long   count, room;
} places;

static void add_place(places *p, const place *one) {
    if (p->count == p->room) {
        p->room = 2 * p->room + 1024;
        p->at = realloc(p->at, (size_t)p->room * sizeof(*p->at));
        assert_non_null(p->at);
    }
    p->at[p->count++] = *one;
}

static const reference *reference_of(const place *p) {
    return p->has_refs ? &with_refs : &plain;
}

/* The fault points that act i passes. */
static void find_points(places *to, int i) {
    char  list[PATH_BYTES];
    place one = {.act = i, .has_refs = i % 2};
    snprintf(list, sizeof(list), "%s/points", t_tmp_dir());
    play_once(reference_of(&one), i, &(life){.first = i, .last = i, .points = list});
    FILE *f = fopen(list, "r");
    assert_non_null(f);
    while (fscanf(f, "%95s %*s", one.name) == 1) {
        one.n++;
        add_place(to, &one);
    }
    fclose(f);
    assert_true(one.n > 500); // else the points were compiled out
}

/* The calls by which it changes files, numbers in their names left out. */
static void find_calls(places *to, int i) {
    char        path[PATH_BYTES], name[DISK_NAME_BYTES];
    disk_record rec;
    place       one = {.act = i, .has_refs = i % 2 == 0, .is_call = true};
    snprintf(path, sizeof(path), "%s/calls", t_tmp_dir());
    unlink(path);
    play_once(reference_of(&one), i, &(life){.first = i, .last = i, .log = path});
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fread(&rec, sizeof(rec), 1, f) == 1) {
        assert_int_equal(fread(name, 1, rec.name_bytes, f), rec.name_bytes);
        name[rec.name_bytes] = 0;
        assert_int_equal(fseek(f, rec.data_bytes, SEEK_CUR), 0);
        if (rec.kind == DISK_TOLD) continue;
        one.n++;
        one.is_write = rec.kind == DISK_WRITE;
        snprintf(one.name, sizeof(one.name), "call %u %.*s", rec.kind,
                 (int)strcspn(name, "0123456789"), name);
        add_place(to, &one);
    }
    fclose(f);
    assert_true(one.n > 50);
}

static void die_at(const place *p) {
    const reference *r = reference_of(p);
    life             l = {.first = p->act, .last = p->act};
    char             when[32];
    if (!p->is_call) {
        snprintf(when, sizeof(when), "crash:%ld", p->n);
        l.fault = when;
        assert_true(die_once(r, p->act, &l, p->name, p->n % 16 == 0));
    }
    for (int half = 0; half < 2 && p->is_call; half++) { // before it; a write, also in its middle
        snprintf(when, sizeof(when), "%ld%s", p->n, half ? " half" : "");
        l.die = when;
        if (half && !p->is_write) continue;
        assert_true(die_once(r, p->act, &l, p->name, p->n % 16 == 0));
    }
}

/* Around each commit of an act that calls a tool which changes the world. */
static bool is_commit(const place *p) {
    return p->act == 2 && (strcmp(p->name, "store.ledger.committed") == 0 ||
                           strcmp(p->name, "store.pages.commit") == 0);
}

/* Points where only memory can fail leave the disk as those around them do. */
static bool is_of_memory(const place *p) {
    return strncmp(p->name, "engine.", 7) == 0 || strncmp(p->name, "base.b", 6) == 0 ||
           strncmp(p->name, "base.json.", 10) == 0;
}

/* The short form: one of those of each name, somewhere among them, and the commits. */
static void die_at_each_name(const places *p) {
    for (long i = 0; i < p->count; i++) {
        long same = 0, before = 0, wanted;
        if (is_of_memory(&p->at[i])) continue;
        for (long k = 0; k < p->count; k++) {
            if (strcmp(p->at[k].name, p->at[i].name) != 0) continue;
            same++;
            before += k < i;
        }
        wanted = (long)(cn_xxh3(p->at[i].name, strlen(p->at[i].name), 0) % (uint64_t)same);
        if (before == wanted || is_commit(&p->at[i])) die_at(&p->at[i]);
    }
}

static void test_dies_at_each_fault_point(void **state) {
    (void)state;
    places p = {.count = 0};
    for (int i = 0; i < ACTS; i++) find_points(&p, i);
    die_at_each_name(&p);
    print_message("  %ld points, %ld deaths, %ld of them in a turn\n", p.count, figures.deaths,
                  figures.interrupted);
    assert_true(figures.deaths > 45 && figures.interrupted > 5);
    free(p.at);
}

static void test_dies_in_each_call_of_the_disk(void **state) {
    (void)state;
    const long before = figures.deaths;
    places     p = {.count = 0};
    if (t_is_sanitized()) skip(); // a sanitizer must be loaded first
    for (int i = 0; i < ACTS; i += 2) find_calls(&p, i);
    die_at_each_name(&p);
    print_message("  %ld calls, %ld deaths\n", p.count, figures.deaths - before);
    assert_true(figures.deaths - before > 30);
    free(p.at);
}

/* ---- At any moment ------------------------------------------------------------------- */

static bool is_over(const actor *a) {
    siginfo_t info = {0};
    assert_int_equal(waitid(P_PID, (id_t)a->pid, &info, WEXITED | WNOHANG | WNOWAIT), 0);
    return info.si_pid != 0;
}

/* Kill it after a time, or some moments after it has entered a phase or step. */
static void kill_somewhere(actor *a, int64_t act_ns) {
    if (t_rand() % 2) {
        const long target = (long)t_rand_range(1, 80);
        while (atomic_load(&a->word->ticks) < target && !is_over(a))
            nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
        act_ns = 400000;
    }
    nanosleep(&(struct timespec){.tv_nsec = t_rand_range(0, act_ns)}, NULL);
    assert_int_equal(kill(a->pid, SIGKILL), 0);
}

/* Scripts, until so many actors were killed. */
static void kill_actors(long kills) {
    for (int round = 0; figures.kills < kills; round++) {
        const reference *r = round % 2 ? &with_refs : &plain;
        stage            st = r->stage;
        int              reported = -1;
        int64_t          act_ns = 60 * 1000000;
        write_version(&st, 1);
        new_home(&st);
        while (reported < ACTS - 1) {
            const int64_t begin = cn_clock_ns();
            actor         a = start(&st, &(life){.first = reported + 1, .last = ACTS - 1});
            const bool    is_spared = figures.kills >= kills;
            if (!is_spared) kill_somewhere(&a, act_ns);
            const told t = finish(&st, &a);
            t_note("round %d, killed in act %d, %s", round, reported + 1, phase_names[t.phase]);
            for (int i = 0; i < ACTS; i++) assert_true(t.hash[i] == 0 || t.hash[i] == r->hash[i]);
            if (t.done > reported) {
                act_ns = (cn_clock_ns() - begin) * 2 / (t.done - reported);
                reported = t.done;
            }
            if (act_ns > 900000000) act_ns = 900000000;
            if (t.is_dead) {
                figures.kills++;
                figures.phase[t.phase]++;
                if (reported < ACTS - 1 && figures.kills % 10 == 0) check_twins(&st);
            }
            check_state(&st, r, reported, -1);
        }
        remove_home(&st);
    }
}

static void test_killed_at_any_moment(void **state) {
    (void)state;
    t_seed(1);
    kill_actors(t_is_sanitized() ? 5 : 20);
}

/* ---- The long form ------------------------------------------------------------------- */

static long soak_kills, soak_every;

static void test_soak(void **state) {
    (void)state;
    const int64_t begin = cn_clock_ns();
    kill_actors(soak_kills);
    places p = {.count = 0};
    for (int i = 0; i < ACTS && soak_every; i++) {
        find_points(&p, i);
        if (!t_is_sanitized()) find_calls(&p, i);
    }
    for (long i = 0; i < p.count; i += soak_every) die_at(&p.at[i]);
    free(p.at);
    printf("soak: %ld kills, %ld deaths at points, %ld turns checked, %ld interrupted, %ld twins, "
           "%.1f minutes; by phase:",
           figures.kills, figures.deaths, figures.turns, figures.interrupted, figures.twins,
           (double)(cn_clock_ns() - begin) / 6e10);
    for (int k = 0; k < PHASES; k++) printf(" %s %ld", phase_names[k], figures.phase[k]);
    printf("\n");
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dies_at_each_fault_point),
        cmocka_unit_test(test_dies_in_each_call_of_the_disk),
        cmocka_unit_test(test_killed_at_any_moment),
    };
    const struct CMUnitTest soak[] = {cmocka_unit_test(test_soak)};
    if (argc == 8 && strcmp(argv[1], "--act") == 0) return act_main(argv);
    k_isa = t_isa();
    if (argc == 5 && strcmp(argv[1], "soak") == 0) {
        soak_kills = atol(argv[2]);
        soak_every = atol(argv[3]);
        t_seed((uint64_t)atoll(argv[4]));
        return cmocka_run_group_tests(soak, make_references, drop_references);
    }
    return cmocka_run_group_tests(tests, make_references, drop_references);
}
