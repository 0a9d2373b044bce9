#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "jobs/answers.h"
#include "jobs/appender.h"
#include "runner/err.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])

static uint64_t chance = 88172645463325252u;

static size_t any(size_t below)
{
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return (size_t)(chance % below);
}

/* What stands at a place of a pretend file: told by the place alone. */
static char letter(int64_t at)
{
    return (char)('a' + (at * 7 + at / 4096) % 26);
}

static char *letters(int64_t at, size_t len)
{
    char *bytes = malloc(len + 1);
    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++)
        bytes[i] = letter(at + (int64_t)i);
    return bytes;
}

static void assert_letters(int fd, int64_t from, int64_t to)
{
    static char bytes[1 << 16];
    for (int64_t at = from; at < to;) {
        size_t n = to - at < (int64_t)sizeof bytes ? (size_t)(to - at) : sizeof bytes;
        assert_int_equal(pread(fd, bytes, n, at), n);
        for (size_t i = 0; i < n; i++, at++)
            if (bytes[i] != letter(at))
                fail_msg("at %lld: %c, want %c", (long long)at, bytes[i], letter(at));
    }
}

/* ---- the end of a file ---- */

static void put(struct appender *a, size_t len)
{
    char *bytes = letters(appender_end(a), len);
    appender_put(a, bytes, len);
    free(bytes);
}

static void fill(int fd, size_t rounds, size_t most)
{
    struct appender a = {0};
    int64_t at = 0;
    for (size_t i = 0; i < rounds; i++) {
        assert_int_equal(appender_start(&a, fd, at), 0);
        for (size_t k = any(6); k > 0; k--)
            put(&a, any(most));
        if (any(3) == 0) { /* a flush in between changes nothing */
            assert_int_equal(appender_flush(&a), 0);
            put(&a, any(most));
        }
        assert_int_equal(appender_flush(&a), 0);
        at = appender_end(&a);
        assert_letters(fd, at > 9000 ? at - 9000 : 0, at);
    }
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, at);
    assert_letters(fd, 0, at);
    assert_int_equal(fcntl(fd, F_GETFL) & O_DIRECT, 0);
    appender_free(&a);
}

static void pieces_of_any_length_stand_one_behind_the_other(void **state)
{
    (void)state;
    static const size_t most[] = {2, 300, 5000, 70000, 700000};
    char dir[SCRATCH_MAX];
    scratch_make(dir);
    for (size_t i = 0; i < CASES(most); i++) {
        int fd = open(scratch_path(dir, "file"), O_RDWR | O_CREAT | O_TRUNC, 0600);
        assert_true(fd >= 0);
        fill(fd, 30, most[i]);
        close(fd);
        /* and where nothing like a disk is below */
        fd = memfd_create("pretend", 0);
        assert_true(fd >= 0);
        fill(fd, 8, most[i]);
        close(fd);
    }
    scratch_drop(dir);
}

/* A file that may not grow beyond `most`; 0: any file may. */
static void limit_files(rlim_t most)
{
    struct rlimit r;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &r), 0);
    r.rlim_cur = most ? most : r.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &r), 0);
}

static void a_write_that_fails_is_told_once_all_was_put(void **state)
{
    (void)state;
    char dir[SCRATCH_MAX];
    struct appender a = {0};
    scratch_make(dir);
    signal(SIGXFSZ, SIG_IGN);
    int fd = open(scratch_path(dir, "file"), O_RDWR | O_CREAT, 0600);
    for (size_t len = 100; len < 4000000; len *= 6) {
        assert_int_equal(appender_start(&a, fd, 0), 0);
        limit_files(64);
        put(&a, len);
        errno = 0;
        assert_int_equal(appender_flush(&a), -1);
        assert_int_equal(errno, EFBIG);
        assert_int_equal(appender_flush(&a), -1); /* and stays so */
        limit_files(0);
        assert_int_equal(appender_start(&a, fd, 0), 0);
        put(&a, len);
        assert_int_equal(appender_flush(&a), 0);
        assert_letters(fd, 0, (int64_t)len);
    }
    appender_free(&a);
    close(fd);
    scratch_drop(dir);
}

/* ---- answers ---- */

static struct answers *reopen(const char *dir, bool write)
{
    struct err e = {0};
    struct answers *a = answers_open(dir, write, &e);
    if (a == NULL)
        fail_msg("%s", e.text);
    return a;
}

static void begin(struct answers *a)
{
    assert_int_equal(answers_begin(a, NULL), 0);
}

/* Full of the letter `c`. */
static int64_t add(struct answers *a, char c, size_t len)
{
    char *bytes = malloc(len);
    assert_non_null(bytes);
    memset(bytes, c, len);
    int64_t at = answers_add(a, bytes, len);
    free(bytes);
    return at;
}

static void commit(struct answers *a)
{
    struct err e = {0};
    if (answers_sync(a, true, NULL, &e) < 0)
        fail_msg("%s", e.text);
    answers_committed(a);
}

static void assert_answer(struct answers *a, int64_t at, char c, size_t len)
{
    struct err e = {0};
    const char *got = answers_read(a, at, len, &e);
    if (got == NULL)
        fail_msg("%s", e.text);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(got[i], c);
    assert_int_equal(got[len], '\0');
}

static void what_was_committed_is_read_back_by_everybody(void **state)
{
    (void)state;
    static const size_t lens[] = {1, 4096, 5000, 20480, 300000, 2500000, 4097};
    char dir[SCRATCH_MAX];
    int64_t at[CASES(lens)];
    scratch_make(dir);
    struct answers *a = reopen(dir, true);
    for (size_t i = 0; i < CASES(lens); i++) {
        if (i % 3 == 0)
            begin(a);
        at[i] = add(a, (char)('a' + i), lens[i]);
        if (i % 3 == 2 || i + 1 == CASES(lens))
            commit(a);
    }
    struct answers *b = reopen(dir, false);
    for (size_t i = 0; i < CASES(lens); i++) {
        assert_answer(a, at[i], (char)('a' + i), lens[i]);
        assert_answer(b, at[i], (char)('a' + i), lens[i]);
    }
    answers_close(a);
    answers_close(b);
    scratch_drop(dir);
}

static void a_list_that_fails_leaves_its_place_to_the_next(void **state)
{
    (void)state;
    char dir[SCRATCH_MAX];
    scratch_make(dir);
    struct answers *a = reopen(dir, true);
    begin(a);
    int64_t first = add(a, 'a', 10000);
    commit(a);
    begin(a);
    int64_t lost = add(a, 'x', 500000);
    assert_int_equal(answers_sync(a, true, NULL, NULL),
                     0); /* and then SQLite refused */
    begin(a);
    int64_t second = add(a, 'b', 9000);
    commit(a);
    assert_int_equal(second, lost);
    assert_answer(a, first, 'a', 10000);
    assert_answer(a, second, 'b', 9000);
    answers_close(a);

    /* Killed there, the next one goes on behind what was written. */
    a = reopen(dir, true);
    begin(a);
    int64_t third = add(a, 'c', 7000);
    commit(a);
    assert_true(third >= second + 9000);
    assert_answer(a, second, 'b', 9000);
    assert_answer(a, third, 'c', 7000);
    answers_close(a);
    scratch_drop(dir);
}

static int64_t blocks(const char *dir)
{
    struct stat st;
    assert_int_equal(stat(scratch_path(dir, "answers"), &st), 0);
    return (int64_t)st.st_blocks * 512;
}

static void what_is_forgotten_gives_its_room_back(void **state)
{
    (void)state;
    enum { EACH = 6000, COUNT = 40 };
    char dir[SCRATCH_MAX];
    int64_t at[COUNT];
    scratch_make(dir);
    struct answers *a = reopen(dir, true);
    begin(a);
    for (int i = 0; i < COUNT; i++)
        at[i] = add(a, (char)('a' + i % 26), EACH);
    commit(a);
    int64_t before = blocks(dir);
    assert_true(before >= COUNT * EACH);

    /* All but the first and the last, in any order: neighbours go as one. */
    begin(a);
    for (int i = COUNT - 2; i > 0; i -= 2)
        answers_forget(a, at[i], EACH);
    for (int i = 1; i < COUNT - 1; i += 2)
        answers_forget(a, at[i], EACH);
    assert_int_equal(answers_sync(a, true, NULL, NULL), 0);
    assert_int_equal(blocks(dir), before); /* the list may fail yet */
    answers_committed(a);
    assert_true(blocks(dir) <= 2 * (EACH + 2 * APPENDER_BLOCK));
    assert_answer(a, at[0], 'a', EACH);
    assert_answer(a, at[COUNT - 1], (char)('a' + (COUNT - 1) % 26), EACH);

    /* Whoever had read the row before is told, not given zeros. */
    struct err e = {0};
    assert_null(answers_read(a, at[1], EACH, &e));
    assert_non_null(strstr(e.text, "answers does not have it any more"));

    /* A list that failed forgot nothing. */
    begin(a);
    answers_forget(a, at[0], EACH);
    begin(a);
    commit(a);
    assert_answer(a, at[0], 'a', EACH);
    answers_close(a);
    scratch_drop(dir);
}

static void a_disk_without_room_is_told_and_tried_again(void **state)
{
    (void)state;
    char dir[SCRATCH_MAX];
    struct err e = {0};
    bool full = true;
    scratch_make(dir);
    signal(SIGXFSZ, SIG_IGN);
    struct answers *a = reopen(dir, true);
    limit_files(4096);
    begin(a);
    add(a, 'a', 100000);
    assert_int_equal(answers_sync(a, true, &full, &e), -1);
    assert_int_equal(e.code, ERR_STORE);
    assert_non_null(strstr(e.text, "/answers: cannot be written: File too large"));
    assert_false(full); /* that is another trouble than a full disk */
    limit_files(0);
    begin(a);
    int64_t at = add(a, 'a', 100000);
    commit(a);
    assert_answer(a, at, 'a', 100000);
    answers_close(a);
    scratch_drop(dir);
}

static void an_answer_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    char dir[SCRATCH_MAX];
    struct err e = {0};
    scratch_make(dir);
    struct answers *a = reopen(dir, false);
    assert_null(answers_read(a, 0, 10, &e));
    assert_non_null(strstr(e.text, "answers: cannot be read: No such file"));
    answers_close(a);

    a = reopen(dir, true);
    begin(a);
    int64_t at = add(a, 'a', 5000);
    commit(a);
    e = (struct err){0};
    assert_null(answers_read(a, at, 5001, &e));
    assert_non_null(strstr(e.text, "is shorter than the store says"));
    answers_close(a);
    assert_int_equal(truncate(scratch_path(dir, "answers"), 100), 0);
    a = reopen(dir, false);
    e = (struct err){0};
    assert_null(answers_read(a, at, 5000, &e));
    assert_int_equal(e.code, ERR_STORE);
    answers_close(a);
    answers_close(NULL);
    scratch_drop(dir);
}

static void nobody_else_may_read_them(void **state)
{
    (void)state;
    char dir[SCRATCH_MAX];
    struct stat st;
    scratch_make(dir);
    answers_close(reopen(dir, true));
    assert_int_equal(stat(scratch_path(dir, "answers"), &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    scratch_drop(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_of_any_length_stand_one_behind_the_other),
        cmocka_unit_test(a_write_that_fails_is_told_once_all_was_put),
        cmocka_unit_test(what_was_committed_is_read_back_by_everybody),
        cmocka_unit_test(a_list_that_fails_leaves_its_place_to_the_next),
        cmocka_unit_test(what_is_forgotten_gives_its_room_back),
        cmocka_unit_test(a_disk_without_room_is_told_and_tried_again),
        cmocka_unit_test(an_answer_that_is_not_there_is_an_error),
        cmocka_unit_test(nobody_else_may_read_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
