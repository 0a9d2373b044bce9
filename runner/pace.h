#ifndef PACE_H
#define PACE_H

#include <stdbool.h>
#include <stdint.h>

/*
 * How hard a lane may lean on the API. Pure: time comes in, in monotonic milliseconds.
 *
 * The window bounds what is in flight. It opens at one request, and stays there until
 * the first good answer; then it grows by one a good answer until the first cut, later
 * by one a whole window of good answers; it grows only while it is nearly full, since
 * an idle window proves nothing. A push-back cuts it once an episode: requests that
 * were out before the cut tell nothing new. (Growth and cut after Inspect AI's adaptive
 * connections: cut x0.8, growth at 80 % use.)
 *
 * Beside the window are the token buckets (bucket.h): the lane asks both.
 */
struct window {
    int limit, size;
    bool opened, cut_once;
    int good;       /* good answers since the window last grew */
    int64_t cut_at; /* when it was last cut */
};

void window_init(struct window *w, int limit);
bool window_may_start(const struct window *w, int in_flight);

/* There was room. `in_flight` counts this one; `started_at` is when it left. */
void window_good(struct window *w, int in_flight, int64_t started_at);
/* The account's limits are known: they bound what leaves, and the window, which has
 * nothing to find out by itself any more, is wide open until something pushes back. */
void window_open(struct window *w);
void window_cut(struct window *w, int64_t now, int64_t started_at);

/* Back to one request, which must be good for the window to open again. */
void window_shut(struct window *w);

/*
 * A breaker counts failures in a row that say nothing of the job. At `threshold` it
 * opens: one probe at a time, the first after a second, then at doubled distance up to
 * a minute. One good answer closes it.
 */
enum { BREAKER_FIRST_MS = 1000, BREAKER_LAST_MS = 60000 };

struct breaker {
    int row;
    bool open;
    int64_t since;    /* the first failure of this row */
    int64_t probe_at; /* the next probe may leave */
    int64_t span;
};

/* True when this failure opened it. `probe`: it was the probe that failed. */
bool breaker_bad(struct breaker *b, int threshold, bool probe, int64_t now);
void breaker_good(struct breaker *b);

/* Full jitter: a span from 0 to min(cap, base * 2^n); `random` is any 64 random bits.
 */
int64_t backoff_ms(int n, int64_t base_ms, int64_t cap_ms, uint64_t random);

#endif
