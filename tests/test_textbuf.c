#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "jobs/jsonscan.h"
#include "jobs/textbuf.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])

static void text_grows_by_pieces_of_any_size(void **state)
{
    (void)state;
    struct textbuf b = {0};
    char whole[20000] = "";
    size_t len = 0;
    for (size_t n = 0; n < 190; n++) {
        char piece[200];
        memset(piece, 'a' + (int)(n % 26), n);
        textbuf_put(&b, piece, n);
        memcpy(whole + len, piece, n);
        len += n;
        assert_int_equal(b.len, len);
        assert_int_equal(b.at[len], '\0');
    }
    assert_memory_equal(b.at, whole, len);
    textbuf_puts(&b, "and ");
    textbuf_putf(&b, "%d of %s", 3, "them");
    assert_string_equal(b.at + len, "and 3 of them");
    textbuf_free(&b);
    assert_null(b.at);
}

static void cleared_it_is_empty_and_keeps_its_memory(void **state)
{
    (void)state;
    struct textbuf b = {0};
    textbuf_puts(&b, "something");
    char *was = b.at;
    textbuf_clear(&b);
    assert_int_equal(b.len, 0);
    textbuf_puts(&b, "else");
    assert_ptr_equal(b.at, was);
    assert_string_equal(b.at, "else");
    textbuf_free(&b);
}

/* The ceiling is looked at before the bytes are. */
static void beyond_the_ceiling_all_of_it_has_failed(void **state)
{
    (void)state;
    struct textbuf b = {0};
    textbuf_puts(&b, "kept");
    textbuf_put(&b, "x", TEXTBUF_MAX - 4);
    assert_true(b.failed);
    assert_string_equal(b.at, "kept");
    textbuf_puts(&b, "more");
    textbuf_json(&b, "more");
    assert_true(b.failed);
    assert_string_equal(b.at, "kept");
    textbuf_clear(&b);
    assert_false(b.failed);
    textbuf_put(&b, "x", SIZE_MAX);
    assert_true(b.failed);
    textbuf_free(&b);
}

static void numbers_are_decimal(void **state)
{
    (void)state;
    static const struct {
        int64_t n;
        const char *want;
    } cases[] = {{0, "0"},
                 {7, "7"},
                 {-1, "-1"},
                 {1234567890123, "1234567890123"},
                 {INT64_MAX, "9223372036854775807"},
                 {INT64_MIN, "-9223372036854775808"}};
    for (size_t i = 0; i < CASES(cases); i++) {
        struct textbuf b = {0};
        textbuf_int(&b, cases[i].n);
        assert_string_equal(b.at, cases[i].want);
        textbuf_free(&b);
    }
}

static void json_strings_are_escaped_where_json_asks(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } cases[] = {
        {NULL, "null"},
        {"", "\"\""},
        {"plain", "\"plain\""},
        {"say \"so\"", "\"say \\\"so\\\"\""},
        {"a\\b", "\"a\\\\b\""},
        {"a\nb\rc\td\be\ff", "\"a\\nb\\rc\\td\\be\\ff\""},
        {"\x01\x1f\x7f", "\"\\u0001\\u001f\x7f\""},
        {"n r t b f /", "\"n r t b f /\""},
        {"gr\xc3\xbc\xc3\x9f \xf0\x9f\x8c\x99",
         "\"gr\xc3\xbc\xc3\x9f \xf0\x9f\x8c\x99\""},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct textbuf b = {0};
        textbuf_json(&b, cases[i].text);
        assert_string_equal(b.at, cases[i].want);
        assert_int_equal(json_valid(b.at, b.len, NULL), 0);
        textbuf_free(&b);
    }
}

static void a_nul_in_the_middle_is_escaped_as_well(void **state)
{
    (void)state;
    struct textbuf b = {0};
    textbuf_json_bytes(&b, "a\0b\"", 4);
    assert_string_equal(b.at, "\"a\\u0000b\\\"\"");
    textbuf_free(&b);
}

static void moments_are_rfc_3339_in_utc(void **state)
{
    (void)state;
    static const struct {
        int64_t ms;
        const char *want;
    } cases[] = {
        {0, "null"},
        {1, "\"1970-01-01T00:00:00.001Z\""},
        {1000, "\"1970-01-01T00:00:01.000Z\""},
        {951782399999, "\"2000-02-28T23:59:59.999Z\""},
        {951782400000, "\"2000-02-29T00:00:00.000Z\""},
        {1795339820042, "\"2026-11-22T09:30:20.042Z\""},
        {4102444800000, "\"2100-01-01T00:00:00.000Z\""},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct textbuf b = {0};
        textbuf_json_time(&b, cases[i].ms);
        assert_string_equal(b.at, cases[i].want);
        textbuf_free(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_grows_by_pieces_of_any_size),
        cmocka_unit_test(cleared_it_is_empty_and_keeps_its_memory),
        cmocka_unit_test(beyond_the_ceiling_all_of_it_has_failed),
        cmocka_unit_test(numbers_are_decimal),
        cmocka_unit_test(json_strings_are_escaped_where_json_asks),
        cmocka_unit_test(a_nul_in_the_middle_is_escaped_as_well),
        cmocka_unit_test(moments_are_rfc_3339_in_utc),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
