#ifndef DIGEST_H
#define DIGEST_H

#include <stddef.h>

/* SHA-256 over pieces, cut to the DIGEST_BYTES of store.h. Never fails but for memory,
 * in which case the program cannot go on: it aborts. */
struct digest;
struct digest *digest_new(void);
void digest_free(struct digest *d);
void digest_add(struct digest *d, const void *bytes, size_t len);
void digest_end(struct digest *d, unsigned char *ret); /* and begin anew */

/* Lower-case hexadecimal of `n` bytes; `to` holds 2n + 1. */
void digest_hex(const unsigned char *bytes, size_t n, char *to);

#endif
