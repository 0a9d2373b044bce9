/* explain: one job's life: why it went where it went, what was tried, what it cost. */
#include "runner/cmd.h"

#include "conf/catalog.h"
#include "jobs/store.h"
#include "jobs/textbuf.h"
#include "runner/err.h"
#include "runner/verdict.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct telling {
    struct textbuf json;
    bool wants_json;
    int64_t count;
};

static const char *state_of(const struct store_attempt *a)
{
    switch (a->state) {
    case ATTEMPT_OUT:
        return "out";
    case ATTEMPT_IN_DOUBT:
        return "in doubt";
    case ATTEMPT_TAKEN_BACK:
        return "taken back";
    case ATTEMPT_ANSWERED:
        break;
    }
    /* Sound, and yet not good enough: what is said then is what its check found. */
    if (a->verdict == VERDICT_ACCEPTED && a->says && *a->says)
        return "did not pass";
    return a->verdict >= 0 && a->verdict < VERDICT_COUNT
               ? verdict_name((enum verdict)a->verdict)
               : "answered";
}

static const char *clock_text(int64_t wall_ms, char *buf, size_t size)
{
    time_t t = (time_t)(wall_ms / 1000);
    struct tm tm;
    strftime(buf, size, "%Y-%m-%d %H:%M:%S", localtime_r(&t, &tm));
    return buf;
}

static void attempt_json(struct textbuf *b, const struct store_attempt *a)
{
    char usd[2][CATALOG_USD_MAX];
    textbuf_puts(b, "{\"outcome\":");
    textbuf_json(b, state_of(a));
    textbuf_puts(b, ",\"tier\":");
    textbuf_json(b, a->tier);
    textbuf_puts(b, ",\"model\":");
    textbuf_json(b, a->model);
    textbuf_puts(b, ",\"lane\":");
    textbuf_json(b, a->lane);
    textbuf_puts(b, ",\"why\":");
    textbuf_json(b, a->why);
    textbuf_puts(b, ",\"says\":");
    textbuf_json(b, a->says);
    textbuf_putf(b, ",\"status\":%ld,\"run\":%" PRId64 ",\"started_at\":", a->status,
                 a->run);
    textbuf_json_time(b, a->started_at);
    textbuf_puts(b, ",\"ended_at\":");
    textbuf_json_time(b, a->ended_at);
    textbuf_putf(b,
                 ",\"input_tokens\":%" PRId64 ",\"output_tokens\":%" PRId64
                 ",\"cache_read_input_tokens\":%" PRId64
                 ",\"cache_creation_input_tokens\":%" PRId64
                 ",\"cost_usd\":\"%s\",\"worst_usd\":\"%s\"}",
                 a->usage.input, a->usage.output, a->usage.cache_read,
                 a->usage.cache_write_5m + a->usage.cache_write_1h,
                 catalog_usd(a->cost, usd[0]), catalog_usd(a->worst, usd[1]));
}

static void attempt_text(const struct store_attempt *a, int64_t no)
{
    char when[32], usd[2][CATALOG_USD_MAX];
    printf("  %" PRId64 ". %s  %s  %s: %s", no,
           clock_text(a->started_at, when, sizeof when), a->model, a->why ? a->why : "",
           state_of(a));
    if (a->status > 0)
        printf(", status %ld", a->status);
    if (a->ended_at > a->started_at)
        printf(", after %.1f s", (double)(a->ended_at - a->started_at) / 1000);
    if (a->state == ATTEMPT_IN_DOUBT)
        printf(", may have cost $%s to $%s", catalog_usd(a->cost, usd[0]),
               catalog_usd(a->worst, usd[1]));
    else if (a->has_usage)
        printf(", %" PRId64 " tokens in, %" PRId64 " from cache, %" PRId64 " out, $%s",
               a->usage.input + a->usage.cache_write_5m + a->usage.cache_write_1h,
               a->usage.cache_read, a->usage.output, catalog_usd(a->cost, usd[0]));
    putchar('\n');
    if (a->says && *a->says)
        printf("     \"%s\"\n", a->says);
}

static int on_attempt(void *arg, const struct store_attempt *a)
{
    struct telling *t = arg;
    t->count++;
    if (!t->wants_json) {
        attempt_text(a, t->count);
        return 0;
    }
    if (t->count > 1)
        textbuf_puts(&t->json, ",");
    attempt_json(&t->json, a);
    return t->json.failed;
}

static void job_text(const struct store_job *j, int64_t now)
{
    char usd[CATALOG_USD_MAX];
    printf("%s: %s%s%s%s, from %s:%" PRId64 ", revision %" PRId64 "\n", j->name,
           job_state_name(j->state), j->outcome ? " (" : "",
           job_outcome_name(j->outcome), j->outcome ? ")" : "", j->path, j->line,
           j->revision);
    if (j->says)
        printf("  \"%s\"\n", j->says);
    if (j->state == JOB_QUEUED && j->ready_at > now)
        printf("  rests for %.0f s more, then it is tried again\n",
               (double)(j->ready_at - now) / 1000);
    else if (j->state == JOB_QUEUED)
        printf("  waits on lane %s; why that waits: nightmill status\n",
               j->lane ? j->lane : "(not routed yet)");
    printf("  %d of its attempts used, $%s spent on it so far\n", j->attempts,
           catalog_usd(j->cost, usd));
}

static void job_json(struct textbuf *b, const struct store_job *j)
{
    char usd[CATALOG_USD_MAX];
    textbuf_puts(b, "{\"job\":");
    textbuf_json(b, j->name);
    textbuf_putf(b, ",\"state\":\"%s\",\"outcome\":\"%s\",\"source\":",
                 job_state_name(j->state), job_outcome_name(j->outcome));
    textbuf_json(b, j->path);
    textbuf_putf(b, ",\"line\":%" PRId64 ",\"revision\":%" PRId64 ",\"lane\":", j->line,
                 j->revision);
    textbuf_json(b, j->lane);
    textbuf_puts(b, ",\"says\":");
    textbuf_json(b, j->says);
    textbuf_putf(b, ",\"attempts\":%d,\"cost_usd\":\"%s\",\"sendings\":[", j->attempts,
                 catalog_usd(j->cost, usd));
}

static int explain(const struct cmd_args *a, const struct queue *q, const char *name,
                   struct err *e)
{
    struct store_job j;
    struct telling t = {.wants_json = a->json};
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    struct store *st = store_open(q->state, STORE_ASK, true, e);
    int rc = st ? store_find(st, name, &j, e) : -1;
    if (rc == 0)
        rc = err_set(e, ERR_USAGE, "%s: no job of that name", name);
    if (rc > 0) {
        if (a->json)
            job_json(&t.json, &j);
        else
            job_text(&j, (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000);
        rc = store_each_attempt_of(st, j.id, on_attempt, &t, e);
        textbuf_puts(&t.json, "]}\n");
        if (rc == 0 && a->json && !t.json.failed)
            fwrite(t.json.at, 1, t.json.len, stdout);
        else if (rc == 0 && t.count == 0)
            puts("  never sent");
    }
    textbuf_free(&t.json);
    store_close(st);
    return rc;
}

int cmd_explain(const struct cmd_args *a)
{
    struct err e = {0};
    struct conf conf = {0};
    struct queue q = {.lock_root = -1, .lock_state = -1};
    if (cmd_conf(a, &conf, &e) == 0 && queue_find(&q, a->dir, &conf, &e) == 0) {
        if (!queue_known(&q))
            err_set(&e, ERR_USAGE, "%s was never run; nightmill run %s", a->dir,
                    a->dir);
        else if (a->names_len == 0)
            err_set(&e, ERR_USAGE, "explain wants DIR JOB...");
        for (int i = 0; i < a->names_len && e.code == ERR_NONE; i++)
            explain(a, &q, a->names[i], &e);
    }
    int code = e.code == ERR_NONE ? 0 : cmd_failed(&e);
    queue_close(&q);
    conf_free(&conf);
    return code;
}
