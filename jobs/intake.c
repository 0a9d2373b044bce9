#include "jobs/intake.h"

#include "conf/conf.h"
#include "jobs/digest.h"
#include "jobs/files.h"
#include "jobs/jsonscan.h"
#include "jobs/source.h"
#include "jobs/store.h"
#include "jobs/walk.h"
#include "runner/err.h"
#include "runner/log.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    SLICE_JOBS = 512,
    SLICE_BYTES = 1024 * 1024,
    SLICE_FILES = 2000, /* looked at in one slice of the walk */
    READ_BYTES = 256 * 1024,
    SYSTEM_FILE_MAX = 4 * 1024 * 1024,
    STAMP_MAX = 96,
    FULL_MAX = PATH_MAX *
               2,        /* root and path; what is too long fails when it is opened */
    SCANS_MAX = 1 << 30, /* readings of sources in one run, more than there can be */
    SAID_MS = 3600000,   /* watching: the same trouble is told again after that */
    SETTLES_MAX = 30,    /* a file that never rests is left for the next run */
    LISTED_MAX = 8192,   /* watching: new files that one scan takes up */
};

struct todo {
    struct todo *next;
    int64_t source;  /* its row's number, old or new */
    int64_t look_at; /* young: when to look again */
    int64_t since;   /* young: since when */
    bool known, bulk, link_out;
    char path[]; /* from the root */
};

struct list {
    struct todo *first, **last;
    size_t count;
};

/* One thing a slice's moves borrow. */
struct lent {
    struct lent *next;
    struct job_spec spec;
    char *name, *other, *text, *custom_id;
    bool by_digest;
};

struct intake {
    struct intake_opts o;
    char *root; /* resolved */
    struct digest *digest;
    enum { WALKING, WALKED, READING, ENDED } phase;
    struct walk *walk;
    bool walk_failed, any_gone, read_failed;
    int64_t began_at, said_at; /* wall; said_at: trouble that may stay was told */
    size_t found;
    int64_t scans; /* readings begun; each has a number of its own */
    struct list changed, fresh, bulk, young;
    int64_t look_again_at; /* watching: what was too young is worth a look then */
    bool left;             /* watching: more is there than was listed */
    unsigned char *seen;   /* a bit a source: the walk saw it */
    size_t seen_len;
    struct lent *lent;

    /* the bulk file that is being read */
    struct todo *open;
    int fd;
    char *buf;
    size_t len, size;
    bool at_end, skipping; /* inside a line that is too long */
    bool unfinished;       /* somebody still writes its last line */
    int64_t line;
    char stamp[STAMP_MAX];
};

static void list_init(struct list *l)
{
    l->first = NULL;
    l->last = &l->first;
    l->count = 0;
}

static void list_add(struct list *l, struct todo *t)
{
    t->next = NULL;
    *l->last = t;
    l->last = &t->next;
    l->count++;
}

static struct todo *list_take(struct list *l)
{
    struct todo *t = l->first;
    if (t == NULL)
        return NULL;
    l->first = t->next;
    if (l->first == NULL)
        l->last = &l->first;
    l->count--;
    return t;
}

static void list_free(struct list *l)
{
    struct todo *t;
    while ((t = list_take(l)))
        free(t);
}

static int nomem(struct err *e)
{
    return err_set(e, ERR_NOMEM, "out of memory");
}

int intake_mark(const char *dir, unsigned mode, struct err *e)
{
    char path[PATH_MAX];
    static const char says[] = "nightmill writes here; no jobs are read from here.\n";
    if (files_make_dirs(dir, mode, e) < 0)
        return -1;
    if (snprintf(path, sizeof path, "%s/" INTAKE_MARKER, dir) >= (int)sizeof path)
        return err_set(e, ERR_STORE, "%s: the path is too long", dir);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0 && errno == EEXIST)
        return 0;
    if (fd < 0 || write(fd, says, sizeof says - 1) < 0 || fsync(fd) < 0) {
        err_set(e, ERR_STORE, "%s: cannot be written: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return -1;
    }
    close(fd);
    return files_sync_dir(dir, e);
}

struct intake *intake_new(const struct intake_opts *o, struct err *e)
{
    struct intake *in = calloc(1, sizeof *in);
    if (in == NULL) {
        nomem(e);
        return NULL;
    }
    in->o = *o;
    in->fd = -1;
    in->digest = digest_new();
    list_init(&in->changed);
    list_init(&in->fresh);
    list_init(&in->bulk);
    list_init(&in->young);
    in->root = realpath(o->root, NULL);
    if (in->root == NULL)
        err_set(e, ERR_INPUT, "%s: %s", o->root, strerror(errno));
    else
        in->walk = walk_new(in->root, e);
    if (in->walk == NULL) {
        intake_free(in);
        return NULL;
    }
    return in;
}

static void give_back(struct intake *in)
{
    for (struct lent *l = in->lent, *next; l; l = next) {
        next = l->next;
        job_spec_free(&l->spec);
        free(l->name);
        free(l->other);
        free(l->text);
        free(l->custom_id);
        free(l);
    }
    in->lent = NULL;
}

static void close_bulk(struct intake *in)
{
    if (in->fd >= 0)
        close(in->fd);
    in->fd = -1;
    in->open = NULL;
    free(in->buf);
    in->buf = NULL;
    in->len = in->size = 0;
}

void intake_free(struct intake *in)
{
    if (in == NULL)
        return;
    give_back(in);
    free(in->open);
    close_bulk(in);
    list_free(&in->changed);
    list_free(&in->fresh);
    list_free(&in->bulk);
    list_free(&in->young);
    walk_free(in->walk);
    digest_free(in->digest);
    free(in->root);
    free(in->seen);
    free(in);
}

/* --- names --- */

static bool leftover(const char *name)
{
    static const char *const globs[] = {"*~",    "#*#",   "*.swp",   "*.swo",
                                        "*.tmp", "*.bak", "README*", "*.orig"};
    for (size_t i = 0; i < sizeof globs / sizeof globs[0]; i++)
        if (fnmatch(globs[i], name, 0) == 0)
            return true;
    return *name == '.' || *name == '_';
}

static bool ignored(const struct conf *conf, const char *path, const char *name)
{
    const struct words *w = &conf->intake.ignore;
    for (size_t i = 0; i < w->count; i++)
        if (fnmatch(w->word[i], path, 0) == 0 || fnmatch(w->word[i], name, 0) == 0)
            return true;
    return false;
}

/* The path without its extension. Bytes that are no text cannot be in a name. */
static char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    size_t len = dot && (slash == NULL || dot > slash) ? (size_t)(dot - path)
                                                       : strlen(path);
    return strndup(path, len);
}

static bool path_is_text(const char *path)
{
    char quoted[PATH_MAX + 3];
    size_t n = strlen(path);
    const char *slash = strrchr(path, '/');
    if (strlen(slash ? slash + 1 : path) > NAME_MAX - sizeof ".json")
        return false; /* its result could not have its name */
    if (n > STORE_NAME_MAX - SOURCE_NAME_MAX - 40 || strpbrk(path, "\"\\"))
        return strpbrk(path, "\"\\") && n <= STORE_NAME_MAX - SOURCE_NAME_MAX - 40;
    snprintf(quoted, sizeof quoted, "\"%s\"", path);
    return json_valid(quoted, n + 2, NULL) == 0;
}

/* --- stamps --- */

static void stamp_of(const struct stat *st, char *to)
{
    snprintf(to, STAMP_MAX, "%lld:%lld.%09ld:%lld.%09ld:%llu", (long long)st->st_size,
             (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec,
             (long long)st->st_ctim.tv_sec, st->st_ctim.tv_nsec,
             (unsigned long long)st->st_ino);
}

static int stamp_at(const struct intake *in, const char *path, char *to)
{
    char full[FULL_MAX];
    struct stat st;
    snprintf(full, sizeof full, "%s/%s", in->root, path);
    if (stat(full, &st) < 0)
        return -1;
    stamp_of(&st, to);
    return 0;
}

/* `refs` is "stamp path\n..." as reference() wrote it. */
static bool refs_unchanged(const struct intake *in, const char *refs)
{
    while (*refs) {
        char path[PATH_MAX], now[STAMP_MAX];
        size_t line = strcspn(refs, "\n"), stamp = strcspn(refs, " ");
        if (stamp >= line || line - stamp >= sizeof path)
            return false;
        memcpy(path, refs + stamp + 1, line - stamp - 1);
        path[line - stamp - 1] = '\0';
        if (stamp_at(in, path, now) < 0 || strlen(now) != stamp ||
            memcmp(now, refs, stamp) != 0)
            return false;
        refs += line + (refs[line] == '\n');
    }
    return true;
}

static int64_t ms_of(const struct timespec *t)
{
    return (int64_t)t->tv_sec * 1000 + t->tv_nsec / 1000000;
}

/* When a file that changed may be trusted to be whole; 0: now. Times from the future
 * are somebody's clock, and are not waited for. */
static int64_t settles_at(const struct intake *in, const struct stat *st, int64_t now)
{
    int64_t settle = in->o.conf->intake.settle_ms;
    int64_t m = ms_of(&st->st_mtim), c = ms_of(&st->st_ctim);
    int64_t last = m > c && m <= now + settle ? m : c;
    return last + settle > now && last <= now + settle ? last + settle : 0;
}

/* --- the walk --- */

static int note_seen(struct intake *in, int64_t id)
{
    size_t byte = (size_t)id / 8;
    if (byte >= in->seen_len) {
        size_t len = byte * 2 + 64;
        unsigned char *grown = realloc(in->seen, len);
        if (grown == NULL)
            return -1;
        memset(grown + in->seen_len, 0, len - in->seen_len);
        in->seen = grown;
        in->seen_len = len;
    }
    in->seen[byte] |= (unsigned char)(1 << (id % 8));
    return 0;
}

static bool was_seen(const struct intake *in, int64_t id)
{
    return (size_t)id / 8 < in->seen_len && (in->seen[id / 8] & 1 << (id % 8));
}

/* Watching: the next scan finds it again, and nothing need be kept of it. */
static void leave_young(struct intake *in, int64_t look_at)
{
    if (in->look_again_at == 0 || look_at < in->look_again_at)
        in->look_again_at = look_at;
}

static struct list *list_for(struct intake *in, const struct todo *t)
{
    return t->known ? &in->changed : t->bulk ? &in->bulk : &in->fresh;
}

static int look_at(struct intake *in, const char *path, const struct stat *st,
                   bool link_out, int64_t now, struct err *e)
{
    char stamp[STAMP_MAX];
    struct store_source s = {0};
    int found = store_source(in->o.store, path, &s, e);
    if (found < 0)
        return -1;
    in->found++;
    stamp_of(st, stamp);
    if (found && note_seen(in, s.id) < 0)
        return nomem(e);
    if (found && s.whole && !s.gone && strcmp(s.stamp, stamp) == 0 &&
        refs_unchanged(in, s.refs))
        return 0;

    int64_t look_at = settles_at(in, st, now);
    if (in->o.watching && look_at) {
        leave_young(in, look_at);
        return 0;
    }
    if (in->o.watching && in->changed.count + in->fresh.count >= LISTED_MAX) {
        in->left = true;
        return 0;
    }
    struct todo *t = calloc(1, sizeof *t + strlen(path) + 1);
    if (t == NULL)
        return nomem(e);
    strcpy(t->path, path);
    t->known = found;
    t->source = found ? s.id : in->o.next_source++;
    t->bulk = source_format_of(path)->bulk;
    t->link_out = link_out;
    t->look_at = look_at;
    t->since = now;
    list_add(look_at ? &in->young : list_for(in, t), t);
    return 0;
}

/* A link is as good as its file while that lies in the queue. */
static int look_at_link(struct intake *in, const char *full, const char *path,
                        int64_t now, struct err *e)
{
    struct stat st;
    size_t n = strlen(in->root);
    char *to = realpath(full, NULL);
    bool inside = to && strncmp(to, in->root, n) == 0 && to[n] == '/';
    bool file = stat(full, &st) == 0 && S_ISREG(st.st_mode);
    free(to);
    if (!inside && lstat(full, &st) < 0)
        return 0;
    return file || !inside ? look_at(in, path, &st, !inside, now, e) : 0;
}

static bool has_marker(const char *dir)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/" INTAKE_MARKER, dir);
    return access(path, F_OK) == 0;
}

/* Not to be looked into: not ours, or our own. */
static bool passed_over(const struct conf *conf, const struct walk_entry *f)
{
    return *f->path && (leftover(f->name) || ignored(conf, f->path, f->name) ||
                        (f->kind == WALK_DIR && has_marker(f->full)));
}

/* A watch scans often, and what cannot be read may stay so: told once in a while. */
static bool says_trouble(struct intake *in, int64_t now)
{
    if (in->said_at != 0 && in->said_at < in->began_at && now - in->said_at < SAID_MS)
        return false;
    in->said_at = now;
    return true;
}

static int walk_entry(struct intake *in, const struct walk_entry *f, int64_t now,
                      struct err *e)
{
    if (f->kind == WALK_DARK) {
        /* What cannot be seen must not be taken for gone. */
        in->walk_failed = true;
        if (says_trouble(in, now))
            log_warn("dir=%s cannot be read: %s; nothing is taken for gone",
                     *f->path ? f->path : ".", f->why);
        return 0;
    }
    if (passed_over(in->o.conf, f)) {
        walk_skip(in->walk);
        return 0;
    }
    if (f->kind == WALK_DIR && in->o.dir)
        in->o.dir(in->o.arg, f->full);
    if (f->kind != WALK_FILE && f->kind != WALK_LINK)
        return 0;
    if (source_format_of(f->name) == NULL) {
        log_debug("file=%s skipped: not the name of a job", f->path);
        return 0;
    }
    return f->kind == WALK_FILE ? look_at(in, f->path, &f->st, false, now, e)
                                : look_at_link(in, f->full, f->path, now, e);
}

int intake_look(const char *root, const struct conf *conf, struct intake_look *ret,
                struct err *e)
{
    struct walk_entry f;
    struct walk *w = walk_new(root, e);
    *ret = (struct intake_look){0};
    if (w == NULL)
        return -1;
    while (walk_next(w, &f)) {
        bool dark = f.kind == WALK_DARK;
        if (!dark && passed_over(conf, &f)) {
            walk_skip(w);
            continue;
        }
        bool file = (f.kind == WALK_FILE || f.kind == WALK_LINK) &&
                    source_format_of(f.name) != NULL;
        ret->files += file;
        if (!dark && (!file || access(f.full, R_OK) == 0))
            continue;
        if (ret->unreadable++ == 0)
            snprintf(ret->first, sizeof ret->first, "%.255s", *f.path ? f.path : root);
    }
    walk_free(w);
    return 0;
}

static int walk(struct intake *in, int64_t now, enum intake_step *step, struct err *e)
{
    struct walk_entry f;
    *step = INTAKE_MORE;
    if (in->began_at == 0)
        in->began_at = now;
    for (int i = 0; i < SLICE_FILES; i++) {
        if (!walk_next(in->walk, &f)) {
            in->phase = WALKED;
            *step = INTAKE_WALKED;
            return 0;
        }
        if (walk_entry(in, &f, now, e) < 0)
            return -1;
    }
    return 0;
}

struct gone {
    struct intake *in;
    struct moves *m;
    struct err *e;
};

static int on_known_source(void *arg, const struct store_source *s)
{
    struct gone *g = arg;
    if (s->gone || was_seen(g->in, s->id))
        return 0;
    struct move *v = moves_add(g->m, MOVE_SOURCE_GONE);
    if (v == NULL)
        return nomem(g->e);
    v->source = s->id;
    g->in->any_gone = true;
    log_info("source=%s gone: its jobs are kept, and not run", s->path);
    return 0;
}

/* --- reading --- */

static struct lent *lend(struct intake *in, struct err *e)
{
    struct lent *l = calloc(1, sizeof *l);
    if (l == NULL) {
        nomem(e);
        return NULL;
    }
    l->next = in->lent;
    in->lent = l;
    return l;
}

static int add_source(struct intake *in, const struct todo *t, struct moves *m,
                      struct err *e)
{
    struct move *v = moves_add(m, MOVE_SOURCE);
    if (v == NULL)
        return nomem(e);
    in->scans++;
    v->source = t->source;
    v->name = t->path;
    v->count = t->bulk;
    return 0;
}

/* The job, or with `why` the reason that there is none. */
static int add_job(struct intake *in, const struct todo *t, struct lent *l,
                   int64_t line, const unsigned char *digest, const struct err *why,
                   int64_t now, struct moves *m, struct err *e)
{
    struct err unroutable = {0};
    const char *lane = NULL;
    struct move *v = moves_add(m, MOVE_TAKE_IN);
    if (v == NULL || l->name == NULL)
        return nomem(e);
    if (why == NULL && (lane = in->o.lane(in->o.arg, &l->spec, l->name, &v->in.turn,
                                          &unroutable)) == NULL) {
        err_wrap(&unroutable, "%" PRId64, line);
        why = &unroutable;
    }
    v->source = t->source;
    v->name = l->name;
    v->now = now;
    v->in.line = line;
    v->in.scan = in->o.scan * SCANS_MAX + in->scans;
    v->in.path = t->path;
    v->in.custom_id = l->custom_id;
    v->in.by_digest = l->by_digest;
    v->in.other_name = l->other;
    memcpy(v->in.digest, digest, DIGEST_BYTES);
    if (why) {
        if (asprintf(&l->text, "%s:%s", t->path, why->text) < 0) {
            l->text = NULL;
            return nomem(e);
        }
        v->text = l->text;
        log_warn("job=%s invalid: %s", l->name, l->text);
        return 0;
    }
    v->in.spec = &l->spec;
    v->in.lane = lane;
    return 0;
}

static int add_end(struct intake *in, const struct todo *t, const char *stamp,
                   const char *refs, struct moves *m, struct err *e)
{
    struct lent *l = lend(in, e);
    struct move *v = l ? moves_add(m, MOVE_SOURCE_END) : NULL;
    if (v == NULL || (l->text = strdup(stamp)) == NULL ||
        (l->name = strdup(refs)) == NULL)
        return nomem(e);
    v->source = t->source;
    v->text = l->text;
    v->name = l->name;
    v->in.scan = in->o.scan * SCANS_MAX + in->scans;
    v->gone = t->known && !in->walk_failed;
    return 0;
}

static int open_file(const char *full)
{
    return open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
}

/* A whole small file, which is closed; NULL with the reason in `why`. */
static char *read_file(int fd, int64_t max, size_t *len, struct stat *st,
                       struct err *why)
{
    char *text = NULL;
    if (fd < 0 || fstat(fd, st) < 0) {
        err_set(why, ERR_INPUT, "1: cannot be read: %s", strerror(errno));
    } else if (!S_ISREG(st->st_mode)) {
        err_set(why, ERR_INPUT, "1: not an ordinary file");
    } else if (st->st_size > max) {
        err_set(why, ERR_INPUT, "1: %lld bytes; want at most %" PRId64,
                (long long)st->st_size, max);
    } else if ((text = malloc((size_t)st->st_size + 1)) == NULL) {
        err_set(why, ERR_NOMEM, "1: out of memory");
    } else {
        ssize_t n = 0;
        *len = 0;
        while (*len < (size_t)st->st_size &&
               (n = read(fd, text + *len, (size_t)st->st_size - *len)) > 0)
            *len += (size_t)n;
        text[*len] = '\0';
        if (n < 0) {
            err_set(why, ERR_INPUT, "1: cannot be read: %s", strerror(errno));
            free(text);
            text = NULL;
        }
    }
    if (fd >= 0)
        close(fd);
    return text;
}

/*
 * Does somebody have it open for writing? The kernel grants a lease for reading only
 * where nobody has. It may not know (other owners, some file systems): then it says no,
 * and whoever writes slower than intake.settle should rename a finished file into place.
 * What was still for long is trusted whoever has it open.
 */
static bool being_written(const struct intake *in, int fd, int64_t now)
{
    struct stat st;
    if (fstat(fd, &st) < 0 ||
        now - ms_of(&st.st_ctim) > SETTLES_MAX * in->o.conf->intake.settle_ms)
        return false;
    if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
        return errno == EAGAIN;
    fcntl(fd, F_SETLEASE, F_UNLCK);
    return false;
}

static bool climbs(const char *path)
{
    for (const char *p = path; *p;) {
        size_t n = strcspn(p, "/");
        if (n == 2 && p[0] == '.' && p[1] == '.')
            return true;
        p += n + (p[n] == '/');
    }
    return *path == '/';
}

static bool hidden(const char *path)
{
    for (const char *p = path; *p;) {
        size_t n = strcspn(p, "/");
        if (*p == '_')
            return true;
        p += n + (p[n] == '/');
    }
    return false;
}

/*
 * A file that the job refers to: its text, fresh, added to the digest; what it looked
 * like is noted. The path is from the job's own directory; it must stay in the queue,
 * and lie under a `_` name, since any other file there would be run as a job itself.
 */
static char *reference(struct intake *in, const struct todo *t, const char *key,
                       const char *name, char *refs, size_t refs_size, size_t *len,
                       struct err *why)
{
    char path[FULL_MAX], full[FULL_MAX * 2], stamp[STAMP_MAX];
    struct stat st;
    size_t n = strlen(in->root), noted = strlen(refs);
    const char *slash = strrchr(t->path, '/');
    int dir = slash ? (int)(slash - t->path) + 1 : 0;

    snprintf(path, sizeof path, "%.*s%s", dir, t->path, name);
    snprintf(full, sizeof full, "%s/%s", in->root, path);
    if (climbs(name) || strchr(path, '\n')) {
        err_set(why, ERR_INPUT, "1: %s%s: want a path inside the queue, without ..",
                key, name);
        return NULL;
    }
    if (!hidden(path)) {
        err_set(why, ERR_INPUT,
                "1: %s%s: want a name that begins with _, since other files of the "
                "queue are jobs",
                key, name);
        return NULL;
    }
    /* Said even where the file is missing: when it comes, the job is read again. */
    snprintf(refs + noted, refs_size - noted, "- %s\n", path);
    char *to = realpath(full, NULL);
    bool inside = to && strncmp(to, in->root, n) == 0 && to[n] == '/';
    free(to);
    if (to && !inside) {
        err_set(why, ERR_INPUT, "1: %s%s: leads out of the queue", key, name);
        return NULL;
    }
    char *text = read_file(open_file(full), SYSTEM_FILE_MAX, len, &st, why);
    if (text == NULL) {
        struct err was = *why;
        *why = (struct err){0};
        err_set(why, ERR_INPUT, "1: %s%s: %s", key, name,
                was.text + (strncmp(was.text, "1: ", 3) == 0 ? 3 : 0));
        return NULL;
    }
    stamp_of(&st, stamp);
    snprintf(refs + noted, refs_size - noted, "%s %s\n", stamp, path);
    digest_add(in->digest, "\0system\0", 8);
    digest_add(in->digest, text, *len);
    return text;
}

static int system_file(struct intake *in, const struct todo *t, struct job_spec *s,
                       char *refs, size_t refs_size, struct err *why)
{
    size_t len;
    char *text = reference(in, t, "system_file = ", s->system_file, refs, refs_size,
                           &len, why);
    int rc = text ? job_spec_system(s, text, len, why) : -1;
    free(text);
    return rc;
}

/* The `schema:FILE` of a check; NULL: there is none, or the schema itself stands there. */
static const char *schema_file(const char *check, size_t *len)
{
    static const char word[] = "schema:", and[] = " && ";
    for (const char *p = check; p; p = strstr(p, and) ? strstr(p, and) + 4 : NULL)
        if (strncmp(p, word, sizeof word - 1) == 0 && p[sizeof word - 1] != '{') {
            const char *end = strstr(p, and);
            p += sizeof word - 1;
            *len = end ? (size_t)(end - p) : strlen(p);
            return p;
        }
    return NULL;
}

/* The schema's text takes its file's place: from here on nothing depends on the file. */
static int schema_text(struct intake *in, const struct todo *t, struct job_spec *s,
                       char *refs, size_t refs_size, struct err *why)
{
    size_t n, len;
    const char *at = schema_file(s->check, &n);
    if (at == NULL)
        return 0;
    char *name = strndup(at, n), *all = NULL;
    char *text = name ? reference(in, t, "check = schema:", name, refs, refs_size, &len,
                                  why)
                      : NULL;
    free(name);
    if (text == NULL)
        return -1;
    const char *from = text + strspn(text, " \t\r\n");
    if (*from != '{')
        err_set(why, ERR_INPUT, "1: check = schema:%.*s: want a JSON object", (int)n,
                at);
    else if (asprintf(&all, "%.*s%s%s", (int)(at - s->check), s->check, from, at + n) <
             0)
        err_set(why, ERR_NOMEM, "out of memory");
    free(text);
    if (why->code)
        return -1;
    free(s->check);
    s->check = all;
    return 0;
}

/* 1: somebody still writes it, and nothing was read. */
static int read_single(struct intake *in, struct todo *t, int64_t now, struct moves *m,
                       size_t *bytes, struct err *e)
{
    char full[FULL_MAX], stamp[STAMP_MAX], refs[2 * (FULL_MAX + STAMP_MAX)] = "";
    unsigned char digest[DIGEST_BYTES];
    struct err why = {0};
    struct stat st = {0};
    size_t len = 0;
    struct lent *l = lend(in, e);
    if (l == NULL)
        return -1;

    snprintf(full, sizeof full, "%s/%s", in->root, t->path);
    char *text = NULL;
    if (t->link_out) {
        err_set(&why, ERR_INPUT,
                "1: a link that leads out of the queue; copy the file");
        lstat(full, &st);
    } else {
        int fd = open_file(full);
        if (fd >= 0 && being_written(in, fd, now)) {
            close(fd);
            return 1;
        }
        text = read_file(fd, in->o.conf->intake.max_bytes, &len, &st, &why);
    }
    if (text == NULL && lstat(full, &st) < 0 && errno == ENOENT) {
        free(text);
        return 0; /* gone since the walk; the next scan says so */
    }
    *bytes += len + 4096;
    digest_add(in->digest, text ? text : "", len);
    if (text && source_format_of(t->path)->parse(text, len, 1, &l->spec, &why) == 0 &&
        (l->spec.system_file == NULL ||
         system_file(in, t, &l->spec, refs, sizeof refs, &why) == 0) &&
        l->spec.check && schema_file(l->spec.check, &len))
        schema_text(in, t, &l->spec, refs, sizeof refs, &why);
    free(text);
    digest_end(in->digest, digest);
    if (why.code == ERR_NONE && !path_is_text(t->path))
        err_set(&why, ERR_INPUT, "1: the file's name is too long or not UTF-8");
    stamp_of(&st, stamp);
    l->name = name_of(t->path);
    l->other = strdup(t->path);
    return add_source(in, t, m, e) < 0 ||
                   add_job(in, t, l, 1, digest, why.code ? &why : NULL, now, m, e) <
                       0 ||
                   add_end(in, t, stamp, refs, m, e) < 0
               ? -1
               : 0;
}

static int open_bulk(struct intake *in, struct todo *t, int64_t now, struct moves *m,
                     struct err *e)
{
    char full[FULL_MAX];
    struct stat st;
    snprintf(full, sizeof full, "%s/%s", in->root, t->path);
    in->fd = open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (in->fd < 0 || fstat(in->fd, &st) < 0) {
        if (errno != ENOENT) {
            const char *why = strerror(errno);
            if (says_trouble(in, now))
                log_error("source=%s cannot be read: %s", t->path, why);
            in->read_failed = true;
        }
        close_bulk(in);
        free(t);
        return 0;
    }
    stamp_of(&st, in->stamp);
    in->open = t;
    in->line = 0;
    in->at_end = in->skipping = in->unfinished = false;
    return add_source(in, t, m, e);
}

static int take_line(struct intake *in, const char *text, size_t len, const char *wrong,
                     int64_t now, struct moves *m, struct err *e)
{
    struct todo *t = in->open;
    unsigned char digest[DIGEST_BYTES];
    char hex[17];
    struct err why = {0};
    struct lent *l = lend(in, e);
    if (l == NULL)
        return -1;

    if (wrong)
        err_set(&why, ERR_INPUT, "%" PRId64 ": %s", in->line, wrong);
    else
        source_format_of(t->path)->parse(text, len, (size_t)in->line, &l->spec, &why);
    digest_add(in->digest, text, len);
    digest_end(in->digest, digest);
    l->custom_id = l->spec.custom_id ? strdup(l->spec.custom_id) : NULL;
    char *stem = name_of(t->path);
    digest_hex(digest, 8, hex);
    if (stem == NULL ||
        asprintf(&l->name, "%s#%s", stem, l->custom_id ? l->custom_id : hex) < 0)
        l->name = NULL;
    free(stem);
    l->by_digest = l->custom_id == NULL;
    return add_job(in, t, l, in->line, digest, why.code ? &why : NULL, now, m, e);
}

static int fill(struct intake *in, struct err *e)
{
    if (in->size - in->len < READ_BYTES) {
        size_t size = in->size ? in->size * 2 : READ_BYTES * 2;
        char *grown = realloc(in->buf, size);
        if (grown == NULL)
            return nomem(e);
        in->buf = grown;
        in->size = size;
    }
    ssize_t n = read(in->fd, in->buf + in->len, in->size - in->len);
    if (n < 0)
        return err_set(e, ERR_INPUT, "%s: %s", in->open->path, strerror(errno));
    in->len += (size_t)n;
    in->at_end = n == 0;
    return 0;
}

static bool blank(const char *p, size_t n)
{
    while (n > 0 && strchr(" \t\r", p[n - 1]) && p[n - 1])
        n--;
    return n == 0;
}

/* Lines out of the buffer; `*used` bytes are done with. */
static int take_lines(struct intake *in, int64_t now, struct moves *m, size_t *jobs,
                      size_t *used, struct err *e)
{
    size_t max = (size_t)in->o.conf->intake.max_bytes;
    *used = 0;
    while (*jobs < SLICE_JOBS) {
        const char *p = in->buf + *used;
        size_t room = in->len - *used;
        const char *end = memchr(p, '\n', room);
        size_t n = end ? (size_t)(end - p) : room;
        if (end == NULL && !in->at_end && n <= max)
            return 0;
        if (end == NULL && in->at_end && n == 0)
            return 0;
        if (end == NULL && in->at_end && being_written(in, in->fd, now)) {
            in->unfinished = true; /* the line is whole when that is over */
            *used += n;
            return 0;
        }
        if (in->skipping) {
            in->skipping = end == NULL && !in->at_end;
            *used += n + (end != NULL);
            if (end == NULL)
                return 0;
            continue;
        }
        if (in->line++ == 0 && n >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0) {
            p += 3;
            n -= 3;
            *used += 3;
        }
        size_t text = n > 0 && p[n - 1] == '\r' ? n - 1 : n;
        if (n > max) {
            char wrong[80];
            snprintf(wrong, sizeof wrong, "a line of more than %zu bytes", max);
            in->skipping = end == NULL && !in->at_end;
            if (take_line(in, p, n < 4096 ? n : 4096, wrong, now, m, e) < 0)
                return -1;
            ++*jobs;
        } else if (!blank(p, n)) {
            if (take_line(in, p, text, NULL, now, m, e) < 0)
                return -1;
            ++*jobs;
        }
        *used += n + (end != NULL);
        if (end == NULL)
            return 0;
    }
    return 0;
}

/* Read, and not whole yet. */
static void still_young(struct intake *in, struct todo *t, int64_t now)
{
    t->look_at = now + in->o.conf->intake.settle_ms;
    if (in->o.watching) {
        leave_young(in, t->look_at);
        free(t);
        return;
    }
    list_add(&in->young, t);
}

/* The file was read to its end: is it still the one that was begun? */
static int end_bulk(struct intake *in, int64_t now, struct moves *m, struct err *e)
{
    struct todo *t = in->open;
    char stamp[STAMP_MAX];
    bool same = !in->unfinished && stamp_at(in, t->path, stamp) == 0 &&
                strcmp(stamp, in->stamp) == 0;
    close_bulk(in);
    if (same) {
        struct lent *keep = lend(in, e); /* the moves borrow its path */
        if (keep == NULL) {
            free(t);
            return -1;
        }
        keep->text = (char *)t;
        return add_end(in, t, stamp, "", m, e);
    }
    log_info("source=%s %s: it is read again", t->path,
             in->unfinished ? "is still being written" : "changed while it was read");
    t->known = true; /* its jobs are in the store by now */
    still_young(in, t, now);
    return 0;
}

static int read_bulk(struct intake *in, int64_t now, struct moves *m, size_t *jobs,
                     size_t *bytes, struct err *e)
{
    while (*jobs < SLICE_JOBS && *bytes < SLICE_BYTES) {
        size_t used = 0;
        if (in->len > 0 && take_lines(in, now, m, jobs, &used, e) < 0)
            return -1;
        if (used > 0)
            memmove(in->buf, in->buf + used, in->len - used);
        in->len -= used;
        *bytes += used;
        if (in->at_end && in->len == 0)
            return end_bulk(in, now, m, e);
        /* More is read only when what is there holds no whole line. */
        if (used == 0 && !in->at_end && fill(in, e) < 0) {
            log_error("source=%s cannot be read to its end: %s", in->open->path,
                      e->text);
            *e = (struct err){0};
            in->read_failed = true;
            struct lent *keep = lend(in, e); /* the moves borrow its path */
            if (keep == NULL)
                return -1;
            keep->text = (char *)in->open;
            close_bulk(in);
            return 0;
        }
    }
    return 0;
}

/* Young sources that have had their rest are looked at again. */
static void wake_young(struct intake *in, int64_t now)
{
    struct list later;
    struct todo *t;
    list_init(&later);
    while ((t = list_take(&in->young))) {
        char full[FULL_MAX];
        struct stat st;
        if (t->look_at > now) {
            list_add(&later, t);
            continue;
        }
        snprintf(full, sizeof full, "%s/%s", in->root, t->path);
        int gone = t->link_out ? lstat(full, &st) : stat(full, &st);
        if (gone < 0) {
            free(t);
            continue;
        }
        t->look_at = settles_at(in, &st, now);
        if (t->look_at == 0) {
            list_add(list_for(in, t), t);
        } else if (now - t->since > SETTLES_MAX * in->o.conf->intake.settle_ms) {
            log_warn("source=%s is still being written: left for the next run",
                     t->path);
            free(t);
        } else {
            list_add(&later, t);
        }
    }
    in->young = later;
    if (later.first == NULL)
        in->young.last = &in->young.first;
}

static void over(struct intake *in)
{
    walk_free(in->walk);
    in->walk = NULL;
    in->phase = ENDED;
}

static int read_some(struct intake *in, int64_t now, struct moves *m,
                     enum intake_step *step, struct err *e)
{
    size_t jobs = 0, bytes = 0;
    wake_young(in, now);
    while (jobs < SLICE_JOBS && bytes < SLICE_BYTES) {
        struct todo *t;
        if (in->open) {
            if (read_bulk(in, now, m, &jobs, &bytes, e) < 0)
                return -1;
            continue;
        }
        if ((t = list_take(&in->changed)) == NULL &&
            (t = list_take(&in->fresh)) == NULL && (t = list_take(&in->bulk)) == NULL)
            break;
        if (t->bulk && !t->link_out) {
            if (open_bulk(in, t, now, m, e) < 0)
                return -1;
            /* add_source() borrows the path, which lives as long as `open`; a file read
             * in one slice would free it too early, so it begins a slice of its own. */
            break;
        }
        struct lent *keep = lend(in, e); /* the path is borrowed by the moves */
        int rc = keep ? read_single(in, t, now, m, &bytes, e) : -1;
        if (rc < 0) {
            free(t);
            return -1;
        }
        if (rc > 0)
            still_young(in, t, now);
        else
            keep->text = (char *)t;
        jobs++;
    }
    *step = INTAKE_MORE;
    if (in->open || in->changed.first || in->fresh.first || in->bulk.first)
        return 0;
    *step = in->young.first ? INTAKE_WAIT : INTAKE_END;
    if (*step == INTAKE_END)
        over(in);
    return 0;
}

static void end_scan(struct intake *in)
{
    give_back(in);
    free(in->open);
    close_bulk(in);
    list_free(&in->changed);
    list_free(&in->fresh);
    list_free(&in->bulk);
    list_free(&in->young);
    over(in);
}

int intake_again(struct intake *in, struct err *e)
{
    end_scan(in);
    in->walk = walk_new(in->root, e);
    if (in->walk == NULL)
        return -1;
    in->phase = WALKING;
    in->walk_failed = in->any_gone = in->read_failed = in->left = false;
    in->found = 0;
    in->began_at = in->look_again_at = 0;
    if (in->seen_len > 0)
        memset(in->seen, 0, in->seen_len);
    return 0;
}

void intake_drop(struct intake *in)
{
    end_scan(in);
}

int intake_slice(struct intake *in, int64_t now, struct moves *m,
                 enum intake_step *step, struct err *e)
{
    give_back(in);
    switch (in->phase) {
    case WALKING:
        return walk(in, now, step, e);
    case WALKED: {
        struct gone g = {in, m, e};
        in->phase = READING;
        *step = INTAKE_MORE;
        if (in->walk_failed)
            return 0;
        return store_each_source(in->o.store, on_known_source, &g, e);
    }
    case READING:
        return read_some(in, now, m, step, e);
    case ENDED:
        *step = INTAKE_END;
        return 0;
    }
    return -1;
}

bool intake_may_send(const struct intake *in)
{
    if (in->phase < READING || in->changed.first || (in->open && in->open->known))
        return false;
    /* A file that is gone may have come back under another name, its jobs changed. */
    if (in->any_gone && in->fresh.first)
        return false;
    for (const struct todo *t = in->young.first; t; t = t->next)
        if (t->known || in->any_gone)
            return false;
    return true;
}

bool intake_failed(const struct intake *in)
{
    return in->read_failed || in->walk_failed;
}

size_t intake_found(const struct intake *in)
{
    return in->found;
}

size_t intake_young(const struct intake *in)
{
    return in->young.count;
}

int64_t intake_wake_at(const struct intake *in)
{
    int64_t at = in->left ? 1 : in->look_again_at;
    for (const struct todo *t = in->young.first; t; t = t->next)
        if (at == 0 || t->look_at < at)
            at = t->look_at;
    return at;
}
