/* costs: the ledger, summed up by one property of the attempts. */
#include "runner/cmd.h"

#include "conf/catalog.h"
#include "jobs/store.h"
#include "jobs/textbuf.h"
#include "runner/budget.h"
#include "runner/err.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[BY_COUNT] = {
    [BY_DAY] = "day",   [BY_MODEL] = "model", [BY_TIER] = "tier",
    [BY_LANE] = "lane", [BY_TAG] = "tag",     [BY_RUN] = "run"};

struct row {
    struct row *next;
    struct store_entry x;
    char key[];
};

struct adding {
    struct row *rows, **last;
    bool failed;
};

static void add_to(struct adding *a, const char *key, size_t len,
                   const struct store_entry *x)
{
    struct row *r = a->rows;
    while (r && (strlen(r->key) != len || memcmp(r->key, key, len) != 0))
        r = r->next;
    if (r == NULL) {
        if ((r = calloc(1, sizeof *r + len + 1)) == NULL) {
            a->failed = true;
            return;
        }
        memcpy(r->key, key, len);
        *a->last = r;
        a->last = &r->next;
    }
    r->x.attempts += x->attempts;
    r->x.done += x->done;
    r->x.usage.input += x->usage.input;
    r->x.usage.output += x->usage.output;
    r->x.usage.cache_read += x->usage.cache_read;
    r->x.usage.cache_write_5m += x->usage.cache_write_5m;
    r->x.usage.cache_write_1h += x->usage.cache_write_1h;
    r->x.cost = budget_sum(r->x.cost, x->cost);
    r->x.doubt += x->doubt;
    r->x.doubt_low = budget_sum(r->x.doubt_low, x->doubt_low);
    r->x.doubt_high = budget_sum(r->x.doubt_high, x->doubt_high);
}

static int on_entry(void *arg, const struct store_entry *x)
{
    struct adding *a = arg;
    const char *key = x->key && *x->key ? x->key : "(none)";
    add_to(a, key, strlen(key), x);
    return a->failed;
}

/* A job with two tags counts with both. */
static int on_tags(void *arg, const struct store_entry *x)
{
    struct adding *a = arg;
    if (x->key == NULL || *x->key == '\0')
        return on_entry(arg, x);
    for (const char *p = x->key; *p;) {
        size_t len = strcspn(p, ",");
        add_to(a, p, len, x);
        p += len + (p[len] == ',');
    }
    return a->failed;
}

static void print_json(const struct row *rows, const char *by)
{
    char usd[3][CATALOG_USD_MAX];
    struct textbuf b = {0};
    textbuf_putf(&b, "{\"by\":\"%s\",\"rows\":[", by);
    for (const struct row *r = rows; r; r = r->next) {
        const struct store_entry *x = &r->x;
        textbuf_puts(&b, "{\"key\":");
        textbuf_json(&b, r->key);
        textbuf_putf(
            &b,
            ",\"attempts\":%" PRId64 ",\"done\":%" PRId64 ",\"input_tokens\":%" PRId64
            ",\"output_tokens\":%" PRId64 ",\"cache_read_input_tokens\":%" PRId64
            ",\"cache_creation_input_tokens\":%" PRId64
            ",\"cost_usd\":\"%s\",\"in_doubt\":{\"attempts\":%" PRId64
            ",\"usd_low\":\"%s\",\"usd_high\":\"%s\"}}%s",
            x->attempts, x->done, x->usage.input, x->usage.output, x->usage.cache_read,
            x->usage.cache_write_5m + x->usage.cache_write_1h,
            catalog_usd(x->cost, usd[0]), x->doubt, catalog_usd(x->doubt_low, usd[1]),
            catalog_usd(x->doubt_high, usd[2]), r->next ? "," : "");
    }
    textbuf_puts(&b, "]}\n");
    if (!b.failed)
        fwrite(b.at, 1, b.len, stdout);
    textbuf_free(&b);
}

static void print_text(const struct row *rows, const char *by)
{
    char usd[3][CATALOG_USD_MAX];
    printf("%-28s %9s %9s %13s %13s %13s %16s\n", by, "attempts", "done", "tokens in",
           "from cache", "tokens out", "dollars");
    for (const struct row *r = rows; r; r = r->next) {
        const struct store_entry *x = &r->x;
        printf("%-28s %9" PRId64 " %9" PRId64 " %13" PRId64 " %13" PRId64 " %13" PRId64
               " %16s",
               r->key, x->attempts, x->done,
               x->usage.input + x->usage.cache_write_5m + x->usage.cache_write_1h,
               x->usage.cache_read, x->usage.output, catalog_usd(x->cost, usd[0]));
        if (x->doubt)
            printf("  and %" PRId64 " in doubt: %s to %s", x->doubt,
                   catalog_usd(x->doubt_low, usd[1]),
                   catalog_usd(x->doubt_high, usd[2]));
        putchar('\n');
    }
}

static int costs(const struct cmd_args *a, const struct queue *q, struct err *e)
{
    struct adding x = {.rows = NULL};
    enum store_by by = BY_DAY;
    struct store *st = store_open(q->state, STORE_ASK, true, e);
    x.last = &x.rows;
    while (a->by && by < BY_COUNT && strcmp(a->by, names[by]) != 0)
        by++;
    int rc = st ? store_ledger(st, by, by == BY_TAG ? on_tags : on_entry, &x, e) : -1;
    if (rc == 0 && !x.failed)
        (a->json ? print_json : print_text)(x.rows, names[by]);
    for (struct row *r = x.rows, *next; r; r = next) {
        next = r->next;
        free(r);
    }
    store_close(st);
    return rc == 0 && x.failed ? err_set(e, ERR_NOMEM, "out of memory") : rc;
}

int cmd_costs(const struct cmd_args *a)
{
    struct err e = {0};
    struct conf conf = {0};
    struct queue q = {.lock_root = -1, .lock_state = -1};
    if (cmd_conf(a, &conf, &e) == 0 && queue_find(&q, a->dir, &conf, &e) == 0) {
        if (queue_known(&q))
            costs(a, &q, &e);
        else
            err_set(&e, ERR_USAGE, "%s was never run; nightmill run %s", a->dir,
                    a->dir);
    }
    int code = e.code == ERR_NONE ? 0 : cmd_failed(&e);
    queue_close(&q);
    conf_free(&conf);
    return code;
}
