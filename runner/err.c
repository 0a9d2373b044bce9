#include "runner/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *e, enum err_code code, const char *fmt, ...)
{
    if (e == NULL || e->code != ERR_NONE)
        return -1;

    va_list ap;
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    e->code = code;
    return -1;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
    if (e == NULL || e->code == ERR_NONE)
        return -1;

    char text[sizeof e->text];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n + strlen(": ") >= sizeof text)
        return -1; /* no room for context; the cause matters more */

    size_t room = sizeof text - (size_t)n;
    int len = snprintf(text + n, room, ": %.*s", (int)(room - sizeof ": "), e->text);
    memcpy(e->text, text, (size_t)n + (size_t)len + 1);
    return -1;
}

const char *err_code_text(enum err_code code)
{
    static const char *const texts[] = {[ERR_NONE] = "no error",
#define X(name, text) [ERR_##name] = text,
                                        ERR_CODES(X)
#undef X
    };
    return texts[code];
}
