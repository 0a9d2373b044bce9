#include "runner/cmd.h"

#include "jobs/results.h"
#include "jobs/store.h"
#include "jobs/textbuf.h"
#include "runner/err.h"

#include <stdio.h>
#include <string.h>

struct printing {
    const struct cmd_args *args;
    struct textbuf b;
    bool failed;
};

static int on_result(void *arg, const struct store_result *x)
{
    struct printing *p = arg;
    const char *only = p->args->only;
    if (only && strcmp(only, job_state_name(x->job.state)) != 0)
        return 0;
    textbuf_clear(&p->b);
    if (strcmp(p->args->format, "text") == 0) {
        textbuf_putf(&p->b, "== %s (%s) ==\n", x->job.name,
                     job_outcome_name(x->job.outcome));
        if (x->message)
            results_text(&p->b, x->message, x->message_len);
        else if (x->job.says)
            textbuf_puts(&p->b, x->job.says);
        if (p->b.len > 0 && p->b.at[p->b.len - 1] != '\n')
            textbuf_puts(&p->b, "\n");
    } else {
        results_json(&p->b, x, false);
        textbuf_puts(&p->b, "\n");
    }
    p->failed = p->b.failed || fwrite(p->b.at, 1, p->b.len, stdout) != p->b.len;
    return p->failed;
}

int cmd_results(const struct cmd_args *a)
{
    struct err e = {0};
    struct conf conf = {0};
    struct queue q = {.lock_root = -1, .lock_state = -1};
    struct store *st = NULL;
    struct printing p = {.args = a};
    if (cmd_conf(a, &conf, &e) == 0 && queue_find(&q, a->dir, &conf, &e) == 0) {
        if (!queue_known(&q))
            err_set(&e, ERR_USAGE, "%s was never run; nightmill run %s", a->dir,
                    a->dir);
        else if ((st = store_open(q.state, STORE_ASK, true, &e)) != NULL)
            store_each_result(st, 0, 0, on_result, &p, &e);
    }
    if (p.failed || fflush(stdout) != 0)
        err_set(&e, ERR_SYSTEM, "standard output was closed early");
    int code = e.code == ERR_NONE ? 0 : cmd_failed(&e);
    textbuf_free(&p.b);
    store_close(st);
    queue_close(&q);
    conf_free(&conf);
    return code;
}
