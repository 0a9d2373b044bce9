#ifndef TRUTH_H
#define TRUTH_H

#include "sim/scan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct err;
struct truth;

/*
 * Which model answers which prompt right, for nights that try routing: lines of
 *
 *   HASH WEAK STRONG      0123456789abcdef 0 1
 *
 * HASH is FNV-1a (64 bits, hexadecimal) of the last user message's text as it stands
 * between the quotes of the body, WEAK and STRONG are 1 where that model is right. An
 * answer to a prompt in the file says whether it is right, and whether it passes, which
 * is the same but for a share of answers (truth.errs).
 */
struct truth *truth_read(const char *path, struct err *e);
void truth_free(struct truth *t); /* NULL is fine */

/* False: the prompt is not in the file. */
bool truth_of(const struct truth *t, struct span prompt, bool weak, double errs,
              uint64_t seed, bool *right, bool *passes);

#endif
