/* report: one page about a run, for the morning after. Reads beside a runner. */
#include "runner/cmd.h"

#include "conf/catalog.h"
#include "jobs/files.h"
#include "jobs/intake.h"
#include "jobs/store.h"
#include "jobs/textbuf.h"
#include "runner/effect.h"
#include "runner/err.h"
#include "runner/report.h"
#include "runner/when.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

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

/* Whole, or what was there before. What is no file (a pipe, /dev/null) is written to. */
static int write_file(const char *path, const struct textbuf *b, struct err *e)
{
    char tmp[PATH_MAX];
    struct stat st;
    bool special = stat(path, &st) == 0 && !S_ISREG(st.st_mode);
    if (snprintf(tmp, sizeof tmp, "%s%s", path, special ? "" : ".tmp") >=
        (int)sizeof tmp)
        return err_set(e, ERR_STORE, "%s: the path is too long", path);
    int fd = open(tmp,
                  O_WRONLY | O_CLOEXEC | (special ? 0 : O_CREAT | O_TRUNC | O_NOFOLLOW),
                  0666);
    if (fd < 0)
        return failed(tmp, "be written", e);
    int rc = write_all(fd, b->at, b->len) < 0 || (!special && fsync(fd) < 0)
                 ? failed(tmp, "be written", e)
                 : 0;
    close(fd);
    if (special)
        return rc;
    effect_before("rename report", 0);
    if (rc == 0 && rename(tmp, path) < 0)
        rc = failed(path, "be put in place", e);
    effect_after("rename report", 0);
    if (rc < 0)
        unlink(tmp);
    return rc < 0 ? -1 : files_sync_parent(path, e);
}

static int put(const struct cmd_args *a, const struct queue *q, const struct textbuf *b,
               struct err *e)
{
    char path[PATH_MAX];
    if (a->out && strcmp(a->out, "-") == 0)
        return write_all(STDOUT_FILENO, b->at, b->len) < 0
                   ? failed("standard output", "be written", e)
                   : 0;
    if (a->out == NULL && intake_mark(q->results, 0777, e) < 0)
        return -1;
    if (a->out)
        snprintf(path, sizeof path, "%s", a->out);
    else
        snprintf(path, sizeof path, "%s/report.html", q->results);
    if (write_file(path, b, e) < 0)
        return -1;
    if (!a->quiet)
        printf("%s\n", path);
    return 0;
}

static int report(const struct cmd_args *a, const struct conf *conf,
                  const struct queue *q, struct report *r, struct err *e)
{
    char root[PATH_MAX];
    struct timespec ts;
    struct textbuf page = {0};
    clock_gettime(CLOCK_REALTIME, &ts);
    *r = (struct report){.conf = conf,
                         .queue = realpath(q->root, root) ? root : q->root,
                         .state = q->state,
                         .busy = queue_busy(q),
                         .now = (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000,
                         .wanted = a->run};
    if (a->since && when_read(a->since, r->now, &r->since) < 0)
        return err_set(e, ERR_USAGE, "--since %s: " WHEN_WANTED, a->since);
    struct catalog *catalog = cmd_catalog(conf, e);
    struct store *st = catalog ? store_open(q->state, STORE_ASK, true, e) : NULL;
    r->catalog = catalog;
    int rc = st ? report_collect(r, st, e) : -1;
    store_close(st);
    if (rc == 0) {
        report_page(&page, r);
        rc = page.failed ? err_set(e, ERR_NOMEM, "out of memory") : put(a, q, &page, e);
    }
    textbuf_free(&page);
    report_free(r);
    catalog_free(catalog);
    return rc;
}

int cmd_report(const struct cmd_args *a)
{
    struct err e = {0};
    struct conf conf = {0};
    struct queue q = {.lock_root = -1, .lock_state = -1};
    static struct report r; /* large; and there is one */
    if (cmd_conf(a, &conf, &e) == 0 && queue_find(&q, a->dir, &conf, &e) == 0) {
        if (queue_known(&q))
            report(a, &conf, &q, &r, &e);
        else
            err_set(&e, ERR_USAGE, "%s was never run; nightmill run %s", a->dir,
                    a->dir);
    }
    int code = e.code == ERR_NONE ? 0 : cmd_failed(&e);
    queue_close(&q);
    conf_free(&conf);
    return code;
}
