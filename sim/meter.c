#include "sim/meter.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define NS_PER_SECOND INT64_C(1000000000)
#define FIRST_MINUTE (60 * NS_PER_SECOND)

static const char *const bucket_names[METER_BUCKETS] = {
    [METER_REQUESTS] = "requests", [METER_INPUT] = "input", [METER_OUTPUT] = "output"};

static const char *const refusal_names[METER_REFUSALS] = {
    [REFUSED_REQUESTS] = "requests",
    [REFUSED_INPUT] = "input",
    [REFUSED_OUTPUT] = "output",
    [REFUSED_CONCURRENT] = "concurrency",
    [REFUSED_ACCELERATION] = "acceleration",
    [REFUSED_FAULT] = "fault",
};

void meter_clear(struct meter *m)
{
    free(m->rows);
    *m = (struct meter){.first_ns = -1};
}

/* ---- rows ---- */

static int64_t second_of(const struct meter *m, int64_t at_ns)
{
    return (at_ns - m->zero_ns) / NS_PER_SECOND;
}

static bool rows_grow(struct meter *m, size_t need)
{
    size_t room = m->room ? m->room : 64;
    while (room < need)
        room *= 2;
    struct meter_row *rows = realloc(m->rows, room * sizeof *rows);
    if (rows == NULL)
        return false;
    m->rows = rows;
    m->room = room;
    return true;
}

/* NULL beyond the hour, and without memory. */
static struct meter_row *row_at(struct meter *m, int64_t at_ns)
{
    int64_t s = second_of(m, at_ns), first = second_of(m, m->first_ns);
    if (s < first || s >= METER_SECONDS_MAX)
        return NULL;
    size_t i = (size_t)(s - first);
    if (i >= m->room && !rows_grow(m, i + 1))
        return NULL;
    for (; m->count <= i; m->count++)
        m->rows[m->count] = (struct meter_row){0};
    return &m->rows[i];
}

/* ---- noting ---- */

/* Both sums of a bucket: that of all time, and that of the second. */
static void add(struct meter *m, enum meter_bucket which, const struct bucket *b,
                struct meter_sums more, int64_t at_ns)
{
    struct meter_row *row = row_at(m, at_ns);
    struct meter_sums *to[] = {&m->buckets[which].sums,
                               row ? &row->buckets[which].sums : NULL};
    for (size_t i = 0; i < sizeof to / sizeof to[0] && to[i]; i++) {
        to[i]->allowed += more.allowed;
        to[i]->used += more.used;
        to[i]->tenant += more.tenant;
    }
    m->buckets[which].level = b->level;
    m->buckets[which].per_minute = b->per_minute;
    if (row) {
        row->buckets[which].level = b->level;
        row->buckets[which].per_minute = b->per_minute;
    }
}

/* Something happened: up to here the sums are told. */
static void touch(struct meter *m, int64_t now_ns)
{
    m->last_ns = now_ns;
    for (int i = 0; i < METER_BUCKETS; i++)
        m->buckets[i].at_last = m->buckets[i].sums;
}

void meter_begin(struct meter *m, const struct bucket *const b[METER_BUCKETS],
                 int64_t zero_ns, int64_t now_ns)
{
    m->zero_ns = zero_ns;
    m->first_ns = now_ns;
    for (int i = 0; i < METER_BUCKETS; i++) {
        m->buckets[i].poured = b[i]->poured;
        m->buckets[i].lost = b[i]->lost;
        double level = b[i]->per_minute > 0 ? b[i]->level : 0;
        add(m, (enum meter_bucket)i, b[i], (struct meter_sums){.allowed = level},
            now_ns);
    }
    touch(m, now_ns);
}

void meter_flowed(struct meter *m, enum meter_bucket which, const struct bucket *b,
                  int64_t from_ns)
{
    if (m->first_ns < 0)
        return;
    struct meter_sums more = {.allowed = b->poured - m->buckets[which].poured,
                              .tenant = b->lost - m->buckets[which].lost};
    m->buckets[which].poured = b->poured;
    m->buckets[which].lost = b->lost;
    add(m, which, b, more, from_ns);
}

void meter_used(struct meter *m, enum meter_bucket which, const struct bucket *b,
                double n, int64_t now_ns)
{
    if (m->first_ns < 0)
        return;
    add(m, which, b, (struct meter_sums){.used = n}, now_ns);
    touch(m, now_ns);
}

static int half_of(const struct meter *m, int64_t now_ns)
{
    return now_ns - m->first_ns >= FIRST_MINUTE;
}

void meter_started(struct meter *m, int64_t now_ns)
{
    m->requests[half_of(m, now_ns)]++;
    touch(m, now_ns);
}

void meter_refused(struct meter *m, enum meter_refusal why, int64_t now_ns)
{
    struct meter_row *row = row_at(m, now_ns);
    int half = half_of(m, now_ns);
    m->requests[half]++;
    m->refused[half][why]++;
    if (row)
        row->refused[why]++;
    touch(m, now_ns);
}

/* ---- telling ---- */

/* Where there is no limit there is nothing to say of it. */
static void or_null(struct text *t, const char *name, double n, bool limited)
{
    if (limited)
        text_fmt(t, ",\"%s\":%.3f", name, n);
    else
        text_fmt(t, ",\"%s\":null", name);
}

static void refusals_write(const int64_t refused[METER_REFUSALS], struct text *t)
{
    int64_t all = 0;
    text_str(t, "\"refused\":{");
    for (int i = 0; i < METER_REFUSALS; i++) {
        text_fmt(t, "\"%s\":%lld,", refusal_names[i], (long long)refused[i]);
        all += refused[i];
    }
    text_fmt(t, "\"all\":%lld}", (long long)all);
}

void meter_write(const struct meter *m, struct text *t)
{
    int64_t both[METER_REFUSALS];
    for (int i = 0; i < METER_REFUSALS; i++)
        both[i] = m->refused[0][i] + m->refused[1][i];

    text_fmt(t, "{\"first_ms\":%.3f,\"seconds\":%.3f", (double)m->first_ns / 1e6,
             (double)(m->last_ns - m->first_ns) / 1e9);
    for (int i = 0; i < METER_BUCKETS; i++) {
        const struct meter_sums *sums = &m->buckets[i].at_last;
        bool limited = m->buckets[i].per_minute > 0;
        text_fmt(t, ",\"%s\":{\"used\":%.0f", bucket_names[i], sums->used);
        or_null(t, "allowed", sums->allowed, limited);
        or_null(t, "tenant", sums->tenant, limited);
        or_null(t, "level", m->buckets[i].level, limited);
        or_null(t, "per_minute", m->buckets[i].per_minute, limited);
        text_str(t, "}");
    }
    text_fmt(t, ",\"sent\":%lld,", (long long)(m->requests[0] + m->requests[1]));
    refusals_write(both, t);
    text_fmt(t, ",\"after_first_minute\":{\"sent\":%lld,", (long long)m->requests[1]);
    refusals_write(m->refused[1], t);
    text_str(t, "}}");
}

static void row_write(const struct meter_row *row, struct text *t)
{
    uint32_t other = 0;
    for (int i = 0; i < METER_BUCKETS; i++) {
        const struct meter_sums *sums = &row->buckets[i].sums;
        bool limited = row->buckets[i].per_minute > 0;
        text_fmt(t, ",\"%s\":{\"used\":%.0f,\"refused\":%u", bucket_names[i],
                 sums->used, row->refused[i]);
        or_null(t, "allowed", sums->allowed, limited);
        or_null(t, "tenant", sums->tenant, limited);
        or_null(t, "level", row->buckets[i].level, limited);
        or_null(t, "per_minute", row->buckets[i].per_minute, limited);
        text_str(t, "}");
    }
    for (int i = METER_BUCKETS; i < METER_REFUSALS; i++)
        other += row->refused[i];
    text_fmt(t, ",\"refused_otherwise\":%u}\n", other);
}

void meter_write_rows(const struct meter *m, const char *family, struct text *t)
{
    int64_t s = second_of(m, m->first_ns);
    for (size_t i = 0; i < m->count; i++, s++) {
        text_fmt(t, "{\"s\":%lld,\"at_ms\":%.3f,\"family\":", (long long)s,
                 (double)m->zero_ns / 1e6 + (double)s * 1e3);
        text_json(t, family);
        row_write(&m->rows[i], t);
    }
}
