#ifndef ASK_H
#define ASK_H

#include "sim/scan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a request for a message says, as far as the simulator cares. */

enum { ASK_MODEL_MAX = 128, ASK_WHY_MAX = 256 };

struct ask {
    struct span body;
    char model[ASK_MODEL_MAX];
    int64_t max_tokens;
    bool stream;
    bool marked;                         /* has a cache_control somewhere */
    struct span tools, system, messages; /* as they stand; NULL where left out */
    struct span cache_control;           /* of the request itself */
    struct span user_id;                 /* metadata.user_id, without its quotes */
    struct span prompt;                  /* text of the last user message, likewise */
    int64_t bytes;                       /* what the model reads */
};

enum ask_version { ASK_2023_06_01, ASK_2026_10_21 };

/*
 * Reads a body, which must outlive the ask. False where the API would say 400: `why`
 * (ASK_WHY_MAX bytes) then holds its sentence. count_tokens needs no max_tokens.
 */
bool ask_read(struct ask *a, const char *body, size_t len, enum ask_version version,
              bool counting, char *why);

#endif
