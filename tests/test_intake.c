#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

#include <fcntl.h>
#include <time.h>

#include "conf/conf.h"
#include "jobs/intake.h"
#include "jobs/store.h"
#include "jobs/textbuf.h"
#include "runner/err.h"
#include "runner/log.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])

enum { SETTLE = 2000 };

struct world {
    char dir[SCRATCH_MAX], root[PATH_MAX];
    struct conf conf;
    struct store *st;
    struct intake *in;
    int64_t scan, now;
    enum intake_step step;
    bool walked, watching;
    int slices, dirs;
    size_t most;     /* jobs of one slice */
    int taken[8];    /* by enum taken, of this scan */
    int may_send_at; /* the slice after which jobs might be sent; 0: never */
};

static const char *lane_of(void *arg, const struct job_spec *s, const char *name,
                           int64_t *turn, struct err *e)
{
    *turn = 0;
    (void)arg;
    (void)name;
    if (s->tier && strcmp(s->tier, "none") == 0) {
        err_set(e, ERR_INPUT, "tier = none: no such tier");
        return NULL;
    }
    return "lane";
}

static void on_dir(void *arg, const char *full)
{
    struct world *w = arg;
    assert_int_equal(strncmp(full, "/tmp/nightmill-test-", 20), 0);
    w->dirs++;
}

static void world_open(struct world *w)
{
    struct err e = {0};
    *w = (struct world){0};
    scratch_make(w->dir);
    snprintf(w->root, sizeof w->root, "%s/queue", w->dir);
    assert_int_equal(mkdir(w->root, 0755), 0);
    assert_int_equal(conf_init(&w->conf, &e), 0);
    if ((w->st = store_open(w->dir, STORE_RUN, false, &e)) == NULL)
        fail_msg("%s", e.text);
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    w->now = (int64_t)t.tv_sec * 1000 + 60000; /* everything has had its rest */
}

static void world_close(struct world *w)
{
    intake_free(w->in);
    store_close(w->st);
    conf_free(&w->conf);
    scratch_drop(w->dir);
}

static void begin(struct world *w)
{
    struct err e = {0};
    struct store_totals t;
    intake_free(w->in);
    assert_int_equal(store_totals(w->st, &t, &e), 0);
    w->in = intake_new(&(struct intake_opts){.root = w->root,
                                             .conf = &w->conf,
                                             .store = w->st,
                                             .scan = ++w->scan,
                                             .next_source = t.next_source,
                                             .lane = lane_of,
                                             .dir = on_dir,
                                             .watching = w->watching,
                                             .arg = w},
                       &e);
    if (w->in == NULL)
        fail_msg("%s", e.text);
    memset(w->taken, 0, sizeof w->taken);
    w->walked = false;
    w->slices = w->may_send_at = 0;
    w->most = 0;
}

static void slice(struct world *w)
{
    struct moves m;
    struct err e = {0};
    size_t jobs = 0;
    moves_init(&m);
    if (intake_slice(w->in, w->now, &m, &w->step, &e) < 0 ||
        store_apply(w->st, &m, NULL, &e) < 0)
        fail_msg("%s", e.text);
    for (struct move *v = m.first; v; v = v->next)
        if (v->kind == MOVE_TAKE_IN) {
            jobs++;
            w->taken[v->in.taken]++;
        }
    moves_free(&m);
    w->slices++;
    if (jobs > w->most)
        w->most = jobs;
    if (w->step == INTAKE_WALKED) {
        assert_false(w->walked); /* told once */
        w->walked = true;
    }
    if (w->may_send_at == 0 && intake_may_send(w->in))
        w->may_send_at = w->slices;
}

static void go_on(struct world *w)
{
    do
        slice(w);
    while (w->step != INTAKE_WAIT && w->step != INTAKE_END);
}

static void scan(struct world *w)
{
    begin(w);
    go_on(w);
}

static void put(struct world *w, const char *name, const char *text)
{
    scratch_puts(w->root, name, text);
}

struct list {
    char words[8000];
};

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int on_job(void *arg, const struct store_job *j)
{
    struct list *l = arg;
    if (!j->gone)
        strcat(strcat(l->words, j->name), "\n");
    return 0;
}

/* The names of all jobs of a state, sorted, one a line. */
static void assert_jobs(struct world *w, enum job_state state, const char *want)
{
    struct list l = {""};
    struct textbuf b = {0};
    char *names[300], *rest = l.words, *one;
    size_t n = 0;
    assert_int_equal(store_each_in(w->st, state, 1000, on_job, &l, NULL), 0);
    while ((one = strsep(&rest, "\n")) != NULL && *one)
        names[n++] = one;
    qsort(names, n, sizeof *names, compare);
    for (size_t i = 0; i < n; i++)
        textbuf_putf(&b, "%s%s", i ? "\n" : "", names[i]);
    assert_string_equal(b.at ? b.at : "", want);
    textbuf_free(&b);
}

static struct store_job find(struct world *w, const char *name)
{
    struct store_job j = {0};
    if (store_find(w->st, name, &j, NULL) != 1)
        fail_msg("%s is not there", name);
    return j;
}

static void assert_says(struct world *w, const char *name, const char *says)
{
    struct store_job j = find(w, name);
    assert_int_equal(j.state, JOB_FAILED);
    assert_int_equal(j.outcome, OUTCOME_INVALID);
    assert_string_equal(j.says, says);
}

static int keep_body(void *arg, const struct store_job *j)
{
    struct textbuf *b = arg;
    textbuf_put(b, j->body, j->body_len);
    return 0;
}

static void set_conf(struct world *w, const char *name, const char *value)
{
    assert_int_equal(conf_set(&w->conf, name, value, NULL), 0);
}

#define ASKS(what) \
    "{\"messages\":[{\"role\":\"user\",\"content\":\"" what "\"}],\"max_tokens\":1}"
#define LINE(id) "{\"custom_id\":\"" id "\",\"params\":" ASKS("hi") "}"

/* ---- the walk ---- */

static void names_say_what_is_a_job(void **state)
{
    (void)state;
    static const char *const files[] = {
        "a.md",
        "b.txt",
        "c.json",
        "d.jsonl",
        "deep/er/e.md",
        "v1.2.md",
        "with blank.md",
        "gr\xc3\xbc\xc3\x9f"
        "e.md",
        /* none of these */
        "README.md",
        "README",
        "README.txt",
        "deep/README.md",
        ".hidden.md",
        "_sys.md",
        "_parts/x.md",
        ".git/x.md",
        "x.md~",
        "#x.md#",
        ".x.md.swp",
        "x.md.swp",
        "x.tmp",
        "x.bak",
        "x.md.orig",
        "notes.pdf",
        "noextension",
        "x.MD.gz",
        "nightmill.ini",
        "results/r.md",
        "results/deep/r.md",
        ".nightmill/y.md",
    };
    struct world w;
    world_open(&w);
    for (size_t i = 0; i < CASES(files); i++)
        put(&w, files[i], strstr(files[i], ".json") ? LINE("1") : "hi");
    put(&w, "c.json", ASKS("hi"));
    put(&w, "results/" INTAKE_MARKER, "");
    assert_int_equal(mkfifo(scratch_path(w.root, "pipe.md"), 0600), 0);
    assert_int_equal(mkdir(scratch_path(w.root, "dir.md"), 0700), 0);
    scan(&w);
    assert_true(w.walked);
    assert_int_equal(w.step, INTAKE_END);
    assert_jobs(&w, JOB_QUEUED,
                "a\nb\nc\nd#1\ndeep/er/e\ngr\xc3\xbc\xc3\x9f"
                "e\nv1.2\nwith blank");
    assert_jobs(&w, JOB_FAILED, "");
    assert_int_equal(intake_found(w.in), 8);
    world_close(&w);
}

static void globs_say_what_is_ignored(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    put(&w, "a.md", "hi");
    put(&w, "a.draft.md", "hi");
    put(&w, "sub/b.draft.md", "hi");
    put(&w, "sub/c.md", "hi");
    put(&w, "old/d.md", "hi");
    put(&w, "sub/old/e.md", "hi");
    put(&w, "keep/f.md", "hi");
    set_conf(&w, "intake.ignore", "*.draft.md old sub/c.*");
    scan(&w);
    assert_jobs(&w, JOB_QUEUED, "a\nkeep/f");
    world_close(&w);
}

static void a_queue_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    struct world w;
    struct err e = {0};
    world_open(&w);
    assert_null(intake_new(
        &(struct intake_opts){
            .root = "/nowhere/at/all", .conf = &w.conf, .store = w.st, .lane = lane_of},
        &e));
    assert_int_equal(e.code, ERR_INPUT);
    assert_string_equal(e.text, "/nowhere/at/all: No such file or directory");
    scan(&w); /* an empty one is none */
    assert_int_equal(w.step, INTAKE_END);
    assert_int_equal(intake_found(w.in), 0);
    intake_free(NULL);
    world_close(&w);
}

static void a_link_is_as_good_as_its_file_while_that_lies_in_the_queue(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    put(&w, "_parts/a.md", "hi");
    scratch_puts(w.dir, "secret.md", "the secret");
    assert_int_equal(symlink("_parts/a.md", scratch_path(w.root, "in.md")), 0);
    assert_int_equal(symlink("../secret.md", scratch_path(w.root, "out.md")), 0);
    assert_int_equal(symlink("/etc/passwd", scratch_path(w.root, "etc.txt")), 0);
    assert_int_equal(symlink("nothing.md", scratch_path(w.root, "dangling.md")), 0);
    assert_int_equal(symlink("..", scratch_path(w.root, "up")), 0);
    scan(&w);
    assert_jobs(&w, JOB_QUEUED, "in");
    assert_says(&w, "out",
                "out.md:1: a link that leads out of the queue; copy the file");
    assert_says(&w, "etc",
                "etc.txt:1: a link that leads out of the queue; copy the file");
    scan(&w);
    assert_int_equal(w.taken[TAKEN_NEW] + w.taken[TAKEN_CHANGED], 0);
    world_close(&w);
}

/* Only as somebody who is not allowed everything. */
static void what_cannot_be_seen_is_not_taken_for_gone(void **state)
{
    (void)state;
    struct world w;
    bool root = geteuid() == 0;
    world_open(&w);
    put(&w, "a.md", "hi");
    put(&w, "sub/b.md", "hi");
    scan(&w);
    assert_jobs(&w, JOB_QUEUED, "a\nsub/b");
    assert_int_equal(chmod(scratch_path(w.root, "sub"), 0), 0);
    unlink(scratch_path(w.root, "a.md"));
    chmod(w.dir, 0755);
    if (root)
        assert_int_equal(seteuid(65534), 0);
    scan(&w);
    if (root)
        assert_int_equal(seteuid(0), 0);
    chmod(scratch_path(w.root, "sub"), 0755);
    assert_jobs(&w, JOB_QUEUED, "a\nsub/b");
    scan(&w); /* now it was seen, and a.md was not */
    assert_jobs(&w, JOB_QUEUED, "sub/b");
    world_close(&w);
}

/* ---- reading ---- */

static void what_was_read_is_not_read_again(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    put(&w, "a.md", "hi");
    put(&w, "b.jsonl", "");
    scan(&w);
    assert_int_equal(w.taken[TAKEN_NEW], 1);
    free(scratch_text(w.root, "a.md")); /* being read is no change */
    scan(&w);
    assert_int_equal(w.most, 0);

    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000}};
    utimensat(AT_FDCWD, scratch_path(w.root, "a.md"), times, 0);
    scan(&w);
    assert_int_equal(w.taken[TAKEN_KNOWN], 1); /* touched: read, and found the same */
    scan(&w);
    assert_int_equal(w.most, 0);

    scratch_puts(w.root, "_a", "hi"); /* the same bytes in another file */
    rename(scratch_path(w.root, "_a"), scratch_path(w.root, "a.md"));
    scan(&w);
    assert_int_equal(w.taken[TAKEN_KNOWN], 1);
    put(&w, "a.md", "ho");
    scan(&w);
    assert_int_equal(w.taken[TAKEN_CHANGED], 1);
    assert_int_equal(find(&w, "a").revision, 2);
    world_close(&w);
}

static void files_that_are_no_jobs_say_where_and_why(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    set_conf(&w, "intake.max_bytes", "1KiB");
    char long_text[1100];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    put(&w, "long.md", long_text);
    put(&w, "tier.md", "---\ntier: none\n---\nhi");
    put(&w, "bad.json", "{\"messages\":7}");
    put(&w, "bad\xff.md", "hi");
    scan(&w);
    assert_jobs(&w, JOB_QUEUED, "");
    assert_says(&w, "long", "long.md:1: 1099 bytes; want at most 1024");
    assert_says(&w, "tier", "tier.md:1: tier = none: no such tier");
    assert_int_equal(strncmp(find(&w, "bad").says, "bad.json:1: ", 12), 0);
    assert_int_equal(find(&w, "bad\xff").outcome, OUTCOME_INVALID);
    assert_non_null(
        strstr(find(&w, "bad\xff").says, "the file's name is too long or not UTF-8"));
    world_close(&w);
}

static void two_files_of_one_name_are_told_apart(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    put(&w, "a.md", "one");
    scan(&w);
    put(&w, "a.txt", "two");
    scan(&w);
    assert_jobs(&w, JOB_QUEUED, "a");
    assert_string_equal(find(&w, "a").path, "a.md");
    assert_says(&w, "a.txt",
                "a.txt:1: the name a is taken by an earlier job; want another");
    world_close(&w);
}

static void a_source_that_is_gone_is_not_run_and_may_come_back(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    put(&w, "a.md", "hi");
    put(&w, "b.jsonl", LINE("1") "\n" LINE("2") "\n");
    scan(&w);
    assert_jobs(&w, JOB_QUEUED, "a\nb#1\nb#2");
    unlink(scratch_path(w.root, "a.md"));
    put(&w, "b.jsonl", LINE("2") "\n");
    scan(&w);
    assert_jobs(&w, JOB_QUEUED, "b#2");
    assert_true(find(&w, "a").gone);
    assert_true(find(&w, "b#1").gone);
    put(&w, "a.md", "hi");
    scan(&w);
    assert_jobs(&w, JOB_QUEUED, "a\nb#2");
    assert_int_equal(w.taken[TAKEN_KNOWN], 1);
    world_close(&w);
}

/* ---- files that jobs refer to ---- */

static void assert_body(struct world *w, const char *want)
{
    struct textbuf b = {0};
    assert_int_equal(store_ready(w->st, "lane", 1, NULL, keep_body, &b, NULL), 0);
    assert_non_null(b.at);
    if (strstr(b.at, want) == NULL)
        fail_msg("%s: not in %s", want, b.at);
    textbuf_free(&b);
}

static void a_system_file_is_part_of_the_job(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    put(&w, "sub/a.md", "---\nsystem_file: _sys.txt\n---\nhi");
    put(&w, "sub/_sys.txt", "be kind\n");
    scan(&w);
    assert_body(&w, "\"system\":\"be kind\"");
    scan(&w);
    assert_int_equal(w.most, 0);
    put(&w, "sub/_sys.txt", "be stern\n");
    scan(&w);
    assert_int_equal(w.taken[TAKEN_CHANGED], 1);
    assert_body(&w, "\"system\":\"be stern\"");
    world_close(&w);
}

static void a_system_file_that_comes_later_mends_its_job(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    put(&w, "a.md", "---\nsystem_file: _s/sys.txt\n---\nhi");
    scan(&w);
    assert_says(&w, "a",
                "a.md:1: system_file = _s/sys.txt: cannot be read: No such file or "
                "directory");
    scan(&w);
    assert_jobs(&w, JOB_QUEUED, "");
    put(&w, "_s/sys.txt", "be kind");
    scan(&w);
    assert_jobs(&w, JOB_QUEUED, "a");
    unlink(scratch_path(w.root, "_s/sys.txt"));
    scan(&w);
    assert_jobs(&w, JOB_FAILED, "a");
    world_close(&w);
}

static void a_job_reaches_only_files_of_its_queue(void **state)
{
    (void)state;
    static const struct {
        const char *file, *says;
    } cases[] = {
        {"../_x.txt", "want a path inside the queue, without .."},
        {"/etc/_passwd", "want a path inside the queue, without .."},
        {"_a/../../_x.txt", "want a path inside the queue, without .."},
        {"plain.txt", "want a name that begins with _, since other files of the queue "
                      "are jobs"},
        {"_link.txt", "leads out of the queue"},
        {"_dir", "not an ordinary file"},
    };
    struct world w;
    char name[20], text[200], says[300];
    world_open(&w);
    scratch_puts(w.dir, "_x.txt", "the secret");
    put(&w, "plain.txt", "hi");
    assert_int_equal(symlink("../_x.txt", scratch_path(w.root, "_link.txt")), 0);
    assert_int_equal(mkdir(scratch_path(w.root, "_dir"), 0755), 0);
    for (size_t i = 0; i < CASES(cases); i++) {
        snprintf(name, sizeof name, "j%zu.md", i);
        snprintf(text, sizeof text, "---\nsystem_file: %s\n---\nhi", cases[i].file);
        put(&w, name, text);
    }
    scan(&w);
    for (size_t i = 0; i < CASES(cases); i++) {
        snprintf(name, sizeof name, "j%zu", i);
        snprintf(says, sizeof says, "j%zu.md:1: system_file = %s: %s", i, cases[i].file,
                 cases[i].says);
        assert_says(&w, name, says);
    }
    world_close(&w);
}

/* ---- bulk files ---- */

static void lines_end_in_every_way(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    put(&w, "b.jsonl",
        "\xef\xbb\xbf" LINE("1") "\r\n\n  \t\r\n" LINE("2") "\n" LINE("3"));
    put(&w, "bom.jsonl", "\xef\xbb\xbf");
    put(&w, "blank.jsonl", "\n\n \n");
    scan(&w);
    assert_jobs(&w, JOB_QUEUED, "b#1\nb#2\nb#3");
    assert_jobs(&w, JOB_FAILED, "");
    assert_int_equal(find(&w, "b#2").line, 4);
    assert_int_equal(find(&w, "b#3").line, 5);
    assert_string_equal(find(&w, "b#3").custom_id, "3");
    assert_true(find(&w, "b#3").bulk);
    world_close(&w);
}

static void a_line_that_is_no_job_leaves_the_others_alone(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    put(&w, "b.jsonl", LINE("1") "\nnonsense\n" LINE("2") "\n{\"custom_id\":\"3\"}\n");
    scan(&w);
    assert_jobs(&w, JOB_QUEUED, "b#1\nb#2");
    assert_int_equal(w.taken[TAKEN_NEW], 4);
    assert_int_equal(strncmp(find(&w, "b#3").says, "b.jsonl:4: ", 11), 0);
    world_close(&w);
}

static void an_inserted_line_disturbs_no_other(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    put(&w, "b.jsonl", ASKS("x") "\n" ASKS("x") "\n" ASKS("1") "\n");
    scan(&w);
    assert_int_equal(w.taken[TAKEN_NEW], 3);
    put(&w, "b.jsonl", "" ASKS("2") "\n" ASKS("x") "\n" ASKS("x") "\n" ASKS("1") "\n");
    scan(&w);
    assert_int_equal(w.taken[TAKEN_NEW], 1);
    assert_int_equal(w.taken[TAKEN_KNOWN], 3);
    world_close(&w);
}

/* The row of a line that is too long must not hang on what stands behind it. */
static void a_line_that_is_too_long_is_told_and_skipped(void **state)
{
    (void)state;
    static const size_t lengths[] = {1025, 3000, 5000, 300000, 1200000};
    for (size_t i = 0; i < CASES(lengths); i++) {
        struct world w;
        char *text = malloc(lengths[i] + 1000);
        world_open(&w);
        set_conf(&w, "intake.max_bytes", "1KiB");
        for (int round = 0; round < 3; round++) {
            memset(text, 'x', lengths[i]);
            strcpy(text + lengths[i], round == 1 ? "\n" LINE("9") "\n" LINE("2") "\n"
                                                 : "\n" LINE("1") "\n" LINE("2") "\n");
            put(&w, "b.jsonl", text);
            scan(&w);
            assert_int_equal(w.taken[TAKEN_NEW], round == 0 ? 3 : round == 1 ? 1 : 0);
            assert_int_equal(w.taken[TAKEN_CHANGED], 0);
        }
        assert_jobs(&w, JOB_QUEUED, "b#1\nb#2");
        assert_int_equal(find(&w, "b#2").line, 3);
        text[lengths[i]] = '\0'; /* and as the last line, without an end */
        put(&w, "c.jsonl", text);
        scan(&w);
        assert_int_equal(w.taken[TAKEN_NEW], 1);
        put(&w, "c.jsonl", text);
        scan(&w);
        assert_int_equal(w.taken[TAKEN_KNOWN], 1);
        free(text);
        world_close(&w);
    }
}

static char *many_lines(int from, int to)
{
    struct textbuf b = {0};
    for (int i = from; i < to; i++)
        textbuf_putf(&b, "{\"custom_id\":\"%d\",\"params\":" ASKS("hi") "}\n", i);
    return b.at;
}

static void a_long_file_comes_in_slices_and_behind_the_short_ones(void **state)
{
    (void)state;
    struct world w;
    char *text = many_lines(0, 5000);
    world_open(&w);
    put(&w, "a.jsonl", text);
    put(&w, "z.md", "hi");
    begin(&w);
    while (w.taken[TAKEN_NEW] == 0)
        slice(&w);
    assert_string_equal(find(&w, "z").path, "z.md");
    go_on(&w);
    assert_int_equal(w.taken[TAKEN_NEW], 5001);
    assert_true(w.most <= 600);
    assert_true(w.slices >= 5000 / 600);
    assert_true(w.may_send_at > 0 && w.may_send_at < 5); /* long before the end */
    free(text);
    world_close(&w);
}

static void nothing_is_sent_before_what_changed_is_known(void **state)
{
    (void)state;
    struct world w;
    char *text = many_lines(0, 3000), *changed = many_lines(1, 3000);
    world_open(&w);
    put(&w, "a.jsonl", text);
    scan(&w);
    assert_true(w.may_send_at < w.slices);
    put(&w, "a.jsonl", changed);
    put(&w, "new.md", "hi");
    scan(&w);
    assert_int_equal(w.taken[TAKEN_KNOWN], 2999);
    assert_true(w.may_send_at >= 2999 / 600);
    scan(&w);
    assert_true(w.may_send_at > 0);
    free(text);
    free(changed);
    world_close(&w);
}

static void a_file_that_changes_while_it_is_read_is_read_again(void **state)
{
    (void)state;
    struct world w;
    char *text = many_lines(0, 3000), *other = many_lines(1, 3001);
    world_open(&w);
    put(&w, "a.jsonl", text);
    begin(&w);
    while (w.taken[TAKEN_NEW] == 0)
        slice(&w);
    put(&w, "_a", other);
    rename(scratch_path(w.root, "_a"), scratch_path(w.root, "a.jsonl"));
    go_on(&w);
    assert_int_equal(w.step, INTAKE_WAIT);
    assert_int_equal(intake_young(w.in), 1);
    assert_false(intake_may_send(w.in)); /* it is known by now, and it changed */
    w.now = intake_wake_at(w.in);
    go_on(&w);
    assert_int_equal(w.step, INTAKE_END);
    assert_int_equal(w.taken[TAKEN_DUPLICATE], 0);
    assert_int_equal(find(&w, "a#3000").state, JOB_QUEUED);
    assert_true(find(&w, "a#0").gone);
    assert_false(find(&w, "a#1").gone);
    scan(&w);
    assert_int_equal(w.most, 0);
    free(text);
    free(other);
    world_close(&w);
}

/* ---- young files ---- */

static int64_t changed_at(struct world *w, const char *name)
{
    struct stat st;
    assert_int_equal(stat(scratch_path(w->root, name), &st), 0);
    return (int64_t)st.st_ctim.tv_sec * 1000 + st.st_ctim.tv_nsec / 1000000;
}

static void a_file_is_trusted_when_it_has_been_still(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    put(&w, "a.md", "hi");
    int64_t changed = changed_at(&w, "a.md");
    w.now = changed + SETTLE - 1;
    scan(&w);
    assert_int_equal(w.step, INTAKE_WAIT);
    assert_int_equal(intake_young(w.in), 1);
    assert_int_equal(intake_wake_at(w.in), changed + SETTLE);
    assert_true(intake_may_send(w.in)); /* it is new: nothing known waits for it */
    assert_jobs(&w, JOB_QUEUED, "");
    w.now = changed + SETTLE;
    go_on(&w);
    assert_int_equal(w.step, INTAKE_END);
    assert_int_equal(intake_young(w.in), 0);
    assert_jobs(&w, JOB_QUEUED, "a");

    put(&w, "a.md", "ho"); /* known, and young again: the gate is shut meanwhile */
    w.now = changed_at(&w, "a.md") + 1;
    scan(&w);
    assert_int_equal(w.step, INTAKE_WAIT);
    assert_false(intake_may_send(w.in));
    w.now = intake_wake_at(w.in);
    go_on(&w);
    assert_true(intake_may_send(w.in));
    assert_int_equal(find(&w, "a").revision, 2);
    world_close(&w);
}

/* The next scan of one that watches. */
static void scan_again(struct world *w)
{
    struct err e = {0};
    assert_int_equal(intake_again(w->in, &e), 0);
    memset(w->taken, 0, sizeof w->taken);
    w->walked = false;
    w->dirs = 0;
    go_on(w);
}

static void one_that_watches_leaves_what_is_young_for_its_next_scan(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    w.watching = true;
    put(&w, "a.md", "hi");
    put(&w, "sub/b.md", "hi");
    int64_t changed = changed_at(&w, "a.md");
    w.now = changed + SETTLE - 1;
    scan(&w);
    assert_int_equal(w.step, INTAKE_END); /* it does not wait */
    assert_int_equal(intake_wake_at(w.in), changed + SETTLE);
    assert_jobs(&w, JOB_QUEUED, "");
    assert_int_equal(w.dirs, 2);
    w.now += SETTLE + 1000;
    scan_again(&w);
    assert_int_equal(intake_wake_at(w.in), 0);
    assert_jobs(&w, JOB_QUEUED, "a\nsub/b");
    assert_int_equal(w.dirs, 2);
    scan_again(&w); /* nothing new */
    assert_int_equal(w.taken[TAKEN_KNOWN] + w.taken[TAKEN_NEW], 0);

    assert_int_equal(unlink(scratch_path(w.root, "a.md")), 0);
    scan_again(&w);
    assert_jobs(&w, JOB_QUEUED, "sub/b");
    put(&w, "a.md", "ho");
    w.now = changed_at(&w, "a.md") + SETTLE;
    scan_again(&w);
    assert_jobs(&w, JOB_QUEUED, "a\nsub/b");
    world_close(&w);
}

static void one_that_watches_lists_some_thousand_new_files_at_a_time(void **state)
{
    enum { FILES = 9000 };
    (void)state;
    struct world w;
    world_open(&w);
    w.watching = true;
    for (int i = 0; i < FILES; i++) {
        char name[40];
        snprintf(name, sizeof name, "f%d.md", i);
        put(&w, name, "hi");
    }
    scan(&w);
    int first = w.taken[TAKEN_NEW];
    assert_true(first > FILES / 2 && first < FILES);
    assert_true(intake_wake_at(w.in) > 0 && intake_wake_at(w.in) < w.now);
    scan_again(&w);
    assert_int_equal(first + w.taken[TAKEN_NEW], FILES);
    assert_int_equal(intake_wake_at(w.in), 0);
    world_close(&w);
}

static void what_somebody_has_open_for_writing_is_not_read(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    put(&w, "a.md", "It begins");
    put(&w, "b.jsonl",
        "{\"custom_id\":\"1\",\"params\":{\"max_tokens\":9,\"messages\":[{\"role\":"
        "\"user\",\"content\":\"x\"}]}}\n{");
    int a = open(scratch_path(w.root, "a.md"), O_WRONLY | O_APPEND);
    int b = open(scratch_path(w.root, "b.jsonl"), O_WRONLY | O_APPEND);
    assert_true(a >= 0 && b >= 0);
    w.now = changed_at(&w, "b.jsonl") + SETTLE + 100; /* still for long enough */
    scan(&w);
    assert_int_equal(w.step, INTAKE_WAIT);
    assert_jobs(&w, JOB_QUEUED, "b#1"); /* but not the line without an end */
    assert_jobs(&w, JOB_FAILED, "");
    close(a);
    close(b);
    w.now += 2 * SETTLE;
    go_on(&w);
    assert_int_equal(w.step, INTAKE_END);
    assert_jobs(&w, JOB_QUEUED, "a\nb#1");
    assert_true(find(&w, "a").bytes > 0);

    /* What has been still for very long is trusted, whoever has it open. */
    put(&w, "c.md", "A log, perhaps");
    int c = open(scratch_path(w.root, "c.md"), O_WRONLY | O_APPEND);
    w.now = changed_at(&w, "c.md") + 40 * SETTLE;
    scan(&w);
    assert_jobs(&w, JOB_QUEUED, "a\nb#1\nc");
    close(c);
    world_close(&w);
}

static void a_young_file_may_change_again_or_go(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    put(&w, "a.md", "hi");
    put(&w, "b.md", "hi");
    int64_t changed = changed_at(&w, "a.md");
    w.now = changed + 1;
    scan(&w);
    assert_int_equal(intake_young(w.in), 2);
    unlink(scratch_path(w.root, "b.md"));
    while (changed_at(&w, "a.md") == changed)
        put(&w, "a.md", "ho");
    w.now = changed + SETTLE; /* a.md is younger than that by now */
    go_on(&w);
    int64_t again = changed_at(&w, "a.md");
    assert_true(again > changed);
    if (w.step == INTAKE_WAIT) {
        /* The file's two times may be a clock tick apart. */
        assert_in_range(intake_wake_at(w.in) - again, SETTLE - 20, SETTLE + 20);
        w.now = again + SETTLE + 20;
        go_on(&w);
    }
    assert_int_equal(w.step, INTAKE_END);
    assert_jobs(&w, JOB_QUEUED, "a");
    assert_body(&w, "ho");
    world_close(&w);
}

static void a_file_that_never_rests_is_left_for_the_next_run(void **state)
{
    (void)state;
    struct world w;
    int rounds = 0;
    world_open(&w);
    set_conf(&w, "intake.settle", "10s");
    put(&w, "a.md", "hi");
    w.now = changed_at(&w, "a.md") + 1;
    scan(&w);
    while (w.step == INTAKE_WAIT && rounds++ < 200) {
        w.now = intake_wake_at(w.in);
        struct timespec t = {.tv_sec = w.now / 1000, .tv_nsec = 0};
        struct timespec times[2] = {t, t};
        utimensat(AT_FDCWD, scratch_path(w.root, "a.md"), times, 0);
        go_on(&w);
    }
    assert_int_equal(w.step, INTAKE_END);
    assert_true(rounds > 5 && rounds < 200);
    assert_jobs(&w, JOB_QUEUED, "");
    world_close(&w);
}

static void times_from_the_future_are_not_waited_for(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    put(&w, "a.md", "hi");
    struct timespec t = {.tv_sec = w.now / 1000 + 86400}, times[2] = {t, t};
    utimensat(AT_FDCWD, scratch_path(w.root, "a.md"), times, 0);
    scan(&w);
    assert_int_equal(w.step, INTAKE_END);
    assert_jobs(&w, JOB_QUEUED, "a");
    world_close(&w);
}

/* ---- the marker ---- */

static void a_marked_directory_is_made_and_kept(void **state)
{
    (void)state;
    struct world w;
    struct stat st;
    world_open(&w);
    const char *dir = scratch_path(w.root, "out");
    assert_int_equal(intake_mark(dir, 0700, NULL), 0);
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    put(&w, "out/" INTAKE_MARKER, "somebody's words");
    assert_int_equal(intake_mark(dir, 0700, NULL), 0);
    scratch_equals(w.root, "out/" INTAKE_MARKER, "somebody's words");
    put(&w, "out/x.md", "hi");
    scan(&w);
    assert_int_equal(intake_found(w.in), 0);
    struct err e = {0};
    assert_int_equal(intake_mark(scratch_path(w.root, "out/x.md"), 0700, &e), -1);
    assert_int_equal(e.code, ERR_STORE);
    world_close(&w);
}

int main(void)
{
    log_setup(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_say_what_is_a_job),
        cmocka_unit_test(globs_say_what_is_ignored),
        cmocka_unit_test(a_queue_that_is_not_there_is_an_error),
        cmocka_unit_test(a_link_is_as_good_as_its_file_while_that_lies_in_the_queue),
        cmocka_unit_test(what_cannot_be_seen_is_not_taken_for_gone),
        cmocka_unit_test(what_was_read_is_not_read_again),
        cmocka_unit_test(files_that_are_no_jobs_say_where_and_why),
        cmocka_unit_test(two_files_of_one_name_are_told_apart),
        cmocka_unit_test(a_source_that_is_gone_is_not_run_and_may_come_back),
        cmocka_unit_test(a_system_file_is_part_of_the_job),
        cmocka_unit_test(a_system_file_that_comes_later_mends_its_job),
        cmocka_unit_test(a_job_reaches_only_files_of_its_queue),
        cmocka_unit_test(lines_end_in_every_way),
        cmocka_unit_test(a_line_that_is_no_job_leaves_the_others_alone),
        cmocka_unit_test(an_inserted_line_disturbs_no_other),
        cmocka_unit_test(a_line_that_is_too_long_is_told_and_skipped),
        cmocka_unit_test(a_long_file_comes_in_slices_and_behind_the_short_ones),
        cmocka_unit_test(nothing_is_sent_before_what_changed_is_known),
        cmocka_unit_test(a_file_that_changes_while_it_is_read_is_read_again),
        cmocka_unit_test(a_file_is_trusted_when_it_has_been_still),
        cmocka_unit_test(one_that_watches_leaves_what_is_young_for_its_next_scan),
        cmocka_unit_test(one_that_watches_lists_some_thousand_new_files_at_a_time),
        cmocka_unit_test(what_somebody_has_open_for_writing_is_not_read),
        cmocka_unit_test(a_young_file_may_change_again_or_go),
        cmocka_unit_test(a_file_that_never_rests_is_left_for_the_next_run),
        cmocka_unit_test(times_from_the_future_are_not_waited_for),
        cmocka_unit_test(a_marked_directory_is_made_and_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
