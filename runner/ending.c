#include "runner/ending.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *const names[] = {
#define X(stop, name) [STOP_##stop] = name,
    STOPS(X)
#undef X
};

const char *stop_name(enum stop s)
{
    return names[s];
}

enum stop stop_named(const char *name)
{
    for (int i = 0; name && i < STOP_COUNT; i++)
        if (strcmp(names[i], name) == 0)
            return (enum stop)i;
    return STOP_NONE;
}

bool stop_needs_person(enum stop s)
{
    return s != STOP_NONE && s != STOP_SIGNAL && s != STOP_UNTIL;
}

static const char *date_text(int64_t wall_ms, char *buf, size_t size)
{
    time_t t = (time_t)(wall_ms / 1000);
    struct tm tm;
    strftime(buf, size, "%Y-%m-%d %H:%M UTC", gmtime_r(&t, &tm));
    return buf;
}

/* What the rest would take, if it is like what was done. */
static const char *more_text(const struct ending *x, char *buf, size_t size)
{
    *buf = '\0';
    if (x->done > 0)
        snprintf(buf, size, "; at this run's average they take about $%.2f more",
                 (double)x->spent / (double)x->done * (double)x->left /
                     (double)PICODOLLARS_PER_DOLLAR);
    return buf;
}

const char *ending_says(const struct ending *x, char *buf, size_t size)
{
    char date[40], more[120];
    const char *says = x->says ? x->says : "";
    const char *wait_s = x->left == 1 ? " waits" : "s wait";
    *buf = '\0';
    switch (x->stop) {
    case STOP_NONE:
    case STOP_RELOAD:
    case STOP_COUNT:
        break;
    case STOP_SIGNAL:
    case STOP_UNTIL:
        snprintf(buf, size, "stopped: %s. %" PRId64 " job%s; the same command goes on.",
                 says, x->left, wait_s);
        break;
    case STOP_NO_CREDIT:
        snprintf(
            buf, size,
            "stopped: out of credit (\"%s\"). Add credit, then run the same command: "
            "it sends one request, and goes on with the %" PRId64
            " waiting job%s if that is answered.",
            says, x->left, x->left == 1 ? "" : "s");
        break;
    case STOP_SPEND_LIMIT:
        snprintf(buf, size,
                 "stopped: a spend limit of the account is reached (\"%s\"). %s%s%s "
                 "%" PRId64 " job%s; the same command sends one request to see, and "
                 "goes on if it is answered.",
                 says,
                 x->until ? "Access returns on " : "See the limits in the console.",
                 x->until ? date_text(x->until, date, sizeof date) : "",
                 x->until ? "." : "", x->left, wait_s);
        break;
    case STOP_KEY:
        snprintf(buf, size,
                 "stopped: the key was refused (\"%s\"). Check ANTHROPIC_API_KEY (or "
                 "api.key_file), then run the same command; %" PRId64 " job%s.",
                 says, x->left, wait_s);
        break;
    case STOP_BUDGET:
        snprintf(buf, size,
                 "stopped: %s. %" PRId64 " job%s%s. Raise the ceiling or wait for the "
                 "next day or month, then run the same command.",
                 says, x->left, wait_s, more_text(x, more, sizeof more));
        break;
    case STOP_OUTAGE:
        snprintf(buf, size,
                 "stopped: %s, for longer than limits.outage. Check the network and "
                 "api.base_url; the same command goes on with the %" PRId64
                 " waiting job%s.",
                 says, x->left, x->left == 1 ? "" : "s");
        break;
    case STOP_WAIT:
        snprintf(buf, size,
                 "stopped: nothing can be sent before %s (%s), which is longer than "
                 "limits.longest_wait. %" PRId64
                 " job%s; run the same command after that.",
                 date_text(x->until, date, sizeof date), says, x->left, wait_s);
        break;
    case STOP_STORE:
        snprintf(buf, size,
                 "stopped: %s. %d answers that could not be stored are lost to doubt: "
                 "they were paid, and their jobs will be sent again. Make room in %s, "
                 "then run the same command.",
                 says, x->lost, x->state ? x->state : "the store's directory");
        break;
    case STOP_DISK:
        snprintf(buf, size,
                 "stopped: %s. Nothing is lost; make room, then run the same command.",
                 says);
        break;
    case STOP_RESULTS:
        snprintf(buf, size,
                 "stopped: results could not be written (%s). No answer is lost: make "
                 "room, or "
                 "the place writable, and the same command writes them from the store.",
                 says);
        break;
    case STOP_CONSENT:
    case STOP_INPUT:
        snprintf(buf, size, "%s: %s", x->sent ? "stopped" : "nothing was sent", says);
        break;
    }
    return buf;
}
