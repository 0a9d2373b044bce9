/* settle: a person has looked at the provider's own bill; what was in doubt is so no
 * more, and no ceiling is held by it. */
#include "runner/cmd.h"

#include "conf/catalog.h"
#include "jobs/account.h"
#include "jobs/store.h"
#include "runner/bill.h"
#include "runner/err.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct settling {
    const struct cmd_args *a;
    struct moves moves;
    picodollars high;
    bool failed;
};

static bool meant(const struct cmd_args *a, const char *job)
{
    for (int i = 0; i < a->names_len; i++)
        if (strcmp(a->names[i], job) == 0 || fnmatch(a->names[i], job, 0) == 0)
            return true;
    return a->names_len == 0;
}

static int on_doubt(void *arg, const struct store_attempt *x, const struct store_job *j)
{
    struct settling *s = arg;
    if (!meant(s->a, j->name))
        return 0;
    struct move *v = moves_add(&s->moves, MOVE_DOUBT_OVER);
    if (v == NULL) {
        s->failed = true;
        return 1;
    }
    v->attempt = x->id;
    v->run = x->run;
    s->high += x->worst;
    return 0;
}

/* Every run whose rows changed is billed anew. */
static int bill(struct store *st, const struct moves *m, const char *state,
                struct err *e)
{
    char dir[3800], account[ACCOUNT_NAME_MAX];
    struct account_store *accounts;
    int rc = 0;
    int64_t last = 0;
    if (store_meta(st, "account", account, sizeof account, e) < 0 ||
        account_dir(dir, sizeof dir, e) < 0 ||
        (accounts = account_open(dir, e)) == NULL)
        return -1;
    for (const struct move *v = m->first; v && rc == 0; v = v->next) {
        if (v->run != last)
            rc = bill_run(st, accounts, account, state, v->run, e);
        last = v->run;
    }
    account_close(accounts);
    return rc;
}

static int settle(const struct cmd_args *a, const struct queue *q, struct err *e)
{
    struct settling s = {.a = a};
    char usd[CATALOG_USD_MAX];
    struct store *st = store_open(q->state, STORE_RUN, true, e);
    moves_init(&s.moves);
    int rc = st ? store_each_doubt(st, on_doubt, &s, e) : -1;
    if (rc == 0 && s.failed)
        rc = err_set(e, ERR_NOMEM, "out of memory");
    if (rc == 0 && s.moves.count > 0)
        rc = store_apply(st, &s.moves, NULL, e);
    if (rc == 0 && s.moves.count > 0)
        rc = bill(st, &s.moves, q->state, e);
    if (rc == 0 && s.moves.count == 0)
        fprintf(stderr, "nightmill: nothing was done: no attempt of %s is in doubt\n",
                a->names_len > 0 ? a->names[0] : a->dir);
    else if (rc == 0)
        fprintf(stderr,
                "nightmill: %zu attempt%s in doubt no more; up to $%s are free again "
                "under the ceilings\n",
                s.moves.count, s.moves.count == 1 ? "" : "s", catalog_usd(s.high, usd));
    moves_free(&s.moves);
    store_close(st);
    return rc;
}

int cmd_settle(const struct cmd_args *a)
{
    struct err e = {0};
    struct conf conf = {0};
    struct queue q = {.lock_root = -1, .lock_state = -1};
    if (cmd_conf(a, &conf, &e) == 0 && queue_find(&q, a->dir, &conf, &e) == 0) {
        if (!queue_known(&q))
            err_set(&e, ERR_USAGE, "%s was never run; nightmill run %s", a->dir,
                    a->dir);
        else if (queue_lock(&q, &e) == 0)
            settle(a, &q, &e);
    }
    int code = e.code == ERR_NONE ? 0 : cmd_failed(&e);
    queue_close(&q);
    conf_free(&conf);
    return code;
}
