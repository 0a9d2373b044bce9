#include "runner/bucket.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/*
 * Constants are in milliseconds of refill where they measure a bucket, so that they
 * mean the same for every limit. They were found by trial against a limiter that is
 * written from the documentation (tests/test_night.c prints what they reach); none of
 * them was tuned to one limit, burst or length of answers.
 */
enum {
    MINUTE_MS = 60000,
    GUARD_MS = 30,       /* requests do not arrive at the distance they left */
    MARGIN_MS = 250,     /* kept in the bucket */
    LUMP_MS = 250,       /* what may leave at once */
    PACE_DEBT_MS = 5000, /* a huge request is not held against the next for longer */
    NET_MS = 35,         /* to the server: nobody knows, everybody is near that */

    /* output: the level that is aimed at, and how far ahead it is predicted */
    TARGET_MS = 350,
    AHEAD_MS = 1000,

    /* how fast the level follows what headers tell: down sooner than up */
    SETTLE_UP_MS = 150,
    SETTLE_DOWN_MS = 60,
    ROUNDING = 500, /* token counts in headers are rounded to 1,000 */

    /* others: what is kept for what they take unheard, how long that caution lasts, and
     * the guess at what they use, while answers tell of it and while none come */
    WARY_MS = 200,
    WARY_FADES_MS = 300000,
    DRIFT_FADES_MS = 60000,
    BLIND_FADES_MS = 2000,
    BLIND_MS = 500, /* so long nothing was sent, so nothing will be heard: one may go */

    SLIP_MS = 20, /* more caution after each refusal that came as a surprise */
    SLIP_MAX_MS = 500,
    PROBE_MS = 2500, /* a limiter by the second is excluded once this was borne */
    HIDDEN_LEAST_MS = 500,
    HIDDEN_AGAIN_MS = 600000, /* a hidden burst is doubted so often */

    STALL_MS = 15000,  /* an answer that is silent so long writes nothing more */
    DEBT_MS = 60000,   /* a model never believes in more debt than this */
    LOST_MS = 1800000, /* no answer takes so long: whoever sent it has lost it */
    REASK_MS = 500,    /* when answers must end first, and it is not known when */

    HISTORY = 50,    /* answers that an average remembers */
    SPEED_AFTER = 8, /* answers until their speed is believed */
    BEGIN_MS = 600,  /* first guess at the time to the first token */
    BEGIN_MAX_MS = 10000,
    OUTPUT_GUESS = 600, /* and at an answer's tokens */

    IDLE_MS = 600000, /* after which a ramp starts again */
    RAMP_DOUBLES_MS = 30000,
};

#define EARLY_LIVES 6  /* so long, in answers' lives, the first averages are doubted */
#define EARLY_BIAS 0.5 /* by so much at first */
#define SPEED_GUESS 0.08 /* tokens a ms */
#define LIMIT_MAX 1e15
#define TIME_MAX (INT64_C(1) << 52)
#define TOKENS_MAX 1e12

const struct bucket_headers bucket_headers_none = {
    {-1, -1, -1}, {-1, -1, -1}, {-1, -1, -1}};

static double within(double x, double low, double high)
{
    return x > low ? (x < high ? x : high) : low; /* NaN is `low` */
}

static double least(double a, double b)
{
    return a < b ? a : b;
}

static double most(double a, double b)
{
    return a > b ? a : b;
}

static int64_t moment(int64_t now)
{
    return now < 0 ? 0 : now > TIME_MAX ? TIME_MAX : now;
}

static int64_t least_moment(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static double rate_of(const struct bucket_one *o)
{
    return o->limit / MINUTE_MS;
}

static double count_of(int64_t tokens)
{
    return within((double)tokens, 0, TOKENS_MAX);
}

/* ---- what jobs are like ---- */

static struct bucket_group *group_of(struct buckets *b, uint64_t key)
{
    key = key == 0 ? 1 : key;
    uint64_t h = (key ^ key >> 32) * UINT64_C(0x9e3779b97f4a7c15);
    size_t first = (size_t)(h >> 32) % (BUCKET_GROUPS / BUCKET_GROUP_WAYS) *
                   BUCKET_GROUP_WAYS;
    struct bucket_group *place = &b->groups[first];
    for (size_t i = first; i < first + BUCKET_GROUP_WAYS; i++) {
        struct bucket_group *g = &b->groups[i];
        if (g->key == key) {
            g->used_at = b->at;
            return g;
        }
        if (place->key != 0 && (g->key == 0 || g->used_at < place->used_at))
            place = g;
    }
    *place = (struct bucket_group){
        .key = key, .used_at = b->at, .q = b->all.q, .q_var = b->all.q_var};
    return place;
}

static void learn_input(struct bucket_group *g, double q)
{
    g->inputs = least(g->inputs + 1, HISTORY);
    double off = (q - g->q) / most(g->q, 0.001);
    g->q_var += (least(off * off, 1) - g->q_var) / most(g->inputs, 8);
    g->q = within(g->q + (q - g->q) / g->inputs, 0.001, 1000);
}

static void learn_output(struct bucket_group *g, double out, double took_ms)
{
    g->outputs = least(g->outputs + 1, HISTORY);
    double w = 1 / g->outputs;
    double d_out = out - g->out, d_took = took_ms - g->took_ms;
    g->out += w * d_out;
    g->took_ms += w * d_took;
    g->var = (1 - w) * (g->var + w * d_out * d_out);
    g->covar = (1 - w) * (g->covar + w * d_out * d_took);
}

/* What an answer will be: tokens, tokens a ms, and when the first comes. */
struct forecast {
    double out, speed, begin_ms;
    double doubt; /* by how much its input may be more than it is taken for */
};

static void speed_of(const struct bucket_group *g, struct forecast *f)
{
    f->speed = SPEED_GUESS;
    f->begin_ms = BEGIN_MS;
    if (g->outputs < 1)
        return;
    f->begin_ms = least(BEGIN_MS, g->took_ms / 4);
    f->speed = g->out / most(g->took_ms - f->begin_ms, 1);
    if (g->outputs >= SPEED_AFTER && g->covar > 0 && g->var > g->out * g->out / 400) {
        f->speed = g->var / g->covar;
        f->begin_ms = g->took_ms - g->out / within(f->speed, 1e-3, 1e3);
    }
    f->speed = within(f->speed, 1e-3, 1e3);
    f->begin_ms = within(f->begin_ms, 0, BEGIN_MAX_MS);
}

static struct forecast forecast_of(struct buckets *b, const struct bucket_group *g,
                                   int64_t max_tokens)
{
    struct forecast f;
    speed_of(g->outputs >= SPEED_AFTER ? g : &b->all, &f);
    /* The short ones end first: the guess has a say until there are many. */
    double guess = max_tokens > 0 && max_tokens < OUTPUT_GUESS ? (double)max_tokens
                                                               : OUTPUT_GUESS;
    double weight = 8 * (1 - g->outputs / HISTORY);
    /* And of many that began together the longer ones are still out, for some answers'
     * time: an average of those that ended is too low until then. */
    double life = EARLY_LIVES * most(b->all.took_ms, BEGIN_MS);
    double seen = g->out *
                  (1 +
                   EARLY_BIAS * within(1 - (double)(b->at - b->began_at) / life, 0, 1));
    f.out = (g->outputs * seen + weight * guess) / (g->outputs + weight);
    f.out = within(f.out, 1, TOKENS_MAX);
    return f;
}

/* ---- the model moves with time ---- */

static double excess_ms(const struct bucket_one *o)
{
    return o->limit > 0 ? o->excess / rate_of(o) : 0;
}

static double room_of(const struct bucket_one *o)
{
    return rate_of(o) * (o->full_ms + GUARD_MS + o->slip_ms);
}

/* Others use the same limit. */
static bool is_shared(const struct bucket_one *o)
{
    return o->wary > 0.1 * rate_of(o);
}

/*
 * How much faster than the refill a bucket may be emptied. Headers may show a minute's
 * bucket while requests are let in by the second, and the one way to know is to try; at
 * this speed about three are refused before the first refusal is heard here.
 */
static double haste(const struct bucket_one *o)
{
    double used = excess_ms(o);
    if (is_shared(o))
        return 0.3 + within(o->level / o->limit, 0, 1);
    if (used < o->proven_ms)
        return 3;
    if (used >= PROBE_MS || (o->full_ms > 0 && o->full_ms < MINUTE_MS - 10000))
        return 2;
    if (used < o->earlier_ms)
        return 1;
    bool near_a_second = used > 800 && used < 1300;
    return within((near_a_second ? 3 : 10) * o->typical / (rate_of(o) * 100), 0.08, 1);
}

static double ramp_of(const struct bucket_one *o, int64_t now)
{
    if (o->ramp_from <= 0)
        return LIMIT_MAX;
    double age = (double)(now - o->ramp_at);
    if (o->ramp_step > 0)
        return o->ramp_from + o->ramp_step * (age < 0 ? 0 : 1 + floor(age / MINUTE_MS));
    return o->ramp_from * exp2(within(age / RAMP_DOUBLES_MS, 0, 60));
}

static double lump_of(const struct bucket_one *o, enum bucket k, int64_t now)
{
    double least_lump[BUCKETS] = {1, 0, o->typical};
    double r = least(rate_of(o), ramp_of(o, now) / MINUTE_MS);
    return most(r * (is_shared(o) ? NET_MS : LUMP_MS), least_lump[k]);
}

static void rings(struct buckets *b, int64_t now)
{
    int64_t sent = now / BUCKET_SENT_SLICE_MS, used = now / BUCKET_USED_SLICE_MS;
    if (sent - b->sent_slice > BUCKET_SENT_SLICES)
        b->sent_slice = sent - BUCKET_SENT_SLICES;
    while (b->sent_slice < sent) {
        b->sent_slice++;
        for (int k = 0; k < BUCKETS; k++)
            b->one[k].sent[b->sent_slice % BUCKET_SENT_SLICES] = b->one[k].sent_sum;
    }
    if (used - b->used_slice > BUCKET_USED_SLICES)
        b->used_slice = used - BUCKET_USED_SLICES;
    while (b->used_slice < used) {
        b->used_slice++;
        for (int k = 0; k < BUCKETS; k++)
            b->one[k].used[b->used_slice % BUCKET_USED_SLICES] = 0;
    }
}

static void flow_add(struct bucket_flow *f, double sign, struct bucket_flow d)
{
    f->count = most(f->count + sign * d.count, 0);
    f->rate = most(f->rate + sign * d.rate, 0);
    f->ahead = most(f->ahead + sign * d.ahead, 0);
    f->later = most(f->later + sign * d.later, 0);
}

/* Over the same horizon an answer that is being written yields less: it will end. */
static void flow_begins(struct buckets *b, struct bucket_flow *f)
{
    flow_add(&b->waiting, -1, *f);
    f->ahead = f->later;
    flow_add(&b->writing, 1, *f);
    *f = (struct bucket_flow){0};
}

/* Tokens written since the model last moved. Answers begin when their time comes. */
static double written(struct buckets *b, int64_t now, double dt)
{
    double sum = b->writing.rate * least(dt, STALL_MS);
    int64_t last = now / BUCKET_FLOW_SLICE_MS;
    if (last - b->flow_slice > BUCKET_FLOW_SLICES)
        b->flow_slice = last - BUCKET_FLOW_SLICES;
    while (b->flow_slice < last) {
        b->flow_slice++;
        struct bucket_flow *f = &b->coming[b->flow_slice % BUCKET_FLOW_SLICES];
        if (f->count <= 0)
            continue;
        double late = (double)(now - b->flow_slice * BUCKET_FLOW_SLICE_MS);
        sum += f->rate * least(late, STALL_MS);
        flow_begins(b, f);
    }
    return sum;
}

/* The clock has gone back: another boot's, or a broken one. Nothing waits for moments
 * of the old one. */
static void rebase(struct buckets *b, int64_t now)
{
    b->at = b->began_at = now;
    b->last_take_at = least_moment(b->last_take_at, now);
    b->heard_at = now;
    b->gate_until = b->reserved_until = 0;
    b->sent_slice = now / BUCKET_SENT_SLICE_MS;
    b->used_slice = now / BUCKET_USED_SLICE_MS;
    b->flow_slice = now / BUCKET_FLOW_SLICE_MS;
    for (int i = 0; i < BUCKET_FLOW_SLICES; i++)
        flow_begins(b, &b->coming[i]);
    for (int k = 0; k < BUCKETS; k++) {
        struct bucket_one *o = &b->one[k];
        o->excess = o->drift = 0;
        o->told_at = least_moment(o->told_at, now);
        o->refused_at = least_moment(o->refused_at, now);
        o->hidden_at = least_moment(o->hidden_at, now);
        o->ramp_at = least_moment(o->ramp_at, now);
        for (int i = 0; i < BUCKET_SENT_SLICES; i++)
            o->sent[i] = o->sent_sum;
        memset(o->used, 0, sizeof o->used);
    }
}

static void out_is_none(struct buckets *b)
{
    b->out = 0;
    b->writing = b->waiting = (struct bucket_flow){0};
    memset(b->coming, 0, sizeof b->coming);
}

static void advance(struct buckets *b, int64_t now)
{
    if (now < b->at)
        rebase(b, now);
    if (b->out > 0 && now - b->heard_at > LOST_MS)
        out_is_none(b); /* whoever sent these has lost them */
    if (now == b->at)
        return;
    double dt = (double)(now - b->at);
    b->at = now;
    rings(b, now);
    double out = written(b, now, dt);

    for (int k = 0; k < BUCKETS; k++) {
        struct bucket_one *o = &b->one[k];
        double charge = k == BUCKET_OUTPUT ? out : 0;
        o->used[b->used_slice % BUCKET_USED_SLICES] += charge;
        if (o->limit <= 0)
            continue;
        double r = rate_of(o), floor_ms = GUARD_MS + o->slip_ms;
        double hurry = least(r * (1 + haste(o)), ramp_of(o, now) / MINUTE_MS);
        double level = o->level + r * dt -
                       charge; /* others stop where nothing is left */
        if (level > 0)
            level = most(level - o->drift * dt, 0);
        o->level = within(level, -r * DEBT_MS, room_of(o));
        o->excess = within(o->excess - r * dt + charge, -r * floor_ms, LIMIT_MAX);
        o->pace = within(o->pace + hurry * dt, -r * PACE_DEBT_MS,
                         lump_of(o, (enum bucket)k, now));
        bool blind = now - o->told_at > 2000 + 2 * o->lag_ms;
        if (level > 0)
            o->drift -= o->drift *
                        least(dt / (blind ? BLIND_FADES_MS : DRIFT_FADES_MS), 1);
        o->wary += most(o->drift - o->wary, 0) * least(dt / 1000, 1);
        o->wary -= o->wary * least(dt / WARY_FADES_MS, 1);
        o->slip_ms -= o->slip_ms * least(dt / WARY_FADES_MS, 1);
        if (o->ramp_from > 0 && ramp_of(o, now) > 4 * o->limit)
            o->ramp_from = 0;
        if (o->hidden_ms > 0 && now - o->hidden_at > HIDDEN_AGAIN_MS) {
            o->hidden_ms = o->hidden_ms * 1.25 > MINUTE_MS ? 0 : o->hidden_ms * 1.25;
            o->hidden_at = now;
        }
    }
}

void buckets_init(struct buckets *b, int64_t now)
{
    memset(b, 0, sizeof *b);
    b->version = BUCKETS_VERSION;
    b->size = sizeof *b;
    b->all.key = 1;
    b->all.q = 1;
    b->all.q_var = 0.01;
    now = moment(now);
    rebase(b, now);
    for (int k = 0; k < BUCKETS; k++)
        b->one[k].typical = k == BUCKET_REQUESTS ? 1 : 1000;
}

/* ---- runners ---- */

static bool slot_ok(int slot)
{
    return slot >= 0 && slot < BUCKET_SLOTS;
}

/* What was learned stays; where the levels are, the first answer will say. */
static void run_begins(struct buckets *b, int64_t now)
{
    out_is_none(b);
    b->checked = false;
    b->began_at = now;
    b->told_seq = b->seq;
    b->reserved_until = 0;
    for (int k = 0; k < BUCKETS; k++) {
        struct bucket_one *o = &b->one[k];
        o->earlier_ms = most(o->earlier_ms, o->proven_ms);
        o->proven_ms = o->drift = o->slip_ms = 0;
        o->off_sent = o->off_begun = o->other = o->full_ms = 0;
        o->begun = 0;
        o->wary = o->lag_ms = 0;
        o->told_at = o->refused_at = 0;
        memset(o->used, 0, sizeof o->used);
    }
}

int buckets_join(struct buckets *b, int64_t now)
{
    int free = -1;
    bool alone = true;
    advance(b, moment(now));
    for (int i = BUCKET_SLOTS - 1; i >= 0; i--) {
        if (!b->slots[i].taken)
            free = i;
        else
            alone = false;
    }
    if (alone)
        run_begins(b, b->at);
    if (free >= 0) {
        b->slots[free].taken = true;
        b->slots[free].out = b->slots[free].input = 0;
    }
    return free;
}

void buckets_free_slot(struct buckets *b, int slot, int64_t now)
{
    if (!slot_ok(slot))
        return;
    advance(b, moment(now));
    struct bucket_slot *s = &b->slots[slot];
    double left = b->out > 0 ? within(1 - s->out / b->out, 0, 1) : 0;
    b->out = most(b->out - s->out, 0);
    if (b->out < 0.5)
        out_is_none(b);
    struct bucket_flow *flows[] = {&b->writing, &b->waiting};
    for (size_t i = 0; i < 2 + BUCKET_FLOW_SLICES; i++) {
        struct bucket_flow *f = i < 2 ? flows[i] : &b->coming[i - 2];
        f->count *= left;
        f->rate *= left;
        f->ahead *= left;
        f->later *= left;
    }
    s->generation++;
    s->taken = false;
    s->out = s->input = 0;
}

static bool runs_with_others(const struct buckets *b)
{
    int n = 0;
    for (int i = 0; i < BUCKET_SLOTS && n < 2; i++)
        n += b->slots[i].taken;
    return n > 1;
}

/* ---- may it leave? ---- */

struct need {
    double wait_ms, slack_ms;
    bool event; /* only an event can tell when */
};

/* How long until `lacks` are there at `rate` a millisecond. */
static double wait_for(double lacks, double rate)
{
    if (lacks <= 0)
        return 0;
    return within(lacks / most(rate, 1e-12), 0, MINUTE_MS);
}

/* What others may take before it is told here must be there still. */
static double margin_of(const struct bucket_one *o, double ms)
{
    double wary_ms = o->wary / rate_of(o) * (o->lag_ms + WARY_MS);
    return rate_of(o) * least(ms + wary_ms + o->slip_ms, 0.5 * o->full_ms);
}

static struct need need_of(const struct bucket_one *o, enum bucket k, double cost,
                           double doubt, int64_t now)
{
    double r = rate_of(o);
    double want = least(cost + doubt + margin_of(o, MARGIN_MS), room_of(o));
    struct need n = {.slack_ms = (o->level - want) / r};
    n.wait_ms = wait_for(want - o->level, r - o->drift);
    if (o->hidden_ms > 0) {
        double least_excess = -r * (GUARD_MS + o->slip_ms);
        double most_excess = most(o->hidden_ms * r - cost, least_excess);
        n.wait_ms = most(n.wait_ms, wait_for(o->excess - most_excess, r));
    }
    double hurry = least(r * (1 + haste(o)), ramp_of(o, now) / MINUTE_MS);
    n.wait_ms = most(n.wait_ms,
                     wait_for(least(cost, lump_of(o, k, now)) - o->pace, hurry));
    return n;
}

/*
 * Output is charged while it is written, long after its request was let in, and a
 * request is let in while one token is left. So the level itself is steered: what is in
 * flight will write so much within the horizon, the refill brings so much, and another
 * request may join if at its end the level is still at the target.
 */
static struct need need_of_output(const struct buckets *b, const struct forecast *f,
                                  int64_t now)
{
    const struct bucket_one *o = &b->one[BUCKET_OUTPUT];
    double r = rate_of(o), gain = r - o->drift - b->writing.rate;
    double span = f->begin_ms + AHEAD_MS;
    double target = margin_of(o, TARGET_MS);
    double level = o->level, full = r * o->full_ms;
    if (o->hidden_ms > 0) {
        level = least(level, o->hidden_ms * r - o->excess);
        full = least(full, o->hidden_ms * r);
    }
    target = least(target, full / 2);

    struct need n = {0};
    double arrives = least(1 + target / 3, full) - level - least(gain, 0) * NET_MS;
    if (b->out < 0.5) {
        n.wait_ms = wait_for(most(arrives, target - level), r);
        n.slack_ms = (level - target) / r;
        return n;
    }
    double ahead = b->writing.ahead + b->waiting.ahead +
                   least(f->out, f->speed * AHEAD_MS);
    /* Far above the target the surplus is spread over the answers' life, for they go on
     * writing when the target is reached. */
    double near = 0.2 * r * 1000, surplus = level - target;
    if (surplus > near)
        surplus = near + (surplus - near) * span / (span + f->out / f->speed);
    double usable = target + least(surplus, haste(o) * r * span);
    double lacks = target + ahead - usable - (r - o->drift) * span;
    double fast = ahead - ramp_of(o, now) / MINUTE_MS * span;
    n.slack_ms = -lacks / r;
    /* Whoever sends nothing hears nothing: beside others, now and then one goes. */
    if (is_shared(o) && level > target / 2 && now - b->last_take_at > BLIND_MS)
        lacks = 0;
    n.event = (lacks > 0 && (gain <= 0 || usable < level)) || fast > 0;
    n.wait_ms = n.event ? REASK_MS : wait_for(most(lacks, arrives), gain);
    /* Up to the rate of the refill answers may begin at once: as far as it is known how
     * fast they are, and unless that went wrong. */
    bool fits = b->writing.rate + b->waiting.rate + f->speed <= r;
    bool known = b->all.outputs >= 1 || (b->out + 1) * f->out <= level + r * 500;
    if (!fits || !known || is_shared(o) || o->ramp_from > 0) {
        double hurry = least(r * (1 + haste(o)), ramp_of(o, now) / MINUTE_MS);
        double lump = least(f->out, lump_of(o, BUCKET_OUTPUT, now));
        n.wait_ms = most(n.wait_ms, wait_for(lump - o->pace, hurry));
    }
    return n;
}

static void costs_of(struct buckets *b, const struct bucket_ask *ask,
                     double cost[BUCKETS], struct forecast *f)
{
    const struct bucket_group *g = group_of(b, ask->group);
    *f = forecast_of(b, g, ask->max_tokens);
    cost[BUCKET_REQUESTS] = 1;
    cost[BUCKET_INPUT] = within(within(ask->input_est, 0, TOKENS_MAX) *
                                    (g->inputs > 0 ? g->q : b->all.q),
                                0, TOKENS_MAX);
    cost[BUCKET_OUTPUT] = f->out;
    f->doubt = cost[BUCKET_INPUT] * 2 * sqrt(g->q_var);
}

/* Larger than all that the bucket ever holds. */
static bool never_fits(const struct bucket_one *o, double cost)
{
    return o->limit > 0 && o->told_at > 0 && cost > rate_of(o) * o->full_ms;
}

struct bucket_look buckets_ask(struct buckets *b, const struct bucket_ask *ask,
                               int64_t now)
{
    struct bucket_look look = {.binds = BUCKET_NONE};
    double cost[BUCKETS];
    struct forecast f;

    advance(b, moment(now));
    now = b->at;
    costs_of(b, ask, cost, &f);
    if (now < b->gate_until) {
        look.binds = (enum bucket)b->gate_by;
        look.ask_at = b->gate_until;
        return look;
    }
    if (!b->checked) {
        look.may = b->out < 0.5;
        look.ask_at = look.may || !runs_with_others(b) ? 0 : now + 100;
        return look;
    }

    double wait = 0, slack = LIMIT_MAX;
    for (int k = 0; k < BUCKETS; k++) {
        const struct bucket_one *o = &b->one[k];
        if (o->limit <= 0)
            continue;
        struct need n = k == BUCKET_OUTPUT
                            ? need_of_output(b, &f, now)
                            : need_of(o, (enum bucket)k, cost[k],
                                      k == BUCKET_INPUT ? f.doubt : 0, now);
        if (n.wait_ms > wait || (wait <= 0 && n.slack_ms < slack))
            look.binds = (enum bucket)k;
        wait = most(wait, n.wait_ms);
        slack = least(slack, n.slack_ms);
    }
    look.alone = never_fits(&b->one[BUCKET_INPUT], cost[BUCKET_INPUT]);
    if (!look.alone && now < b->reserved_until) {
        look.binds = BUCKET_INPUT;
        look.ask_at = b->reserved_until;
        return look;
    }
    look.may = wait <= 0;
    look.ask_at = look.may ? 0 : now + (int64_t)ceil(within(wait, 1, MINUTE_MS));
    if (look.alone && !look.may && ask->reserve)
        b->reserved_until = look.ask_at + 1000;
    return look;
}

/* ---- a request's way ---- */

struct bucket_ticket buckets_take(struct buckets *b, int slot,
                                  const struct bucket_ask *ask,
                                  const struct bucket_look *look, int64_t now)
{
    struct forecast f;
    struct bucket_ticket t = {.group = ask->group, .alone = look->alone, .slot = slot};

    advance(b, moment(now));
    now = b->at;
    costs_of(b, ask, t.cost, &f);
    t.seq = ++b->seq;
    t.sent_at = now;
    t.est = within(ask->input_est, 0, TOKENS_MAX);
    if (look->alone)
        b->reserved_until = 0;
    for (int k = 0; k < BUCKETS; k++) {
        struct bucket_one *o = &b->one[k];
        o->typical += (t.cost[k] - o->typical) / 16;
        if (o->ramp_again > 0 && b->last_take_at > 0 &&
            now - b->last_take_at > IDLE_MS) {
            o->ramp_from = o->ramp_again;
            o->ramp_step = 0;
            o->ramp_at = now;
        }
        if (k != BUCKET_OUTPUT) {
            /* What was waited for beyond a full bucket is gone with the waiting. */
            o->level = least(o->level, most(rate_of(o) * o->full_ms, 1)) - t.cost[k];
            o->excess = most(o->excess, 0) + t.cost[k];
            o->sent_sum += t.cost[k];
            o->used[b->used_slice % BUCKET_USED_SLICES] += t.cost[k];
        }
        o->pace -= t.cost[k];
        t.base[k] = o->level - o->moved;
        t.excess[k] = o->excess;
    }
    b->last_take_at = b->heard_at = now;

    double lasts = f.out / f.speed, span = f.begin_ms + AHEAD_MS;
    t.due_slice = (now + (int64_t)f.begin_ms) / BUCKET_FLOW_SLICE_MS;
    if (t.due_slice <= b->flow_slice)
        t.due_slice = b->flow_slice + 1;
    t.flow = (struct bucket_flow){
        .count = 1,
        .rate = f.speed,
        .ahead = least(f.out, f.speed * (AHEAD_MS + f.begin_ms / 2)),
        .later = f.out * (1 - exp(-span / lasts)),
    };
    flow_add(&b->coming[t.due_slice % BUCKET_FLOW_SLICES], 1, t.flow);
    flow_add(&b->waiting, 1, t.flow);
    b->out++;
    if (slot_ok(slot)) {
        b->slots[slot].out++;
        b->slots[slot].input += t.cost[BUCKET_INPUT];
        t.generation = b->slots[slot].generation;
    }
    return t;
}

static double written_by(const struct bucket_ticket *t, int64_t now)
{
    double age = (double)(now - t->due_slice * BUCKET_FLOW_SLICE_MS);
    return t->flow.rate * within(age, 0, (double)TIME_MAX);
}

/* It is in flight no more. */
static void out_ends(struct buckets *b, const struct bucket_ticket *t)
{
    b->heard_at = b->at;
    if (slot_ok(t->slot)) {
        struct bucket_slot *s = &b->slots[t->slot];
        if (s->generation != t->generation)
            return; /* forgotten with its slot */
        s->out = most(s->out - 1, 0);
        s->input = most(s->input - t->cost[BUCKET_INPUT], 0);
    }
    struct bucket_flow f = t->flow;
    if (t->due_slice > b->flow_slice) {
        flow_add(&b->waiting, -1, f);
        flow_add(&b->coming[t->due_slice % BUCKET_FLOW_SLICES], -1, f);
    } else {
        f.ahead = f.later;
        flow_add(&b->writing, -1, f);
    }
    b->out = most(b->out - 1, 0);
    if (b->out < 0.5)
        out_is_none(b);
}

/* The model was wrong by so much, then and since. */
static void move(struct bucket_one *o, double by)
{
    o->level = within(o->level + by, -rate_of(o) * DEBT_MS, room_of(o));
    o->moved = within(o->moved + by, -LIMIT_MAX * 1e3, LIMIT_MAX * 1e3);
}

/* Only the level that is believed was wrong. */
static void move_believed(struct bucket_one *o, double by)
{
    move(o, by);
    o->other = within(o->other - by, -LIMIT_MAX, LIMIT_MAX);
}

/* It was charged less than the model has charged. */
static void give_back(struct buckets *b, enum bucket k, double n)
{
    struct bucket_one *o = &b->one[k];
    double *used = &o->used[b->used_slice % BUCKET_USED_SLICES];
    *used += n > 0 ? -least(n, *used) : -n;
    if (o->limit <= 0)
        return;
    move(o, n);
    o->excess = within(o->excess - n, -rate_of(o) * (GUARD_MS + o->slip_ms), LIMIT_MAX);
}

/* It was not charged at all. */
static void take_back(struct buckets *b, const struct bucket_ticket *t)
{
    for (int k = 0; k < BUCKETS; k++)
        b->one[k].pace += t->cost[k];
    give_back(b, BUCKET_REQUESTS, t->cost[BUCKET_REQUESTS]);
    give_back(b, BUCKET_INPUT, t->cost[BUCKET_INPUT]);
    give_back(b, BUCKET_OUTPUT, written_by(t, b->at));
}

/* ---- what headers tell ---- */

static void limit_told(struct bucket_one *o, double limit)
{
    if (o->limit > 0 && fabs(limit - o->limit) < o->limit * 1e-6)
        return;
    if (o->limit > 0) {
        o->excess = within(o->excess * (limit / o->limit), -LIMIT_MAX, LIMIT_MAX);
        o->drift = o->wary = 0; /* what seemed to be others was the old limit */
    } else {
        o->excess = o->pace = o->level = 0;
    }
    o->limit = limit;
    o->told_at = 0; /* the level is told anew as well */
}

/* How far `model` lies outside of what a told value may mean: requests are rounded
 * down, tokens to the nearest, and 0 may be a debt of any size. */
static double off_by(double told, double half, double model)
{
    double low = told - half, high = told + (half > 0 ? half : 1);
    if (told > 0 && model < low)
        return low - model;
    if (model > high)
        return high - model;
    return 0;
}

/* The first look at a level: all that is known is what is told. */
static void level_first(struct bucket_one *o, double told, double half, double cost,
                        double reset_ms)
{
    double r = rate_of(o), full = (told + cost) / r;
    if (reset_ms >= 0)
        full = most(full, told / r + reset_ms - 1500);
    full = most(full, o->full_ms);
    o->full_ms = within(full, half > 0 ? 1000 : 1 / r, most(MINUTE_MS, 1 / r));
    move(o, told - o->level);
    o->other = o->pace = 0;
}

static double unseen(const struct buckets *b, const struct bucket_one *o)
{
    int64_t i = b->sent_slice - 2 * NET_MS / BUCKET_SENT_SLICE_MS;
    return i < 0 ? 0 : o->sent_sum - o->sent[i % BUCKET_SENT_SLICES];
}

/*
 * A level was told with the headers of request `t`. It may be that of the moment when
 * the request was let in, or of the moment when its answer began, seconds later. Each
 * reading keeps a level of its own, and the one whose level needs less correction is
 * believed. (The wrong one would steer by what was true seconds ago, and swing.)
 */
static void level_told(struct buckets *b, struct bucket_one *o, enum bucket k,
                       const struct bucket_ticket *t, double told, double half)
{
    double r = rate_of(o), net = k == BUCKET_OUTPUT ? 0 : r * NET_MS;
    double then = t->base[k] + o->moved + net + (o->begun ? o->other : 0);
    double now = o->level + unseen(b, o) - net + (o->begun ? 0 : o->other);
    double off_sent = off_by(told, half, then), off_begun = off_by(told, half, now);
    o->off_sent += (off_sent * off_sent - o->off_sent) / 32;
    o->off_begun += (off_begun * off_begun - o->off_begun) / 32;

    double age = o->begun ? NET_MS : within((double)(b->at - t->sent_at), 0, MINUTE_MS);
    double off = o->begun ? off_begun : off_sent;
    double off_other = o->begun ? off_sent : off_begun;
    double least_off = 1 + r * 20;
    least_off *= least_off;
    double wrong = o->begun ? o->off_begun : o->off_sent;
    double wrong_other = o->begun ? o->off_sent : o->off_begun;
    if (off > 0 && wrong * 4 + least_off > wrong_other)
        off = least(off, most(off_other, 0)); /* up only where both readings agree */
    double since = (double)(b->at - o->told_at), learns_ms = 1000 + 2 * age;
    double by = off * since / (since + (off > 0 ? SETTLE_UP_MS : SETTLE_DOWN_MS));
    o->told_at = b->at;
    o->lag_ms += (age - o->lag_ms) / 16;
    o->other += off_other * since /
                (since + (off_other > 0 ? SETTLE_UP_MS : SETTLE_DOWN_MS));
    move_believed(o, by);
    o->drift = within(o->drift - off * since / (learns_ms * learns_ms + since * since),
                      0, 0.8 * r);
    o->full_ms = within(most(o->full_ms, told / r), 0, MINUTE_MS);
    if (told + half >= o->full_ms * r - most(1, r * 50)) /* then nobody takes much */
        o->drift -= o->drift * least(since / 500, 1);

    if (wrong_other * 2 + least_off < wrong) {
        double other = o->other;
        move_believed(o, other);
        o->other = -other;
        o->begun = !o->begun;
    }
}

/* `but`: of this one there is better to say. */
static void headers_told(struct buckets *b, const struct bucket_ticket *t,
                         const struct bucket_headers *h, enum bucket but)
{
    bool newest = t->seq >= b->told_seq;
    if (newest)
        b->told_seq = t->seq;
    for (int k = 0; k < BUCKETS; k++) {
        struct bucket_one *o = &b->one[k];
        if (!newest && !o->begun)
            continue;
        if (h->limit[k] > 0 && (double)h->limit[k] <= LIMIT_MAX)
            limit_told(o, (double)h->limit[k]);
        if (o->limit <= 0 || h->remaining[k] < 0)
            continue;
        double told = least((double)h->remaining[k], o->limit);
        if (h->remaining[k] % 1000 != 0 && h->remaining[k] < h->limit[k])
            o->exact = true;
        double half = k == BUCKET_REQUESTS || o->exact ? 0 : ROUNDING;
        if (o->told_at == 0) {
            level_first(o, told, half, k == BUCKET_OUTPUT ? 0 : t->cost[k],
                        h->reset_ms[k] < 0 ? -1 : (double)h->reset_ms[k]);
            o->told_at = b->at > 0 ? b->at : 1;
            o->lag_ms = within((double)(b->at - t->sent_at), 0, MINUTE_MS);
        } else if (k != (int)but) {
            level_told(b, o, (enum bucket)k, t, told, half);
        }
    }
}

void buckets_headers(struct buckets *b, struct bucket_ticket *t,
                     const struct bucket_headers *h, int64_t now)
{
    advance(b, moment(now));
    t->headers = true;
    b->checked = true;
    headers_told(b, t, h, BUCKET_NONE);
    for (int k = 0; k < BUCKETS; k++) {
        struct bucket_one *o = &b->one[k];
        if (o->limit > 0 && t->excess[k] > o->proven_ms * rate_of(o))
            o->proven_ms = least(t->excess[k] / rate_of(o), MINUTE_MS);
    }
}

void buckets_ended(struct buckets *b, struct bucket_ticket *t, int64_t input,
                   int64_t output, int64_t now)
{
    advance(b, moment(now));
    now = b->at;
    out_ends(b, t);
    if (!b->checked && !t->headers && (input >= 0 || output >= 0)) {
        for (int k = 0; k < BUCKETS; k++)
            b->one[k].limit = 0; /* whoever answers here tells no limits */
        b->checked = true;
    }
    struct bucket_group *g = group_of(b, t->group);
    if (input >= 0) {
        give_back(b, BUCKET_INPUT, t->cost[BUCKET_INPUT] - count_of(input));
        if (t->est >= 1) {
            learn_input(g, count_of(input) / t->est);
            learn_input(&b->all, count_of(input) / t->est);
        }
    }
    if (output >= 0) {
        double took = within((double)(now - t->sent_at), 1, (double)TIME_MAX);
        give_back(b, BUCKET_OUTPUT, written_by(t, now) - count_of(output));
        learn_output(g, count_of(output), took);
        learn_output(&b->all, count_of(output), took);
    }
}

/* ---- refusals ---- */

static void gate(struct buckets *b, enum bucket k, int64_t span_ms)
{
    const int64_t day = INT64_C(86400000);
    int64_t until = b->at + (span_ms > day ? day : span_ms);
    if (span_ms < 0 || until <= b->gate_until)
        return;
    b->gate_until = until;
    b->gate_by = k;
}

/* Which bucket it was, if nobody says: the one nearest to empty. */
static enum bucket likely(const struct buckets *b, const struct bucket_ticket *t,
                          const struct bucket_headers *h)
{
    enum bucket at = BUCKET_NONE;
    double low = LIMIT_MAX;
    for (int k = 0; k < BUCKETS; k++) {
        const struct bucket_one *o = &b->one[k];
        if (o->limit <= 0)
            continue;
        double level = h->remaining[k] >= 0 ? (double)h->remaining[k] : o->level;
        double ms = (level - (k == BUCKET_OUTPUT ? 0 : t->cost[k])) / rate_of(o);
        if (ms < low) {
            low = ms;
            at = (enum bucket)k;
        }
    }
    return at;
}

static void quota_refused(struct buckets *b, const struct bucket_ticket *t,
                          enum bucket k, const struct bucket_headers *h)
{
    struct bucket_one *o = &b->one[k];
    double r = rate_of(o), cost = k == BUCKET_OUTPUT ? 1 : t->cost[k];
    double half = k == BUCKET_REQUESTS || o->exact ? 0 : ROUNDING;
    bool news = t->sent_at > o->refused_at;
    o->refused_at = b->at;

    double told = h->remaining[k] >= 0 ? (double)h->remaining[k] : -1;
    if (told - half > 1.3 * cost + 1) {
        /* Plenty is left, and yet: a smaller bucket stands behind the one shown. */
        if (!news)
            return;
        double bore = most(0.9 * t->excess[k] / r, 1 / r);
        o->hidden_ms = o->hidden_ms > 0 ? least(0.9 * o->hidden_ms, bore) : bore;
        o->hidden_ms = within(
            o->hidden_ms, k == BUCKET_REQUESTS ? 1 / r : HIDDEN_LEAST_MS, MINUTE_MS);
        o->hidden_at = b->at;
        o->proven_ms = least(o->proven_ms, o->hidden_ms);
        o->earlier_ms = least(o->earlier_ms, o->hidden_ms);
        o->excess = most(o->excess, o->hidden_ms * r);
        return;
    }
    double then = t->base[k] + o->moved; /* its cost was given back */
    double other = then + o->other;
    /* Counts are rounded down, tokens to the nearest. */
    double there = told >= 0 ? least(told + most(half, 1), cost) : cost / 2;
    if (then > there) {
        move_believed(o, there - then);
        double over = most(most(o->lag_ms, 500) + 500, (double)(b->at - o->told_at));
        o->drift = within(o->drift + (then - there) / over, 0, 0.8 * r);
    }
    if (other > there)
        o->other += there - other;
    if (news)
        o->slip_ms = least(o->slip_ms + SLIP_MS, SLIP_MAX_MS);
}

static void accelerated(struct buckets *b, enum bucket k,
                        const struct bucket_refused *r)
{
    struct bucket_one *o = &b->one[k];
    o->pace = least(o->pace, 0);
    if (r->stated_now > 0 && r->stated_next > r->stated_now) {
        o->ramp_from = within(r->stated_now, 1, LIMIT_MAX);
        o->ramp_step = within(r->stated_next - r->stated_now, 0, LIMIT_MAX);
        o->ramp_at = b->at + (r->retry_after_ms > 0 && r->retry_after_ms < MINUTE_MS
                                  ? r->retry_after_ms
                                  : MINUTE_MS);
        o->ramp_again = o->ramp_from;
        return;
    }
    double lately = 0;
    for (int i = 0; i < 2; i++)
        lately +=
            o->used[(b->used_slice + BUCKET_USED_SLICES - i) % BUCKET_USED_SLICES];
    double span = BUCKET_USED_SLICE_MS + (double)(b->at % BUCKET_USED_SLICE_MS);
    double from = most(0.7 * lately * MINUTE_MS / span, o->limit / 50);
    if (o->ramp_from > 0)
        from = least(from, 0.7 * ramp_of(o, b->at));
    o->ramp_from = o->ramp_again = within(from, 1e-3, LIMIT_MAX);
    o->ramp_step = 0;
    o->ramp_at = b->at;
}

void buckets_refused(struct buckets *b, struct bucket_ticket *t,
                     const struct bucket_refused *r, int64_t now)
{
    advance(b, moment(now));
    out_ends(b, t);
    take_back(b, t);
    if (r->kind != REFUSED_QUOTA && r->kind != REFUSED_ACCELERATION)
        return;

    b->checked = true;
    headers_told(b, t, &r->headers, r->bucket);
    if (t->alone && r->kind == REFUSED_QUOTA)
        return;
    enum bucket k = r->bucket;
    if (k < 0 || k >= BUCKETS)
        k = likely(b, t, &r->headers);
    gate(b, k, r->retry_after_ms);
    if (k == BUCKET_NONE || b->one[k].limit <= 0)
        return;
    if (r->kind == REFUSED_ACCELERATION)
        accelerated(b, k, r);
    else
        quota_refused(b, t, k, &r->headers);
}

void buckets_dropped(struct buckets *b, struct bucket_ticket *t, int64_t now)
{
    advance(b, moment(now));
    out_ends(b, t);
    take_back(b, t);
}

/* ---- for people ---- */

double buckets_share(struct buckets *b, enum bucket k, int64_t now)
{
    advance(b, moment(now));
    const struct bucket_one *o = &b->one[k];
    double sum = 0, span = BUCKET_USED_SLICE_MS * (BUCKET_USED_SLICES - 1.0) +
                           (double)(b->at % BUCKET_USED_SLICE_MS);
    if (o->limit <= 0)
        return 0;
    for (int i = 0; i < BUCKET_USED_SLICES; i++)
        sum += o->used[i];
    span = within((double)(b->at - b->began_at), 1, span);
    return sum / (rate_of(o) * span);
}

/* 2,000,000 */
static const char *with_commas(double x, char *buf, size_t size)
{
    char plain[32];
    int len = snprintf(plain, sizeof plain, "%.0f", x);
    size_t at = 0;
    for (int i = 0; i < len && at + 2 < size; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            buf[at++] = ',';
        buf[at++] = plain[i];
    }
    buf[at] = '\0';
    return buf;
}

const char *buckets_say(struct buckets *b, const struct bucket_look *look, int64_t now,
                        char *buf, size_t size)
{
    static const char *const names[BUCKETS] = {
        [BUCKET_REQUESTS] = "requests",
        [BUCKET_INPUT] = "input tokens",
        [BUCKET_OUTPUT] = "output tokens",
    };
    char number[40], when[48] = "";
    enum bucket k = look->binds;
    if (!look->may && look->ask_at > now)
        snprintf(when, sizeof when, ", next send in %.1f s",
                 (double)(look->ask_at - now) / 1000);
    if (k < 0 || k >= BUCKETS || b->one[k].limit <= 0) {
        snprintf(buf, size, "%s%s",
                 b->checked ? "no limits told"
                            : "one request goes out to learn the limits",
                 when);
        return buf;
    }
    double share = buckets_share(b, k, now);
    snprintf(buf, size, "%s bind, %.0f %% of %s a minute in use%s", names[k],
             100 * within(share, 0, 1),
             with_commas(b->one[k].limit, number, sizeof number), when);
    return buf;
}

/* ---- what lies in a file ---- */

static bool in(double x, double low, double high)
{
    return x >= low && x <= high; /* false for NaN */
}

static bool moment_sane(int64_t at)
{
    return at >= 0 && at <= TIME_MAX;
}

static bool flow_sane(const struct bucket_flow *f)
{
    return in(f->count, 0, 1e9) && in(f->rate, 0, 1e12) && in(f->ahead, 0, 1e15) &&
           in(f->later, 0, 1e15);
}

static bool group_sane(const struct bucket_group *g)
{
    return moment_sane(g->used_at) && in(g->inputs, 0, HISTORY) &&
           in(g->outputs, 0, HISTORY) && in(g->q, 0, 1000) && in(g->q_var, 0, 1) &&
           in(g->out, 0, TOKENS_MAX) && in(g->took_ms, 0, (double)TIME_MAX) &&
           in(g->var, 0, 1e30) && in(g->covar, -1e30, 1e30);
}

static bool one_sane(const struct bucket_one *o)
{
    const double times[] = {o->lag_ms,    o->full_ms,    o->hidden_ms,
                            o->proven_ms, o->earlier_ms, o->slip_ms};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++)
        if (!in(times[i], 0, TIME_MAX))
            return false;
    for (int i = 0; i < BUCKET_SENT_SLICES; i++)
        if (!in(o->sent[i], 0, 1e18))
            return false;
    for (int i = 0; i < BUCKET_USED_SLICES; i++)
        if (!in(o->used[i], 0, 1e18))
            return false;
    return in(o->limit, 0, LIMIT_MAX) && in(o->level, -1e18, 1e18) &&
           in(o->moved, -1e18, 1e18) && in(o->drift, 0, LIMIT_MAX) &&
           in(o->wary, 0, LIMIT_MAX) && in(o->excess, -1e18, 1e18) &&
           in(o->other, -1e18, 1e18) && in(o->pace, -1e18, 1e18) &&
           in(o->typical, 0, TOKENS_MAX) && in(o->off_sent, 0, 1e36) &&
           in(o->off_begun, 0, 1e36) && in(o->sent_sum, 0, 1e18) &&
           in(o->ramp_from, 0, LIMIT_MAX) && in(o->ramp_step, 0, LIMIT_MAX) &&
           in(o->ramp_again, 0, LIMIT_MAX) && moment_sane(o->told_at) &&
           moment_sane(o->refused_at) && moment_sane(o->hidden_at) &&
           moment_sane(o->ramp_at);
}

bool buckets_sane(const struct buckets *b)
{
    if (b->version != BUCKETS_VERSION || b->size != sizeof *b)
        return false;
    const int64_t moments[] = {b->at, b->began_at, b->last_take_at, b->gate_until,
                               b->reserved_until};
    for (size_t i = 0; i < sizeof moments / sizeof moments[0]; i++)
        if (!moment_sane(moments[i]))
            return false;
    if (b->sent_slice != b->at / BUCKET_SENT_SLICE_MS ||
        b->used_slice != b->at / BUCKET_USED_SLICE_MS ||
        b->flow_slice != b->at / BUCKET_FLOW_SLICE_MS)
        return false;
    if (!in(b->out, 0, 1e9) || b->gate_by < BUCKET_NONE || b->gate_by >= BUCKETS ||
        b->seq > UINT64_MAX / 2 || b->told_seq > b->seq)
        return false;
    for (int k = 0; k < BUCKETS; k++)
        if (!one_sane(&b->one[k]))
            return false;
    if (!flow_sane(&b->writing) || !flow_sane(&b->waiting) || !group_sane(&b->all))
        return false;
    for (int i = 0; i < BUCKET_FLOW_SLICES; i++)
        if (!flow_sane(&b->coming[i]))
            return false;
    for (int i = 0; i < BUCKET_GROUPS; i++)
        if (!group_sane(&b->groups[i]))
            return false;
    for (int i = 0; i < BUCKET_SLOTS; i++)
        if (!in(b->slots[i].out, 0, 1e9) || !in(b->slots[i].input, 0, 1e18))
            return false;
    return true;
}
