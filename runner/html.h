#ifndef HTML_H
#define HTML_H

#include "jobs/textbuf.h"

#include <stddef.h>

/*
 * Text of outsiders (names of jobs, models, what an API said) on a page: it stays text.
 * Pure. Good between tags and within quoted attributes.
 *
 * `&`, `<`, `>` and both quotes become entities. Line ends and tabs become blanks, other
 * control characters their pictures (U+2400 on). What is not UTF-8, and what would turn
 * the order of a line around (the bidi controls), becomes U+FFFD. Beyond `max` characters
 * (0: no bound) the rest is an ellipsis; the cut is never within a character, nor between
 * one and the marks that combine with it.
 */
void html_text(struct textbuf *b, const char *s, size_t max); /* NULL: nothing */

/* The same of so many bytes. */
void html_bytes(struct textbuf *b, const char *s, size_t len, size_t max);

#endif
