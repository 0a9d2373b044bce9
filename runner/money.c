/*
 * Money while a run goes on: what it has spent, what is in doubt, what is reserved for
 * requests that are out, by the day on which they left; and the ceilings. A reservation
 * is the worst case, so a ceiling holds whatever comes back; what is not needed is free
 * again when the answer is stored. The ceilings of day and month belong to the account:
 * there the run holds a lease, asked for in steps, for a transaction a request would be
 * slow.
 */
#include "runner/machine.h"

#include "conf/catalog.h"
#include "runner/bill.h"
#include "runner/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEASE_IDLE_MS = 1000 };

static struct money_day *day_at(struct runner *r, int64_t wall_ms)
{
    char day[BILL_DAY_MAX];
    bill_day(wall_ms, day);
    for (struct money_day *d = r->days; d; d = d->next)
        if (strcmp(d->day, day) == 0)
            return d;
    struct money_day *d = calloc(1, sizeof *d);
    if (d == NULL)
        return NULL;
    memcpy(d->day, day, sizeof day);
    d->next = r->days;
    r->days = d;
    return d;
}

static bool account_ceilings(const struct runner *r)
{
    return r->conf->budget.day > 0 || r->conf->budget.month > 0;
}

bool money_ceilings(const struct runner *r)
{
    return r->conf->budget.run > 0 || account_ceilings(r);
}

bool money_worst(const struct runner *r, const struct live *l, picodollars *worst)
{
    return budget_worst(catalog_find(r->o->catalog, l->routed.model),
                        &(struct budget_job){.bytes = l->job.bytes,
                                             .max_tokens = live_max_tokens(l),
                                             .asks = l->job.asks,
                                             .max_cost = l->job.max_cost},
                        worst);
}

/* --- leases --- */

struct granting {
    const struct runner *r;
    struct money_day *d;
    picodollars more;
};

static picodollars on_grant(void *arg, const struct account_others *o)
{
    struct granting *g = arg;
    const picodollars ceilings[] = {[BUDGET_DAY] = g->r->conf->budget.day,
                                    [BUDGET_MONTH] = g->r->conf->budget.month};
    const picodollars others[] = {[BUDGET_DAY] = o->day, [BUDGET_MONTH] = o->month};
    return budget_grant(&g->d->x, ceilings, others, g->more);
}

/* True: `more` fits into what the account leaves us today. */
static bool lease_covers(struct runner *r, struct money_day *d, picodollars more)
{
    struct err e = {0};
    char run[BILL_RUN_MAX];
    picodollars need = budget_sum(budget_committed(&d->x.b), more);
    if (need <= d->x.lease)
        return true;
    struct granting g = {r, d, more};
    struct account_row row = {d->x.b.spent, d->x.b.doubt, d->x.lease};
    bill_run_name(r->o->queue->state, r->run, run, sizeof run);
    if (account_lease(r->o->accounts, r->account, run, d->day, &row, on_grant, &g, &e) <
        0) {
        log_error("%s", e.text);
        return false;
    }
    d->x.lease = row.lease;
    return need <= d->x.lease;
}

/* What a lease holds beyond what is out goes back, so that another runner finds it. */
static void lease_shrink(struct runner *r, struct money_day *d)
{
    struct err e = {0};
    char run[BILL_RUN_MAX];
    picodollars now = budget_committed(&d->x.b);
    if (d->x.lease <= now && d->told)
        return;
    d->x.lease = now;
    bill_run_name(r->o->queue->state, r->run, run, sizeof run);
    if (account_bill(r->o->accounts, r->account, run, d->day,
                     &(struct account_row){d->x.b.spent, d->x.b.doubt, d->x.lease},
                     &e) < 0)
        log_warn("%s", e.text);
    d->told = true;
}

void money_look(struct runner *r)
{
    int64_t now = runner_mono(r);
    if (!account_ceilings(r) || now - r->money_looked_at < LEASE_IDLE_MS)
        return;
    r->money_looked_at = now;
    const struct money_day *today = day_at(r, runner_wall(r));
    for (struct money_day *d = r->days; d; d = d->next)
        if (d != today || r->money_short || r->out == 0)
            lease_shrink(r, d);
}

/* --- a request's way --- */

/* The least room that any ceiling leaves. */
static picodollars room(struct runner *r, struct money_day *d, picodollars more)
{
    struct budget run = r->run_money;
    run.ceiling = r->conf->budget.run;
    picodollars left = budget_room(&run);
    if (left >= more && account_ceilings(r) && !lease_covers(r, d, more))
        left = d->x.left < left ? d->x.left : left;
    return left;
}

bool money_allows(struct runner *r, struct live *l)
{
    picodollars worst;
    bool known = money_worst(r, l, &worst);
    if (!money_ceilings(r))
        return true;
    if (!known) {
        l->unbounded = true;
        return false;
    }
    struct money_day *d = day_at(r, runner_wall(r));
    if (d == NULL)
        return false;
    /* Nothing came back since: the answer would be the same, and it may be dear. */
    if (r->money_short && worst >= r->money_wants)
        return false;
    picodollars left = room(r, d, worst);
    if (left >= worst)
        return true;
    r->money_short = true;
    r->money_left = left;
    if (r->money_wants == 0 || worst < r->money_wants)
        r->money_wants = worst;
    return false;
}

void money_taken(struct runner *r, struct live *l)
{
    money_worst(r, l, &l->worst);
    l->day = day_at(r, l->started_wall);
    r->run_money.reserved = budget_sum(r->run_money.reserved, l->worst);
    if (l->day)
        l->day->x.b.reserved = budget_sum(l->day->x.b.reserved, l->worst);
}

static void add(struct runner *r, struct money_day *d, picodollars spent,
                picodollars doubt, picodollars reserved)
{
    struct budget *both[] = {&r->run_money, d ? &d->x.b : NULL};
    for (int i = 0; i < 2; i++) {
        if (both[i] == NULL)
            continue;
        both[i]->spent = budget_sum(both[i]->spent, spent);
        both[i]->doubt = budget_sum(both[i]->doubt, doubt);
        both[i]->reserved -= reserved;
    }
    if (d)
        d->told = false;
}

void money_undone(struct runner *r, struct live *l)
{
    add(r, l->day, 0, 0, l->worst);
    r->money_searched = false;
}

void money_settled(struct runner *r, struct live *l, const struct move *v)
{
    bool answered = v->at.state == ATTEMPT_ANSWERED,
         doubt = v->at.state == ATTEMPT_IN_DOUBT;
    add(r, l->day, answered ? v->at.cost : 0, doubt ? l->worst : 0, l->worst);
    r->money_short = r->money_searched = false;
    r->money_wants = 0;
}

/* --- the ceiling --- */

static bool reached(const struct runner *r, picodollars ceiling, picodollars used)
{
    return ceiling > 0 && ceiling - used <= r->money_left;
}

bool money_stops(struct runner *r, char *says, size_t size)
{
    char usd[4][CATALOG_USD_MAX];
    const struct budget *run = &r->run_money;
    picodollars used = budget_sum(run->spent, run->doubt);
    if (!r->money_short || r->out > 0)
        return false;
    if (!r->money_searched) {
        switch (admit_search(r)) {
        case AFFORDABLE_NONE:
            break;
        case AFFORDABLE_HELD:
            return false; /* its lane's time will come */
        case AFFORDABLE_READY:
            r->money_searched = true;
            r->money_short = false;
            r->again = true;
            return false;
        }
    }
    const char *which = reached(r, r->conf->budget.run, used) ? "budget.run"
                        : r->conf->budget.day > 0             ? "budget.day"
                                                              : "budget.month";
    picodollars ceiling = strcmp(which, "budget.run") == 0   ? r->conf->budget.run
                          : strcmp(which, "budget.day") == 0 ? r->conf->budget.day
                                                             : r->conf->budget.month;
    snprintf(says, size,
             "the ceiling %s = $%s is reached: $%s are left, and the cheapest job that "
             "waits may cost $%s; this run spent $%s",
             which, catalog_usd(ceiling, usd[0]), catalog_usd(r->money_left, usd[1]),
             catalog_usd(r->money_wants, usd[2]), catalog_usd(run->spent, usd[3]));
    return true;
}

/* --- ends --- */

static void free_days(struct money_day *d)
{
    for (struct money_day *next; d; d = next) {
        next = d->next;
        free(d);
    }
}

void money_bill_own(struct runner *r)
{
    struct err e = {0};
    char name[BILL_RUN_MAX];
    bill_run_name(r->o->queue->state, r->run, name, sizeof name);
    for (const struct money_day *d = r->days; d; d = d->next)
        if (account_bill(
                r->o->accounts, r->account, name, d->day,
                &(struct account_row){.spent = d->x.b.spent, .doubt = d->x.b.doubt},
                &e) < 0)
            log_warn("%s", e.text);
}

void money_renamed(struct runner *r)
{
    for (struct money_day *d = r->days; d; d = d->next)
        d->x.lease = budget_committed(&d->x.b);
}

void money_close(struct runner *r)
{
    free_days(r->days);
    r->days = NULL;
}
