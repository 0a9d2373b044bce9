#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

#include <sqlite3.h>
#include <sys/wait.h>

#include "jobs/account.h"
#include "runner/err.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])
#define NOW INT64_C(1795339820000)
#define DAY INT64_C(86400000)

struct world {
    char dir[SCRATCH_MAX];
    struct account_store *st;
};

static struct account_store *open_at(const char *dir)
{
    struct err e = {0};
    struct account_store *st = account_open(dir, &e);
    if (st == NULL)
        fail_msg("%s", e.text);
    return st;
}

static void world_open(struct world *w)
{
    scratch_make(w->dir);
    w->st = open_at(w->dir);
}

static void world_close(struct world *w)
{
    account_close(w->st);
    scratch_drop(w->dir);
}

/* ---- where ---- */

static void set_env(const char *name, const char *value)
{
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
}

static void it_lies_where_the_user_keeps_state(void **state)
{
    (void)state;
    static const struct {
        const char *xdg, *home;
        bool root;
        const char *want;
    } cases[] = {
        {"/srv/state", "/home/u", false, "/srv/state/nightmill"},
        {"/srv/state", "/home/u", true, "/srv/state/nightmill"},
        {NULL, "/home/u", false, "/home/u/.local/state/nightmill"},
        {"", "/home/u", false, "/home/u/.local/state/nightmill"},
        {"relative", "/home/u", false, "/home/u/.local/state/nightmill"},
        {NULL, "/root", true, "/var/lib/nightmill"},
        {NULL, NULL, true, "/var/lib/nightmill"},
    };
    char *was_xdg = getenv("XDG_STATE_HOME"), *was_home = getenv("HOME");
    bool root = geteuid() == 0;
    was_xdg = was_xdg ? strdup(was_xdg) : NULL;
    was_home = was_home ? strdup(was_home) : NULL;
    for (size_t i = 0; i < CASES(cases); i++) {
        char dir[200];
        if (cases[i].root && !root)
            continue;
        set_env("XDG_STATE_HOME", cases[i].xdg);
        set_env("HOME", cases[i].home);
        if (root && !cases[i].root)
            assert_int_equal(seteuid(65534), 0);
        int rc = account_dir(dir, sizeof dir, NULL);
        if (root)
            assert_int_equal(seteuid(0), 0);
        assert_int_equal(rc, 0);
        assert_string_equal(dir, cases[i].want);
    }
    set_env("XDG_STATE_HOME", was_xdg);
    set_env("HOME", was_home);
    free(was_xdg);
    free(was_home);
}

static void its_directories_are_made_and_private(void **state)
{
    (void)state;
    struct stat st;
    char dir[SCRATCH_MAX];
    scratch_make(dir);
    mode_t was = umask(0);
    account_close(open_at(scratch_path(dir, "a/b/nightmill")));
    umask(was);
    assert_int_equal(stat(scratch_path(dir, "a/b/nightmill"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_true(scratch_there(dir, "a/b/nightmill/account.db"));
    account_close(open_at(scratch_path(dir, "a/b/nightmill"))); /* again is fine */
    scratch_drop(dir);
}

static void a_place_that_cannot_be_is_an_error(void **state)
{
    (void)state;
    char dir[SCRATCH_MAX];
    struct err e = {0};
    scratch_make(dir);
    scratch_puts(dir, "file", "");
    assert_null(account_open(scratch_path(dir, "file/x"), &e));
    assert_int_equal(e.code, ERR_STORE);
    scratch_drop(dir);
    account_close(NULL);
}

/* ---- names ---- */

static void an_account_is_its_fingerprint_until_an_answer_names_it(void **state)
{
    (void)state;
    struct world w;
    char name[ACCOUNT_NAME_MAX];
    world_open(&w);
    assert_int_equal(account_name(w.st, "key-1", name, sizeof name, NULL), 0);
    assert_string_equal(name, "key-1");
    assert_int_equal(account_learn(w.st, "key-1", "org/workspace", NULL), 0);
    struct account_store *other = open_at(w.dir);
    account_name(other, "key-1", name, sizeof name, NULL);
    assert_string_equal(name, "org/workspace");
    account_name(other, "key-2", name, sizeof name, NULL);
    assert_string_equal(name, "key-2");
    account_learn(other, "key-1", "org/moved", NULL);
    account_name(w.st, "key-1", name, sizeof name, NULL);
    assert_string_equal(name, "org/moved");
    account_close(other);
    world_close(&w);
}

static int64_t ask_sql(const struct world *w, const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *q;
    int64_t n = -1;
    assert_int_equal(sqlite3_open(scratch_path(w->dir, "account.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &q, NULL), SQLITE_OK);
    if (sqlite3_step(q) == SQLITE_ROW)
        n = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    sqlite3_close(db);
    return n;
}

static void what_was_kept_under_the_fingerprint_is_kept_under_the_name(void **state)
{
    (void)state;
    struct world w;
    struct account_halt h = {.reason = "no credit", .says = "so", .at = 5, .until = 9};
    struct account_lane l = {
        .hold_until = NOW + 5000, .hold_span = 5000, .hold_why = "why", .rpm = 50};
    world_open(&w);
    account_halt_set(w.st, "key-1", &h, NULL);
    account_lane_set(w.st, "key-1", "opus-5.5", &l, NULL);
    account_bill(w.st, "key-1", "run-1", "2026-11-22",
                 &(struct account_row){.spent = 77}, NULL);
    assert_int_equal(account_learn(w.st, "key-1", "org", NULL), 0);

    h = (struct account_halt){0};
    l = (struct account_lane){0};
    assert_int_equal(account_halt(w.st, "key-1", &h, NULL), 0);
    assert_int_equal(account_halt(w.st, "org", &h, NULL), 1);
    assert_string_equal(h.reason, "no credit");
    assert_int_equal(account_lane(w.st, "key-1", "opus-5.5", NOW, &l, NULL), 0);
    assert_int_equal(account_lane(w.st, "org", "opus-5.5", NOW, &l, NULL), 1);
    assert_int_equal(l.rpm, 50);
    assert_int_equal(ask_sql(&w, "SELECT SUM(spent) FROM bill WHERE account = 'org'"),
                     77);
    assert_int_equal(account_learn(w.st, "key-1", "org", NULL), 0); /* each answer */
    assert_int_equal(account_halt(w.st, "org", &h, NULL), 1);
    world_close(&w);
}

/* ---- halts ---- */

static void a_halt_stands_until_it_is_cleared(void **state)
{
    (void)state;
    struct world w;
    struct account_halt h = {.reason = "spend limit",
                             .says = "access returns",
                             .at = NOW,
                             .until = NOW + DAY};
    struct account_halt got = {0};
    world_open(&w);
    assert_int_equal(account_halt(w.st, "org", &got, NULL), 0);
    assert_int_equal(account_halt_set(w.st, "org", &h, NULL), 0);
    struct account_store *other = open_at(w.dir);
    assert_int_equal(account_halt(other, "org", &got, NULL), 1);
    assert_string_equal(got.reason, "spend limit");
    assert_string_equal(got.says, "access returns");
    assert_int_equal(got.at, NOW);
    assert_int_equal(got.until, NOW + DAY);
    assert_int_equal(account_halt(other, "another", &got, NULL), 0);

    strcpy(h.reason, "no credit"); /* a newer one takes its place */
    account_halt_set(other, "org", &h, NULL);
    assert_int_equal(account_halt(w.st, "org", &got, NULL), 1);
    assert_string_equal(got.reason, "no credit");
    assert_int_equal(account_halt_clear(w.st, "org", NULL), 0);
    assert_int_equal(account_halt(other, "org", &got, NULL), 0);
    assert_int_equal(account_halt_clear(w.st, "org", NULL), 0);
    account_close(other);
    world_close(&w);
}

static void the_longest_sentence_is_kept_whole(void **state)
{
    (void)state;
    struct world w;
    struct account_halt h = {.at = 1}, got;
    memset(h.reason, 'r', sizeof h.reason - 1);
    memset(h.says, 's', sizeof h.says - 1);
    world_open(&w);
    account_halt_set(w.st, "org", &h, NULL);
    assert_int_equal(account_halt(w.st, "org", &got, NULL), 1);
    assert_string_equal(got.reason, h.reason);
    assert_string_equal(got.says, h.says);
    world_close(&w);
}

/* ---- lanes ---- */

static void a_hold_is_never_longer_than_it_was_meant(void **state)
{
    (void)state;
    static const struct {
        int64_t now, until, span; /* from NOW */
    } cases[] = {
        {0, 10000, 10000},                       /* as it was said */
        {4000, 10000, 10000},                    /* some of it is over */
        {9999, 10000, 10000},                    /* the last moment */
        {10000, 0, 0},                           /* over */
        {400 * DAY, 0, 0},                       /* long over */
        {-1000, 9000, 10000},                    /* the clock went back by a second */
        {-400 * DAY, -400 * DAY + 10000, 10000}, /* or by a year */
    };
    struct world w;
    struct account_lane l = {.hold_until = NOW + 10000,
                             .hold_span = 10000,
                             .hold_why = "rate limited",
                             .rpm = 50,
                             .itpm = 30000,
                             .otpm = 8000};
    world_open(&w);
    assert_int_equal(account_lane_set(w.st, "org", "opus-5.5", &l, NULL), 0);
    for (size_t i = 0; i < CASES(cases); i++) {
        struct account_lane got;
        int64_t now = NOW + cases[i].now;
        assert_int_equal(account_lane(w.st, "org", "opus-5.5", now, &got, NULL), 1);
        assert_int_equal(got.hold_until, cases[i].span ? NOW + cases[i].until : 0);
        assert_int_equal(got.hold_span, cases[i].span);
        assert_string_equal(got.hold_why, "rate limited");
        assert_int_equal(got.rpm, 50); /* limits outlive holds */
        assert_int_equal(got.itpm, 30000);
        assert_int_equal(got.otpm, 8000);
    }
    world_close(&w);
}

static void lanes_and_accounts_are_told_apart(void **state)
{
    (void)state;
    struct world w;
    struct account_lane l = {.rpm = 1}, got = {.rpm = 99};
    world_open(&w);
    account_lane_set(w.st, "org", "opus-5.5", &l, NULL);
    assert_int_equal(account_lane(w.st, "org", "sonnet-5.5", NOW, &got, NULL), 0);
    assert_int_equal(got.rpm, 0);
    assert_int_equal(account_lane(w.st, "other", "opus-5.5", NOW, &got, NULL), 0);
    l.rpm = 2;
    account_lane_set(w.st, "org", "opus-5.5", &l, NULL);
    assert_int_equal(account_lane(w.st, "org", "opus-5.5", NOW, &got, NULL), 1);
    assert_int_equal(got.rpm, 2);
    world_close(&w);
}

/* ---- the bill ---- */

static void a_runs_bill_is_replaced_and_not_added(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    account_bill(w.st, "org", "run-1", "2026-11-22",
                 &(struct account_row){.spent = 100}, NULL);
    account_bill(w.st, "org", "run-1", "2026-11-22",
                 &(struct account_row){.spent = 250}, NULL);
    account_bill(w.st, "org", "run-1", "2026-11-22",
                 &(struct account_row){.spent = 250}, NULL);
    account_bill(w.st, "org", "run-1", "2026-11-23", &(struct account_row){.spent = 30},
                 NULL);
    account_bill(w.st, "org", "run-2", "2026-11-22", &(struct account_row){.spent = 7},
                 NULL);
    account_bill(w.st, "other", "run-1", "2026-11-22",
                 &(struct account_row){.spent = 1000}, NULL);
    assert_int_equal(ask_sql(&w, "SELECT SUM(spent) FROM bill WHERE account = 'org'"),
                     287);
    assert_int_equal(ask_sql(&w, "SELECT SUM(spent) FROM bill WHERE account = 'org' AND"
                                 " day = '2026-11-22'"),
                     257);
    world_close(&w);
}

/* ---- the probe ---- */

static void one_probe_at_a_time_among_all_runners(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    struct account_store *other = open_at(w.dir);
    assert_int_equal(account_probe_begin(w.st, "org/a", NULL), 1);
    assert_int_equal(account_probe_begin(w.st, "org/a", NULL), 1); /* ours already */
    assert_int_equal(account_probe_begin(other, "org/a", NULL), 0);
    assert_int_equal(account_probe_begin(other, "org/b", NULL), 1);
    account_probe_end(other);
    account_probe_end(w.st);
    account_probe_end(w.st);
    assert_int_equal(account_probe_begin(other, "org/a", NULL), 1);
    account_close(other); /* lets it go */
    assert_int_equal(account_probe_begin(w.st, "org/a", NULL), 1);
    world_close(&w);
}

static void a_probe_dies_with_its_process(void **state)
{
    (void)state;
    struct world w;
    int told[2], die[2];
    char c = 0;
    world_open(&w);
    assert_int_equal(pipe(told), 0);
    assert_int_equal(pipe(die), 0);
    pid_t child = fork();
    if (child == 0) {
        struct account_store *st = account_open(w.dir, NULL);
        c = st && account_probe_begin(st, "org", NULL) == 1 ? 'y' : 'n';
        close(die[1]);
        _exit(write(told[1], &c, 1) == 1 && read(die[0], &c, 1) == 0 ? 0 : 1);
    }
    assert_int_equal(read(told[0], &c, 1), 1);
    assert_int_equal(c, 'y');
    assert_int_equal(account_probe_begin(w.st, "org", NULL), 0);
    close(die[1]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(account_probe_begin(w.st, "org", NULL), 1);
    close(told[0]);
    close(told[1]);
    close(die[0]);
    world_close(&w);
}

/* An account's name comes from an answer: it must not lead out of the directory. */
static void no_name_leads_out_of_the_directory(void **state)
{
    (void)state;
    struct world w;
    char dir[PATH_MAX];
    scratch_make(w.dir);
    snprintf(dir, sizeof dir, "%s/inner", w.dir);
    w.st = open_at(dir);
    assert_int_equal(account_probe_begin(w.st, "/../../x", NULL), 1);
    assert_false(scratch_there(w.dir, "x"));
    assert_true(scratch_there(dir, "probe-_.._.._x"));
    world_close(&w);
}

/* As when cron starts twenty queues in one second, on a machine that has no store yet. */
static void many_may_open_it_at_once_for_the_first_time(void **state)
{
    (void)state;
    enum { MANY = 20, ROUNDS = 5 };
    for (int round = 0; round < ROUNDS; round++) {
        char dir[SCRATCH_MAX];
        int go[2], bad = 0;
        pid_t pid[MANY];
        scratch_make(dir);
        assert_int_equal(pipe(go), 0);
        for (int i = 0; i < MANY; i++) {
            pid[i] = fork();
            assert_true(pid[i] >= 0);
            if (pid[i] > 0)
                continue;
            char c;
            struct err e = {0};
            close(go[1]);
            if (read(go[0], &c, 1) != 0) /* until the parent closes it */
                _exit(2);
            struct account_store *st = account_open(dir, &e);
            int rc = st && account_bill(st, "org", "run", "2026-11-22",
                                        &(struct account_row){.spent = i}, &e) == 0;
            account_close(st);
            _exit(rc ? 0 : 1);
        }
        close(go[0]);
        close(go[1]);
        for (int i = 0; i < MANY; i++) {
            int status;
            assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
            bad += status != 0;
        }
        assert_int_equal(bad, 0);
        scratch_drop(dir);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_lies_where_the_user_keeps_state),
        cmocka_unit_test(its_directories_are_made_and_private),
        cmocka_unit_test(a_place_that_cannot_be_is_an_error),
        cmocka_unit_test(an_account_is_its_fingerprint_until_an_answer_names_it),
        cmocka_unit_test(what_was_kept_under_the_fingerprint_is_kept_under_the_name),
        cmocka_unit_test(a_halt_stands_until_it_is_cleared),
        cmocka_unit_test(the_longest_sentence_is_kept_whole),
        cmocka_unit_test(a_hold_is_never_longer_than_it_was_meant),
        cmocka_unit_test(lanes_and_accounts_are_told_apart),
        cmocka_unit_test(a_runs_bill_is_replaced_and_not_added),
        cmocka_unit_test(one_probe_at_a_time_among_all_runners),
        cmocka_unit_test(a_probe_dies_with_its_process),
        cmocka_unit_test(no_name_leads_out_of_the_directory),
        cmocka_unit_test(many_may_open_it_at_once_for_the_first_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
