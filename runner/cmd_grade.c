/* grade: labels that a person brings. They wait in the store, and the next run, or the
 * one that is at work, learns from them. */
#include "runner/cmd.h"

#include "jobs/store.h"
#include "runner/csv.h"
#include "runner/err.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FILE_MAX = 256 * 1024 * 1024, WRONG_TOLD = 5 };

struct grading {
    struct csv csv;
    int job, ok; /* columns */
    int64_t taken, wrong;
};

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* All of it; "-" is standard input. */
static char *read_all(const char *path, size_t *len, struct err *e)
{
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    char *bytes = NULL;
    size_t size = 0;
    *len = 0;
    if (f == NULL) {
        err_set(e, ERR_INPUT, "%s: cannot be opened: %s", path, strerror(errno));
        return NULL;
    }
    do {
        if (*len + 1 >= size) {
            size = size ? size * 2 : 65536;
            char *grown = size > FILE_MAX ? NULL : realloc(bytes, size);
            if (grown == NULL) {
                err_set(e, ERR_INPUT, "%s: more than %d MiB", path, FILE_MAX >> 20);
                free(bytes);
                bytes = NULL;
                break;
            }
            bytes = grown;
        }
        *len += fread(bytes + *len, 1, size - *len - 1, f);
    } while (!feof(f) && !ferror(f));
    if (bytes && ferror(f)) {
        err_set(e, ERR_INPUT, "%s: cannot be read: %s", path, strerror(errno));
        free(bytes);
        bytes = NULL;
    }
    if (f != stdin)
        fclose(f);
    return bytes;
}

static int find_columns(struct grading *g, struct err *e)
{
    g->job = g->ok = -1;
    for (int i = 0; i < g->csv.fields; i++) {
        if (strcmp(g->csv.field[i].at, "job") == 0)
            g->job = i;
        if (strcmp(g->csv.field[i].at, "ok") == 0)
            g->ok = i;
    }
    if (g->job >= 0 && g->ok >= 0)
        return 0;
    return err_set(e, ERR_INPUT,
                   "%s:%" PRId64 ": want a first line with the columns job and ok",
                   g->csv.name, g->csv.record_line);
}

/* 1, 0; -1: neither. */
static int is_ok(const char *word)
{
    static const char *const words[2][4] = {{"0", "wrong", "no", "false"},
                                            {"1", "right", "yes", "true"}};
    for (int v = 0; v < 2; v++)
        for (int i = 0; i < 4; i++)
            if (strcmp(word, words[v][i]) == 0)
                return v;
    return -1;
}

static void tell_wrong(struct grading *g, const char *what, const char *word)
{
    if (++g->wrong <= WRONG_TOLD)
        fprintf(stderr, "nightmill: %s:%" PRId64 ": %.100s: %s\n", g->csv.name,
                g->csv.record_line, word, what);
}

static int take_row(struct grading *g, struct store *st, struct err *e)
{
    struct store_job j;
    int last = g->job > g->ok ? g->job : g->ok;
    if (g->csv.fields <= last) {
        tell_wrong(g, "want a job and whether it was right", "a field is missing");
        return 0;
    }
    const char *name = g->csv.field[g->job].at;
    int ok = is_ok(g->csv.field[g->ok].at);
    int found = store_find(st, name, &j, e);
    if (found < 0)
        return -1;
    if (!found)
        tell_wrong(g, "no such job", name);
    else if (ok < 0)
        tell_wrong(g, "want 1 or 0, right or wrong", g->csv.field[g->ok].at);
    else if (j.state != JOB_DONE && j.state != JOB_FAILED)
        tell_wrong(g, "it has no answer yet", name);
    else if (store_grade(st, j.id, ok, now_ms(), e) < 0)
        return -1;
    else
        g->taken++;
    return 0;
}

static int grade(const struct cmd_args *a, struct store *st, struct err *e)
{
    struct grading g = {0};
    size_t len;
    char *bytes = read_all(a->names[0], &len, e);
    if (bytes == NULL)
        return -1;
    csv_init(&g.csv, a->names[0], bytes, len);
    int rc = csv_next(&g.csv, e);
    if (rc == 0)
        rc = err_set(e, ERR_INPUT, "%s: it is empty; want the columns job and ok",
                     a->names[0]);
    if (rc > 0)
        rc = find_columns(&g, e);
    while (rc == 0 && (rc = csv_next(&g.csv, e)) > 0)
        rc = take_row(&g, st, e);
    free(bytes);
    if (rc < 0)
        return -1;
    if (g.wrong > WRONG_TOLD)
        fprintf(stderr, "nightmill: and %" PRId64 " more\n", g.wrong - WRONG_TOLD);
    fprintf(stderr,
            "nightmill: %" PRId64 " label%s taken; the next run (or the one that is at "
            "work) learns from %s\n",
            g.taken, g.taken == 1 ? "" : "s", g.taken == 1 ? "it" : "them");
    return g.wrong > 0;
}

int cmd_grade(const struct cmd_args *a)
{
    struct err e = {0};
    struct conf conf = {0};
    struct queue q = {.lock_root = -1, .lock_state = -1};
    struct store *st = NULL;
    int rc = -1;
    if (a->names_len != 1 && !(a->forget && a->names_len == 0))
        err_set(&e, ERR_USAGE,
                "want one FILE of labels (- is standard input), or "
                "--forget");
    else if (cmd_conf(a, &conf, &e) == 0 && queue_find(&q, a->dir, &conf, &e) == 0) {
        if (!queue_known(&q))
            err_set(&e, ERR_USAGE, "%s was never run; nightmill run %s", a->dir,
                    a->dir);
        else
            st = store_open(q.state, STORE_ASK, true, &e);
    }
    if (st) {
        if (a->forget && (rc = store_ask(st, "forget", NULL, now_ms(), &e)) == 0)
            fputs(
                "nightmill: the next run (or the one that is at work) forgets what was "
                "learned\n",
                stderr);
        if (a->names_len == 1)
            rc = grade(a, st, &e);
    }
    store_close(st);
    queue_close(&q);
    conf_free(&conf);
    return e.code ? cmd_failed(&e) : rc;
}
