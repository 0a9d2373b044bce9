#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

#include "jobs/walk.h"
#include "runner/err.h"

struct seen {
    char words[4000];
    int count, dark;
};

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* "kind path" of each entry, sorted; directories named in `skip` are not entered. */
static void walk_all(const char *root, const char *skip, struct seen *ret)
{
    static const char letters[] = {[WALK_DIR] = 'd',
                                   [WALK_FILE] = 'f',
                                   [WALK_LINK] = 'l',
                                   [WALK_OTHER] = 'o',
                                   [WALK_DARK] = 'x'};
    char *lines[200];
    struct walk_entry f;
    struct err e = {0};
    struct walk *w = walk_new(root, &e);
    assert_non_null(w);
    *ret = (struct seen){0};
    while (walk_next(w, &f)) {
        assert_true(ret->count < 200);
        assert_true(asprintf(&lines[ret->count++], "%c %s", letters[f.kind], f.path) >
                    0);
        ret->dark += f.kind == WALK_DARK;
        assert_int_equal(strncmp(f.full, root, strlen(root)), 0);
        if (skip && strcmp(f.name, skip) == 0)
            walk_skip(w);
    }
    assert_false(walk_next(w, &f)); /* and stays over */
    walk_free(w);
    qsort(lines, (size_t)ret->count, sizeof lines[0], compare);
    for (int i = 0; i < ret->count; i++) {
        if (strlen(ret->words) + strlen(lines[i]) + 2 < sizeof ret->words)
            strcat(strcat(ret->words, lines[i]), "\n");
        free(lines[i]);
    }
}

static void everything_is_told_once_and_links_are_not_followed(void **state)
{
    char dir[SCRATCH_MAX];
    struct seen s;
    (void)state;
    scratch_make(dir);
    scratch_puts(dir, "a.md", "a");
    scratch_puts(dir, "sub/b.md", "b");
    scratch_puts(dir, "sub/deep/c.md", "c");
    assert_int_equal(symlink("..", scratch_path(dir, "sub/up")), 0);
    assert_int_equal(mkfifo(scratch_path(dir, "pipe"), 0600), 0);
    assert_int_equal(mkdir(scratch_path(dir, "empty"), 0700), 0);
    walk_all(dir, NULL, &s);
    assert_string_equal(s.words, "d \nd empty\nd sub\nd sub/deep\nf a.md\nf sub/b.md\n"
                                 "f sub/deep/c.md\nl sub/up\no pipe\n");
    scratch_drop(dir);
}

static void what_is_skipped_is_not_entered(void **state)
{
    char dir[SCRATCH_MAX];
    struct seen s;
    (void)state;
    scratch_make(dir);
    scratch_puts(dir, "in/a.md", "a");
    scratch_puts(dir, "out/b.md", "b");
    scratch_puts(dir, "out/more/c.md", "c");
    walk_all(dir, "out", &s);
    assert_string_equal(s.words, "d \nd in\nd out\nf in/a.md\n");
    scratch_drop(dir);
}

static void what_lies_too_deep_is_dark_and_the_rest_is_told(void **state)
{
    char dir[SCRATCH_MAX], path[PATH_MAX] = "";
    struct seen s;
    (void)state;
    scratch_make(dir);
    for (int i = 0; i < WALK_DEPTH_MAX + 3; i++)
        strcat(path, "d/");
    strcat(path, "a.md");
    scratch_puts(dir, path, "too deep");
    scratch_puts(dir, "b.md", "b");
    walk_all(dir, NULL, &s);
    assert_int_equal(s.dark, 1);
    assert_null(strstr(s.words, "a.md"));
    assert_non_null(strstr(s.words, "f b.md"));
    scratch_drop(dir);
}

static void a_root_that_is_gone_is_dark(void **state)
{
    struct seen s;
    (void)state;
    walk_all("/tmp/nightmill-there-is-no-such-directory", NULL, &s);
    assert_string_equal(s.words, "x \n");
}

static void what_goes_away_meanwhile_is_no_matter(void **state)
{
    char dir[SCRATCH_MAX];
    struct walk_entry f;
    struct err e = {0};
    (void)state;
    scratch_make(dir);
    for (int i = 0; i < 6; i++) {
        char name[40];
        snprintf(name, sizeof name, "d%d/a.md", i);
        scratch_puts(dir, name, "a");
    }
    struct walk *w = walk_new(dir, &e);
    assert_non_null(w);
    int files = 0;
    while (walk_next(w, &f)) {
        assert_int_not_equal(f.kind, WALK_DARK);
        files += f.kind == WALK_FILE;
        if (f.kind == WALK_DIR && *f.path == 'd' && f.path[1] != '0') {
            char gone[PATH_MAX];
            snprintf(gone, sizeof gone, "%s/a.md", f.full);
            assert_int_equal(unlink(gone), 0);
            assert_int_equal(rmdir(f.full), 0);
        }
    }
    assert_int_equal(files, 1);
    walk_free(w);
    scratch_drop(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_is_told_once_and_links_are_not_followed),
        cmocka_unit_test(what_is_skipped_is_not_entered),
        cmocka_unit_test(what_lies_too_deep_is_dark_and_the_rest_is_told),
        cmocka_unit_test(a_root_that_is_gone_is_dark),
        cmocka_unit_test(what_goes_away_meanwhile_is_no_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
