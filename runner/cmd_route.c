#include "runner/cmd.h"

#include "jobs/textbuf.h"
#include "runner/csv.h"
#include "runner/curve.h"
#include "runner/err.h"
#include "runner/learn.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/*
 * How well learning would route: jobs whose outcome is known on a weak and a strong rung
 * are scored by a router that has not seen them, which is what `route = learn` does with
 * a queue's jobs. Nothing is sent and nothing is kept.
 */
enum {
    RUNGS = 2,
    ROWS_MAX = 10 * 1000 * 1000,
    REPEATS = 7, /* of the timing */
};

#define FILE_BYTES_MAX (INT64_C(1) << 30)

struct table {
    char *bytes;
    struct learn_row *rows;
    size_t len, size, groups;
    double right[RUNGS]; /* share */
};

static int read_file(const char *path, char **bytes, size_t *len, struct err *e)
{
    FILE *f = fopen(path, "rb");
    int rc = -1;
    *bytes = NULL;
    if (f == NULL)
        return err_set(e, ERR_INPUT, "%s: cannot be opened: %s", path, strerror(errno));
    if (fseek(f, 0, SEEK_END) < 0 || (*len = (size_t)ftell(f)) == (size_t)-1)
        err_set(e, ERR_INPUT, "%s: want a regular file", path);
    else if (*len > FILE_BYTES_MAX)
        err_set(e, ERR_INPUT, "%s: more than 1 GiB", path);
    else if ((*bytes = malloc(*len + 1)) == NULL)
        err_set(e, ERR_NOMEM, "%s: no memory for it", path);
    else if (fseek(f, 0, SEEK_SET) < 0 || fread(*bytes, 1, *len, f) != *len)
        err_set(e, ERR_INPUT, "%s: cannot be read: %s", path, strerror(errno));
    else
        rc = 0;
    fclose(f);
    return rc;
}

enum column { GROUP, PROMPT, WEAK_OK, STRONG_OK, COLUMNS };
static const char *const columns[COLUMNS] = {"group", "prompt", "weak_ok", "strong_ok"};

static int find_columns(const struct csv *c, int *at, struct err *e)
{
    for (int k = 0; k < COLUMNS; k++) {
        at[k] = -1;
        for (int i = 0; i < c->fields; i++)
            if (strcmp(c->field[i].at, columns[k]) == 0)
                at[k] = i;
        if (at[k] < 0 && k != GROUP)
            return err_set(e, ERR_INPUT,
                           "%s:%" PRId64 ": no column %s; want group,prompt,weak_ok,"
                           "strong_ok",
                           c->name, c->record_line, columns[k]);
    }
    return 0;
}

static int read_right(const struct csv *c, int field, enum column k, int8_t *ret,
                      struct err *e)
{
    const char *s = c->field[field].at;
    if (strcmp(s, "1") != 0 && strcmp(s, "0") != 0)
        return err_set(e, ERR_INPUT, "%s:%" PRId64 ": %s = %.20s: want 0 or 1", c->name,
                       c->record_line, columns[k], s);
    *ret = *s == '1';
    return 0;
}

static int add_row(struct table *t, const struct csv *c, const int *at, struct err *e)
{
    int needed = 0;
    for (int k = 0; k < COLUMNS; k++)
        needed = at[k] >= needed ? at[k] + 1 : needed;
    if (c->fields < needed)
        return err_set(e, ERR_INPUT, "%s:%" PRId64 ": %d field%s, want %d", c->name,
                       c->record_line, c->fields, c->fields == 1 ? "" : "s", needed);
    if (t->len == ROWS_MAX)
        return err_set(e, ERR_INPUT, "%s: more than %d rows", c->name, ROWS_MAX);
    if (t->len == t->size) {
        size_t size = t->size ? t->size * 2 : 1024;
        struct learn_row *rows = realloc(t->rows, size * sizeof *rows);
        if (rows == NULL)
            return err_set(e, ERR_NOMEM, "no memory for %zu rows", size);
        t->rows = rows;
        t->size = size;
    }
    struct learn_row *row = &t->rows[t->len++];
    *row = (struct learn_row){
        .job = {.prompt = c->field[at[PROMPT]].at,
                .len = c->field[at[PROMPT]].len,
                .group = at[GROUP] < 0 ? 0 : learn_group(c->field[at[GROUP]].at)}};
    return read_right(c, at[WEAK_OK], WEAK_OK, &row->right[0], e) < 0
               ? -1
               : read_right(c, at[STRONG_OK], STRONG_OK, &row->right[1], e);
}

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int sum_up(struct table *t, struct err *e)
{
    uint64_t *groups = calloc(t->len + 1, sizeof *groups);
    if (groups == NULL)
        return err_set(e, ERR_NOMEM, "no memory for %zu rows", t->len);
    for (size_t i = 0; i < t->len; i++) {
        groups[i] = t->rows[i].job.group;
        for (int r = 0; r < RUNGS; r++)
            t->right[r] += (double)t->rows[i].right[r] / (double)t->len;
    }
    qsort(groups, t->len, sizeof *groups, by_number);
    for (size_t i = 0; i < t->len; i++)
        t->groups += groups[i] && (i == 0 || groups[i] != groups[i - 1]);
    free(groups);
    return 0;
}

static void table_free(struct table *t)
{
    free(t->bytes);
    free(t->rows);
}

static int table_read(struct table *t, const char *path, struct err *e)
{
    struct csv c;
    size_t len = 0;
    int at[COLUMNS] = {0}, rc;
    if (read_file(path, &t->bytes, &len, e) < 0)
        return -1;
    csv_init(&c, path, t->bytes, len);
    if ((rc = csv_next(&c, e)) < 0 || (rc > 0 && find_columns(&c, at, e) < 0))
        return -1;
    while (rc > 0 && (rc = csv_next(&c, e)) > 0)
        if (add_row(t, &c, at, e) < 0)
            return -1;
    if (rc < 0)
        return -1;
    if (t->len < 2)
        return err_set(e, ERR_INPUT,
                       "%s: want two rows at least, below a line of column "
                       "names",
                       path);
    return sum_up(t, e);
}

/* --- the trial --- */

struct score {
    struct curve curve;
    double loss; /* mean -ln P(what came); NaN: gives no probabilities */
};

enum router { ROUTER, NO_GROUPS, TABLE, LENGTH, RANDOM, ROUTERS };
static const struct {
    const char *name, *key;
} routers[ROUTERS] = {
    {"the router", "router"},
    {"the router, not told groups", "router_without_groups"},
    {"table of groups alone", "table"},
    {"long prompts to the strong", "length"},
    {"random", "random"},
};

struct trial {
    struct table eval, train; /* the second is empty where rows are split */
    const struct cmd_args *args;
    size_t tried; /* rows that were scored */
    int folds;    /* 1: one split */
    int models;   /* folds in which the model was in force */
    struct score score[ROUTERS];
    double us, us_a_kb, bytes; /* of a decision, of a prompt */
    struct learn_row *rows;    /* scratch: what is trained on */
    size_t *order;
    struct curve_row *by[2], *length;
};

static uint64_t next_random(uint64_t *state) /* SplitMix64 */
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static bool in_test(const struct trial *t, size_t i, int fold)
{
    if (t->train.len > 0)
        return true;
    if (t->args->rows > 0)
        return i >= (size_t)t->args->rows;
    return i % (size_t)t->folds == (size_t)fold;
}

/* The rows to learn from in this fold. */
static size_t gather(struct trial *t, int fold, bool groups)
{
    size_t n = 0;
    if (t->train.len > 0) {
        n = t->train.len;
        memcpy(t->rows, t->train.rows, n * sizeof *t->rows);
    } else {
        for (size_t i = 0; i < t->eval.len; i++)
            if (!in_test(t, i, fold))
                t->rows[n++] = t->eval.rows[t->order[i]];
    }
    for (size_t i = 0; i < n && !groups; i++)
        t->rows[i].job.group = 0;
    return n;
}

static double surprise(double p, int right)
{
    return -log(fmax(right ? p : 1 - p, 1e-3));
}

/* Scores the rows of a fold, by the router and by its table. */
static size_t try_fold(struct trial *t, struct learn *l, int fold, bool groups,
                       size_t n, double *loss, double *table_loss)
{
    for (size_t i = 0; i < t->eval.len; i++) {
        if (!in_test(t, i, fold))
            continue;
        const struct learn_row *row = &t->eval.rows[t->order[i]];
        struct learn_job job = row->job;
        struct learn_view v;
        int gain = row->right[1] - row->right[0];
        if (!groups)
            job.group = 0;
        learn_predict(l, &job, &v);
        t->by[0][n] = (struct curve_row){v.plain[1] - v.plain[0], gain};
        t->by[1][n] = (struct curve_row){v.table[1] - v.table[0], gain};
        t->length[n++] = (struct curve_row){(double)job.len, gain};
        for (int r = 0; r < RUNGS; r++) {
            *loss += surprise(v.plain[r], row->right[r]) / RUNGS;
            *table_loss += surprise(v.table[r], row->right[r]) / RUNGS;
        }
    }
    return n;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Decisions over all rows, several times; the median. The thread's own time, so that
 * what else runs on the machine does not count. */
static void measure(struct trial *t, struct learn *l)
{
    double took[REPEATS], bytes = 0;
    struct learn_view v;
    struct learn_choice c;
    for (int k = 0; k < REPEATS; k++) {
        struct timespec from, to;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
        for (size_t i = 0; i < t->eval.len; i++) {
            learn_predict(l, &t->eval.rows[i].job, &v);
            learn_decide(&v, &(struct learn_rule){0}, &c);
        }
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
        took[k] = (double)(to.tv_sec - from.tv_sec) * 1e6 +
                  (double)(to.tv_nsec - from.tv_nsec) / 1e3;
    }
    for (size_t i = 0; i < t->eval.len; i++)
        bytes += (double)t->eval.rows[i].job.len;
    qsort(took, REPEATS, sizeof *took, by_value);
    t->us = took[REPEATS / 2] / (double)t->eval.len;
    t->us_a_kb = took[REPEATS / 2] / fmax(bytes / 1000, 1e-3);
    t->bytes = bytes / (double)t->eval.len;
}

/* All folds, with groups or without. */
static int try_all(struct trial *t, struct learn *l, bool groups, struct err *e)
{
    double loss = 0, table_loss = 0;
    struct learn_standing s;
    size_t n = 0;
    for (int fold = 0; fold < t->folds; fold++) {
        size_t len = gather(t, fold, groups);
        if (learn_train(l, t->rows, len, (uint64_t)t->args->seed, e) < 0)
            return -1;
        learn_standing(l, &s);
        t->models += groups && s.model_in_force;
        n = try_fold(t, l, fold, groups, n, &loss, &table_loss);
    }
    t->tried = n;
    struct score *mine = &t->score[groups ? ROUTER : NO_GROUPS];
    mine->loss = loss / (double)n;
    if (curve_of(t->by[0], n, &mine->curve, e) < 0)
        return -1;
    if (!groups)
        return 0;
    measure(t, l); /* by the last fold's */
    t->score[TABLE].loss = table_loss / (double)n;
    t->score[LENGTH].loss = t->score[RANDOM].loss = NAN;
    t->score[RANDOM].curve = (struct curve){0.5, 0.5, 0.8};
    return curve_of(t->by[1], n, &t->score[TABLE].curve, e) < 0
               ? -1
               : curve_of(t->length, n, &t->score[LENGTH].curve, e);
}

static int prepare(struct trial *t, struct err *e)
{
    const struct cmd_args *a = t->args;
    uint64_t random = (uint64_t)a->seed;
    size_t n = t->eval.len, rows = n > t->train.len ? n : t->train.len;
    t->folds = t->train.len > 0 || a->rows > 0 ? 1 : a->folds > 0 ? (int)a->folds : 5;
    if (t->train.len == 0 &&
        (a->rows > 0 ? (size_t)a->rows >= n : (size_t)t->folds > n))
        return err_set(e, ERR_USAGE, "%s has %zu rows: too few for that split", a->eval,
                       n);

    t->rows = calloc(rows + 1, sizeof *t->rows);
    t->order = calloc(n + 1, sizeof *t->order);
    t->by[0] = calloc(n + 1, sizeof *t->by[0]);
    t->by[1] = calloc(n + 1, sizeof *t->by[1]);
    t->length = calloc(n + 1, sizeof *t->length);
    if (!t->rows || !t->order || !t->by[0] || !t->by[1] || !t->length)
        return err_set(e, ERR_NOMEM, "no memory for %zu rows", n);
    for (size_t i = 0; i < n; i++)
        t->order[i] = i;
    for (size_t i = n; i > 1 && t->train.len == 0; i--) {
        size_t k = next_random(&random) % i, swap = t->order[i - 1];
        t->order[i - 1] = t->order[k];
        t->order[k] = swap;
    }
    return 0;
}

/* --- what is told --- */

static void tell_how(const struct trial *t)
{
    const struct cmd_args *a = t->args;
    if (t->train.len > 0)
        printf("learned from %s (%zu rows, %zu groups); tried on all rows above\n",
               a->train, t->train.len, t->train.groups);
    else if (a->rows > 0)
        printf("learned from %" PRId64 " rows (shuffled, seed %" PRId64
               "); tried on the other %zu\n",
               a->rows, a->seed, t->tried);
    else
        printf("%d folds, seed %" PRId64
               ": each row is tried by a router that has not seen it\n",
               t->folds, a->seed);
}

static void print_text(const struct trial *t)
{
    printf("%s: %zu rows, %zu groups; right: weak %.1f %%, strong %.1f %%\n",
           t->args->eval, t->eval.len, t->eval.groups, 100 * t->eval.right[0],
           100 * t->eval.right[1]);
    tell_how(t);
    printf("\n%-29s%7s%9s%9s%10s\n", "", "APGR", "CPT50", "CPT80", "log loss");
    for (int k = 0; k < ROUTERS; k++) {
        const struct score *s = &t->score[k];
        printf("%-29s%7.3f%7.1f %%%7.1f %%", routers[k].name, s->curve.apgr,
               100 * s->curve.cpt50, 100 * s->curve.cpt80);
        if (isnan(s->loss))
            printf("%10s\n", "-");
        else
            printf("%10.4f\n", s->loss);
    }
    printf("\na decision: %.1f microseconds for %.0f bytes of prompt, %.1f a KB\n",
           t->us, t->bytes, t->us_a_kb);
    printf("the model was in force in %d of %d; where not, the table is the router\n",
           t->models, t->folds);
    puts("APGR: part of the gap between weak and strong that is closed, over all "
         "shares of\n"
         "strong calls. CPT50, CPT80: share of strong calls that closes 50 and 80 % of "
         "it.");
}

static int print_json(const struct trial *t, struct err *e)
{
    struct textbuf b = {0};
    textbuf_puts(&b, "{\"file\":");
    textbuf_json(&b, t->args->eval);
    textbuf_puts(&b, ",\"train\":");
    textbuf_json(&b, t->args->train);
    textbuf_putf(
        &b,
        ",\"rows\":%zu,\"groups\":%zu,\"weak_right\":%.6f,\"strong_right\":%.6f,"
        "\"tried\":%zu,\"folds\":%d,\"seed\":%" PRId64 ",\"models_in_force\":%d",
        t->eval.len, t->eval.groups, t->eval.right[0], t->eval.right[1], t->tried,
        t->folds, t->args->seed, t->models);
    for (int k = 0; k < ROUTERS; k++) {
        const struct score *s = &t->score[k];
        textbuf_putf(&b, ",\"%s\":{\"apgr\":%.6f,\"cpt50\":%.6f,\"cpt80\":%.6f",
                     routers[k].key, s->curve.apgr, s->curve.cpt50, s->curve.cpt80);
        if (!isnan(s->loss))
            textbuf_putf(&b, ",\"log_loss\":%.6f", s->loss);
        textbuf_puts(&b, "}");
    }
    textbuf_putf(&b,
                 ",\"us_a_decision\":%.3f,\"us_a_kb\":%.3f,\"bytes_a_prompt\":%.1f}\n",
                 t->us, t->us_a_kb, t->bytes);
    if (b.failed)
        err_set(e, ERR_NOMEM, "no memory to print");
    else
        fputs(b.at, stdout);
    textbuf_free(&b);
    return e->code == ERR_NONE ? 0 : -1;
}

int cmd_route(const struct cmd_args *a)
{
    struct err e = {0};
    struct trial t = {.args = a};
    struct learn *l = NULL;
    if (a->eval == NULL)
        err_set(&e, ERR_USAGE, "want --eval FILE.csv: rows to try the router on");
    else if (table_read(&t.eval, a->eval, &e) == 0 &&
             (a->train == NULL || table_read(&t.train, a->train, &e) == 0) &&
             prepare(&t, &e) == 0 && (l = learn_new(RUNGS, &e)) != NULL &&
             try_all(&t, l, true, &e) == 0 && try_all(&t, l, false, &e) == 0) {
        if (a->json)
            print_json(&t, &e);
        else
            print_text(&t);
        if (fflush(stdout) != 0)
            err_set(&e, ERR_SYSTEM, "standard output was closed early");
    }
    learn_free(l);
    table_free(&t.eval);
    table_free(&t.train);
    free(t.rows);
    free(t.order);
    free(t.by[0]);
    free(t.by[1]);
    free(t.length);
    return e.code == ERR_NONE ? 0 : cmd_failed(&e);
}
