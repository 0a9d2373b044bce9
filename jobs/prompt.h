#ifndef PROMPT_H
#define PROMPT_H

#include <stddef.h>

struct textbuf;

/*
 * What a job asks, as text: what its user's messages say, joined by newlines, from the
 * members of its body. At most PROMPT_MAX bytes of it. Nothing where that cannot be read.
 */
enum { PROMPT_MAX = 64 * 1024 };

void prompt_text(struct textbuf *to, const char *members, size_t len);

#endif
