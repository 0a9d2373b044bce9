#include "sim/stats.h"

#include "sim/settings.h"

#include <stdlib.h>
#include <string.h>

enum { STATUSES = 600, MODELS = 512, JOB_NAME_MAX = 200 };

struct job {
    uint64_t key;
    char *name; /* NULL: the key in hex is its name */
    uint32_t requests, answered;
};

struct stats {
    const struct catalog *catalog;
    int64_t log_max, jobs_max, resets;

    int64_t requests, started, served, counted;
    int64_t by_status[STATUSES];
    int64_t by_model[MODELS + 1]; /* the last: unknown */
    struct usage tokens;
    picodollars billed, unserved; /* unserved: of the billed, what never arrived */
    int64_t in_flight, most_in_flight, connections, connections_all;
    int64_t first_ns, last_ns;
    int64_t refused_ns, after_refusal; /* refused_ns -1: not yet */

    struct stats_row *log;
    size_t log_len, log_room;
    int64_t log_dropped;
    struct job *jobs;
    size_t job_count, job_room;
    uint32_t *slots; /* of jobs, plus one; open addressing */
    size_t slot_count;
};

struct stats *stats_new(const struct catalog *c, int64_t log_max, int64_t jobs_max)
{
    struct stats *st = calloc(1, sizeof *st);
    if (st == NULL)
        return NULL;
    st->catalog = c;
    st->log_max = log_max;
    st->jobs_max = jobs_max;
    st->first_ns = st->last_ns = st->refused_ns = -1;
    return st;
}

static void lists_free(struct stats *st)
{
    for (size_t i = 0; i < st->job_count; i++)
        free(st->jobs[i].name);
    free(st->jobs);
    free(st->slots);
    free(st->log);
}

void stats_free(struct stats *st)
{
    if (st == NULL)
        return;
    lists_free(st);
    free(st);
}

/* What is going on goes on: requests in flight and open connections stay counted. */
void stats_reset(struct stats *st)
{
    struct stats fresh = {.catalog = st->catalog,
                          .log_max = st->log_max,
                          .jobs_max = st->jobs_max,
                          .resets = st->resets + 1,
                          .in_flight = st->in_flight,
                          .most_in_flight = st->in_flight,
                          .connections = st->connections,
                          .connections_all = st->connections,
                          .first_ns = -1,
                          .last_ns = -1,
                          .refused_ns = -1};
    lists_free(st);
    *st = fresh;
}

int64_t stats_resets(const struct stats *st)
{
    return st->resets;
}

/* ---- jobs ---- */

static void slot_put(struct stats *st, uint32_t job)
{
    size_t i = st->jobs[job].key & (st->slot_count - 1);
    while (st->slots[i])
        i = (i + 1) & (st->slot_count - 1);
    st->slots[i] = job + 1;
}

static bool jobs_grow(struct stats *st)
{
    size_t room = st->job_room ? st->job_room * 2 : 256;
    struct job *jobs = realloc(st->jobs, room * sizeof *jobs);
    if (jobs == NULL)
        return false;
    st->jobs = jobs;
    uint32_t *slots = calloc(room * 2, sizeof *slots);
    if (slots == NULL)
        return false;
    free(st->slots);
    st->slots = slots;
    st->slot_count = room * 2;
    st->job_room = room;
    for (size_t i = 0; i < st->job_count; i++)
        slot_put(st, (uint32_t)i);
    return true;
}

int64_t stats_job(struct stats *st, const char *name, size_t len, uint64_t content)
{
    len = len < JOB_NAME_MAX ? len : JOB_NAME_MAX;
    uint64_t key = name ? words_hash(name, len, 0) : content;

    if (st->slot_count > 0)
        for (size_t i = key & (st->slot_count - 1); st->slots[i];
             i = (i + 1) & (st->slot_count - 1))
            if (st->jobs[st->slots[i] - 1].key == key)
                return st->slots[i] - 1;
    if ((int64_t)st->job_count >= st->jobs_max)
        return -1;
    if (st->job_count == st->job_room && !jobs_grow(st))
        return -1;

    st->jobs[st->job_count] = (struct job){.key = key};
    if (name && (st->jobs[st->job_count].name = strndup(name, len)) == NULL)
        return -1;
    slot_put(st, (uint32_t)st->job_count);
    return (int64_t)st->job_count++;
}

static void job_name(const struct stats *st, int64_t job, struct text *t)
{
    if (job < 0 || (size_t)job >= st->job_count)
        text_str(t, "null");
    else if (st->jobs[job].name)
        text_json(t, st->jobs[job].name);
    else
        text_fmt(t, "\"%016llx\"", (unsigned long long)st->jobs[job].key);
}

/* ---- noting ---- */

void stats_started(struct stats *st, int64_t at_ns)
{
    st->started++;
    if (st->first_ns < 0)
        st->first_ns = at_ns;
    st->last_ns = at_ns;
    if (++st->in_flight > st->most_in_flight)
        st->most_in_flight = st->in_flight;
}

int64_t stats_whole(struct stats *st)
{
    return ++st->requests;
}

static int64_t sum(int64_t a, int64_t b)
{
    int64_t n;
    return __builtin_add_overflow(a, b, &n) ? INT64_MAX : n;
}

static bool log_grow(struct stats *st)
{
    size_t room = st->log_room ? st->log_room * 2 : 1024;
    struct stats_row *log = realloc(st->log, room * sizeof *log);
    if (log == NULL)
        return false;
    st->log = log;
    st->log_room = room;
    return true;
}

static void log_add(struct stats *st, const struct stats_row *row)
{
    if ((int64_t)st->log_len >= st->log_max ||
        (st->log_len == st->log_room && !log_grow(st))) {
        st->log_dropped++;
        return;
    }
    st->log[st->log_len++] = *row;
}

void stats_ended(struct stats *st, const struct stats_row *row)
{
    const struct usage *u = &row->usage;
    st->in_flight--;
    if (row->n == 0 || row->reset != st->resets)
        return;

    bool good = row->answered && row->status == 200;
    st->served += good;
    if (row->status >= 0 && row->status < STATUSES)
        st->by_status[row->status]++;
    st->by_model[row->model >= 0 && row->model < MODELS ? row->model : MODELS]++;
    st->tokens.input = sum(st->tokens.input, u->input);
    st->tokens.output = sum(st->tokens.output, u->output);
    st->tokens.cache_read = sum(st->tokens.cache_read, u->cache_read);
    st->tokens.cache_write_5m = sum(st->tokens.cache_write_5m, u->cache_write_5m);
    st->tokens.cache_write_1h = sum(st->tokens.cache_write_1h, u->cache_write_1h);
    st->billed = sum(st->billed, row->billed);
    if (!good)
        st->unserved = sum(st->unserved, row->billed);
    if (row->job >= 0 && (size_t)row->job < st->job_count) {
        st->jobs[row->job].requests++;
        st->jobs[row->job].answered += good;
    }
    log_add(st, row);
}

void stats_counted(struct stats *st)
{
    st->counted++;
}

void stats_connection(struct stats *st, bool opened)
{
    st->connections += opened ? 1 : -1;
    st->connections_all += opened;
}

bool stats_credit_refused(struct stats *st, int64_t at_ns)
{
    if (st->refused_ns >= 0)
        return false;
    st->refused_ns = at_ns;
    return true;
}

void stats_after_refusal(struct stats *st)
{
    st->after_refusal++;
}

bool stats_is_refused(const struct stats *st)
{
    return st->refused_ns >= 0;
}

void stats_credit_back(struct stats *st)
{
    st->refused_ns = -1;
}

/* ---- telling ---- */

static void ms_add(struct text *t, int64_t ns)
{
    if (ns < 0)
        text_str(t, "null");
    else
        text_fmt(t, "%.3f", (double)ns / 1e6);
}

static void counts_write(const struct stats *st, struct text *t)
{
    const struct {
        const char *name;
        int64_t n;
    } rows[] = {
        {"requests", st->requests},
        {"started", st->started},
        {"served", st->served},
        {"count_tokens", st->counted},
        {"in_flight", st->in_flight},
        {"most_in_flight", st->most_in_flight},
        {"connections", st->connections},
        {"connections_total", st->connections_all},
        {"requests_after_credit_refusal", st->after_refusal},
        {"log_dropped", st->log_dropped},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        text_fmt(t, "%s\"%s\":%lld", i ? "," : "", rows[i].name, (long long)rows[i].n);
    text_str(t, ",\"first_request_ms\":");
    ms_add(t, st->first_ns);
    text_str(t, ",\"last_request_ms\":");
    ms_add(t, st->last_ns);
    text_str(t, ",\"first_credit_refusal_ms\":");
    ms_add(t, st->refused_ns);
}

static void money_write(const struct stats *st, struct text *t)
{
    char usd[CATALOG_USD_MAX];
    text_fmt(t,
             ",\"tokens\":{\"input\":%lld,\"output\":%lld,\"cache_read\":%lld,"
             "\"cache_write_5m\":%lld,\"cache_write_1h\":%lld}",
             (long long)st->tokens.input, (long long)st->tokens.output,
             (long long)st->tokens.cache_read, (long long)st->tokens.cache_write_5m,
             (long long)st->tokens.cache_write_1h);
    text_fmt(t, ",\"usd\":\"%s\"", catalog_usd(st->billed, usd));
    text_fmt(t, ",\"usd_unserved\":\"%s\"", catalog_usd(st->unserved, usd));
}

static const char *model_name(const struct stats *st, int model)
{
    return model >= 0 && model < MODELS ? catalog_at(st->catalog, (size_t)model)->id
                                        : "unknown";
}

void stats_write(const struct stats *st, bool jobs, struct text *t)
{
    const char *comma = "";
    counts_write(st, t);
    money_write(st, t);
    text_str(t, ",\"by_status\":{");
    for (int i = 0; i < STATUSES; i++)
        if (st->by_status[i]) {
            text_fmt(t, "%s\"%d\":%lld", comma, i, (long long)st->by_status[i]);
            comma = ",";
        }
    text_str(t, "},\"by_model\":{");
    comma = "";
    for (int i = 0; i <= MODELS; i++)
        if (st->by_model[i]) {
            text_fmt(t, "%s\"%s\":%lld", comma, model_name(st, i),
                     (long long)st->by_model[i]);
            comma = ",";
        }
    text_str(t, "}");
    if (!jobs)
        return;
    text_str(t, ",\"by_job\":{");
    for (size_t i = 0; i < st->job_count; i++) {
        text_str(t, i ? ",\n" : "\n");
        job_name(st, (int64_t)i, t);
        text_fmt(t, ":{\"requests\":%u,\"answered\":%u}", st->jobs[i].requests,
                 st->jobs[i].answered);
    }
    text_str(t, "}");
}

void stats_write_log(const struct stats *st, struct text *t)
{
    char usd[CATALOG_USD_MAX];
    for (size_t i = 0; i < st->log_len; i++) {
        const struct stats_row *row = &st->log[i];
        text_fmt(t, "{\"n\":%lld,\"at_ms\":%.3f,\"job\":", (long long)row->n,
                 (double)row->at_ns / 1e6);
        job_name(st, row->job, t);
        text_str(t, ",\"model\":");
        text_json(t, model_name(st, row->model));
        text_fmt(t, ",\"status\":%d,\"fault\":", row->status);
        if (row->fault)
            text_json(t, row->fault);
        else
            text_str(t, "null");
        text_fmt(
            t,
            ",\"answered\":%s,\"input_tokens\":%lld,\"output_tokens\":%lld,"
            "\"cache_read_tokens\":%lld,\"cache_write_tokens\":%lld,\"usd\":\"%s\"}\n",
            row->answered ? "true" : "false", (long long)row->usage.input,
            (long long)row->usage.output, (long long)row->usage.cache_read,
            (long long)(row->usage.cache_write_5m + row->usage.cache_write_1h),
            catalog_usd(row->billed, usd));
    }
}
