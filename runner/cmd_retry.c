/* retry, cancel, pause and resume: where no runner has the queue they are carried out at once; beside
 * a runner they are left as requests, which it takes up within a second. */
#include "runner/cmd.h"

#include "jobs/store.h"
#include "runner/err.h"

#include <inttypes.h>
#include <stdio.h>
#include <time.h>

struct asked {
    const char *verb, *done; /* "retry", "queued again" */
    enum move_kind kind;
    const char *text; /* of the move */
    const char *says; /* in place of a count of jobs */
};

static int64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int apply(struct store *st, const struct asked *q, const struct cmd_args *a,
                 struct err *e)
{
    struct moves m;
    int64_t n = 0;
    moves_init(&m);
    for (int i = 0; i < (a->names_len ? a->names_len : 1); i++) {
        struct move *v = moves_add(&m, q->kind);
        if (v == NULL)
            return err_set(e, ERR_NOMEM, "out of memory");
        v->name = a->names_len ? a->names[i] : NULL;
        v->now = now_ms();
        v->text = q->text;
    }
    int rc = store_apply(st, &m, NULL, e);
    for (struct move *v = m.first; rc == 0 && v; v = v->next) {
        if (v->changed == 0 && v->name)
            fprintf(stderr, "nightmill: %s: no job of that name that could be %s\n",
                    v->name, q->done);
        n += v->changed;
    }
    if (rc == 0 && q->says)
        fprintf(stderr, "nightmill: %s %s\n", a->dir, q->says);
    else if (rc == 0)
        fprintf(stderr, "nightmill: %" PRId64 " job%s %s\n", n, n == 1 ? "" : "s",
                q->done);
    moves_free(&m);
    return rc < 0 ? -1 : n > 0 || a->names_len == 0 ? 0 : 1;
}

static int leave_request(const struct queue *q, const struct asked *what,
                         const struct cmd_args *a, struct err *e)
{
    struct store *st = store_open(q->state, STORE_ASK, true, e);
    int rc = st ? 0 : -1;
    for (int i = 0; rc == 0 && i < (a->names_len ? a->names_len : 1); i++)
        rc = store_ask(st, what->verb, a->names_len ? a->names[i] : NULL, now_ms(), e);
    if (rc == 0)
        fprintf(stderr,
                "nightmill: asked the runner that is at work; see nightmill status\n");
    store_close(st);
    return rc;
}

static int ask(const struct cmd_args *a, const struct asked *what)
{
    struct err e = {0}, busy = {0};
    struct conf conf = {0};
    struct queue q = {.lock_root = -1, .lock_state = -1};
    struct store *st = NULL;
    int rc = -1;
    if (cmd_conf(a, &conf, &e) == 0 && queue_find(&q, a->dir, &conf, &e) == 0) {
        if (!queue_known(&q))
            err_set(&e, ERR_USAGE, "%s was never run; nightmill run %s", a->dir,
                    a->dir);
        else if (queue_lock(&q, &busy) == 0)
            rc = (st = store_open(q.state, STORE_RUN, true, &e))
                     ? apply(st, what, a, &e)
                     : -1;
        else if (busy.code == ERR_BUSY)
            rc = leave_request(&q, what, a, &e);
        else
            err_set(&e, busy.code, "%s", busy.text);
    }
    if (rc < 0)
        rc = cmd_failed(&e);
    store_close(st);
    queue_close(&q);
    conf_free(&conf);
    return rc;
}

int cmd_retry(const struct cmd_args *a)
{
    static const struct asked retry = {
        .verb = "retry", .done = "queued again", .kind = MOVE_RETRY};
    return ask(a, &retry);
}

int cmd_cancel(const struct cmd_args *a)
{
    static const struct asked cancel = {
        .verb = "cancel", .done = "canceled", .kind = MOVE_CANCEL};
    if (a->names_len == 0) {
        struct err e = {0};
        err_set(&e, ERR_USAGE,
                "cancel wants the names of jobs (or globs, such as '*')");
        return cmd_failed(&e);
    }
    return ask(a, &cancel);
}

int cmd_pause(const struct cmd_args *a)
{
    static const struct asked pause = {
        .verb = "pause",
        .kind = MOVE_PAUSE,
        .text = "paused",
        .says = "is paused: nothing of it is sent until `nightmill resume`"};
    return ask(a, &pause);
}

int cmd_resume(const struct cmd_args *a)
{
    static const struct asked resume = {
        .verb = "resume", .kind = MOVE_PAUSE, .says = "is not paused any more"};
    static const struct asked accept = {
        .verb = "accept",
        .kind = MOVE_PAUSE,
        .says = "has no runner at work: say --accept-changes to the next one"};
    return ask(a, a->accept_changes ? &accept : &resume);
}
