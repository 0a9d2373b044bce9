#include "jobs/appender.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BUFFER = 1 << 20,       /* larger pieces gain nothing */
    DIRECT_MIN = 64 * 1024, /* below, a wait for the disk costs more than it saves */
};

void appender_free(struct appender *a)
{
    free(a->buffer);
    *a = (struct appender){0};
}

int appender_start(struct appender *a, int fd, int64_t at)
{
    if (a->buffer == NULL) {
        void *buffer;
        if (posix_memalign(&buffer, APPENDER_BLOCK, BUFFER) != 0)
            return -1;
        a->buffer = buffer;
        a->direct = true;
    }
    a->fd = fd;
    a->skip = (size_t)(at % APPENDER_BLOCK);
    a->at = at - (int64_t)a->skip;
    a->len = a->skip;
    a->failed = 0;
    return 0;
}

int64_t appender_end(const struct appender *a)
{
    return a->at + (int64_t)a->len;
}

static int write_at(int fd, const char *bytes, size_t len, int64_t at)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, bytes, len, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -1;
        bytes += n;
        at += n;
        len -= (size_t)n;
    }
    return 0;
}

/* Blocks past the page cache. Not every file system can, and one that can may refuse a
 * short rest: then all of it goes the common way. */
static int write_direct(struct appender *a, const char *bytes, size_t len, int64_t at)
{
    int flags = fcntl(a->fd, F_GETFL);
    if (flags < 0 || fcntl(a->fd, F_SETFL, flags | O_DIRECT) < 0) {
        a->direct = false;
        return write_at(a->fd, bytes, len, at);
    }
    int rc = write_at(a->fd, bytes, len, at), why = errno;
    fcntl(a->fd, F_SETFL, flags);
    if (rc < 0 && why == EINVAL) {
        a->direct = false;
        return write_at(a->fd, bytes, len, at);
    }
    errno = why;
    return rc;
}

/* What is in the buffer is written; with `whole` blocks alone, the rest stays in it. */
static void write_out(struct appender *a, bool whole)
{
    size_t from = a->skip, middle = from, end = a->len - a->len % APPENDER_BLOCK;
    if (from % APPENDER_BLOCK)
        middle += APPENDER_BLOCK - from % APPENDER_BLOCK;
    bool direct = a->direct && end > middle && end - middle >= DIRECT_MIN;
    if (!direct)
        middle = end = whole ? end : a->len;
    if (a->failed == 0 &&
        (write_at(a->fd, a->buffer + from, middle - from, a->at + (int64_t)from) < 0 ||
         (direct && write_direct(a, a->buffer + middle, end - middle,
                                 a->at + (int64_t)middle) < 0) ||
         (!whole &&
          write_at(a->fd, a->buffer + end, a->len - end, a->at + (int64_t)end) < 0)))
        a->failed = errno ? errno : EIO;
    if (!whole) {
        a->skip = a->len;
        return;
    }
    memcpy(a->buffer, a->buffer + end, a->len - end);
    a->at += (int64_t)end;
    a->len -= end;
    a->skip = 0;
}

void appender_put(struct appender *a, const char *bytes, size_t len)
{
    while (len > 0) {
        if (a->len == BUFFER)
            write_out(a, true);
        size_t n = BUFFER - a->len < len ? BUFFER - a->len : len;
        memcpy(a->buffer + a->len, bytes, n);
        a->len += n;
        bytes += n;
        len -= n;
    }
}

int appender_flush(struct appender *a)
{
    if (a->len > a->skip)
        write_out(a, false);
    if (a->failed)
        errno = a->failed;
    return a->failed ? -1 : 0;
}
