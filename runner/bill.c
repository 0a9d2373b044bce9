#include "runner/bill.h"

#include "jobs/account.h"
#include "jobs/store.h"
#include "runner/err.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void bill_day(int64_t wall_ms, char day[BILL_DAY_MAX])
{
    time_t t = (time_t)(wall_ms / 1000);
    struct tm tm;
    strftime(day, BILL_DAY_MAX, "%Y-%m-%d", localtime_r(&t, &tm));
}

void bill_run_name(const char *state, int64_t run, char *buf, size_t size)
{
    snprintf(buf, size, "%s/%" PRId64, state, run);
}

/* A run of a whole year has 366 of them. */
struct day {
    struct day *next;
    char name[BILL_DAY_MAX];
    struct account_row row;
};

static int on_attempt(void *arg, const struct store_attempt *a)
{
    struct day **days = arg, *d = *days;
    char name[BILL_DAY_MAX];
    bill_day(a->started_at, name);
    while (d && strcmp(d->name, name) != 0)
        d = d->next;
    if (d == NULL) {
        if ((d = calloc(1, sizeof *d)) == NULL)
            return 1;
        memcpy(d->name, name, sizeof name);
        d->next = *days;
        *days = d;
    }
    if (a->state == ATTEMPT_ANSWERED)
        d->row.spent = budget_sum(d->row.spent, a->cost);
    else if (a->state != ATTEMPT_TAKEN_BACK) /* out or in doubt: at worst */
        d->row.doubt = budget_sum(d->row.doubt, a->worst);
    return 0;
}

int bill_run(struct store *st, struct account_store *accounts, const char *account,
             const char *state, int64_t run, struct err *e)
{
    struct day *days = NULL;
    char name[BILL_RUN_MAX];
    int rc = store_each_attempt(st, run, on_attempt, &days, e);
    bill_run_name(state, run, name, sizeof name);
    for (struct day *d = days, *next; d; d = next) {
        next = d->next;
        if (rc == 0)
            rc = account_bill(accounts, account, name, d->name, &d->row, e);
        free(d);
    }
    return rc;
}
