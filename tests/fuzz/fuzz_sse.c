/*
 * Bytes as a stream: at once and in pieces of any size it comes to the same, and what
 * it amounts to is valid JSON on one line.
 */
#include "jobs/jsonscan.h"
#include "runner/err.h"
#include "runner/sse.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static struct sse *fed(const uint8_t *data, size_t size, size_t step)
{
    struct sse *s = sse_new(4096);
    if (s == NULL)
        abort();
    for (size_t at = 0; at < size; at += step) {
        size_t n = size - at < step ? size - at : step;
        char *piece = malloc(n);
        if (piece == NULL)
            abort();
        memcpy(piece, data + at, n);
        struct err e = {0};
        if (sse_feed(s, piece, n, &e) < 0 && e.text[0] == '\0')
            abort();
        free(piece);
    }
    return s;
}

static void check_message(const char *text, size_t len)
{
    struct json_fault f;
    if (strlen(text) != len || strchr(text, '\n'))
        abort();
    if (json_scan(text, len, NULL, 0, &f) < 0 &&
        strcmp(f.what, "nested too deep") != 0 &&
        strcmp(f.what, "a key with escapes in it") != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct sse *a = fed(data + 1, size - 1, size),
               *b = fed(data + 1, size - 1, data[0] % 16 + 1);
    size_t len_a = 0, len_b = 0;
    char *text_a = sse_message(a, &len_a), *text_b = sse_message(b, &len_b);
    if (sse_whole(a) != sse_whole(b) || sse_too_large(a) != sse_too_large(b) ||
        sse_began(a) != sse_began(b) || len_a != len_b || !text_a != !text_b ||
        !sse_error(a) != !sse_error(b))
        abort();
    if (text_a && strcmp(text_a, text_b) != 0)
        abort();
    if (text_a)
        check_message(text_a, len_a);
    if (sse_error(a))
        check_message(sse_error(a), strlen(sse_error(a)));
    free(text_a);
    free(text_b);
    sse_free(a);
    sse_free(b);
    return 0;
}
