#ifndef BILL_H
#define BILL_H

#include "conf/catalog.h"
#include "runner/budget.h"

#include <stddef.h>
#include <stdint.h>

struct account_store;
struct err;
struct store;

/*
 * The account's bill, told from a queue's own rows: so that what a run spent that died,
 * or what was in doubt and is so no more, is there for all queues' ceilings. Saying it
 * twice is saying it once.
 */
enum { BILL_DAY_MAX = 11, BILL_RUN_MAX = 4200 };

/* The local day of a moment (wall ms), YYYY-MM-DD. */
void bill_day(int64_t wall_ms, char day[BILL_DAY_MAX]);

/* How the account store names a run of the queue whose state lies in `state`. */
void bill_run_name(const char *state, int64_t run, char *buf, size_t size);

/* The run's rows in the account store become what its attempts in `st` come to. */
int bill_run(struct store *st, struct account_store *accounts, const char *account,
             const char *state, int64_t run, struct err *e);

#endif
