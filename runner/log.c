#include "runner/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LINE_MAX_BYTES = 4096 };

static const char *const names[] = {[LOG_ERROR] = "error",
                                    [LOG_WARN] = "warn",
                                    [LOG_INFO] = "info",
                                    [LOG_DEBUG] = "debug"};

static enum log_level current = LOG_INFO;
static log_sink_fn *sink_fn;
static void *sink_arg;
static bool for_person;

void log_setup(enum log_level level)
{
    current = level;
    const char *want = getenv("NIGHTMILL_LOG");
    for (size_t i = 0; want && i < sizeof names / sizeof names[0]; i++)
        if (strcmp(want, names[i]) == 0)
            current = (enum log_level)i;
}

bool log_wants(enum log_level level)
{
    return level <= current;
}

void log_set_sink(log_sink_fn *sink, void *arg)
{
    sink_fn = sink;
    sink_arg = arg;
}

void log_for_person(bool yes)
{
    for_person = yes;
}

/* What stands in front of a line. */
static size_t head(enum log_level level, char *buf, size_t size)
{
    static const char *const words[] = {[LOG_ERROR] = "error: ",
                                        [LOG_WARN] = "warning: ",
                                        [LOG_INFO] = "",
                                        [LOG_DEBUG] = "debug: "};
    time_t now = time(NULL);
    struct tm tm;
    if (for_person) {
        size_t n = strftime(buf, size, "%H:%M:%S ", localtime_r(&now, &tm));
        return n + (size_t)snprintf(buf + n, size - n, "%s", words[level]);
    }
    size_t n = strftime(buf, size, "%Y-%m-%dT%H:%M:%SZ ", gmtime_r(&now, &tm));
    return n + (size_t)snprintf(buf + n, size - n, "level=%s ", names[level]);
}

/* Control characters of outsiders (names, messages of the API) must not reach a
 * terminal. */
static void tame(char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 0x20 || *s == 0x7f)
            *s = ' ';
}

__attribute__((format(printf, 2, 0))) static void line(enum log_level level,
                                                       const char *fmt, va_list ap)
{
    if (!log_wants(level))
        return;

    char text[LINE_MAX_BYTES];
    size_t n = head(level, text, sizeof text);
    vsnprintf(text + n, sizeof text - n - 1, fmt, ap);
    tame(text);
    if (sink_fn)
        sink_fn(sink_arg, text);
    else
        fprintf(stderr, "%s\n", text);
}

#define LOGGER(name, level)               \
    void log_##name(const char *fmt, ...) \
    {                                     \
        va_list ap;                       \
        va_start(ap, fmt);                \
        line(level, fmt, ap);             \
        va_end(ap);                       \
    }

LOGGER(error, LOG_ERROR)
LOGGER(warn, LOG_WARN)
LOGGER(info, LOG_INFO)
LOGGER(debug, LOG_DEBUG)
