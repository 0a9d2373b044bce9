/*
 * Whether answers are good enough: checks in words are asked at once, programs when the
 * answer is stored; and what both say is learned from.
 */
#include "runner/machine.h"

#include "jobs/textbuf.h"
#include "runner/budget.h"
#include "runner/check.h"
#include "runner/checkrun.h"
#include "runner/log.h"
#include "runner/tutor.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    CHECKS = 256,          /* different ones that are kept compiled */
    SAVE_EVERY_MS = 60000, /* what was learned is written down */
    GRADES_AT_ONCE = 200,  /* rows a tick */
    SCHEMA_MAX = 256 * 1024,
};

struct quality {
    struct tutor *tutor;
    bool tutor_tried;
    int64_t saved_at;
    void *blob; /* what the list of moves borrows */
    bool grades_left;
    int64_t untaught;

    struct {
        char *words;
        struct check *check;
    } kept[CHECKS];

    int at_once;
    struct live *waiting, **waiting_last; /* for a program to be free */
    struct live *judged, **judged_last;   /* by their programs */
};

/* --- checks --- */

static bool on_command_wanted(void *arg, const char *name)
{
    const struct runner *r = arg;
    return conf_check_command(r->conf, name) != NULL;
}

/* A rule's schema lies in the queue. */
static char *on_file_wanted(void *arg, const char *name, size_t *len, struct err *e)
{
    const struct runner *r = arg;
    char path[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", r->o->queue->root, name);
    FILE *f = fopen(path, "re");
    char *text = NULL;
    if (f == NULL || fstat(fileno(f), &st) < 0)
        err_set(e, ERR_CONF, "schema:%s: %s: %s", name, path, strerror(errno));
    else if (!S_ISREG(st.st_mode) || st.st_size > SCHEMA_MAX)
        err_set(e, ERR_CONF, "schema:%s: want a file of at most %d KiB", name,
                SCHEMA_MAX / 1024);
    else if ((text = malloc((size_t)st.st_size + 1)) == NULL)
        err_set(e, ERR_NOMEM, "out of memory");
    else
        text[ *len = fread(text, 1, (size_t)st.st_size, f)] = '\0';
    if (f)
        fclose(f);
    return text;
}

static struct check *compile(const struct runner *r, const char *words, bool conf,
                             struct err *e)
{
    return check_new(words,
                     &(struct check_env){.arg = (void *)r,
                                         .command = on_command_wanted,
                                         .file = conf ? on_file_wanted : NULL},
                     e);
}

static unsigned slot_of(const char *words)
{
    uint64_t h = UINT64_C(14695981039346656037);
    for (; *words; words++)
        h = (h ^ (unsigned char)*words) * UINT64_C(1099511628211);
    return (unsigned)(h >> 32) % CHECKS;
}

/* Lent until the next one is asked for. */
static struct check *check_of(struct runner *r, const char *words, struct err *e)
{
    struct quality *q = r->quality;
    unsigned at = slot_of(words);
    if (q->kept[at].words && strcmp(q->kept[at].words, words) == 0)
        return q->kept[at].check;
    struct check *c = compile(r, words, true, e);
    char *copy = strdup(words);
    if (c == NULL || copy == NULL) {
        check_free(c);
        free(copy);
        return NULL;
    }
    check_free(q->kept[at].check);
    free(q->kept[at].words);
    q->kept[at].words = copy;
    q->kept[at].check = c;
    return c;
}

int quality_words(struct runner *r, const char *words, struct err *e)
{
    struct check *c = compile(r, words, false, e);
    check_free(c);
    return c ? 0 : -1;
}

static void set_verdict(struct live *l, bool pass, const char *why)
{
    l->checked = pass ? CHECKED_PASS : CHECKED_FAIL;
    if (pass)
        return;
    snprintf(l->judged.sentence, sizeof l->judged.sentence, "%s", why);
    snprintf(l->judged.type, sizeof l->judged.type, "check_failed");
}

void quality_judge(struct runner *r, struct live *l)
{
    struct err e = {0};
    struct textbuf text = {0};
    char why[CHECK_WHY_MAX] = "";
    if (l->routed.check == NULL || l->judged.verdict != VERDICT_ACCEPTED ||
        l->message == NULL)
        return;
    struct check *c = check_of(r, l->routed.check, &e);
    if (c == NULL) {
        set_verdict(l, false, e.text);
        return;
    }
    results_text(&text, l->message, l->message_len);
    if (text.failed)
        set_verdict(l, false, "no memory to check the answer");
    else if (check_text(c, text.len ? text.at : "", text.len, why, sizeof why) !=
             CHECK_PASS)
        set_verdict(l, false, why);
    else if (check_commands(c) > 0)
        l->checked = CHECKED_LATER;
    else
        l->checked = CHECKED_PASS;
    textbuf_free(&text);
}

/* May it climb, and is there money for it? What the next rung may cost at worst counts. */
bool quality_climbs(struct runner *r, struct live *l)
{
    struct route_job j = admit_asked(&l->job);
    const struct tier *t = NULL;
    picodollars worst = 0, so_far = l->job.cost, cap = r->conf->cascade.max_cost;
    if (l->routed.how != ROUTE_CASCADE || l->routed.check == NULL ||
        l->routed.rung < 0 ||
        (t = route_above(r->conf, r->o->catalog, &j, l->routed.tier)) == NULL)
        return false;
    const struct model *m = catalog_find(r->o->catalog, l->routed.model);
    if (l->where == LIVE_NOTED && l->judged.has_usage && m && m->priced)
        so_far += catalog_cost(m, &l->judged.usage);
    if (cap == 0)
        return true;
    m = catalog_find(r->o->catalog, t->model);
    if (budget_worst(m,
                     &(struct budget_job){.bytes = l->job.bytes,
                                          .max_tokens = live_max_tokens(l),
                                          .asks = l->job.asks,
                                          .max_cost = l->job.max_cost},
                     &worst) &&
        so_far + worst <= cap)
        return true;
    size_t n = strlen(l->judged.sentence);
    snprintf(l->judged.sentence + n, sizeof l->judged.sentence - n,
             " (%s is not tried: with it the job could pass cascade.max_cost)",
             t->name);
    return false;
}

/* --- programs --- */

static void wait_push(struct quality *q, struct live *l)
{
    l->next = NULL;
    *q->waiting_last = l;
    q->waiting_last = &l->next;
}

static void judged_push(struct runner *r, struct live *l)
{
    struct quality *q = r->quality;
    l->where = LIVE_CHECKED;
    l->next = NULL;
    *q->judged_last = l;
    q->judged_last = &l->next;
    runner_poke(r);
}

static void run_some(struct runner *r);

static void run_next(struct runner *r, struct live *l);

static void on_check_end(void *arg, enum checkrun_end end, const char *why)
{
    struct live *l = arg;
    struct runner *r = l->runner;
    l->checkrun = NULL;
    r->checks_running--;
    if (end == CHECKRUN_PASS) {
        l->check_at++;
        run_next(r, l);
    } else if (end == CHECKRUN_CANCELED) {
        judged_push(r, l); /* only at the end of the run: it stays as it is stored */
        return;
    } else {
        set_verdict(l, false, why);
        judged_push(r, l);
    }
    run_some(r);
}

static void start_one(struct runner *r, struct live *l, const char *name)
{
    struct err e = {0};
    struct textbuf text = {0};
    const struct check_command *c = conf_check_command(r->conf, name);
    char why[CHECK_WHY_MAX], job[STORE_NAME_MAX + 64], model[256];
    const char *const vars[] = {job, model, NULL};
    snprintf(job, sizeof job, "NIGHTMILL_JOB=%s", l->job.name);
    snprintf(model, sizeof model, "NIGHTMILL_MODEL=%s", l->routed.model);
    results_text(&text, l->message, l->message_len);
    if (c && !text.failed)
        l->checkrun = checkrun_start(
            &r->loop,
            &(struct checkrun_what){.command = c->command,
                                    .shell = c->shell == 1,
                                    .timeout_ms = c->timeout_ms,
                                    .cwd = r->o->queue->root,
                                    .vars = vars,
                                    .text = text.len ? text.at : "",
                                    .len = text.len},
            on_check_end, l, &e);
    textbuf_free(&text);
    if (l->checkrun) {
        r->checks_running++;
        return;
    }
    snprintf(why, sizeof why, "check %.60s: %.200s", name,
             c == NULL ? "there is no such [check] any more" : e.text);
    set_verdict(l, false, why);
    judged_push(r, l);
}

static void run_next(struct runner *r, struct live *l)
{
    struct err e = {0};
    struct check *c = l->routed.check ? check_of(r, l->routed.check, &e) : NULL;
    if (c == NULL) {
        set_verdict(l, l->routed.check == NULL, e.text);
        judged_push(r, l);
    } else if (l->check_at >= check_commands(c)) {
        set_verdict(l, true, "");
        judged_push(r, l);
    } else {
        start_one(r, l, check_command(c, l->check_at));
    }
}

static void run_some(struct runner *r)
{
    struct quality *q = r->quality;
    while (q->waiting && r->checks_running < q->at_once && !r->checks_over) {
        struct live *l = q->waiting;
        if ((q->waiting = l->next) == NULL)
            q->waiting_last = &q->waiting;
        run_next(r, l);
    }
}

/* The answer is stored: now a program may take its time. */
void quality_begin(struct runner *r, struct live *l)
{
    l->where = LIVE_CHECKING;
    l->check_at = 0;
    r->checking++;
    wait_push(r->quality, l);
    run_some(r);
}

/* What is not judged yet stays as it is stored; the next run goes on with it. */
void quality_stop(struct runner *r)
{
    r->checks_over = true;
    for (size_t i = 0; i < LIVE_BUCKETS; i++)
        for (struct live *l = r->table.bucket[i]; l; l = l->hash_next)
            if (l->checkrun)
                checkrun_cancel(l->checkrun);
    r->checking = 0;
}

/* --- judged answers become moves --- */

void quality_settle(struct runner *r, struct moves *m)
{
    if (r->checks_over)
        return;
    for (struct live *l = r->quality->judged; l; l = l->next) {
        if (l->settling)
            continue;
        struct move *v = moves_add(m, MOVE_CHECKED);
        if (v == NULL)
            return;
        ended_checked(r, l, v);
    }
}

void quality_settled(struct runner *r, struct live *l)
{
    struct quality *q = r->quality;
    struct live **at = &q->judged;
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    if (q->judged_last == &l->next)
        q->judged_last = at;
    l->next = NULL;
    r->checking--;
}

/* --- learning --- */

static struct tutor *tutor(struct runner *r)
{
    struct quality *q = r->quality;
    if (!q->tutor_tried && !r->committing) {
        q->tutor_tried = true;
        q->tutor = tutor_new(r->conf, r->o->catalog, r->o->store);
    }
    return q->tutor;
}

bool quality_view(struct runner *r, const struct store_job *j, struct learn_view *ret)
{
    struct tutor *t = tutor(r);
    return t && tutor_view(t, j, ret);
}

/* What an answer's fate says of its rung. */
void quality_learn(struct runner *r, struct live *l, bool right)
{
    struct tutor *t;
    if (l->routed.check == NULL || l->routed.rung < 0 || (t = tutor(r)) == NULL)
        return;
    tutor_outcome(t, &l->job, tutor_rung(t, l->routed.tier), right);
}

struct grading {
    struct runner *r;
    struct moves *m;
    size_t got;
};

static int on_grade(void *arg, const struct store_job *j, const char *tier, bool fine)
{
    struct grading *g = arg;
    struct tutor *t = tutor(g->r);
    struct move *v = moves_add(g->m, MOVE_GRADED);
    if (v == NULL)
        return 1;
    v->job = j->id;
    g->got++;
    if (t && j->body_len > 0)
        tutor_outcome(t, j, tutor_rung(t, tier), fine);
    else
        g->r->quality->untaught++;
    return 0;
}

/* Labels that a person brought. */
void quality_grades(struct runner *r, struct moves *m)
{
    struct quality *q = r->quality;
    struct grading g = {r, m, 0};
    struct err e = {0};
    if (store_each_grade(r->o->store, GRADES_AT_ONCE, on_grade, &g, &e) < 0)
        log_error("%s", e.text);
    q->grades_left = g.got == GRADES_AT_ONCE;
    if (g.got > 0)
        log_info("%zu label%s taken up", g.got, g.got == 1 ? "" : "s");
    if (g.got > 0 && q->untaught > 0 && !q->grades_left)
        tell_line(r->tell, false,
                  "%" PRId64 " label%s taught nothing: the words of such jobs are no "
                  "longer kept (route = learn keeps them until they are graded)",
                  q->untaught, q->untaught == 1 ? "" : "s");
}

bool quality_grades_left(const struct runner *r)
{
    return r->quality->grades_left;
}

void quality_forget(struct runner *r)
{
    if (tutor(r))
        tutor_forget(tutor(r));
    tell_line(r->tell, false, "what was learned is forgotten, as asked");
}

/* Now and then, and at the end. */
void quality_save(struct runner *r, struct moves *m, bool last)
{
    struct quality *q = r->quality;
    int64_t now = runner_mono(r);
    const char *name;
    size_t len;
    if (q->tutor == NULL || (!last && now - q->saved_at < SAVE_EVERY_MS))
        return;
    q->saved_at = now;
    free(q->blob); /* the list that borrowed it is gone */
    if ((q->blob = tutor_save(q->tutor, &len, &name)) == NULL)
        return;
    struct move *v = moves_add(m, MOVE_LEARNED);
    if (v == NULL)
        return;
    v->name = name;
    v->now = runner_wall(r);
    v->at.message = q->blob;
    v->at.message_len = len;
}

/* --- the beginning, the end --- */

/* Answers that were stored and not judged when the last run ended. */
static int on_unjudged(void *arg, const struct store_result *x)
{
    struct runner *r = arg;
    struct err e = {0};
    struct live *l = live_new(&r->table, &x->job);
    if (l == NULL)
        return 1;
    l->runner = r;
    struct route_job j = admit_asked(&l->job);
    if (route_decide(r->conf, r->o->catalog, &j, &l->routed, &e) < 0)
        l->routed = (struct routed){.rung = -1, .effort = "", .fallback = ""};
    const struct tier *t = x->last.tier ? conf_tier(r->conf, x->last.tier) : NULL;
    if (t) {
        struct ladder ladder;
        route_ladder(r->conf, r->o->catalog, &j, &ladder);
        l->routed.tier = t->name;
        l->routed.model = t->model;
        l->routed.rung = -1;
        for (int i = 0; i < ladder.len; i++)
            if (ladder.rung[i] == t)
                l->routed.rung = i;
    }
    if (l->routed.model == NULL)
        l->routed.model = "";
    snprintf(l->why, sizeof l->why, "%s", x->last.why ? x->last.why : "");
    snprintf(l->judged.request_id, sizeof l->judged.request_id, "%s",
             x->last.request_id ? x->last.request_id : "");
    l->judged.verdict = VERDICT_ACCEPTED;
    l->judged.has_usage = x->last.has_usage;
    l->judged.usage = x->last.usage;
    l->note = NOTE_ANSWER;
    l->attempt = x->last.id;
    l->lane = runner_lane(r, l->routed.lane);
    l->brake = l->job.bulk ? runner_brake(r, &l->job) : NULL;
    if (x->message) {
        l->message = strndup(x->message, x->message_len);
        l->message_len = l->message ? x->message_len : 0;
    }
    if (l->lane == NULL || (x->message && l->message == NULL))
        return 1;
    if (l->brake)
        l->brake->in_flight++;
    r->tally.queued++;
    r->admitted++;
    l->where = LIVE_CHECKING;
    r->checking++;
    wait_push(r->quality, l);
    return 0;
}

static int programs_exist(const struct runner *r, struct err *e)
{
    for (size_t i = 0; i < r->conf->checks_len; i++) {
        const struct check_command *c = &r->conf->checks[i];
        if (c->shell != 1 && checkrun_exists(c->command, r->o->queue->root, e) < 0)
            return err_wrap(e, "[check %s]", c->name);
    }
    return 0;
}

static int rules_are_good(const struct runner *r, struct err *e)
{
    struct check *c = NULL;
    if (*r->conf->jobs.check) {
        if ((c = compile(r, r->conf->jobs.check, true, e)) == NULL)
            return err_wrap(e, "jobs.check");
        check_free(c);
    }
    for (size_t i = 0; i < r->conf->routes_len; i++) {
        const struct route *x = &r->conf->routes[i];
        if (*x->check == '\0')
            continue;
        if ((c = compile(r, x->check, true, e)) == NULL)
            return err_wrap(e, "[route %s] check", x->name);
        check_free(c);
    }
    return 0;
}

int quality_open(struct runner *r, struct err *e)
{
    struct quality *q = calloc(1, sizeof *q);
    if (q == NULL)
        return err_set(e, ERR_NOMEM, "out of memory");
    q->waiting_last = &q->waiting;
    q->judged_last = &q->judged;
    q->at_once = (int)uv_available_parallelism() + 1;
    q->saved_at = runner_mono(r);
    q->grades_left = true;
    r->quality = q;
    return programs_exist(r, e) < 0 || rules_are_good(r, e) < 0 ? -1 : 0;
}

int quality_take_up(struct runner *r, struct err *e)
{
    if (store_each_checking(r->o->store, on_unjudged, r, e) < 0)
        return -1;
    if (r->checking > 0)
        tell_line(r->tell, false, "%d stored answer%s wait%s for a check", r->checking,
                  r->checking == 1 ? "" : "s", r->checking == 1 ? "s" : "");
    run_some(r);
    return 0;
}

void quality_close(struct runner *r)
{
    struct quality *q = r->quality;
    if (q == NULL)
        return;
    for (int i = 0; i < CHECKS; i++) {
        check_free(q->kept[i].check);
        free(q->kept[i].words);
    }
    tutor_free(q->tutor);
    free(q->blob);
    free(q);
    r->quality = NULL;
}
