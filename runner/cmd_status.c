#include "runner/cmd.h"

#include "conf/catalog.h"
#include "jobs/account.h"
#include "jobs/store.h"
#include "jobs/textbuf.h"
#include "runner/err.h"
#include "runner/shared.h"
#include "runner/when.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SHOWN_MAX = 10 };

struct lane_line {
    struct lane_line *next;
    struct account_lane kept;
    bool modelled; /* the account's limits are known */
    enum bucket binds;
    int64_t limit[BUCKETS], next_ms;
    double share[BUCKETS];
    char paced[BUCKETS_SAY_MAX];
    char name[128];
    const char *state; /* of a runner at work: "closed", "tripped"; NULL: neither */
    char why[240];
};

struct looking {
    struct store *st;
    struct account_store *accounts;
    char account[ACCOUNT_NAME_MAX];
    int64_t now;
    struct lane_line *lanes;
    struct err *e;
    int shown;
    char paused[40]; /* "": it is not */
};

/* What the runners of this machine share of the lane, as it stands now. */
static void look_at_buckets(const struct looking *k, struct lane_line *l)
{
    struct timespec ts;
    struct shared_lane *x = malloc(sizeof *x);
    clock_gettime(CLOCK_MONOTONIC, &ts);
    int64_t now = (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
    if (x && shared_look_at(account_where(k->accounts), k->account, l->name, x)) {
        struct bucket_look look = buckets_ask(&x->buckets, &(struct bucket_ask){0},
                                              now);
        l->modelled = look.binds != BUCKET_NONE;
        l->binds = look.binds;
        l->next_ms = look.may || look.ask_at < now ? 0 : look.ask_at - now;
        for (int i = 0; i < BUCKETS; i++) {
            l->limit[i] = (int64_t)x->buckets.one[i].limit;
            l->share[i] = buckets_share(&x->buckets, (enum bucket)i, now);
        }
        buckets_say(&x->buckets, &look, now, l->paced, sizeof l->paced);
    }
    free(x);
}

static int on_lane(void *arg, const char *name)
{
    struct looking *k = arg;
    struct lane_line *l = calloc(1, sizeof *l);
    if (l == NULL)
        return 1;
    snprintf(l->name, sizeof l->name, "%s", name);
    if (k->accounts)
        account_lane(k->accounts, k->account, name, k->now, &l->kept, k->e);
    if (k->accounts)
        look_at_buckets(k, l);
    l->next = k->lanes;
    k->lanes = l;
    return 0;
}

/* What the runner at work says of its lanes: what began and is not over. */
static int on_history(void *arg, const struct store_history *h)
{
    struct looking *k = arg;
    const char *state = h->kind == HISTORY_CLOSED ? "closed"
                        : h->kind == HISTORY_TRIP || h->kind == HISTORY_ENDPOINT
                            ? "tripped"
                            : NULL;
    for (struct lane_line *l = k->lanes; state && l; l = l->next) {
        if (h->kind != HISTORY_ENDPOINT && strcmp(l->name, h->lane) != 0)
            continue;
        if (h->until == 0) {
            l->state = state;
            snprintf(l->why, sizeof l->why, "%s", h->says);
        } else if (l->state == state) {
            l->state = NULL;
        }
    }
    return 0;
}

/* The runner keeps the name of the account it saw last with the queue. */
static void open_accounts(struct looking *k)
{
    char dir[3800];
    struct err e = {0};
    if (store_meta(k->st, "account", k->account, sizeof k->account, &e) < 0 ||
        *k->account == '\0' || account_dir(dir, sizeof dir, &e) < 0)
        return;
    k->accounts = account_open(dir, &e);
}

static const char *const bucket_names[] = {[BUCKET_REQUESTS] = "requests",
                                           [BUCKET_INPUT] = "input_tokens",
                                           [BUCKET_OUTPUT] = "output_tokens"};

static void print_json(const struct looking *k, const struct store_totals *t, bool busy,
                       const struct account_halt *h)
{
    struct textbuf b = {0};
    char low[CATALOG_USD_MAX], high[CATALOG_USD_MAX], spent[CATALOG_USD_MAX];
    textbuf_putf(&b,
                 "{\"jobs\":{\"queued\":%" PRId64 ",\"in_flight\":%" PRId64
                 ",\"done\":%" PRId64 ",\"failed\":%" PRId64 ",\"parked\":%" PRId64
                 ",\"gone\":%" PRId64 "},\"in_doubt\":{\"attempts\":%" PRId64
                 ",\"usd_low\":\"%s\",\"usd_high\":\"%s\"},\"spent_usd\":\"%s\","
                 "\"running\":%s,\"paused\":%s,\"lanes\":[",
                 t->jobs[JOB_QUEUED], t->jobs[JOB_IN_FLIGHT], t->jobs[JOB_DONE],
                 t->jobs[JOB_FAILED], t->jobs[JOB_PARKED], t->gone, t->doubt,
                 catalog_usd(t->doubt_low, low), catalog_usd(t->doubt_high, high),
                 catalog_usd(t->spent, spent), busy ? "true" : "false",
                 *k->paused ? "true" : "false");
    for (const struct lane_line *l = k->lanes; l; l = l->next) {
        textbuf_puts(&b, "{\"name\":");
        textbuf_json(&b, l->name);
        textbuf_putf(&b, ",\"state\":\"%s\",\"why\":",
                     l->state             ? l->state
                     : l->kept.hold_until ? "held"
                                          : "open");
        textbuf_json(&b, l->state             ? l->why
                         : l->kept.hold_until ? l->kept.hold_why
                                              : NULL);
        textbuf_puts(&b, ",\"until\":");
        textbuf_json_time(&b, l->kept.hold_until);
        if (l->modelled) {
            textbuf_putf(&b, ",\"binds\":\"%s\",\"next_send_ms\":%" PRId64,
                         bucket_names[l->binds], l->next_ms);
            for (int i = 0; i < BUCKETS; i++)
                textbuf_putf(&b, ",\"%s\":{\"limit\":%" PRId64 ",\"in_use\":%.3f}",
                             bucket_names[i], l->limit[i], l->share[i]);
        }
        textbuf_puts(&b, l->next ? "}," : "}");
    }
    textbuf_puts(&b, "],\"halts\":[");
    if (h) {
        textbuf_puts(&b, "{\"reason\":");
        textbuf_json(&b, h->reason);
        textbuf_puts(&b, ",\"account\":");
        textbuf_json(&b, k->account);
        textbuf_puts(&b, ",\"until\":");
        textbuf_json_time(&b, h->until);
        textbuf_puts(&b, ",\"says\":");
        textbuf_json(&b, h->says);
        textbuf_puts(&b, "}");
    }
    textbuf_puts(&b, "]}\n");
    if (!b.failed)
        fwrite(b.at, 1, b.len, stdout);
    textbuf_free(&b);
}

static int on_job(void *arg, const struct store_job *j)
{
    struct looking *k = arg;
    printf("  %s: %s%s%s\n", j->name, job_outcome_name(j->outcome), j->says ? ": " : "",
           j->says ? j->says : "");
    k->shown++;
    return 0;
}

static void print_some(struct looking *k, enum job_state s, int64_t count,
                       const char *heading)
{
    if (count == 0)
        return;
    printf("%s:\n", heading);
    k->shown = 0;
    store_each_in(k->st, s, SHOWN_MAX, on_job, k, k->e);
    if (count > k->shown)
        printf("  ... and %" PRId64 " more; nightmill report has them by cause\n",
               count - k->shown);
}

static void print_text(struct looking *k, const struct store_totals *t, bool busy,
                       const struct account_halt *h, const char *dir)
{
    char low[CATALOG_USD_MAX], high[CATALOG_USD_MAX], spent[CATALOG_USD_MAX], span[40];
    printf("%s: %" PRId64 " queued, %" PRId64 " in flight, %" PRId64 " done, %" PRId64
           " failed, %" PRId64 " parked, %" PRId64 " gone%s\n",
           dir, t->jobs[JOB_QUEUED], t->jobs[JOB_IN_FLIGHT], t->jobs[JOB_DONE],
           t->jobs[JOB_FAILED], t->jobs[JOB_PARKED], t->gone,
           busy ? "; a runner is at work" : "");
    printf("spent $%s (%" PRId64 " tokens in, %" PRId64 " out)\n",
           catalog_usd(t->spent, spent), t->tokens_in, t->tokens_out);
    if (t->doubt)
        printf("in doubt: %" PRId64 " attempt%s left and had no answer; they may have "
               "cost between $%s and $%s\n",
               t->doubt, t->doubt == 1 ? "" : "s", catalog_usd(t->doubt_low, low),
               catalog_usd(t->doubt_high, high));
    if (h)
        printf("halted: %s (\"%s\"); the next run sends one request to see\n",
               h->reason, h->says);
    for (const struct lane_line *l = k->lanes; l; l = l->next) {
        if (l->state && strcmp(l->state, "closed") == 0)
            printf("%s: closed (%s); its jobs wait for another model in its tier, or a "
                   "fallback\n",
                   l->name, l->why);
        else if (l->state)
            printf("%s: one probe at a time (%s)\n", l->name, l->why);
        else if (l->kept.hold_until)
            printf("%s: held %s more (%s)\n", l->name,
                   when_span(l->kept.hold_until - k->now, span, sizeof span),
                   l->kept.hold_why);
        else if (busy)
            printf("%s: jobs wait%s%s\n", l->name, *l->paced ? "; " : "", l->paced);
        else
            printf("%s: jobs wait; nothing runs them: nightmill run %s\n", l->name,
                   dir);
    }
    if (*k->paused)
        printf("paused on request; to go on: nightmill resume %s\n", dir);
    print_some(k, JOB_FAILED, t->jobs[JOB_FAILED], "failed");
    print_some(k, JOB_PARKED, t->jobs[JOB_PARKED], "parked (a person is needed)");
    if (t->jobs[JOB_FAILED] + t->jobs[JOB_PARKED] > t->invalid)
        printf("to send them again: nightmill retry %s [JOB...]\n", dir);
}

static int status(const struct cmd_args *a, struct looking *k, const struct queue *q)
{
    struct store_totals t;
    struct account_halt h;
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    k->now = (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
    if ((k->st = store_open(q->state, STORE_ASK, true, k->e)) == NULL)
        return -1;
    open_accounts(k);
    if (store_meta(k->st, "paused", k->paused, sizeof k->paused, k->e) < 0)
        return -1;
    if (store_totals(k->st, &t, k->e) < 0 || store_lanes(k->st, on_lane, k, k->e) < 0)
        return -1;
    bool halted = k->accounts && account_halt(k->accounts, k->account, &h, k->e) == 1;
    bool busy = queue_busy(q);
    if (busy && store_each_history(k->st, t.next_run - 1, on_history, k, k->e) < 0)
        return -1;
    (a->json ? print_json(k, &t, busy, halted ? &h : NULL)
             : print_text(k, &t, busy, halted ? &h : NULL, a->dir));
    return 0;
}

int cmd_status(const struct cmd_args *a)
{
    struct err e = {0};
    struct conf conf = {0};
    struct queue q = {.lock_root = -1, .lock_state = -1};
    struct looking k = {.e = &e};
    if (cmd_conf(a, &conf, &e) == 0 && queue_find(&q, a->dir, &conf, &e) == 0) {
        if (queue_known(&q))
            status(a, &k, &q);
        else
            err_set(&e, ERR_USAGE, "%s was never run; nightmill run %s", a->dir,
                    a->dir);
    }
    int code = e.code == ERR_NONE ? 0 : cmd_failed(&e);
    for (struct lane_line *l = k.lanes, *next; l; l = next) {
        next = l->next;
        free(l);
    }
    store_close(k.st);
    account_close(k.accounts);
    queue_close(&q);
    conf_free(&conf);
    return code;
}
