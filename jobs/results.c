#include "jobs/results.h"

#include "conf/catalog.h"
#include "jobs/appender.h"
#include "jobs/files.h"
#include "jobs/intake.h"
#include "jobs/jsonscan.h"
#include "jobs/textbuf.h"
#include "runner/effect.h"
#include "runner/err.h"
#include "runner/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUCKETS = 256, INSET_MIN = 2048 };

/* A message, and behind which byte of the text it comes: long ones are not copied twice. */
struct inset {
    size_t at, len;
    const char *message; /* borrowed until the flush */
};

/* A bulk source's results file. */
struct out {
    struct out *next;
    int64_t source, inode, length; /* as far as we wrote it */
    bool stale;                    /* must be made anew */
    bool unsynced;
    struct textbuf lines; /* not written yet, but for the messages in them */
    struct inset *insets;
    size_t insets_len, insets_size;
    char path[]; /* from the results directory */
};

struct results {
    char *dir;
    struct store *store;
    struct out *out[BUCKETS];
    int64_t seq; /* the highest that was written */
    bool wrote;
    int64_t skipped;             /* results that have no place; the store has them */
    char unsynced_dir[PATH_MAX]; /* "": none */
    struct textbuf text;
    struct appender end; /* of the file that is added to */
};

struct results *results_open(const char *dir, struct store *st, struct err *e)
{
    struct results *r = calloc(1, sizeof *r);
    if (r == NULL || (r->dir = strdup(dir)) == NULL) {
        free(r);
        err_set(e, ERR_NOMEM, "out of memory");
        return NULL;
    }
    r->store = st;
    if (intake_mark(dir, 0777, e) < 0) {
        results_close(r);
        return NULL;
    }
    return r;
}

void results_close(struct results *r)
{
    if (r == NULL)
        return;
    for (int i = 0; i < BUCKETS; i++)
        for (struct out *o = r->out[i], *next; o; o = next) {
            next = o->next;
            textbuf_free(&o->lines);
            free(o->insets);
            free(o);
        }
    textbuf_free(&r->text);
    appender_free(&r->end);
    free(r->dir);
    free(r);
}

/* --- shapes --- */

static void put_usage(struct textbuf *b, const struct store_attempt *a)
{
    if (!a->has_usage) {
        textbuf_puts(b, "null");
        return;
    }
    textbuf_puts(b, "{\"input_tokens\":");
    textbuf_int(b, a->usage.input);
    textbuf_puts(b, ",\"output_tokens\":");
    textbuf_int(b, a->usage.output);
    textbuf_puts(b, ",\"cache_read_input_tokens\":");
    textbuf_int(b, a->usage.cache_read);
    textbuf_puts(b, ",\"cache_creation_input_tokens\":");
    textbuf_int(b, a->usage.cache_write_5m + a->usage.cache_write_1h);
    textbuf_puts(b, "}");
}

static void put_error(struct textbuf *b, const struct store_result *x)
{
    const char *type = x->job.type && *x->job.type ? x->job.type
                                                   : job_outcome_name(x->job.outcome);
    textbuf_puts(b, "{\"type\":");
    textbuf_json(b, type);
    textbuf_puts(b, ",\"message\":");
    textbuf_json(b, x->job.says ? x->job.says : "");
    textbuf_puts(b, "}");
}

/* The members that single results and bulk lines share. */
static void put_members(struct textbuf *b, const struct store_result *x)
{
    char usd[CATALOG_USD_MAX];
    textbuf_puts(b, "\"job\":");
    textbuf_json(b, x->job.name);
    textbuf_puts(b, ",\"state\":\"");
    textbuf_puts(b, job_state_name(x->job.state));
    textbuf_puts(b, "\",\"outcome\":\"");
    textbuf_puts(b, job_outcome_name(x->job.outcome));
    textbuf_puts(b, "\",\"tier\":");
    textbuf_json(b, x->last.tier);
    textbuf_puts(b, ",\"model\":");
    textbuf_json(b, x->last.model);
    textbuf_puts(b, ",\"why\":");
    textbuf_json(b, x->last.why);
    textbuf_puts(b, ",\"attempts\":");
    textbuf_int(b, x->job.sendings);
    textbuf_puts(b, ",\"usage\":");
    put_usage(b, &x->last);
    textbuf_puts(b, ",\"cost_usd\":\"");
    textbuf_puts(b, catalog_usd(x->job.cost, usd));
    textbuf_puts(b, "\",\"request_id\":");
    textbuf_json(b,
                 x->last.request_id && *x->last.request_id ? x->last.request_id : NULL);
    textbuf_puts(b, ",\"started_at\":");
    textbuf_json_time(b, x->job.first_started);
    textbuf_puts(b, ",\"finished_at\":");
    textbuf_json_time(b, x->job.finished_at);
}

/* A message may be spread over lines; a line of JSON may not. Outside of strings a
 * newline is mere white space. */
static void put_message(struct textbuf *b, const char *message, size_t len)
{
    while (len > 0) {
        const char *nl = memchr(message, '\n', len);
        size_t n = nl ? (size_t)(nl - message) : len;
        textbuf_put(b, message, n);
        if (nl)
            textbuf_put(b, " ", 1);
        n += nl != NULL;
        message += n;
        len -= n;
    }
}

/* A long message of one line is only referred to. False: it is put as text. */
static bool inset(struct out *o, const char *message, size_t len)
{
    if (len < INSET_MIN || memchr(message, '\n', len))
        return false;
    if (o->insets_len == o->insets_size) {
        size_t size = o->insets_size ? o->insets_size * 2 : 64;
        struct inset *grown = realloc(o->insets, size * sizeof *grown);
        if (grown == NULL)
            return false; /* no memory for it */
        o->insets = grown;
        o->insets_size = size;
    }
    o->insets[o->insets_len++] = (struct inset){o->lines.len, len, message};
    return true;
}

/* `o`: whose lines `b` is, or NULL. */
static void put_line(struct textbuf *b, const struct store_result *x, bool bulk_line,
                     struct out *o)
{
    if (bulk_line) {
        textbuf_puts(b, "{\"custom_id\":");
        textbuf_json(b, x->job.custom_id);
        textbuf_puts(b, ",\"result\":");
        if (x->message) {
            textbuf_puts(b, "{\"type\":\"succeeded\",\"message\":");
            if (o == NULL || !inset(o, x->message, x->message_len))
                put_message(b, x->message, x->message_len);
            textbuf_puts(b, "}");
        } else if (x->job.outcome == OUTCOME_CANCELED) {
            textbuf_puts(b, "{\"type\":\"canceled\"}");
        } else {
            textbuf_puts(b, "{\"type\":\"errored\",\"error\":{\"type\":\"error\","
                            "\"error\":");
            put_error(b, x);
            textbuf_puts(b, "}}");
        }
        textbuf_puts(b, ",\"nightmill\":{");
    } else {
        textbuf_puts(b, "{");
    }
    put_members(b, x);
    if (!bulk_line && x->message) {
        textbuf_puts(b, ",\"message\":");
        put_message(b, x->message, x->message_len);
    }
    if (x->job.state != JOB_DONE || x->lost) {
        textbuf_puts(b, ",\"error\":");
        put_error(b, x);
    }
    textbuf_puts(b, bulk_line ? "}}" : "}");
}

void results_json(struct textbuf *b, const struct store_result *x, bool bulk_line)
{
    put_line(b, x, bulk_line, NULL);
}

void results_text(struct textbuf *b, const char *message, size_t len)
{
    struct json_want want[] = {{.key = "content"}};
    struct json_span block;
    size_t pos = 0;
    bool first = true;
    if (json_scan(message, len, want, 1, NULL) < 0 || json_type(want[0].value) != '[')
        return;
    while (json_next(want[0].value, &pos, NULL, &block)) {
        size_t n;
        char *text;
        if (!json_is(json_get(block, "type"), "text") ||
            (text = json_text(json_get(block, "text"), &n)) == NULL)
            continue;
        if (!first)
            textbuf_puts(b, "\n\n");
        first = false;
        textbuf_put(b, text, n);
        free(text);
    }
    if (b->len > 0 && b->at[b->len - 1] != '\n')
        textbuf_puts(b, "\n");
}

/* --- files --- */

static int failed(const char *path, const char *doing, struct err *e)
{
    return err_set(e, ERR_STORE, "%s: cannot %s: %s", path, doing, strerror(errno));
}

static int write_all(int fd, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, bytes, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        bytes += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Names that changed are safe when their directory is synced: once for many files of one
 * directory, and at the latest by results_flush(). */
static int sync_names(struct results *r, struct err *e)
{
    if (*r->unsynced_dir == '\0' || files_sync_dir(r->unsynced_dir, e) < 0)
        return *r->unsynced_dir ? -1 : 0;
    *r->unsynced_dir = '\0';
    return 0;
}

static int names_changed(struct results *r, const char *full, size_t dir_len,
                         struct err *e)
{
    if (strlen(r->unsynced_dir) == dir_len &&
        memcmp(r->unsynced_dir, full, dir_len) == 0)
        return 0;
    if (sync_names(r, e) < 0)
        return -1;
    snprintf(r->unsynced_dir, sizeof r->unsynced_dir, "%.*s", (int)dir_len, full);
    return 0;
}

/* The whole of a file, or what was there before. */
static int put_file(struct results *r, const char *full, const char *bytes, size_t len,
                    struct err *e)
{
    char tmp[PATH_MAX];
    const char *slash = strrchr(full, '/');
    /* Of a fixed length: a name may be as long as the file system allows. */
    if (snprintf(tmp, sizeof tmp, "%.*s/.nightmill.tmp", (int)(slash - full), full) >=
        (int)sizeof tmp)
        return err_set(e, ERR_STORE, "%s: the path is too long", full);
    if (files_make_parents(r->dir, full, e) < 0)
        return -1;
    int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0)
        return failed(tmp, "be written", e);
    effect_before("write result", (long long)len);
    int rc = write_all(fd, bytes, len) < 0 || fsync(fd) < 0
                 ? failed(tmp, "be written", e)
                 : 0;
    effect_after("write result", (long long)len);
    close(fd);
    if (rc == 0) {
        effect_before("rename result", 0);
        if (rename(tmp, full) < 0)
            rc = failed(full, "be put in place", e);
        effect_after("rename result", 0);
    }
    if (rc < 0) {
        unlink(tmp);
        return -1;
    }
    return names_changed(r, full, (size_t)(slash - full), e);
}

static int write_single(struct results *r, const struct store_result *x, struct err *e)
{
    char full[PATH_MAX];
    if (snprintf(full, sizeof full, "%s/%s.json", r->dir, x->job.name) >=
        (int)sizeof full - 8)
        return err_set(e, ERR_STORE, "%s: the path is too long", x->job.name);

    /* The text first: where NAME.json is, all of the result is. */
    char *dot = full + strlen(full) - strlen(".json");
    strcpy(dot, ".md");
    textbuf_clear(&r->text);
    if (x->message)
        results_text(&r->text, x->message, x->message_len);
    if (r->text.len > 0) {
        if (put_file(r, full, r->text.at, r->text.len, e) < 0)
            return -1;
    } else if (unlink(full) < 0 && errno != ENOENT && errno != ENOTDIR) {
        return failed(full, "be removed", e);
    }

    strcpy(dot, ".json");
    textbuf_clear(&r->text);
    results_json(&r->text, x, false);
    textbuf_puts(&r->text, "\n");
    if (r->text.failed)
        return err_set(e, ERR_NOMEM, "out of memory");
    return put_file(r, full, r->text.at, r->text.len, e);
}

static struct out *out_of(struct results *r, int64_t source)
{
    for (struct out *o = r->out[source % BUCKETS]; o; o = o->next)
        if (o->source == source)
            return o;
    return NULL;
}

static struct out *out_add(struct results *r, int64_t source, const char *path,
                           struct err *e)
{
    struct out *o = out_of(r, source);
    if (o)
        return o;
    if ((o = calloc(1, sizeof *o + strlen(path) + 1)) == NULL) {
        err_set(e, ERR_NOMEM, "out of memory");
        return NULL;
    }
    strcpy(o->path, path); /* DIR/x.jsonl has its results in results/x.jsonl */
    o->source = source;
    o->next = r->out[source % BUCKETS];
    r->out[source % BUCKETS] = o;
    return o;
}

static void full_path(const struct results *r, const char *path, char *full)
{
    snprintf(full, PATH_MAX, "%s/%s", r->dir, path);
}

/* Can there be a file of this name at all? Not below another file, nor in a directory's
 * place: `x.md` and a directory `x.json/` want the same name. */
static bool name_is_taken(const struct results *r, const char *name)
{
    char path[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%s/%s.json", r->dir, name);
    if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return true;
    snprintf(path, sizeof path, "%s/%s.md", r->dir, name);
    if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
        return true;
    for (char *p = path + strlen(r->dir) + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        if (lstat(path, &st) == 0 && !S_ISDIR(st.st_mode))
            return true;
        *p = '/';
    }
    return false;
}

int results_write(struct results *r, const struct store_result *x, struct err *e)
{
    if (!x->job.bulk) {
        struct err why = {0};
        if (write_single(r, x, &why) < 0 && !name_is_taken(r, x->job.name))
            return err_set(e, why.code, "%s", why.text);
        if (why.code) {
            log_error("job=%s its result has no place: %s; rename the job", x->job.name,
                      why.text);
            r->skipped++;
        }
    } else {
        struct out *o = out_add(r, x->job.source, x->job.path, e);
        if (o == NULL)
            return -1;
        o->stale = o->stale || x->job.rests > 1; /* its earlier line must go */
        if (!o->stale) {
            put_line(&o->lines, x, true, o);
            textbuf_puts(&o->lines, "\n");
            if (o->lines.failed)
                return err_set(e, ERR_NOMEM, "out of memory");
        }
    }
    r->wrote = true;
    if (x->job.seq > r->seq)
        r->seq = x->job.seq;
    return 0;
}

/* The file as it should be, open; -1: it must be made anew, or (with `e`
 * set) an error. */
static int open_known(struct results *r, struct out *o, struct err *e)
{
    char full[PATH_MAX];
    struct stat st;
    full_path(r, o->path, full);
    if (files_make_parents(r->dir, full, e) < 0)
        return -1;
    int fd = open(full,
                  O_WRONLY | O_CLOEXEC | O_NOFOLLOW |
                      (o->length == 0 && o->inode == 0 ? O_CREAT : 0),
                  0666);
    if (fd < 0 && errno == ENOENT) {
        o->stale = true;
        return -1;
    }
    if (fd < 0 || fstat(fd, &st) < 0) {
        failed(full, "be opened", e);
    } else if (o->inode == 0 && st.st_size == 0) {
        o->inode = (int64_t)st.st_ino;
        return fd;
    } else if ((int64_t)st.st_ino != o->inode || st.st_size != o->length) {
        log_warn("results=%s is not the file it was: it is made anew", o->path);
        o->stale = true;
    } else {
        return fd;
    }
    if (fd >= 0)
        close(fd);
    return -1;
}

static void drop_lines(struct out *o)
{
    textbuf_clear(&o->lines);
    o->insets_len = 0;
}

static void append_lines(struct appender *a, const struct out *o)
{
    size_t from = 0;
    for (size_t i = 0; i < o->insets_len; i++) {
        const struct inset *x = &o->insets[i];
        appender_put(a, o->lines.at + from, x->at - from);
        appender_put(a, x->message, x->len);
        from = x->at;
    }
    appender_put(a, o->lines.at + from, o->lines.len - from);
}

static int flush_one(struct results *r, struct out *o, struct err *e)
{
    if (o->stale || o->lines.len == 0) {
        drop_lines(o);
        return 0;
    }
    int fd = open_known(r, o, e);
    if (fd < 0) {
        drop_lines(o);
        return o->stale ? 0 : -1;
    }
    if (appender_start(&r->end, fd, o->length) < 0) {
        close(fd);
        return err_set(e, ERR_NOMEM, "out of memory");
    }
    effect_before("append results", o->length);
    append_lines(&r->end, o);
    int rc = appender_flush(&r->end);
    effect_after("append results", o->length);
    if (rc < 0) {
        /* Half a line may stand there now; the store has it all. */
        o->stale = true;
        rc = failed(o->path, "be written", e);
    } else {
        o->length = appender_end(&r->end);
        o->unsynced = true;
    }
    drop_lines(o);
    close(fd);
    return rc;
}

int results_flush(struct results *r, struct err *e)
{
    for (int i = 0; i < BUCKETS; i++)
        for (struct out *o = r->out[i]; o; o = o->next)
            if (flush_one(r, o, e) < 0)
                return -1;
    return sync_names(r, e);
}

static int sync_one(struct results *r, struct out *o, struct err *e)
{
    char full[PATH_MAX];
    full_path(r, o->path, full);
    int fd = open(full, O_RDONLY | O_CLOEXEC);
    effect_before("fsync results", o->length);
    int rc = fd < 0 || fsync(fd) < 0 ? failed(full, "be synced", e) : 0;
    effect_after("fsync results", o->length);
    if (fd >= 0)
        close(fd);
    return rc < 0 ? -1 : files_sync_parent(full, e);
}

static int tell_length(const struct out *o, struct moves *m, struct err *e)
{
    struct move *v = moves_add(m, MOVE_RESULT_FILE);
    if (v == NULL)
        return err_set(e, ERR_NOMEM, "out of memory");
    v->source = o->source;
    v->inode = o->stale ? -1 : o->inode; /* -1: no file has it, so it is made anew */
    v->length = o->length;
    return 0;
}

int results_sync(struct results *r, struct moves *m, struct err *e)
{
    if (!r->wrote)
        return 0;
    if (results_flush(r, e) < 0)
        return -1;
    for (int i = 0; i < BUCKETS; i++)
        for (struct out *o = r->out[i]; o; o = o->next) {
            if (!o->unsynced && !o->stale)
                continue;
            if ((!o->stale && sync_one(r, o, e) < 0) || tell_length(o, m, e) < 0)
                return -1;
            o->unsynced = false;
        }
    struct move *v = moves_add(m, MOVE_RESULTS);
    if (v == NULL)
        return err_set(e, ERR_NOMEM, "out of memory");
    v->seq = r->seq;
    r->wrote = false;
    return 0;
}

int64_t results_skipped(const struct results *r)
{
    return r->skipped;
}

/* --- from the store --- */

struct anew {
    struct results *r;
    struct err *e;
    int fd;
    int64_t length, seq;
    const char *tmp;
};

static int spill(struct anew *a)
{
    struct textbuf *b = &a->r->text;
    if (b->failed || write_all(a->fd, b->at, b->len) < 0)
        return failed(a->tmp, "be written", a->e);
    a->length += (int64_t)b->len;
    textbuf_clear(b);
    return 0;
}

static int on_line(void *arg, const struct store_result *x)
{
    struct anew *a = arg;
    struct textbuf *b = &a->r->text;
    if (x->job.outcome == OUTCOME_MASS_FAILURE)
        return 0; /* never sent: there is nothing to tell of each */
    results_json(b, x, true);
    textbuf_puts(b, "\n");
    return b->failed || (b->len > 1 << 20 && spill(a) < 0);
}

static int rebuild_one(struct results *r, struct out *o, struct moves *m, struct err *e)
{
    char full[PATH_MAX], tmp[PATH_MAX + 8];
    struct stat st = {0};
    full_path(r, o->path, full);
    snprintf(tmp, sizeof tmp, "%s.tmp", full);
    if (files_make_parents(r->dir, full, e) < 0)
        return -1;
    struct anew a = {.r = r, .e = e, .tmp = tmp};
    a.fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (a.fd < 0)
        return failed(tmp, "be written", e);
    textbuf_clear(&r->text);
    struct err inner = {0};
    bool bad = store_each_result(r->store, 0, o->source, on_line, &a, &inner) < 0 ||
               spill(&a) < 0 || (e && e->code != ERR_NONE);
    if (inner.code)
        err_set(e, inner.code, "%s", inner.text);
    effect_before("rename results", a.length);
    if (!bad && (fsync(a.fd) < 0 || fstat(a.fd, &st) < 0 || rename(tmp, full) < 0))
        bad = failed(full, "be put in place", e) < 0;
    effect_after("rename results", a.length);
    close(a.fd);
    if (bad) {
        unlink(tmp);
        return -1;
    }
    o->inode = (int64_t)st.st_ino;
    o->length = a.length;
    o->stale = o->unsynced = false;
    return files_sync_parent(full, e) < 0 ? -1 : tell_length(o, m, e);
}

int results_rebuild(struct results *r, struct moves *m, struct err *e)
{
    for (int i = 0; i < BUCKETS; i++)
        for (struct out *o = r->out[i]; o; o = o->next)
            if (o->stale && rebuild_one(r, o, m, e) < 0)
                return -1;
    return 0;
}

/* Take up what the store knows of a bulk source's file, and cut what a crash left. */
static int on_source(void *arg, const struct store_source *s)
{
    struct anew *a = arg;
    struct results *r = a->r;
    struct store_file f;
    char full[PATH_MAX];
    struct stat st;
    if (!s->bulk)
        return 0;
    int known = store_file(r->store, s->id, &f, a->e);
    if (known < 0)
        return -1;
    full_path(r, s->path, full);
    bool there = lstat(full, &st) == 0;
    if (!known && !there)
        return 0;
    struct out *o = out_add(r, s->id, s->path, a->e);
    if (o == NULL)
        return -1;
    if (!known || !there || !S_ISREG(st.st_mode) || f.inode != (int64_t)st.st_ino ||
        st.st_size < f.length) {
        o->stale = true;
        return 0;
    }
    o->inode = f.inode;
    o->length = f.length;
    effect_before("truncate results", f.length);
    if (st.st_size > f.length && truncate(full, f.length) < 0)
        return failed(full, "be cut to its known length", a->e);
    effect_after("truncate results", f.length);
    return 0;
}

/* Its message is lent for this call alone. */
static int on_missing(void *arg, const struct store_result *x)
{
    struct anew *a = arg;
    if (x->job.outcome == OUTCOME_MASS_FAILURE)
        return 0;
    if (results_write(a->r, x, a->e) < 0)
        return -1;
    struct out *o = x->job.bulk ? out_of(a->r, x->job.source) : NULL;
    return o && o->insets_len > 0 ? flush_one(a->r, o, a->e) : 0;
}

int results_recover(struct results *r, int64_t seq, struct moves *m, struct err *e)
{
    struct err inner = {0};
    struct anew a = {.r = r, .e = &inner};
    if (store_each_source(r->store, on_source, &a, &inner) < 0 || inner.code ||
        store_each_result(r->store, seq, 0, on_missing, &a, &inner) < 0 || inner.code)
        return err_set(e, inner.code, "%s", inner.text);
    return results_sync(r, m, e) < 0 ? -1 : results_rebuild(r, m, e);
}
