#ifndef CATALOG_H
#define CATALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;

/*
 * What models cost and can do, from models.ini. Money is exact: a price is an
 * integer number of picodollars (10^-12 dollar) a token, so `$0.125 per million
 * tokens` is 125,000 and no sum is ever rounded.
 */
typedef int64_t picodollars; /* 10^12 = one dollar */

#define PICODOLLARS_PER_DOLLAR INT64_C(1000000000000)

/* Tokens of one answer, as the API's `usage` gives them. `input` is the uncached
 * remainder; all of them together are what the model read. */
struct usage {
    int64_t input, output, cache_read, cache_write_5m, cache_write_1h;
};

struct prices {
    picodollars input, cache_write_5m, cache_write_1h, cache_read, output;
};

struct model {
    const char *id;     /* as the API knows it */
    const char *family; /* rate-limit class: models that share limits */
    struct prices base;
    struct prices long_prompt; /* in force where the whole prompt exceeds the next: */
    int64_t long_prompt_above; /* tokens; 0: one price for every length */
    int64_t context;           /* tokens; 0: not known */
    int64_t max_output;        /* tokens; 0: not known */
    int64_t min_cacheable;     /* tokens of the shortest cacheable prefix */
    int64_t batch_percent;     /* of every price, for what is sent as a batch */
    const char *retires;       /* YYYY-MM-DD or NULL */
    bool priced;               /* false: known by name, price not known */
};

struct catalog;

/* The catalogue that is built into the program (conf/models.ini at build time). */
struct catalog *catalog_new(struct err *e);

/* Rows of `path` (same form as models.ini) are laid over what is there. */
int catalog_add_file(struct catalog *c, const char *path, struct err *e);
void catalog_free(struct catalog *c);

/* By id or alias; NULL if not known. Lent; lives as long as the catalogue. */
const struct model *catalog_find(const struct catalog *c, const char *id);

/* The date of the built-in file, YYYY-MM-DD. */
const char *catalog_date(const struct catalog *c);

size_t catalog_count(const struct catalog *c);
const struct model *catalog_at(const struct catalog *c, size_t i);

/* What this usage costs. Saturates at INT64_MAX instead of wrapping. */
picodollars catalog_cost(const struct model *m, const struct usage *u);

/* The same usage as part of a batch, a fraction of a unit rounded up. */
picodollars catalog_cost_batch(const struct model *m, const struct usage *u);

/* "12.50", "0.000001", "$3": dollars, at most twelve decimals and a million of them; no
 * float comes near it. 0 or -1. */
int catalog_dollars(const char *text, picodollars *ret);

/* "0.000123": exact, at least six decimals, no trailing zeros beyond those.
 * `buf` of CATALOG_USD_MAX bytes. Returns buf. */
enum { CATALOG_USD_MAX = 32 };
const char *catalog_usd(picodollars amount, char *buf);

#endif
