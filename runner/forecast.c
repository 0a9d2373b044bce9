#include "runner/forecast.h"

#include "jobs/job.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/*
 * The guess. A max_tokens is a bound with room to spare: few answers use half of a small
 * one, and the larger it is, the less it says. 512 go with worked answers of some 200
 * tokens; from there a power law that gives 460 at 8,192 and 850 at 64,000.
 */
#define GUESS_AT 512.0
#define GUESS_OUT 200.0
#define GUESS_POWER 0.3
#define GUESS_MOST 0.55 /* of max_tokens */
#define GUESS_THINKING 2.5
#define GUESS_SPREAD 1.7 /* the guess times and by that: a factor of 2.89 */

/* Bytes a token, at most and at least, of JSON around prose, code, other scripts. */
#define BYTES_MOST 4.6
#define BYTES_LEAST 2.75
#define LEARNED_SPREAD 1.25 /* where other kinds of the rung told what a token is */

/* An image is at most some 1,600 tokens; a page of a document is more. */
#define BLOCK_LEAST 1000.0
#define BLOCK_MOST 2600.0

/*
 * Prediction intervals: quantile 0.9975 of the normal distribution on either side, that
 * of Student's for as many answers as there are. Much wider than 19 of 20, since the
 * tails of answers are heavier than any quantile allows for.
 */
#define QUANTILE 2.807
#define DRIFT 0.02       /* relative sd between one night's prompts and the next's */
#define USUAL_CV 0.7     /* of answers' lengths, */
#define USUAL_WEIGHT 4   /* worth so many answers */
#define USUAL_IN_CV 0.1  /* of tokens around what their bytes say */
#define UNSEEN 2.0       /* so many answers may lie beyond the longest that was seen, */
#define UNSEEN_TIMES 2.0 /* and be so many times as long */
#define WIDEST 2.3       /* logarithm: a factor of ten either way */

enum { LENGTH_BASE, LENGTH_UNSURE, LENGTH_LONG, LENGTHS, SLOTS = 8192 };

/* Jobs that wait, of one kind, one row of the caller's and one class of price. */
struct load {
    struct load *next;
    int row, length;
    double jobs, est, guess, cap;
    double in_low, in_high;          /* tokens, by the guess */
    double read, write_5m, write_1h; /* tokens of `est` that the cache is to see */
    picodollars worst;
};

struct rung {
    const struct model *model;
    char *id, *effort;
    /* of its kinds, whenever a sum is made: */
    double kinds, log_out; /* how many tell something, and how wrong the guess was */
    double est, actual;
};

struct kind {
    uint64_t key;
    struct rung *rung;
    struct load *loads;
    /* what was answered: x estimated input, y output */
    double n, x, y, sxx, sxy, syy, most; /* means, and sums of squares around them */
    double guess;
    double actual, in_aa, in_ae, in_ee; /* input tokens: sum, squares and products */
    double read, write_5m, write_1h;
    double took, took_n, paid, cost_n;
};

struct forecast {
    struct kind *kinds[SLOTS]; /* open addressing: never more than half full */
    size_t kinds_len;
    struct rung *rungs[FORECAST_RUNGS_MAX + 1]; /* the last: all that are too many */
    size_t rungs_len;
};

struct forecast *forecast_new(void)
{
    return calloc(1, sizeof(struct forecast));
}

void forecast_free(struct forecast *f)
{
    if (f == NULL)
        return;
    for (size_t i = 0; i < SLOTS; i++) {
        if (f->kinds[i] == NULL)
            continue;
        for (struct load *l = f->kinds[i]->loads, *next; l; l = next) {
            next = l->next;
            free(l);
        }
        free(f->kinds[i]);
    }
    for (size_t i = 0; i < f->rungs_len; i++) {
        free(f->rungs[i]->id);
        free(f->rungs[i]->effort);
        free(f->rungs[i]);
    }
    free(f);
}

/* --- kinds --- */

static uint64_t hash_add(uint64_t hash, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ (unsigned char)s[i]) * UINT64_C(1099511628211); /* FNV-1a */
    return (hash ^ 0xff) * UINT64_C(1099511628211);
}

static struct rung *rung_of(struct forecast *f, const struct forecast_job *j)
{
    const char *id = j->model ? j->model->id : j->model_id ? j->model_id : "";
    const char *effort = j->effort ? j->effort : "";
    const struct model *model = j->model;
    for (size_t i = 0; i < f->rungs_len; i++)
        if (strcmp(f->rungs[i]->id, id) == 0 &&
            strcmp(f->rungs[i]->effort, effort) == 0)
            return f->rungs[i];
    if (f->rungs_len > FORECAST_RUNGS_MAX)
        return f->rungs[FORECAST_RUNGS_MAX];
    if (f->rungs_len == FORECAST_RUNGS_MAX) {
        id = effort = ""; /* names that nobody's catalogue has */
        model = NULL;
    }
    struct rung *r = calloc(1, sizeof *r);
    if (r == NULL || (r->id = strdup(id)) == NULL ||
        (r->effort = strdup(effort)) == NULL) {
        if (r)
            free(r->id);
        free(r);
        return NULL;
    }
    r->model = model;
    return f->rungs[f->rungs_len++] = r;
}

static struct kind *kind_of(struct forecast *f, const struct forecast_job *j)
{
    struct rung *r = rung_of(f, j);
    if (r == NULL)
        return NULL;
    uint64_t rung = hash_add(UINT64_C(14695981039346656037), r->id, strlen(r->id));
    rung = hash_add(rung, r->effort, strlen(r->effort));
    uint64_t key = hash_add(rung, j->where ? j->where : "",
                            j->where ? j->where_len : 0);
    for (int turn = 0; turn < 2; turn++) {
        size_t i = key % SLOTS;
        for (; f->kinds[i]; i = (i + 1) % SLOTS)
            if (f->kinds[i]->key == key)
                return f->kinds[i];
        bool full = f->kinds_len >= FORECAST_KINDS_MAX - FORECAST_RUNGS_MAX - 1;
        if (full && key != rung) {
            key = rung;
            continue;
        }
        struct kind *k = calloc(1, sizeof *k);
        if (k == NULL)
            return NULL;
        k->key = key;
        k->rung = r;
        f->kinds_len++;
        return f->kinds[i] = k;
    }
    return NULL;
}

/* --- the guess --- */

static double estimate(const struct forecast_job *j)
{
    double est = (double)j->bytes / FORECAST_BYTES_PER_TOKEN;
    return est > 1 ? est : 1;
}

/* Dearer models think more before they answer, unless told otherwise. */
static double talkative(const struct forecast_job *j)
{
    static const struct {
        const char *word;
        double times;
    } models[] = {{"haiku", 1.0}, {"sonnet", 1.3}, {"opus", 1.5}, {"fable", 1.6}},
      efforts[] = {
          {"low", 0.7}, {"medium", 1.0}, {"high", 1.4}, {"xhigh", 2.0}, {"max", 3.0}};
    const char *id = j->model ? j->model->id : j->model_id ? j->model_id : "";
    const char *effort = j->effort ? j->effort : "";
    double times = 1.3;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (strstr(id, models[i].word))
            times = models[i].times;
    for (size_t i = 0; i < sizeof efforts / sizeof *efforts; i++)
        if (strcmp(effort, efforts[i].word) == 0)
            times *= efforts[i].times;
    return j->asks & ASKS_THINKING ? times * GUESS_THINKING : times;
}

static double guess_out(const struct forecast_job *j)
{
    double cap = j->max_tokens > 0 ? (double)j->max_tokens : 1;
    double out = GUESS_OUT * pow(cap / GUESS_AT, GUESS_POWER) * talkative(j);
    return out < GUESS_MOST * cap ? out : GUESS_MOST * cap;
}

static void guess_in(const struct forecast_job *j, double *low, double *high)
{
    double opaque = j->opaque < j->bytes ? (double)j->opaque : (double)j->bytes;
    double text = (double)j->bytes - opaque;
    *low = text / BYTES_MOST + (double)j->opaque_blocks * BLOCK_LEAST;
    *high = text / BYTES_LEAST + (double)j->opaque_blocks * BLOCK_MOST;
    if (*low < 1)
        *low = 1;
    if (*high < *low)
        *high = *low;
}

/* --- learning and adding --- */

int forecast_learn(struct forecast *f, const struct forecast_job *j,
                   const struct forecast_answer *a)
{
    struct kind *k = kind_of(f, j);
    if (k == NULL)
        return -1;
    const struct usage *u = &a->usage;
    double e = estimate(j), y = (double)u->output;
    double in = (double)u->input + (double)u->cache_read + (double)u->cache_write_5m +
                (double)u->cache_write_1h;
    double dx = e - k->x, dy = y - k->y;
    k->n++;
    k->x += dx / k->n;
    k->y += dy / k->n;
    k->sxx += dx * (e - k->x);
    k->sxy += dx * (y - k->y);
    k->syy += dy * (y - k->y);
    k->guess += guess_out(j);
    if (y > k->most)
        k->most = y;
    k->actual += in;
    k->in_aa += in * in;
    k->in_ae += in * e;
    k->in_ee += e * e;
    k->read += (double)u->cache_read;
    k->write_5m += (double)u->cache_write_5m;
    k->write_1h += (double)u->cache_write_1h;
    if (a->took_ms > 0) {
        k->took += (double)a->took_ms;
        k->took_n++;
    }
    if (in + y > 0) {
        k->paid += (a->paid > 1 ? a->paid : 1) * (in + y);
        k->cost_n += in + y;
    }
    return 0;
}

static struct load *load_of(struct kind *k, int row, int length)
{
    for (struct load *l = k->loads; l; l = l->next)
        if (l->row == row && l->length == length)
            return l;
    struct load *l = calloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    l->row = row;
    l->length = length;
    l->next = k->loads;
    return k->loads = l;
}

static picodollars plus(picodollars a, picodollars b)
{
    return a > INT64_MAX - b ? INT64_MAX : a + b;
}

static picodollars times(picodollars a, int64_t n)
{
    return a > 0 && n > INT64_MAX / a ? INT64_MAX : a * n;
}

int forecast_add(struct forecast *f, const struct forecast_job *j, int row,
                 int64_t count, picodollars worst)
{
    struct kind *k = kind_of(f, j);
    if (k == NULL)
        return -1;
    double n = (double)count, est = estimate(j), low, high;
    double above = k->rung->model ? (double)k->rung->model->long_prompt_above : 0;
    guess_in(j, &low, &high);
    /* Which price its length has, is sure or not by what a token is known to be. */
    double q = k->actual / (k->in_ee > 0 ? k->n * k->x : 1);
    double from = k->n >= FORECAST_MEASURED ? est * q / LEARNED_SPREAD : low;
    double to = k->n >= FORECAST_MEASURED ? est * q * LEARNED_SPREAD : high;
    int length = above == 0 || to <= above ? LENGTH_BASE
                 : from > above            ? LENGTH_LONG
                                           : LENGTH_UNSURE;
    struct load *l = load_of(k, row, length);
    if (l == NULL)
        return -1;
    l->jobs += n;
    l->est += n * est;
    l->guess += n * guess_out(j);
    l->cap += n * (double)(j->max_tokens > 0 ? j->max_tokens : 1);
    l->in_low += n * low;
    l->in_high += n * high;
    l->read += n * est * j->cache.read;
    l->write_5m += n * est * j->cache.write_5m;
    l->write_1h += n * est * j->cache.write_1h;
    l->worst = plus(l->worst, times(worst, count));
    return 0;
}

/* --- ranges --- */

/* Student's quantile beside the normal one (Cornish and Fisher's expansion). */
static double student(double df)
{
    double z = QUANTILE, z3 = z * z * z, z5 = z3 * z * z;
    return z + (z3 + z) / (4 * df) + (5 * z5 + 16 * z3 + 3 * z) / (96 * df * df);
}

/* A factor with its half width as a logarithm: low = at / e^half, high = at * e^half. */
struct factor {
    double at, half, tail; /* tail: what high has above that, as a part of `at` */
};

/* What the loads that are asked for come to. */
struct loads {
    double jobs, est, guess, cap, in_low, in_high;
};

static double square(double x)
{
    return x * x;
}

static double positive(double x)
{
    return x > 0 ? x : 0;
}

/* Tokens of output a job. */
static struct factor output_of(const struct kind *k, const struct loads *l)
{
    double guess = l->guess / l->jobs, n = k->n, x = l->est / l->jobs;
    double cap = l->cap / l->jobs; /* cut answers are asked for again with more */
    if (cap < k->most)
        cap = k->most;
    struct factor out = {.at = guess, .half = log(GUESS_SPREAD)};
    if (n == 0) {
        /* Other kinds of the rung told how the guess errs; half believed if it is one. */
        const struct rung *r = k->rung;
        out.at *= exp(r->log_out / (r->kinds + 1));
    } else if (n < FORECAST_MEASURED) {
        /* Less than a guess is never known: the guess is worth one answer. */
        double mean = (n * k->y + guess) / (n + 1);
        double var = (k->syy + USUAL_WEIGHT * square(USUAL_CV * mean)) /
                     (n - 1 + USUAL_WEIGHT);
        double half = student(n - 1 + USUAL_WEIGHT) *
                      sqrt(var * (1 / n + 1 / l->jobs)) / (mean > 1 ? mean : 1);
        out.at = mean;
        out.half = half < out.half ? half : out.half;
    } else {
        /* A line through what was seen: where jobs of another length wait, it leads
         * there, and the width says how far that is. */
        double slope = k->sxx > 1e-9 * n * square(k->x) ? k->sxy / k->sxx : 0;
        double far = slope != 0 ? square(x - k->x) / k->sxx : 0;
        double mean = k->y + slope * (x - k->x);
        double left = positive(k->syy - slope * k->sxy);
        double df = n - 2;
        mean = mean < k->y / 3 ? k->y / 3 : mean > k->y * 8 ? k->y * 8 : mean;
        double var = (left + USUAL_WEIGHT * square(USUAL_CV * k->y)) /
                     (df + USUAL_WEIGHT);
        double se = sqrt(var * (1 / n + 1 / l->jobs + far)) / (mean > 1 ? mean : 1);
        double beyond = k->most * UNSEEN_TIMES < cap ? k->most * UNSEEN_TIMES : cap;
        out.at = mean;
        out.half = student(df + USUAL_WEIGHT) * sqrt(square(se) + square(DRIFT));
        out.tail = UNSEEN / n * positive(beyond - mean) / (mean > 1 ? mean : 1);
    }
    if (out.at > cap)
        out.at = cap;
    if (out.half > WIDEST)
        out.half = WIDEST;
    return out;
}

/* Tokens of input for each one of the estimate. */
static struct factor input_of(const struct kind *k, const struct loads *l)
{
    double n = k->n, mean = k->x, x = l->est / l->jobs;
    const struct rung *r = k->rung;
    double low = l->in_low / l->est, high = l->in_high / l->est;
    struct factor in = {.at = sqrt(low * high), .half = log(high / low) / 2};
    if (n == 0 || k->actual <= 0) {
        if (r->est > 0) {
            in.at = r->actual / r->est;
            in.half = log(LEARNED_SPREAD);
        }
        return in;
    }
    /* The guess is worth one answer, until there are enough. */
    double prior = n < FORECAST_MEASURED ? 1 : 0;
    double q = (k->actual + prior * in.at * mean) / (n * mean + prior * mean);
    double left = positive(k->in_aa - 2 * q * k->in_ae + q * q * k->in_ee);
    double var = (left + USUAL_WEIGHT * square(USUAL_IN_CV * q * mean)) /
                 (n - 1 + USUAL_WEIGHT);
    double se = sqrt(var * (1 / n + 1 / l->jobs)) / (q * mean);
    /* What goes with every request weighs otherwise on other lengths. */
    double shift = 0.1 * log(x / mean);
    double half = student(n - 1 + USUAL_WEIGHT) * sqrt(square(se) + square(DRIFT)) +
                  fabs(shift);
    if (n < FORECAST_MEASURED && half > in.half)
        half = in.half;
    in.at = q;
    in.half = half < WIDEST ? half : WIDEST;
    return in;
}

/* A sum of parts that err together, and of others that err each for itself. */
struct range {
    double low, likely, high;
    double own_low, own, own_high, own_sq, own_tail_sq;
};

static void range_add(struct range *r, bool measured, double low, double likely,
                      double high, double half, double tail)
{
    if (!measured) {
        r->low += low * exp(-half);
        r->likely += likely;
        r->high += high * exp(half);
        return;
    }
    r->own_low += low;
    r->own += likely;
    r->own_high += high;
    r->own_sq += square(likely * half);
    r->own_tail_sq += square(likely * tail);
}

static void range_end(struct range *r)
{
    if (r->own > 0) {
        double half = sqrt(r->own_sq) / r->own;
        double top = sqrt(r->own_sq + r->own_tail_sq) / r->own;
        r->low += r->own_low * exp(-half);
        r->likely += r->own;
        r->high += r->own_high * exp(top);
    }
}

static int64_t whole(double x)
{
    return x >= 9.2e18 ? INT64_MAX : x > 0 ? (int64_t)llround(x) : 0;
}

struct totals {
    struct range in, uncached, out, usd, cached;
    double cap, busy_low, busy_high;
};

/* What the cache does to a prompt of this kind, seen or expected. */
static struct forecast_cache cache_of(const struct kind *k, const struct load *l)
{
    if (k->actual > 0 && k->n >= FORECAST_MEASURED)
        return (struct forecast_cache){k->read / k->actual, k->write_5m / k->actual,
                                       k->write_1h / k->actual};
    return (struct forecast_cache){l->read / l->est, l->write_5m / l->est,
                                   l->write_1h / l->est};
}

/* Money of an input token with the cache at work. */
static double cached_price(const struct prices *p, const struct forecast_cache *c)
{
    double rest = 1 - c->read - c->write_5m - c->write_1h;
    return (double)p->input * positive(rest) + (double)p->cache_read * c->read +
           (double)p->cache_write_5m * c->write_5m +
           (double)p->cache_write_1h * c->write_1h;
}

/* A kind's money at the lower, the likelier and the higher of its possible prices. */
struct bill {
    double in[3], cached[3], out[3];
};

static void bill_add(struct bill *b, const struct model *m, const struct kind *k,
                     const struct load *l, double q, double out)
{
    static const bool dear[LENGTHS][3] = {
        [LENGTH_UNSURE] = {false, false, true}, [LENGTH_LONG] = {true, true, true}};
    struct forecast_cache c = cache_of(k, l);
    bool likely_long = l->est * q / l->jobs > (double)m->long_prompt_above;
    for (int i = 0; i < 3; i++) {
        bool is_long = dear[l->length][i] ||
                       (l->length == LENGTH_UNSURE && i == 1 && likely_long);
        const struct prices *p = is_long ? &m->long_prompt : &m->base;
        b->in[i] += q * l->est * (double)p->input;
        b->cached[i] += q * l->est * cached_price(p, &c);
        b->out[i] += out * l->jobs * (double)p->output;
    }
}

static void bill_end(const struct bill *b, const double in[3], const struct kind *k,
                     const struct factor *fin, const struct factor *fout, bool measured,
                     struct range *to)
{
    double all = in[1] + b->out[1];
    double again = k->cost_n > 0 ? k->paid / k->cost_n : 1;
    if (all <= 0)
        return;
    if (!measured) { /* both may be wrong in the same way */
        to->low += again * (in[0] * exp(-fin->half) + b->out[0] * exp(-fout->half));
        to->likely += again * all;
        to->high += again * (in[2] * exp(fin->half) + b->out[2] * exp(fout->half));
        return;
    }
    double half = sqrt(square(in[1] * fin->half) + square(b->out[1] * fout->half)) /
                  all;
    range_add(to, true, again * (in[0] + b->out[0]), again * all,
              again * (in[2] + b->out[2]), half, b->out[1] * fout->tail / all);
}

static void busy_add(struct totals *t, const struct kind *k, const struct loads *l,
                     const struct factor *out)
{
    if (k->took_n >= FORECAST_MEASURED) {
        t->busy_low += l->jobs * k->took / k->took_n / 1.3;
        t->busy_high += l->jobs * k->took / k->took_n * 1.3;
        return;
    }
    /* From half a second and 150 tokens a second, to three and 40. */
    t->busy_low += l->jobs * (500 + out->at * exp(-out->half) * 1000 / 150);
    t->busy_high += l->jobs * (3000 + out->at * exp(out->half) * 1000 / 40);
}

static void kind_add(const struct kind *k, forecast_take_fn *take, void *arg,
                     struct totals *t, struct forecast_sum *ret)
{
    struct loads all = {0};
    struct bill bill = {{0}, {0}, {0}};
    double uncached = 0;
    for (const struct load *l = k->loads; l; l = l->next) {
        if (take && !take(arg, l->row))
            continue;
        all.jobs += l->jobs;
        all.est += l->est;
        all.guess += l->guess;
        all.cap += l->cap;
        all.in_low += l->in_low;
        all.in_high += l->in_high;
        ret->worst = plus(ret->worst, l->worst);
    }
    if (all.jobs <= 0)
        return;
    struct factor in = input_of(k, &all), out = output_of(k, &all);
    const struct model *m = k->rung->model;
    bool priced = m && m->priced, measured = k->n >= FORECAST_MEASURED;
    for (const struct load *l = k->loads; l; l = l->next) {
        if (take && !take(arg, l->row))
            continue;
        uncached += in.at * l->est * (1 - cache_of(k, l).read);
        if (priced)
            bill_add(&bill, m, k, l, in.at, out.at);
    }
    ret->jobs += whole(all.jobs);
    ret->answers += whole(k->n);
    if (measured)
        ret->measured += whole(all.jobs);
    if (priced) {
        bill_end(&bill, bill.in, k, &in, &out, measured, &t->usd);
        bill_end(&bill, bill.cached, k, &in, &out, measured, &t->cached);
    } else {
        ret->unpriced += whole(all.jobs);
    }
    double tokens = in.at * all.est, written = out.at * all.jobs;
    range_add(&t->in, measured, tokens, tokens, tokens, in.half, 0);
    range_add(&t->uncached, measured, uncached, uncached, uncached, in.half, 0);
    range_add(&t->out, measured, written, written, written, out.half, out.tail);
    t->cap += all.cap > k->most * all.jobs ? all.cap : k->most * all.jobs;
    busy_add(t, k, &all, &out);
}

/* How the guess was wrong where there are answers: for the rung's other kinds. */
static void look_at_rungs(struct forecast *f)
{
    for (size_t i = 0; i < f->rungs_len; i++)
        f->rungs[i]->kinds = f->rungs[i]->log_out = f->rungs[i]->est =
            f->rungs[i]->actual = 0;
    for (size_t i = 0; i < SLOTS; i++) {
        const struct kind *k = f->kinds[i];
        if (k == NULL || k->n < FORECAST_MEASURED || k->y < 1 || k->actual <= 0)
            continue;
        k->rung->kinds++;
        k->rung->log_out += log(k->n * k->y / k->guess);
        k->rung->est += k->n * k->x;
        k->rung->actual += k->actual;
    }
}

static struct forecast_tokens tokens_of(struct range *r)
{
    range_end(r);
    return (struct forecast_tokens){whole(r->low), whole(r->likely), whole(r->high)};
}

static struct forecast_usd usd_of(struct range *r)
{
    range_end(r);
    return (struct forecast_usd){whole(r->low), whole(r->likely), whole(r->high)};
}

void forecast_sum(struct forecast *f, forecast_take_fn *take, void *arg,
                  struct forecast_sum *ret)
{
    struct totals t = {0};
    *ret = (struct forecast_sum){0};
    look_at_rungs(f);
    for (size_t i = 0; i < SLOTS; i++)
        if (f->kinds[i])
            kind_add(f->kinds[i], take, arg, &t, ret);
    ret->in = tokens_of(&t.in);
    ret->uncached = tokens_of(&t.uncached);
    ret->out = tokens_of(&t.out);
    if (ret->out.high > whole(t.cap))
        ret->out.high = whole(t.cap);
    ret->usd = usd_of(&t.usd);
    ret->cached = usd_of(&t.cached);
    ret->busy_low = whole(t.busy_low);
    ret->busy_high = whole(t.busy_high);
}

/* --- time --- */

/* ms that `need` takes at `limit` a minute. A full bucket holds up to a minute's worth,
 * so the luckiest start has that at once. */
static void by_limit(double low, double high, int64_t limit, enum forecast_bound what,
                     struct forecast_time *t)
{
    if (limit <= 0)
        return;
    double first = positive(low / (double)limit - 1) * 60000;
    double last = high / (double)limit * 60000;
    t->limits_known = true;
    if (whole(first) > t->low_ms)
        t->low_ms = whole(first);
    if (whole(last) > t->high_ms) {
        t->high_ms = whole(last);
        t->bound = what;
    }
}

struct forecast_time forecast_time(const struct forecast_sum *s,
                                   const struct forecast_limits *l)
{
    struct forecast_time t = {.bound = FORECAST_BY_WINDOW};
    double jobs = (double)s->jobs, window = l->window > 0 ? (double)l->window : 1;
    if (s->jobs == 0)
        return t;
    double wide = window < jobs ? window : jobs; /* in flight at once */
    t.low_ms = whole((double)s->busy_low / wide);
    /* The window opens step by step, and the last answer is awaited whole. */
    t.high_ms = whole((double)s->busy_high / wide + 8 * (double)s->busy_high / jobs +
                      jobs);
    by_limit(jobs, jobs, l->rpm, FORECAST_BY_REQUESTS, &t);
    by_limit((double)s->uncached.low, (double)s->uncached.high, l->itpm,
             FORECAST_BY_INPUT, &t);
    by_limit((double)s->out.low, (double)s->out.high, l->otpm, FORECAST_BY_OUTPUT, &t);
    t.high_ms = whole((double)t.high_ms * 1.1 + 2000);
    return t;
}
