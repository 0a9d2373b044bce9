/* From the store to the sums of a report: a pass over the attempts of one run, one over
 * what was known before it, one over what failed. */
#include "runner/report.h"

#include "runner/budget.h"
#include "runner/err.h"
#include "runner/outlook.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int no_memory(struct err *e)
{
    return err_set(e, ERR_NOMEM, "out of memory");
}

static void copy(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from ? from : "");
}

#define COPY(to, from) copy(to, sizeof(to), from)

/* Words without what differs from one to the next: numbers, and what is quoted. */
static void like_of(const char *says, char *to, size_t size)
{
    size_t n = 0;
    char quote = '\0';
    for (const char *p = says; *p && n + 2 < size; p++) {
        if (quote) {
            if (*p == quote)
                quote = '\0';
            continue;
        }
        if (isdigit((unsigned char)*p)) {
            if (n == 0 || to[n - 1] != '#')
                to[n++] = '#';
            continue;
        }
        /* An apostrophe within a word is none. */
        if (*p == '"' || *p == '`' ||
            (*p == '\'' && (p == says || !isalnum((unsigned char)p[-1]))))
            quote = *p;
        to[n++] = *p;
    }
    to[n] = '\0';
}

/* --- rows --- */

static struct report_row *row_of(struct report_table *t, const char *key, size_t len)
{
    char name[REPORT_NAME];
    snprintf(name, sizeof name, "%.*s", (int)(len < sizeof name ? len : sizeof name),
             key);
    for (size_t i = 0; i < t->len; i++)
        if (strcmp(t->row[i].key, name) == 0)
            return &t->row[i];
    if (t->len == REPORT_ROWS)
        return &t->row[REPORT_ROWS - 1];
    struct report_row *x = &t->row[t->len++];
    COPY(x->key, t->len == REPORT_ROWS ? "(others)" : name);
    return x;
}

static void usage_add(struct usage *to, const struct usage *u)
{
    to->input += u->input;
    to->output += u->output;
    to->cache_read += u->cache_read;
    to->cache_write_5m += u->cache_write_5m;
    to->cache_write_1h += u->cache_write_1h;
}

/* What one attempt adds to every sum that it is in. */
struct share {
    const struct store_attempt *a;
    bool done, doubt;
    picodollars cost, cached, uncached;
};

static void row_add(struct report_row *x, const struct share *s)
{
    x->requests++;
    x->done += s->done;
    if (s->a->has_usage)
        usage_add(&x->usage, &s->a->usage);
    x->cost = budget_sum(x->cost, s->cost);
    x->cached = budget_sum(x->cached, s->cached);
    x->uncached = budget_sum(x->uncached, s->uncached);
    if (s->doubt) {
        x->doubt_low = budget_sum(x->doubt_low, s->a->cost);
        x->doubt_high = budget_sum(x->doubt_high, s->a->worst);
    }
}

/* A job with two tags counts with both. */
static void tags_add(struct report_table *t, const char *tags, const struct share *s)
{
    if (tags == NULL || *tags == '\0')
        tags = "(none)";
    for (const char *p = tags; *p;) {
        size_t len = strcspn(p, ",");
        row_add(row_of(t, p, len), s);
        p += len + (p[len] == ',');
    }
}

static int dearer(const void *a, const void *b)
{
    const struct report_row *x = a, *y = b;
    if (x->cost != y->cost)
        return x->cost < y->cost ? 1 : -1;
    return strcmp(x->key, y->key);
}

/* --- the longest and dearest --- */

static int64_t figure(const struct report_job *x, bool cost)
{
    return cost ? x->cost : x->took_ms;
}

/* Into its place; a job is there once, with its highest figure. */
static void top_add(struct report_job *top, size_t *len, const struct store_attempt *a,
                    const struct store_job *j, bool cost)
{
    struct report_job x = {
        .id = j->id,
        .took_ms = a->ended_at > a->started_at ? a->ended_at - a->started_at : 0,
        .sendings = j->sendings,
        .cost = j->cost,
        .state = j->state};
    size_t at = 0;
    if (figure(&x, cost) <= 0 ||
        (*len == REPORT_TOP && figure(&top[*len - 1], cost) >= figure(&x, cost)))
        return;
    while (at < *len && top[at].id != x.id)
        at++;
    if (at < *len && figure(&top[at], cost) >= figure(&x, cost))
        return;
    if (at < *len) {
        memmove(&top[at], &top[at + 1], (*len - at - 1) * sizeof *top);
        --*len;
    }
    COPY(x.name, j->name);
    COPY(x.model, a->model);
    for (at = 0; at < *len && figure(&top[at], cost) >= figure(&x, cost);)
        at++;
    if (*len < REPORT_TOP)
        ++*len;
    memmove(&top[at + 1], &top[at], (*len - at - 1) * sizeof *top);
    top[at] = x;
}

/* --- lanes and time --- */

static struct report_lane *lane_of(struct report *r, const char *name)
{
    for (size_t i = 0; i < r->lanes_len; i++)
        if (strcmp(r->lanes[i].name, name) == 0)
            return &r->lanes[i];
    if (r->lanes_len == REPORT_LANES)
        return &r->lanes[REPORT_LANES - 1];
    struct report_lane *l = &r->lanes[r->lanes_len++];
    COPY(l->name, r->lanes_len == REPORT_LANES ? "(others)" : name);
    return l;
}

static void slice_add(const struct report *r, double *slices, int64_t at, double x)
{
    int64_t i = (at - r->from) / r->slice_ms;
    if (r->slices > 0)
        slices[i < 0 ? 0 : i >= (int64_t)r->slices ? (int64_t)r->slices - 1 : i] += x;
}

/* What limits count: input that no cache held, when it left; output, when it was there. */
static void lane_add(struct report *r, const struct store_attempt *a)
{
    struct report_lane *l = lane_of(r, a->lane ? a->lane : "");
    const struct usage *u = &a->usage;
    l->requests++;
    slice_add(r, l->sent[0], a->started_at, 1);
    if (!a->has_usage)
        return;
    slice_add(r, l->sent[1], a->started_at,
              (double)(u->input + u->cache_write_5m + u->cache_write_1h));
    slice_add(r, l->sent[2], a->ended_at, (double)u->output);
}

static int mark_add(struct report_holds *h, int64_t from, int64_t to, bool halt,
                    size_t of)
{
    if (h->marks_len == h->marks_size) {
        size_t size = h->marks_size ? 2 * h->marks_size : 32;
        struct chart_mark *more = realloc(h->marks, size * sizeof *more);
        if (more == NULL)
            return -1;
        h->marks = more;
        h->marks_size = size;
    }
    h->marks[h->marks_len++] = (struct chart_mark){
        .from = from, .to = to, .halt = halt, .of = of};
    return 0;
}

/* When nothing moves any more: the words of its hold for each mark. */
static void lend_says(struct report_holds *h)
{
    for (size_t i = 0; i < h->marks_len; i++)
        h->marks[i].says = h->one[h->marks[i].of].says;
}

static struct report_hold *hold_of(struct report_holds *h,
                                   const struct store_history *x)
{
    char like[200];
    like_of(x->says, like, sizeof like);
    for (size_t i = 0; i < h->len; i++)
        if (h->one[i].kind == x->kind &&
            (strcmp(h->one[i].like, like) == 0 || h->len == REPORT_SAYS))
            return &h->one[i];
    if (h->len == REPORT_SAYS)
        return &h->one[REPORT_SAYS - 1];
    struct report_hold *one = &h->one[h->len++];
    one->kind = x->kind;
    COPY(one->like, like);
    COPY(one->says, x->says);
    return one;
}

static int hold_add(struct report *r, struct report_holds *h,
                    const struct store_history *x)
{
    bool halt = x->kind == HISTORY_HALT;
    int64_t to = halt ? x->at : x->until > 0 && x->until < r->to ? x->until : r->to;
    int64_t from = x->at > r->from ? x->at : r->from;
    if (halt ? x->at < r->from : to <= r->from)
        return 0;
    struct report_hold *one = hold_of(h, x);
    if (one->times == 0)
        one->first_at = from;
    one->times += x->times;
    /* What was not merged is cut off where the run ended. */
    one->held_ms += x->times > 1 ? x->held : to > from ? to - from : 0;
    if (from > one->last_at)
        one->last_at = from;
    return mark_add(h, from, to, halt, (size_t)(one - h->one));
}

static int on_history(void *arg, const struct store_history *x)
{
    struct report *r = arg;
    if (x->kind != HISTORY_LIMITS)
        return hold_add(r, *x->lane ? &lane_of(r, x->lane)->holds : &r->holds, x) < 0
                   ? no_memory(r->e)
                   : 0;
    struct report_lane *l = lane_of(r, x->lane);
    const int64_t values[3] = {x->rpm, x->itpm, x->otpm};
    if (l->steps == REPORT_STEPS)
        return 0;
    for (int k = 0; k < 3; k++)
        l->limit[k][l->steps] = (struct chart_step){x->at, (double)values[k]};
    l->steps++;
    return 0;
}

/* --- the runs --- */

static int on_run(void *arg, const struct store_run *x)
{
    struct report *r = arg;
    struct report_run one = {.id = x->id,
                             .started_at = x->started_at,
                             .ended_at = x->ended_at,
                             .tokens_in = x->tokens_in,
                             .tokens_out = x->tokens_out,
                             .first_attempt = x->first_attempt,
                             .spent = x->spent,
                             .died = strcmp(x->reason, "died") == 0,
                             .open = x->ended_at == 0};
    COPY(one.reason, x->reason);
    if (r->runs_all++ == 0)
        r->last = one;
    if (one.id == r->run.id)
        r->run = one;
    if (r->runs_len < REPORT_RUNS)
        r->runs[r->runs_len++] = one;
    return 0;
}

/* The end of one that died was told by the next one, perhaps days later. */
static int end_of(struct store *st, struct report *r, struct report_run *x,
                  struct err *e)
{
    int64_t first, last;
    if (x->open && r->busy && x->id == r->last.id) {
        x->ended_at = r->now;
        return 0;
    }
    if (!x->died && !x->open)
        return 0;
    x->died = true;
    *x->reason = '\0';
    if (store_run_span(st, x->id, &first, &last, e) < 0)
        return -1;
    x->ended_at = last > x->started_at ? last : x->started_at;
    return 0;
}

static int on_halt(void *arg, const struct store_history *x)
{
    struct report_run *run = arg;
    if (x->kind != HISTORY_HALT || x->at < run->halted_at)
        return 0;
    run->stop = stop_named(x->word);
    run->until = x->until;
    run->halted_at = x->at;
    COPY(run->reason, x->says);
    return 0;
}

static int look_at_runs(struct store *st, struct report *r, struct err *e)
{
    int64_t sent;
    if (store_run_sent(st, &sent, e) < 0)
        return -1;
    r->run.id = r->wanted ? r->wanted : sent;
    if (store_each_run(st, on_run, r, e) < 0)
        return -1;
    if (r->wanted && r->run.started_at == 0)
        return err_set(e, ERR_USAGE, "there is no run %lld; the last one was %lld",
                       (long long)r->wanted, (long long)r->last.id);
    if (r->last.id && (end_of(st, r, &r->last, e) < 0 ||
                       store_each_history(st, r->last.id, on_halt, &r->last, e) < 0))
        return -1;
    if (r->run.id && (end_of(st, r, &r->run, e) < 0 ||
                      store_each_history(st, r->run.id, on_halt, &r->run, e) < 0))
        return -1;
    for (size_t i = 0; i < r->runs_len; i++)
        if (end_of(st, r, &r->runs[i], e) < 0)
            return -1;
    r->from = r->since > r->run.started_at ? r->since : r->run.started_at;
    if (r->run.id && r->from > r->run.started_at && r->from > r->run.ended_at)
        return err_set(
            e, ERR_USAGE,
            "run %lld, the last that sent anything, had ended by then; leave "
            "--since away to see it",
            (long long)r->run.id);
    r->to = r->run.ended_at > r->from ? r->run.ended_at : r->from + 1;
    r->slice_ms = chart_slice(r->to - r->from, REPORT_SLICES);
    r->slices = (size_t)((r->to - r->from + r->slice_ms - 1) / r->slice_ms);
    return 0;
}

/* --- what was sent --- */

static void forecast_also(struct report *r, const struct store_attempt *a,
                          const struct store_job *j)
{
    int rc = outlook_add(r->learned, r->conf, r->catalog, a, j);
    if (rc < 0)
        no_memory(r->e);
    r->forecast_left_out += rc > 0;
}

static int on_sent(void *arg, const struct store_attempt *a, const struct store_job *j,
                   bool at_rest)
{
    struct report *r = arg;
    const struct model *m = a->model ? catalog_find(r->catalog, a->model) : NULL;
    bool out = a->state == ATTEMPT_OUT;
    struct share s = {.a = a,
                      .done = at_rest && j->state == JOB_DONE,
                      .doubt = a->state == ATTEMPT_IN_DOUBT || (out && r->run.died),
                      .cost = a->state == ATTEMPT_ANSWERED ? a->cost : 0};
    if (a->state == ATTEMPT_TAKEN_BACK)
        return 0;
    if (a->has_usage && m && m->priced) {
        struct usage all = {.input = a->usage.input + a->usage.cache_read +
                                     a->usage.cache_write_5m + a->usage.cache_write_1h,
                            .output = a->usage.output};
        s.cached = catalog_cost(m, &a->usage);
        s.uncached = catalog_cost(m, &all);
    } else if (a->has_usage) {
        r->unpriced++;
    }
    r->requests++;
    r->in_flight += out && !r->run.died;
    r->doubt += s.doubt;
    if (s.doubt) {
        r->doubt_low = budget_sum(r->doubt_low, a->cost);
        r->doubt_high = budget_sum(r->doubt_high, a->worst);
    }
    if (a->has_usage)
        usage_add(&r->usage, &a->usage);
    r->cost = budget_sum(r->cost, s.cost);
    r->cached = budget_sum(r->cached, s.cached);
    r->uncached = budget_sum(r->uncached, s.uncached);

    const char *tier = a->tier && *a->tier ? a->tier : "(the job names the model)";
    struct report_row *t = row_of(&r->tiers, tier, strlen(tier));
    row_add(t, &s);
    t->by[route_by(a->why)]++;
    const char *model = a->model ? a->model : "(not known)";
    row_add(row_of(&r->models, model, strlen(model)), &s);
    tags_add(&r->tags, j->tags, &s);
    lane_add(r, a);
    top_add(r->slowest, &r->slowest_len, a, j, false);
    top_add(r->dearest, &r->dearest_len, a, j, true);

    if (j->state >= JOB_DONE) {
        r->actual = budget_sum(r->actual, s.cost);
        r->actual_uncached = budget_sum(r->actual_uncached, s.uncached);
    }
    if (at_rest) {
        r->rest[j->state]++;
        forecast_also(r, a, j);
    }
    return r->e->code != ERR_NONE;
}

/* What every answer taught that came before the run. */
static int on_before(void *arg, const struct store_result *x)
{
    struct report *r = arg;
    return outlook_learn(r->learned, r->conf, r->catalog, x) < 0 ? no_memory(r->e) : 0;
}

static int busier(const void *a, const void *b)
{
    const struct report_lane *x = a, *y = b;
    return x->requests < y->requests ? 1 : -(x->requests > y->requests);
}

static int look_at_run(struct store *st, struct report *r, struct err *e)
{
    int64_t first = r->run.first_attempt;
    if (r->run.id == 0)
        return 0;
    if (r->from > r->run.started_at &&
        store_run_since(st, r->run.id, r->from, &first, e) < 0)
        return -1;
    if ((r->learned = forecast_new()) == NULL)
        return no_memory(e);
    if (store_each_history(st, r->run.id, on_history, r, e) < 0 ||
        store_each_before(st, first, on_before, r, e) < 0 || e->code ||
        store_each_sent(st, r->run.id, first, on_sent, r, e) < 0 || e->code)
        return -1;
    forecast_sum(r->learned, NULL, NULL, &r->forecast);
    for (size_t i = 0; i < r->lanes_len; i++)
        for (int k = 0; k < 3; k++)
            chart_per_minute(r->lanes[i].sent[k], r->slices, r->slice_ms);
    qsort(r->lanes, r->lanes_len, sizeof *r->lanes, busier);
    for (size_t i = 0; i < r->lanes_len; i++)
        lend_says(&r->lanes[i].holds);
    lend_says(&r->holds);
    return 0;
}

/* --- the queue's ledger beside it --- */

struct beside {
    struct report_table *t;
    bool tags;
};

static void beside_add(struct report_table *t, const char *key, size_t len,
                       picodollars cost)
{
    struct report_row *x = row_of(t, key, len);
    x->all = budget_sum(x->all, cost);
}

static int on_entry(void *arg, const struct store_entry *x)
{
    const struct beside *b = arg;
    bool none = x->key == NULL || *x->key == '\0';
    const char *key = !none ? x->key
                      : b->tags
                          ? "(none)"
                          : "(the job names the model)"; /* as on_sent() calls it */
    if (!b->tags || none)
        beside_add(b->t, key, strlen(key), x->cost);
    for (const char *p = b->tags && !none ? key : ""; *p;) {
        size_t len = strcspn(p, ",");
        beside_add(b->t, p, len, x->cost);
        p += len + (p[len] == ',');
    }
    return 0;
}

static int look_at_ledger(struct store *st, struct report *r, struct err *e)
{
    struct {
        enum store_by by;
        struct report_table *t;
    } all[] = {{BY_TIER, &r->tiers}, {BY_MODEL, &r->models}, {BY_TAG, &r->tags}};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        struct beside b = {all[i].t, all[i].by == BY_TAG};
        /* Nothing is beside a run that was the only one. */
        if (r->totals.spent > r->cost &&
            store_ledger(st, all[i].by, on_entry, &b, e) < 0)
            return -1;
        qsort(all[i].t->row, all[i].t->len, sizeof all[i].t->row[0], dearer);
    }
    return 0;
}

/* --- what failed --- */

/* The place that an unreadable file names comes first, and is the example's own. */
static const char *without_place(const struct store_job *j, const char *says)
{
    size_t n = j->path ? strlen(j->path) : 0;
    if (n == 0 || strncmp(says, j->path, n) != 0 || says[n] != ':')
        return says;
    const char *p = says + n + 1;
    while (isdigit((unsigned char)*p))
        p++;
    if (*p == ':')
        p++;
    while (*p == ' ')
        p++;
    return p;
}

static struct report_why *why_of(struct report *r, const struct store_job *j)
{
    char like[200];
    const char *says = without_place(j, j->says ? j->says : "");
    const char *type = j->type ? j->type : "";
    like_of(says, like, sizeof like);
    bool full = r->whys_len == REPORT_WHYS;
    for (size_t i = 0; i < r->whys_len; i++) {
        struct report_why *w = &r->whys[i];
        if (w->outcome == j->outcome && w->state == j->state &&
            (full || (strncmp(w->type, type, sizeof w->type - 1) == 0 &&
                      strcmp(w->like, like) == 0)))
            return w;
    }
    if (full)
        return &r->whys[REPORT_WHYS - 1];
    struct report_why *w = &r->whys[r->whys_len++];
    w->outcome = j->outcome;
    w->state = j->state;
    COPY(w->type, type);
    COPY(w->like, like);
    COPY(w->says, says);
    return w;
}

static int on_failed(void *arg, const struct store_job *j)
{
    struct report *r = arg;
    struct report_why *w = why_of(r, j);
    w->jobs++;
    if (w->examples < REPORT_EXAMPLES) {
        COPY(w->example[w->examples], j->name);
        w->examples++;
    }
    return 0;
}

static int more_jobs(const void *a, const void *b)
{
    const struct report_why *x = a, *y = b;
    if (x->jobs != y->jobs)
        return x->jobs < y->jobs ? 1 : -1;
    return strcmp(x->like, y->like);
}

static int on_source(void *arg, const struct store_source *s)
{
    struct report *r = arg;
    if (s->parked == NULL || s->gone)
        return 0;
    r->parked_sources++;
    if (r->parked_len == REPORT_SOURCES)
        return 0;
    COPY(r->parked[r->parked_len][0], s->path);
    COPY(r->parked[r->parked_len][1], s->parked);
    r->parked_len++;
    return 0;
}

int report_collect(struct report *r, struct store *st, struct err *e)
{
    r->e = e;
    if ((r->lanes = calloc(REPORT_LANES, sizeof *r->lanes)) == NULL)
        return no_memory(e);
    if (store_totals(st, &r->totals, e) < 0 || look_at_runs(st, r, e) < 0 ||
        look_at_run(st, r, e) < 0 || look_at_ledger(st, r, e) < 0 ||
        store_each_source(st, on_source, r, e) < 0)
        return -1;
    if (r->totals.jobs[JOB_FAILED] + r->totals.jobs[JOB_PARKED] > 0 &&
        store_each_failed(st, on_failed, r, e) < 0)
        return -1;
    qsort(r->whys, r->whys_len, sizeof r->whys[0], more_jobs);
    return 0;
}

void report_free(struct report *r)
{
    for (size_t i = 0; r->lanes && i < REPORT_LANES; i++)
        free(r->lanes[i].holds.marks);
    free(r->lanes);
    free(r->holds.marks);
    forecast_free(r->learned);
    r->lanes = NULL;
    r->holds.marks = NULL;
    r->learned = NULL;
}
