#include "runner/checkrun.h"

#include "runner/err.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WORDS_MAX = 256, HEARD_MAX = 400 };

extern char **environ;

struct checkrun {
    uv_process_t process;
    uv_pipe_t in, err;
    uv_timer_t timer;
    uv_write_t write;
    char *text;
    int open; /* handles that are not closed yet */
    bool ran, canceled, late, killed;
    int64_t status, timeout_ms;
    int signal;
    char heard[HEARD_MAX];
    size_t heard_len;
    checkrun_fn *fn;
    void *arg;
};

/* --- words --- */

void checkrun_words_free(char **words)
{
    if (words)
        free(words[0]);
    free(words);
}

char **checkrun_words(const char *command, struct err *e)
{
    char **words = calloc(WORDS_MAX + 1, sizeof *words);
    char *to = malloc(strlen(command) + 2);
    size_t n = 0;
    char quote = '\0';
    bool inside = false;
    if (words == NULL || to == NULL) {
        free(words);
        free(to);
        err_set(e, ERR_NOMEM, "out of memory");
        return NULL;
    }
    words[0] = to; /* it owns all of them, also where there is none */
    for (const char *p = command; *p; p++) {
        if (!quote && strchr(" \t\n", *p)) {
            if (inside)
                *to++ = '\0';
            inside = false;
            continue;
        }
        if (!inside && n == WORDS_MAX)
            break;
        if (!inside)
            words[n++] = to;
        inside = true;
        if (*p == quote)
            quote = '\0';
        else if (!quote && (*p == '\'' || *p == '"'))
            quote = *p;
        else if (*p == '\\' && quote != '\'' && p[1])
            *to++ = *++p;
        else
            *to++ = *p;
    }
    *to = '\0';
    if (n == 0 || quote || n == WORDS_MAX) {
        err_set(e, ERR_CONF, "command = %.80s: %s", command,
                n == 0  ? "want a program"
                : quote ? "a quote is not closed"
                        : "too many words");
        checkrun_words_free(words);
        return NULL;
    }
    return words;
}

static bool runs(const char *path)
{
    return access(path, X_OK) == 0;
}

int checkrun_exists(const char *command, const char *cwd, struct err *e)
{
    char **words = checkrun_words(command, e), path[PATH_MAX];
    bool found = false;
    if (words == NULL)
        return -1;
    const char *name = words[0], *dirs = getenv("PATH");
    if (strchr(name, '/')) {
        snprintf(path, sizeof path, "%s%s%s", *name == '/' ? "" : cwd,
                 *name == '/' ? "" : "/", name);
        found = runs(path);
    } else {
        for (const char *d = dirs ? dirs : "/usr/local/bin:/usr/bin:/bin";
             *d && !found;) {
            size_t n = strcspn(d, ":");
            snprintf(path, sizeof path, "%.*s/%s", (int)n, d, name);
            found = n > 0 && runs(path);
            d += n + (d[n] == ':');
        }
    }
    if (!found)
        err_set(e, ERR_CONF, "command = %.80s: no such program can be run", name);
    checkrun_words_free(words);
    return found ? 0 : -1;
}

/* --- the end --- */

/* The first line that says something. */
static const char *first_line(char *text)
{
    char *line = text + strspn(text, " \t\r\n");
    line[strcspn(line, "\r\n")] = '\0';
    for (char *p = line; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = ' ';
    return line;
}

static void tell(struct checkrun *c)
{
    char why[CHECKRUN_WHY_MAX] = "";
    enum checkrun_end end = CHECKRUN_ERROR;
    c->heard[c->heard_len] = '\0';
    const char *line = first_line(c->heard);
    if (c->canceled) {
        end = CHECKRUN_CANCELED;
        snprintf(why, sizeof why, "canceled");
    } else if (c->late) {
        snprintf(why, sizeof why, "the check took longer than %.1f s and was ended",
                 (double)c->timeout_ms / 1000);
    } else if (c->signal) {
        snprintf(why, sizeof why, "the check was killed by signal %d%s%s", c->signal,
                 *line ? ": " : "", line);
    } else if (c->status == 126 || c->status == 127) {
        snprintf(why, sizeof why, "the check could not be run (exit %d)%s%s",
                 (int)c->status, *line ? ": " : "", line);
    } else if (c->status != 0) {
        end = CHECKRUN_FAIL;
        snprintf(why, sizeof why, "the check says no (exit %d)%s%s", (int)c->status,
                 *line ? ": " : "", line);
    } else {
        end = CHECKRUN_PASS;
    }
    c->fn(c->arg, end, why);
}

static void on_closed(uv_handle_t *h)
{
    struct checkrun *c = h->data;
    if (--c->open > 0)
        return;
    if (c->ran)
        tell(c);
    free(c->text);
    free(c);
}

static void close_one(struct checkrun *c, uv_handle_t *h)
{
    (void)c;
    if (!uv_is_closing(h))
        uv_close(h, on_closed);
}

static void close_all(struct checkrun *c)
{
    close_one(c, (uv_handle_t *)&c->process);
    close_one(c, (uv_handle_t *)&c->in);
    close_one(c, (uv_handle_t *)&c->err);
    close_one(c, (uv_handle_t *)&c->timer);
}

static void on_exit_told(uv_process_t *p, int64_t status, int signal)
{
    struct checkrun *c = p->data;
    char more[HEARD_MAX];
    uv_os_fd_t fd;
    c->status = status;
    c->signal = signal;
    /* What it said last may still lie in the pipe. */
    if (uv_fileno((uv_handle_t *)&c->err, &fd) == 0) {
        ssize_t n = read(fd, more, sizeof more - 1);
        size_t room = sizeof c->heard - 1 - c->heard_len;
        if (n > 0) {
            memcpy(c->heard + c->heard_len, more, (size_t)n < room ? (size_t)n : room);
            c->heard_len += (size_t)n < room ? (size_t)n : room;
        }
    }
    kill(-p->pid, SIGKILL); /* what it left behind */
    close_all(c);
}

static void on_time(uv_timer_t *t)
{
    struct checkrun *c = t->data;
    c->late = !c->canceled;
    kill(-c->process.pid, c->killed ? SIGKILL : SIGTERM);
    c->killed = true;
    uv_timer_start(t, on_time, CHECKRUN_KILL_MS, 0);
}

void checkrun_cancel(struct checkrun *c)
{
    if (c->canceled)
        return;
    c->canceled = true;
    if (!uv_is_closing((uv_handle_t *)&c->timer))
        uv_timer_start(&c->timer, on_time, 0, 0);
}

/* --- the beginning --- */

static void on_room(uv_handle_t *h, size_t wanted, uv_buf_t *buf)
{
    struct checkrun *c = h->data;
    static char rest[4096]; /* thrown away: one loop, one thread */
    (void)wanted;
    size_t room = sizeof c->heard - 1 - c->heard_len;
    *buf = room ? uv_buf_init(c->heard + c->heard_len, (unsigned)room)
                : uv_buf_init(rest, sizeof rest);
}

static void on_heard(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
    struct checkrun *c = s->data;
    if (n > 0 && buf->base == c->heard + c->heard_len)
        c->heard_len += (size_t)n;
    else if (n < 0)
        uv_read_stop(s);
}

static void on_text_written(uv_write_t *w, int status)
{
    struct checkrun *c = w->data;
    (void)status; /* a program need not read it all */
    close_one(c, (uv_handle_t *)&c->in);
}

static bool is_secret(const char *entry)
{
    static const char *const names[] = {
        "ANTHROPIC_API_KEY=", "ANTHROPIC_AUTH_TOKEN=", "NIGHTMILL_"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strncmp(entry, names[i], strlen(names[i])) == 0)
            return true;
    return false;
}

/* The list is fresh; its strings are the process's own, or the caller's. */
static char **environment(const struct checkrun_what *w)
{
    size_t n = 0, more = 0, k = 0;
    while (environ[n])
        n++;
    while (w->vars[more])
        more++;
    char **list = calloc(n + more + 1, sizeof *list);
    if (list == NULL)
        return NULL;
    for (size_t i = 0; i < n; i++)
        if (!is_secret(environ[i]))
            list[k++] = environ[i];
    for (size_t i = 0; i < more; i++)
        list[k++] = (char *)w->vars[i];
    return list;
}

static int spawn(struct checkrun *c, uv_loop_t *loop, const struct checkrun_what *w,
                 struct err *e)
{
    char sh[] = "/bin/sh", dash_c[] = "-c";
    char *shell[] = {sh, dash_c, (char *)w->command, NULL};
    char **words = w->shell ? NULL : checkrun_words(w->command, e);
    char **env = environment(w);
    int rc = -1;
    if ((w->shell || words) && env == NULL)
        err_set(e, ERR_NOMEM, "out of memory");
    if ((w->shell || words) && env) {
        uv_stdio_container_t stdio[] = {
            {.flags = UV_CREATE_PIPE | UV_READABLE_PIPE,
             .data.stream = (uv_stream_t *)&c->in},
            {.flags = UV_IGNORE},
            {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE,
             .data.stream = (uv_stream_t *)&c->err},
        };
        uv_process_options_t o = {.exit_cb = on_exit_told,
                                  .file = w->shell ? shell[0] : words[0],
                                  .args = w->shell ? shell : words,
                                  .env = env,
                                  .cwd = w->cwd,
                                  .flags = UV_PROCESS_DETACHED,
                                  .stdio_count = 3,
                                  .stdio = stdio};
        rc = uv_spawn(loop, &c->process, &o);
        if (rc < 0)
            err_set(e, ERR_SYSTEM, "%.80s cannot be run: %s", o.file, uv_strerror(rc));
    }
    checkrun_words_free(words);
    free(env);
    return rc < 0 ? -1 : 0;
}

struct checkrun *checkrun_start(uv_loop_t *loop, const struct checkrun_what *what,
                                checkrun_fn *fn, void *arg, struct err *e)
{
    struct checkrun *c = calloc(1, sizeof *c);
    if (c == NULL || (c->text = malloc(what->len + 1)) == NULL) {
        free(c);
        err_set(e, ERR_NOMEM, "out of memory");
        return NULL;
    }
    memcpy(c->text, what->text, what->len);
    c->fn = fn;
    c->arg = arg;
    c->timeout_ms = what->timeout_ms;
    signal(SIGPIPE, SIG_IGN); /* a program may end before it has read the answer */
    uv_pipe_init(loop, &c->in, 0);
    uv_pipe_init(loop, &c->err, 0);
    uv_timer_init(loop, &c->timer);
    c->process.data = c->in.data = c->err.data = c->timer.data = c->write.data = c;
    c->open = 4;
    if (spawn(c, loop, what, e) < 0) {
        /* uv_spawn() has made its handle also where it fails, but without a command it
         * was never asked. */
        if (c->process.type != UV_PROCESS)
            c->open--;
        else
            close_one(c, (uv_handle_t *)&c->process);
        close_one(c, (uv_handle_t *)&c->in);
        close_one(c, (uv_handle_t *)&c->err);
        close_one(c, (uv_handle_t *)&c->timer);
        return NULL;
    }
    c->ran = true;
    uv_timer_start(&c->timer, on_time, (uint64_t)what->timeout_ms, 0);
    uv_read_start((uv_stream_t *)&c->err, on_room, on_heard);
    uv_buf_t buf = uv_buf_init(c->text, (unsigned)what->len);
    if (what->len == 0 ||
        uv_write(&c->write, (uv_stream_t *)&c->in, &buf, 1, on_text_written) < 0)
        close_one(c, (uv_handle_t *)&c->in);
    return c;
}
