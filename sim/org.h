#ifndef ORG_H
#define ORG_H

#include "conf/catalog.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * One organisation as the API keeps it: for every family of models three buckets that
 * refill continuously, prepaid credit, a spend limit. Pure: moments are arguments, in
 * nanoseconds of any clock that only runs forward.
 */
struct settings;
struct org;

/* A bucket of tokens. `level` may sink below zero: output is known only afterwards. */
struct bucket {
    double per_minute; /* 0: no limit */
    double room, level;
    int64_t at_ns;
};

/* A new rate; what is missing from the bucket stays missing. */
void bucket_rate(struct bucket *b, double per_minute, double room, int64_t now_ns);
double bucket_level(struct bucket *b, int64_t now_ns);
void bucket_take(struct bucket *b, double n, int64_t now_ns);
/* Until `n` are there; until it is full where `n` will never fit. */
int64_t bucket_wait_ns(struct bucket *b, double n, int64_t now_ns);

enum org_word {
    ORG_ADMITTED,
    ORG_NO_CREDIT,
    ORG_SPEND_LIMIT,
    ORG_CONCURRENT,
    ORG_REQUESTS,
    ORG_INPUT,
    ORG_OUTPUT,
};

struct org_limit {
    int64_t limit, remaining; /* limit 0: none */
    int64_t full_in_ns;
};

/* What the headers of an answer say. */
struct org_view {
    struct org_limit requests, input, output, tokens;
};

/* Settings are borrowed, read at each call, and must outlive the organisation. */
struct org *org_new(const struct settings *s, int64_t now_ns);
void org_free(struct org *o);

/* Settings of limits, credit or spend have changed. */
void org_limits_changed(struct org *o, int64_t now_ns);
void org_credit_changed(struct org *o);

/*
 * May a request start that reads `input` tokens which no cache holds? Where it may, the
 * request and its input are charged and one more is in flight until org_ended(). Where
 * it may not, nothing is; *wait_ns is then how long (a rate), or 0.
 */
enum org_word org_start(struct org *o, const char *family, int64_t input,
                        int64_t now_ns, int64_t *wait_ns);
void org_ended(struct org *o);

/* Money alone, without start: what count_tokens meets. Its rate is one of its own. */
enum org_word org_money(const struct org *o);
enum org_word org_count_start(struct org *o, int64_t now_ns, int64_t *wait_ns);

void org_produced(struct org *o, const char *family, int64_t output, int64_t now_ns);
void org_charge(struct org *o, picodollars amount);

struct org_view org_look(struct org *o, const char *family, int64_t now_ns);

int64_t org_in_flight(const struct org *o);
picodollars org_spent(const struct org *o);
/* Only meaningful while credit is not endless. */
picodollars org_credit(const struct org *o);
void org_credit_add(struct org *o, picodollars amount);

#endif
