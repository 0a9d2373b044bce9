/* The first byte picks the format; the rest is the file, or the line. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "jobs/job.h"
#include "jobs/jsonscan.h"
#include "jobs/source.h"
#include "runner/err.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    struct job_spec s = {0};
    struct err e = {0};
    const struct source_format *format = &source_formats[*data % source_formats_len];
    if (format->parse((const char *)data + 1, len - 1, 1, &s, &e) < 0) {
        assert(e.code == ERR_INPUT && e.text[0] >= '1' && e.text[0] <= '9');
        assert(job_text_fault(e.text, strlen(e.text)) == 0 && s.body == NULL);
    } else {
        /* What is sent is one object with messages, whatever came. */
        struct json_want want[] = {
            {.key = "messages"}, {.key = "model"}, {.key = "stream"}};
        char *whole = malloc(s.body_len + 2);
        assert(whole && e.code == ERR_NONE);
        whole[0] = '{';
        memcpy(whole + 1, s.body, s.body_len);
        whole[s.body_len + 1] = '}';
        assert(json_scan(whole, s.body_len + 2, want, 3, NULL) == 0);
        assert(want[0].value.at && !want[1].value.at && !want[2].value.at);
        free(whole);
    }
    job_spec_free(&s);
    return 0;
}
