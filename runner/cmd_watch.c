/*
 * watch: runs that follow each other without an end between them. SIGHUP ends one and
 * begins the next with the settings as they are then; the lock and the stores stay held.
 */
#include "runner/cmd.h"

#include "conf/catalog.h"
#include "conf/hours.h"
#include "jobs/account.h"
#include "jobs/store.h"
#include "runner/err.h"
#include "runner/key.h"
#include "runner/log.h"
#include "runner/runner.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a run works with, and a reload changes. */
struct settings {
    struct conf conf;
    struct catalog *catalog;
    struct hours hours;
    char key[KEY_MAX];
};

struct watching {
    const struct cmd_args *a;
    struct settings *now, *next; /* next: to go on with */
};

static void settings_free(struct settings *s)
{
    if (s == NULL)
        return;
    explicit_bzero(s->key, sizeof s->key);
    catalog_free(s->catalog);
    conf_free(&s->conf);
    free(s);
}

static struct settings *settings_read(const struct cmd_args *a, struct err *e)
{
    struct settings *s = calloc(1, sizeof *s);
    if (s == NULL) {
        err_set(e, ERR_NOMEM, "out of memory");
        return NULL;
    }
    if (cmd_conf(a, &s->conf, e) < 0 ||
        key_load(&s->conf, s->key, sizeof s->key, e) < 0 ||
        (s->catalog = cmd_catalog(&s->conf, e)) == NULL ||
        (*s->conf.window.open && hours_read(s->conf.window.open, &s->hours, e) < 0)) {
        settings_free(s);
        return NULL;
    }
    return s;
}

/* The old settings stay in force until the new ones are known to be good. */
static bool reload(void *arg)
{
    struct watching *w = arg;
    struct err e = {0};
    struct settings *s = settings_read(w->a, &e);
    if (s == NULL) {
        log_error("SIGHUP: %s; the settings stay as they were", e.text);
        return false;
    }
    if (strcmp(s->conf.store.dir, w->now->conf.store.dir) != 0 ||
        strcmp(s->conf.results.dir, w->now->conf.results.dir) != 0)
        log_warn("store.dir and results.dir change with the next start of nightmill");
    settings_free(w->next);
    w->next = s;
    return true;
}

static int run_on(struct watching *w, const struct queue *q, struct store *store,
                  struct account_store *accounts, struct err *e)
{
    struct settings *before = NULL;
    bool again = false;
    for (;;) {
        const struct settings *s = w->now;
        if (before == NULL)
            cmd_warn_of_age(&s->conf, s->catalog);
        int code = runner_run(
            &(struct runner_opts){.conf = &s->conf,
                                  .catalog = s->catalog,
                                  .queue = q,
                                  .store = store,
                                  .accounts = accounts,
                                  .key = s->key,
                                  .json = w->a->json,
                                  .quiet = w->a->quiet,
                                  .accept_changes = w->a->accept_changes,
                                  .accept_empty = w->a->accept_empty || again,
                                  .wait_for_credit = true,
                                  .watch = true,
                                  .hours = *s->conf.window.open ? &s->hours : NULL,
                                  .reload = reload,
                                  .again = again,
                                  .arg = w},
            e);
        again = true;
        if (code == EXIT_USAGE && e->code != ERR_NONE && before) {
            /* What only a run finds: it goes on with what was good. */
            log_error("SIGHUP: %s; the settings stay as they were", e->text);
            *e = (struct err){0};
            settings_free(w->now);
            w->now = before;
            before = NULL;
            continue;
        }
        settings_free(before);
        before = NULL;
        if (code != RUNNER_RELOAD)
            return code;
        before = w->now;
        w->now = w->next;
        w->next = NULL;
    }
}

int cmd_watch(const struct cmd_args *a)
{
    struct err e = {0};
    struct watching w = {.a = a};
    struct queue q = {.lock_root = -1, .lock_state = -1};
    struct account_store *accounts = NULL;
    struct store *store = NULL;
    char dir[3800];
    int code = -1;
    /* Months: what one thread takes and another gives back must not be scattered over an
     * arena each, and what was large once must go back to the system. */
    mallopt(M_ARENA_MAX, 1);
    mallopt(M_MMAP_THRESHOLD, 256 * 1024);
    mallopt(M_TRIM_THRESHOLD, 1024 * 1024);
    if ((w.now = settings_read(a, &e)) != NULL &&
        queue_find(&q, a->dir, &w.now->conf, &e) == 0 && queue_lock(&q, &e) == 0 &&
        account_dir(dir, sizeof dir, &e) == 0 &&
        (accounts = account_open(dir, &e)) != NULL &&
        (store = store_open(q.state, STORE_RUN, w.now->conf.store.sync == SYNC_FULL,
                            &e)) != NULL)
        code = run_on(&w, &q, store, accounts, &e);
    if (e.code != ERR_NONE)
        code = cmd_failed(&e);
    store_close(store);
    account_close(accounts);
    queue_close(&q);
    settings_free(w.now);
    settings_free(w.next);
    return code;
}
