#include "sim/org.h"

#include "sim/settings.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FAMILIES_MAX = 64 };

#define NS_PER_MINUTE 60e9

struct family {
    char name[FAMILY_NAME_MAX];
    struct bucket requests, input, output;
};

struct org {
    const struct settings *settings;
    struct family families[FAMILIES_MAX];
    size_t count;
    struct bucket counts; /* count_tokens requests */
    int64_t in_flight;
    picodollars credit, spent;
};

/* ---- buckets ---- */

double bucket_level(struct bucket *b, int64_t now_ns)
{
    if (now_ns > b->at_ns) {
        b->level += (double)(now_ns - b->at_ns) * b->per_minute / NS_PER_MINUTE;
        b->at_ns = now_ns;
    }
    if (b->level > b->room)
        b->level = b->room;
    return b->level;
}

void bucket_rate(struct bucket *b, double per_minute, double room, int64_t now_ns)
{
    double missing = b->room - bucket_level(b, now_ns);
    b->per_minute = per_minute;
    b->room = room;
    b->level = room - missing;
    b->at_ns = now_ns;
}

void bucket_take(struct bucket *b, double n, int64_t now_ns)
{
    if (b->per_minute > 0)
        b->level = bucket_level(b, now_ns) - n;
}

int64_t bucket_wait_ns(struct bucket *b, double n, int64_t now_ns)
{
    double target = n > b->room ? b->room : n;
    double missing = target - bucket_level(b, now_ns);
    if (b->per_minute <= 0 || missing <= 0)
        return 0;
    return (int64_t)ceil(missing * NS_PER_MINUTE / b->per_minute);
}

/* A hair of rounding must not turn a request away at the very moment it was told to
 * come. */
static bool bucket_holds(struct bucket *b, double n, int64_t now_ns)
{
    return b->per_minute <= 0 || bucket_level(b, now_ns) >= n - 1e-6;
}

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

/* ---- limits ---- */

static double room_of(const struct org *o, int64_t per_minute)
{
    double room = (double)per_minute * (double)o->settings->burst_ns / NS_PER_MINUTE;
    return room < 1 ? 1 : room;
}

static void rate_set(const struct org *o, struct bucket *b, int64_t per_minute,
                     int64_t now_ns)
{
    bucket_rate(b, (double)per_minute, room_of(o, per_minute), now_ns);
}

static void family_rates(const struct org *o, struct family *f, int64_t now_ns)
{
    struct rates r = settings_rates(o->settings, f->name);
    rate_set(o, &f->requests, r.rpm, now_ns);
    rate_set(o, &f->input, r.itpm, now_ns);
    rate_set(o, &f->output, r.otpm, now_ns);
}

/* Families beyond the ceiling share the last place: there are ten in the world. */
static struct family *family_of(struct org *o, const char *name, int64_t now_ns)
{
    for (size_t i = 0; i < o->count; i++)
        if (strcmp(o->families[i].name, name) == 0)
            return &o->families[i];
    if (o->count == FAMILIES_MAX)
        return &o->families[FAMILIES_MAX - 1];
    struct family *f = &o->families[o->count++];
    strncpy(f->name, name, sizeof f->name - 1);
    family_rates(o, f, now_ns);
    return f;
}

struct org *org_new(const struct settings *s, int64_t now_ns)
{
    struct org *o = calloc(1, sizeof *o);
    if (o == NULL)
        return NULL;
    o->settings = s;
    org_limits_changed(o, now_ns);
    org_credit_changed(o);
    return o;
}

void org_free(struct org *o)
{
    free(o);
}

void org_limits_changed(struct org *o, int64_t now_ns)
{
    for (size_t i = 0; i < o->count; i++)
        family_rates(o, &o->families[i], now_ns);
    rate_set(o, &o->counts, o->settings->count_rpm, now_ns);
}

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

enum org_word org_start(struct org *o, const char *family, int64_t input,
                        int64_t now_ns, int64_t *wait_ns)
{
    *wait_ns = 0;
    enum org_word word = org_money(o);
    if (word != ORG_ADMITTED)
        return word;
    if (o->settings->concurrent > 0 && o->in_flight >= o->settings->concurrent)
        return ORG_CONCURRENT;

    struct family *f = family_of(o, family, now_ns);
    const struct {
        struct bucket *bucket;
        double want;
        enum org_word word;
    } checks[] = {
        {&f->requests, 1, ORG_REQUESTS},
        {&f->input, (double)input, ORG_INPUT},
        {&f->output, 1, ORG_OUTPUT}, /* how much it will be nobody knows yet */
    };
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++)
        if (!bucket_holds(checks[i].bucket, checks[i].want, now_ns)) {
            *wait_ns = bucket_wait_ns(checks[i].bucket, checks[i].want, now_ns);
            return checks[i].word;
        }

    bucket_take(&f->requests, 1, now_ns);
    bucket_take(&f->input, (double)input, now_ns);
    o->in_flight++;
    return ORG_ADMITTED;
}

void org_ended(struct org *o)
{
    o->in_flight--;
}

void org_produced(struct org *o, const char *family, int64_t output, int64_t now_ns)
{
    bucket_take(&family_of(o, family, now_ns)->output, (double)output, now_ns);
}

void org_charge(struct org *o, picodollars amount)
{
    if (__builtin_add_overflow(o->spent, amount, &o->spent))
        o->spent = INT64_MAX;
    if (!o->settings->credit_endless &&
        __builtin_sub_overflow(o->credit, amount, &o->credit))
        o->credit = INT64_MIN;
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
    struct org_view v = {.requests = bucket_look(&f->requests, now_ns),
                         .input = bucket_look(&f->input, now_ns),
                         .output = bucket_look(&f->output, now_ns)};
    v.tokens = both(v.input, v.output);
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
