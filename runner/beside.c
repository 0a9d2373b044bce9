/*
 * What a run's jobs came to, beside what was to be expected of them when it began: a line
 * of its last words. The report says the same at length.
 */
#include "runner/machine.h"

#include "runner/outlook.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* To look back at more jobs would keep somebody waiting. */
enum { LOOKED_BACK_MAX = 20000 };

struct looking_back {
    struct runner *r;
    struct forecast *f;
    picodollars cost, uncached;
    bool failed;
};

static int on_before(void *arg, const struct store_result *x)
{
    struct looking_back *k = arg;
    k->failed = outlook_learn(k->f, k->r->conf, k->r->o->catalog, x) < 0;
    return k->failed;
}

static int on_sent(void *arg, const struct store_attempt *a, const struct store_job *j,
                   bool at_rest)
{
    struct looking_back *k = arg;
    const struct catalog *catalog = k->r->o->catalog;
    const struct model *m = a->model ? catalog_find(catalog, a->model) : NULL;
    const struct usage *u = &a->usage;
    if (j->state >= JOB_DONE && a->state == ATTEMPT_ANSWERED) {
        k->cost = budget_sum(k->cost, a->cost);
        if (m && m->priced && a->has_usage)
            k->uncached = budget_sum(
                k->uncached,
                catalog_cost(m, &(struct usage){.input = u->input + u->cache_read +
                                                         u->cache_write_5m +
                                                         u->cache_write_1h,
                                                .output = u->output}));
    }
    k->failed = at_rest && outlook_add(k->f, k->r->conf, catalog, a, j) < 0;
    return k->failed;
}

static void say(struct looking_back *k)
{
    char low[40], high[40], cost[CATALOG_USD_MAX], plain[CATALOG_USD_MAX],
        without[120] = "";
    struct forecast_sum s;
    forecast_sum(k->f, NULL, NULL, &s);
    if (s.jobs == 0 || s.unpriced > 0)
        return;
    if (k->cost != k->uncached)
        snprintf(without, sizeof without, " ($%s without the prompt cache)",
                 catalog_usd(k->uncached, plain));
    tell_line(
        k->r->tell, false,
        "forecast of the %" PRId64 " job%s that came to rest: %s to %s; they cost "
        "$%s%s%s",
        s.jobs, s.jobs == 1 ? "" : "s", outlook_usd(s.usd.low, false, low, sizeof low),
        outlook_usd(s.usd.high, true, high, sizeof high), catalog_usd(k->cost, cost),
        without,
        k->uncached < s.usd.low    ? ", less than was to be expected"
        : k->uncached > s.usd.high ? ", more than was to be expected"
                                   : "");
}

void beside_tell(struct runner *r, const struct store_totals *t)
{
    struct err e = {0};
    struct looking_back k = {.r = r};
    if (r->o->quiet || r->watch || r->tally.done == 0 || t->known > LOOKED_BACK_MAX ||
        (k.f = forecast_new()) == NULL)
        return;
    if (store_each_before(r->o->store, r->first_attempt, on_before, &k, &e) == 0 &&
        store_each_sent(r->o->store, r->run, r->first_attempt, on_sent, &k, &e) == 0 &&
        !k.failed)
        say(&k);
    forecast_free(k.f);
}
