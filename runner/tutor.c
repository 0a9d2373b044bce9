#include "runner/tutor.h"

#include "conf/conf.h"
#include "jobs/prompt.h"
#include "jobs/store.h"
#include "jobs/textbuf.h"
#include "runner/err.h"
#include "runner/log.h"

#include <stdlib.h>
#include <string.h>

struct tutor {
    struct learn *learn;
    struct ladder ladder;
    char name[ROUTE_PRINT_MAX];
    struct textbuf prompt;
    bool changed;
};

static void on_kept(void *arg, const void *what, size_t len)
{
    struct tutor *t = arg;
    struct err e = {0};
    t->learn = learn_load(what, len, &e);
    if (t->learn == NULL)
        log_warn("what was learned cannot be read and begins anew: %s", e.text);
}

struct tutor *tutor_new(const struct conf *conf, const struct catalog *catalog,
                        struct store *st)
{
    struct err e = {0};
    struct tutor *t = calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    route_ladder(conf, catalog, &(struct route_job){.bytes = 400}, &t->ladder);
    route_ladder_print(conf, catalog, t->name, sizeof t->name);
    if (t->ladder.len > 1 && store_learned(st, t->name, on_kept, t, &e) < 0)
        log_warn("%s", e.text);
    if (t->ladder.len > 1 && t->learn == NULL)
        t->learn = learn_new(t->ladder.len, &e);
    if (t->learn == NULL) {
        tutor_free(t);
        return NULL;
    }
    return t;
}

void tutor_free(struct tutor *t)
{
    if (t == NULL)
        return;
    learn_free(t->learn);
    textbuf_free(&t->prompt);
    free(t);
}

/* What is known of a job besides its words: its tags, or where it came from. */
static uint64_t group_of(const struct store_job *j)
{
    char dir[STORE_NAME_MAX];
    const char *slash;
    if (j->tags)
        return learn_group(j->tags);
    if (j->bulk)
        return learn_group(j->path);
    slash = strrchr(j->name, '/');
    if (slash == NULL || (size_t)(slash - j->name) >= sizeof dir)
        return 0;
    memcpy(dir, j->name, (size_t)(slash - j->name));
    dir[slash - j->name] = '\0';
    return learn_group(dir);
}

static bool read_job(struct tutor *t, const struct store_job *j, struct learn_job *ret)
{
    if (j->body_len == 0)
        return false;
    textbuf_clear(&t->prompt);
    prompt_text(&t->prompt, j->body, j->body_len);
    *ret = (struct learn_job){.prompt = t->prompt.len ? t->prompt.at : "",
                              .len = t->prompt.len,
                              .group = group_of(j)};
    return !t->prompt.failed;
}

bool tutor_view(struct tutor *t, const struct store_job *j, struct learn_view *ret)
{
    struct learn_job x;
    if (!read_job(t, j, &x))
        return false;
    learn_predict(t->learn, &x, ret);
    return true;
}

void tutor_outcome(struct tutor *t, const struct store_job *j, int rung, bool right)
{
    struct learn_job x;
    if (rung < 0 || rung >= t->ladder.len || !read_job(t, j, &x))
        return;
    learn_outcome(t->learn, &x, rung, right);
    t->changed = true;
}

int tutor_rung(const struct tutor *t, const char *tier)
{
    for (int i = 0; tier && i < t->ladder.len; i++)
        if (strcmp(t->ladder.rung[i]->name, tier) == 0)
            return i;
    return -1;
}

void tutor_forget(struct tutor *t)
{
    struct err e = {0};
    struct learn *fresh = learn_new(t->ladder.len, &e);
    if (fresh == NULL)
        return;
    learn_free(t->learn);
    t->learn = fresh;
    t->changed = false;
}

void *tutor_save(struct tutor *t, size_t *len, const char **name)
{
    if (!t->changed)
        return NULL;
    *len = learn_save(t->learn, NULL, 0);
    void *blob = malloc(*len);
    if (blob == NULL)
        return NULL;
    learn_save(t->learn, blob, *len);
    t->changed = false;
    *name = t->name;
    return blob;
}

void tutor_standing(const struct tutor *t, struct learn_standing *ret)
{
    learn_standing(t->learn, ret);
}
