#include "runner/learn.h"

#include "runner/err.h"
#include "runner/gist.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of the heads: how far one step goes, and the pull to zero. */
static const float RATE = 0.2f, PULL = 3;
/* Of the calibration behind them. */
static const double STACK_RATE = 0.1;

/* Its pull towards the head as it is. A thousand rows do not tell its slopes: a free fit
 * costs .012 APGR there against no calibration, this half of that; on thousands the pull
 * costs nothing. */
static const double STACK_PULL = 100;
/* Log odds beyond this bend no further: few rows are there to tell how. */
static const double BEND_MAX = 3;

enum { STACK = 4, STACK_STEPS = 40, CELLS_FIRST = 64 };

/* What a weight is made of. The weights themselves are kept apart, close together, since
 * decisions want those fast and nothing else. */
struct sums {
    float pushed, squares;
};

struct cell {
    uint64_t key; /* 0: a free place */
    double tried[LEARN_RUNGS], right[LEARN_RUNGS];
};

/* P = logistic(by[0] * own head's log odds + by[1] * the other heads' mean + by[2]
 *              + by[3] * own head's log odds, squared).
 * The others help since a job that is hard for one rung is hard for the next; the square
 * since a head is less to be believed on one side than on the other (+.003 APGR). */
struct stack {
    double by[STACK], squares[STACK];
};

struct judge {
    double n, table, model; /* sums of -ln P, older ones fading */
};

struct learn {
    int rungs;
    struct cell all;
    struct cell *cells; /* a hash table; size is a power of two */
    size_t cells_size, cells_len;
    float *weights;    /* GIST_SLOTS x rungs */
    struct sums *sums; /* of each weight */
    struct stack stacks[LEARN_RUNGS];
    struct judge judge;
    struct gist *gist;
};

/* --- numbers --- */

static uint64_t mix(uint64_t h)
{
    h ^= h >> 32;
    h *= UINT64_C(0xd6e8feb86659fd93);
    h ^= h >> 32;
    h *= UINT64_C(0xd6e8feb86659fd93);
    return h ^ h >> 32;
}

static uint64_t hash_bytes(uint64_t h, const void *bytes, size_t len)
{
    for (const unsigned char *p = bytes; len > 0; len--)
        h = (h ^ *p++) * UINT64_C(1099511628211);
    return h;
}

static double logistic(double z)
{
    return 1 / (1 + exp(-z));
}

/* Never so sure that one surprise costs without bound. */
static double clip(double p)
{
    return p < 0.001 ? 0.001 : p > 0.999 ? 0.999 : p;
}

static double surprise(double p, bool right)
{
    return -log(right ? clip(p) : 1 - clip(p));
}

uint64_t learn_group(const char *name)
{
    if (name == NULL || *name == '\0')
        return 0;
    uint64_t h = mix(hash_bytes(UINT64_C(1469598103934665603), name, strlen(name)));
    return h ? h : 1;
}

/* --- the table --- */

static uint64_t cohort_key(uint64_t group, int cohort)
{
    uint64_t h = mix(group ^ ((uint64_t)cohort + 1) * UINT64_C(0x9e3779b97f4a7c15));
    return h ? h : 1;
}

static struct cell *find_cell(struct cell *cells, size_t size, uint64_t key)
{
    size_t i = mix(key) & (size - 1);
    while (cells[i].key && cells[i].key != key)
        i = (i + 1) & (size - 1);
    return &cells[i];
}

static bool grow_cells(struct learn *l)
{
    size_t size = l->cells_size ? l->cells_size * 2 : CELLS_FIRST;
    struct cell *cells = calloc(size, sizeof *cells);
    if (cells == NULL)
        return false;
    for (size_t i = 0; i < l->cells_size; i++)
        if (l->cells[i].key)
            *find_cell(cells, size, l->cells[i].key) = l->cells[i];
    free(l->cells);
    l->cells = cells;
    l->cells_size = size;
    return true;
}

/* NULL: never seen, and where it was to be made, there is no room: its parent then
 * speaks for it. */
static struct cell *cell_of(struct learn *l, uint64_t key, bool make)
{
    struct cell *c;
    if (l->cells_size > 0) {
        c = find_cell(l->cells, l->cells_size, key);
        if (c->key)
            return c;
    }
    if (!make || l->cells_len >= LEARN_CELLS_MAX ||
        ((l->cells_len + 1) * 4 > l->cells_size * 3 && !grow_cells(l)))
        return NULL;
    c = find_cell(l->cells, l->cells_size, key);
    c->key = key;
    l->cells_len++;
    return c;
}

static double lean(const struct cell *c, int rung, double parent)
{
    return c == NULL
               ? parent
               : (c->right[rung] + LEARN_MASS * parent) / (c->tried[rung] + LEARN_MASS);
}

static void count(struct cell *c, int rung, bool right)
{
    if (c) {
        c->tried[rung]++;
        c->right[rung] += right;
    }
}

static void table_learn(struct learn *l, uint64_t group, int rung, bool right)
{
    count(&l->all, rung, right);
    count(group ? cell_of(l, group, true) : NULL, rung, right);
    count(cell_of(l, cohort_key(group, gist_cohort(l->gist)), true), rung, right);
}

static void table_view(struct learn *l, uint64_t group, struct learn_view *ret)
{
    const struct cell *g = group ? cell_of(l, group, false) : NULL;
    const struct cell *c = cell_of(l, cohort_key(group, gist_cohort(l->gist)), false);
    for (int r = 0; r < l->rungs; r++) {
        double p = (l->all.right[r] + 1) / (l->all.tried[r] + 2);
        ret->table[r] = lean(c, r, lean(g, r, p));
        ret->seen[r] = g ? g->tried[r] : group ? 0 : l->all.tried[r];
        ret->all += l->all.tried[r];
    }
}

/* --- the model --- */

static float weight_of(const struct sums *s)
{
    return -s->pushed / ((1 + sqrtf(s->squares)) / RATE + PULL);
}

static inline void add_up(const float *weights, const struct gist_feature *f,
                          size_t len, size_t rungs, double *ret)
{
    float sum[LEARN_RUNGS] = {0};
    for (size_t i = 0; i < len; i++) {
        const float *w = &weights[f[i].slot * rungs];
        for (size_t r = 0; r < rungs; r++)
            sum[r] += w[r] * f[i].value;
    }
    for (size_t r = 0; r < rungs; r++)
        ret[r] = (double)sum[r];
}

/* The heads' log odds for what the gist holds. */
static void heads_view(const struct learn *l, double *ret)
{
    size_t len, rungs = (size_t)l->rungs;
    const struct gist_feature *f = gist_features(l->gist, &len);
    if (rungs == 2) /* most queues; compiled without the inner loop */
        add_up(l->weights, f, len, 2, ret);
    else
        add_up(l->weights, f, len, rungs, ret);
}

static void head_learn(struct learn *l, int rung, double odds, bool right)
{
    size_t len;
    const struct gist_feature *f = gist_features(l->gist, &len);
    float wrong_by = (float)(logistic(odds) - right);
    for (size_t i = 0; i < len; i++) {
        size_t at = f[i].slot * (size_t)l->rungs + (size_t)rung;
        struct sums *s = &l->sums[at];
        float push = wrong_by * f[i].value, squares = s->squares + push * push;
        s->pushed += push -
                     (sqrtf(squares) - sqrtf(s->squares)) / RATE * l->weights[at];
        s->squares = squares;
        l->weights[at] = weight_of(s);
    }
}

static void stack_input(const double *odds, int rungs, int rung, double *ret)
{
    double others = 0;
    for (int r = 0; r < rungs; r++)
        others += r == rung ? 0 : odds[r] / (rungs - 1);
    ret[0] = odds[rung];
    ret[1] = others;
    ret[2] = 1;
    ret[3] = fmin(odds[rung] * odds[rung], BEND_MAX * BEND_MAX);
}

/* What the model expects of a rung. */
static double model_view(const struct learn *l, const double *odds, int rung)
{
    double x[STACK], sum = 0;
    stack_input(odds, l->rungs, rung, x);
    for (int i = 0; i < STACK; i++)
        sum += l->stacks[rung].by[i] * x[i];
    return clip(logistic(sum));
}

static void stack_learn(struct learn *l, const double *odds, int rung, bool right)
{
    struct stack *s = &l->stacks[rung];
    double x[STACK], wrong_by = model_view(l, odds, rung) - right;
    stack_input(odds, l->rungs, rung, x);
    for (int i = 0; i < STACK; i++) {
        double push = wrong_by * x[i];
        s->squares[i] += push * push;
        s->by[i] -= STACK_RATE * push / sqrt(1 + s->squares[i]);
    }
}

static void judge_learn(struct judge *j, double table, double model, bool right)
{
    double keep = j->n < LEARN_WINDOW ? 1 : 1 - 1.0 / LEARN_WINDOW;
    j->n = j->n * keep + 1;
    j->table = j->table * keep + surprise(table, right);
    j->model = j->model * keep + surprise(model, right);
}

static double outcomes(const struct learn *l)
{
    double n = 0;
    for (int r = 0; r < l->rungs; r++)
        n += l->all.tried[r];
    return n;
}

static bool model_in_force(const struct learn *l)
{
    return l->judge.n >= LEARN_MODEL_MIN && l->judge.model < l->judge.table;
}

/* --- together --- */

static void forget(struct learn *l)
{
    free(l->cells);
    l->cells = NULL;
    l->cells_size = l->cells_len = 0;
    l->all = (struct cell){0};
    l->judge = (struct judge){0};
    for (int r = 0; r < LEARN_RUNGS; r++)
        l->stacks[r] = (struct stack){.by = {1, 0, 0, 0}};
    memset(l->weights, 0, sizeof *l->weights * GIST_SLOTS * (size_t)l->rungs);
    memset(l->sums, 0, sizeof *l->sums * GIST_SLOTS * (size_t)l->rungs);
}

struct learn *learn_new(int rungs, struct err *e)
{
    if (rungs < 1 || rungs > LEARN_RUNGS) {
        err_set(e, ERR_INPUT, "learning is for 1 to %d rungs, not %d", LEARN_RUNGS,
                rungs);
        return NULL;
    }
    struct learn *l = calloc(1, sizeof *l);
    if (l == NULL)
        goto no_memory;
    l->rungs = rungs;
    l->weights = calloc(GIST_SLOTS * (size_t)rungs, sizeof *l->weights);
    l->sums = calloc(GIST_SLOTS * (size_t)rungs, sizeof *l->sums);
    l->gist = gist_new();
    if (l->weights == NULL || l->sums == NULL || l->gist == NULL)
        goto no_memory;
    forget(l);
    return l;

no_memory:
    learn_free(l);
    err_set(e, ERR_NOMEM, "no memory to learn in");
    return NULL;
}

void learn_free(struct learn *l)
{
    if (l == NULL)
        return;
    free(l->cells);
    free(l->weights);
    free(l->sums);
    gist_free(l->gist);
    free(l);
}

static void read_job(struct learn *l, const struct learn_job *job)
{
    gist_read(l->gist, job->prompt, job->len, job->group);
}

/* Pool neighbours that are out of order into their mean. */
static void rise(const double *plain, int n, double *ret)
{
    double sum[LEARN_RUNGS];
    int size[LEARN_RUNGS], blocks = 0;
    for (int i = 0; i < n; i++) {
        sum[blocks] = plain[i];
        size[blocks++] = 1;
        while (blocks > 1 && sum[blocks - 2] * size[blocks - 1] >
                                 sum[blocks - 1] * size[blocks - 2]) {
            sum[blocks - 2] += sum[blocks - 1];
            size[blocks - 2] += size[blocks - 1];
            blocks--;
        }
    }
    for (int b = 0, i = 0; b < blocks; b++)
        for (int k = 0; k < size[b]; k++)
            ret[i++] = sum[b] / size[b];
}

void learn_predict(struct learn *l, const struct learn_job *job, struct learn_view *ret)
{
    double odds[LEARN_RUNGS];
    *ret = (struct learn_view){.rungs = l->rungs};
    read_job(l, job);
    table_view(l, job->group, ret);
    ret->source = ret->all < LEARN_TABLE_MIN ? LEARN_NOTHING
                  : model_in_force(l)        ? LEARN_MODEL
                                             : LEARN_TABLE;
    memcpy(ret->plain, ret->table, sizeof ret->plain);
    if (ret->source == LEARN_MODEL) {
        heads_view(l, odds);
        for (int r = 0; r < l->rungs; r++)
            ret->plain[r] = model_view(l, odds, r);
    }
    rise(ret->plain, l->rungs, ret->p);
}

void learn_outcome(struct learn *l, const struct learn_job *job, int rung, bool right)
{
    double odds[LEARN_RUNGS];
    struct learn_view v = {0};
    read_job(l, job);
    table_view(l, job->group, &v);
    heads_view(l, odds);
    judge_learn(&l->judge, v.table[rung], model_view(l, odds, rung), right);
    stack_learn(l, odds, rung, right);
    head_learn(l, rung, odds[rung], right);
    table_learn(l, job->group, rung, right);
}

/* --- many rows --- */

struct expected {
    double odds[LEARN_RUNGS], table[LEARN_RUNGS];
};

/* SplitMix64 */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void shuffle(size_t *order, size_t len, uint64_t *random)
{
    for (size_t i = len; i > 1; i--) {
        size_t k = next_random(random) % i, t = order[i - 1];
        order[i - 1] = order[k];
        order[k] = t;
    }
}

/* Heads and table, from those of `order` that are not in part `without` (-1: all). */
static void train_part(struct learn *l, const struct learn_row *rows, size_t *order,
                       size_t len, const uint8_t *part, int without, uint64_t *random)
{
    double odds[LEARN_RUNGS];
    forget(l);
    for (int epoch = 0; epoch < LEARN_EPOCHS; epoch++) {
        shuffle(order, len, random);
        for (size_t i = 0; i < len; i++) {
            const struct learn_row *row = &rows[order[i]];
            if (part[order[i]] == without)
                continue;
            read_job(l, &row->job);
            heads_view(l, odds);
            for (int r = 0; r < l->rungs; r++) {
                if (row->right[r] < 0)
                    continue;
                head_learn(l, r, odds[r], row->right[r]);
                if (epoch == 0)
                    table_learn(l, row->job.group, r, row->right[r]);
            }
        }
    }
}

static void expect(struct learn *l, const struct learn_job *job, struct expected *ret)
{
    struct learn_view v = {0};
    read_job(l, job);
    table_view(l, job->group, &v);
    heads_view(l, ret->odds);
    memcpy(ret->table, v.table, sizeof ret->table);
}

/* Solves a * x = b, a symmetric and positive, x in place of b. */
static void solve(double a[STACK][STACK], double *b)
{
    for (int i = 0; i < STACK; i++)
        for (int j = i + 1; j < STACK; j++) {
            double times = a[j][i] / a[i][i];
            for (int k = i; k < STACK; k++)
                a[j][k] -= times * a[i][k];
            b[j] -= times * b[i];
        }
    for (int i = STACK - 1; i >= 0; i--) {
        for (int k = i + 1; k < STACK; k++)
            b[i] -= a[i][k] * b[k];
        b[i] /= a[i][i];
    }
}

/* One step towards the likeliest calibration of a rung: Newton's method, but with 1/4, the
 * most that p (1 - p) can be, in its place, so that each step goes downhill however sure
 * the heads were (Boehning's bound). The squares of what pushed are kept, as if the rows
 * had come one after the other: later outcomes then move it little. */
static void stack_step(struct learn *l, const struct learn_row *rows, size_t len,
                       const struct expected *x, int rung)
{
    struct stack *s = &l->stacks[rung];
    double slope[STACK], bend[STACK][STACK] = {{0}}, in[STACK];
    for (int i = 0; i < STACK; i++) {
        slope[i] = STACK_PULL * (s->by[i] - (i == 0));
        bend[i][i] = STACK_PULL;
        s->squares[i] = 0;
    }
    for (size_t n = 0; n < len; n++) {
        if (rows[n].right[rung] < 0)
            continue;
        double wrong_by = model_view(l, x[n].odds, rung) - rows[n].right[rung];
        stack_input(x[n].odds, l->rungs, rung, in);
        for (int i = 0; i < STACK; i++) {
            double push = wrong_by * in[i];
            slope[i] += push;
            s->squares[i] += push * push;
            for (int k = 0; k < STACK; k++)
                bend[i][k] += in[i] * in[k] / 4;
        }
    }
    solve(bend, slope);
    for (int i = 0; i < STACK; i++)
        s->by[i] -= slope[i];
}

/* What was expected of rows that were left out teaches the calibration, and then tells
 * which of the two predicts better. */
static void compare(struct learn *l, const struct learn_row *rows, size_t *order,
                    size_t len, const struct expected *x, uint64_t *random)
{
    for (int r = 0; r < l->rungs; r++)
        for (int step = 0; step < STACK_STEPS; step++)
            stack_step(l, rows, len, x, r);
    shuffle(order, len, random);
    for (size_t i = 0; i < len; i++)
        for (int r = 0; r < l->rungs; r++) {
            const struct expected *k = &x[order[i]];
            int right = rows[order[i]].right[r];
            if (right >= 0)
                judge_learn(&l->judge, k->table[r], model_view(l, k->odds, r), right);
        }
}

int learn_train(struct learn *l, const struct learn_row *rows, size_t len,
                uint64_t seed, struct err *e)
{
    size_t *order = calloc(len + 1, sizeof *order);
    uint8_t *part = calloc(len + 1, sizeof *part);
    struct expected *x = calloc(len + 1, sizeof *x);
    uint64_t random = seed;
    int rc = -1;
    if (order == NULL || part == NULL || x == NULL) {
        err_set(e, ERR_NOMEM, "no memory to learn from %zu rows", len);
        goto out;
    }
    for (size_t i = 0; i < len; i++)
        order[i] = i;
    shuffle(order, len, &random);
    for (size_t i = 0; i < len; i++)
        part[order[i]] = (uint8_t)(i % LEARN_FOLDS);
    for (int k = 0; k < LEARN_FOLDS; k++) {
        train_part(l, rows, order, len, part, k, &random);
        for (size_t i = 0; i < len; i++)
            if (part[i] == k)
                expect(l, &rows[i].job, &x[i]);
    }
    train_part(l, rows, order, len, part, -1, &random);
    compare(l, rows, order, len, x, &random);
    rc = 0;

out:
    free(order);
    free(part);
    free(x);
    return rc;
}

/* --- decisions --- */

static int cheapest_good(const struct learn_view *v, double tau)
{
    int best = 0;
    for (int r = 0; r < v->rungs; r++) {
        if (v->p[r] >= tau)
            return r;
        if (v->p[r] > v->p[best])
            best = r;
    }
    return best;
}

/* From the top down, which is never left out: there is nowhere to climb from it. */
static unsigned worth_trying(const struct learn_view *v, const double *price)
{
    int next = v->rungs - 1;
    unsigned ladder = 1u << next;
    for (int r = next - 1; r >= 0; r--)
        if (v->p[r] * price[next] > price[r]) {
            ladder |= 1u << r;
            next = r;
        }
    return ladder;
}

void learn_decide(const struct learn_view *v, const struct learn_rule *rule,
                  struct learn_choice *ret)
{
    *ret = (struct learn_choice){.rung = -1};
    if (v->source != LEARN_NOTHING) {
        ret->rung = cheapest_good(v, rule->tau > 0 ? rule->tau : 0.75);
        if (rule->checked) {
            ret->ladder = worth_trying(v, rule->price);
            for (ret->rung = 0; !(ret->ladder >> ret->rung & 1); ret->rung++)
                ;
        }
        double draw = (double)(rule->random >> 11) / (double)(UINT64_C(1) << 53);
        if (v->rungs > 1 && draw < rule->explore) {
            bool up = ret->rung == 0 || (ret->rung < v->rungs - 1 && rule->random & 1);
            ret->rung += up ? 1 : -1;
            ret->explored = true;
        }
    }
}

const char *learn_say(const struct learn_view *v, const struct learn_choice *c,
                      const char *rung_name, char *buf, size_t size)
{
    if (c->rung < 0) {
        snprintf(buf, size, "nothing learned yet (%.0f of %d outcomes)", v->all,
                 LEARN_TABLE_MIN);
        return buf;
    }
    double p = 100 * v->p[c->rung], seen = v->seen[c->rung];
    const char *how = c->explored ? "tried to learn" : "learned";
    if (v->source == LEARN_MODEL)
        snprintf(buf, size,
                 "%s: %.0f %% right on %s expected, by the prompt's words "
                 "(%.0f outcomes)",
                 how, p, rung_name, v->all);
    else
        snprintf(buf, size,
                 "%s: %.0f %% right on %s expected, by the table (%.0f "
                 "outcomes of its group there, %.0f in all)",
                 how, p, rung_name, seen, v->all);
    return buf;
}

void learn_standing(const struct learn *l, struct learn_standing *ret)
{
    double n = l->judge.n > 0 ? l->judge.n : 1;
    *ret = (struct learn_standing){.outcomes = outcomes(l),
                                   .compared = l->judge.n,
                                   .table_loss = l->judge.table / n,
                                   .model_loss = l->judge.model / n,
                                   .model_in_force = model_in_force(l)};
}

/* --- as a blob --- */

enum { BLOB_VERSION = 2, HEADER = 48, BITS = 8 };
static const char magic[8] = "nmlearn";

/* Counts always, writes while there is room. */
struct writer {
    unsigned char *to;
    size_t len, size;
};

static void put_uint(struct writer *w, uint64_t v, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++, w->len++)
        if (w->len < w->size)
            w->to[w->len] = (unsigned char)(v >> BITS * i);
}

static void put_double(struct writer *w, double v)
{
    uint64_t u;
    memcpy(&u, &v, sizeof u);
    put_uint(w, u, sizeof u);
}

static void put_float(struct writer *w, float v)
{
    uint32_t u;
    memcpy(&u, &v, sizeof u);
    put_uint(w, u, sizeof u);
}

struct reader {
    const unsigned char *at, *end;
    bool failed;
};

static uint64_t get_uint(struct reader *r, size_t bytes)
{
    uint64_t v = 0;
    if ((size_t)(r->end - r->at) < bytes) {
        r->failed = true;
        return 0;
    }
    for (size_t i = 0; i < bytes; i++)
        v |= (uint64_t)*r->at++ << BITS * i;
    return v;
}

/* A number that cannot have come about by learning fails the blob. */
static double get_double(struct reader *r, double low, double high)
{
    uint64_t u = get_uint(r, sizeof u);
    double v;
    memcpy(&v, &u, sizeof v);
    if (!(v >= low && v <= high)) {
        r->failed = true;
        return 0;
    }
    return v;
}

static float get_float(struct reader *r, float low, float high)
{
    uint32_t u = (uint32_t)get_uint(r, sizeof u);
    float v;
    memcpy(&v, &u, sizeof v);
    if (!(v >= low && v <= high)) {
        r->failed = true;
        return 0;
    }
    return v;
}

static void put_cell(struct writer *w, const struct cell *c, int rungs)
{
    put_uint(w, c->key, sizeof c->key);
    for (int r = 0; r < rungs; r++) {
        put_double(w, c->tried[r]);
        put_double(w, c->right[r]);
    }
}

static void get_cell(struct reader *in, struct cell *ret, int rungs)
{
    *ret = (struct cell){.key = get_uint(in, sizeof ret->key)};
    for (int r = 0; r < rungs; r++) {
        ret->tried[r] = get_double(in, 0, 1e15);
        ret->right[r] = get_double(in, 0, ret->tried[r]);
    }
}

static bool touched(const struct learn *l, size_t slot)
{
    for (size_t r = 0; r < (size_t)l->rungs; r++)
        if (l->sums[slot * (size_t)l->rungs + r].squares > 0)
            return true;
    return false;
}

static void put_weights(struct writer *w, const struct learn *l)
{
    size_t rungs = (size_t)l->rungs;
    for (size_t slot = 0; slot < GIST_SLOTS; slot += BITS) {
        unsigned bits = 0;
        for (size_t i = 0; i < BITS; i++)
            bits |= (unsigned)touched(l, slot + i) << i;
        put_uint(w, bits, 1);
    }
    for (size_t slot = 0; slot < GIST_SLOTS; slot++)
        for (size_t r = 0; r < rungs && touched(l, slot); r++) {
            put_float(w, l->sums[slot * rungs + r].pushed);
            put_float(w, l->sums[slot * rungs + r].squares);
        }
}

static void get_weights(struct reader *in, struct learn *l)
{
    size_t rungs = (size_t)l->rungs;
    const unsigned char *bits = in->at;
    if ((size_t)(in->end - in->at) < GIST_SLOTS / BITS) {
        in->failed = true;
        return;
    }
    in->at += GIST_SLOTS / BITS;
    for (size_t slot = 0; slot < GIST_SLOTS && !in->failed; slot++)
        for (size_t r = 0; r < rungs && bits[slot / BITS] >> slot % BITS & 1; r++) {
            struct sums *s = &l->sums[slot * rungs + r];
            s->pushed = get_float(in, -1e12f, 1e12f);
            s->squares = get_float(in, 0, 1e12f);
            l->weights[slot * rungs + r] = weight_of(s);
        }
}

static void put_header(struct writer *w, const struct learn *l, uint64_t body)
{
    for (size_t i = 0; i < sizeof magic; i++)
        put_uint(w, (unsigned char)magic[i], 1);
    put_uint(w, BLOB_VERSION, 4);
    put_uint(w, GIST_VERSION, 4);
    put_uint(w, GIST_SLOTS, 4);
    put_uint(w, (uint64_t)l->rungs, 4);
    put_uint(w, l->cells_len, 8);
    put_uint(w, body, 8);
}

size_t learn_save(const struct learn *l, void *buf, size_t size)
{
    struct writer w = {.to = buf, .len = HEADER, .size = size};
    put_cell(&w, &l->all, l->rungs);
    put_double(&w, l->judge.n);
    put_double(&w, l->judge.table);
    put_double(&w, l->judge.model);
    for (int r = 0; r < l->rungs; r++)
        for (int i = 0; i < STACK; i++) {
            put_double(&w, l->stacks[r].by[i]);
            put_double(&w, l->stacks[r].squares[i]);
        }
    for (size_t i = 0; i < l->cells_size; i++)
        if (l->cells[i].key)
            put_cell(&w, &l->cells[i], l->rungs);
    put_weights(&w, l);
    if (w.len <= size) {
        struct writer head = {.to = buf, .size = HEADER};
        put_header(&head, l, w.len - HEADER);
        uint64_t sum = hash_bytes(UINT64_C(1469598103934665603), buf, head.len);
        put_uint(&head, hash_bytes(sum, w.to + HEADER, w.len - HEADER), 8);
    }
    return w.len;
}

static void get_body(struct reader *in, struct learn *l, uint64_t cells)
{
    struct cell c;
    get_cell(in, &l->all, l->rungs);
    l->judge.n = get_double(in, 0, 1e15);
    l->judge.table = get_double(in, 0, 1e16);
    l->judge.model = get_double(in, 0, 1e16);
    for (int r = 0; r < l->rungs; r++)
        for (int i = 0; i < STACK; i++) {
            l->stacks[r].by[i] = get_double(in, -1e6, 1e6);
            l->stacks[r].squares[i] = get_double(in, 0, 1e15);
        }
    for (uint64_t i = 0; i < cells && !in->failed; i++) {
        get_cell(in, &c, l->rungs);
        size_t before = l->cells_len;
        struct cell *at = c.key ? cell_of(l, c.key, true) : NULL;
        if (at == NULL || l->cells_len == before)
            in->failed = true;
        else
            *at = c;
    }
    get_weights(in, l);
    in->failed |= in->at != in->end;
}

struct learn *learn_load(const void *blob, size_t len, struct err *e)
{
    const unsigned char *p = blob;
    struct reader in = {.at = p, .end = p + len};
    struct learn *l = NULL;
    if (len < HEADER || memcmp(p, magic, sizeof magic) != 0)
        goto garbage;
    in.at += sizeof magic;
    uint64_t version = get_uint(&in, 4), gist = get_uint(&in, 4),
             slots = get_uint(&in, 4);
    uint64_t rungs = get_uint(&in, 4), cells = get_uint(&in, 8),
             body = get_uint(&in, 8);
    if (version != BLOB_VERSION || gist != GIST_VERSION || slots != GIST_SLOTS) {
        err_set(e, ERR_STORE, "what was learned is of another version");
        return NULL;
    }
    uint64_t sum = hash_bytes(UINT64_C(1469598103934665603), p, HEADER - 8);
    sum = hash_bytes(sum, p + HEADER, len - HEADER);
    if (get_uint(&in, 8) != sum || body != len - HEADER || rungs < 1 ||
        rungs > LEARN_RUNGS || cells > LEARN_CELLS_MAX)
        goto garbage;
    if ((l = learn_new((int)rungs, e)) == NULL)
        return NULL;
    get_body(&in, l, cells);
    if (!in.failed)
        return l;

garbage:
    learn_free(l);
    err_set(e, ERR_STORE, "what was learned is damaged");
    return NULL;
}
