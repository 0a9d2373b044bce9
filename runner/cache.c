#include "runner/cache.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    SWEEP_MS = 1000,
    KEEP_PERCENT = 80,   /* of the time that an entry lives: then it is used again */
    PASSED_WINDOWS = 8,  /* so many windows of others may go before a cold group */
    EPISODE_MS = 1000,   /* jobs that come closer than this come as one */
    MISSES = 3,          /* in a row until an entry is not hoped for any more */
    BARREN_MS = 3600000, /* then it is tried again */
    EPISODES = 3,        /* that have come before the next is counted on */
    HISTORY = 1000,      /* uses that are remembered */
    JOBS_MAX = 100000,   /* so that no cost wraps: x TOKENS_MAX x the dearest price */
    TOKENS_MAX = 2000000,
};

/* The first guess; usage corrects it. */
#define BYTES_PER_TOKEN_GUESS 3.5

enum phase { COLD, LEADING, WARM };

struct cache_node {
    uint64_t key[2];
    const struct model *model;
    uint32_t next; /* of its bucket */
    uint32_t idle_before, idle_after, open_before, open_after;
    bool open; /* LEADING or WARM: on that list */
    enum phase phase;
    bool hour, stale;     /* stale: its leader is silent for too long */
    int64_t barren_until; /* the API did not cache it */

    size_t bytes;
    int64_t tokens;      /* 0: not told yet */
    int64_t turn;        /* 0: none given */
    int64_t refs, held;  /* jobs in memory; those of them that wait */
    int64_t disk;        /* that wait on disk, as far as known */
    int64_t stock;       /* held ones that are to be marked here */
    int leaders, unread; /* leaders out; answers in a row that the cache took no part
                            in */
    int missed;          /* followers in a row that wrote instead of reading, */
    int64_t missed_at;   /* each sent after the one before it was heard */
    int64_t led_at;
    int64_t used_at, sent_at; /* the last use that is known, and that was sent */
    int64_t passed;           /* others' starts when it was passed over first; 0: not */

    int64_t came_at, came_gap; /* arrivals, and the time between them */
    int episodes;
};

static struct cache_node *at(const struct cache *c, uint32_t i)
{
    return &c->node[i];
}

void cache_init(struct cache *c, int64_t turn)
{
    *c = (struct cache){.bytes_per_token = BYTES_PER_TOKEN_GUESS,
                        .turn = turn > 0 ? turn : 1};
}

void cache_clear(struct cache *c)
{
    free(c->node);
    free(c->bucket);
    cache_init(c, c->turn);
}

/* ---- lists ---- */

static void idle_remove(struct cache *c, uint32_t i)
{
    struct cache_node *n = at(c, i);
    if (n->idle_before)
        at(c, n->idle_before)->idle_after = n->idle_after;
    else if (c->idle_first == i)
        c->idle_first = n->idle_after;
    if (n->idle_after)
        at(c, n->idle_after)->idle_before = n->idle_before;
    else if (c->idle_last == i)
        c->idle_last = n->idle_before;
    n->idle_before = n->idle_after = 0;
}

static void idle_append(struct cache *c, uint32_t i)
{
    struct cache_node *n = at(c, i);
    n->idle_before = c->idle_last;
    n->idle_after = 0;
    if (c->idle_last)
        at(c, c->idle_last)->idle_after = i;
    else
        c->idle_first = i;
    c->idle_last = i;
}

static void group_open(struct cache *c, uint32_t i)
{
    struct cache_node *n = at(c, i);
    if (n->open)
        return;
    n->open = true;
    n->open_before = 0;
    n->open_after = c->open_first;
    if (c->open_first)
        at(c, c->open_first)->open_before = i;
    c->open_first = i;
    c->open_stock += n->stock;
}

static void group_shut(struct cache *c, uint32_t i)
{
    struct cache_node *n = at(c, i);
    if (n->phase == LEADING && !n->stale)
        c->leading--;
    n->phase = COLD;
    n->stale = false;
    if (!n->open)
        return;
    n->open = false;
    if (n->open_before)
        at(c, n->open_before)->open_after = n->open_after;
    else
        c->open_first = n->open_after;
    if (n->open_after)
        at(c, n->open_after)->open_before = n->open_before;
    c->open_stock -= n->stock;
}

/* ---- the table ---- */

static uint32_t *bucket_of(const struct cache *c, const uint64_t key[2])
{
    return &c->bucket[key[0] % CACHE_BUCKETS];
}

static void unhash(struct cache *c, uint32_t i)
{
    uint32_t *p = bucket_of(c, at(c, i)->key);
    while (*p != i)
        p = &at(c, *p)->next;
    *p = at(c, i)->next;
}

/* A place for one more; 0 if there is none. */
static uint32_t place(struct cache *c)
{
    if (c->bucket == NULL &&
        (c->bucket = calloc(CACHE_BUCKETS, sizeof *c->bucket)) == NULL)
        return 0;
    if (c->count + 1 >= c->size && c->size <= CACHE_NODES_MAX) {
        uint32_t size = c->size ? c->size * 2 : 64;
        if (size > CACHE_NODES_MAX + 1)
            size = CACHE_NODES_MAX + 1; /* the first is none */
        struct cache_node *node = size > c->size ? realloc(c->node, size * sizeof *node)
                                                 : NULL;
        if (node) {
            c->node = node;
            c->size = size;
        }
    }
    if (c->count + 1 < c->size)
        return ++c->count;
    uint32_t i = c->idle_first;
    if (i == 0)
        return 0;
    idle_remove(c, i);
    group_shut(c, i);
    unhash(c, i);
    return i;
}

static void key_of(uint64_t key[2], const struct prefix_cut *cut, uint64_t rung)
{
    key[0] = cut->key[0] ^ rung * UINT64_C(0x9e3779b97f4a7c15);
    key[1] = cut->key[1] + rung;
}

/* The group of this cut, a new one if need be; 0 if there is no room. */
static uint32_t group_of(struct cache *c, const struct prefix_cut *cut, uint64_t rung,
                         const struct model *m)
{
    uint64_t key[2];
    key_of(key, cut, rung);
    if (c->bucket)
        for (uint32_t i = *bucket_of(c, key); i; i = at(c, i)->next)
            if (at(c, i)->key[0] == key[0] && at(c, i)->key[1] == key[1])
                return i;
    uint32_t i = place(c);
    if (i == 0)
        return 0;
    *at(c, i) = (struct cache_node){.key = {key[0], key[1]},
                                    .model = m,
                                    .bytes = cut->bytes,
                                    .next = *bucket_of(c, key)};
    *bucket_of(c, key) = i;
    idle_append(c, i);
    return i;
}

/* ---- jobs come and go ---- */

static void arrived(struct cache_node *n, int64_t now)
{
    int64_t gap = now - n->came_at;
    if (n->episodes == 0) {
        n->episodes = 1;
    } else if (gap >= EPISODE_MS) {
        n->came_gap = n->episodes == 1 ? gap : (3 * n->came_gap + gap) / 4;
        n->episodes++;
    }
    n->came_at = now;
}

int64_t cache_seen(struct cache *c, const struct prefix *p, uint64_t rung,
                   const struct model *m, int64_t jobs, int64_t now)
{
    int64_t first = 0, last = 0;
    for (int k = 0; k < p->count; k++) {
        uint32_t i = group_of(c, &p->cut[k], rung, m);
        if (i == 0)
            break;
        struct cache_node *n = at(c, i);
        n->disk += jobs;
        arrived(n, now);
        if (n->refs == 0) {
            idle_remove(c, i);
            idle_append(c, i);
        }
        if (n->turn == 0)
            n->turn = c->turn;
        first = first ? first : n->turn;
        last = n->turn;
    }
    int64_t own = c->turn++;
    first = first ? first : own;
    last = last ? last : own;
    return first << 32 | (last & INT64_C(0xffffffff));
}

void cache_join(struct cache *c, struct cache_job *j, const struct prefix *p,
                uint64_t rung, const struct model *m)
{
    *j = (struct cache_job){0};
    for (int k = 0; k < p->count; k++) {
        uint32_t i = group_of(c, &p->cut[k], rung, m);
        if (i == 0)
            return;
        struct cache_node *n = at(c, i);
        if (n->refs++ == 0)
            idle_remove(c, i);
        n->disk -= n->disk > 0;
        j->node[j->count++] = i;
    }
}

/* In whose stock it is counted: `cut` from 0; -1: in none. */
static void regroup(struct cache *c, struct cache_job *j, int cut)
{
    if (j->group == cut + 1)
        return;
    if (j->group) {
        struct cache_node *n = at(c, j->node[j->group - 1]);
        n->stock--;
        c->open_stock -= n->open;
    }
    j->group = (uint8_t)(cut + 1);
    if (j->group) {
        struct cache_node *n = at(c, j->node[cut]);
        n->stock++;
        c->open_stock += n->open;
    }
}

void cache_waits(struct cache *c, struct cache_job *j, bool waits)
{
    if (j->waits == waits)
        return;
    j->waits = waits;
    c->idle = c->idle || c->held == 0;
    c->held += waits ? 1 : -1;
    for (int k = 0; k < j->count; k++) {
        struct cache_node *n = at(c, j->node[k]);
        n->held += waits ? 1 : -1;
        if (n->held == 0)
            n->passed = 0;
    }
    if (!waits)
        regroup(c, j, -1);
}

void cache_part(struct cache *c, struct cache_job *j, bool to_disk)
{
    cache_waits(c, j, false);
    cache_ended(c, j, NULL, j->started_at);
    for (int k = 0; k < j->count; k++) {
        struct cache_node *n = at(c, j->node[k]);
        n->disk += to_disk;
        if (--n->refs == 0)
            idle_append(c, j->node[k]);
    }
    *j = (struct cache_job){0};
}

/* ---- what pays ---- */

static int64_t within(int64_t x, int64_t low, int64_t high)
{
    return x < low ? low : x > high ? high : x;
}

enum cache_worth cache_worth(const struct model *m, const struct cache_outlook *o,
                             struct cache_costs *costs)
{
    /* the general rule: 1.25, 2 and 0.1 times the input */
    static const struct prices usual = {100, 125, 200, 10, 0};
    int64_t jobs = within(o->jobs, 1, JOBS_MAX);
    int64_t tokens = within(o->tokens, 0, TOKENS_MAX);
    const struct prices *p = &usual;
    if (m && m->priced)
        p = m->long_prompt_above > 0 && tokens > m->long_prompt_above ? &m->long_prompt
                                                                      : &m->base;

    /* Between uses that are too far apart it lapses each time; else as often as it did. */
    int64_t again = jobs - 1, five = again, hour = again;
    if (o->gap_ms < CACHE_5M_MS - CACHE_GUARD_MS)
        five = o->uses > 0 ? within(again * o->lapses / o->uses, 0, again) : 0;
    if (o->gap_ms < CACHE_1H_MS - CACHE_GUARD_MS)
        hour = 0;

    struct cache_costs s = {
        .none = tokens * jobs * p->input,
        .five = tokens *
                ((1 + five) * p->cache_write_5m + (again - five) * p->cache_read),
        .hour = tokens *
                ((1 + hour) * p->cache_write_1h + (again - hour) * p->cache_read),
    };
    if (costs)
        *costs = s;
    if (s.five < s.none && s.five <= s.hour)
        return CACHE_WORTH_5M;
    return s.hour < s.none ? CACHE_WORTH_1H : CACHE_WORTH_NOTHING;
}

static int64_t tokens_of(const struct cache *c, const struct cache_node *n)
{
    return n->tokens ? n->tokens : (int64_t)((double)n->bytes / c->bytes_per_token);
}

static int64_t waiting(const struct cache_node *n)
{
    return n->held + n->disk;
}

/*
 * Jobs that come one by one may never wait two at a time. A group that has grown at a
 * steady step so far is trusted to grow as much again.
 */
static enum cache_worth group_worth(const struct cache *c, const struct cache_node *n,
                                    int64_t now)
{
    double pace = c->paced        ? c->pace_ms
                  : c->starts > 0 ? (double)(now - c->wanted_at)
                                  : 0; /* the first one guesses that it is quick */
    struct cache_outlook o = {.jobs = waiting(n),
                              .tokens = tokens_of(c, n),
                              .gap_ms = (int64_t)(pace * (c->busy + 1)),
                              .uses = c->uses,
                              .lapses = c->lapses};
    if (n->episodes >= EPISODES && now - n->came_at <= 2 * n->came_gap) {
        if (o.jobs <= 1 && n->came_gap > o.gap_ms)
            o.gap_ms = n->came_gap;
        o.jobs += n->episodes;
    }
    return cache_worth(n->model, &o, NULL);
}

/* ---- groups in time ---- */

static int64_t life(const struct cache_node *n)
{
    return n->hour ? CACHE_1H_MS : CACHE_5M_MS;
}

static int64_t last_use(const struct cache_node *n)
{
    return n->sent_at > n->used_at ? n->sent_at : n->used_at;
}

static bool lapsed(const struct cache_node *n, int64_t now)
{
    return now >= last_use(n) + life(n) - CACHE_GUARD_MS;
}

static enum phase phase_of(const struct cache_node *n, int64_t now)
{
    if (n->phase == LEADING && now - n->led_at >= CACHE_PATIENCE_MS)
        return COLD;
    if (n->phase == WARM && lapsed(n, now))
        return COLD;
    return n->phase;
}

static bool is_urgent(const struct cache_node *n, int64_t now)
{
    return n->phase == WARM && n->stock > 0 &&
           now - last_use(n) >= life(n) / 100 * KEEP_PERCENT;
}

static bool too_short(const struct cache *c, const struct cache_node *n)
{
    return n->model && tokens_of(c, n) < n->model->min_cacheable;
}

static void count_lapse(struct cache *c)
{
    c->lapses++;
    if (c->uses < c->lapses)
        c->uses = c->lapses;
}

static void sweep(struct cache *c, int64_t now)
{
    c->sweep_at = now + SWEEP_MS;
    c->busy = 0;
    c->urgent = false;
    for (uint32_t i = c->open_first, after; i; i = after) {
        struct cache_node *n = at(c, i);
        after = n->open_after;
        if (n->phase == WARM && lapsed(n, now)) {
            if (waiting(n) > 0 && !n->hour)
                count_lapse(c);
            group_shut(c, i);
            continue;
        }
        if (n->phase == LEADING && !n->stale && phase_of(n, now) == COLD) {
            n->stale = true;
            c->leading--;
        }
        c->busy += n->stock > 0;
        c->urgent = c->urgent || is_urgent(n, now);
    }
}

/*
 * What may leave at once, and what will leave while a leader's answer is waited for:
 * so many jobs have to be at hand in open groups, twice over for what is not even.
 */
void cache_refresh(struct cache *c, int in_flight, int room, int64_t now)
{
    double window = in_flight + room, ahead = window;
    if (now >= c->sweep_at)
        sweep(c, now);
    if (c->idle)
        c->wanted_at = now;
    c->idle = false;
    if (c->lead_ms > 0 && c->took_ms > c->lead_ms)
        ahead = 2 * window * c->lead_ms / c->took_ms;
    if (ahead > window)
        ahead = window;
    c->window = (int64_t)window;
    c->target = (int64_t)(room + ahead);
}

/* The stock grows while decisions are made: it counts who was looked at. */
static bool is_due(const struct cache *c)
{
    return c->open_stock < c->target;
}

enum cache_rank cache_best(const struct cache *c)
{
    if (c->held == 0)
        return CACHE_RANK_GO; /* nobody waits who could be better placed */
    return c->urgent ? CACHE_RANK_WARM : is_due(c) ? CACHE_RANK_LEAD : CACHE_RANK_GO;
}

/* ---- decisions ---- */

/* Would more jobs be as well off with the prefix before it? */
static bool hardly_longer(const struct cache *c, const struct cache_node *n,
                          const struct cache_node *before, int64_t now)
{
    return waiting(before) > waiting(n) && before->barren_until <= now &&
           !too_short(c, before) &&
           tokens_of(c, n) - tokens_of(c, before) < CACHE_STEP_TOKENS;
}

/* The cut of the longest prefix that pays; -1 if none does, and why. */
static int choose_cut(const struct cache *c, const struct cache_job *j, int64_t now,
                      struct cache_say *say, bool *hour)
{
    say->why = "shares no prefix";
    for (int k = j->count - 1; k >= 0; k--) {
        const struct cache_node *n = at(c, j->node[k]);
        if (too_short(c, n)) {
            say->why = "its prefix is shorter than the model caches";
            return -1; /* those before it are shorter still */
        }
        if (n->barren_until > now) {
            say->why = "the API did not cache its prefix";
            continue;
        }
        if (phase_of(n, now) != COLD)
            return k;
        if (k > 0 && hardly_longer(c, n, at(c, j->node[k - 1]), now))
            continue;
        enum cache_worth worth = group_worth(c, n, now);
        if (worth != CACHE_WORTH_NOTHING) {
            *hour = worth == CACHE_WORTH_1H;
            return k;
        }
        say->why = waiting(n) > 1 ? "caching its prefix would cost more"
                                  : "alone with its prefix";
    }
    return -1;
}

/* The longest prefix before it that more jobs share. */
static int shared_cut(const struct cache *c, const struct cache_job *j, int cut,
                      int64_t now)
{
    int64_t few = waiting(at(c, j->node[cut]));
    for (int k = cut - 1; k >= 0; k--) {
        const struct cache_node *n = at(c, j->node[k]);
        if (too_short(c, n))
            return -1;
        if (n->barren_until <= now && (waiting(n) > few || phase_of(n, now) != COLD))
            return k;
    }
    return -1;
}

static void wait_for(struct cache_say *say, const struct cache_node *n, const char *why)
{
    say->word = CACHE_WAIT;
    say->rank = CACHE_RANK_NOT;
    say->ask_at = n ? n->led_at + CACHE_PATIENCE_MS : 0;
    say->why = why;
}

static void follow(struct cache_say *say, const struct cache_node *n, int cut,
                   int64_t now)
{
    say->word = CACHE_FOLLOW;
    say->rank = is_urgent(n, now) ? CACHE_RANK_WARM : CACHE_RANK_GO;
    say->marks = (struct prefix_marks){.count = 1, .cut = {cut}, .hour = n->hour};
    say->read_bytes = n->bytes;
    say->why = "reads what its leader wrote";
}

static void lead(struct cache *c, const struct cache_job *j, int cut, bool hour,
                 int64_t now, struct cache_say *say)
{
    struct cache_node *n = at(c, j->node[cut]);
    int shared = shared_cut(c, j, cut, now);
    const struct cache_node *before = shared < 0 ? NULL : at(c, j->node[shared]);
    if (before && phase_of(before, now) == LEADING) {
        wait_for(say, before, "the first byte of a leader is awaited");
        return;
    }
    say->word = CACHE_LEAD;
    say->why = "leads";
    say->marks.hour = hour;
    if (before) {
        say->marks.cut[say->marks.count++] = shared;
        if (phase_of(before, now) == WARM) {
            say->read_bytes = before->bytes;
            say->marks.hour = before->hour; /* times must not conflict */
        }
    }
    say->marks.cut[say->marks.count++] = cut;

    if (n->passed == 0)
        n->passed = c->starts + 1;
    if (is_due(c) || c->starts - n->passed >= PASSED_WINDOWS * (c->window + 1))
        say->rank = CACHE_RANK_LEAD;
    else if (c->leading > 0)
        wait_for(say, NULL, "other prefixes are worked first");
    else
        say->rank = CACHE_RANK_LATER;
}

struct cache_say cache_decide(struct cache *c, struct cache_job *j, int64_t now)
{
    struct cache_say say = {.word = CACHE_NONE, .rank = CACHE_RANK_GO};
    bool hour = false;
    int cut = choose_cut(c, j, now, &say, &hour);
    if (j->waits)
        regroup(c, j, cut);
    if (cut < 0)
        return say;

    const struct cache_node *n = at(c, j->node[cut]);
    say.jobs = waiting(n);
    say.tokens = tokens_of(c, n);
    switch (phase_of(n, now)) {
    case WARM:
        follow(&say, n, cut, now);
        break;
    case LEADING:
        wait_for(&say, n, "the first byte of its leader is awaited");
        break;
    case COLD:
        lead(c, j, cut, hour, now, &say);
        break;
    }
    return say;
}

/* ---- events ---- */

static double faded(double mean, double x, bool first)
{
    return first ? x : mean + (x - mean) / 8;
}

/* Only time in which jobs waited tells how quick the lane is; and a hold is no pace. */
static void count_start(struct cache *c, int64_t now)
{
    int64_t from = c->started_at > c->wanted_at ? c->started_at : c->wanted_at;
    double gap = (double)(now - from), most = 8 * c->pace_ms + EPISODE_MS;
    if (c->starts++ > 0) {
        c->pace_ms = faded(c->pace_ms, c->paced && gap > most ? most : gap, !c->paced);
        c->paced = true;
    }
    c->started_at = now;
}

static void start_leading(struct cache *c, uint32_t i, bool hour, int64_t now)
{
    struct cache_node *n = at(c, i);
    if (n->phase == WARM)
        group_shut(c, i); /* it had lapsed */
    if (n->phase == COLD || n->stale)
        c->leading++;
    n->phase = LEADING;
    n->stale = false;
    n->hour = hour;
    n->leaders++;
    n->led_at = now;
    n->passed = 0;
    group_open(c, i);
}

void cache_started(struct cache *c, struct cache_job *j, const struct cache_say *say,
                   int64_t now)
{
    cache_waits(c, j, false);
    count_start(c, now);
    j->out = true;
    j->began = false;
    j->hour = say->marks.hour;
    j->leads = 0;
    j->marks = 0;
    j->started_at = now;
    for (int k = 0; k < say->marks.count; k++) {
        uint32_t i = j->node[say->marks.cut[k]];
        struct cache_node *n = at(c, i);
        j->cut[j->marks++] = (uint8_t)say->marks.cut[k];
        if (phase_of(n, now) == WARM) {
            if (is_urgent(n, now))
                c->sweep_at = now; /* perhaps the last one */
            n->sent_at = now;
            c->uses++;
        } else {
            if (n->phase == WARM && waiting(n) > 0 && !n->hour)
                count_lapse(c);
            j->leads |= (uint8_t)(1 << k);
            start_leading(c, i, j->hour, now);
        }
    }
    if (c->uses >= HISTORY) {
        c->uses /= 2;
        c->lapses /= 2;
    }
}

void cache_began(struct cache *c, struct cache_job *j, int64_t now)
{
    if (!j->out || j->began)
        return;
    j->began = true;
    if (j->leads)
        c->lead_ms = faded(c->lead_ms, (double)(now - j->started_at), c->lead_ms <= 0);
    for (int k = 0; k < j->marks; k++) {
        uint32_t i = j->node[j->cut[k]];
        struct cache_node *n = at(c, i);
        if (j->leads & 1 << k) {
            n->leaders--;
            if (n->phase == LEADING && !n->stale)
                c->leading--;
            if (n->phase != WARM)
                n->used_at = n->sent_at = j->started_at;
            n->phase = WARM;
            n->stale = false;
            group_open(c, i);
        }
        if (j->started_at > n->used_at)
            n->used_at = j->started_at; /* its time runs from when the request came */
    }
}

/* Nothing of it began: what was hoped of it is off. */
static void take_back(struct cache *c, const struct cache_job *j)
{
    for (int k = 0; k < j->marks; k++) {
        uint32_t i = j->node[j->cut[k]];
        struct cache_node *n = at(c, i);
        if (!(j->leads & 1 << k))
            n->sent_at = n->used_at;
        else if (--n->leaders == 0 && n->phase == LEADING)
            group_shut(c, i);
    }
}

/* Those that were out together tell one thing. */
static void count_miss(struct cache_node *n, const struct cache_job *j, bool missed,
                       int64_t now)
{
    if (!missed) {
        n->missed = 0;
    } else if (j->started_at >= n->missed_at) {
        n->missed_at = now;
        if (++n->missed % MISSES == 0)
            n->barren_until = now + BARREN_MS;
    }
}

static void learn(struct cache *c, const struct cache_job *j, const struct usage *u,
                  int64_t now)
{
    int last = j->marks - 1;
    bool led = j->leads & 1 << last;
    struct cache_node *n = at(c, j->node[j->cut[last]]);
    int64_t cached = u->cache_read + u->cache_write_5m + u->cache_write_1h;
    if (cached > 0) {
        bool first = c->bytes_per_token == BYTES_PER_TOKEN_GUESS;
        n->unread = 0;
        n->tokens = cached;
        c->bytes_per_token = faded(c->bytes_per_token,
                                   (double)n->bytes / (double)cached, first);
        if (!led)
            count_miss(n, j, u->cache_read == 0, now);
        return;
    }
    n->unread++;
    if (led || n->unread > 1)
        n->barren_until = now + BARREN_MS;
    for (int k = 0; k <= last; k++)
        if (at(c, j->node[j->cut[k]])->leaders == 0)
            group_shut(c, j->node[j->cut[k]]);
}

/* Did it count anything? What was refused before it was read does not. */
static bool was_read(const struct usage *u)
{
    return u->input + u->cache_read + u->cache_write_5m + u->cache_write_1h > 0;
}

void cache_ended(struct cache *c, struct cache_job *j, const struct usage *u,
                 int64_t now)
{
    double lead_ms = c->lead_ms;
    if (!j->out)
        return;
    if (u && !j->began) {
        cache_began(c, j, now);
        c->lead_ms = lead_ms; /* its end says nothing of first bytes */
    }
    if (u)
        c->took_ms = faded(c->took_ms, (double)(now - j->started_at), c->took_ms <= 0);
    if (u && j->marks > 0 && was_read(u))
        learn(c, j, u, now);
    if (!j->began)
        take_back(c, j);
    j->out = false;
}

/* ---- words ---- */

const char *cache_explain(const struct cache_say *say, char *buf, size_t size)
{
    switch (say->word) {
    case CACHE_LEAD:
        snprintf(buf, size,
                 "leads %" PRId64 " jobs that share %" PRId64 " tokens, kept %s",
                 say->jobs, say->tokens, say->marks.hour ? "an hour" : "5 minutes");
        break;
    case CACHE_FOLLOW:
        snprintf(buf, size, "follows: %" PRId64 " tokens are read from the cache",
                 say->tokens);
        break;
    default:
        snprintf(buf, size, "%s", say->why);
    }
    return buf;
}
