#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

#include <errno.h>
#include <sqlite3.h>

#include "jobs/store.h"
#include "jobs/textbuf.h"
#include "runner/err.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])

enum { SPECS = 64 };
#define NOW INT64_C(1795339820000)

struct world {
    char dir[SCRATCH_MAX];
    struct store *st;
    struct moves m;
    struct job_spec specs[SPECS]; /* what moves borrow until they are applied */
    size_t specs_len;
};

static void world_reopen(struct world *w)
{
    struct err e = {0};
    store_close(w->st);
    if ((w->st = store_open(w->dir, STORE_RUN, false, &e)) == NULL)
        fail_msg("%s", e.text);
}

static void world_open(struct world *w)
{
    *w = (struct world){0};
    scratch_make(w->dir);
    moves_init(&w->m);
    world_reopen(w);
}

static void world_close(struct world *w)
{
    store_close(w->st);
    moves_free(&w->m);
    scratch_drop(w->dir);
}

static struct move *add(struct world *w, enum move_kind kind)
{
    struct move *v = moves_add(&w->m, kind);
    assert_non_null(v);
    v->now = NOW;
    return v;
}

static void apply(struct world *w)
{
    struct err e = {0};
    if (store_apply(w->st, &w->m, NULL, &e) < 0)
        fail_msg("%s", e.text);
    moves_free(&w->m);
    w->specs_len = 0;
}

/* ---- taking in ---- */

static void digest_of(const char *text, unsigned char *to)
{
    uint64_t h = 14695981039346656037u;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 1099511628211u;
    for (int i = 0; i < DIGEST_BYTES; i++, h = h * 6364136223846793005u + 1)
        to[i] = (unsigned char)(h >> 32);
}

static struct move *source(struct world *w, int64_t id, const char *path, bool bulk)
{
    struct move *v = add(w, MOVE_SOURCE);
    v->source = id;
    v->name = path;
    v->count = bulk;
    return v;
}

/* `body` NULL: it could not be read as a job. */
static struct move *job(struct world *w, int64_t src, int64_t scan, const char *name,
                        const char *body)
{
    struct move *v = add(w, MOVE_TAKE_IN);
    v->source = src;
    v->name = name;
    v->in.path = "file.txt";
    v->in.scan = scan;
    v->in.line = 1;
    v->in.lane = "lane";
    digest_of(body ? body : "", v->in.digest);
    if (body == NULL) {
        v->text = "1: not a job";
        return v;
    }
    assert_true(w->specs_len < SPECS);
    struct job_spec *s = &w->specs[w->specs_len++];
    *s = (struct job_spec){.body = (char *)body, .body_len = strlen(body)};
    v->in.spec = s;
    return v;
}

static void source_end(struct world *w, int64_t id, int64_t scan, const char *stamp)
{
    struct move *v = add(w, MOVE_SOURCE_END);
    v->source = id;
    v->text = stamp;
    v->in.scan = scan;
    v->gone = true;
}

/* Take in one job of a source, whole. */
static enum taken take(struct world *w, int64_t src, const char *path, int64_t scan,
                       const char *name, const char *body)
{
    source(w, src, path, false);
    struct move *v = job(w, src, scan, name, body);
    source_end(w, src, scan, "stamp");
    struct err e = {0};
    if (store_apply(w->st, &w->m, NULL, &e) < 0)
        fail_msg("%s", e.text);
    enum taken taken = v->in.taken;
    moves_free(&w->m);
    w->specs_len = 0;
    return taken;
}

static struct store_job find(struct world *w, const char *name)
{
    struct store_job j;
    struct err e = {0};
    int found = store_find(w->st, name, &j, &e);
    if (found != 1)
        fail_msg("%s: %d %s", name, found, e.text);
    return j;
}

static bool known(struct world *w, const char *name)
{
    struct store_job j;
    return store_find(w->st, name, &j, NULL) == 1;
}

static struct store_totals totals(struct world *w)
{
    struct store_totals t;
    assert_int_equal(store_totals(w->st, &t, NULL), 0);
    return t;
}

/* ---- sending ---- */

static void run_begin(struct world *w, int64_t run, int64_t first_attempt)
{
    struct move *v = add(w, MOVE_RUN_BEGIN);
    v->run = run;
    v->attempt = first_attempt;
    apply(w);
}

static struct move *admit(struct world *w, const char *name, int64_t attempt)
{
    struct store_job j = find(w, name);
    struct move *v = add(w, MOVE_ADMIT);
    v->job = j.id;
    v->count = j.revision;
    v->attempt = attempt;
    v->run = 1;
    v->text = "the default tier";
    v->at.lane = "lane";
    v->at.tier = "standard";
    v->at.model = "claude-sonnet-5-5";
    v->at.attempts = j.attempts + 1;
    v->at.worst = 900;
    return v;
}

static struct move *settle(struct world *w, const char *name, int64_t attempt,
                           enum job_state to, enum job_outcome outcome)
{
    struct move *v = add(w, MOVE_SETTLE);
    v->job = find(w, name).id;
    v->attempt = attempt;
    v->from = JOB_IN_FLIGHT;
    v->to = to;
    v->outcome = outcome;
    v->at.state = ATTEMPT_ANSWERED;
    v->at.attempts = 1;
    v->length = find(w, name).bytes;
    v->started = NOW;
    return v;
}

static void send(struct world *w, const char *name, int64_t attempt)
{
    admit(w, name, attempt);
    apply(w);
}

static void finish(struct world *w, const char *name, int64_t attempt)
{
    send(w, name, attempt);
    struct move *v = settle(w, name, attempt, JOB_DONE, OUTCOME_ACCEPTED);
    v->at.message = "{}";
    v->at.message_len = 2;
    apply(w);
}

/* Rows as words, so that a list is compared at once: "a b c " */
struct list {
    char words[4000];
};

static int on_job(void *arg, const struct store_job *j)
{
    struct list *l = arg;
    size_t n = strlen(l->words);
    snprintf(l->words + n, sizeof l->words - n, "%s ", j->name);
    return 0;
}

static int on_job_and_body(void *arg, const struct store_job *j)
{
    struct list *l = arg;
    size_t n = strlen(l->words);
    snprintf(l->words + n, sizeof l->words - n, "%s=%.*s ", j->name, (int)j->body_len,
             j->body ? j->body : "");
    return 0;
}

static void assert_ready(struct world *w, const char *lane, const char *want)
{
    struct list l = {""};
    assert_int_equal(store_ready(w->st, lane, 100, NULL, on_job, &l, NULL), 0);
    assert_string_equal(l.words, want);
}

static int on_result(void *arg, const struct store_result *r)
{
    return on_job(arg, &r->job);
}

static void assert_results(struct world *w, int64_t seq, int64_t src, const char *want)
{
    struct list l = {""};
    assert_int_equal(store_each_result(w->st, seq, src, on_result, &l, NULL), 0);
    assert_string_equal(l.words, want);
}

/* Straight at the file, for what the store does not tell. */
static int64_t ask_sql(struct world *w, const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *q;
    int64_t n = -1;
    assert_int_equal(sqlite3_open(scratch_path(w->dir, "queue.db"), &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &q, NULL), SQLITE_OK);
    if (sqlite3_step(q) == SQLITE_ROW)
        n = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    sqlite3_close(db);
    return n;
}

/* ---- opening ---- */

static void what_was_stored_is_there_the_next_time(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    take(&w, 1, "a.md", 1, "a", "body");
    world_reopen(&w);
    assert_int_equal(find(&w, "a").state, JOB_QUEUED);
    assert_int_equal(totals(&w).next_source, 2);
    world_close(&w);
}

static void a_store_of_a_newer_nightmill_is_refused_by_both_uses(void **state)
{
    (void)state;
    struct world w;
    struct err e = {0};
    world_open(&w);
    take(&w, 1, "a.md", 1, "a", "body");
    int64_t version = ask_sql(&w, "PRAGMA user_version");
    assert_true(version >= 1);
    ask_sql(&w, "PRAGMA user_version = 99");
    assert_null(store_open(w.dir, STORE_RUN, false, &e));
    char want[200];
    snprintf(want, sizeof want,
             "the store is of a newer nightmill (version 99, this one knows %d)",
             (int)version);
    assert_int_equal(e.code, ERR_STORE);
    assert_string_equal(e.text, want);
    e = (struct err){0};
    assert_null(store_open(w.dir, STORE_ASK, false, &e));
    assert_string_equal(e.text, "the store is of another version of nightmill; "
                                "`nightmill run` brings it up to date");
    assert_int_equal(ask_sql(&w, "SELECT COUNT(*) FROM job"), 1);
    world_close(&w);
}

static void a_store_that_was_never_set_up_is_set_up_by_a_run_alone(void **state)
{
    (void)state;
    struct world w;
    struct err e = {0};
    world_open(&w);
    store_close(w.st);
    w.st = NULL;
    unlink(scratch_path(w.dir, "queue.db"));
    assert_null(store_open(w.dir, STORE_ASK, false, &e));
    assert_int_equal(e.code, ERR_STORE);
    assert_false(scratch_there(w.dir, "queue.db"));

    scratch_puts(w.dir, "queue.db", ""); /* an empty file is a store of version 0 */
    e = (struct err){0};
    assert_null(store_open(w.dir, STORE_ASK, false, &e));
    world_reopen(&w);
    take(&w, 1, "a.md", 1, "a", "body");
    world_close(&w);
}

static void what_is_no_store_is_refused(void **state)
{
    (void)state;
    struct err e = {0};
    char dir[SCRATCH_MAX];
    scratch_make(dir);
    scratch_puts(dir, "queue.db",
                 "this is a text, and a long one at that, not a store");
    assert_null(store_open(dir, STORE_RUN, false, &e));
    assert_int_equal(e.code, ERR_STORE);
    scratch_equals(dir, "queue.db",
                   "this is a text, and a long one at that, not a store");
    scratch_drop(dir);
    e = (struct err){0};
    assert_null(store_open("/nowhere/at/all", STORE_RUN, false, &e));
    assert_int_equal(e.code, ERR_STORE);
    store_close(NULL);
}

/* ---- taking in ---- */

static void a_new_job_is_queued_as_its_file_says(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    source(&w, 7, "mail.jsonl", true);
    struct move *v = job(&w, 7, 1, "mail#3", "\"messages\":[]");
    w.specs[0].priority = 5;
    w.specs[0].max_tokens = 100;
    w.specs[0].asks = ASKS_MAX_TOKENS | ASKS_TOOLS;
    w.specs[0].tier = (char *)"deep";
    w.specs[0].model = (char *)"auto";
    w.specs[0].effort = (char *)"low";
    w.specs[0].tags = (char *)"a,b";
    v->in.line = 3;
    v->in.custom_id = "3";
    apply(&w);
    struct store_job j = find(&w, "mail#3");
    assert_int_equal(j.state, JOB_QUEUED);
    assert_int_equal(j.outcome, OUTCOME_NONE);
    assert_int_equal(j.source, 7);
    assert_int_equal(j.revision, 1);
    assert_int_equal(j.line, 3);
    assert_int_equal(j.priority, 5);
    assert_int_equal(j.max_tokens, 100);
    assert_int_equal(j.asks, ASKS_MAX_TOKENS | ASKS_TOOLS);
    assert_int_equal(j.bytes, 13);
    assert_int_equal(j.seq, 0);
    assert_int_equal(j.rests, 0);
    assert_true(j.bulk);
    assert_string_equal(j.custom_id, "3");
    assert_string_equal(j.tier, "deep");
    assert_string_equal(j.model, "auto");
    assert_string_equal(j.effort, "low");
    assert_string_equal(j.tags, "a,b");
    assert_string_equal(j.lane, "lane");
    assert_string_equal(j.path, "mail.jsonl");
    struct list l = {""};
    store_ready(w.st, "lane", 9, NULL, on_job_and_body, &l, NULL);
    assert_string_equal(l.words, "mail#3=\"messages\":[] ");
    world_close(&w);
}

static void what_is_no_job_fails_as_invalid_and_has_a_result(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    assert_int_equal(take(&w, 1, "a.md", 1, "a", NULL), TAKEN_NEW);
    struct store_job j = find(&w, "a");
    assert_int_equal(j.state, JOB_FAILED);
    assert_int_equal(j.outcome, OUTCOME_INVALID);
    assert_string_equal(j.says, "1: not a job");
    assert_int_equal(j.finished_at, NOW);
    assert_int_equal(j.seq, 1);
    assert_results(&w, 0, 0, "a ");
    assert_int_equal(totals(&w).invalid, 1);
    world_close(&w);
}

static void the_same_words_again_are_known(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    take(&w, 1, "a.md", 1, "a", "body");
    run_begin(&w, 1, 1);
    finish(&w, "a", 1);
    assert_int_equal(take(&w, 1, "a.md", 2, "a", "body"), TAKEN_KNOWN);
    assert_int_equal(find(&w, "a").state, JOB_DONE); /* done stays done */
    assert_int_equal(find(&w, "a").revision, 1);
    assert_false(find(&w, "a").gone);
    world_close(&w);
}

static void new_words_of_a_waiting_job_are_a_new_revision(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    take(&w, 1, "a.md", 1, "a", "old");
    run_begin(&w, 1, 1);
    send(&w, "a", 1);
    struct move *v = settle(&w, "a", 1, JOB_QUEUED, OUTCOME_NONE);
    v->ready_at = NOW + 5000;
    v->ready_span = 5000;
    v->at.attempts = 3;
    v->at.silent = 1;
    v->text = "busy";
    apply(&w);
    assert_int_equal(take(&w, 1, "a.md", 2, "a", "new"), TAKEN_CHANGED);
    struct store_job j = find(&w, "a");
    assert_int_equal(j.revision, 2);
    assert_int_equal(j.attempts, 0);
    assert_int_equal(j.silent, 0);
    assert_int_equal(j.ready_at, 0);
    assert_null(j.says);
    struct list l = {""};
    store_ready(w.st, "lane", 9, NULL, on_job_and_body, &l, NULL);
    assert_string_equal(l.words, "a=new ");
    world_close(&w);
}

static void an_invalid_job_that_was_mended_is_queued(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    take(&w, 1, "a.md", 1, "a", NULL);
    assert_int_equal(take(&w, 1, "a.md", 2, "a", "mended"), TAKEN_CHANGED);
    assert_int_equal(find(&w, "a").state, JOB_QUEUED);
    assert_int_equal(totals(&w).invalid, 0);
    assert_int_equal(take(&w, 1, "a.md", 3, "a", NULL), TAKEN_CHANGED);
    assert_int_equal(find(&w, "a").state, JOB_FAILED);
    assert_int_equal(find(&w, "a").outcome, OUTCOME_INVALID);
    assert_int_equal(find(&w, "a").rests, 2); /* its earlier result must be replaced */
    assert_ready(&w, "lane", "");
    world_close(&w);
}

static void new_words_of_a_done_job_wait_for_consent(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    take(&w, 1, "a.md", 1, "a", "old");
    run_begin(&w, 1, 1);
    finish(&w, "a", 1);
    assert_int_equal(take(&w, 1, "a.md", 2, "a", "new"), TAKEN_STAGED);
    assert_int_equal(find(&w, "a").state, JOB_DONE);
    assert_int_equal(find(&w, "a").revision, 1);
    assert_int_equal(totals(&w).staged, 1);
    assert_ready(&w, "lane", "");
    assert_results(&w, 0, 0, "a ");

    struct move *v = add(&w, MOVE_REVISE);
    assert_int_equal(store_apply(w.st, &w.m, NULL, NULL), 0);
    assert_int_equal(v->changed, 1);
    moves_free(&w.m);
    assert_int_equal(find(&w, "a").state, JOB_QUEUED);
    assert_int_equal(find(&w, "a").revision, 2);
    assert_int_equal(totals(&w).staged, 0);
    struct list l = {""};
    store_ready(w.st, "lane", 9, NULL, on_job_and_body, &l, NULL);
    assert_string_equal(l.words, "a=new ");
    assert_int_equal(take(&w, 1, "a.md", 3, "a", "new"), TAKEN_KNOWN);
    world_close(&w);
}

static void without_consent_the_source_is_read_again_next_time(void **state)
{
    (void)state;
    struct world w;
    struct store_source s;
    world_open(&w);
    take(&w, 1, "a.md", 1, "a", "old");
    take(&w, 2, "b.md", 1, "b", "same");
    run_begin(&w, 1, 1);
    finish(&w, "a", 1);
    take(&w, 1, "a.md", 2, "a", "new");
    add(&w, MOVE_UNSTAGE);
    apply(&w);
    assert_int_equal(totals(&w).staged, 0);
    assert_int_equal(find(&w, "a").state, JOB_DONE);
    assert_int_equal(store_source(w.st, "a.md", &s, NULL), 1);
    assert_false(s.whole);
    assert_string_equal(s.stamp, "");
    assert_int_equal(store_source(w.st, "b.md", &s, NULL), 1);
    assert_true(s.whole);
    assert_string_equal(s.stamp, "stamp");
    assert_int_equal(take(&w, 1, "a.md", 3, "a", "new"), TAKEN_STAGED);
    world_close(&w);
}

static void a_staged_revision_that_is_taken_back_is_forgotten(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    take(&w, 1, "a.md", 1, "a", "old");
    run_begin(&w, 1, 1);
    finish(&w, "a", 1);
    assert_int_equal(take(&w, 1, "a.md", 2, "a", "new"), TAKEN_STAGED);
    assert_int_equal(take(&w, 1, "a.md", 3, "a", "old"), TAKEN_KNOWN);
    add(&w, MOVE_REVISE);
    apply(&w);
    assert_int_equal(find(&w, "a").state, JOB_DONE);
    world_close(&w);
}

static void new_words_of_a_job_in_flight_wait_for_its_ending(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    take(&w, 1, "a.md", 1, "a", "old");
    run_begin(&w, 1, 1);
    send(&w, "a", 1);
    assert_int_equal(take(&w, 1, "a.md", 2, "a", "new"), TAKEN_STAGED);
    struct move *v = add(&w, MOVE_REVISE);
    assert_int_equal(store_apply(w.st, &w.m, NULL, NULL), 0);
    assert_int_equal(v->changed, 0);
    moves_free(&w.m);
    assert_int_equal(find(&w, "a").state, JOB_IN_FLIGHT);
    settle(&w, "a", 1, JOB_DONE, OUTCOME_ACCEPTED);
    apply(&w);
    add(&w, MOVE_REVISE);
    apply(&w);
    assert_int_equal(find(&w, "a").state, JOB_QUEUED);
    assert_int_equal(find(&w, "a").revision, 2);
    world_close(&w);
}

static void staged_revisions_come_by_the_hundreds(void **state)
{
    (void)state;
    enum { JOBS = 1201 };
    static char names[JOBS][12];
    struct world w;
    world_open(&w);
    run_begin(&w, 1, 1);
    for (int round = 0; round < 2; round++) {
        source(&w, 1, "b.jsonl", true);
        for (int i = 0; i < JOBS; i++) {
            snprintf(names[i], sizeof names[i], "b#%d", i);
            w.specs_len = 0; /* one spec serves all */
            job(&w, 1, round + 1, names[i], round ? "new" : "old");
        }
        apply(&w);
        if (round == 0) {
            for (int i = 0; i < JOBS; i++)
                admit(&w, names[i], i + 1);
            apply(&w);
            for (int i = 0; i < JOBS; i++)
                settle(&w, names[i], i + 1, JOB_DONE, OUTCOME_ACCEPTED);
            apply(&w);
        }
    }
    static const int64_t want[] = {500, 500, 201, 0};
    assert_int_equal(totals(&w).staged, JOBS);
    for (size_t i = 0; i < CASES(want); i++) {
        struct move *v = add(&w, MOVE_REVISE);
        assert_int_equal(store_apply(w.st, &w.m, NULL, NULL), 0);
        assert_int_equal(v->changed, want[i]);
        moves_free(&w.m);
    }
    assert_int_equal(totals(&w).jobs[JOB_QUEUED], JOBS);
    world_close(&w);
}

static void a_name_seen_twice_in_a_scan_is_invalid_in_a_row_of_its_own(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    for (int scan = 1; scan <= 2; scan++) {
        source(&w, 1, "b.jsonl", true);
        struct move *first = job(&w, 1, scan, "b#x", "one");
        struct move *second = job(&w, 1, scan, "b#x", "two");
        struct move *third = job(&w, 1, scan, "b#x", "one");
        second->in.line = 2;
        third->in.line = 3;
        source_end(&w, 1, scan, "stamp");
        assert_int_equal(store_apply(w.st, &w.m, NULL, NULL), 0);
        assert_int_equal(first->in.taken, scan == 1 ? TAKEN_NEW : TAKEN_KNOWN);
        assert_int_equal(second->in.taken, TAKEN_DUPLICATE);
        assert_int_equal(third->in.taken, TAKEN_DUPLICATE);
        moves_free(&w.m);
        w.specs_len = 0;
        assert_int_equal(find(&w, "b#x").state, JOB_QUEUED);
        assert_int_equal(find(&w, "b#x~2").outcome, OUTCOME_INVALID);
        assert_string_equal(
            find(&w, "b#x~2").says,
            "file.txt:2: the name b#x is taken by an earlier job; want another");
        assert_int_equal(find(&w, "b#x~3").outcome, OUTCOME_INVALID);
        assert_false(find(&w, "b#x~3").gone);
        assert_int_equal(totals(&w).known, 3);
    }
    world_close(&w);
}

static void a_name_of_another_source_is_taken_while_that_lives(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    take(&w, 1, "a.md", 1, "a", "md");
    source(&w, 2, "a.txt", false);
    struct move *v = job(&w, 2, 1, "a", "txt");
    v->in.other_name = "a.txt";
    source_end(&w, 2, 1, "stamp");
    assert_int_equal(store_apply(w.st, &w.m, NULL, NULL), 0);
    assert_int_equal(v->in.taken, TAKEN_DUPLICATE);
    moves_free(&w.m);
    assert_int_equal(find(&w, "a.txt").outcome, OUTCOME_INVALID);
    assert_int_equal(find(&w, "a").source, 1);

    /* a.md goes away: a.txt is the job now, and its invalid row is gone */
    v = add(&w, MOVE_SOURCE_GONE);
    v->source = 1;
    apply(&w);
    assert_int_equal(take(&w, 2, "a.txt", 2, "a", "txt"), TAKEN_CHANGED);
    assert_int_equal(find(&w, "a").source, 2);
    assert_false(find(&w, "a").gone);
    assert_true(find(&w, "a.txt").gone);
    world_close(&w);
}

static void a_job_that_moved_with_its_words_stays_done(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    take(&w, 1, "a.md", 1, "a", "same");
    run_begin(&w, 1, 1);
    finish(&w, "a", 1);
    struct move *v = add(&w, MOVE_SOURCE_GONE);
    v->source = 1;
    apply(&w);
    assert_int_equal(take(&w, 2, "a.txt", 2, "a", "same"), TAKEN_KNOWN);
    assert_int_equal(find(&w, "a").state, JOB_DONE);
    assert_int_equal(find(&w, "a").source, 2);
    assert_string_equal(find(&w, "a").path, "a.txt");
    world_close(&w);
}

static void lines_without_a_name_are_counted_by_their_words(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    /* the second scan has one line more, in front: it disturbs no other */
    static const char *const scans[][5] = {{"x", "y", "x", "x"},
                                           {"z", "x", "y", "x", "x"}};
    for (int scan = 0; scan < 2; scan++) {
        source(&w, 1, "b.jsonl", true);
        for (int i = 0; i < 5 && scans[scan][i]; i++) {
            static const char *const names[] = {"b#x", "b#y", "b#z"};
            job(&w, 1, scan + 1, names[scans[scan][i][0] - 'x'], scans[scan][i])
                ->in.by_digest = true;
        }
        source_end(&w, 1, scan + 1, "stamp");
        assert_int_equal(store_apply(w.st, &w.m, NULL, NULL), 0);
        for (struct move *v = w.m.first; v; v = v->next)
            if (v->kind == MOVE_TAKE_IN)
                assert_int_equal(v->in.taken, scan == 0 || v->name[2] == 'z'
                                                  ? TAKEN_NEW
                                                  : TAKEN_KNOWN);
        moves_free(&w.m);
        w.specs_len = 0;
    }
    assert_true(known(&w, "b#x") && known(&w, "b#x~2") && known(&w, "b#x~3"));
    assert_true(known(&w, "b#y") && known(&w, "b#z"));
    assert_false(known(&w, "b#x~4"));
    assert_int_equal(totals(&w).known, 5);
    assert_int_equal(totals(&w).gone, 0);
    world_close(&w);
}

static void what_a_whole_scan_did_not_see_is_gone_and_may_come_back(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    source(&w, 1, "b.jsonl", true);
    job(&w, 1, 1, "b#1", "one");
    job(&w, 1, 1, "b#2", "two");
    source_end(&w, 1, 1, "s1");
    apply(&w);
    source(&w, 1, "b.jsonl", true);
    job(&w, 1, 2, "b#1", "one");
    apply(&w); /* not at its end yet */
    assert_false(find(&w, "b#2").gone);
    source_end(&w, 1, 2, "s2");
    apply(&w);
    assert_true(find(&w, "b#2").gone);
    assert_false(find(&w, "b#1").gone);
    assert_ready(&w, "lane", "b#1 ");
    assert_int_equal(totals(&w).gone, 1);
    assert_int_equal(totals(&w).jobs[JOB_QUEUED], 1);
    source(&w, 1, "b.jsonl", true);
    job(&w, 1, 3, "b#1", "one");
    assert_int_equal(job(&w, 1, 3, "b#2", "two")->in.taken, TAKEN_NEW);
    source_end(&w, 1, 3, "s3");
    apply(&w);
    assert_ready(&w, "lane", "b#1 b#2 ");
    world_close(&w);
}

static void an_end_that_saw_too_little_calls_nothing_gone(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    take(&w, 1, "b.jsonl", 1, "b#1", "one");
    source(&w, 1, "b.jsonl", true);
    struct move *v = add(&w, MOVE_SOURCE_END);
    v->source = 1;
    v->in.scan = 2;
    v->text = "s2";
    v->name = "- _system\n";
    apply(&w);
    assert_false(find(&w, "b#1").gone);
    struct store_source s;
    assert_int_equal(store_source(w.st, "b.jsonl", &s, NULL), 1);
    assert_true(s.whole);
    assert_string_equal(s.stamp, "s2");
    assert_string_equal(s.refs, "- _system\n");
    world_close(&w);
}

static void a_source_that_is_gone_keeps_its_rows(void **state)
{
    (void)state;
    struct world w;
    struct store_source s;
    world_open(&w);
    take(&w, 1, "a.md", 1, "a", "body");
    struct move *v = add(&w, MOVE_SOURCE_GONE);
    v->source = 1;
    apply(&w);
    assert_true(find(&w, "a").gone);
    assert_ready(&w, "lane", "");
    assert_int_equal(store_source(w.st, "a.md", &s, NULL), 1);
    assert_true(s.gone);
    assert_int_equal(store_source(w.st, "b.md", &s, NULL), 0);
    assert_int_equal(take(&w, 1, "a.md", 2, "a", "body"), TAKEN_KNOWN);
    assert_false(find(&w, "a").gone);
    assert_ready(&w, "lane", "a ");
    world_close(&w);
}

/* ---- the ready window ---- */

static bool is_second(void *arg, int64_t id)
{
    (void)arg;
    return id == 2;
}

static int stop_at_once(void *arg, const struct store_job *j)
{
    on_job(arg, j);
    return 1;
}

static void waiting_jobs_come_best_first(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int64_t priority;
        const char *lane;
    } jobs[] = {{"a", 0, "x"}, {"b", 5, "x"}, {"c", -1, "x"}, {"d", 0, "x"},
                {"e", 5, "x"}, {"f", 9, "y"}, {"g", 0, NULL}};
    struct world w;
    world_open(&w);
    source(&w, 1, "b.jsonl", true);
    for (size_t i = 0; i < CASES(jobs); i++) {
        job(&w, 1, 1, jobs[i].name, "body")->in.lane = jobs[i].lane;
        w.specs[i].priority = jobs[i].priority;
    }
    apply(&w);
    assert_ready(&w, "x", "b e a d c ");
    assert_ready(&w, "y", "f ");
    assert_ready(&w, NULL, "g ");
    assert_ready(&w, "z", "");

    struct list l = {""};
    store_ready(w.st, "x", 3, NULL, on_job, &l, NULL);
    assert_string_equal(l.words, "b e a ");
    l = (struct list){""};
    store_ready(w.st, "x", 2, is_second, on_job, &l,
                NULL); /* passed over, not counted */
    assert_string_equal(l.words, "e a ");
    l = (struct list){""};
    store_ready(w.st, "x", 9, NULL, stop_at_once, &l, NULL);
    assert_string_equal(l.words, "b ");
    world_close(&w);
}

static int on_name(void *arg, const char *name)
{
    struct list *l = arg;
    strcat(strcat(l->words, name), " ");
    return 0;
}

static void waiting_jobs_change_lanes(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    take(&w, 1, "a.md", 1, "a", "1");
    take(&w, 2, "b.md", 1, "b", "2");
    take(&w, 3, "c.md", 1, "c", "3");
    run_begin(&w, 1, 1);
    send(&w, "c", 1);
    struct move *v = add(&w, MOVE_LANE);
    v->job = find(&w, "b").id;
    v->name = "other";
    v = add(&w, MOVE_LANE);
    v->job = find(&w, "c").id; /* in flight: it stays where it is */
    v->name = "other";
    apply(&w);
    struct list l = {""};
    assert_int_equal(store_lanes(w.st, on_name, &l, NULL), 0);
    assert_string_equal(l.words, "lane other ");
    assert_ready(&w, "other", "b ");
    assert_string_equal(find(&w, "c").lane, "lane");

    v = add(&w, MOVE_UNROUTE);
    assert_int_equal(store_apply(w.st, &w.m, NULL, NULL), 0);
    assert_int_equal(v->changed, 2);
    moves_free(&w.m);
    assert_ready(&w, NULL, "a b ");
    l = (struct list){""};
    store_lanes(w.st, on_name, &l, NULL);
    assert_string_equal(l.words, "");
    world_close(&w);
}

static void resting_jobs_come_when_their_rest_is_over(void **state)
{
    (void)state;
    static const char *const names[] = {"a", "b", "c"};
    static const int64_t rests[] = {5000, 1000, 0};
    struct world w;
    world_open(&w);
    run_begin(&w, 1, 1);
    for (int i = 0; i < 3; i++) {
        take(&w, i + 1, names[i], 1, names[i], "x");
        send(&w, names[i], i + 1);
        struct move *v = settle(&w, names[i], i + 1, JOB_QUEUED, OUTCOME_NONE);
        v->ready_at = rests[i] ? NOW + rests[i] : 0;
        v->ready_span = rests[i];
        apply(&w);
    }
    assert_ready(&w, "lane", "c ");
    static const struct {
        int64_t now, next;
        const char *want;
    } cases[] = {{NOW + 999, NOW + 1000, ""},
                 {NOW + 1000, NOW + 5000, "b "},
                 {NOW + 5000, 0, "b a "}};
    for (size_t i = 0; i < CASES(cases); i++) {
        struct list l = {""};
        int64_t next = -1;
        assert_int_equal(
            store_rested(w.st, cases[i].now, 9, NULL, on_job, &l, &next, NULL), 0);
        assert_string_equal(l.words, cases[i].want);
        assert_int_equal(next, cases[i].next);
    }

    /* the clock was set back by a day: nobody rests longer than was meant */
    int64_t now = NOW - 86400000, next;
    assert_int_equal(store_clip(w.st, now, NULL), 0);
    struct list l = {""};
    store_rested(w.st, now, 9, NULL, on_job, &l, &next, NULL);
    assert_string_equal(l.words, "");
    assert_int_equal(next, now + 1000);
    store_rested(w.st, now + 5000, 9, NULL, on_job, &l, &next, NULL);
    assert_string_equal(l.words, "b a ");
    world_close(&w);
}

/* ---- sending and settling ---- */

static void a_row_moves_only_from_where_it_is(void **state)
{
    (void)state;
    struct world w;
    struct err e = {0};
    char buf[16];
    world_open(&w);
    take(&w, 1, "a.md", 1, "a", "body");
    take(&w, 2, "b.md", 1, "b", "body");
    run_begin(&w, 1, 1);
    send(&w, "b", 1);
    send(&w, "a", 2);
    settle(&w, "a", 2, JOB_DONE, OUTCOME_ACCEPTED);
    apply(&w);

    /* settled twice: nothing of the whole list happens, before it or behind */
    struct move *v = add(&w, MOVE_META);
    v->name = "key";
    v->text = "value";
    settle(&w, "b", 1, JOB_DONE, OUTCOME_ACCEPTED);
    settle(&w, "a", 2, JOB_FAILED, OUTCOME_EXHAUSTED);
    bool full = true;
    assert_int_equal(store_apply(w.st, &w.m, &full, &e), -1);
    assert_int_equal(e.code, ERR_STORE);
    assert_false(full);
    moves_free(&w.m);
    assert_int_equal(find(&w, "b").state, JOB_IN_FLIGHT);
    assert_int_equal(find(&w, "a").state, JOB_DONE);
    store_meta(w.st, "key", buf, sizeof buf, NULL);
    assert_string_equal(buf, "");

    /* and what comes after is numbered as if nothing had been tried */
    settle(&w, "b", 1, JOB_DONE, OUTCOME_ACCEPTED);
    apply(&w);
    assert_int_equal(find(&w, "a").seq, 1);
    assert_int_equal(find(&w, "b").seq, 2);
    world_close(&w);
}

static void a_waiting_job_cannot_be_settled(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    take(&w, 1, "a.md", 1, "a", "body");
    settle(&w, "a", 1, JOB_DONE, OUTCOME_ACCEPTED);
    assert_int_equal(store_apply(w.st, &w.m, NULL, NULL), -1);
    assert_int_equal(find(&w, "a").state, JOB_QUEUED);
    world_close(&w);
}

static void admission_of_what_changed_meanwhile_changes_nothing(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    take(&w, 1, "a.md", 1, "a", "old");
    take(&w, 2, "b.md", 1, "b", "old");
    run_begin(&w, 1, 1);
    struct move *revised = admit(&w, "a", 1);
    struct move *fine = admit(&w, "b", 2);
    struct moves late = w.m;
    moves_init(&w.m);
    take(&w, 1, "a.md", 2, "a", "new");
    assert_int_equal(store_apply(w.st, &late, NULL, NULL), 0);
    assert_int_equal(revised->changed, 0);
    assert_int_equal(fine->changed, 1);
    moves_free(&late);
    assert_int_equal(find(&w, "a").state, JOB_QUEUED);
    assert_int_equal(find(&w, "a").sendings, 0);
    assert_int_equal(ask_sql(&w, "SELECT COUNT(*) FROM attempt"), 1);
    assert_int_equal(find(&w, "b").state, JOB_IN_FLIGHT);

    struct move *again = admit(&w, "b", 3); /* and it cannot be sent twice at once */
    assert_int_equal(store_apply(w.st, &w.m, NULL, NULL), 0);
    assert_int_equal(again->changed, 0);
    world_close(&w);
}

static int keep_result(void *arg, const struct store_result *r)
{
    struct store_result *to = arg;
    static char texts[8][400];
    *to = *r;
    const char **strings[] = {&to->message,    &to->last.request_id, &to->last.tier,
                              &to->last.model, &to->last.why,        &to->job.says,
                              &to->job.type,   &to->job.name};
    for (size_t i = 0; i < CASES(strings); i++)
        if (*strings[i]) {
            size_t n = strings[i] == &to->message ? r->message_len
                                                  : strlen(*strings[i]);
            memcpy(texts[i], *strings[i], n);
            texts[i][n] = '\0';
            *strings[i] = texts[i];
        }
    return 0;
}

static struct store_result result(struct world *w, int64_t behind)
{
    struct store_result r = {0};
    assert_int_equal(store_each_result(w->st, behind, 0, keep_result, &r, NULL), 0);
    return r;
}

static void answer_usage_cost_and_move_are_one(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    take(&w, 1, "a.md", 1, "a", "body");
    run_begin(&w, 1, 1);
    send(&w, "a", 1);
    struct move *v = settle(&w, "a", 1, JOB_QUEUED, OUTCOME_NONE);
    v->at.cost = 40;
    v->at.attempts = 1;
    apply(&w);
    send(&w, "a", 2);
    v = settle(&w, "a", 2, JOB_DONE, OUTCOME_ACCEPTED);
    v->now = NOW + 77;
    v->at.request_id = "req_1";
    v->at.status = 200;
    v->at.has_usage = true;
    v->at.usage = (struct usage){1, 2, 3, 4, 5};
    v->at.cost = 60;
    v->at.message = "{\"content\":[]}\0x";
    v->at.message_len = 14;
    v->at.attempts = 2;
    apply(&w);
    struct store_result r = result(&w, 0);
    assert_int_equal(r.job.state, JOB_DONE);
    assert_int_equal(r.job.sendings, 2);
    assert_int_equal(r.job.attempts, 2);
    assert_int_equal(r.job.cost, 100);
    assert_int_equal(r.job.finished_at, NOW + 77);
    assert_int_equal(r.job.first_started, NOW);
    assert_int_equal(r.job.rests, 1);
    assert_string_equal(r.message, "{\"content\":[]}");
    assert_int_equal(r.message_len, 14);
    assert_int_equal(r.last.id, 2);
    assert_int_equal(r.last.no, 2);
    assert_int_equal(r.last.status, 200);
    assert_int_equal(r.last.cost, 60);
    assert_int_equal(r.last.worst, 900);
    assert_string_equal(r.last.request_id, "req_1");
    assert_string_equal(r.last.tier, "standard");
    assert_string_equal(r.last.model, "claude-sonnet-5-5");
    assert_string_equal(r.last.why, "the default tier");
    assert_true(r.last.has_usage);
    assert_int_equal(r.last.usage.input, 1);
    assert_int_equal(r.last.usage.output, 2);
    assert_int_equal(r.last.usage.cache_read, 3);
    assert_int_equal(r.last.usage.cache_write_5m, 4);
    assert_int_equal(r.last.usage.cache_write_1h, 5);
    world_close(&w);
}

static int keep_name(void *arg, const struct store_result *r)
{
    strcpy(arg, r->job.name);
    return 0;
}

static void one_jobs_result_can_be_asked_for(void **state)
{
    (void)state;
    struct world w;
    char name[40] = "";
    world_open(&w);
    take(&w, 1, "a.md", 1, "a", "1");
    take(&w, 2, "b.md", 1, "b", NULL);
    assert_int_equal(store_result_of(w.st, find(&w, "b").id, keep_name, name, NULL), 0);
    assert_string_equal(name, "b");
    strcpy(name, "");
    assert_int_equal(store_result_of(w.st, find(&w, "a").id, keep_name, name, NULL), 0);
    assert_string_equal(name, ""); /* it is not at rest */
    world_close(&w);
}

static int keep_body(void *arg, const struct store_job *j)
{
    struct textbuf *b = arg;
    textbuf_clear(b);
    textbuf_put(b, j->body, j->body_len);
    return 0;
}

/* Long ones lie elsewhere than short ones; nobody should notice. */
static void a_body_of_any_length_is_kept_until_its_job_is_done(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 1999, 2000, 2001, 4096, 100000};
    static char bodies[2][100001];
    struct textbuf b = {0};
    for (size_t i = 0; i < CASES(lengths); i++)
        for (size_t k = 0; k < CASES(lengths); k++) {
            struct world w;
            memset(bodies, 0, sizeof bodies);
            memset(bodies[0], 'a', lengths[i]);
            memset(bodies[1], 'b', lengths[k]);
            world_open(&w);
            run_begin(&w, 1, 1);
            take(&w, 1, "a.md", 1, "a", bodies[0]);
            for (int n = 0; n < 2; n++) {
                if (n == 1) /* from one length to the other */
                    take(&w, 1, "a.md", 2, "a", bodies[1]);
                store_ready(w.st, "lane", 9, NULL, keep_body, &b, NULL);
                assert_string_equal(b.at, bodies[n]);
                assert_int_equal(find(&w, "a").bytes, b.len);
            }
            finish(&w, "a", 1);
            assert_int_equal(ask_sql(&w, "SELECT COUNT(*) FROM body"), 0);
            assert_int_equal(
                ask_sql(&w, "SELECT COUNT(*) FROM job WHERE members IS NOT NULL"), 0);
            world_close(&w);
        }
    textbuf_free(&b);
}

static void a_job_never_sent_has_no_last_attempt(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    take(&w, 1, "a.md", 1, "a", NULL);
    struct store_result r = result(&w, 0);
    assert_int_equal(r.last.id, 0);
    assert_false(r.last.has_usage);
    assert_null(r.message);
    world_close(&w);
}

static void a_sending_that_was_taken_back_does_not_count(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    take(&w, 1, "a.md", 1, "a", "body");
    run_begin(&w, 1, 1);
    send(&w, "a", 1);
    assert_int_equal(find(&w, "a").sendings, 1);
    struct move *v = settle(&w, "a", 1, JOB_QUEUED, OUTCOME_NONE);
    v->at.state = ATTEMPT_TAKEN_BACK;
    v->at.attempts = 0;
    apply(&w);
    assert_int_equal(find(&w, "a").sendings, 0);
    assert_int_equal(totals(&w).doubt, 0);
    world_close(&w);
}

static void an_attempt_is_charged_after_the_fact(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    take(&w, 1, "a.md", 1, "a", "body");
    for (int round = 0; round < 3; round++) {
        struct move *v = add(&w, MOVE_COUNT);
        v->job = find(&w, "a").id;
        v->count = round == 1 ? 7 : 1; /* a revision that is not there any more */
        v->at.attempts = 1;
        v->at.silent = 1;
        v->to = round == 2 ? JOB_PARKED : JOB_QUEUED;
        v->outcome = round == 2 ? OUTCOME_NO_ANSWER : OUTCOME_NONE;
        v->text = "no answer";
        assert_int_equal(store_apply(w.st, &w.m, NULL, NULL), 0);
        assert_int_equal(v->changed, round != 1);
        moves_free(&w.m);
    }
    struct store_job j = find(&w, "a");
    assert_int_equal(j.attempts, 2);
    assert_int_equal(j.silent, 2);
    assert_int_equal(j.state, JOB_PARKED);
    assert_int_equal(j.outcome, OUTCOME_NO_ANSWER);
    assert_string_equal(j.says, "no answer");
    assert_results(&w, 0, 0, "a ");
    world_close(&w);
}

/* ---- people ---- */

static void fail_job(struct world *w, const char *name, int64_t attempt,
                     enum job_outcome outcome)
{
    send(w, name, attempt);
    struct move *v = settle(w, name, attempt, JOB_FAILED, outcome);
    v->at.attempts = 5;
    v->text = "it failed";
    v->type = "some_error";
    apply(w);
}

static int64_t retry(struct world *w, const char *name)
{
    struct move *v = add(w, MOVE_RETRY);
    v->name = name;
    assert_int_equal(store_apply(w->st, &w->m, NULL, NULL), 0);
    int64_t changed = v->changed;
    moves_free(&w->m);
    return changed;
}

static void failed_and_parked_jobs_are_queued_again(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    run_begin(&w, 1, 1);
    take(&w, 1, "m/a.md", 1, "m/a", "1");
    take(&w, 2, "m/b.md", 1, "m/b", "2");
    take(&w, 3, "c.md", 1, "c", "3");
    take(&w, 4, "bad.md", 1, "bad", NULL);
    take(&w, 5, "done.md", 1, "done", "5");
    fail_job(&w, "m/a", 1, OUTCOME_EXHAUSTED);
    fail_job(&w, "m/b", 2, OUTCOME_BAD_REQUEST);
    fail_job(&w, "c", 3, OUTCOME_EXHAUSTED);
    finish(&w, "done", 4);

    assert_int_equal(retry(&w, "m/a"), 1);
    assert_int_equal(find(&w, "m/a").state, JOB_QUEUED);
    assert_int_equal(find(&w, "m/a").attempts, 0);
    assert_int_equal(find(&w, "m/a").outcome, OUTCOME_NONE);
    assert_null(find(&w, "m/a").says);
    assert_null(find(&w, "m/a").type);
    struct list l = {""};
    store_ready(w.st, "lane", 9, NULL, on_job_and_body, &l, NULL);
    assert_string_equal(l.words, "m/a=1 "); /* a failed job's body is kept for this */

    assert_int_equal(retry(&w, "m/*"), 1);
    assert_int_equal(find(&w, "c").state, JOB_FAILED);
    assert_int_equal(retry(&w, NULL), 1);
    assert_int_equal(find(&w, "c").state, JOB_QUEUED);
    assert_int_equal(find(&w, "bad").state, JOB_FAILED); /* as long as its file is so */
    assert_int_equal(find(&w, "done").state, JOB_DONE);
    assert_int_equal(retry(&w, NULL), 0);
    world_close(&w);
}

/* An answer that was cut short is kept; what the retry brings replaces it, also where
 * it brings none. */
static void a_retried_job_does_not_end_with_its_earlier_answer(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    run_begin(&w, 1, 1);
    take(&w, 1, "a.md", 1, "a", "1");
    send(&w, "a", 1);
    struct move *v = settle(&w, "a", 1, JOB_FAILED, OUTCOME_TRUNCATED);
    v->at.message = "{\"half\":1}";
    v->at.message_len = 10;
    apply(&w);
    assert_int_equal(retry(&w, "a"), 1);
    fail_job(&w, "a", 2, OUTCOME_BAD_REQUEST);
    struct store_result r = result(&w, 0);
    assert_int_equal(r.job.outcome, OUTCOME_BAD_REQUEST);
    assert_int_equal(r.last.id, 2);
    assert_null(r.message);
    world_close(&w);
}

static int64_t cancel(struct world *w, const char *name, int64_t *seq)
{
    struct move *v = add(w, MOVE_CANCEL);
    v->name = name;
    assert_int_equal(store_apply(w->st, &w->m, NULL, NULL), 0);
    int64_t changed = v->changed;
    *seq = v->seq;
    moves_free(&w->m);
    return changed;
}

static void waiting_jobs_are_canceled_on_request(void **state)
{
    (void)state;
    struct world w;
    int64_t seq;
    world_open(&w);
    run_begin(&w, 1, 1);
    take(&w, 1, "m/a.md", 1, "m/a", "1");
    take(&w, 2, "m/b.md", 1, "m/b", "2");
    take(&w, 3, "m/c.md", 1, "m/c", "3");
    take(&w, 4, "d.md", 1, "d", "4");
    send(&w, "m/c", 1);
    assert_int_equal(cancel(&w, "m/*", &seq), 2); /* what is out is out */
    assert_int_equal(seq, 1);
    assert_int_equal(find(&w, "m/a").state, JOB_FAILED);
    assert_int_equal(find(&w, "m/a").outcome, OUTCOME_CANCELED);
    assert_string_equal(find(&w, "m/a").says, "canceled on request");
    assert_int_equal(find(&w, "m/a").seq + find(&w, "m/b").seq, 1 + 2);
    assert_int_equal(find(&w, "m/c").state, JOB_IN_FLIGHT);
    assert_int_equal(find(&w, "d").state, JOB_QUEUED);
    assert_int_equal(cancel(&w, "d", &seq), 1);
    assert_int_equal(find(&w, "d").seq, 3);
    assert_int_equal(cancel(&w, "nobody", &seq), 0);
    assert_int_equal(retry(&w, "m/a"), 1);
    world_close(&w);
}

static int64_t park(struct world *w, int64_t src, int64_t limit)
{
    struct move *v = add(w, MOVE_PARK_SOURCE);
    v->source = src;
    v->limit = limit;
    v->text = "twenty like failures";
    assert_int_equal(store_apply(w->st, &w->m, NULL, NULL), 0);
    int64_t changed = v->changed;
    moves_free(&w->m);
    return changed;
}

static void a_source_is_parked_some_rows_at_a_time(void **state)
{
    (void)state;
    static const char *const names[] = {"b#1", "b#2", "b#3", "b#4", "b#5"};
    struct world w;
    struct store_source s;
    world_open(&w);
    run_begin(&w, 1, 1);
    source(&w, 1, "b.jsonl", true);
    for (int i = 0; i < 5; i++)
        job(&w, 1, 1, names[i], names[i]);
    source_end(&w, 1, 1, "stamp");
    apply(&w);
    take(&w, 2, "a.md", 1, "a", "other");
    send(&w, "b#1", 1);
    assert_int_equal(park(&w, 1, 3), 3);
    assert_ready(&w, "lane", "a "); /* what is not parked yet waits as well */
    assert_int_equal(park(&w, 1, 3), 1);
    assert_int_equal(park(&w, 1, 3), 0);
    assert_int_equal(find(&w, "b#1").state, JOB_IN_FLIGHT);
    assert_int_equal(find(&w, "b#2").state, JOB_PARKED);
    assert_int_equal(find(&w, "b#2").outcome, OUTCOME_MASS_FAILURE);
    assert_string_equal(find(&w, "b#2").says, "twenty like failures");
    assert_int_equal(store_source(w.st, "b.jsonl", &s, NULL), 1);
    assert_string_equal(s.parked, "twenty like failures");
    assert_int_equal(find(&w, "a").state, JOB_QUEUED);

    assert_int_equal(retry(&w, "b#4"), 1); /* one is enough to lift the brake */
    store_source(w.st, "b.jsonl", &s, NULL);
    assert_null(s.parked);
    assert_ready(&w, "lane", "b#4 a ");
    assert_int_equal(retry(&w, NULL), 3);
    world_close(&w);
}

static int on_request(void *arg, const struct store_request *r)
{
    struct list *l = arg;
    size_t n = strlen(l->words);
    snprintf(l->words + n, sizeof l->words - n, "%lld:%s %s; ", (long long)r->id,
             r->verb, r->job ? r->job : "-");
    return 0;
}

static void requests_of_other_commands_wait_for_the_runner(void **state)
{
    (void)state;
    struct world w;
    struct err e = {0};
    world_open(&w);
    struct store *other = store_open(w.dir, STORE_ASK, true, &e);
    if (other == NULL)
        fail_msg("%s", e.text);
    assert_int_equal(store_ask(other, "retry", NULL, NOW, &e), 0);
    assert_int_equal(store_ask(other, "cancel", "m/*", NOW, &e), 0);
    store_close(other);
    struct list l = {""};
    assert_int_equal(store_each_request(w.st, on_request, &l, &e), 0);
    assert_string_equal(l.words, "1:retry -; 2:cancel m/*; ");
    add(&w, MOVE_ANSWERED_REQUEST)->count = 1;
    apply(&w);
    l = (struct list){""};
    store_each_request(w.st, on_request, &l, &e);
    assert_string_equal(l.words, "2:cancel m/*; ");
    world_close(&w);
}

/* ---- sums ---- */

static void sums_and_doubt_are_what_the_rows_say(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    run_begin(&w, 1, 1);
    take(&w, 1, "a.md", 1, "a", "1");
    take(&w, 2, "b.md", 1, "b", "2");
    take(&w, 3, "c.md", 1, "c", "3");
    take(&w, 4, "d.md", 1, "d", NULL);
    finish(&w, "a", 1);
    send(&w, "b", 2);
    struct move *v = settle(&w, "b", 2, JOB_QUEUED, OUTCOME_NONE);
    v->at.state = ATTEMPT_IN_DOUBT;
    v->at.cost = 10;
    apply(&w);
    finish(&w, "b", 3); /* doubt belongs to the attempt, not to the job */
    for (int i = 0; i < 2; i++) {
        v = add(&w, MOVE_RUN_TOTALS);
        v->run = 1;
        v->at.cost = 100;
        v->at.usage = (struct usage){.input = 1,
                                     .output = 7,
                                     .cache_read = 2,
                                     .cache_write_5m = 3,
                                     .cache_write_1h = 4};
        apply(&w);
    }
    struct store_totals t = totals(&w);
    assert_int_equal(t.jobs[JOB_QUEUED], 1);
    assert_int_equal(t.jobs[JOB_IN_FLIGHT], 0);
    assert_int_equal(t.jobs[JOB_DONE], 2);
    assert_int_equal(t.jobs[JOB_FAILED], 1);
    assert_int_equal(t.jobs[JOB_PARKED], 0);
    assert_int_equal(t.known, 4);
    assert_int_equal(t.invalid, 1);
    assert_int_equal(t.doubt, 1);
    assert_int_equal(t.doubt_low, 10);
    assert_int_equal(t.doubt_high, 900);
    assert_int_equal(t.spent, 200);
    assert_int_equal(t.tokens_in, 20);
    assert_int_equal(t.tokens_out, 14);
    assert_int_equal(t.next_attempt, 4);
    assert_int_equal(t.next_run, 2);
    assert_int_equal(t.next_source, 5);
    assert_int_equal(t.results_seq, 0);
    add(&w, MOVE_RESULTS)->seq = 3;
    apply(&w);
    assert_int_equal(totals(&w).results_seq, 3);
    world_close(&w);
}

static int on_out(void *arg, const struct store_attempt *a, const struct store_job *j)
{
    struct list *l = arg;
    size_t n = strlen(l->words);
    snprintf(l->words + n, sizeof l->words - n, "%lld:%s ", (long long)a->id, j->name);
    return 0;
}

static void assert_out(struct world *w, const char *want)
{
    struct list l = {""};
    assert_int_equal(store_each_out(w->st, on_out, &l, NULL), 0);
    assert_string_equal(l.words, want);
}

static void after_a_crash_what_was_out_is_known_and_nothing_else(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    run_begin(&w, 1, 1);
    take(&w, 1, "a.md", 1, "a", "1");
    take(&w, 2, "b.md", 1, "b", "2");
    take(&w, 3, "c.md", 1, "c", "3");
    finish(&w, "a", 1);
    send(&w, "b", 2);
    world_reopen(&w); /* nobody said that the run had ended */
    assert_out(&w, "2:b ");
    assert_int_equal(find(&w, "b").state, JOB_IN_FLIGHT);

    struct move *v = settle(&w, "b", 2, JOB_QUEUED, OUTCOME_NONE);
    v->at.state = ATTEMPT_IN_DOUBT;
    apply(&w);
    v = add(&w, MOVE_RUN_END);
    v->text = "died";
    apply(&w);
    assert_out(&w, "");
    run_begin(&w, 2, 3);
    send(&w, "c", 3);
    assert_out(&w, "3:c ");
    world_close(&w);
}

static int on_open_run(void *arg, const struct store_run *r)
{
    struct list *l = arg;
    size_t n = strlen(l->words);
    assert_int_equal(r->started_at, NOW);
    snprintf(l->words + n, sizeof l->words - n, "%lld:%lld ", (long long)r->id,
             (long long)r->spent);
    return 0;
}

static void a_run_that_never_told_its_end_is_known_with_what_it_spent(void **state)
{
    (void)state;
    struct world w;
    struct list l = {""};
    world_open(&w);
    run_begin(&w, 1, 1);
    struct move *v = add(&w, MOVE_RUN_TOTALS);
    v->run = 1;
    v->at.cost = 123;
    apply(&w);
    world_reopen(&w);
    assert_int_equal(store_each_open_run(w.st, on_open_run, &l, NULL), 0);
    assert_string_equal(l.words, "1:123 ");
    add(&w, MOVE_RUN_END)->text = "died";
    apply(&w);
    run_begin(&w, 2, 1);
    l = (struct list){""};
    store_each_open_run(w.st, on_open_run, &l, NULL);
    assert_string_equal(l.words, "2:0 ");
    world_close(&w);
}

static void results_come_from_behind_a_rest_as_they_were_taken_in(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    run_begin(&w, 1, 1);
    take(&w, 1, "a.md", 1, "a", "1");
    take(&w, 2, "b.md", 1, "b", "2");
    take(&w, 3, "c.md", 1, "c", "3");
    finish(&w, "c", 1);
    finish(&w, "a", 2);
    fail_job(&w, "b", 3, OUTCOME_EXHAUSTED);
    assert_results(&w, 0, 0, "a b c ");
    assert_results(&w, 1, 0, "a b "); /* c came to rest first */
    assert_results(&w, 2, 0, "b ");
    assert_results(&w, 3, 0, "");
    assert_results(&w, 0, 1, "a ");
    retry(&w, "b");
    assert_results(&w, 0, 0, "a c "); /* while it waits it has none */
    world_reopen(&w);
    finish(&w, "b", 4);
    assert_results(&w, 0, 0, "a b c ");
    assert_int_equal(find(&w, "b").seq, 4);
    assert_int_equal(find(&w, "b").rests, 2);

    struct list l = {""};
    assert_int_equal(store_each_in(w.st, JOB_DONE, 2, on_job, &l, NULL), 0);
    assert_int_equal(strlen(l.words), 4);
    world_close(&w);
}

static void the_length_of_a_results_file_is_kept(void **state)
{
    (void)state;
    struct world w;
    struct store_file f = {0};
    world_open(&w);
    assert_int_equal(store_file(w.st, 7, &f, NULL), 0);
    for (int i = 1; i <= 2; i++) {
        struct move *v = add(&w, MOVE_RESULT_FILE);
        v->source = 7;
        v->inode = 100 * i;
        v->length = 1000 * i;
        apply(&w);
        assert_int_equal(store_file(w.st, 7, &f, NULL), 1);
        assert_int_equal(f.source, 7);
        assert_int_equal(f.inode, 100 * i);
        assert_int_equal(f.length, 1000 * i);
    }
    world_close(&w);
}

static void notes_are_kept_by_their_key(void **state)
{
    (void)state;
    struct world w;
    char buf[8];
    world_open(&w);
    assert_int_equal(store_meta(w.st, "k", buf, sizeof buf, NULL), 0);
    assert_string_equal(buf, "");
    static const char *const values[] = {"one", "a longer value"};
    for (int i = 0; i < 2; i++) {
        struct move *v = add(&w, MOVE_META);
        v->name = "k";
        v->text = values[i];
        apply(&w);
    }
    store_meta(w.st, "k", buf, sizeof buf, NULL);
    assert_string_equal(buf, "a longe"); /* cut to fit, never beyond */
    world_close(&w);
}

/* ---- two connections ---- */

static void others_see_a_list_whole_or_not_at_all(void **state)
{
    (void)state;
    struct world w;
    struct err e = {0};
    struct store_job j;
    world_open(&w);
    struct store *other = store_open(w.dir, STORE_ASK, true, &e);
    assert_non_null(other);
    source(&w, 1, "a.md", false);
    job(&w, 1, 1, "a", "1");
    job(&w, 1, 1, "b", "2");
    add(&w, MOVE_SETTLE)->job = 99; /* cannot be */
    assert_int_equal(store_apply(w.st, &w.m, NULL, NULL), -1);
    moves_free(&w.m);
    assert_int_equal(store_find(other, "a", &j, &e), 0);
    w.specs_len = 0;
    source(&w, 1, "a.md", false);
    job(&w, 1, 1, "a", "1");
    apply(&w);
    assert_int_equal(store_find(other, "a", &j, &e), 1);
    store_checkpoint(w.st);
    assert_int_equal(store_find(other, "a", &j, &e), 1);
    store_close(other);
    world_close(&w);
}

/* ---- a disk that is full ---- */

static long writes_left = -1; /* below zero: the disk is large */

static ssize_t no_room(int fd, const void *bytes, size_t n, off_t at)
{
    if (writes_left == 0) {
        errno = ENOSPC;
        return -1;
    }
    if (writes_left > 0)
        writes_left--;
    return pwrite(fd, bytes, n, at);
}

static void fill_disk(bool yes)
{
    static const char *const names[] = {"pwrite", "pwrite64"};
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    for (size_t i = 0; i < CASES(names); i++)
        vfs->xSetSystemCall(vfs, names[i], yes ? (sqlite3_syscall_ptr)no_room : NULL);
    writes_left = -1;
}

static void a_full_disk_is_told_and_loses_nothing(void **state)
{
    (void)state;
    static char body[20000];
    memset(body, 'b', sizeof body - 1);
    int failures = 0;
    fill_disk(true);
    for (long n = 0; n < 60; n++) {
        struct world w;
        struct err e = {0};
        bool full = false;
        world_open(&w);
        take(&w, 1, "a.md", 1, "a", "1");
        run_begin(&w, 1, 1);
        send(&w, "a", 1);

        source(&w, 2, "b.md", false);
        job(&w, 2, 1, "b", body);
        struct move *v = settle(&w, "a", 1, JOB_DONE, OUTCOME_ACCEPTED);
        v->at.message = body;
        v->at.message_len = sizeof body - 1;
        writes_left = n;
        int rc = store_apply(w.st, &w.m, &full, &e);
        bool whole = writes_left > 0;
        writes_left = -1;
        if (rc < 0) {
            failures++;
            assert_true(full);
            assert_int_equal(e.code, ERR_STORE);
            assert_false(known(&w, "b"));
            assert_int_equal(find(&w, "a").state, JOB_IN_FLIGHT);
            apply(&w); /* the same list again, now that there is room */
        }
        assert_true(known(&w, "b"));
        assert_int_equal(find(&w, "a").state, JOB_DONE);
        assert_int_equal(find(&w, "a").seq, 1);
        moves_free(&w.m);
        world_close(&w);
        if (whole)
            break;
    }
    fill_disk(false);
    assert_true(failures > 3);
    assert_true(failures < 60);
}

static int back_to_a_large_disk(void **state)
{
    (void)state;
    fill_disk(false);
    return 0;
}

/* ---- long answers ---- */

struct long_answers {
    size_t len[8];
    char first[8];
    int count, lost;
};

static int on_long(void *arg, const struct store_result *r)
{
    struct long_answers *x = arg;
    x->len[x->count] = r->message_len;
    x->first[x->count] = r->message ? *r->message : '-';
    for (size_t i = 0; i < r->message_len; i++)
        assert_int_equal(r->message[i], *r->message);
    x->count++;
    x->lost += r->lost;
    return 0;
}

static void answered(struct world *w, const char *name, int64_t attempt, char c,
                     size_t len)
{
    char *message = malloc(len);
    assert_non_null(message);
    memset(message, c, len);
    send(w, name, attempt);
    struct move *v = settle(w, name, attempt, JOB_DONE, OUTCOME_ACCEPTED);
    v->at.message = message;
    v->at.message_len = len;
    apply(w);
    free(message);
}

static void long_answers_come_back_whole_beside_short_ones(void **state)
{
    (void)state;
    static const size_t lens[] = {10, 4095, 4096, 20480, 3000000, 1};
    struct world w;
    struct long_answers got = {.count = 0};
    world_open(&w);
    run_begin(&w, 1, 1);
    for (size_t i = 0; i < CASES(lens); i++) {
        char name[] = {(char)('a' + i), '\0'};
        take(&w, (int64_t)i + 1, name, 1, name, "body");
        answered(&w, name, (int64_t)i + 1, (char)('A' + i), lens[i]);
    }
    world_reopen(&w);
    assert_int_equal(store_each_result(w.st, 0, 0, on_long, &got, NULL), 0);
    assert_int_equal(got.count, CASES(lens));
    for (size_t i = 0; i < CASES(lens); i++) {
        assert_int_equal(got.len[i], lens[i]);
        assert_int_equal(got.first[i], 'A' + i);
    }
    /* beside a runner as well */
    struct store *other = store_open(w.dir, STORE_ASK, true, NULL);
    got.count = 0;
    assert_int_equal(store_each_result(other, 0, 0, on_long, &got, NULL), 0);
    assert_int_equal(got.count, CASES(lens));
    store_close(other);
    assert_int_equal(ask_sql(&w, "SELECT COUNT(*) FROM ending WHERE message IS NULL"),
                     3);
    world_close(&w);
}

static int on_lost(void *arg, const struct store_result *r)
{
    char *says = arg;
    assert_true(r->lost == (r->message == NULL));
    if (r->lost) {
        assert_string_equal(r->job.type, "answer_lost");
        assert_int_equal(r->message_len, 0);
    }
    snprintf(says + strlen(says), 400, "%s: %s\n", r->job.name,
             r->lost ? r->job.says : "there");
    return 0;
}

static void a_long_answer_that_is_lost_is_told_and_stops_nobody(void **state)
{
    (void)state;
    struct world w;
    char says[1200] = "";
    world_open(&w);
    run_begin(&w, 1, 1);
    for (int i = 0; i < 3; i++) {
        char name[] = {(char)('a' + i), '\0'};
        take(&w, i + 1, name, 1, name, "body");
        answered(&w, name, i + 1, (char)('A' + i), i == 2 ? 10 : 9000);
    }
    assert_int_equal(truncate(scratch_path(w.dir, "answers"), 17999), 0);
    assert_int_equal(store_each_result(w.st, 0, 0, on_lost, says, NULL), 0);
    assert_non_null(strstr(says, "a: there\nb: its answer was stored and is lost: "));
    assert_non_null(
        strstr(says, "answers is shorter than the store says; a change of"));
    assert_non_null(strstr(says, "\nc: there\n"));
    world_close(&w);
}

/* Copied without it, put back without it, cut by a disk that lied. */
static void a_file_that_lost_its_end_gives_nobody_anothers_answer(void **state)
{
    (void)state;
    static const off_t ends[] = {0, 1, 5000, 9000, 17999};
    for (size_t k = 0; k < CASES(ends); k++) {
        struct world w;
        char says[2400] = "";
        struct long_answers got = {.count = 0};
        world_open(&w);
        run_begin(&w, 1, 1);
        for (int i = 0; i < 4; i++) {
            char name[] = {(char)('a' + i), '\0'};
            if (i == 2) {
                assert_int_equal(truncate(scratch_path(w.dir, "answers"), ends[k]), 0);
                world_reopen(&w);
            }
            take(&w, i + 1, name, 1, name, "body");
            answered(&w, name, i + 1, (char)('A' + i), 9000);
        }
        world_reopen(&w);
        assert_int_equal(store_each_result(w.st, 0, 0, on_lost, says, NULL), 0);
        assert_true((strstr(says, "a: there") != NULL) == (ends[k] >= 9000));
        assert_non_null(strstr(says, "b: its answer was stored and is lost"));
        assert_non_null(strstr(says, "c: there\nd: there\n"));
        assert_int_equal(store_each_result(w.st, 2, 0, on_long, &got, NULL), 0);
        assert_int_equal(got.first[0], 'C');
        assert_int_equal(got.first[1], 'D');
        world_close(&w);
    }
}

static void a_new_store_begins_with_no_answers(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    run_begin(&w, 1, 1);
    take(&w, 1, "a", 1, "a", "body");
    answered(&w, "a", 1, 'A', 9000);
    store_close(w.st);
    w.st = NULL;
    unlink(scratch_path(w.dir, "queue.db"));
    unlink(scratch_path(w.dir, "queue.db-wal"));
    world_reopen(&w);
    struct stat st;
    assert_int_equal(stat(scratch_path(w.dir, "answers"), &st), 0);
    assert_int_equal(st.st_size, 0);
    world_close(&w);
}

static void a_copy_tells_results_without_long_answers(void **state)
{
    (void)state;
    struct world w;
    char to[SCRATCH_MAX];
    struct long_answers got = {.count = 0};
    world_open(&w);
    scratch_make(to);
    run_begin(&w, 1, 1);
    take(&w, 1, "a", 1, "a", "body");
    answered(&w, "a", 1, 'A', 9000);
    assert_int_equal(store_copy(w.dir, to, NULL), 0);
    struct store *copy = store_open(to, STORE_TRY, false, NULL);
    assert_non_null(copy);
    assert_int_equal(store_each_result(copy, 0, 0, on_long, &got, NULL), 0);
    assert_int_equal(got.count, 1);
    assert_int_equal(got.len[0], 0);
    assert_int_equal(got.lost, 0); /* it is where it was copied from */
    store_close(copy);
    scratch_drop(to);
    world_close(&w);
}

static int64_t room_of_answers(const struct world *w)
{
    struct stat st;
    assert_int_equal(stat(scratch_path(w->dir, "answers"), &st), 0);
    return (int64_t)st.st_blocks * 512;
}

static void prune(struct world *w, int64_t before)
{
    struct move *v = add(w, MOVE_PRUNE);
    v->now = before;
    apply(w);
}

static void what_is_pruned_gives_its_room_back(void **state)
{
    (void)state;
    enum { LONG = 400000 };
    struct world w;
    struct long_answers got = {.count = 0};
    world_open(&w);
    run_begin(&w, 1, 1);
    for (int i = 0; i < 4; i++) {
        char name[] = {(char)('a' + i), '\0'};
        source(&w, i + 1, name, i == 0); /* a bulk file's answers stay while it does */
        job(&w, i + 1, 1, name, "body");
        source_end(&w, i + 1, 1, "stamp");
        apply(&w);
        answered(&w, name, i + 1, (char)('A' + i), LONG);
    }
    struct move *v = add(&w, MOVE_RESULTS); /* but d's result is not on disk */
    v->seq = 3;
    v = add(&w, MOVE_SOURCE_GONE);
    v->source = 1;
    apply(&w);
    int64_t all = room_of_answers(&w);
    assert_true(all >= 4 * LONG);
    prune(&w, NOW - 1); /* none is so old */
    assert_int_equal(room_of_answers(&w), all);
    prune(&w, NOW + 1000000); /* a's row goes with its file, b and c keep theirs */
    assert_true(room_of_answers(&w) <= LONG + 3 * 4096);
    assert_false(known(&w, "a"));
    assert_int_equal(store_each_result(w.st, 0, 0, on_long, &got, NULL), 0);
    assert_int_equal(got.count, 3);
    assert_int_equal(got.len[0] + got.len[1], 0);
    assert_int_equal(got.len[2], LONG);
    assert_int_equal(got.first[2], 'D');
    world_close(&w);
}

/* ---- what a run is remembered by ---- */

static void remember(struct world *w, enum history_kind kind, const char *lane,
                     int64_t at, int64_t until, const char *says)
{
    struct move *v = add(w, MOVE_HISTORY);
    v->run = 1;
    v->name = lane;
    v->text = says;
    v->history.kind = kind;
    v->history.word = kind == HISTORY_HALT ? "no_credit" : "";
    v->history.at = at;
    v->history.until = until;
    v->history.rpm = 50;
    apply(w);
}

struct remembered {
    char words[600];
    int rows;
    int64_t times, held, last_until;
};

static int on_history(void *arg, const struct store_history *h)
{
    struct remembered *x = arg;
    size_t n = strlen(x->words);
    x->rows++;
    x->times += h->times;
    x->held += h->held;
    x->last_until = h->until;
    if (n + 80 < sizeof x->words)
        snprintf(x->words + n, sizeof x->words - n, "%d/%s/%lld-%lld/%s/%s ", h->kind,
                 h->lane, (long long)h->at, (long long)h->until, h->word, h->says);
    return 0;
}

static void what_happened_to_a_run_is_kept_by_kind_and_lane(void **state)
{
    (void)state;
    struct world w;
    struct remembered x = {.words = ""};
    world_open(&w);
    remember(&w, HISTORY_HALT, "", 900, 0, "too low");
    remember(&w, HISTORY_HOLD, "b", 300, 400, "slow");
    remember(&w, HISTORY_HOLD, "a", 300, 0, "slow");
    remember(&w, HISTORY_HOLD, "a", 200, 250, "slow");
    remember(&w, HISTORY_HOLD, "a", 300, 500, "slower"); /* the same, as it went on */
    assert_int_equal(store_each_history(w.st, 1, on_history, &x, NULL), 0);
    assert_string_equal(x.words, "1/a/200-250//slow 1/a/300-500//slower "
                                 "1/b/300-400//slow 6//900-0/no_credit/too low ");
    assert_int_equal(x.held, 50 + 200 + 100);
    x = (struct remembered){.words = ""};
    assert_int_equal(store_each_history(w.st, 2, on_history, &x, NULL), 0);
    assert_int_equal(x.rows, 0);
    world_close(&w);
}

static void a_run_of_months_keeps_few_rows_and_loses_no_hold(void **state)
{
    (void)state;
    enum { HOLDS = 2500, EVERY = 60000, LONG = 7000 };
    struct world w;
    struct remembered x = {.words = ""};
    world_open(&w);
    for (int64_t i = 0; i < HOLDS; i++)
        remember(&w, HISTORY_HOLD, "a", NOW + i * EVERY, NOW + i * EVERY + LONG,
                 "slow");
    remember(&w, HISTORY_HOLD, "b", NOW, NOW + LONG, "slow");
    assert_int_equal(store_each_history(w.st, 1, on_history, &x, NULL), 0);
    assert_in_range(x.rows, STORE_HISTORY_MAX / 4, STORE_HISTORY_MAX + 1);
    assert_int_equal(x.times, HOLDS + 1);
    assert_int_equal(x.held, (int64_t)(HOLDS + 1) * LONG);
    /* The newest is never merged: it may be told once more. */
    assert_int_equal(ask_sql(&w,
                             "SELECT times FROM history WHERE lane = 'a' ORDER BY at "
                             "DESC LIMIT 1"),
                     1);
    world_close(&w);
}

struct sent {
    char words[300];
};

static int on_run_sent(void *arg, const struct store_attempt *a,
                       const struct store_job *j, bool at_rest)
{
    struct sent *x = arg;
    size_t n = strlen(x->words);
    snprintf(x->words + n, sizeof x->words - n, "%lld:%s%s ", (long long)a->id, j->name,
             at_rest ? "!" : "");
    return 0;
}

static int on_before(void *arg, const struct store_result *r)
{
    struct sent *x = arg;
    size_t n = strlen(x->words);
    snprintf(x->words + n, sizeof x->words - n, "%s:%lld%s ", r->job.name,
             (long long)r->last.id, r->message ? " with its answer" : "");
    return 0;
}

static int on_run_row(void *arg, const struct store_run *r)
{
    struct sent *x = arg;
    size_t n = strlen(x->words);
    snprintf(x->words + n, sizeof x->words - n, "%lld from %lld %s; ", (long long)r->id,
             (long long)r->first_attempt, r->reason);
    return 0;
}

static void a_run_is_told_apart_from_those_before_and_behind_it(void **state)
{
    (void)state;
    struct world w;
    struct sent x = {""};
    int64_t run_number, first, last;
    world_open(&w);
    assert_int_equal(store_run_sent(w.st, &run_number, NULL), 0);
    assert_int_equal(run_number, 0);
    take(&w, 1, "a.md", 1, "a", "body");
    take(&w, 2, "b.md", 1, "b", "body");
    take(&w, 3, "c.md", 1, "c", "body");
    run_begin(&w, 1, 1);
    finish(&w, "a", 1);
    add(&w, MOVE_RUN_END)->text = "asked for";
    apply(&w);
    run_begin(&w, 2, 2);
    for (int64_t attempt = 2; attempt <= 4; attempt++) {
        const char *name = attempt == 4 ? "c" : "b";
        admit(&w, name, attempt)->run = 2;
        apply(&w);
        settle(&w, name, attempt, attempt == 2 ? JOB_QUEUED : JOB_DONE,
               attempt == 2 ? OUTCOME_NONE : OUTCOME_ACCEPTED);
        apply(&w);
    }
    run_begin(&w, 3, 5);
    assert_int_equal(store_run_sent(w.st, &run_number, NULL), 0);
    assert_int_equal(run_number, 2);
    assert_int_equal(store_each_sent(w.st, 2, 0, on_run_sent, &x, NULL), 0);
    assert_string_equal(x.words, "2:b 3:b! 4:c! ");
    x = (struct sent){""};
    assert_int_equal(store_each_sent(w.st, 2, 3, on_run_sent, &x, NULL), 0);
    assert_string_equal(x.words, "3:b! 4:c! ");
    assert_int_equal(store_run_since(w.st, 2, NOW, &first, NULL), 0);
    assert_int_equal(first, 2);
    assert_int_equal(store_run_since(w.st, 2, NOW + 1, &first, NULL), 0);
    assert_int_equal(first, INT64_MAX);
    x = (struct sent){""};
    assert_int_equal(store_each_before(w.st, 2, on_before, &x, NULL), 0);
    assert_string_equal(x.words, "a:1 ");
    x = (struct sent){""};
    assert_int_equal(store_each_run(w.st, on_run_row, &x, NULL), 0);
    assert_string_equal(x.words, "3 from 5 ; 2 from 2 ; 1 from 1 asked for; ");
    assert_int_equal(store_run_span(w.st, 2, &first, &last, NULL), 0);
    assert_int_equal(first, NOW);
    assert_true(last >= NOW);
    assert_int_equal(store_run_span(w.st, 3, &first, &last, NULL), 0);
    assert_int_equal(first, 0);
    world_close(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_stored_is_there_the_next_time),
        cmocka_unit_test(a_store_of_a_newer_nightmill_is_refused_by_both_uses),
        cmocka_unit_test(a_store_that_was_never_set_up_is_set_up_by_a_run_alone),
        cmocka_unit_test(what_is_no_store_is_refused),
        cmocka_unit_test(a_new_job_is_queued_as_its_file_says),
        cmocka_unit_test(what_is_no_job_fails_as_invalid_and_has_a_result),
        cmocka_unit_test(the_same_words_again_are_known),
        cmocka_unit_test(new_words_of_a_waiting_job_are_a_new_revision),
        cmocka_unit_test(an_invalid_job_that_was_mended_is_queued),
        cmocka_unit_test(new_words_of_a_done_job_wait_for_consent),
        cmocka_unit_test(without_consent_the_source_is_read_again_next_time),
        cmocka_unit_test(a_staged_revision_that_is_taken_back_is_forgotten),
        cmocka_unit_test(new_words_of_a_job_in_flight_wait_for_its_ending),
        cmocka_unit_test(staged_revisions_come_by_the_hundreds),
        cmocka_unit_test(a_name_seen_twice_in_a_scan_is_invalid_in_a_row_of_its_own),
        cmocka_unit_test(a_name_of_another_source_is_taken_while_that_lives),
        cmocka_unit_test(a_job_that_moved_with_its_words_stays_done),
        cmocka_unit_test(lines_without_a_name_are_counted_by_their_words),
        cmocka_unit_test(what_a_whole_scan_did_not_see_is_gone_and_may_come_back),
        cmocka_unit_test(an_end_that_saw_too_little_calls_nothing_gone),
        cmocka_unit_test(a_source_that_is_gone_keeps_its_rows),
        cmocka_unit_test(waiting_jobs_come_best_first),
        cmocka_unit_test(waiting_jobs_change_lanes),
        cmocka_unit_test(resting_jobs_come_when_their_rest_is_over),
        cmocka_unit_test(a_row_moves_only_from_where_it_is),
        cmocka_unit_test(a_waiting_job_cannot_be_settled),
        cmocka_unit_test(admission_of_what_changed_meanwhile_changes_nothing),
        cmocka_unit_test(answer_usage_cost_and_move_are_one),
        cmocka_unit_test(one_jobs_result_can_be_asked_for),
        cmocka_unit_test(a_body_of_any_length_is_kept_until_its_job_is_done),
        cmocka_unit_test(a_job_never_sent_has_no_last_attempt),
        cmocka_unit_test(a_sending_that_was_taken_back_does_not_count),
        cmocka_unit_test(an_attempt_is_charged_after_the_fact),
        cmocka_unit_test(failed_and_parked_jobs_are_queued_again),
        cmocka_unit_test(a_retried_job_does_not_end_with_its_earlier_answer),
        cmocka_unit_test(waiting_jobs_are_canceled_on_request),
        cmocka_unit_test(a_source_is_parked_some_rows_at_a_time),
        cmocka_unit_test(requests_of_other_commands_wait_for_the_runner),
        cmocka_unit_test(sums_and_doubt_are_what_the_rows_say),
        cmocka_unit_test(after_a_crash_what_was_out_is_known_and_nothing_else),
        cmocka_unit_test(a_run_that_never_told_its_end_is_known_with_what_it_spent),
        cmocka_unit_test(results_come_from_behind_a_rest_as_they_were_taken_in),
        cmocka_unit_test(the_length_of_a_results_file_is_kept),
        cmocka_unit_test(notes_are_kept_by_their_key),
        cmocka_unit_test(what_happened_to_a_run_is_kept_by_kind_and_lane),
        cmocka_unit_test(a_run_of_months_keeps_few_rows_and_loses_no_hold),
        cmocka_unit_test(a_run_is_told_apart_from_those_before_and_behind_it),
        cmocka_unit_test(others_see_a_list_whole_or_not_at_all),
        cmocka_unit_test(long_answers_come_back_whole_beside_short_ones),
        cmocka_unit_test(a_long_answer_that_is_lost_is_told_and_stops_nobody),
        cmocka_unit_test(a_file_that_lost_its_end_gives_nobody_anothers_answer),
        cmocka_unit_test(a_new_store_begins_with_no_answers),
        cmocka_unit_test(a_copy_tells_results_without_long_answers),
        cmocka_unit_test(what_is_pruned_gives_its_room_back),
        cmocka_unit_test_teardown(a_full_disk_is_told_and_loses_nothing,
                                  back_to_a_large_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
