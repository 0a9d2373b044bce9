#include "jobs/answers.h"

#include "jobs/appender.h"
#include "runner/effect.h"
#include "runner/err.h"
#include "runner/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct hole {
    int64_t at, len;
};

struct answers {
    char path[PATH_MAX];
    int fd; /* -1: not opened yet, as there was no file */
    struct appender end;
    int64_t committed; /* the file's length, as far as rows may point into it */
    struct hole *holes;
    size_t holes_len, holes_size;
    bool told; /* that nothing can be given back */
    char *lent;
    size_t lent_size;
};

static int failed(const struct answers *a, const char *doing, struct err *e)
{
    return err_set(e, ERR_STORE, "%s: cannot %s: %s", a->path, doing, strerror(errno));
}

struct answers *answers_open(const char *dir, bool write, struct err *e)
{
    struct answers *a = calloc(1, sizeof *a);
    struct stat st;
    if (a == NULL) {
        err_set(e, ERR_NOMEM, "out of memory");
        return NULL;
    }
    snprintf(a->path, sizeof a->path, "%s/answers", dir);
    a->fd = write ? open(a->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600) : -1;
    if (write && (a->fd < 0 || fstat(a->fd, &st) < 0)) {
        failed(a, "be opened", e);
        answers_close(a);
        return NULL;
    }
    a->committed = write ? (int64_t)st.st_size : 0;
    return a;
}

void answers_close(struct answers *a)
{
    if (a == NULL)
        return;
    if (a->fd >= 0)
        close(a->fd);
    appender_free(&a->end);
    free(a->holes);
    free(a->lent);
    free(a);
}

/* --- adding --- */

bool answers_known(struct answers *a, int64_t end)
{
    bool lost = a->committed < end;
    if (lost)
        a->committed = end; /* what lies between reads as no answer */
    else if (end == 0 && a->committed > 0 && ftruncate(a->fd, 0) == 0)
        a->committed = 0; /* of a store that is no more */
    return lost;
}

int answers_begin(struct answers *a, struct err *e)
{
    a->holes_len = 0;
    if (appender_start(&a->end, a->fd, a->committed) < 0)
        return err_set(e, ERR_NOMEM, "out of memory");
    return 0;
}

int64_t answers_add(struct answers *a, const char *bytes, size_t len)
{
    int64_t at = appender_end(&a->end);
    appender_put(&a->end, bytes, len);
    return at;
}

int64_t answers_added(const struct answers *a)
{
    int64_t end = appender_end(&a->end);
    return end > a->committed ? end : 0;
}

int answers_sync(struct answers *a, bool sync, bool *full, struct err *e)
{
    int64_t more = appender_end(&a->end) - a->committed;
    if (more == 0)
        return 0;
    effect_before("write answers", (long long)more);
    int rc = appender_flush(&a->end), why = errno;
    effect_after("write answers", (long long)more);
    if (rc == 0 && sync) {
        effect_before("sync answers", (long long)more);
        rc = fdatasync(a->fd);
        why = errno;
        effect_after("sync answers", (long long)more);
    }
    if (rc == 0)
        return 0;
    errno = why;
    if (full)
        *full = errno == ENOSPC || errno == EDQUOT;
    return failed(a, "be written", e);
}

static int by_place(const void *a, const void *b)
{
    const struct hole *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

/* Neighbours are one hole: a block goes only as a whole. What cannot be given back stays
 * in use; that costs room, and nothing else. */
static void give_back(struct answers *a)
{
    if (a->holes_len == 0)
        return;
    qsort(a->holes, a->holes_len, sizeof *a->holes, by_place);
    for (size_t i = 0, k; i < a->holes_len; i = k) {
        int64_t at = a->holes[i].at, end = at + a->holes[i].len;
        for (k = i + 1; k < a->holes_len && a->holes[k].at <= end; k++)
            end = a->holes[k].at + a->holes[k].len;
        if (fallocate(a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, end - at) <
                0 &&
            !a->told) {
            log_warn("%s: the room of what is forgotten stays in use: %s", a->path,
                     strerror(errno));
            a->told = true;
        }
    }
    a->holes_len = 0;
}

void answers_committed(struct answers *a)
{
    a->committed = appender_end(&a->end);
    give_back(a);
}

void answers_forget(struct answers *a, int64_t at, int64_t len)
{
    if (a->holes_len == a->holes_size) {
        size_t size = a->holes_size ? a->holes_size * 2 : 256;
        struct hole *grown = realloc(a->holes, size * sizeof *grown);
        if (grown == NULL)
            return;
        a->holes = grown;
        a->holes_size = size;
    }
    a->holes[a->holes_len++] = (struct hole){at, len};
}

/* --- reading --- */

const char *answers_read(struct answers *a, int64_t at, size_t len, struct err *e)
{
    if (a->fd < 0 && (a->fd = open(a->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)) < 0) {
        failed(a, "be read", e);
        return NULL;
    }
    if (len + 1 > a->lent_size) {
        free(a->lent);
        a->lent_size = 0;
        if ((a->lent = malloc(len + 1)) == NULL) {
            err_set(e, ERR_NOMEM, "out of memory");
            return NULL;
        }
        a->lent_size = len + 1;
    }
    for (size_t got = 0; got < len;) {
        ssize_t n = pread(a->fd, a->lent + got, len - got, at + (int64_t)got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            if (n == 0)
                err_set(e, ERR_STORE, "%s is shorter than the store says", a->path);
            else
                failed(a, "be read", e);
            return NULL;
        }
        got += (size_t)n;
    }
    a->lent[len] = '\0';
    if (memchr(a->lent, '\0', len)) { /* no JSON has one */
        err_set(e, ERR_STORE, "%s does not have it any more (forgotten meanwhile?)",
                a->path);
        return NULL;
    }
    return a->lent;
}
