#include "sim/bucket.h"

#include <math.h>

#define NS_PER_MINUTE 60e9

void bucket_flow(struct bucket *b, double demand, int64_t now_ns)
{
    if (now_ns <= b->at_ns)
        return;
    double minutes = (double)(now_ns - b->at_ns) / NS_PER_MINUTE;
    double poured = minutes * b->per_minute, taken = 0;
    b->at_ns = now_ns;
    if (b->per_minute <= 0)
        return;

    if (demand > 0) {
        /* A debt is paid before there is anything to take. */
        double debt = b->level < 0 ? -b->level / b->per_minute : 0;
        double open = minutes > debt ? minutes - debt : 0;
        double most = (b->level > 0 ? b->level : 0) + open * b->per_minute;
        taken = open * demand < most ? open * demand : most;
    }
    b->level += poured - taken;
    if (b->level > b->room)
        b->level = b->room;
    b->poured += poured - taken;
    b->lost += taken;
}

double bucket_level(struct bucket *b, int64_t now_ns)
{
    bucket_flow(b, 0, now_ns);
    return b->level;
}

void bucket_rate(struct bucket *b, double per_minute, double room, int64_t now_ns)
{
    bucket_flow(b, 0, now_ns);
    if (b->per_minute <= 0) {
        b->level = room;
        if (per_minute > 0)
            b->poured += room;
    }
    b->per_minute = per_minute;
    b->room = room;
    if (b->level > room)
        b->level = room;
    b->at_ns = now_ns;
}

void bucket_take(struct bucket *b, double n, int64_t now_ns)
{
    if (b->per_minute > 0)
        b->level = bucket_level(b, now_ns) - n;
}

/* What must be in it so that `n` pass. */
static double needed(const struct bucket *b, double n)
{
    return n > b->room && n <= b->per_minute ? b->room : n;
}

/* A hair of rounding must not turn a request away at the very moment it was told to
 * come. */
bool bucket_holds(struct bucket *b, double n, int64_t now_ns)
{
    return b->per_minute <= 0 || bucket_level(b, now_ns) >= needed(b, n) - 1e-6;
}

int64_t bucket_wait_ns(struct bucket *b, double n, int64_t now_ns)
{
    double target = n > b->room ? b->room : n;
    double missing = target - bucket_level(b, now_ns);
    if (b->per_minute <= 0 || missing <= 0)
        return 0;
    return (int64_t)ceil(missing * NS_PER_MINUTE / b->per_minute);
}
