/* results: what came of the jobs, in the shape a pipeline wants. Rows are printed as they
 * are read; nothing grows with their number. */
#include "runner/cmd.h"

#include "conf/catalog.h"
#include "jobs/results.h"
#include "jobs/store.h"
#include "jobs/textbuf.h"
#include "runner/err.h"
#include "runner/when.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FIELDS_MAX = 64 };

/* --- fields --- */

enum kind { TEXT, NUMBER, JSON }; /* how a value stands in JSON */

/* One row a field. `put` writes the bare value; nothing is null in JSON, empty in CSV. */
struct field {
    const char *name;
    enum kind kind;
    void (*put)(struct textbuf *b, const struct store_result *x);
};

static void put_text(struct textbuf *b, const char *s)
{
    if (s)
        textbuf_puts(b, s);
}

static void put_time(struct textbuf *b, int64_t ms)
{
    struct textbuf quoted = {0};
    if (ms == 0)
        return;
    textbuf_json_time(&quoted, ms);
    if (!quoted.failed && quoted.len > 2)
        textbuf_put(b, quoted.at + 1, quoted.len - 2);
    textbuf_free(&quoted);
}

static bool has_error(const struct store_result *x)
{
    return x->job.state != JOB_DONE;
}

#define TEXT_FIELD(name, value)                                             \
    static void put_##name(struct textbuf *b, const struct store_result *x) \
    {                                                                       \
        put_text(b, value);                                                 \
    }
#define INT_FIELD(name, given, value)                                       \
    static void put_##name(struct textbuf *b, const struct store_result *x) \
    {                                                                       \
        if (given)                                                          \
            textbuf_int(b, value);                                          \
    }
TEXT_FIELD(job, x->job.name)
TEXT_FIELD(custom_id, x->job.custom_id)
TEXT_FIELD(state, job_state_name(x->job.state))
TEXT_FIELD(outcome, job_outcome_name(x->job.outcome))
TEXT_FIELD(tier, x->last.tier)
TEXT_FIELD(model, x->last.model)
TEXT_FIELD(why, x->last.why)
TEXT_FIELD(tags, x->job.tags)
TEXT_FIELD(request_id, x->last.request_id)
TEXT_FIELD(error_type, !has_error(x)                 ? NULL
                       : x->job.type && *x->job.type ? x->job.type
                                                     : job_outcome_name(x->job.outcome))
TEXT_FIELD(error_message, has_error(x) ? x->job.says : NULL)
INT_FIELD(attempts, true, x->job.sendings)
INT_FIELD(input, x->last.has_usage, x->last.usage.input)
INT_FIELD(output, x->last.has_usage, x->last.usage.output)
INT_FIELD(cache_read, x->last.has_usage, x->last.usage.cache_read)
INT_FIELD(cache_write, x->last.has_usage,
          x->last.usage.cache_write_5m + x->last.usage.cache_write_1h)

static void put_cost(struct textbuf *b, const struct store_result *x)
{
    char usd[CATALOG_USD_MAX];
    textbuf_puts(b, catalog_usd(x->job.cost, usd));
}

static void put_started(struct textbuf *b, const struct store_result *x)
{
    put_time(b, x->job.first_started);
}

static void put_finished(struct textbuf *b, const struct store_result *x)
{
    put_time(b, x->job.finished_at);
}

static void put_answer(struct textbuf *b, const struct store_result *x)
{
    if (x->message == NULL)
        return;
    struct textbuf text = {0};
    results_text(&text, x->message, x->message_len);
    if (text.len > 0)
        textbuf_put(b, text.at, text.len - (text.at[text.len - 1] == '\n'));
    b->failed = b->failed || text.failed;
    textbuf_free(&text);
}

static void put_message(struct textbuf *b, const struct store_result *x)
{
    for (size_t i = 0; x->message && i < x->message_len; i++)
        textbuf_put(b, x->message[i] == '\n' ? " " : &x->message[i], 1);
}

static const struct field fields[] = {
    {"job", TEXT, put_job},
    {"custom_id", TEXT, put_custom_id},
    {"state", TEXT, put_state},
    {"outcome", TEXT, put_outcome},
    {"tier", TEXT, put_tier},
    {"model", TEXT, put_model},
    {"why", TEXT, put_why},
    {"attempts", NUMBER, put_attempts},
    {"usage.input_tokens", NUMBER, put_input},
    {"usage.output_tokens", NUMBER, put_output},
    {"usage.cache_read_input_tokens", NUMBER, put_cache_read},
    {"usage.cache_creation_input_tokens", NUMBER, put_cache_write},
    {"cost_usd", TEXT, put_cost},
    {"request_id", TEXT, put_request_id},
    {"started_at", TEXT, put_started},
    {"finished_at", TEXT, put_finished},
    {"tags", TEXT, put_tags},
    {"error.type", TEXT, put_error_type},
    {"error.message", TEXT, put_error_message},
    {"text", TEXT, put_answer},
    {"message", JSON, put_message},
};
enum { FIELDS = sizeof fields / sizeof fields[0] };

/* CSV without --field: all but the message, whose text is there. */
enum { FIELDS_BY_DEFAULT = FIELDS - 1 };

struct printing {
    const struct cmd_args *args;
    const struct field *field[FIELDS_MAX];
    int fields;
    int64_t since;
    struct store *st;
    struct textbuf b, value;
    bool failed;
    struct err *e;
};

static int choose_fields(struct printing *p, const char *names)
{
    char known[600] = "";
    for (const char *at = names; *at;) {
        size_t n = strcspn(at, ",");
        int i = 0;
        while (i < FIELDS &&
               (strlen(fields[i].name) != n || memcmp(fields[i].name, at, n) != 0))
            i++;
        if (i == FIELDS || p->fields == FIELDS_MAX) {
            for (i = 0; i < FIELDS; i++)
                snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s",
                         i ? ", " : "", fields[i].name);
            return err_set(p->e, ERR_USAGE, "--field %.*s: want some of %s", (int)n, at,
                           known);
        }
        p->field[p->fields++] = &fields[i];
        at += n + (at[n] == ',');
    }
    return p->fields > 0 ? 0 : err_set(p->e, ERR_USAGE, "--field wants a name");
}

/* --- rows --- */

static const struct textbuf *value_of(struct printing *p, const struct field *f,
                                      const struct store_result *x)
{
    textbuf_clear(&p->value);
    f->put(&p->value, x);
    p->b.failed = p->b.failed || p->value.failed;
    return &p->value;
}

/* RFC 4180: what holds a comma, a quote or a line's end stands in quotes. */
static void put_csv(struct textbuf *b, const struct textbuf *v)
{
    if (v->len == 0)
        return;
    if (v->at[strcspn(v->at, ",\"\r\n")] == '\0') {
        textbuf_put(b, v->at, v->len);
        return;
    }
    textbuf_puts(b, "\"");
    const char *at = v->at, *end = v->at + v->len, *quote;
    for (; (quote = memchr(at, '"', (size_t)(end - at))) != NULL; at = quote + 1) {
        textbuf_put(b, at, (size_t)(quote + 1 - at));
        textbuf_puts(b, "\"");
    }
    textbuf_put(b, at, (size_t)(end - at));
    textbuf_puts(b, "\"");
}

static void csv_row(struct printing *p, const struct store_result *x)
{
    for (int i = 0; i < p->fields; i++) {
        if (i > 0)
            textbuf_puts(&p->b, ",");
        if (x)
            put_csv(&p->b, value_of(p, p->field[i], x));
        else
            textbuf_puts(&p->b, p->field[i]->name);
    }
    textbuf_puts(&p->b, "\r\n");
}

static void json_row(struct printing *p, const struct store_result *x)
{
    if (p->fields == 0) {
        results_json(&p->b, x, false);
        textbuf_puts(&p->b, "\n");
        return;
    }
    for (int i = 0; i < p->fields; i++) {
        const struct textbuf *v = value_of(p, p->field[i], x);
        textbuf_puts(&p->b, i ? "," : "{");
        textbuf_json(&p->b, p->field[i]->name);
        textbuf_puts(&p->b, ":");
        if (v->len == 0)
            textbuf_puts(&p->b, "null");
        else if (p->field[i]->kind == TEXT)
            textbuf_json_bytes(&p->b, v->at, v->len);
        else
            textbuf_put(&p->b, v->at, v->len);
    }
    textbuf_puts(&p->b, "}\n");
}

static void text_row(struct printing *p, const struct store_result *x)
{
    for (int i = 0; i < p->fields; i++) {
        const struct textbuf *v = value_of(p, p->field[i], x);
        if (i > 0)
            textbuf_puts(&p->b, "\t");
        if (v->len > 0)
            textbuf_put(&p->b, v->at, v->len);
    }
    if (p->fields == 0) {
        textbuf_putf(&p->b, "== %s (%s) ==\n", x->job.name,
                     job_outcome_name(x->job.outcome));
        if (x->message)
            results_text(&p->b, x->message, x->message_len);
        else if (x->job.says)
            textbuf_puts(&p->b, x->job.says);
    }
    if (p->b.len > 0 && p->b.at[p->b.len - 1] != '\n')
        textbuf_puts(&p->b, "\n");
}

static int flush(struct printing *p)
{
    p->failed = p->b.failed || fwrite(p->b.at, 1, p->b.len, stdout) != p->b.len;
    textbuf_clear(&p->b);
    return p->failed;
}

static int on_result(void *arg, const struct store_result *x)
{
    struct printing *p = arg;
    const char *only = p->args->only;
    if ((only && strcmp(only, job_state_name(x->job.state)) != 0) ||
        x->job.finished_at < p->since)
        return 0;
    if (strcmp(p->args->format, "csv") == 0)
        csv_row(p, x);
    else if (strcmp(p->args->format, "text") == 0)
        text_row(p, x);
    else
        json_row(p, x);
    return flush(p);
}

static int on_finished(void *arg, int64_t job)
{
    struct printing *p = arg;
    if (store_result_of(p->st, job, on_result, p, p->e) < 0)
        return 1;
    return p->failed;
}

static void print_all(struct printing *p)
{
    if (strcmp(p->args->format, "csv") == 0) {
        for (int i = 0; p->fields == 0 && i < FIELDS_BY_DEFAULT; i++)
            p->field[i] = &fields[i];
        p->fields = p->fields ? p->fields : FIELDS_BY_DEFAULT;
        csv_row(p, NULL);
        if (flush(p))
            return;
    }
    if (p->args->order && strcmp(p->args->order, "finished") == 0)
        store_each_finished(p->st, on_finished, p, p->e);
    else
        store_each_result(p->st, 0, 0, on_result, p, p->e);
}

int cmd_results(const struct cmd_args *a)
{
    struct err e = {0};
    struct conf conf = {0};
    struct queue q = {.lock_root = -1, .lock_state = -1};
    struct printing p = {.args = a, .e = &e};
    signal(SIGPIPE, SIG_IGN); /* `| head` ends it without a word */
    if (a->since && when_read(a->since, (int64_t)time(NULL) * 1000, &p.since) < 0)
        err_set(&e, ERR_USAGE, "--since %s: " WHEN_WANTED, a->since);
    else if ((a->field == NULL || choose_fields(&p, a->field) == 0) &&
             cmd_conf(a, &conf, &e) == 0 && queue_find(&q, a->dir, &conf, &e) == 0) {
        if (!queue_known(&q))
            err_set(&e, ERR_USAGE, "%s was never run; nightmill run %s", a->dir,
                    a->dir);
        else if ((p.st = store_open(q.state, STORE_ASK, true, &e)) != NULL)
            print_all(&p);
    }
    if (p.b.failed && e.code == ERR_NONE)
        err_set(&e, ERR_NOMEM, "out of memory");
    bool closed = fflush(stdout) != 0 || p.failed;
    int code = e.code == ERR_NONE ? closed : cmd_failed(&e);
    textbuf_free(&p.b);
    textbuf_free(&p.value);
    store_close(p.st);
    queue_close(&q);
    conf_free(&conf);
    return code;
}
