#ifndef SCRATCH_H
#define SCRATCH_H

/*
 * A directory of a test's own, and files in it. For tests alone: what cannot be done
 * fails the test. Include it behind <cmocka.h>.
 */
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SCRATCH_MAX = 64, SCRATCH_FILE_MAX = 1 << 20 };

static inline void scratch_make(char dir[SCRATCH_MAX])
{
    strcpy(dir, "/tmp/nightmill-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
}

static inline int scratch_remove_one(const char *path, const struct stat *st, int type,
                                     struct FTW *f)
{
    (void)st;
    (void)type;
    (void)f;
    return remove(path);
}

static inline void scratch_drop(const char *dir)
{
    assert_int_equal(nftw(dir, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* Lent until the fourth call from here. */
static inline const char *scratch_path(const char *dir, const char *name)
{
    static char paths[4][PATH_MAX];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, PATH_MAX, "%s/%s", dir, name);
    return path;
}

static inline void scratch_put(const char *dir, const char *name, const char *bytes,
                               size_t len)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    for (char *p = path + strlen(dir) + 1; (p = strchr(p, '/')) != NULL; *p++ = '/') {
        *p = '\0';
        mkdir(path, 0777);
    }
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    assert_int_equal(fclose(f), 0);
}

static inline void scratch_puts(const char *dir, const char *name, const char *text)
{
    scratch_put(dir, name, text, strlen(text));
}

/* The file's text, to be freed; NULL if there is none. */
static inline char *scratch_text(const char *dir, const char *name)
{
    FILE *f = fopen(scratch_path(dir, name), "rb");
    if (f == NULL)
        return NULL;
    char *text = calloc(1, SCRATCH_FILE_MAX);
    assert_non_null(text);
    assert_true(fread(text, 1, SCRATCH_FILE_MAX, f) < SCRATCH_FILE_MAX);
    fclose(f);
    return text;
}

static inline void scratch_equals(const char *dir, const char *name, const char *want)
{
    char *text = scratch_text(dir, name);
    if (text == NULL)
        fail_msg("%s is not there", name);
    assert_string_equal(text, want);
    free(text);
}

static inline int scratch_there(const char *dir, const char *name)
{
    return access(scratch_path(dir, name), F_OK) == 0;
}

#endif
