/*
 * Bytes as an answer: two of them say how it came, then headers to the first empty
 * line, then the body. Whatever it is, the judgement is one that can be acted on and
 * printed.
 */
#include "jobs/jsonscan.h"
#include "runner/answer.h"
#include "runner/verdict.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static const long statuses[] = {200, 400, 401, 402, 403, 404, 408, 409, 413, 422,
                                429, 500, 502, 503, 504, 520, 529, 301, 204, 0};

static void check_text(const char *text, size_t size)
{
    size_t len = strnlen(text, size);
    if (len == size)
        abort();
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f)
            abort();
}

static char *copied(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (text == NULL)
        abort();
    memcpy(text, data, size);
    text[size] = '\0';
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    unsigned how = data[0], flags = data[1];
    data += 2;
    size -= 2;
    const uint8_t *gap = size ? memmem(data, size, "\n\n", 2) : NULL;
    size_t head = gap ? (size_t)(gap - data) + 1 : 0, skip = gap ? head + 1 : 0;
    char *headers = copied(data, head), *body = copied(data + skip, size - skip);

    struct answer a = {
        .broke = flags & 1 ? (enum answer_break)(flags / 16 % BREAK_COUNT)
                           : ANSWER_WHOLE,
        .why = "",
        .status = statuses[how % (sizeof statuses / sizeof *statuses)],
        .left = flags & 2,
        .headers = headers,
        .body = body,
        .body_len = size - skip,
        .streamed = flags & 4,
    };
    struct verdict_about about = {.wall_ms = INT64_C(1795339820000),
                                  .model_from_job = (flags & 8) == 8,
                                  .model_is_tiers = (flags & 8) == 0};
    struct judgement j;
    verdict_judge(&a, &about, &j);

    check_text(j.type, sizeof j.type);
    check_text(j.code, sizeof j.code);
    check_text(j.request_id, sizeof j.request_id);
    check_text(j.model, sizeof j.model);
    check_text(j.sentence, sizeof j.sentence);
    if (j.verdict == VERDICT_ACCEPTED &&
        (a.status != 200 || json_scan(body, a.body_len, NULL, 0, NULL) < 0))
        abort();
    if (j.verdict != VERDICT_ACCEPTED && j.sentence[0] == '\0')
        abort();
    if ((j.verdict == VERDICT_RATE_LIMITED) != (j.rate != RATE_NONE))
        abort();
    if (j.retry_ms == 0 || j.retry_ms < -1 || (j.until && j.until <= about.wall_ms))
        abort();
    if (j.usage.input < 0 || j.usage.output < 0 || j.usage.cache_read < 0 ||
        j.usage.cache_write_5m < 0 || j.usage.cache_write_1h < 0)
        abort();
    free(headers);
    free(body);
    return 0;
}
