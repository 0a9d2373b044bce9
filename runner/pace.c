#include "runner/pace.h"

void window_init(struct window *w, int limit)
{
    *w = (struct window){.limit = limit, .size = 1, .cut_at = -1};
}

bool window_may_start(const struct window *w, int in_flight)
{
    return in_flight < w->size;
}

void window_good(struct window *w, int in_flight, int64_t started_at)
{
    if (started_at <= w->cut_at)
        return;
    w->opened = true;
    if (w->size >= w->limit || in_flight * 5 < w->size * 4)
        return;
    if (++w->good < (w->cut_once ? w->size : 1))
        return;
    w->good = 0;
    w->size++;
}

void window_open(struct window *w)
{
    if (w->cut_at < 0)
        w->size = w->limit;
}

void window_cut(struct window *w, int64_t now, int64_t started_at)
{
    if (started_at <= w->cut_at)
        return;
    w->size = w->size * 4 / 5;
    if (w->size < 1)
        w->size = 1;
    w->cut_once = w->opened; /* before it opened there was nothing to be wrong about */
    w->cut_at = now;
    w->good = 0;
}

void window_shut(struct window *w)
{
    window_init(w, w->limit);
}

bool breaker_bad(struct breaker *b, int threshold, bool probe, int64_t now)
{
    if (b->row++ == 0)
        b->since = now;
    if (b->open) {
        if (probe) {
            b->span = b->span * 2 > BREAKER_LAST_MS ? BREAKER_LAST_MS : b->span * 2;
            b->probe_at = now + b->span;
        }
        return false;
    }
    if (b->row < threshold)
        return false;
    b->open = true;
    b->span = BREAKER_FIRST_MS;
    b->probe_at = now + b->span;
    return true;
}

void breaker_good(struct breaker *b)
{
    *b = (struct breaker){0};
}

int64_t backoff_ms(int n, int64_t base_ms, int64_t cap_ms, uint64_t random)
{
    int64_t top = base_ms;
    while (n-- > 0 && top < cap_ms)
        top *= 2;
    if (top > cap_ms)
        top = cap_ms;
    return (int64_t)(random % (uint64_t)(top + 1));
}
