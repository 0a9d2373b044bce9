#ifndef ACCOUNT_H
#define ACCOUNT_H

#include "conf/catalog.h"

#include <stddef.h>
#include <stdint.h>

struct err;
struct account_store;

/*
 * What all queues of a user share: for each account its halt, for each of its lanes the
 * hold and the limits that answers named, and the bill. An account is known by
 * organisation and workspace as the answers' headers name them; until the first answer,
 * by a fingerprint of the key (a digest, never the key).
 *
 * Changes are rare (a hold, a halt, a run's end), small and written through at once.
 * Moments are wall-clock milliseconds; with each goes its original span, so that a
 * clock that jumped cannot make a wait longer than it was.
 */
enum { ACCOUNT_NAME_MAX = 160, ACCOUNT_SAYS_MAX = 320 };

/* $XDG_STATE_HOME/nightmill, else ~/.local/state/nightmill; for root
 * /var/lib/nightmill. */
int account_dir(char *buf, size_t size, struct err *e);

/* Opens, and makes if need be (0700), DIR/account.db. */
struct account_store *account_open(const char *dir, struct err *e);
void account_close(struct account_store *st);              /* NULL is fine */
const char *account_where(const struct account_store *st); /* its directory */

/* The account's name for this fingerprint, copied into `buf`: what was learned, or the
 * fingerprint itself. */
int account_name(struct account_store *st, const char *fingerprint, char *buf,
                 size_t size, struct err *e);

/* An answer named the organisation: from now on the fingerprint means it, and what was
 * kept under the fingerprint is kept under the name. */
int account_learn(struct account_store *st, const char *fingerprint, const char *name,
                  struct err *e);

struct account_halt {
    char reason[32]; /* "no credit", "spend limit", "key refused" */
    char says[ACCOUNT_SAYS_MAX];
    int64_t at, until; /* 0: no moment is known */
};

/* 1 there is one, 0 none, -1. A stored halt is advice: whoever starts sends one probe.
 */
int account_halt(struct account_store *st, const char *account,
                 struct account_halt *ret, struct err *e);
int account_halt_set(struct account_store *st, const char *account,
                     const struct account_halt *h, struct err *e);
int account_halt_clear(struct account_store *st, const char *account, struct err *e);

struct account_lane {
    int64_t hold_until, hold_span; /* 0: no hold */
    char hold_why[ACCOUNT_SAYS_MAX];
    int64_t rpm, itpm, otpm; /* limits by the headers; 0: not known */
};

/* `lane` is the rate-limit class and way of sending. 1, 0, -1. */
int account_lane(struct account_store *st, const char *account, const char *lane,
                 int64_t now, struct account_lane *ret, struct err *e);
int account_lane_set(struct account_store *st, const char *account, const char *lane,
                     const struct account_lane *l, struct err *e);

/*
 * The bill: a row for each run and day, YYYY-MM-DD. Saying it again replaces it, so that
 * a run that died can be told again from its own store. `doubt` is what its attempts in
 * doubt may have cost at worst; `lease` the total up to which a run that lives may
 * commit itself. A row counts as spent + doubt, or as its lease where that is more: so
 * a runner that died still holds all that it may have spent.
 */
struct account_row {
    picodollars spent, doubt, lease;
};
int account_bill(struct account_store *st, const char *account, const char *run,
                 const char *day, const struct account_row *row, struct err *e);

/* What the rows of others come to: on the day, in its month. */
struct account_others {
    picodollars day, month;
};

/*
 * Ask for a larger lease: `row` is what the run's own row should say, its lease given by
 * `grant`, which is called within the transaction and returns it (-1: as it was).
 */
typedef picodollars account_grant_fn(void *arg, const struct account_others *o);
int account_lease(struct account_store *st, const char *account, const char *run,
                  const char *day, struct account_row *row, account_grant_fn *grant,
                  void *arg, struct err *e);

/*
 * The right to send an account's one probe, among all runners of this machine. 1 it is
 * ours, 0 another runner is probing, -1. Freed by account_probe_end() or by our death.
 */
int account_probe_begin(struct account_store *st, const char *account, struct err *e);
void account_probe_end(struct account_store *st);

#endif
