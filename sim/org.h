#ifndef ORG_H
#define ORG_H

#include "conf/catalog.h"
#include "sim/bucket.h"
#include "sim/meter.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * One organisation as the API keeps it: for every family of models three buckets that
 * refill continuously, prepaid credit, a spend limit. Pure: moments are arguments, in
 * nanoseconds of any clock that only runs forward.
 *
 * Its day begins with the first request that is not refused for money. From there count
 * the co-tenant's waves, the change of limits that the settings plan, the minutes of
 * acceleration and the seconds of the meters.
 */
struct settings;
struct org;

enum org_word {
    ORG_ADMITTED,
    ORG_NO_CREDIT,
    ORG_SPEND_LIMIT,
    ORG_CONCURRENT,
    ORG_REQUESTS,
    ORG_INPUT,
    ORG_OUTPUT,
    ORG_ACCELERATION,
};

struct org_limit {
    int64_t limit, remaining; /* limit 0: none */
    int64_t full_in_ns;
};

/* What the headers of an answer say. */
struct org_view {
    struct org_limit requests, input, output, tokens;
    /* Input tokens of this minute and of the next that are not too steep a rise; 0: any. */
    int64_t ceiling, next_ceiling;
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
/* A request of that family was refused with 429 and no limit is to blame. */
void org_fault_refused(struct org *o, const char *family, int64_t now_ns);

/* Money alone, without start: what count_tokens meets. Its rate is one of its own. */
enum org_word org_money(const struct org *o);
enum org_word org_count_start(struct org *o, int64_t now_ns, int64_t *wait_ns);

void org_produced(struct org *o, const char *family, int64_t output, int64_t now_ns);
void org_charge(struct org *o, picodollars amount);

struct org_view org_look(struct org *o, const char *family, int64_t now_ns);

/* The meters begin again, and with them the day. Full: the buckets too. */
void org_reset(struct org *o, bool full, int64_t now_ns);
/* NULL where nothing of that family has come. Lent until the next call. */
const struct meter *org_meter(struct org *o, const char *family, int64_t now_ns);
/* The meters of all families: members of a JSON object; JSON lines. */
void org_write_meters(struct org *o, int64_t now_ns, struct text *t);
void org_write_pace(struct org *o, int64_t now_ns, struct text *t);

int64_t org_in_flight(const struct org *o);
picodollars org_spent(const struct org *o);
/* Only meaningful while credit is not endless. */
picodollars org_credit(const struct org *o);
void org_credit_add(struct org *o, picodollars amount);

#endif
