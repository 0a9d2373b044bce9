#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runner/bucket.h"
#include "tests/fake_limits.h"

/*
 * Nights in virtual time: backlogged runners against a limiter written from the
 * documentation. Everything random comes from a seed. NIGHT_TABLE=1 prints the figures,
 * and those of two simpler policies.
 */
#define CASES(a) (sizeof(a) / sizeof(a)[0])

enum { RUNNERS_MAX = 4, FLIGHTS_MAX = 4096 };

/* ---- chance ---- */

static uint64_t seed;

static uint64_t any(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static double uniform(double low, double high)
{
    return low + (high - low) * (double)(any() >> 11) / 9007199254740992.0;
}

static double lognormal(double mean, double sigma)
{
    double u = uniform(1e-12, 1), v = uniform(0, 6.283185307179586);
    double z = sqrt(-2 * log(u)) * cos(v);
    return mean * exp(sigma * z - sigma * sigma / 2);
}

/* ---- a night ---- */

enum policy { BY_BUCKETS, BY_WINDOW, BY_AIMD };

struct night {
    const char *name;
    struct fake_rules rules;
    double minutes;
    enum policy policy;
    bool streams;
    bool stamped_late; /* headers tell the levels of the first byte, not of admission */
    bool early;        /* headers of a stream come before the first token */
    bool no_headers;
    bool apart; /* runners share no buckets */
    int runners, window;
    int binds;
    double others;                 /* share of the bound limit, while on */
    double others_ms;              /* on so long, off so long */
    double halves_from, halves_to; /* ms */
    double in_mean, in_sigma, out_mean, out_sigma, speed, ttft_low, ttft_high;
    double huge_every; /* so many jobs, one whose input is larger than a bucket */
    const struct buckets *before;
    struct buckets *after;
};

struct figures {
    double used;    /* of what the bound bucket allowed */
    double opened;  /* the same, since the first answer */
    double paid;    /* like `opened`, and what is in flight at the end written out */
    double left_ms; /* unused in the bucket at the end */
    double sends, sends_late, refused, refused_late, refused_early;
    double huge_sent, huge_refused;
    double early_worst; /* of several nights */
    double before;      /* sent before the first answer */
    double asks, wakes;
    double halves[3]; /* used from 30 s after a change until the next */
};

enum event_kind {
    EV_WAKE,
    EV_ARRIVE,
    EV_FIRST,
    EV_END,
    EV_HEADERS,
    EV_ANSWER,
    EV_REFUSED,
    EV_OTHERS,
    EV_LIMIT,
    EV_MARK
};

struct event {
    double at;
    uint64_t order;
    enum event_kind kind;
    int who;
};

struct flight {
    struct bucket_ticket ticket;
    int runner;
    double est, input, output, sent_at, back_ms;
    bool huge, busy, in;
    double first_at;
    enum bucket bucket;
    double wait_ms;
    struct fake_headers headers;
};

struct runner {
    struct buckets *buckets;
    int slot, window, in_flight;
    double wake_at;
    struct flight next;
    bool has_next;
    /* the simpler policies */
    double hold_until, limit, good;
    double cut_at;
    bool cut;
};

struct world {
    const struct night *n;
    struct figures figures;
    struct fake_limits limits;
    struct buckets buckets[RUNNERS_MAX];
    struct runner runners[RUNNERS_MAX];
    struct flight flights[FLIGHTS_MAX];
    int idle[FLIGHTS_MAX], idle_count;
    struct event *heap;
    size_t count, room;
    uint64_t order;
    double now, jobs;
    bool opened;
    double opened_allowed, opened_used;
};

static bool sooner(const struct event *a, const struct event *b)
{
    return a->at < b->at || (a->at <= b->at && a->order < b->order);
}

static void push(struct world *w, double at, enum event_kind kind, int who)
{
    if (w->count == w->room) {
        w->room = w->room ? w->room * 2 : 1024;
        w->heap = realloc(w->heap, w->room * sizeof *w->heap);
        assert_non_null(w->heap);
    }
    struct event e = {at, w->order++, kind, who};
    size_t i = w->count++;
    for (; i > 0 && sooner(&e, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = e;
}

static struct event pop(struct world *w)
{
    struct event top = w->heap[0], last = w->heap[--w->count];
    size_t i = 0;
    for (size_t c; (c = 2 * i + 1) < w->count; i = c) {
        if (c + 1 < w->count && sooner(&w->heap[c + 1], &w->heap[c]))
            c++;
        if (!sooner(&w->heap[c], &last))
            break;
        w->heap[i] = w->heap[c];
    }
    w->heap[i] = last;
    return top;
}

static int64_t ms(const struct world *w)
{
    return (int64_t)w->now + 1000000; /* the machine is up since a while */
}

/* ---- the simpler policies ---- */

static void simple_good(struct runner *r, bool aimd)
{
    if (!aimd || r->in_flight < r->limit * 0.8)
        return;
    if (++r->good >= (r->cut ? r->limit : 1)) {
        r->good = 0;
        r->limit = fmin(r->limit + 1, r->window);
    }
}

static void simple_refused(struct world *w, struct runner *r, struct flight *f)
{
    double wait = ceil(f->wait_ms / 1000) * 1000;
    r->hold_until = fmax(r->hold_until, w->now + wait);
    if (w->n->policy == BY_AIMD && f->sent_at > r->cut_at) {
        r->limit = fmax(1, floor(r->limit * 0.8));
        r->cut = true;
        r->cut_at = w->now;
        r->good = 0;
    }
}

/* ---- the runners ---- */

static void draw(struct world *w, struct flight *f)
{
    const struct night *n = w->n;
    *f = (struct flight){0};
    f->input = ceil(lognormal(n->in_mean, n->in_sigma));
    f->output = ceil(lognormal(n->out_mean, n->out_sigma));
    if (n->huge_every > 0 && fmod(++w->jobs, n->huge_every) == 0) {
        f->huge = true;
        f->input = ceil(w->limits.bucket[FAKE_INPUT].room * 1.5);
    }
    f->est = f->input * uniform(0.9, 1.1) * 1.2; /* and a tokenizer that is off */
}

static void send(struct world *w, struct runner *r, const struct bucket_look *look,
                 const struct bucket_ask *ask)
{
    assert_true(w->idle_count > 0);
    int who = w->idle[--w->idle_count];
    struct flight *f = &w->flights[who];
    *f = r->next;
    r->has_next = false;
    f->busy = true;
    f->runner = (int)(r - w->runners);
    f->sent_at = w->now;
    f->back_ms = uniform(20, 50);
    if (w->n->policy == BY_BUCKETS)
        f->ticket = buckets_take(r->buckets, r->slot, ask, look, ms(w));
    r->in_flight++;
    w->figures.sends++;
    if (w->now > 60000)
        w->figures.sends_late++;
    push(w, w->now + uniform(2, 5) + uniform(20, 50), EV_ARRIVE, who);
}

static void tick(struct world *w, struct runner *r)
{
    const struct night *n = w->n;
    while (r->in_flight < r->window && w->now < n->minutes * 60000) {
        if (!r->has_next) {
            draw(w, &r->next);
            r->has_next = true;
        }
        struct bucket_ask ask = {
            .group = 7, .input_est = r->next.est, .max_tokens = 4096};
        struct bucket_look look = {.may = true};
        if (n->policy == BY_BUCKETS) {
            w->figures.asks++;
            look = buckets_ask(r->buckets, &ask, ms(w));
        } else {
            look.may = w->now >= r->hold_until && r->in_flight < r->limit;
            look.ask_at = w->now < r->hold_until ? (int64_t)r->hold_until + 1000001 : 0;
        }
        if (!look.may) {
            double at = (double)(look.ask_at - 1000000);
            if (look.ask_at > 0 && (r->wake_at <= w->now || at < r->wake_at)) {
                assert_true(at > w->now - 1);
                r->wake_at = fmax(at, w->now + 0.001);
                push(w, r->wake_at, EV_WAKE, (int)(r - w->runners));
            }
            return;
        }
        send(w, r, &look, &ask);
    }
}

static struct bucket_headers told(const struct world *w, const struct flight *f)
{
    struct bucket_headers h = bucket_headers_none;
    if (w->n->no_headers)
        return h;
    for (int k = 0; k < BUCKETS; k++) {
        h.limit[k] = (int64_t)f->headers.limit[k];
        h.remaining[k] = (int64_t)f->headers.remaining[k];
        h.reset_ms[k] = (int64_t)(ceil(f->headers.reset_ms[k] / 1000) * 1000);
    }
    return h;
}

static double used_of(const struct fake_bucket *b)
{
    return b->charged;
}

static double allowed_of(const struct fake_bucket *b)
{
    return b->initial + b->granted - b->taken;
}

static void opens(struct world *w)
{
    if (w->opened)
        return;
    fake_move(&w->limits, w->now);
    const struct fake_bucket *b = &w->limits.bucket[w->n->binds];
    w->opened = true;
    w->figures.before = w->figures.sends;
    /* What a full bucket lost until here, nobody could have had. */
    w->opened_used = used_of(b);
    w->opened_allowed = b->granted - b->taken + b->initial - b->level;
}

static void lands(struct world *w, int who)
{
    struct flight *f = &w->flights[who];
    w->runners[f->runner].in_flight--;
    f->busy = false;
    w->idle[w->idle_count++] = who;
}

static void happens(struct world *w, const struct event *e)
{
    const struct night *n = w->n;
    struct flight *f = &w->flights[e->who];
    struct runner *r = &w->runners[e->kind == EV_WAKE ? e->who : f->runner];
    double wait;
    int k;

    switch (e->kind) {
    case EV_WAKE:
        if (r->wake_at > e->at)
            return;
        w->figures.wakes++;
        break;
    case EV_ARRIVE:
        k = fake_admit(&w->limits, f->input, w->now, &wait);
        f->headers = fake_look(&w->limits, w->now);
        if (k >= 0) {
            f->bucket = (enum bucket)k;
            f->wait_ms = wait;
            push(w, w->now + f->back_ms, EV_REFUSED, e->who);
        } else {
            double first = w->now + uniform(n->ttft_low, n->ttft_high);
            f->in = true;
            f->first_at = first;
            push(w, first, EV_FIRST, e->who);
            if (n->streams && n->early)
                push(w, w->now + f->back_ms, EV_HEADERS, e->who);
        }
        return;
    case EV_FIRST:
        fake_flow(&w->limits, n->speed / 1000, w->now);
        if (n->streams && n->stamped_late && !n->early)
            f->headers = fake_look(&w->limits, w->now);
        push(w, w->now + f->output / n->speed * 1000, EV_END, e->who);
        if (n->streams && !n->early)
            push(w, w->now + f->back_ms, EV_HEADERS, e->who);
        return;
    case EV_END:
        fake_flow(&w->limits, -n->speed / 1000, w->now);
        if (!n->streams && n->stamped_late)
            f->headers = fake_look(&w->limits, w->now);
        push(w, w->now + f->back_ms, EV_ANSWER, e->who);
        return;
    case EV_HEADERS:
    case EV_ANSWER:
        opens(w);
        if (n->policy == BY_BUCKETS) {
            struct bucket_headers h = told(w, f);
            if (!n->no_headers && (e->kind == EV_HEADERS || !n->streams))
                buckets_headers(r->buckets, &f->ticket, &h, ms(w));
            if (e->kind == EV_ANSWER)
                buckets_ended(r->buckets, &f->ticket, (int64_t)f->input,
                              (int64_t)f->output, ms(w));
        }
        if (e->kind == EV_ANSWER) {
            simple_good(r, n->policy == BY_AIMD);
            w->figures.huge_sent += f->huge;
            lands(w, e->who);
        }
        break;
    case EV_REFUSED:
        opens(w);
        if (!f->huge) {
            w->figures.refused++;
            if (w->now > 60000)
                w->figures.refused_late++;
            else
                w->figures.refused_early++;
        }
        if (n->policy == BY_BUCKETS) {
            struct bucket_refused refused = {
                .kind = REFUSED_QUOTA,
                .bucket = f->bucket,
                .retry_after_ms = (int64_t)ceil(f->wait_ms / 1000) * 1000,
                .headers = told(w, f)};
            if (f->huge) {
                assert_true(f->ticket.alone);
                w->figures.huge_refused++;
            }
            buckets_refused(r->buckets, &f->ticket, &refused, ms(w));
        } else {
            simple_refused(w, r, f);
        }
        lands(w, e->who);
        break;
    default:
        return;
    }
    tick(w, r);
}

static void night_init(struct world *w, const struct night *n)
{
    w->n = n;
    fake_init(&w->limits, &n->rules);
    w->heap = NULL;
    for (int i = FLIGHTS_MAX - 1; i >= 0; i--)
        w->idle[w->idle_count++] = i;
    for (int i = 0; i < n->runners; i++) {
        struct buckets *b = &w->buckets[n->apart ? i : 0];
        if (n->before && (i == 0 || n->apart))
            *b = *n->before;
        else if (i == 0 || n->apart)
            buckets_init(b, ms(w));
        w->runners[i] = (struct runner){.buckets = b,
                                        .window = n->window / n->runners,
                                        .limit = n->policy == BY_WINDOW ? 200 : 1,
                                        .slot = buckets_join(b, ms(w)),
                                        .cut_at = -1};
        push(w, i * 3.0, EV_WAKE, i);
    }
    if (n->others > 0)
        push(w, 0, EV_OTHERS, 1);
    if (n->halves_to > 0) {
        push(w, n->halves_from, EV_LIMIT, 0);
        push(w, n->halves_to, EV_LIMIT, 1);
        double marks[] = {n->halves_from - 30000, n->halves_from,
                          n->halves_from + 30000, n->halves_to, n->halves_to + 30000};
        for (int i = 0; i < 5; i++)
            push(w, marks[i], EV_MARK, i);
    }
}

static struct figures night(const struct night *n, uint64_t with_seed)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    seed = with_seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    for (int i = 0; i < 10; i++)
        any();
    night_init(w, n);

    double end = n->minutes * 60000, mark_used[6] = {0}, mark_allowed[6] = {0};
    struct fake_bucket *b = &w->limits.bucket[n->binds];
    while (w->count > 0) {
        struct event e = pop(w);
        if (e.at > end)
            break;
        w->now = e.at;
        if (e.kind == EV_OTHERS) {
            fake_others(&w->limits, n->binds,
                        e.who * n->others * n->rules.limit[n->binds], w->now);
            push(w, w->now + n->others_ms, EV_OTHERS, !e.who);
        } else if (e.kind == EV_LIMIT) {
            fake_limit_times(&w->limits, e.who ? 2 : 0.5, w->now);
        } else if (e.kind == EV_MARK) {
            fake_move(&w->limits, w->now);
            mark_used[e.who] = used_of(b);
            mark_allowed[e.who] = b->granted;
        } else {
            happens(w, &e);
        }
    }
    fake_move(&w->limits, end);
    double to_come = 0;
    for (int i = 0; i < FLIGHTS_MAX; i++) {
        const struct flight *g = &w->flights[i];
        double wrote = (end - g->first_at) * n->speed / 1000;
        if (g->busy && g->in && wrote < g->output)
            to_come += g->output - fmax(wrote, 0);
    }
    struct figures f = w->figures;
    f.used = used_of(b) / allowed_of(b);
    f.opened = (used_of(b) - w->opened_used) / (allowed_of(b) - w->opened_allowed);
    f.paid = f.opened;
    if (n->binds == FAKE_OUTPUT)
        f.paid += to_come / (allowed_of(b) - w->opened_allowed);
    f.left_ms = b->level / b->limit * 60000;
    if (n->halves_to > 0) {
        mark_used[5] = used_of(b);
        mark_allowed[5] = b->granted;
        for (int i = 0; i < 3; i++)
            f.halves[i] = (mark_used[2 * i + 1] - mark_used[2 * i]) /
                          (mark_allowed[2 * i + 1] - mark_allowed[2 * i]);
    }
    if (n->after) {
        for (int i = 0; i < n->runners; i++)
            buckets_free_slot(w->runners[i].buckets, w->runners[i].slot, ms(w));
        *n->after = w->buckets[0];
    }
    free(w->heap);
    free(w);
    return f;
}

/* ---- which nights ---- */

static struct night usual(int binds, double a_minute, double burst_s, bool streams)
{
    struct night n = {.name = "",
                      .minutes = 3,
                      .streams = streams,
                      .runners = 1,
                      .window = a_minute > 3000 ? 4000 : 512,
                      .binds = binds,
                      .in_mean = 1500,
                      .in_sigma = 0.5,
                      .out_mean = 400,
                      .out_sigma = 0.6,
                      .speed = 80,
                      .ttft_low = 300,
                      .ttft_high = 800};
    const double each[FAKE_BUCKETS] = {1, n.in_mean, n.out_mean};
    n.rules.burst_s = burst_s;
    for (int k = 0; k < FAKE_BUCKETS; k++)
        n.rules.limit[k] = floor(a_minute * each[k] *
                                 (k == binds       ? 1
                                  : a_minute < 300 ? 20
                                                   : 1.6));
    return n;
}

static void figures_add(struct figures *sum, const struct figures *f, int i)
{
    double *to = (double *)sum;
    const double *from = (const double *)f;
    if (i == 0) {
        *sum = *f;
        sum->early_worst = f->refused_early;
        return;
    }
    for (size_t k = 0; k < sizeof *f / sizeof(double); k++)
        to[k] += from[k];
    sum->used = fmin(sum->used - f->used, f->used);
    sum->opened = fmin(sum->opened - f->opened, f->opened);
    sum->paid = fmin(sum->paid - f->paid, f->paid);
    sum->early_worst = fmax(sum->early_worst - f->refused_early, f->refused_early);
    sum->before = fmax(sum->before - f->before, f->before);
    for (int k = 0; k < 3; k++)
        sum->halves[k] = fmin(sum->halves[k] - f->halves[k], f->halves[k]);
}

static struct night small(int binds, double burst_s, bool streams)
{
    struct night n = usual(binds, 20, burst_s, streams);
    n.name = "small account";
    n.rules.limit[FAKE_REQUESTS] = 50;
    n.rules.limit[FAKE_INPUT] = binds == FAKE_OUTPUT ? 60000 : 30000;
    n.rules.limit[FAKE_OUTPUT] = binds == FAKE_INPUT ? 16000 : 8000;
    if (binds == FAKE_REQUESTS) {
        n.in_mean = 300;
        n.out_mean = 80;
    }
    n.minutes = 30;
    return n;
}

static struct night fast(int binds, double a_minute, double burst_s, bool streams)
{
    struct night n = usual(binds, a_minute, burst_s, streams);
    n.name = "fast answers";
    n.ttft_low = 80;
    n.ttft_high = 120;
    n.speed = 4000;
    n.minutes = 1.5;
    return n;
}

static struct night halving(int binds, double burst_s, bool streams)
{
    struct night n = usual(binds, 1000, burst_s, streams);
    n.name = "halving";
    n.minutes = 6;
    n.halves_from = 120000;
    n.halves_to = 240000;
    return n;
}

/* ---- the aims ---- */

struct aims {
    double used, refused, refused_late, early; /* refusals a thousand; early: at most */
};

static bool table; /* NIGHT_TABLE: print */

static const char *const bound[] = {"RPM", "ITPM", "OTPM"};

static void row(const struct night *n, const struct figures *sum, int seeds)
{
    print_message(
        "%-21s %-4s burst %2.0f s %-6s %-9s worst %6.2f %% (%6.2f strictly, %6.2f "
        "from the start), refused a thousand %6.2f, later %6.2f, early at most "
        "%3.0f, sent %6.0f, asks a send %4.2f, unused %5.2f s",
        n->name, bound[n->binds], n->rules.burst_s, n->streams ? "stream" : "whole",
        n->stamped_late ? "late" : "admission", 100 * sum->paid, 100 * sum->opened,
        100 * sum->used, 1000 * sum->refused / sum->sends,
        sum->sends_late > 0 ? 1000 * sum->refused_late / sum->sends_late : 0,
        sum->early_worst, sum->sends / seeds, sum->asks / sum->sends,
        sum->left_ms / seeds / 1000);
    if (n->halves_to > 0)
        print_message(", thirds %.1f %.1f %.1f %%", 100 * sum->halves[0],
                      100 * sum->halves[1], 100 * sum->halves[2]);
    print_message("\n");
}

/* `n` in five worlds; in every other one headers are stamped late. */
static struct figures nights(struct night n, const struct aims *aims)
{
    enum { SEEDS = 5 };
    struct figures sum = {0};
    for (int i = 0; i < SEEDS; i++) {
        struct figures f = night(&n, (uint64_t)i + 1);
        figures_add(&sum, &f, i);
    }
    if (table)
        row(&n, &sum, SEEDS);
    if (aims == NULL)
        return sum;
    double refused = 1000 * sum.refused / sum.sends;
    double late = sum.sends_late > 0 ? 1000 * sum.refused_late / sum.sends_late : 0;
    bool bad = sum.paid < aims->used || refused > aims->refused ||
               late > aims->refused_late || sum.early_worst > aims->early;
    if (bad && !table)
        row(&n, &sum, SEEDS);
    assert_false(bad);
    assert_true(sum.before <= n.runners); /* one request, then opening */
    return sum;
}

#define FOR_BUCKETS(k) for (int k = 0; k < FAKE_BUCKETS; k++)
#define FOR_BURSTS(s, from) for (double s = from; s <= 60; s = s < 2 ? 5 : s * 12)
#define FOR_WAYS(streams, late)                   \
    for (int streams = 0; streams < 2; streams++) \
        for (int late = 0; late < 2; late++)

static void alone_all_that_is_allowed_is_used(void **state)
{
    (void)state;
    static const struct aims aims = {0.99, 3, 1, 5};
    FOR_BUCKETS(k) FOR_BURSTS(burst, 1) FOR_WAYS(streams, late)
    {
        struct night n = usual(k, 1000, burst, streams);
        n.name = "alone";
        n.stamped_late = late;
        struct figures f = nights(n, &aims);
        assert_true(f.opened > 0.98); /* even with nothing owed at the end */
    }
}

static void a_minute_and_a_half_is_enough_to_use_a_full_bucket(void **state)
{
    (void)state;
    static const struct aims aims = {0.985, 3, 1, 5};
    FOR_BUCKETS(k) FOR_WAYS(streams, late)
    {
        struct night n = usual(k, 1000, 60, streams);
        n.name = "alone, 90 s";
        n.minutes = 1.5;
        n.stamped_late = late;
        nights(n, &aims);
    }
}

static void small_and_large_limits_are_used_alike(void **state)
{
    (void)state;
    static const struct aims aims = {0.975, 15, 10, 5}, tiny = {0.94, 10, 10, 2};
    FOR_BURSTS(burst, 5) FOR_BUCKETS(k)
    {
        struct night n = usual(k, 60, burst, true);
        n.name = "60 a minute";
        nights(n, &aims);
        n = usual(k, 5000, burst, false);
        n.name = "5,000 a minute";
        n.minutes = 1.2;
        nights(n, &aims);
    }
    for (int streams = 0; streams < 2; streams++) {
        struct night n = usual(FAKE_REQUESTS, 60, 1, streams);
        n.name = "one a second";
        nights(n, &tiny);
    }
}

static void fast_answers_need_no_other_measure(void **state)
{
    (void)state;
    static const struct aims aims = {0.985, 1, 1, 5};
    FOR_BUCKETS(k) FOR_BURSTS(burst, 1)
    {
        struct night n = fast(k, 12000, burst, k != FAKE_INPUT);
        n.minutes = 1;
        nights(n, &aims);
    }
}

static void requests_let_in_by_the_second_are_found_out(void **state)
{
    (void)state;
    static const struct aims aims = {0.99, 3, 1, 5};
    FOR_WAYS(streams, late)
    {
        struct night n = usual(FAKE_REQUESTS, 1000, 60, streams);
        n.name = "roomy headers";
        n.stamped_late = late;
        n.rules.roomy = true;
        nights(n, &aims);
    }
}

static void headers_may_come_before_the_first_token(void **state)
{
    (void)state;
    static const struct aims aims = {0.985, 3, 1, 5};
    FOR_BUCKETS(k) FOR_BURSTS(burst, 1)
    {
        struct night n = usual(k, 1000, burst, true);
        n.name = "early headers";
        n.minutes = 2;
        n.early = true;
        nights(n, &aims);
    }
}

static struct night beside(int k, double burst, bool streams, bool late)
{
    struct night n = usual(k, 1000, burst, streams);
    n.name = "co-tenant";
    n.stamped_late = late;
    n.others = 0.5;
    n.others_ms = 30000;
    n.minutes = 4;
    return n;
}

/* Where answers tell nothing for six seconds and a bucket holds one, others can only be
 * met by refusals; the aims there are what was reached. */
static void beside_others_what_they_leave_is_used(void **state)
{
    (void)state;
    static const struct aims aims = {0.98, 3, 6, 20}, output = {0.98, 6, 9, 30},
                             brief = {0.90, 15, 15, 40}, blind = {0.80, 25, 25, 40};
    FOR_BUCKETS(k) FOR_BURSTS(burst, 1) FOR_WAYS(streams, late)
    {
        const struct aims *a = &aims;
        bool old = !streams && !late; /* what headers tell is as old as the answer */
        if (k == FAKE_OUTPUT)
            a = burst < 2 || (old && burst < 60) ? &brief : &output;
        else if (burst < 2 && !streams)
            a = &brief;
        if (burst < 2 && old)
            a = &blind;
        nights(beside(k, burst, streams, late), a);
    }
}

static void a_small_account_is_used_too(void **state)
{
    (void)state;
    static const struct aims aims = {0.90, 20, 20, 5};
    FOR_BUCKETS(k) FOR_BURSTS(burst, 5) FOR_WAYS(streams, late)
    {
        if (k == FAKE_INPUT && burst < 60)
            continue; /* half of its requests are larger than the bucket */
        struct night n = small(k, burst, streams);
        n.stamped_late = late;
        n.minutes = late ? 10 : 30;
        nights(n, &aims);
    }
}

static void a_limit_that_changes_is_followed(void **state)
{
    (void)state;
    static const struct aims aims = {0.90, 5, 8, 10};
    FOR_BUCKETS(k) FOR_BURSTS(burst, 1) for (int streams = 0; streams < 2; streams++)
    {
        struct figures f = nights(halving(k, burst, streams), &aims);
        for (int i = 0; i < 3; i++)
            assert_true(f.halves[i] > 0.95);
    }
}

static void runners_that_share_are_as_good_as_one(void **state)
{
    (void)state;
    static const struct aims aims = {0.985, 3, 1, 7};
    for (int runners = 2; runners <= 4; runners += 2)
        FOR_BUCKETS(k)
    FOR_BURSTS(burst, 1) for (int streams = 0; streams < 2; streams++)
    {
        struct night n = usual(k, 1000, burst, streams);
        n.name = runners == 2 ? "two runners" : "four runners";
        n.runners = runners;
        nights(n, &aims);
    }
}

static void runners_of_two_machines_do_not_storm(void **state)
{
    (void)state;
    static const struct aims aims = {0.95, 60, 60, 100}, blind = {0.5, 80, 80, 150};
    FOR_BUCKETS(k) FOR_BURSTS(burst, 1) for (int streams = 0; streams < 2; streams++)
    {
        struct night n = usual(k, 1000, burst, streams);
        n.name = "two machines";
        n.minutes = 2;
        n.runners = 2;
        n.apart = true;
        nights(n, streams ? &aims : &blind);
    }
}

static void a_request_larger_than_a_bucket_does_not_stop_the_others(void **state)
{
    (void)state;
    static const struct aims aims = {0.5, 3, 3, 5};
    FOR_BURSTS(burst, 1) for (int streams = 0; streams < 2; streams++)
    {
        struct night n = usual(FAKE_INPUT, 1000, burst, streams);
        n.name = "larger than a bucket";
        n.huge_every = 1000;
        struct figures f = nights(n, &aims);
        assert_true(f.huge_refused >= 5);
    }
}

static void what_was_learned_is_a_start_and_no_more(void **state)
{
    (void)state;
    static const struct aims aims = {0.98, 3, 3, 5};
    FOR_BUCKETS(k) FOR_BURSTS(burst, 1) for (int streams = 0; streams < 2; streams++)
    {
        struct buckets right, wrong;
        struct night n = usual(k, 1000, burst, streams);
        n.after = &right;
        night(&n, 77);
        n.after = NULL;
        n.before = &right;
        n.name = "learned before";
        n.minutes = 2;
        nights(n, &aims);
        n = usual(k, 1000, 60, streams);
        n.after = &wrong;
        night(&n, 77);
        n = usual(k, 300, burst, streams);
        n.before = &wrong;
        n.name = "learned wrongly";
        n.rules.roomy = k == FAKE_REQUESTS;
        if (k != FAKE_INPUT ||
            burst > 1) /* three requests to a bucket: another matter */
            nights(n, &aims);
    }
}

static void without_headers_nothing_is_held_back(void **state)
{
    (void)state;
    struct night n = usual(FAKE_REQUESTS, 1000000, 60, true);
    n.name = "no headers";
    n.no_headers = true;
    n.window = 512;
    n.minutes = 1;
    struct figures f = nights(n, NULL);
    assert_true(f.sends / 5 > 512 * 60 / 7.0); /* the window is full all the time */
    assert_true(f.before <= 1);
}

static void simpler_policies(void)
{
    for (int policy = BY_WINDOW; policy <= BY_AIMD; policy++)
        FOR_BUCKETS(k) FOR_BURSTS(burst, 5) for (int others = 0; others < 2; others++)
        {
            struct night n = others ? beside(k, burst, true, false)
                                    : usual(k, 1000, burst, true);
            n.policy = (enum policy)policy;
            n.name = policy == BY_WINDOW ? others ? "fixed 200, co-tenant" : "fixed 200"
                     : others            ? "AIMD, co-tenant"
                                         : "AIMD";
            nights(n, NULL);
        }
    for (int policy = BY_WINDOW; policy <= BY_AIMD; policy++)
        FOR_BUCKETS(k)
        {
            struct night n = small(k, 60, true);
            n.policy = (enum policy)policy;
            n.name = policy == BY_WINDOW ? "fixed 200, small" : "AIMD, small";
            nights(n, NULL);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alone_all_that_is_allowed_is_used),
        cmocka_unit_test(a_minute_and_a_half_is_enough_to_use_a_full_bucket),
        cmocka_unit_test(small_and_large_limits_are_used_alike),
        cmocka_unit_test(fast_answers_need_no_other_measure),
        cmocka_unit_test(requests_let_in_by_the_second_are_found_out),
        cmocka_unit_test(headers_may_come_before_the_first_token),
        cmocka_unit_test(beside_others_what_they_leave_is_used),
        cmocka_unit_test(a_small_account_is_used_too),
        cmocka_unit_test(a_limit_that_changes_is_followed),
        cmocka_unit_test(runners_that_share_are_as_good_as_one),
        cmocka_unit_test(runners_of_two_machines_do_not_storm),
        cmocka_unit_test(a_request_larger_than_a_bucket_does_not_stop_the_others),
        cmocka_unit_test(what_was_learned_is_a_start_and_no_more),
        cmocka_unit_test(without_headers_nothing_is_held_back),
    };
    table = getenv("NIGHT_TABLE") != NULL;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (table)
        simpler_policies();
    return failed;
}
