#ifndef CHECK_H
#define CHECK_H

#include <stdbool.h>
#include <stddef.h>

struct err;

/*
 * What an answer must be like to count. Pure, but for the programs, which somebody else
 * runs (checkrun.h). In words, as jobs and rules say it; joined by " && " all must pass:
 *
 *   json               one JSON value and nothing else; a Markdown fence is something else
 *   schema:{...}       JSON that this JSON Schema lets pass (schema.h)
 *   schema:FILE        the same, from a file
 *   regex:PATTERN      PCRE2's syntax; found anywhere unless anchored. In a pattern write
 *                      [ ]&& for " && "
 *   choices:a,b,c      exactly one of these, white space around it aside
 *   min_chars:N        of the text, white space around it aside
 *   max_chars:N
 *   command:NAME       the program of [check NAME]; NAME alone will do
 *
 * An answer's text is the text of its blocks. Words that cannot be are an error when the
 * check is made, never a pass.
 */
enum { CHECK_WHY_MAX = 300, CHECK_PARTS_MAX = 16, CHECK_CHOICES_MAX = 1000 };

struct check;

struct check_env {
    void *arg;
    bool (*command)(void *arg, const char *name); /* is there such a program? */
    /* A schema's text, fresh. NULL as a function: files are not to be had. */
    char *(*file)(void *arg, const char *name, size_t *len, struct err *e);
};

/* NULL: `e` says what is wanted. */
struct check *check_new(const char *words, const struct check_env *env, struct err *e);
void check_free(struct check *c); /* NULL is fine */

enum check_end { CHECK_PASS, CHECK_FAIL };

/* All but the programs. `why` is one sentence where it fails. */
enum check_end check_text(const struct check *c, const char *text, size_t len,
                          char *why, size_t size);

/* The programs that must pass as well, in their order. */
size_t check_commands(const struct check *c);
const char *check_command(const struct check *c, size_t i);

#endif
