/* The table of job formats, and what their readers share. */
#include "jobs/source.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "runner/err.h"

const struct source_format source_formats[] = {
    {.extension = ".md", .bulk = false, .parse = source_text_parse},
    {.extension = ".txt", .bulk = false, .parse = source_text_parse},
    {.extension = ".json", .bulk = false, .parse = source_json_parse},
    {.extension = ".jsonl", .bulk = true, .parse = source_json_parse},
};
const size_t source_formats_len = sizeof source_formats / sizeof source_formats[0];

const struct source_format *source_format_of(const char *file_name)
{
    size_t len = strlen(file_name);
    for (size_t i = 0; i < source_formats_len; i++) {
        size_t n = strlen(source_formats[i].extension);
        if (len > n && strcmp(file_name + len - n, source_formats[i].extension) == 0)
            return &source_formats[i];
    }
    return NULL;
}

struct piece {
    const char *at;
    size_t len;
};

/* Names of tiers, models, efforts and tags. What is not ASCII is somebody's alphabet;
 * quotes and brackets are most likely another format's, better told than kept. */
static bool is_word(struct piece w)
{
    if (w.len == 0 || w.len > SOURCE_NAME_MAX)
        return false;
    for (size_t i = 0; i < w.len; i++) {
        unsigned char c = (unsigned char)w.at[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c >= 0x80;
        if (!letter && !(c >= '0' && c <= '9') && !strchr("-_.:/@+", c))
            return false;
    }
    return true;
}

int source_word(char **ret, const char *text, struct err *e)
{
    if (!is_word((struct piece){text, strlen(text)}))
        return -1;
    char *word = strdup(text);
    if (word == NULL)
        return err_set(e, ERR_NOMEM, "out of memory");
    *ret = word;
    return 0;
}

static int piece_order(const void *a, const void *b)
{
    const struct piece *x = a, *y = b;
    int order = memcmp(x->at, y->at, x->len < y->len ? x->len : y->len);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

static struct piece trimmed(const char *at, size_t len)
{
    while (len > 0 && (*at == ' ' || *at == '\t')) {
        at++;
        len--;
    }
    while (len > 0 && (at[len - 1] == ' ' || at[len - 1] == '\t'))
        len--;
    return (struct piece){at, len};
}

int source_tags(char **ret, const char *text, struct err *e)
{
    struct piece tags[SOURCE_TAGS_MAX];
    size_t n = 0;
    for (const char *p = text;; p++) {
        size_t len = strcspn(p, ",");
        if (n == SOURCE_TAGS_MAX || !is_word(tags[n++] = trimmed(p, len)))
            return -1;
        p += len;
        if (*p == '\0')
            break;
    }
    qsort(tags, n, sizeof *tags, piece_order);

    char *list = malloc(strlen(text) + 1), *to = list;
    if (list == NULL)
        return err_set(e, ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && piece_order(&tags[i - 1], &tags[i]) == 0)
            continue;
        if (i > 0)
            *to++ = ',';
        memcpy(to, tags[i].at, tags[i].len);
        to += tags[i].len;
    }
    *to = '\0';
    *ret = list;
    return 0;
}

int source_number(int64_t *ret, const char *text, int64_t min, int64_t max)
{
    char *end;
    errno = 0;
    intmax_t n = strtoimax(text, &end, 10);
    if (end == text || *end != '\0' || errno || n < min || n > max)
        return -1;
    *ret = n;
    return 0;
}

const char *source_shown(char buf[SOURCE_SHOWN], const char *text, size_t len)
{
    static const char dots[] = "...";
    size_t n = len;
    if (n >= SOURCE_SHOWN) {
        n = SOURCE_SHOWN - sizeof dots;
        while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
            n--; /* whole characters */
    }
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        /* The second byte of U+0080..U+009F, which terminals obey, is masked as well.
         */
        bool c1 = i > 0 && (unsigned char)text[i - 1] == 0xc2 && c < 0xa0;
        buf[i] = c < 0x20 || c == 0x7f ? ' ' : c1 ? (char)0xbf : (char)c;
    }
    memcpy(buf + n, dots, n < len ? sizeof dots : 0);
    if (n == len)
        buf[n] = '\0';
    return buf;
}
