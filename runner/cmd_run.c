#include "runner/cmd.h"

#include "conf/catalog.h"
#include "conf/hours.h"
#include "jobs/account.h"
#include "jobs/store.h"
#include "runner/err.h"
#include "runner/key.h"
#include "runner/log.h"
#include "runner/runner.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* Prices and models age: said once a run, where it bears on what is sent. */
void cmd_warn_of_age(const struct conf *conf, const struct catalog *catalog)
{
    char today[16], old[16];
    time_t now = time(NULL), then = now - 90 * 24 * 3600;
    struct tm tm;
    strftime(today, sizeof today, "%Y-%m-%d", localtime_r(&now, &tm));
    strftime(old, sizeof old, "%Y-%m-%d", localtime_r(&then, &tm));
    if (strcmp(catalog_date(catalog), old) < 0)
        log_warn("the catalogue of models and prices is of %s: more than 90 days old; "
                 "costs and ceilings may be wrong",
                 catalog_date(catalog));
    for (size_t i = 0; i < conf->tiers_len; i++) {
        const struct tier *t = &conf->tiers[i];
        const struct model *m = catalog_find(catalog, t->model);
        if (m == NULL)
            log_warn("[tier %s]: %s is not in the catalogue: its cost is not known",
                     t->name, t->model);
        else if (m->retires && strcmp(m->retires, today) <= 0)
            log_warn("[tier %s]: %s is retired since %s", t->name, t->model,
                     m->retires);
    }
}

/*
 * Until when may this run send? The sooner of --until and the window's end. 1: not now,
 * and why was said. Outside its hours a run ends at once: cron and timers call it again,
 * and a process that sits until the evening is one more thing to look after.
 */
static int closing_time(const struct cmd_args *a, const struct conf *conf,
                        int64_t *until, const char **says)
{
    struct hours h;
    struct err e = {0};
    struct tm tm;
    char text[32];
    int64_t edge, now = (int64_t)time(NULL) * 1000;
    *until = a->until_wall;
    *says = "the time that --until names has come";
    if (*conf->window.open == '\0' || hours_read(conf->window.open, &h, &e) < 0)
        return 0;
    if (!hours_open(&h, now, &edge)) {
        time_t t = (time_t)(edge / 1000);
        strftime(text, sizeof text, "%a %Y-%m-%d %H:%M", localtime_r(&t, &tm));
        if (!a->quiet)
            fprintf(stderr,
                    "nightmill: nothing was sent: window.open = %s, and that is on %s "
                    "again\n",
                    conf->window.open, text);
        return 1;
    }
    if (edge > 0 && (*until == 0 || edge < *until)) {
        *until = edge;
        *says = "the hours of window.open are over";
    }
    return 0;
}

/* What a runner was asked and did not live to take up: this one will, and at once. */
static int on_request(void *arg, const struct store_request *q)
{
    bool *paused = arg;
    if (strcmp(q->verb, "pause") == 0 || strcmp(q->verb, "resume") == 0)
        *paused = *q->verb == 'p';
    return 0;
}

/* It is, and that was said; or the store's own trouble is in `e`. */
static bool paused(const struct cmd_args *a, struct store *st, struct err *e)
{
    char since[40];
    if (store_meta(st, "paused", since, sizeof since, e) < 0)
        return true;
    bool yes = *since != '\0';
    if (store_each_request(st, on_request, &yes, e) < 0)
        return true;
    if (yes && !a->quiet)
        fprintf(
            stderr,
            "nightmill: nothing was sent: %s is paused; `nightmill resume %s`, then "
            "run it again\n",
            a->dir, a->dir);
    return yes;
}

static int run(const struct cmd_args *a, const struct conf *conf, struct queue *q,
               struct err *e)
{
    char key[KEY_MAX], dir[3800];
    struct catalog *catalog = NULL;
    struct account_store *accounts = NULL;
    struct store *store = NULL;
    int code = EXIT_AGAIN;
    int64_t until;
    const char *says;

    if (closing_time(a, conf, &until, &says) > 0)
        return EXIT_AGAIN;
    if (key_load(conf, key, sizeof key, e) < 0 || queue_lock(q, e) < 0 ||
        (catalog = cmd_catalog(conf, e)) == NULL ||
        account_dir(dir, sizeof dir, e) < 0 ||
        (accounts = account_open(dir, e)) == NULL ||
        (store = store_open(q->state, STORE_RUN, conf->store.sync == SYNC_FULL, e)) ==
            NULL)
        goto out;
    if (paused(a, store, e))
        goto out;
    cmd_warn_of_age(conf, catalog);
    code = runner_run(&(struct runner_opts){.conf = conf,
                                            .catalog = catalog,
                                            .queue = q,
                                            .store = store,
                                            .accounts = accounts,
                                            .key = key,
                                            .json = a->json,
                                            .quiet = a->quiet,
                                            .accept_changes = a->accept_changes,
                                            .accept_empty = a->accept_empty,
                                            .wait_for_credit = a->wait_for_credit,
                                            .first = a->first,
                                            .until_wall = until,
                                            .until_says = says},
                      e);
out:
    explicit_bzero(key, sizeof key);
    store_close(store);
    account_close(accounts);
    catalog_free(catalog);
    return code;
}

int cmd_run(const struct cmd_args *a)
{
    struct err e = {0};
    struct conf conf = {0};
    struct queue q = {.lock_root = -1, .lock_state = -1};
    int code = -1;
    if (cmd_conf(a, &conf, &e) == 0 && queue_find(&q, a->dir, &conf, &e) == 0)
        code = run(a, &conf, &q, &e);
    /* Cron's night before is still at work: nobody is needed. */
    if (e.code == ERR_BUSY && a->quiet)
        code = EXIT_AGAIN;
    else if (e.code != ERR_NONE)
        code = cmd_failed(&e);
    queue_close(&q);
    conf_free(&conf);
    return code;
}
