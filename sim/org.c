#include "sim/org.h"

#include "sim/settings.h"
#include "sim/words.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FAMILIES_MAX = 64 };

#define NS_PER_MINUTE (60 * NS_PER_S)
/* Where a usage that rises from nothing may begin, as a share of the limit. */
#define RAMP_BASE 0.2
/* Shorter waves are as good as none. */
#define WAVE_MIN_NS (50 * NS_PER_MS)

/* How steeply the input of a family may rise. */
struct ramp {
    int64_t minute; /* of the day; ceiling and used are of this one */
    double ceiling, used;
    bool pressed; /* against the ceiling: the next one builds on it */
};

struct family {
    char name[FAMILY_NAME_MAX];
    struct bucket requests, input, output;
    struct bucket
        shown; /* requests by the minute, where they are enforced by the second */
    struct meter meter;
    struct ramp ramp;
    double factor; /* of the planned change, as it is in force */
    int64_t at_ns; /* up to here time has passed for it */
};

struct org {
    const struct settings *settings;
    struct family families[FAMILIES_MAX];
    size_t count;
    struct bucket counts; /* count_tokens requests */
    int64_t day_ns;       /* where the day begins; -1: it has not */
    int64_t in_flight;
    picodollars credit, spent;
};

/* ---- limits ---- */

static double room_for(double per_minute, int64_t ns)
{
    double room = per_minute * (double)ns / (double)NS_PER_MINUTE;
    return room < 1 ? 1 : room;
}

/* The planned change of limits, as it is at that moment. */
static double factor_at(const struct org *o, int64_t at_ns)
{
    const struct settings *s = o->settings;
    int64_t age = at_ns - o->day_ns;
    if (o->day_ns < 0 || s->change_ns <= 0 || age < s->change_ns)
        return 1;
    return s->change_back_ns > 0 && age >= s->change_back_ns ? 1 : s->change_factor;
}

static double scaled(int64_t per_minute, double factor)
{
    double n = round((double)per_minute * factor);
    return per_minute > 0 && n < 1 ? 1 : n;
}

static void family_rates(const struct org *o, struct family *f, int64_t now_ns)
{
    const struct settings *s = o->settings;
    struct rates r = settings_rates(s, f->name);
    f->factor = factor_at(o, now_ns);
    double rpm = scaled(r.rpm, f->factor), itpm = scaled(r.itpm, f->factor);
    double otpm = scaled(r.otpm, f->factor);
    bool by_second = s->rpm_enforced == RPM_BY_SECOND;
    bucket_rate(&f->requests, rpm, room_for(rpm, by_second ? NS_PER_S : s->burst_ns),
                now_ns);
    bucket_rate(&f->shown, rpm, room_for(rpm, NS_PER_MINUTE), now_ns);
    bucket_rate(&f->input, itpm, room_for(itpm, s->burst_ns), now_ns);
    bucket_rate(&f->output, otpm, room_for(otpm, s->burst_ns), now_ns);
    meter_flowed(&f->meter, METER_REQUESTS, &f->requests, now_ns);
    meter_flowed(&f->meter, METER_INPUT, &f->input, now_ns);
    meter_flowed(&f->meter, METER_OUTPUT, &f->output, now_ns);
}

/* ---- time ---- */

/* Half a period of the co-tenant's waves; 0: it takes evenly, or nothing. */
static int64_t wave_ns(const struct org *o)
{
    const struct settings *s = o->settings;
    int64_t half = s->tenant_share > 0 ? s->tenant_period_ns / 2 : 0;
    return half < WAVE_MIN_NS ? 0 : half;
}

/* What the co-tenant wants of every limit from that moment on, as a share. */
static double tenant_at(const struct org *o, int64_t at_ns)
{
    int64_t half = wave_ns(o);
    if (o->day_ns < 0)
        return 0;
    if (half == 0)
        return o->settings->tenant_share;
    return (at_ns - o->day_ns) / half % 2 == 0 ? 2 * o->settings->tenant_share : 0;
}

static int64_t sooner(int64_t a, int64_t b, int64_t after)
{
    return b > after && b < a ? b : a;
}

/* Up to there everything flows evenly, and within one second of the meters. */
static int64_t even_until(const struct org *o, int64_t from_ns, int64_t to_ns)
{
    const struct settings *s = o->settings;
    int64_t age = from_ns - o->day_ns, half = wave_ns(o), until = to_ns;
    if (o->day_ns < 0)
        return to_ns;
    if (age < METER_SECONDS_MAX * NS_PER_S)
        until = sooner(until, o->day_ns + (age / NS_PER_S + 1) * NS_PER_S, from_ns);
    if (half > 0)
        until = sooner(until, o->day_ns + (age / half + 1) * half, from_ns);
    until = sooner(until, o->day_ns + s->change_ns, from_ns);
    return sooner(until, o->day_ns + s->change_back_ns, from_ns);
}

/* Brings a family to this moment. All that reads or takes does this first. */
static void family_flow(const struct org *o, struct family *f, int64_t now_ns)
{
    struct bucket *const metered[] = {[METER_REQUESTS] = &f->requests,
                                      [METER_INPUT] = &f->input,
                                      [METER_OUTPUT] = &f->output};
    while (f->at_ns < now_ns) {
        int64_t from = f->at_ns, to = even_until(o, from, now_ns);
        double share = tenant_at(o, from);
        for (int i = 0; i < METER_BUCKETS; i++) {
            bucket_flow(metered[i], share * metered[i]->per_minute, to);
            meter_flowed(&f->meter, (enum meter_bucket)i, metered[i], from);
        }
        bucket_flow(&f->shown, share * f->shown.per_minute, to);
        f->at_ns = to;
        if (factor_at(o, to) != f->factor)
            family_rates(o, f, to);
    }
}

static void flow_all(struct org *o, int64_t now_ns)
{
    for (size_t i = 0; i < o->count; i++)
        family_flow(o, &o->families[i], now_ns);
}

/* Families beyond the ceiling share the last place: there are ten in the world. */
static struct family *family_of(struct org *o, const char *name, int64_t now_ns)
{
    struct family *f = NULL;
    for (size_t i = 0; i < o->count && f == NULL; i++)
        if (strcmp(o->families[i].name, name) == 0)
            f = &o->families[i];
    if (f == NULL && o->count == FAMILIES_MAX)
        f = &o->families[FAMILIES_MAX - 1];
    if (f != NULL) {
        family_flow(o, f, now_ns);
        return f;
    }
    f = &o->families[o->count++];
    strncpy(f->name, name, sizeof f->name - 1);
    f->at_ns = now_ns;
    meter_clear(&f->meter);
    family_rates(o, f, now_ns);
    return f;
}

struct org *org_new(const struct settings *s, int64_t now_ns)
{
    struct org *o = calloc(1, sizeof *o);
    if (o == NULL)
        return NULL;
    o->settings = s;
    o->day_ns = -1;
    org_limits_changed(o, now_ns);
    org_credit_changed(o);
    return o;
}

void org_free(struct org *o)
{
    for (size_t i = 0; o && i < o->count; i++)
        meter_clear(&o->families[i].meter);
    free(o);
}

void org_limits_changed(struct org *o, int64_t now_ns)
{
    double count_rpm = (double)o->settings->count_rpm;
    flow_all(o, now_ns);
    for (size_t i = 0; i < o->count; i++)
        family_rates(o, &o->families[i], now_ns);
    bucket_rate(&o->counts, count_rpm, room_for(count_rpm, o->settings->burst_ns),
                now_ns);
}

/* ---- meters ---- */

/* A request of this family is here: the day has begun, and the meter runs. */
static struct family *family_met(struct org *o, const char *name, int64_t now_ns)
{
    if (o->day_ns < 0) {
        flow_all(o, now_ns);
        o->day_ns = now_ns;
    }
    struct family *f = family_of(o, name, now_ns);
    if (f->meter.first_ns < 0) {
        const struct bucket *const b[] = {[METER_REQUESTS] = &f->requests,
                                          [METER_INPUT] = &f->input,
                                          [METER_OUTPUT] = &f->output};
        meter_begin(&f->meter, b, o->day_ns, now_ns);
    }
    return f;
}

void org_fault_refused(struct org *o, const char *family, int64_t now_ns)
{
    meter_refused(&family_met(o, family, now_ns)->meter, REFUSED_FAULT, now_ns);
}

void org_reset(struct org *o, bool full, int64_t now_ns)
{
    flow_all(o, now_ns);
    o->day_ns = -1;
    for (size_t i = 0; i < o->count; i++) {
        struct family *f = &o->families[i];
        meter_clear(&f->meter);
        f->ramp = (struct ramp){0};
        family_rates(o, f, now_ns);
        if (!full)
            continue;
        f->requests.level = f->requests.room;
        f->shown.level = f->shown.room;
        f->input.level = f->input.room;
        f->output.level = f->output.room;
    }
}

const struct meter *org_meter(struct org *o, const char *family, int64_t now_ns)
{
    for (size_t i = 0; i < o->count; i++) {
        struct family *f = &o->families[i];
        if (strcmp(f->name, family) != 0 || f->meter.first_ns < 0)
            continue;
        family_flow(o, f, now_ns);
        return &f->meter;
    }
    return NULL;
}

void org_write_meters(struct org *o, int64_t now_ns, struct text *t)
{
    const char *comma = "";
    flow_all(o, now_ns);
    for (size_t i = 0; i < o->count; i++) {
        if (o->families[i].meter.first_ns < 0)
            continue;
        text_str(t, comma);
        text_json(t, o->families[i].name);
        text_str(t, ":");
        meter_write(&o->families[i].meter, t);
        comma = ",";
    }
}

void org_write_pace(struct org *o, int64_t now_ns, struct text *t)
{
    flow_all(o, now_ns);
    for (size_t i = 0; i < o->count; i++)
        if (o->families[i].meter.first_ns >= 0)
            meter_write_rows(&o->families[i].meter, o->families[i].name, t);
}

/* ---- acceleration ---- */

static double between(double n, double least, double most)
{
    return n > most ? most : n < least ? least : n;
}

/* The ceiling of the minute behind one in which `used` came through. */
static double next_ceiling(const struct org *o, const struct family *f, double used)
{
    double limit = f->input.per_minute;
    return between(used * o->settings->acceleration, limit * RAMP_BASE, limit);
}

/* Brings the ramp to the minute of this moment. */
static void ramp_roll(const struct org *o, struct family *f, int64_t now_ns)
{
    struct ramp *r = &f->ramp;
    int64_t minute = (now_ns - o->day_ns) / NS_PER_MINUTE;
    if (r->ceiling > 0 && r->minute == minute)
        return;
    double used = r->pressed ? r->ceiling : r->used;
    r->ceiling = next_ceiling(o, f, r->minute == minute - 1 ? used : 0);
    r->minute = minute;
    r->used = 0;
    r->pressed = false;
}

static bool is_ramped(const struct org *o, const struct family *f)
{
    return o->settings->acceleration > 0 && f->input.per_minute > 0 && o->day_ns >= 0;
}

/* Is so much input no steeper a rise than is allowed? The first of a minute never is. */
static bool ramp_holds(const struct org *o, struct family *f, double input,
                       int64_t now_ns, int64_t *wait_ns)
{
    if (!is_ramped(o, f))
        return true;
    ramp_roll(o, f, now_ns);
    struct ramp *r = &f->ramp;
    if (r->used <= 0 || r->used + input <= r->ceiling ||
        r->ceiling >= f->input.per_minute)
        return true;
    r->pressed = true;
    *wait_ns = NS_PER_MINUTE - (now_ns - o->day_ns) % NS_PER_MINUTE;
    return false;
}

/* ---- credit ---- */

void org_credit_changed(struct org *o)
{
    o->credit = o->settings->credit;
}

/* ---- requests ---- */

enum org_word org_money(const struct org *o)
{
    if (!o->settings->credit_endless && o->credit <= 0)
        return ORG_NO_CREDIT;
    if (!o->settings->spend_endless && o->spent >= o->settings->spend_limit)
        return ORG_SPEND_LIMIT;
    return ORG_ADMITTED;
}

enum org_word org_count_start(struct org *o, int64_t now_ns, int64_t *wait_ns)
{
    *wait_ns = 0;
    if (!bucket_holds(&o->counts, 1, now_ns)) {
        *wait_ns = bucket_wait_ns(&o->counts, 1, now_ns);
        return ORG_REQUESTS;
    }
    bucket_take(&o->counts, 1, now_ns);
    return ORG_ADMITTED;
}

/* The bucket that keeps it from starting, or none. */
static enum org_word buckets_check(struct family *f, double input, int64_t now_ns,
                                   int64_t *wait_ns)
{
    const struct {
        struct bucket *bucket;
        double want;
        enum org_word word;
    } checks[] = {
        {&f->requests, 1, ORG_REQUESTS},
        {&f->input, input, ORG_INPUT},
        {&f->output, 1, ORG_OUTPUT}, /* how much it will be nobody knows yet */
    };
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++)
        if (!bucket_holds(checks[i].bucket, checks[i].want, now_ns)) {
            *wait_ns = bucket_wait_ns(checks[i].bucket, checks[i].want, now_ns);
            return checks[i].word;
        }
    return ORG_ADMITTED;
}

static enum org_word limits_check(struct org *o, struct family *f, double input,
                                  int64_t now_ns, int64_t *wait_ns)
{
    if (o->settings->concurrent > 0 && o->in_flight >= o->settings->concurrent)
        return ORG_CONCURRENT;
    enum org_word word = buckets_check(f, input, now_ns, wait_ns);
    if (word == ORG_ADMITTED && !ramp_holds(o, f, input, now_ns, wait_ns))
        return ORG_ACCELERATION;
    return word;
}

enum org_word org_start(struct org *o, const char *family, int64_t input,
                        int64_t now_ns, int64_t *wait_ns)
{
    static const enum meter_refusal refusals[] = {
        [ORG_CONCURRENT] = REFUSED_CONCURRENT,
        [ORG_REQUESTS] = REFUSED_REQUESTS,
        [ORG_INPUT] = REFUSED_INPUT,
        [ORG_OUTPUT] = REFUSED_OUTPUT,
        [ORG_ACCELERATION] = REFUSED_ACCELERATION,
    };
    *wait_ns = 0;
    enum org_word word = org_money(o);
    if (word != ORG_ADMITTED)
        return word;

    struct family *f = family_met(o, family, now_ns);
    word = limits_check(o, f, (double)input, now_ns, wait_ns);
    if (word != ORG_ADMITTED) {
        meter_refused(&f->meter, refusals[word], now_ns);
        return word;
    }
    bucket_take(&f->requests, 1, now_ns);
    bucket_take(&f->shown, 1, now_ns);
    bucket_take(&f->input, (double)input, now_ns);
    meter_used(&f->meter, METER_REQUESTS, &f->requests, 1, now_ns);
    meter_used(&f->meter, METER_INPUT, &f->input, (double)input, now_ns);
    meter_started(&f->meter, now_ns);
    if (is_ramped(o, f))
        f->ramp.used += (double)input;
    o->in_flight++;
    return ORG_ADMITTED;
}

void org_ended(struct org *o)
{
    o->in_flight--;
}

void org_produced(struct org *o, const char *family, int64_t output, int64_t now_ns)
{
    struct family *f = family_of(o, family, now_ns);
    bucket_take(&f->output, (double)output, now_ns);
    meter_used(&f->meter, METER_OUTPUT, &f->output, (double)output, now_ns);
}

void org_charge(struct org *o, picodollars amount)
{
    if (__builtin_add_overflow(o->spent, amount, &o->spent))
        o->spent = INT64_MAX;
    if (!o->settings->credit_endless &&
        __builtin_sub_overflow(o->credit, amount, &o->credit))
        o->credit = INT64_MIN;
}

/* ---- telling ---- */

static struct org_limit bucket_look(struct bucket *b, int64_t now_ns)
{
    struct org_limit l = {0};
    if (b->per_minute <= 0)
        return l;
    double level = bucket_level(b, now_ns);
    l.limit = (int64_t)b->per_minute;
    l.remaining = level > 0 ? (int64_t)(level + 1e-6) : 0;
    l.full_in_ns = bucket_wait_ns(b, b->room, now_ns);
    return l;
}

static struct org_limit both(struct org_limit a, struct org_limit b)
{
    struct org_limit sum = {a.limit + b.limit, a.remaining + b.remaining,
                            a.full_in_ns > b.full_in_ns ? a.full_in_ns : b.full_in_ns};
    return sum;
}

struct org_view org_look(struct org *o, const char *family, int64_t now_ns)
{
    struct family *f = family_of(o, family, now_ns);
    bool by_second = o->settings->rpm_enforced == RPM_BY_SECOND;
    struct org_view v = {
        .requests = bucket_look(by_second ? &f->shown : &f->requests, now_ns),
        .input = bucket_look(&f->input, now_ns),
        .output = bucket_look(&f->output, now_ns)};
    v.tokens = both(v.input, v.output);
    if (is_ramped(o, f)) {
        ramp_roll(o, f, now_ns);
        v.ceiling = (int64_t)f->ramp.ceiling;
        v.next_ceiling = (int64_t)next_ceiling(o, f, f->ramp.ceiling);
    }
    return v;
}

int64_t org_in_flight(const struct org *o)
{
    return o->in_flight;
}

picodollars org_spent(const struct org *o)
{
    return o->spent;
}

picodollars org_credit(const struct org *o)
{
    return o->credit;
}

void org_credit_add(struct org *o, picodollars amount)
{
    if (__builtin_add_overflow(o->credit, amount, &o->credit))
        o->credit = INT64_MAX;
}
