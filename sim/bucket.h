#ifndef BUCKET_H
#define BUCKET_H

#include <stdbool.h>
#include <stdint.h>

/*
 * A bucket of tokens that refills continuously. Pure: moments are arguments, in
 * nanoseconds of any clock that only runs forward. `level` may sink below zero: output is
 * known only afterwards, and a request may want more than a small bucket ever holds.
 */
struct bucket {
    double per_minute; /* 0: no limit */
    double room, level;
    int64_t at_ns;
    /* Since it was made: what came in, the first filling included and the overflow too,
     * less what somebody else took; and the latter alone. */
    double poured, lost;
};

/* A new rate. The level stays, as far as there is room; where there was no limit the
 * bucket is full. */
void bucket_rate(struct bucket *b, double per_minute, double room, int64_t now_ns);

/* Time passes. Meanwhile somebody else takes `demand` a minute, a fluid: as long as there
 * is something in the bucket, and never below zero. */
void bucket_flow(struct bucket *b, double demand, int64_t now_ns);
double bucket_level(struct bucket *b, int64_t now_ns);
void bucket_take(struct bucket *b, double n, int64_t now_ns);

/* What does not fit into the bucket but into a minute passes when the bucket is full, and
 * overdraws it. What fits into no minute never passes. */
bool bucket_holds(struct bucket *b, double n, int64_t now_ns);
/* Until `n` pass, if nobody else takes anything; until it is full where `n` never will. */
int64_t bucket_wait_ns(struct bucket *b, double n, int64_t now_ns);

#endif
