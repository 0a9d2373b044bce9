#include "runner/effect.h"

#ifdef NIGHTMILL_EFFECTS

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long count, stop_at = -1;
static int trace = -1;

static void setup(void)
{
    const char *at = getenv("NIGHTMILL_STOP_AT"), *file = getenv("NIGHTMILL_TRACE");
    stop_at = at ? atol(at) : 0;
    if (file)
        trace = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void point(const char *when, const char *what, long long detail)
{
    pthread_mutex_lock(&lock);
    if (stop_at < 0)
        setup();
    count++;
    if (trace >= 0) {
        char line[160];
        int n = snprintf(line, sizeof line, "%ld %s %s %lld\n", count, when, what,
                         detail);
        if (write(trace, line, (size_t)n) != n)
            _exit(99); /* a trace with holes would prove nothing */
    }
    if (count == stop_at)
        kill(getpid(), SIGKILL);
    pthread_mutex_unlock(&lock);
}

void effect_before(const char *what, long long detail)
{
    point("before", what, detail);
}

void effect_after(const char *what, long long detail)
{
    point("after", what, detail);
}

#else
typedef int effect_nothing_here; /* ISO C wants a declaration */
#endif
