#ifndef METER_H
#define METER_H

#include "sim/bucket.h"
#include "sim/words.h"

#include <stddef.h>
#include <stdint.h>

/*
 * What the buckets of one family of models let through, and what became of it: in all,
 * and second by second for the first hour. Begins with the family's first request; the
 * seconds count from the first request of all families, so that their rows match.
 */
enum meter_bucket { METER_REQUESTS, METER_INPUT, METER_OUTPUT, METER_BUCKETS };

enum meter_refusal {
    REFUSED_REQUESTS,
    REFUSED_INPUT,
    REFUSED_OUTPUT,
    REFUSED_CONCURRENT,
    REFUSED_ACCELERATION,
    REFUSED_FAULT, /* a 429 that no limit asked for */
    METER_REFUSALS
};

enum { METER_SECONDS_MAX = 3600 };

struct meter_sums {
    double allowed; /* what was in the bucket at the first request, and poured since */
    double used, tenant;
};

struct meter_row {
    struct {
        struct meter_sums sums;
        double level, per_minute; /* at the second's end */
    } buckets[METER_BUCKETS];
    uint32_t refused[METER_REFUSALS];
};

/* Zeroed is not enough: meter_clear() first, which also frees. */
struct meter {
    int64_t zero_ns;  /* where the seconds begin */
    int64_t first_ns; /* -1: nothing has come */
    int64_t last_ns;  /* of the last request or output */
    struct {
        struct meter_sums sums, at_last; /* up to now; up to last_ns */
        double poured, lost;             /* as the bucket had them */
        double level, per_minute;
    } buckets[METER_BUCKETS];
    /* [1]: of those that came a minute after the first, or later */
    int64_t requests[2], refused[2][METER_REFUSALS];
    struct meter_row *rows;
    size_t count, room;
};

void meter_clear(struct meter *m);

/* The first request; the buckets have been brought to this moment. */
void meter_begin(struct meter *m, const struct bucket *const b[METER_BUCKETS],
                 int64_t zero_ns, int64_t now_ns);
/* The bucket has changed by time alone, from this moment on and within one second. */
void meter_flowed(struct meter *m, enum meter_bucket which, const struct bucket *b,
                  int64_t from_ns);
void meter_used(struct meter *m, enum meter_bucket which, const struct bucket *b,
                double n, int64_t now_ns);
/* A request came: let in, or not. */
void meter_started(struct meter *m, int64_t now_ns);
void meter_refused(struct meter *m, enum meter_refusal why, int64_t now_ns);

/* One JSON object; JSON lines, one a second. */
void meter_write(const struct meter *m, struct text *t);
void meter_write_rows(const struct meter *m, const char *family, struct text *t);

#endif
