#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

#include <dirent.h>

#include "jobs/intake.h"
#include "jobs/results.h"
#include "jobs/textbuf.h"
#include "runner/err.h"
#include "runner/log.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])
#define NOW INT64_C(1795339820042) /* 2026-11-22T09:30:20.042Z */

/* ---- shapes ---- */

static struct store_result accepted(void)
{
    return (struct store_result){
        .job = {.name = "legal/contract-7",
                .custom_id = "7",
                .state = JOB_DONE,
                .outcome = OUTCOME_ACCEPTED,
                .sendings = 2,
                .cost = 123000000,
                .first_started = NOW - 1042,
                .finished_at = NOW},
        .last = {.id = 9,
                 .tier = "standard",
                 .model = "claude-sonnet-5-5",
                 .why = "the default tier",
                 .request_id = "req_1",
                 .has_usage = true,
                 .usage = {.input = 10,
                           .output = 20,
                           .cache_read = 30,
                           .cache_write_5m = 4,
                           .cache_write_1h = 5}},
        .message = "{\"content\":[],\n \"x\": 0.70}",
        .message_len = 26,
    };
}

static void assert_json(const struct store_result *x, bool bulk, const char *want)
{
    struct textbuf b = {0};
    results_json(&b, x, bulk);
    assert_false(b.failed);
    assert_string_equal(b.at, want);
    textbuf_free(&b);
}

#define SENT                                                                          \
    "\"tier\":\"standard\",\"model\":\"claude-sonnet-5-5\",\"why\":\"the default "    \
    "tier\",\"attempts\":2,\"usage\":{\"input_tokens\":10,\"output_tokens\":20,"      \
    "\"cache_read_input_tokens\":30,\"cache_creation_input_tokens\":9},\"cost_usd\":" \
    "\"0.000123\",\"request_id\":\"req_1\",\"started_at\":\"2026-11-22T09:30:19."     \
    "000Z\",\"finished_at\":\"2026-11-22T09:30:20.042Z\""
#define UNSENT                                                                 \
    "\"tier\":null,\"model\":null,\"why\":null,\"attempts\":0,\"usage\":null," \
    "\"cost_usd\":\"0.000000\",\"request_id\":null,\"started_at\":null,"       \
    "\"finished_at\":\"2026-11-22T09:30:20.042Z\""

static void a_done_job_is_told_with_its_message(void **state)
{
    (void)state;
    struct store_result x = accepted();
    assert_json(&x, false,
                "{\"job\":\"legal/contract-7\",\"state\":\"done\",\"outcome\":"
                "\"accepted\"," SENT ",\"message\":{\"content\":[],  \"x\": 0.70}}");
    assert_json(&x, true,
                "{\"custom_id\":\"7\",\"result\":{\"type\":\"succeeded\",\"message\":{"
                "\"content\":[],  \"x\": 0.70}},\"nightmill\":{\"job\":\"legal/"
                "contract-7\",\"state\":\"done\",\"outcome\":\"accepted\"," SENT "}}");
}

static void a_failed_job_is_told_with_its_error(void **state)
{
    (void)state;
    struct store_result x = accepted();
    x.job.state = JOB_FAILED;
    x.job.outcome = OUTCOME_BAD_REQUEST;
    x.job.type = "invalid_request_error";
    x.job.says = "messages: \"x\"";
    x.message = NULL;
    assert_json(&x, false,
                "{\"job\":\"legal/contract-7\",\"state\":\"failed\",\"outcome\":\"bad_"
                "request\"," SENT ",\"error\":{\"type\":\"invalid_request_error\","
                "\"message\":\"messages: \\\"x\\\"\"}}");
    assert_json(
        &x, true,
        "{\"custom_id\":\"7\",\"result\":{\"type\":\"errored\",\"error\":{"
        "\"type\":\"error\",\"error\":{\"type\":\"invalid_request_error\","
        "\"message\":\"messages: \\\"x\\\"\"}}},\"nightmill\":{\"job\":\"legal/"
        "contract-7\",\"state\":\"failed\",\"outcome\":\"bad_request\"," SENT
        ",\"error\":{\"type\":\"invalid_request_error\",\"message\":\"messages: "
        "\\\"x\\\"\"}}}");
}

static void a_truncated_answer_is_told_with_both(void **state)
{
    (void)state;
    struct store_result x = accepted();
    x.job.state = JOB_FAILED;
    x.job.outcome = OUTCOME_TRUNCATED;
    x.job.type = "max_tokens";
    x.job.says = "it reached max_tokens";
    x.message = "{}";
    x.message_len = 2;
    assert_json(&x, false,
                "{\"job\":\"legal/contract-7\",\"state\":\"failed\",\"outcome\":"
                "\"truncated\"," SENT ",\"message\":{},\"error\":{\"type\":\"max_"
                "tokens\",\"message\":\"it reached max_tokens\"}}");
}

static void a_job_never_sent_has_nulls_where_nothing_is(void **state)
{
    (void)state;
    struct store_result x = {.job = {.name = "b#2",
                                     .state = JOB_FAILED,
                                     .outcome = OUTCOME_INVALID,
                                     .says = "b.jsonl:2: want an object",
                                     .finished_at = NOW}};
    assert_json(&x, true,
                "{\"custom_id\":null,\"result\":{\"type\":\"errored\",\"error\":{"
                "\"type\":\"error\",\"error\":{\"type\":\"invalid\",\"message\":"
                "\"b.jsonl:2: want an object\"}}},\"nightmill\":{\"job\":\"b#2\","
                "\"state\":\"failed\",\"outcome\":\"invalid\"," UNSENT
                ",\"error\":{\"type\":\"invalid\",\"message\":\"b.jsonl:2: want an "
                "object\"}}}");
    x.job.outcome = OUTCOME_CANCELED;
    x.job.custom_id = "2";
    x.job.says = NULL;
    assert_json(&x, true,
                "{\"custom_id\":\"2\",\"result\":{\"type\":\"canceled\"},\"nightmill\":"
                "{\"job\":\"b#2\",\"state\":\"failed\",\"outcome\":\"canceled\"," UNSENT
                ",\"error\":{\"type\":\"canceled\",\"message\":\"\"}}}");
}

static void the_text_is_the_text_blocks_joined(void **state)
{
    (void)state;
    static const struct {
        const char *message, *want;
    } cases[] = {
        {"{\"content\":[{\"type\":\"text\",\"text\":\"hello\"}]}", "hello\n"},
        {"{\"content\":[{\"type\":\"text\",\"text\":\"hello\\n\"}]}", "hello\n"},
        {"{\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"text\":\"b\",\"type\":"
         "\"text\"}]}",
         "a\n\nb\n"},
        {"{\"content\":[{\"type\":\"thinking\",\"thinking\":\"hm\"},{\"type\":\"text\","
         "\"text\":\"a\"},{\"type\":\"tool_use\",\"input\":{\"text\":\"no\"}}]}",
         "a\n"},
        {"{\"content\":[{\"type\":\"text\",\"text\":\"gr\\u00fc\\ud83c\\udf19 "
         "\\\"q\\\"\"}]}",
         "gr\xc3\xbc\xf0\x9f\x8c\x99 \"q\"\n"},
        {"{\"content\":[{\"type\":\"text\",\"text\":\"\"}]}", ""},
        {"{\"content\":[]}", ""},
        {"{\"content\":\"a string\"}", ""},
        {"{\"content\":[{\"type\":\"text\",\"text\":7},[],1]}", ""},
        {"{}", ""},
        {"not json", ""},
        {"", ""},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct textbuf b = {0};
        results_text(&b, cases[i].message, strlen(cases[i].message));
        assert_string_equal(b.at ? b.at : "", cases[i].want);
        textbuf_free(&b);
    }
}

/* ---- files ---- */

struct world {
    char dir[SCRATCH_MAX], out[PATH_MAX];
    struct store *st;
    struct results *r;
    struct moves m; /* what results told */
    int64_t attempt, sources, scan;
};

static void world_open(struct world *w)
{
    struct err e = {0};
    *w = (struct world){0};
    scratch_make(w->dir);
    snprintf(w->out, sizeof w->out, "%s/results", w->dir);
    moves_init(&w->m);
    if ((w->st = store_open(w->dir, STORE_RUN, false, &e)) == NULL)
        fail_msg("%s", e.text);
    if ((w->r = results_open(w->out, w->st, &e)) == NULL)
        fail_msg("%s", e.text);
}

static void world_close(struct world *w)
{
    results_close(w->r);
    store_close(w->st);
    moves_free(&w->m);
    scratch_drop(w->dir);
}

static void apply(struct world *w, struct moves *m)
{
    struct err e = {0};
    if (store_apply(w->st, m, NULL, &e) < 0)
        fail_msg("%s", e.text);
    moves_free(m);
}

/* A job comes to its end, in the store alone: name#id for a bulk one. `says` is the
 * text of its answer, or NULL for one that could not be read. */
static void end(struct world *w, int64_t source, const char *path, const char *name,
                const char *id, const char *says)
{
    struct moves m;
    struct move *v;
    char message[200];
    struct job_spec s = {.body = (char *)"b", .body_len = 1};
    moves_init(&m);
    v = moves_add(&m, MOVE_SOURCE);
    v->source = source;
    v->name = path;
    v->count = id != NULL;
    struct move *in = moves_add(&m, MOVE_TAKE_IN);
    in->source = source;
    in->name = name;
    in->now = NOW;
    in->in.path = path;
    in->in.custom_id = id;
    in->in.scan = ++w->scan;
    in->in.spec = says ? &s : NULL;
    in->text = says ? NULL : "it is no job";
    snprintf((char *)in->in.digest, DIGEST_BYTES, "%lld", (long long)w->scan);
    struct err e = {0};
    if (store_apply(w->st, &m, NULL, &e) < 0)
        fail_msg("%s", e.text);
    int64_t job = in->job;
    int64_t revision = 1;
    bool staged = in->in.taken == TAKEN_STAGED;
    moves_free(&m);
    if (staged) {
        moves_add(&m, MOVE_REVISE);
        apply(w, &m);
    }
    if (says == NULL)
        return;
    struct store_job j;
    assert_int_equal(store_find(w->st, name, &j, NULL), 1);
    revision = j.revision;
    v = moves_add(&m, MOVE_ADMIT);
    v->job = job;
    v->count = revision;
    v->attempt = ++w->attempt;
    v->now = NOW;
    v->at.model = "m";
    v->at.attempts = 1;
    apply(w, &m);
    v = moves_add(&m, MOVE_SETTLE);
    v->job = job;
    v->attempt = w->attempt;
    v->to = JOB_DONE;
    v->outcome = OUTCOME_ACCEPTED;
    v->now = NOW;
    v->length = 1;
    v->started = NOW;
    v->at.state = ATTEMPT_ANSWERED;
    v->at.attempts = 1;
    snprintf(message, sizeof message,
             "{\"content\":[{\"type\":\"text\",\"text\":\"%s\"}]}", says);
    v->at.message = message;
    v->at.message_len = strlen(message);
    apply(w, &m);
}

struct last {
    struct world *w;
    const char *name;
    int found;
};

static int on_result(void *arg, const struct store_result *x)
{
    struct last *l = arg;
    struct err e = {0};
    if (l->name && strcmp(x->job.name, l->name) != 0)
        return 0;
    l->found++;
    if (results_write(l->w->r, x, &e) < 0)
        fail_msg("%s", e.text);
    return 0;
}

/* As the runner does when the job's settlement is on disk. */
static void write_result(struct world *w, const char *name)
{
    struct last l = {w, name, 0};
    assert_int_equal(store_each_result(w->st, 0, 0, on_result, &l, NULL), 0);
    assert_int_equal(l.found, 1);
}

static void flush(struct world *w)
{
    struct err e = {0};
    if (results_flush(w->r, &e) < 0)
        fail_msg("%s", e.text);
}

static void sync_all(struct world *w)
{
    struct err e = {0};
    if (results_sync(w->r, &w->m, &e) < 0)
        fail_msg("%s", e.text);
    apply(w, &w->m);
}

/* The next run, which knows what the store knows. */
static void recover(struct world *w)
{
    struct err e = {0};
    struct store_totals t;
    results_close(w->r);
    if ((w->r = results_open(w->out, w->st, &e)) == NULL)
        fail_msg("%s", e.text);
    assert_int_equal(store_totals(w->st, &t, &e), 0);
    if (results_recover(w->r, t.results_seq, &w->m, &e) < 0)
        fail_msg("%s", e.text);
    apply(w, &w->m);
}

/* Every line of a bulk file as "id:text id:text", told by its own words. */
static void assert_lines(struct world *w, const char *file, const char *want)
{
    char *text = scratch_text(w->out, file), words[1000] = "";
    if (text == NULL)
        fail_msg("%s is not there", file);
    char *rest = text, *line;
    if (*text)
        assert_int_equal(text[strlen(text) - 1], '\n'); /* whole lines alone */
    while ((line = strsep(&rest, "\n")) != NULL && *line) {
        char id[40], says[40] = "-";
        size_t n = strlen(words);
        assert_int_equal(sscanf(line, "{\"custom_id\":\"%39[^\"]\"", id), 1);
        const char *at = strstr(line, "\"text\":\"");
        if (at)
            sscanf(at, "\"text\":\"%39[^\"]\"", says);
        assert_string_equal(line + strlen(line) - 2, "}}");
        snprintf(words + n, sizeof words - n, "%s%s:%s", n ? " " : "", id, says);
    }
    assert_string_equal(words, want);
    free(text);
}

static int64_t length_of(struct world *w, const char *file)
{
    struct stat st;
    assert_int_equal(stat(scratch_path(w->out, file), &st), 0);
    return st.st_size;
}

static void assert_known(struct world *w, int64_t source, const char *file)
{
    struct store_file f;
    struct stat st;
    assert_int_equal(store_file(w->st, source, &f, NULL), 1);
    assert_int_equal(stat(scratch_path(w->out, file), &st), 0);
    assert_int_equal(f.length, st.st_size);
    assert_int_equal(f.inode, (int64_t)st.st_ino);
}

static int files_in(const char *dir)
{
    int n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2;
}

static void a_single_result_is_a_text_and_all_of_it(void **state)
{
    (void)state;
    static const struct {
        const char *path, *name;
    } cases[] = {
        {"a.md", "a"},
        {"deep/er/b.md", "deep/er/b"},
        {"gr\xc3\xbc\xc3\x9f"
         "e \xf0\x9f\x8c\x99.txt",
         "gr\xc3\xbc\xc3\x9f"
         "e \xf0\x9f\x8c\x99"},
        {"with \"quotes\" & blanks.md", "with \"quotes\" & blanks"},
        {"v1.2.md", "v1.2"},
    };
    struct world w;
    char file[200], want[400];
    world_open(&w);
    for (size_t i = 0; i < CASES(cases); i++) {
        end(&w, (int64_t)i + 1, cases[i].path, cases[i].name, NULL, "hello");
        write_result(&w, cases[i].name);
        snprintf(file, sizeof file, "%s.md", cases[i].name);
        scratch_equals(w.out, file, "hello\n");
        snprintf(file, sizeof file, "%s.json", cases[i].name);
        char *text = scratch_text(w.out, file);
        struct textbuf b = {0};
        textbuf_json(&b, cases[i].name);
        snprintf(want, sizeof want, "{\"job\":%s,\"state\":\"done\"", b.at);
        assert_int_equal(strncmp(text, want, strlen(want)), 0);
        assert_string_equal(text + strlen(text) - 2, "}\n");
        textbuf_free(&b);
        free(text);
    }
    assert_true(scratch_there(w.out, INTAKE_MARKER));
    assert_int_equal(files_in(w.out), 1 + 4 * 2 + 1); /* no temporary is left */
    assert_int_equal(files_in(scratch_path(w.out, "deep/er")), 2);
    world_close(&w);
}

static void a_result_without_text_has_no_text_file(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    end(&w, 1, "a.md", "a", NULL, "hello");
    write_result(&w, "a");
    assert_true(scratch_there(w.out, "a.md"));
    end(&w, 1, "a.md", "a", NULL, ""); /* a new revision that says nothing */
    write_result(&w, "a");
    assert_false(scratch_there(w.out, "a.md"));
    assert_true(scratch_there(w.out, "a.json"));
    end(&w, 2, "b.md", "b", NULL, NULL);
    write_result(&w, "b");
    assert_false(scratch_there(w.out, "b.md"));
    assert_true(scratch_there(w.out, "b.json"));
    world_close(&w);
}

static void bulk_lines_gather_and_are_known_once_they_are_synced(void **state)
{
    (void)state;
    struct world w;
    struct store_file f;
    struct store_totals t;
    world_open(&w);
    end(&w, 1, "sub/b.jsonl", "sub/b#1", "1", "one");
    end(&w, 1, "sub/b.jsonl", "sub/b#2", "2", "two");
    end(&w, 1, "sub/b.jsonl", "sub/b#3", "3", NULL);
    write_result(&w, "sub/b#1");
    assert_false(scratch_there(w.out, "sub/b.jsonl"));
    flush(&w);
    assert_lines(&w, "sub/b.jsonl", "1:one");
    assert_int_equal(store_file(w.st, 1, &f, NULL), 0);
    write_result(&w, "sub/b#2");
    write_result(&w, "sub/b#3");
    sync_all(&w);
    assert_lines(&w, "sub/b.jsonl", "1:one 2:two 3:-");
    assert_known(&w, 1, "sub/b.jsonl");
    assert_int_equal(store_totals(w.st, &t, NULL), 0);
    assert_int_equal(t.results_seq, 3);
    sync_all(&w); /* nothing to do */
    assert_int_equal(w.m.count, 0);
    world_close(&w);
}

/* Long ones are only referred to until the flush; the file is the same. */
static void messages_of_any_length_stand_in_their_lines(void **state)
{
    (void)state;
    static const size_t lens[] = {30, 2047, 2048, 100000, 5000, 2500000, 3, 40000};
    enum { LENS = CASES(lens) };
    struct world w;
    struct textbuf want = {0};
    char *message[LENS];
    world_open(&w);
    for (size_t i = 0; i < LENS; i++) {
        message[i] = malloc(lens[i] + 1);
        memset(message[i], (char)('a' + i), lens[i]);
        if (i % 3 == 1)
            message[i][lens[i] / 2] = '\n'; /* there it must not stay */
        struct store_result x = accepted();
        x.job.bulk = true;
        x.job.source = 1;
        x.job.path = "b.jsonl";
        x.job.rests = 1;
        x.message = message[i];
        x.message_len = lens[i];
        assert_int_equal(results_write(w.r, &x, NULL), 0);
        results_json(&want, &x, true);
        textbuf_puts(&want, "\n");
        if (i == 3)
            flush(&w);
    }
    flush(&w);
    for (size_t i = 0; i < LENS; i++)
        free(message[i]);
    FILE *f = fopen(scratch_path(w.out, "b.jsonl"), "rb");
    assert_non_null(f);
    char *got = malloc(want.len + 1);
    assert_int_equal(fread(got, 1, want.len + 1, f), want.len);
    assert_memory_equal(got, want.at, want.len);
    fclose(f);
    free(got);
    textbuf_free(&want);
    world_close(&w);
}

static void bulk_files_are_told_apart(void **state)
{
    (void)state;
    enum { FILES = 300 }; /* more than there are buckets */
    static char paths[FILES][20], names[FILES][20];
    struct world w;
    world_open(&w);
    for (int i = 0; i < FILES; i++) {
        snprintf(paths[i], sizeof paths[i], "f%d.jsonl", i);
        snprintf(names[i], sizeof names[i], "f%d#x", i);
        end(&w, i + 1, paths[i], names[i], "x", names[i]);
    }
    struct last l = {&w, NULL, 0};
    store_each_result(w.st, 0, 0, on_result, &l, NULL);
    sync_all(&w);
    for (int i = 0; i < FILES; i++) {
        char want[40];
        snprintf(want, sizeof want, "x:%s", names[i]);
        assert_lines(&w, paths[i], want);
        assert_known(&w, i + 1, paths[i]);
    }
    world_close(&w);
}

/* One line is known to be on disk, another one has come to rest since. */
static void world_open_with_two(struct world *w)
{
    world_open(w);
    end(w, 1, "b.jsonl", "b#1", "1", "one");
    write_result(w, "b#1");
    sync_all(w);
    end(w, 1, "b.jsonl", "b#2", "2", "two");
}

static void a_start_adds_what_is_missing(void **state)
{
    (void)state;
    struct world w;
    world_open_with_two(&w);
    end(&w, 2, "a.md", "a", NULL, "hello");
    recover(&w);
    assert_lines(&w, "b.jsonl", "1:one 2:two");
    scratch_equals(w.out, "a.md", "hello\n");
    assert_known(&w, 1, "b.jsonl");
    ino_t was;
    struct stat st;
    stat(scratch_path(w.out, "b.jsonl"), &st);
    was = st.st_ino;
    recover(&w); /* and the next one finds nothing to do */
    assert_lines(&w, "b.jsonl", "1:one 2:two");
    stat(scratch_path(w.out, "b.jsonl"), &st);
    assert_int_equal(st.st_ino, was);
    world_close(&w);
}

static void append(struct world *w, const char *file, const char *text)
{
    FILE *f = fopen(scratch_path(w->out, file), "a");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* The line went out and the crash came before the store knew. */
static void a_start_cuts_what_a_crash_left(void **state)
{
    (void)state;
    static const char *const leftovers[] = {
        "{\"custom_id\":\"2\",\"resu", "x", "\n",
        "{\"custom_id\":\"2\",\"result\":{\"text\":\"two\"}}\n{\"custom"};
    for (size_t i = 0; i < CASES(leftovers); i++) {
        struct world w;
        struct stat was, is;
        world_open_with_two(&w);
        append(&w, "b.jsonl", leftovers[i]);
        assert_int_equal(stat(scratch_path(w.out, "b.jsonl"), &was), 0);
        recover(&w);
        assert_lines(&w, "b.jsonl", "1:one 2:two");
        assert_int_equal(stat(scratch_path(w.out, "b.jsonl"), &is), 0);
        assert_int_equal(is.st_ino, was.st_ino); /* cut, and not made anew */
        assert_known(&w, 1, "b.jsonl");
        world_close(&w);
    }
}

static void what_was_flushed_and_not_synced_is_not_told_twice(void **state)
{
    (void)state;
    struct world w;
    world_open_with_two(&w);
    write_result(&w, "b#2");
    flush(&w); /* the process dies here */
    assert_lines(&w, "b.jsonl", "1:one 2:two");
    recover(&w);
    assert_lines(&w, "b.jsonl", "1:one 2:two");
    world_close(&w);
}

static void a_file_that_is_not_the_one_it_knew_is_made_anew(void **state)
{
    (void)state;
    for (int way = 0; way < 6; way++) {
        struct world w;
        world_open_with_two(&w);
        const char *path = scratch_path(w.out, "b.jsonl");
        switch (way) {
        case 0: /* lost */
            unlink(path);
            break;
        case 1: /* cut by somebody */
            assert_int_equal(truncate(path, length_of(&w, "b.jsonl") - 5), 0);
            break;
        case 2: /* another file of the same length */
            scratch_puts(w.out, "other", "");
            assert_int_equal(
                truncate(scratch_path(w.out, "other"), length_of(&w, "b.jsonl")), 0);
            rename(scratch_path(w.out, "other"), path);
            break;
        case 3: /* empty */
            assert_int_equal(truncate(path, 0), 0);
            break;
        case 4: /* a link: what it leads to is not ours */
            scratch_puts(w.dir, "victim", "precious");
            unlink(path);
            assert_int_equal(symlink("../victim", path), 0);
            break;
        case 5: /* the whole directory is gone */
            scratch_drop(w.out);
            break;
        }
        recover(&w);
        assert_lines(&w, "b.jsonl", "1:one 2:two");
        assert_known(&w, 1, "b.jsonl");
        if (way == 4) {
            struct stat st;
            scratch_equals(w.dir, "victim", "precious");
            assert_int_equal(lstat(path, &st), 0);
            assert_true(S_ISREG(st.st_mode));
        }
        assert_int_equal(files_in(w.out), 2);
        world_close(&w);
    }
}

/* The same while a run goes on. */
static void a_file_that_changes_under_a_run_is_made_anew(void **state)
{
    (void)state;
    for (int way = 0; way < 3; way++) {
        struct world w;
        struct err e = {0};
        world_open_with_two(&w);
        if (way == 0)
            unlink(scratch_path(w.out, "b.jsonl"));
        else if (way == 1)
            append(&w, "b.jsonl", "a line of somebody else\n");
        else
            assert_int_equal(truncate(scratch_path(w.out, "b.jsonl"), 3), 0);
        write_result(&w, "b#2");
        sync_all(&w);
        if (results_rebuild(w.r, &w.m, &e) < 0)
            fail_msg("%s", e.text);
        apply(&w, &w.m);
        assert_lines(&w, "b.jsonl", "1:one 2:two");
        assert_known(&w, 1, "b.jsonl");
        end(&w, 1, "b.jsonl", "b#3", "3", "three"); /* and it goes on from there */
        write_result(&w, "b#3");
        sync_all(&w);
        assert_lines(&w, "b.jsonl", "1:one 2:two 3:three");
        assert_known(&w, 1, "b.jsonl");
        world_close(&w);
    }
}

static void a_file_that_was_there_before_is_not_added_to(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    scratch_puts(w.out, "b.jsonl", "somebody's notes\n");
    end(&w, 1, "b.jsonl", "b#1", "1", "one");
    recover(&w);
    assert_lines(&w, "b.jsonl", "1:one");
    world_close(&w);
}

/* A revised line would stand there twice: one line a custom_id. */
static void a_revised_line_takes_the_place_of_the_old_one(void **state)
{
    (void)state;
    for (int crash = 0; crash < 2; crash++) {
        struct world w;
        struct err e = {0};
        world_open_with_two(&w);
        write_result(&w, "b#2");
        sync_all(&w);
        end(&w, 1, "b.jsonl", "b#1", "1", "anew");
        write_result(&w, "b#1");
        sync_all(&w);
        if (crash)
            recover(&w); /* what a dead run had not made anew is made at the start */
        else if (results_rebuild(w.r, &w.m, &e) < 0)
            fail_msg("%s", e.text);
        if (!crash)
            apply(&w, &w.m);
        assert_lines(&w, "b.jsonl", "1:anew 2:two");
        assert_known(&w, 1, "b.jsonl");
        assert_int_equal(files_in(w.out), 2);
        world_close(&w);
    }
}

static void a_line_that_was_revised_before_it_was_written_stands_once(void **state)
{
    (void)state;
    struct world w;
    world_open(&w);
    end(&w, 1, "b.jsonl", "b#1", "1", "one");
    end(&w, 1, "b.jsonl", "b#1", "1", "anew");
    end(&w, 1, "b.jsonl", "b#2", "2", "two");
    recover(&w);
    assert_lines(&w, "b.jsonl", "1:anew 2:two");
    world_close(&w);
}

static void a_result_without_a_place_is_passed_over_and_counted(void **state)
{
    (void)state;
    struct world w;
    struct err e = {0};
    world_open(&w);
    scratch_puts(w.out, "sub", "a file where a directory is wanted");
    end(&w, 1, "sub/a.md", "sub/a", NULL, "hello");
    end(&w, 2, "sub/b.jsonl", "sub/b#1", "1", "one");
    struct store_result x = accepted();
    x.job.name = "sub/a";
    assert_int_equal(results_write(w.r, &x, &e), 0); /* one name stops nobody else */
    assert_int_equal(results_skipped(w.r), 1);
    write_result(&w, "sub/b#1");
    assert_int_equal(results_sync(w.r, &w.m, &e), -1);
    assert_int_equal(e.code, ERR_STORE);
    moves_free(&w.m);

    /* the way is free again: the next start tells all of it */
    unlink(scratch_path(w.out, "sub"));
    recover(&w);
    scratch_equals(w.out, "sub/a.md", "hello\n");
    assert_lines(&w, "sub/b.jsonl", "1:one");
    world_close(&w);

    e = (struct err){0};
    assert_null(results_open("/proc/none/such", NULL, &e));
    assert_int_equal(e.code, ERR_STORE);
    results_close(NULL);
}

int main(void)
{
    log_setup(LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_done_job_is_told_with_its_message),
        cmocka_unit_test(a_failed_job_is_told_with_its_error),
        cmocka_unit_test(a_truncated_answer_is_told_with_both),
        cmocka_unit_test(a_job_never_sent_has_nulls_where_nothing_is),
        cmocka_unit_test(the_text_is_the_text_blocks_joined),
        cmocka_unit_test(a_single_result_is_a_text_and_all_of_it),
        cmocka_unit_test(a_result_without_text_has_no_text_file),
        cmocka_unit_test(bulk_lines_gather_and_are_known_once_they_are_synced),
        cmocka_unit_test(messages_of_any_length_stand_in_their_lines),
        cmocka_unit_test(bulk_files_are_told_apart),
        cmocka_unit_test(a_start_adds_what_is_missing),
        cmocka_unit_test(a_start_cuts_what_a_crash_left),
        cmocka_unit_test(what_was_flushed_and_not_synced_is_not_told_twice),
        cmocka_unit_test(a_file_that_is_not_the_one_it_knew_is_made_anew),
        cmocka_unit_test(a_file_that_changes_under_a_run_is_made_anew),
        cmocka_unit_test(a_file_that_was_there_before_is_not_added_to),
        cmocka_unit_test(a_revised_line_takes_the_place_of_the_old_one),
        cmocka_unit_test(a_line_that_was_revised_before_it_was_written_stands_once),
        cmocka_unit_test(a_result_without_a_place_is_passed_over_and_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
