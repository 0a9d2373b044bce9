/*
 * plan: what a run would send, where, for how much and how long; sends nothing. The
 * real intake runs to its end over a scratch store in a temporary directory (a copy of
 * the queue's own, if it has one), so that plan and run cannot see different jobs;
 * nothing is written in the queue or beside it.
 */
#include "runner/cmd.h"

#include "conf/catalog.h"
#include "jobs/account.h"
#include "jobs/intake.h"
#include "jobs/prefix.h"
#include "jobs/store.h"
#include "jobs/textbuf.h"
#include "runner/budget.h"
#include "runner/cache.h"
#include "runner/err.h"
#include "runner/forecast.h"
#include "runner/key.h"
#include "runner/outlook.h"
#include "runner/route.h"
#include "runner/runner.h"
#include "runner/shared.h"
#include "runner/tutor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

enum {
    ROWS_MAX = 256, /* lines of the table; the last takes all that come beyond */
    INVALID_SHOWN = 10,
    WAITS_MAX = 5, /* a file that never rests is left out after so many looks */
    PREFIXES = 1 << 17,
    PREFIX_TRIES = 32,
    OPAQUE_LEAST = 2048, /* bytes of a body that may hold an image */
};

/* One line of the table: jobs that one rung takes. */
struct row {
    char *tier, *model, *effort, *lane; /* tier NULL: the jobs name the model */
    struct forecast_sum sum;
};

struct lane_line {
    struct lane_line *next;
    struct forecast_sum sum;
    struct forecast_limits limits;
    struct forecast_time time;
    char name[ROUTE_LANE_MAX];
};

struct name {
    struct name *next;
    char text[];
};

/* A prefix of prompts, and how many jobs have it. */
struct shared_prefix {
    uint64_t key; /* 0: a free place */
    int64_t jobs;
};

struct plan {
    const struct conf *conf;
    struct catalog *catalog;
    struct queue q;
    struct store *st; /* the scratch one */
    struct account_store *accounts;
    struct forecast *forecast;
    struct tutor *tutor;            /* NULL: one rung alone */
    struct shared_prefix *prefixes; /* NULL: no body is long enough to have one */
    const char *dir;
    struct err *e;
    char scratch[PATH_MAX], account[ACCOUNT_NAME_MAX];
    bool running, known, unread, untaught;
    bool staging; /* done jobs changed */
    int64_t now;

    struct name *names; /* lanes that intake was told of */
    struct row rows[ROWS_MAX];
    int rows_len;
    struct lane_line *lanes;
    struct forecast_sum total;
    struct forecast_time time;

    struct store_totals before, after;
    int64_t fresh, changed, staged, left_out, unroutable, unreckoned;
    size_t found, young;
    bool halted, limits_known;
    struct account_halt halt;
    char request[STORE_NAME_MAX];
    struct textbuf invalid, next;
    int invalid_len, next_len;
    bool json;
};

static volatile sig_atomic_t told_to_stop;

static void on_signal(int number)
{
    told_to_stop = number;
}

static int stopped(struct err *e)
{
    return told_to_stop ? err_set(e, ERR_BUSY, "stopped by a signal") : 0;
}

static int no_memory(struct err *e)
{
    return err_set(e, ERR_NOMEM, "out of memory");
}

/* --- the scratch directory --- */

static bool inside(const char *dir, const char *root)
{
    char a[PATH_MAX], b[PATH_MAX];
    if (realpath(dir, a) == NULL || realpath(root, b) == NULL)
        return false;
    size_t n = strlen(b);
    return strncmp(a, b, n) == 0 && (a[n] == '/' || a[n] == '\0' || n == 1);
}

static int scratch_make(struct plan *p, struct err *e)
{
    const char *tmp = getenv("TMPDIR");
    if (tmp == NULL || *tmp == '\0' || inside(tmp, p->q.root))
        tmp = "/tmp";
    snprintf(p->scratch, sizeof p->scratch, "%.3900s/nightmill-plan-XXXXXX", tmp);
    if (mkdtemp(p->scratch))
        return 0;
    *p->scratch = '\0';
    return err_set(e, ERR_SYSTEM, "no temporary directory in %.200s: %s; set TMPDIR",
                   tmp, strerror(errno));
}

static void scratch_drop(struct plan *p)
{
    DIR *d = *p->scratch ? opendir(p->scratch) : NULL;
    if (d == NULL)
        return;
    for (struct dirent *f; (f = readdir(d)) != NULL;)
        unlinkat(dirfd(d), f->d_name, 0);
    closedir(d);
    rmdir(p->scratch);
}

static int copy_file(const char *from, const char *to, struct err *e)
{
    int in = open(from, O_RDONLY | O_CLOEXEC), rc = -1;
    if (in < 0)
        return errno == ENOENT ? 0
                               : err_set(e, ERR_STORE, "%s: %s", from, strerror(errno));
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    while (out >= 0 && (rc = (int)copy_file_range(in, NULL, out, NULL, 1 << 30, 0)) > 0)
        ;
    if (rc != 0)
        err_set(e, ERR_STORE, "%s: %s", to, strerror(errno));
    if (out >= 0)
        close(out);
    close(in);
    return rc != 0 ? -1 : 0;
}

/* SQLite wants to write beside a store even to read it. Where that cannot be, no runner
 * can be at work either, and the files are what they are. */
static int copy_store(struct plan *p, struct err *e)
{
    static const char *const names[] = {"queue.db", "queue.db-wal"};
    if (access(p->q.state, W_OK) == 0)
        return store_copy(p->q.state, p->scratch, e);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char from[PATH_MAX + 16], to[PATH_MAX + 16];
        snprintf(from, sizeof from, "%s/%s", p->q.state, names[i]);
        snprintf(to, sizeof to, "%s/%s", p->scratch, names[i]);
        if (copy_file(from, to, e) < 0)
            return -1;
    }
    return 0;
}

static bool runner_at_work(const struct queue *q)
{
    int fd = open(q->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool busy = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) < 0;
    if (fd >= 0)
        close(fd);
    return busy;
}

static int store_begin(struct plan *p, struct err *e)
{
    p->known = queue_known(&p->q);
    /* Asked first: who comes later finds nothing out that a dead run left. */
    p->running = p->known && runner_at_work(&p->q);
    if (scratch_make(p, e) < 0 || (p->known && copy_store(p, e) < 0) || stopped(e) < 0)
        return -1;
    p->st = store_open(p->scratch, STORE_TRY, false, e);
    return p->st ? 0 : -1;
}

static int apply(struct plan *p, struct moves *m, struct err *e)
{
    int rc = 0;
    if (m->count > 0 && (rc = store_apply(p->st, m, NULL, e)) < 0)
        err_wrap(e, "in %.200s (see TMPDIR)", p->scratch);
    return rc;
}

static int apply_all(struct plan *p, struct moves *m, struct err *e)
{
    int rc = apply(p, m, e);
    moves_free(m);
    return rc;
}

/* --- what a run does before it looks at files --- */

struct taking_up {
    struct plan *p;
    struct moves m;
    bool failed;
};

static int on_left_out(void *arg, const struct store_attempt *a,
                       const struct store_job *j)
{
    struct taking_up *t = arg;
    struct plan *p = t->p;
    bool hold = p->conf->jobs.in_doubt == IN_DOUBT_HOLD;
    struct move *v = moves_add(&t->m, MOVE_SETTLE);
    if (v == NULL) {
        t->failed = true;
        return 1;
    }
    v->job = j->id;
    v->attempt = a->id;
    v->to = hold ? JOB_PARKED : JOB_QUEUED;
    v->outcome = hold ? OUTCOME_IN_DOUBT : OUTCOME_NONE;
    v->now = p->now;
    v->text = "a run died while it was out; it may have been answered";
    v->at.state = ATTEMPT_IN_DOUBT;
    v->at.verdict = -1;
    v->at.attempts = j->attempts;
    v->at.silent = j->silent;
    v->started = a->started_at;
    p->left_out++;
    return 0;
}

/* One a turn: the strings are lent for the call, and the name has one place. */
static int on_request(void *arg, const struct store_request *q)
{
    struct taking_up *t = arg;
    struct plan *p = t->p;
    bool cancel = strcmp(q->verb, "cancel") == 0, retry = strcmp(q->verb, "retry") == 0;
    struct move *done = moves_add(&t->m, MOVE_ANSWERED_REQUEST), *v = NULL;
    if (done == NULL ||
        ((cancel || retry) &&
         (v = moves_add(&t->m, cancel ? MOVE_CANCEL : MOVE_RETRY)) == NULL)) {
        t->failed = true;
        return 1;
    }
    done->count = q->id;
    if (v) {
        snprintf(p->request, sizeof p->request, "%s", q->job ? q->job : "");
        v->name = q->job ? p->request : NULL;
        v->now = p->now;
    }
    return 1;
}

static int take_up(struct plan *p, struct err *e)
{
    struct taking_up t = {.p = p};
    moves_init(&t.m);
    if (!p->running && store_each_out(p->st, on_left_out, &t, e) < 0)
        t.failed = true;
    if (t.failed || apply_all(p, &t.m, e) < 0) {
        moves_free(&t.m);
        return err_set(e, ERR_NOMEM, "out of memory");
    }
    for (;;) {
        if (store_each_request(p->st, on_request, &t, e) < 0 || t.failed) {
            moves_free(&t.m);
            return err_set(e, ERR_NOMEM, "out of memory");
        }
        if (t.m.count == 0)
            return 0;
        if (apply_all(p, &t.m, e) < 0)
            return -1;
    }
}

/* --- intake --- */

static const char *lane_named(struct plan *p, const char *name)
{
    for (struct name *n = p->names; n; n = n->next)
        if (strcmp(n->text, name) == 0)
            return n->text;
    size_t size = strlen(name) + 1;
    struct name *n = malloc(sizeof *n + size);
    if (n == NULL)
        return NULL;
    memcpy(n->text, name, size);
    n->next = p->names;
    p->names = n;
    return n->text;
}

static const char *on_lane_wanted(void *arg, const struct job_spec *s, const char *name,
                                  int64_t *turn, struct err *e)
{
    struct plan *p = arg;
    struct routed to;
    struct route_job j = {.name = name,
                          .tier = s->tier,
                          .model = s->model,
                          .effort = s->effort,
                          .tags = s->tags,
                          .check = s->check,
                          .route = s->route,
                          .asks = s->asks,
                          .bytes = (int64_t)s->body_len,
                          .max_tokens = s->max_tokens};
    if (route_decide(p->conf, p->catalog, &j, &to, e) < 0)
        return NULL;
    const char *lane = lane_named(p, to.lane);
    *turn = 0; /* in which order they would go changes no sum */
    if (lane == NULL)
        no_memory(e);
    return lane;
}

static void count_taken(struct plan *p, const struct moves *m)
{
    for (const struct move *v = m->first; v; v = v->next) {
        if (v->kind != MOVE_TAKE_IN)
            continue;
        p->fresh += v->in.taken == TAKEN_NEW && v->in.spec;
        p->changed += v->in.taken == TAKEN_CHANGED && v->in.spec;
        p->staging = p->staging || v->in.taken == TAKEN_STAGED;
    }
}

static int take_in(struct plan *p, struct intake *in, struct err *e)
{
    struct moves m;
    enum intake_step step = INTAKE_MORE;
    int64_t now = p->now;
    int waits = 0, rc = 0;
    moves_init(&m);
    while (rc == 0) {
        if ((rc = stopped(e)) < 0 || (rc = intake_slice(in, now, &m, &step, e)) < 0 ||
            (rc = apply(p, &m, e)) < 0)
            break;
        bool end = step == INTAKE_END && m.count == 0;
        count_taken(p, &m);
        moves_free(&m);
        if (end)
            break;
        if (step != INTAKE_WAIT)
            continue;
        /* A run waits until they are still; here they are read as they are, as if that
         * much time had passed. */
        if (waits == 0)
            p->young = intake_young(in);
        if (++waits > WAITS_MAX)
            break;
        now = intake_wake_at(in);
    }
    moves_free(&m);
    p->found = intake_found(in);
    p->unread = intake_failed(in);
    return rc;
}

/* Done jobs that changed: what a run does with consent. */
static int revise(struct plan *p, struct err *e)
{
    for (;;) {
        struct moves m;
        moves_init(&m);
        struct move *v = moves_add(&m, MOVE_REVISE);
        if (v == NULL)
            return no_memory(e);
        v->now = p->now;
        int rc = apply(p, &m, e);
        bool more = v->changed > 0;
        moves_free(&m);
        if (rc < 0 || stopped(e) < 0)
            return -1;
        if (!more)
            return 0;
    }
}

static int look_at_files(struct plan *p, struct err *e)
{
    struct store_totals t;
    if (store_totals(p->st, &p->before, e) < 0)
        return -1;
    struct intake *in = intake_new(
        &(struct intake_opts){.root = p->q.root,
                              .conf = p->conf,
                              .store = p->st,
                              .scan = p->before.next_run,
                              .next_source = p->before.next_source,
                              .lane = on_lane_wanted,
                              .arg = p},
        e);
    int rc = in ? take_in(p, in, e) : -1;
    intake_free(in);
    if (rc < 0)
        return -1;
    /* To count a million jobs takes a second: not for nothing. */
    if (p->staging || p->before.revisions > 0) {
        if (store_totals(p->st, &t, e) < 0)
            return -1;
        p->staged = t.staged;
        if (revise(p, e) < 0)
            return -1;
    }
    return store_totals(p->st, &p->after, e);
}

/* --- the forecast --- */

/* Answers teach by what was really sent, under the effort that it would be sent with. */
static int on_answer(void *arg, const struct store_result *r)
{
    struct plan *p = arg;
    struct route_job asked = outlook_asked(&r->job);
    struct forecast_answer x;
    struct routed to;
    if (!outlook_answer(r, &x) ||
        route_decide(p->conf, p->catalog, &asked, &to, NULL) < 0)
        return told_to_stop != 0;
    struct forecast_job j = outlook_job(p->catalog, &r->job, &to, r->last.model);
    if (forecast_learn(p->forecast, &j, &x) < 0)
        return no_memory(p->e);
    return told_to_stop != 0;
}

static bool same(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* The number of the line that such jobs go on; -1: no memory. */
static int row_of(struct plan *p, const struct routed *to)
{
    bool last = p->rows_len == ROWS_MAX - 1;
    for (int i = 0; i < p->rows_len; i++)
        if (same(p->rows[i].tier, to->tier) && same(p->rows[i].model, to->model) &&
            same(p->rows[i].effort, to->effort))
            return i;
    if (p->rows_len == ROWS_MAX)
        return ROWS_MAX - 1;
    struct row *r = &p->rows[p->rows_len];
    r->tier = to->tier && !last ? strdup(to->tier) : NULL;
    r->model = strdup(last ? "(others)" : to->model);
    r->effort = strdup(last ? "" : to->effort);
    r->lane = strdup(last ? "(others)" : to->lane);
    if (r->model == NULL || r->effort == NULL || r->lane == NULL) {
        p->rows_len++; /* what it has is freed with the others */
        return no_memory(p->e);
    }
    return p->rows_len++;
}

/* Encoded images and documents have far more bytes than tokens. */
static void look_for_opaque(const struct store_job *j, struct forecast_job *f)
{
    static const char mark[] = "\"data\"", kind[] = "\"base64\"";
    if (j->body == NULL || j->body_len < OPAQUE_LEAST ||
        memmem(j->body, j->body_len, kind, sizeof kind - 1) == NULL)
        return;
    const char *end = j->body + j->body_len;
    for (const char *at = j->body;
         (at = memmem(at, (size_t)(end - at), mark, sizeof mark - 1)) != NULL;) {
        at += sizeof mark - 1;
        while (at < end && (*at == ' ' || *at == ':'))
            at++;
        if (at == end || *at++ != '"')
            continue;
        const char *quote = memchr(at, '"', (size_t)(end - at));
        size_t len = (size_t)((quote ? quote : end) - at);
        if (len < OPAQUE_LEAST / 2)
            continue;
        f->opaque += (int64_t)len;
        f->opaque_blocks++;
        at += len;
    }
}

/* --- what jobs share at their front, and the prompt cache would hold --- */

static bool may_be_cached(const struct plan *p, const struct store_job *j)
{
    return p->conf->jobs.cache != CACHE_OFF && !(j->asks & ASKS_NO_CACHE) && j->body &&
           j->body_len >= PREFIX_BYTES_MIN;
}

/* The place of a prefix under one rung; NULL: there are too many. */
static struct shared_prefix *prefix_at(struct plan *p, const struct prefix_cut *c,
                                       const struct routed *to)
{
    uint64_t key = c->key[0];
    for (const char *s = to->model; *s; s++)
        key = (key ^ (unsigned char)*s) * UINT64_C(1099511628211);
    for (const char *s = to->effort; *s; s++)
        key = (key ^ (unsigned char)*s) * UINT64_C(1099511628211);
    key += key == 0;
    for (size_t i = 0; i < PREFIX_TRIES; i++) {
        struct shared_prefix *x = &p->prefixes[(key + i) % PREFIXES];
        if (x->key == key || x->key == 0) {
            x->key = key;
            return x;
        }
    }
    return NULL;
}

static int on_prefixed(void *arg, const struct store_job *j)
{
    struct plan *p = arg;
    struct route_job asked = outlook_asked(j);
    struct routed to;
    struct prefix found;
    if (!may_be_cached(p, j) ||
        route_decide(p->conf, p->catalog, &asked, &to, NULL) < 0)
        return told_to_stop != 0;
    if (p->prefixes == NULL &&
        (p->prefixes = calloc(PREFIXES, sizeof *p->prefixes)) == NULL)
        return no_memory(p->e);
    prefix_find(&found, j->body, j->body_len);
    for (int i = 0; i < found.count; i++) {
        struct shared_prefix *x = prefix_at(p, &found.cut[i], &to);
        if (x)
            x->jobs++;
    }
    return told_to_stop != 0;
}

/* One of those that share the longest prefix that pays writes it, the others read it. */
static void expect_cache(struct plan *p, const struct store_job *j,
                         const struct routed *to, struct forecast_job *f)
{
    struct prefix found;
    if (p->prefixes == NULL || !may_be_cached(p, j))
        return;
    prefix_find(&found, j->body, j->body_len);
    for (int i = found.count - 1; i >= 0; i--) {
        const struct prefix_cut *c = &found.cut[i];
        const struct shared_prefix *x = prefix_at(p, c, to);
        struct cache_outlook o = {
            .jobs = x ? x->jobs : 0,
            .tokens = (int64_t)((double)c->bytes / FORECAST_BYTES_PER_TOKEN)};
        if (o.jobs < 2 || (f->model && o.tokens < f->model->min_cacheable))
            continue;
        enum cache_worth worth = cache_worth(f->model, &o, NULL);
        double part = (double)c->bytes / (double)j->bytes, all = (double)o.jobs;
        if (worth == CACHE_WORTH_NOTHING)
            continue;
        part = part < 1 ? part : 1;
        f->cache.read = part * (all - 1) / all;
        *(worth == CACHE_WORTH_1H ? &f->cache.write_1h : &f->cache.write_5m) = part /
                                                                               all;
        return;
    }
}

static int on_waiting(void *arg, const struct store_job *j)
{
    struct plan *p = arg;
    struct route_job asked = outlook_asked(j);
    struct routed to;
    struct learn_view view;
    if (p->tutor == NULL && !p->untaught) {
        p->tutor = tutor_new(p->conf, p->catalog, p->st);
        p->untaught = p->tutor == NULL;
    }
    if (p->tutor && route_decide(p->conf, p->catalog, &asked, &to, NULL) == 0 &&
        to.wants_view && tutor_view(p->tutor, j, &view))
        asked.learned = &view;
    if (route_decide(p->conf, p->catalog, &asked, &to, NULL) < 0) {
        p->unroutable++;
        return told_to_stop != 0;
    }
    struct forecast_job f = outlook_job(p->catalog, j, &to, to.model);
    picodollars worst;
    int row = row_of(p, &to);
    look_for_opaque(j, &f);
    expect_cache(p, j, &to, &f);
    p->unreckoned += !budget_worst(f.model,
                                   &(struct budget_job){.bytes = f.bytes,
                                                        .max_tokens = f.max_tokens,
                                                        .asks = f.asks,
                                                        .max_cost = j->max_cost},
                                   &worst);
    if (row < 0 || forecast_add(p->forecast, &f, row, 1, worst) < 0)
        return no_memory(p->e);
    return told_to_stop != 0;
}

static int on_lane(void *arg, const char *name)
{
    struct plan *p = arg;
    return lane_named(p, name) ? 0 : no_memory(p->e);
}

static bool in_row(void *arg, int row)
{
    const int *want = arg;
    return row == *want;
}

struct of_lane {
    const struct plan *p;
    const char *lane;
};

static bool in_lane(void *arg, int row)
{
    const struct of_lane *x = arg;
    return strcmp(x->p->rows[row].lane, x->lane) == 0;
}

static int learn(struct plan *p, struct err *e)
{
    if ((p->forecast = forecast_new()) == NULL)
        return no_memory(e);
    if (store_each_result(p->st, 0, 0, on_answer, p, e) < 0 || e->code ||
        stopped(e) < 0)
        return -1;
    return 0;
}

static int each_waiting(struct plan *p, store_job_fn *fn, struct err *e)
{
    int64_t next;
    for (struct name *n = p->names; n; n = n->next)
        if (store_ready(p->st, n->text, SIZE_MAX, NULL, fn, p, e) < 0)
            return -1;
    if (store_ready(p->st, NULL, SIZE_MAX, NULL, fn, p, e) < 0 ||
        store_rested(p->st, INT64_MAX, SIZE_MAX, NULL, fn, p, &next, e) < 0)
        return -1;
    return e->code || stopped(e) < 0 ? -1 : 0;
}

static int forecast_waiting(struct plan *p, struct err *e)
{
    if (store_lanes(p->st, on_lane, p, e) < 0 ||
        (p->conf->jobs.cache != CACHE_OFF && each_waiting(p, on_prefixed, e) < 0) ||
        each_waiting(p, on_waiting, e) < 0)
        return -1;
    forecast_sum(p->forecast, NULL, NULL, &p->total);
    for (int i = 0; i < p->rows_len; i++)
        forecast_sum(p->forecast, in_row, &i, &p->rows[i].sum);
    return 0;
}

/* --- lanes: limits and time --- */

/* The account as the queue met it last, else as the key names it. None is made. */
static void open_account(struct plan *p)
{
    char dir[3800], path[4096], key[KEY_MAX], print[64];
    struct err why = {0};
    if (account_dir(dir, sizeof dir, &why) < 0)
        return;
    snprintf(path, sizeof path, "%s/account.db", dir);
    if (access(path, F_OK) < 0 || (p->accounts = account_open(dir, &why)) == NULL)
        return;
    store_meta(p->st, "account", p->account, sizeof p->account, &why);
    /* A command that prints the key may ask somebody for a password: not for this. */
    if (*p->account == '\0' && *p->conf->api.key_command == '\0' &&
        key_load(p->conf, key, sizeof key, &why) == 0) {
        key_fingerprint(key, print, sizeof print);
        account_name(p->accounts, print, p->account, sizeof p->account, &why);
    }
    explicit_bzero(key, sizeof key);
    p->halted = *p->account &&
                account_halt(p->accounts, p->account, &p->halt, &why) == 1;
}

/* What the runners of this machine learned last; else what the account store kept. */
static void find_limits(struct plan *p, struct lane_line *l)
{
    struct account_lane kept = {0};
    struct shared_lane *x = malloc(sizeof *x);
    struct err why = {0};
    if (p->accounts && *p->account) {
        account_lane(p->accounts, p->account, l->name, p->now, &kept, &why);
        l->limits.rpm = kept.rpm;
        l->limits.itpm = kept.itpm;
        l->limits.otpm = kept.otpm;
    }
    if (x && p->accounts && *p->account &&
        shared_look_at(account_where(p->accounts), p->account, l->name, x)) {
        const struct bucket_one *b = x->buckets.one;
        if (b[BUCKET_REQUESTS].limit > 0)
            l->limits.rpm = (int64_t)b[BUCKET_REQUESTS].limit;
        if (b[BUCKET_INPUT].limit > 0)
            l->limits.itpm = (int64_t)b[BUCKET_INPUT].limit;
        if (b[BUCKET_OUTPUT].limit > 0)
            l->limits.otpm = (int64_t)b[BUCKET_OUTPUT].limit;
    }
    free(x);
}

static int look_at_lanes(struct plan *p, struct err *e)
{
    open_account(p);
    p->limits_known = true;
    for (int i = 0; i < p->rows_len; i++) {
        struct lane_line *l = p->lanes;
        while (l && strcmp(l->name, p->rows[i].lane) != 0)
            l = l->next;
        if (l)
            continue;
        if ((l = calloc(1, sizeof *l)) == NULL)
            return no_memory(e);
        snprintf(l->name, sizeof l->name, "%s", p->rows[i].lane);
        l->next = p->lanes;
        p->lanes = l;
        l->limits.window = p->conf->limits.in_flight;
        find_limits(p, l);
        forecast_sum(p->forecast, in_lane, &(struct of_lane){p, l->name}, &l->sum);
        l->time = forecast_time(&l->sum, &l->limits);
        /* Lanes do not wait for each other: the longest is how long it takes. */
        if (l->time.low_ms > p->time.low_ms)
            p->time.low_ms = l->time.low_ms;
        if (l->time.high_ms > p->time.high_ms)
            p->time.high_ms = l->time.high_ms;
        p->limits_known = p->limits_known && l->time.limits_known;
    }
    return 0;
}

/* --- what is said --- */

static const char *s_if_many(int64_t n)
{
    return n == 1 ? "" : "s";
}

/* "1,319" */
static const char *count_text(int64_t n, char *buf, size_t size)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%" PRId64, n), at = 0;
    for (int i = 0; i < len && (size_t)at + 2 < size; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            buf[at++] = ',';
        buf[at++] = digits[i];
    }
    buf[at] = '\0';
    return buf;
}

/* "94 k" */
static const char *tokens_text(int64_t n, char *buf, size_t size)
{
    static const char *const units[] = {"", " k", " M", " G", " T"};
    double x = (double)n;
    size_t unit = 0;
    while (x >= 9999.5 && unit + 1 < sizeof units / sizeof *units) {
        x /= 1000;
        unit++;
    }
    snprintf(buf, size, "%.0f%s", x, units[unit]);
    return buf;
}

static const char *time_text(int64_t ms, char *buf, size_t size)
{
    double s = (double)ms / 1000;
    if (s < 90)
        snprintf(buf, size, "%.0f s", ceil(s));
    else if (s < 90 * 60)
        snprintf(buf, size, "%.0f min", ceil(s / 60));
    else if (s < 48 * 3600)
        snprintf(buf, size, "%.1f h", s / 3600);
    else
        snprintf(buf, size, "%.1f days", s / 86400);
    return buf;
}

static const char *basis_of(const struct forecast_sum *s)
{
    return s->answers == 0                         ? "guess"
           : s->measured == s->jobs && s->jobs > 0 ? "measured"
                                                   : "partly measured";
}

static void say(struct plan *p, const char *text)
{
    if (p->json) {
        textbuf_puts(&p->next, p->next_len ? "," : "");
        textbuf_json(&p->next, text);
    } else {
        textbuf_putf(&p->next, "  - %s\n", text);
    }
    p->next_len++;
}

static void sayf(struct plan *p, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void sayf(struct plan *p, const char *fmt, ...)
{
    char text[900];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    say(p, text);
}

/* Consent is asked by the rules of the run; see the runner's consent_given(). */
static const char *consent_of(const struct plan *p)
{
    if (p->found == 0 && p->before.known - p->before.gone > 0)
        return "accept-empty";
    return p->staged * 10 > p->before.jobs[JOB_DONE] ? "accept-changes" : NULL;
}

enum { CEILINGS = 3 };
static const char *const ceilings[CEILINGS] = {"run", "day", "month"};

static picodollars ceiling(const struct plan *p, int i)
{
    const int64_t all[CEILINGS] = {p->conf->budget.run, p->conf->budget.day,
                                   p->conf->budget.month};
    return all[i];
}

/* As it was set: cents, unless it says more. */
static const char *ceiling_text(picodollars amount, char *buf, size_t size)
{
    char usd[CATALOG_USD_MAX];
    if (amount % (PICODOLLARS_PER_DOLLAR / 100) == 0)
        snprintf(buf, size, "$%.2f", (double)amount / (double)PICODOLLARS_PER_DOLLAR);
    else
        snprintf(buf, size, "$%s", catalog_usd(amount, usd));
    return buf;
}

static void say_about_account(struct plan *p)
{
    char a[40], b[CATALOG_USD_MAX + 1];
    if (p->halted)
        sayf(p,
             "the account was halted (%s: %s): one request goes out to see, the rest "
             "when it is answered",
             p->halt.reason, p->halt.says);
    for (const struct row *r = p->rows; r < p->rows + p->rows_len; r++)
        if (r->sum.unpriced > 0)
            sayf(p, "the price of %s is not known: its %s job%s are in no sum of money",
                 r->model, count_text(r->sum.unpriced, a, sizeof a),
                 s_if_many(r->sum.unpriced));
    for (int i = 0; i < CEILINGS; i++)
        if (ceiling(p, i) > 0 && p->total.cached.high > ceiling(p, i))
            sayf(p,
                 "it may stop at budget.%s = %s before all are sent: up to %s are "
                 "expected",
                 ceilings[i], ceiling_text(ceiling(p, i), b, sizeof b),
                 outlook_usd(p->total.cached.high, true, a, sizeof a));
    if (p->unreckoned > 0 && (ceiling(p, 0) || ceiling(p, 1) || ceiling(p, 2)))
        sayf(p,
             "what %s job%s may cost at worst cannot be reckoned: under a ceiling they "
             "wait until they say max_cost",
             count_text(p->unreckoned, a, sizeof a), s_if_many(p->unreckoned));
}

static void say_about_basis(struct plan *p)
{
    int64_t n = p->total.jobs;
    if (n == 0 || p->total.measured == n)
        return;
    if (p->total.answers == 0)
        sayf(p,
             "no job like these was answered yet: this is a guess from their sizes and "
             "max_tokens, good to a factor of two either way at best%s",
             n >= 200 ? "; a canary measures it: nightmill run --first 50, then plan "
                        "again"
                      : "");
    else if (p->total.measured == 0)
        sayf(p, "this is a guess: fewer than %d jobs like these were answered",
             FORECAST_MEASURED);
    else
        sayf(p,
             "of these %" PRId64 " job%s, %" PRId64 " rest on a guess: fewer than %d "
             "like them were answered",
             n, s_if_many(n), n - p->total.measured, FORECAST_MEASURED);
}

static void say_about_jobs(struct plan *p)
{
    const struct store_totals *t = &p->after;
    const char *consent = consent_of(p);
    int64_t left = t->jobs[JOB_FAILED] + t->jobs[JOB_PARKED];
    if (p->running)
        sayf(p,
             "a runner is at work: the %" PRId64
             " job%s that it has in flight are not in these figures",
             t->jobs[JOB_IN_FLIGHT], s_if_many(t->jobs[JOB_IN_FLIGHT]));
    if (consent && strcmp(consent, "accept-empty") == 0)
        sayf(p,
             "no job files were found where %" PRId64
             " jobs are known: run stops with 2 unless --accept-empty is given",
             p->before.known - p->before.gone);
    else if (consent)
        sayf(p,
             "%" PRId64 " of %" PRId64
             " done jobs changed and would be sent again: run "
             "stops with 2 before it sends anything, unless --accept-changes is given",
             p->staged, p->before.jobs[JOB_DONE]);
    else if (p->staged > 0)
        sayf(p, "%" PRId64 " done job%s changed and will be sent again", p->staged,
             s_if_many(p->staged));
    if (p->left_out > 0)
        sayf(p,
             "%" PRId64
             " request%s were out when a run died: in doubt, and the jobs are "
             "%s",
             p->left_out, s_if_many(p->left_out),
             p->conf->jobs.in_doubt == IN_DOUBT_HOLD ? "parked" : "sent again");
    if (p->young > 0)
        sayf(p,
             "%zu file%s changed just now: run waits until still for %g s, these "
             "figures did not",
             p->young, s_if_many((int64_t)p->young),
             (double)p->conf->intake.settle_ms / 1000);
    if (p->unroutable > 0)
        sayf(p,
             "%" PRId64 " job%s wait for a tier that the configuration does not have",
             p->unroutable, s_if_many(p->unroutable));
    if (p->unread)
        say(p, "something could not be read (see above): these figures say less than "
               "the truth");
    if (left > t->invalid)
        sayf(p,
             "%" PRId64 " failed and %" PRId64
             " parked stay as they are; nightmill retry %s sends them again",
             t->jobs[JOB_FAILED] - t->invalid, t->jobs[JOB_PARKED], p->dir);
    if (p->total.jobs == 0 && p->unroutable == 0)
        say(p, "there is nothing to send");
}

static int on_invalid(void *arg, const struct store_result *r)
{
    struct plan *p = arg;
    if (r->job.gone || r->job.state != JOB_FAILED || r->job.outcome != OUTCOME_INVALID)
        return told_to_stop != 0;
    if (p->json) {
        textbuf_puts(&p->invalid, p->invalid_len ? ",{\"job\":" : "{\"job\":");
        textbuf_json(&p->invalid, r->job.name);
        textbuf_puts(&p->invalid, ",\"file\":");
        textbuf_json(&p->invalid, r->job.path);
        textbuf_putf(&p->invalid, ",\"line\":%" PRId64 ",\"says\":", r->job.line);
        textbuf_json(&p->invalid, r->job.says);
        textbuf_puts(&p->invalid, "}");
    } else {
        textbuf_putf(&p->invalid, "  %s\n", r->job.says ? r->job.says : r->job.name);
    }
    return ++p->invalid_len == INVALID_SHOWN || told_to_stop;
}

static void put_usd(struct textbuf *b, const char *name, const struct forecast_usd *u)
{
    char low[CATALOG_USD_MAX], likely[CATALOG_USD_MAX], high[CATALOG_USD_MAX];
    textbuf_putf(b, ",\"%s\":{\"low\":\"%s\",\"likely\":\"%s\",\"high\":\"%s\"}", name,
                 catalog_usd(u->low, low), catalog_usd(u->likely, likely),
                 catalog_usd(u->high, high));
}

static void put_tokens(struct textbuf *b, const char *name,
                       const struct forecast_tokens *t)
{
    textbuf_putf(
        b, ",\"%s\":{\"low\":%" PRId64 ",\"likely\":%" PRId64 ",\"high\":%" PRId64 "}",
        name, t->low, t->likely, t->high);
}

static void put_sum(struct textbuf *b, const struct forecast_sum *s)
{
    char usd[CATALOG_USD_MAX];
    textbuf_putf(b,
                 "\"jobs\":%" PRId64 ",\"basis\":\"%s\",\"answers\":%" PRId64
                 ",\"measured\":%" PRId64 ",\"unpriced\":%" PRId64,
                 s->jobs, basis_of(s), s->answers, s->measured, s->unpriced);
    put_tokens(b, "tokens_in", &s->in);
    put_tokens(b, "tokens_out", &s->out);
    put_usd(b, "usd", &s->usd);
    put_usd(b, "usd_cached", &s->cached);
    textbuf_putf(b, ",\"usd_at_most\":\"%s\"", catalog_usd(s->worst, usd));
}

static void put_limit(struct textbuf *b, const char *name, int64_t n)
{
    if (n > 0)
        textbuf_putf(b, ",\"%s\":%" PRId64, name, n);
    else
        textbuf_putf(b, ",\"%s\":null", name);
}

static void put_time(struct textbuf *b, const struct forecast_time *t, bool known)
{
    textbuf_putf(b, "{\"low_s\":%.1f,\"high_s\":%.1f,\"limits_known\":%s}",
                 (double)t->low_ms / 1000, (double)t->high_ms / 1000,
                 known ? "true" : "false");
}

static const char *const bounds[] = {[FORECAST_BY_WINDOW] = "in_flight",
                                     [FORECAST_BY_REQUESTS] = "requests",
                                     [FORECAST_BY_INPUT] = "input_tokens",
                                     [FORECAST_BY_OUTPUT] = "output_tokens"};

static void print_json(const struct plan *p, struct textbuf *b)
{
    const struct store_totals *t = &p->after;
    char low[CATALOG_USD_MAX], high[CATALOG_USD_MAX];
    const char *consent = consent_of(p);
    textbuf_puts(b, "{\"queue\":");
    textbuf_json(b, p->dir);
    textbuf_putf(b,
                 ",\"known\":%s,\"running\":%s,\"jobs\":{\"to_send\":%" PRId64
                 ",\"new\":%" PRId64 ",\"changed\":%" PRId64 ",\"done\":%" PRId64
                 ",\"failed\":%" PRId64 ",\"parked\":%" PRId64 ",\"in_flight\":%" PRId64
                 ",\"gone\":%" PRId64 ",\"invalid\":%" PRId64 ",\"unroutable\":%" PRId64
                 "},\"rows\":[",
                 p->known ? "true" : "false", p->running ? "true" : "false",
                 p->total.jobs, p->fresh, p->changed + p->staged, t->jobs[JOB_DONE],
                 t->jobs[JOB_FAILED], t->jobs[JOB_PARKED], t->jobs[JOB_IN_FLIGHT],
                 t->gone, t->invalid, p->unroutable);
    for (int i = 0; i < p->rows_len; i++) {
        const struct row *r = &p->rows[i];
        textbuf_puts(b, i ? ",{\"tier\":" : "{\"tier\":");
        textbuf_json(b, r->tier);
        textbuf_puts(b, ",\"model\":");
        textbuf_json(b, r->model);
        textbuf_puts(b, ",\"effort\":");
        textbuf_json(b, *r->effort ? r->effort : NULL);
        textbuf_puts(b, ",\"lane\":");
        textbuf_json(b, r->lane);
        textbuf_puts(b, ",");
        put_sum(b, &r->sum);
        textbuf_puts(b, "}");
    }
    textbuf_puts(b, "],\"total\":{");
    put_sum(b, &p->total);
    textbuf_puts(b, "},\"duration\":");
    put_time(b, &p->time, p->limits_known);
    textbuf_puts(b, ",\"lanes\":[");
    for (const struct lane_line *l = p->lanes; l; l = l->next) {
        textbuf_puts(b, "{\"name\":");
        textbuf_json(b, l->name);
        textbuf_putf(b, ",\"jobs\":%" PRId64, l->sum.jobs);
        put_limit(b, "requests_per_minute", l->limits.rpm);
        put_limit(b, "input_tokens_per_minute", l->limits.itpm);
        put_limit(b, "output_tokens_per_minute", l->limits.otpm);
        textbuf_putf(b, ",\"bound_by\":\"%s\",\"duration\":", bounds[l->time.bound]);
        put_time(b, &l->time, l->time.limits_known);
        textbuf_puts(b, l->next ? "}," : "}");
    }
    textbuf_puts(b, "],\"ceilings_usd\":");
    for (int i = 0; i < CEILINGS; i++) {
        textbuf_putf(b, "%s\"%s\":", i ? "," : "{", ceilings[i]);
        textbuf_json(b, ceiling(p, i) ? catalog_usd(ceiling(p, i), low) : NULL);
    }
    textbuf_putf(b, "},\"invalid\":[%s],\"young\":%zu,\"consent\":",
                 p->invalid.at ? p->invalid.at : "", p->young);
    textbuf_json(b, consent);
    textbuf_putf(b,
                 ",\"in_doubt\":{\"attempts\":%" PRId64
                 ",\"usd_low\":\"%s\",\"usd_high\":\"%s\"},\"next\":[%s]}\n",
                 t->doubt, catalog_usd(t->doubt_low, low),
                 catalog_usd(t->doubt_high, high), p->next.at ? p->next.at : "");
}

static void print_row(struct textbuf *b, const char *tier, const char *model,
                      const char *lane, const struct forecast_sum *s)
{
    char jobs[40], a[40], c[40], in[96], out[96], usd[96];
    snprintf(in, sizeof in, "%s to %s", tokens_text(s->in.low, a, sizeof a),
             tokens_text(s->in.high, c, sizeof c));
    snprintf(out, sizeof out, "%s to %s", tokens_text(s->out.low, a, sizeof a),
             tokens_text(s->out.high, c, sizeof c));
    snprintf(usd, sizeof usd, "%s to %s",
             outlook_usd(s->cached.low, false, a, sizeof a),
             outlook_usd(s->cached.high, true, c, sizeof c));
    textbuf_putf(b, "%-9.40s %-22.60s %-11.40s %9s  %-18s %-18s %-18s %s\n", tier,
                 model, lane, count_text(s->jobs, jobs, sizeof jobs), in, out,
                 s->unpriced == s->jobs && s->jobs > 0 ? "price not known" : usd,
                 basis_of(s));
}

static void print_table(const struct plan *p, struct textbuf *b)
{
    textbuf_putf(b, "%-9s %-22s %-11s %9s  %-18s %-18s %-18s %s\n", "tier", "model",
                 "lane", "jobs", "tokens in", "tokens out", "cost", "basis");
    for (int i = 0; i < p->rows_len; i++) {
        const struct row *r = &p->rows[i];
        char model[100];
        snprintf(model, sizeof model, "%.60s%s%.30s", r->model, *r->effort ? ", " : "",
                 r->effort);
        print_row(b, r->tier ? r->tier : "-", model, r->lane, &r->sum);
    }
    if (p->rows_len > 1)
        print_row(b, "total", "", "", &p->total);
}

static void print_cost(const struct plan *p, struct textbuf *b)
{
    const struct forecast_sum *s = &p->total;
    char low[40], likely[40], high[40], most[40];
    textbuf_putf(b,
                 "\ncost: %s to %s, likely %s; at most %s, if every answer "
                 "used all of its max_tokens",
                 outlook_usd(s->cached.low, false, low, sizeof low),
                 outlook_usd(s->cached.high, true, high, sizeof high),
                 outlook_usd(s->cached.likely, true, likely, sizeof likely),
                 outlook_usd(s->worst, true, most, sizeof most));
    for (int i = 0; i < CEILINGS; i++)
        if (ceiling(p, i) > 0)
            textbuf_putf(b, "; ceiling of the %s: %s", ceilings[i],
                         ceiling_text(ceiling(p, i), low, sizeof low));
    textbuf_puts(b, "\n");
    if (s->usd.likely != s->cached.likely)
        textbuf_putf(b, "without prompt caching: %s to %s\n",
                     outlook_usd(s->usd.low, false, low, sizeof low),
                     outlook_usd(s->usd.high, true, high, sizeof high));
}

static void print_time(const struct plan *p, struct textbuf *b)
{
    char low[40], high[40], n[40];
    textbuf_putf(b, "time: %s to %s", time_text(p->time.low_ms, low, sizeof low),
                 time_text(p->time.high_ms, high, sizeof high));
    if (!p->limits_known)
        textbuf_puts(b, "; limits are not known before the first answer, so this is by "
                        "limits.in_flight alone");
    textbuf_puts(b, "\n");
    for (const struct lane_line *l = p->lanes; l; l = l->next) {
        static const char *const words[] = {"", "requests", "input tokens",
                                            "output tokens"};
        int64_t limit[] = {0, l->limits.rpm, l->limits.itpm, l->limits.otpm};
        if (l->time.limits_known && l->time.bound != FORECAST_BY_WINDOW)
            textbuf_putf(b, "  %s: %s %s a minute bind\n", l->name,
                         count_text(limit[l->time.bound], n, sizeof n),
                         words[l->time.bound]);
    }
}

static void print_text(const struct plan *p, struct textbuf *b)
{
    const struct store_totals *t = &p->after;
    char n[40], a[40];
    textbuf_putf(b, "%s: %s job%s to send", p->dir,
                 count_text(p->total.jobs, n, sizeof n), s_if_many(p->total.jobs));
    if (p->known)
        textbuf_putf(b, " (%s new, %s changed)", count_text(p->fresh, n, sizeof n),
                     count_text(p->changed + p->staged, a, sizeof a));
    textbuf_putf(b, "; %s invalid", count_text(t->invalid, n, sizeof n));
    if (p->known)
        textbuf_putf(b, "; %" PRId64 " done, %" PRId64 " failed, %" PRId64 " parked",
                     t->jobs[JOB_DONE], t->jobs[JOB_FAILED] - t->invalid,
                     t->jobs[JOB_PARKED]);
    textbuf_puts(b, "\n");
    if (p->total.jobs > 0) {
        textbuf_puts(b, "\n");
        print_table(p, b);
        print_cost(p, b);
        print_time(p, b);
    }
    if (t->doubt > 0) {
        char low[40], high[40];
        textbuf_putf(b,
                     "in doubt from before: %" PRId64
                     " attempt%s that may have cost %s to %s\n",
                     t->doubt, s_if_many(t->doubt),
                     outlook_usd(t->doubt_low, false, low, sizeof low),
                     outlook_usd(t->doubt_high, true, high, sizeof high));
    }
    if (p->invalid_len > 0)
        textbuf_putf(b, "\ninvalid, and not sent:\n%s", p->invalid.at);
    if (t->invalid > p->invalid_len)
        textbuf_putf(b, "  ... and %" PRId64 " more\n", t->invalid - p->invalid_len);
    if (p->next_len > 0)
        textbuf_putf(b, "\nrun:\n%s", p->next.at);
}

static int print(struct plan *p, struct err *e)
{
    struct textbuf b = {0};
    if (p->after.invalid > 0 && store_each_result(p->st, 0, 0, on_invalid, p, e) < 0)
        return -1;
    say_about_jobs(p);
    say_about_account(p);
    say_about_basis(p);
    (p->json ? print_json : print_text)(p, &b);
    bool failed = b.failed || p->invalid.failed || p->next.failed;
    if (!failed && stopped(e) == 0)
        fwrite(b.at, 1, b.len, stdout);
    textbuf_free(&b);
    return failed ? no_memory(e) : e->code ? -1 : 0;
}

static int plan(struct plan *p, struct err *e)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    p->now = (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
    /* Learned first: what a new revision takes away from a job is still known here. */
    if ((p->catalog = cmd_catalog(p->conf, e)) == NULL || store_begin(p, e) < 0 ||
        learn(p, e) < 0 || take_up(p, e) < 0 || look_at_files(p, e) < 0 ||
        forecast_waiting(p, e) < 0 || look_at_lanes(p, e) < 0)
        return -1;
    return print(p, e);
}

static void let_go(struct plan *p)
{
    tutor_free(p->tutor);
    store_close(p->st);
    scratch_drop(p);
    account_close(p->accounts);
    forecast_free(p->forecast);
    catalog_free(p->catalog);
    free(p->prefixes);
    queue_close(&p->q);
    for (struct name *n = p->names, *next; n; n = next) {
        next = n->next;
        free(n);
    }
    for (struct lane_line *l = p->lanes, *next; l; l = next) {
        next = l->next;
        free(l);
    }
    for (int i = 0; i < p->rows_len; i++) {
        free(p->rows[i].tier);
        free(p->rows[i].model);
        free(p->rows[i].effort);
        free(p->rows[i].lane);
    }
    textbuf_free(&p->invalid);
    textbuf_free(&p->next);
}

int cmd_plan(const struct cmd_args *a)
{
    struct err e = {0};
    struct conf conf = {0};
    struct sigaction on = {.sa_handler = on_signal};
    static struct plan p; /* large; and there is one */
    p = (struct plan){.conf = &conf, .dir = a->dir, .json = a->json, .e = &e};
    p.q.lock_root = p.q.lock_state = -1;
    /* The temporary directory goes on every way out. */
    sigaction(SIGINT, &on, NULL);
    sigaction(SIGTERM, &on, NULL);
    sigaction(SIGHUP, &on, NULL);
    if (cmd_conf(a, &conf, &e) == 0 && queue_find(&p.q, a->dir, &conf, &e) == 0)
        plan(&p, &e);
    /* Invalid jobs are the plan's news, not its failure: a run would send the others, and
     * exits 1 for them itself. What could not be read at all makes the figures wrong. */
    int code = e.code != ERR_NONE ? cmd_failed(&e)
               : p.unread         ? EXIT_SOME_FAILED
                                  : EXIT_ALL_DONE;
    let_go(&p);
    conf_free(&conf);
    return code;
}
