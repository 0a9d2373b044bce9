/*
 * Whatever stands in a body, its cuts lie inside it and within each other, and with marks
 * put in it is valid JSON still, in which nothing but marks and wrapping was added.
 * The first two bytes choose which cuts are marked. And the 4 KB in which an answer's
 * headers are kept may hold anything when they are read for limits, as may the bytes of
 * a shared file when they are looked at.
 */
#include "jobs/jsonscan.h"
#include "jobs/prefix.h"
#include "jobs/textbuf.h"
#include "runner/answer.h"
#include "runner/bucket.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void marks(const uint8_t *data, size_t size)
{
    struct textbuf whole = {0}, marked = {0};
    textbuf_puts(&whole, "{");
    textbuf_put(&whole, (const char *)data + 2, size - 2);
    textbuf_puts(&whole, "}");
    if (!whole.failed && json_valid(whole.at, whole.len, NULL) == 0 &&
        json_scan(whole.at, whole.len, NULL, 0, NULL) == 0 && size > 2) {
        const char *members = whole.at + 1;
        size_t len = whole.len - 2;
        struct prefix p;
        prefix_find(&p, members, len);
        for (int i = 0; i < p.count; i++)
            if (p.cut[i].to > len || p.cut[i].from >= p.cut[i].to ||
                (i > 0 && p.cut[i].bytes < p.cut[i - 1].bytes))
                abort();
        struct prefix_marks m = {.hour = data[0] & 1};
        for (int i = 0; i < p.count && m.count < PREFIX_MARKS_MAX; i++)
            if (data[1] >> i & 1)
                m.cut[m.count++] = i;
        textbuf_puts(&marked, "{");
        prefix_mark(&marked, members, len, &p, &m);
        textbuf_puts(&marked, "}");
        if (!marked.failed && json_valid(marked.at, marked.len, NULL) != 0)
            abort();
        if (m.count == 0 &&
            (marked.len != whole.len || memcmp(marked.at, whole.at, whole.len) != 0))
            abort();
    }
    textbuf_free(&whole);
    textbuf_free(&marked);
}

static void limits(const uint8_t *data, size_t size)
{
    struct answer_limits x;
    char *text = malloc(size + 1);
    if (text == NULL)
        abort();
    memcpy(text, data, size);
    text[size] = '\0';
    answer_limits(&(struct answer){.headers = text}, &x);
    for (int i = 0; i < LIMIT_COUNT; i++)
        if (x.limit[i] < -1 || x.remaining[i] < -1)
            abort();
    free(text);
}

/* A few bytes of what was sane are other ones. */
static void shared(const uint8_t *data, size_t size)
{
    static struct buckets b;
    char says[BUCKETS_SAY_MAX];
    buckets_init(&b, 1000);
    for (size_t i = 0; i + 4 <= size; i += 4) {
        size_t at = (size_t)(data[i] | data[i + 1] << 8) % sizeof b;
        ((uint8_t *)&b)[at] ^= data[i + 2];
    }
    if (!buckets_sane(&b))
        return;
    int slot = buckets_join(&b, 2000);
    struct bucket_ask ask = {.group = 7, .input_est = 100, .max_tokens = 500};
    struct bucket_look look = buckets_ask(&b, &ask, 2001);
    buckets_say(&b, &look, 2001, says, sizeof says);
    struct bucket_ticket t = buckets_take(&b, slot, &ask, &look, 2002);
    struct bucket_headers h = {{50, 30000, 8000}, {49, 29000, 8000}, {-1, -1, -1}};
    buckets_headers(&b, &t, &h, 2300);
    buckets_ended(&b, &t, 90, 300, 4000);
    if (!buckets_sane(&b))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    marks(data, size);
    limits(data, size);
    shared(data, size);
    return 0;
}
