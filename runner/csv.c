#include "runner/csv.h"

#include "runner/err.h"

#include <inttypes.h>
#include <string.h>

void csv_init(struct csv *c, const char *name, char *bytes, size_t len)
{
    *c = (struct csv){.name = name, .at = bytes, .end = bytes + len, .line = 1};
    if (len >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0)
        c->at += 3;
}

static int wrong(const struct csv *c, int64_t line, const char *what, struct err *e)
{
    return err_set(e, ERR_INPUT, "%s:%" PRId64 ": %s", c->name, line, what);
}

static bool line_end(const struct csv *c, const char *p)
{
    return p == c->end || *p == '\n' || (*p == '\r' && p + 1 < c->end && p[1] == '\n');
}

/* Behind a field: what ended it is passed over. True: the record goes on. */
static bool pass_end(struct csv *c)
{
    bool more = c->at < c->end && *c->at == ',';
    if (c->at < c->end && *c->at == '\r')
        c->at++;
    if (c->at < c->end && *c->at == '\n')
        c->line++;
    if (c->at < c->end)
        c->at++;
    return more;
}

/* The field moves to the left over the quotes that go. */
static int read_quoted(struct csv *c, struct csv_field *f, struct err *e)
{
    int64_t from = c->line;
    char *to = ++c->at;
    f->at = to;
    for (;; c->at++) {
        if (c->at == c->end)
            return wrong(c, from, "a quoted field that begins here does not end", e);
        if (*c->at == '"') {
            if (c->at + 1 == c->end || c->at[1] != '"')
                break;
            c->at++;
        }
        c->line += *c->at == '\n';
        *to++ = *c->at;
    }
    c->at++;
    f->len = (size_t)(to - f->at);
    if (!line_end(c, c->at) && *c->at != ',')
        return wrong(c, c->line, "text behind the quote that ends a field", e);
    return 0;
}

static int read_plain(struct csv *c, struct csv_field *f, struct err *e)
{
    for (f->at = c->at; !line_end(c, c->at) && *c->at != ','; c->at++)
        if (*c->at == '"')
            return wrong(c, c->line, "a quote in a field that does not begin with one",
                         e);
    f->len = (size_t)(c->at - f->at);
    return 0;
}

int csv_next(struct csv *c, struct err *e)
{
    bool more = true;
    while (c->at < c->end && line_end(c, c->at))
        pass_end(c);
    if (c->at == c->end)
        return 0;
    c->record_line = c->line;
    for (c->fields = 0; more; c->fields++) {
        if (c->fields == CSV_FIELDS_MAX)
            return wrong(c, c->record_line, "more fields than a record may have", e);
        struct csv_field *f = &c->field[c->fields];
        bool quoted = c->at < c->end && *c->at == '"';
        if ((quoted ? read_quoted(c, f, e) : read_plain(c, f, e)) < 0)
            return -1;
        if (f->len > CSV_FIELD_MAX)
            return wrong(c, c->record_line, "a field of more than 16 MiB", e);
        more = pass_end(c);
        f->at[f->len] = '\0'; /* onto what ended it, or a quote */
    }
    return 1;
}
