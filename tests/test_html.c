#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runner/html.h"

#include <string.h>

#define CASES(a) (sizeof(a) / sizeof(a)[0])

static void text_stays_text_whatever_is_in_it(void **state)
{
    (void)state;
    static const struct {
        const char *text, *html;
    } cases[] = {
        {"", ""},
        {"plain", "plain"},
        {"<img src=x onerror='a(\"b\")'>&amp;",
         "&lt;img src=x onerror=&#39;a(&quot;b&quot;)&#39;&gt;&amp;amp;"},
        {"a\nb\tc\r", "a b c "},
        {"\033[2J\001\177", "\u241b[2J\u2401\u2421"},
        {"\xc2\x9b"
         "31m",
         "\ufffd31m"}, /* a control character of eight bits */
        {"\u202egpj.exe", "\ufffdgpj.exe"},
        {"\u2066x\u2069\u200f", "\ufffdx\ufffd\ufffd"},
        {"\u2028", " "},
        {"日本語 \xf0\x9f\x8c\x99", "日本語 \xf0\x9f\x8c\x99"},
        {"\xff\xfe", "\ufffd\ufffd"},
        {"\xc3", "\ufffd"},                       /* cut off */
        {"\xc0\xbcscript", "\ufffd\ufffdscript"}, /* `<`, longer than need be */
        {"\xed\xa0\x80", "\ufffd\ufffd\ufffd"},   /* half of a pair */
        {"\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"},
        {"\xef\xbf\xbe", "\ufffd"},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct textbuf b = {0};
        html_text(&b, cases[i].text, 0);
        assert_false(b.failed);
        assert_string_equal(b.at ? b.at : "", cases[i].html);
        textbuf_free(&b);
    }
}

static void long_text_ends_in_an_ellipsis_and_never_within_a_character(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t max;
        const char *html;
    } cases[] = {
        {"hello", 5, "hello"},
        {"hello!", 5, "hell\u2026"},
        {"hello!", 1, "\u2026"},
        {"<<<<", 3, "&lt;&lt;\u2026"},
        {"日本語です", 3, "日本\u2026"},
        {"e\u0301e\u0301e\u0301", 3, "e\u0301e\u0301e\u0301"},
        {"e\u0301e\u0301e\u0301e", 3, "e\u0301e\u0301\u2026"},
        {"ab\xff\xff", 3, "ab\u2026"},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct textbuf b = {0};
        html_text(&b, cases[i].text, cases[i].max);
        assert_string_equal(b.at, cases[i].html);
        textbuf_free(&b);
    }
}

static void marks_without_end_are_cut_as_well(void **state)
{
    (void)state;
    char text[4001] = "a";
    struct textbuf b = {0};
    for (size_t i = 1; i + 2 < sizeof text; i += 2)
        memcpy(text + i, "\u0301", 3);
    html_text(&b, text, 10);
    assert_true(b.len < 300);
    textbuf_free(&b);
}

static void nothing_is_nothing(void **state)
{
    (void)state;
    struct textbuf b = {0};
    html_text(&b, NULL, 3);
    html_bytes(&b, "ab", 0, 0);
    assert_int_equal(b.len, 0);
    html_bytes(&b, "ab<", 2, 0);
    assert_string_equal(b.at, "ab");
    textbuf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_stays_text_whatever_is_in_it),
        cmocka_unit_test(long_text_ends_in_an_ellipsis_and_never_within_a_character),
        cmocka_unit_test(marks_without_end_are_cut_as_well),
        cmocka_unit_test(nothing_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
