/*
 * What the store gives back as a blob may be anything: either it is refused, or it is
 * used and saved again. Since a checksum would keep every changed byte out, it is put
 * right first; the first byte says whether.
 */
#include "runner/err.h"
#include "runner/gist.h"
#include "runner/learn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER = 48, SUM = 40, BODY = 32 };

static uint64_t fnv(uint64_t h, const unsigned char *p, size_t len)
{
    for (; len > 0; len--)
        h = (h ^ *p++) * UINT64_C(1099511628211);
    return h;
}

static void put(unsigned char *p, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        p[i] = (unsigned char)(v >> 8 * i);
}

/* A true header on top of the bytes. */
static void mend(unsigned char *p, size_t len)
{
    memcpy(p, "nmlearn", 8);
    put(p + 8, 2, 4);
    put(p + 12, GIST_VERSION, 4);
    put(p + 16, GIST_SLOTS, 4);
    put(p + 20, p[20] % LEARN_RUNGS + 1u, 4);
    put(p + 24, p[24] % 4, 8);
    put(p + BODY, len - HEADER, 8);
    put(p + SUM,
        fnv(fnv(UINT64_C(1469598103934665603), p, SUM), p + HEADER, len - HEADER), 8);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEADER + 1)
        return 0;
    /* noughts behind: the slots that were never touched */
    size_t len = size - 1 + (data[0] & 2 ? GIST_SLOTS / 8 : 0);
    unsigned char *p = calloc(1, len);
    struct learn_job job = {.prompt = "a mill", .len = 6, .group = data[1]};
    struct learn_view v;
    struct err e = {0};
    if (p == NULL)
        abort();
    memcpy(p, data + 1, size - 1);
    if (data[0] & 1)
        mend(p, len);
    struct learn *l = learn_load(p, len, &e);
    if ((l == NULL) != (e.code != ERR_NONE))
        abort();
    if (l) {
        learn_predict(l, &job, &v);
        for (int r = 0; r < v.rungs; r++)
            if (!(v.p[r] >= 0 && v.p[r] <= 1))
                abort();
        learn_outcome(l, &job, 0, true);
        if (learn_save(l, NULL, 0) > LEARN_BLOB_MAX)
            abort();
    }
    learn_free(l);
    free(p);
    return 0;
}
