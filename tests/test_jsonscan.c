#include "jobs/jsonscan.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#define COUNT(table) (sizeof(table) / sizeof *(table))

/* A copy without a NUL behind it, so that a byte too many is noticed. */
static char *bare(const char *text, size_t len)
{
    char *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    memcpy(copy, text, len);
    return copy;
}

static struct json_span span(const char *text)
{
    return (struct json_span){text, strlen(text)};
}

static bool is(struct json_span s, const char *text)
{
    return s.at && s.len == strlen(text) && memcmp(s.at, text, s.len) == 0;
}

/* Documents of every form. Each is also given to jansson, which must agree. */
static const char *const valid[] = {
    "{}",
    " \t\r\n{ \t\r\n} \t\r\n",
    "{\"a\":1}",
    "{\"a\" : [ ] , \"b\" : { } }",
    "{\"a\":[1,[2,[3,{\"b\":[{}]}]]],\"c\":null}",
    "{\"\":\"\"}",
    "{\"n\":[0,-0,10,-1,0.5,-0.5,1e3,1E+3,1e-3,1.25e2,9007199254740993]}",
    "{\"w\":[true,false,null]}",
    "{\"e\":\"\\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u0041 \\u00e4 \\ud83c\\udf19\"}",
    "{\"u\":\"ä € 🌙 \xf4\x8f\xbf\xbf \xed\x9f\xbf \xee\x80\x80\"}",
    "{\"del\":\"\x7f\"}",
    "{\"long\":\"0123456789abcdef0123456789abcdef0123456789abcde\"}",
    "{\"x\":{\"a\":1,\"a\":2}}",
    "{\"twice\":1,\"twice\":2}",
    "{\"nul\":\"\\u0000\"}",
};

static const struct {
    const char *text;
    size_t line, column;
    const char *what;
} invalid[] = {
    {"", 1, 1, "want a JSON object"},
    {"  ", 1, 3, "want a JSON object"},
    {"[]", 1, 1, "want a JSON object"},
    {"1", 1, 1, "want a JSON object"},
    {"{", 1, 2, "want a key in double quotes"},
    {"{a:1}", 1, 2, "want a key in double quotes"},
    {"{'a':1}", 1, 2, "want a key in double quotes"},
    {"{\"a\"}", 1, 5, "want a colon behind the key"},
    {"{\"a\":}", 1, 6, "no JSON value begins like this"},
    {"{\"a\":", 1, 6, "a value is missing"},
    {"{\"a\":1", 1, 7, "it ends too soon"},
    {"{\"a\":1,}", 1, 8, "want a key in double quotes"},
    {"{\"a\":1 \"b\":2}", 1, 8, "want a comma or the end of the object"},
    {"{\"a\":[1,]}", 1, 9, "no JSON value begins like this"},
    {"{\"a\":[1 2]}", 1, 9, "want a comma or the end of the list"},
    {"{\"a\":[1}}", 1, 8, "want a comma or the end of the list"},
    {"{\"a\":{\"b\":1]}", 1, 12, "want a comma or the end of the list"},
    {"{\"a\":{\"b\":1,}}", 1, 13, "want a key in double quotes"},
    {"{\"a\":[,1]}", 1, 7, "no JSON value begins like this"},
    {"{} {}", 1, 4, "something follows the end"},
    {"{}x", 1, 3, "something follows the end"},
    {"{\n\"a\": 1,\n  \"b\": tru\n}", 3, 8, "an unknown word"},
    {"{\"a\":nul", 1, 6, "an unknown word"},
    {"{\"a\":True}", 1, 6, "no JSON value begins like this"},
    {"{\"a\":NaN}", 1, 6, "no JSON value begins like this"},
    {"{\"a\":+1}", 1, 6, "no JSON value begins like this"},
    {"{\"a\":.5}", 1, 6, "no JSON value begins like this"},
    {"{\"a\":01}", 1, 7, "want a comma or the end of the object"},
    {"{\"a\":1.}", 1, 8, "a number is not finished"},
    {"{\"a\":-}", 1, 7, "a number is not finished"},
    {"{\"a\":1e}", 1, 8, "a number is not finished"},
    {"{\"a\":1e+}", 1, 9, "a number is not finished"},
    {"{\"a\":0x10}", 1, 7, "want a comma or the end of the object"},
    {"{\"a\":/**/1}", 1, 6, "no JSON value begins like this"},
    {"{\"a\":\"", 1, 7, "a string does not end"},
    {"{\"a\":\"\\", 1, 8, "a string does not end"},
    {"{\"a\":\"\\x\"}", 1, 8, "an unknown escape in a string"},
    {"{\"a\":\"\\u12\"}", 1, 8, "a \\u escape wants four hexadecimal digits"},
    {"{\"a\":\"\\u12", 1, 8, "a \\u escape is cut off"},
    {"{\"a\":\"\\u12g4\"}", 1, 8, "a \\u escape wants four hexadecimal digits"},
    {"{\"a\":\"\\ud83c\"}", 1, 13, "a lone surrogate"},
    {"{\"a\":\"\\ud83cx\"}", 1, 13, "a lone surrogate"},
    {"{\"a\":\"\\ud83c\\n     \"}", 1, 13, "a lone surrogate"},
    {"{\"a\":\"\\ud83c\\u0041\"}", 1, 13, "a lone surrogate"},
    {"{\"a\":\"\\udf19\"}", 1, 13, "a lone surrogate"},
    {"{\"a\":\"a\tb\"}", 1, 8, "a control character in a string"},
    {"{\"a\":\"a\nb\"}", 1, 8, "a control character in a string"},
    {"{\"a\":\"12345678\x1f\"}", 1, 15, "a control character in a string"},
    {"{\"a\":\"\x80\"}", 1, 7, "bytes that are not UTF-8"},
    {"{\"a\":\"\xc0\xaf\"}", 1, 7, "bytes that are not UTF-8"},
    {"{\"a\":\"\xc3\"}", 1, 7, "bytes that are not UTF-8"},
    {"{\"a\":\"\xe0\x9f\xbf\"}", 1, 7, "bytes that are not UTF-8"},
    {"{\"a\":\"\xed\xa0\x80\"}", 1, 7, "bytes that are not UTF-8"},
    {"{\"a\":\"\xf0\x8f\xbf\xbf\"}", 1, 7, "bytes that are not UTF-8"},
    {"{\"a\":\"\xf4\x90\x80\x80\"}", 1, 7, "bytes that are not UTF-8"},
    {"{\"a\":\"\xf5\x80\x80\x80\"}", 1, 7, "bytes that are not UTF-8"},
    {"{\"a\":\"12345678\xff\"}", 1, 15, "bytes that are not UTF-8"},
    {"{\"a\":\"\xe2\x82", 1, 7, "bytes that are not UTF-8"},
    {"\xef\xbb\xbf{}", 1, 1, "want a JSON object"},
    {"{\"k\\u0065y\":1}", 1, 13, "a key with escapes in it"},
};

static void what_is_valid_is_taken_and_jansson_agrees(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(valid); i++) {
        size_t len = strlen(valid[i]);
        char *text = bare(valid[i], len);
        struct json_fault f = {0};
        if (json_scan(text, len, NULL, 0, &f) < 0)
            fail_msg("%s: %s at %zu", valid[i], f.what, f.offset);
        assert_int_equal(json_valid(text, len, NULL), 0);
        json_t *root = json_loadb(text, len, JSON_ALLOW_NUL, NULL);
        assert_non_null(root);
        json_decref(root);
        free(text);
    }
}

static void each_fault_has_a_place_and_a_sentence(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(invalid); i++) {
        size_t len = strlen(invalid[i].text);
        char *text = bare(invalid[i].text, len);
        struct json_fault f = {0};
        assert_int_equal(json_scan(text, len, NULL, 0, NULL), -1);
        assert_int_equal(json_scan(text, len, NULL, 0, &f), -1);
        if (strcmp(f.what, invalid[i].what) != 0 || f.line != invalid[i].line ||
            f.column != invalid[i].column)
            fail_msg("%s: `%s` at %zu:%zu, want `%s` at %zu:%zu", invalid[i].text,
                     f.what, f.line, f.column, invalid[i].what, invalid[i].line,
                     invalid[i].column);
        free(text);
    }
}

/* Every beginning of a valid text is broken, and says so at its end or before. */
static void a_part_of_a_text_is_never_valid(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(valid); i++) {
        size_t end = strlen(valid[i]);
        while (end > 0 && valid[i][end - 1] != '}')
            end--;
        for (size_t len = 0; len < end; len++) {
            char *text = bare(valid[i], len);
            struct json_fault f = {0};
            assert_int_equal(json_scan(text, len, NULL, 0, &f), -1);
            assert_true(f.offset <= len);
            free(text);
        }
    }
}

/* One byte wrong, anywhere in the eight that are looked at together. */
static void a_wrong_byte_is_found_at_any_place_of_a_word(void **state)
{
    (void)state;
    static const char wrong[] = {'\x01', '\x1f', '\n', '\0', '"', '\x80', '\xff'};
    for (size_t at = 0; at < 24; at++)
        for (size_t i = 0; i < COUNT(wrong); i++) {
            char text[] = "{\"a\":\"xxxxxxxxxxxxxxxxxxxxxxxx\"}";
            text[6 + at] = wrong[i];
            struct json_fault f = {0};
            assert_int_equal(json_scan(text, sizeof text - 1, NULL, 0, &f), -1);
            assert_int_equal(f.offset, 6 + at + (wrong[i] == '"'));
        }
}

static void nesting_has_a_ceiling(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++)
        for (int depth = JSONSCAN_DEPTH - 1; depth <= JSONSCAN_DEPTH + 1; depth++) {
            char text[8 * (JSONSCAN_DEPTH + 4)] = "{\"a\":", *to = text + strlen(text);
            for (int i = 0; i < depth; i++)
                to = stpcpy(to, kind ? "[" : "{\"b\":");
            to = stpcpy(to, "1");
            for (int i = 0; i < depth; i++)
                to = stpcpy(to, kind ? "]" : "}");
            stpcpy(to, "}");
            struct json_fault f = {0};
            int want = depth <= JSONSCAN_DEPTH ? 0 : -1;
            assert_int_equal(json_scan(text, strlen(text), NULL, 0, &f), want);
            if (want < 0)
                assert_string_equal(f.what, "nested too deep");
        }
}

static void wanted_members_are_found_with_their_bytes(void **state)
{
    (void)state;
    static const char text[] =
        "{ \"model\" : \"m\" , \"n\":0.70,\"deep\":{\"model\":\"no\"},\"list\" : [1, 2 "
        "] ,"
        "\"mode\":1,\"models\":2}\n";
    struct json_want want[] = {{.key = "list"},
                               {.key = "model"},
                               {.key = "absent"},
                               {.key = "n"},
                               {.key = ""}};
    assert_int_equal(json_scan(text, sizeof text - 1, want, COUNT(want), NULL), 0);
    assert_true(is(want[0].value, "[1, 2 ]"));
    assert_true(is(want[0].member, "\"list\" : [1, 2 ]"));
    assert_true(is(want[1].value, "\"m\""));
    assert_true(is(want[1].member, "\"model\" : \"m\""));
    assert_null(want[2].value.at);
    assert_null(want[2].member.at);
    assert_true(is(want[3].value, "0.70"));
    assert_null(want[4].value.at);
    assert_int_equal(json_scan("{}", 2, want, COUNT(want), NULL), 0);
    assert_null(want[0].value.at); /* nothing is left over from before */
}

static void a_wanted_key_that_comes_twice_is_a_fault(void **state)
{
    (void)state;
    static const char text[] = "{\"a\":1,\"b\":2,\"a\":3}";
    struct json_want a = {.key = "a"}, b = {.key = "b"};
    struct json_fault f = {0};
    assert_int_equal(json_scan(text, sizeof text - 1, &b, 1, &f), 0);
    assert_int_equal(json_scan(text, sizeof text - 1, &a, 1, &f), -1);
    assert_string_equal(f.what, "a key that comes twice");
}

static void an_object_is_walked_member_by_member(void **state)
{
    (void)state;
    static const char text[] =
        "{ \"a\" : 1 , \"b\":[1,{\"c\":2}],\"s\":\"}\",\"z\": { } }";
    static const struct {
        const char *key, *value;
    } wanted[] = {{"\"a\"", "1"},
                  {"\"b\"", "[1,{\"c\":2}]"},
                  {"\"s\"", "\"}\""},
                  {"\"z\"", "{ }"}};
    struct json_span key, value;
    size_t pos = 0, n = 0;
    while (json_next(span(text), &pos, &key, &value)) {
        assert_true(n < COUNT(wanted));
        assert_true(is(key, wanted[n].key));
        assert_true(is(value, wanted[n].value));
        n++;
    }
    assert_int_equal(n, COUNT(wanted));
    assert_int_equal(json_next(span(text), &pos, &key, &value), 0);

    static const char *const elements[] = {"1", "\"]\"", "[ ]", "null"};
    pos = n = 0;
    while (json_next(span("[1, \"]\" ,[ ],null]"), &pos, NULL, &value)) {
        assert_true(n < COUNT(elements));
        assert_true(is(value, elements[n++]));
    }
    assert_int_equal(n, COUNT(elements));

    static const char *const nothing[] = {"{}",     "[]", "[ ]", "{\n}",
                                          "\"ab\"", "12", "null"};
    for (size_t i = 0; i < COUNT(nothing); i++) {
        pos = 0;
        assert_int_equal(json_next(span(nothing[i]), &pos, &key, &value), 0);
    }
    pos = 0;
    assert_int_equal(json_next((struct json_span){0}, &pos, &key, &value), 0);
}

static void a_member_is_got_by_its_whole_name(void **state)
{
    (void)state;
    struct json_span s = span("{\"ab\":1,\"a\":{\"b\":null},\"abc\":3}");
    assert_true(is(json_get(s, "ab"), "1"));
    assert_true(is(json_get(s, "a"), "{\"b\":null}"));
    assert_true(is(json_get(json_get(s, "a"), "b"), "null"));
    assert_true(is(json_get(s, "abc"), "3"));
    assert_null(json_get(s, "b").at);
    assert_null(json_get(s, "").at);
    assert_null(json_get(span("[1]"), "a").at);
    assert_null(json_get((struct json_span){0}, "a").at);
}

static void a_span_knows_its_type(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        char type;
    } cases[] = {
        {"{}", '{'},   {"[]", '['}, {"\"x\"", '"'}, {"true", 't'}, {"false", 'f'},
        {"null", 'n'}, {"0", '0'},  {"9", '0'},     {"-5", '0'},
    };
    for (size_t i = 0; i < COUNT(cases); i++)
        assert_int_equal(json_type(span(cases[i].text)), cases[i].type);
    assert_int_equal(json_type((struct json_span){0}), 'n');
    assert_true(json_is(span("\"ab\""), "ab"));
    assert_true(json_is(span("\"\""), ""));
    assert_false(json_is(span("\"ab\""), "a"));
    assert_false(json_is(span("\"ab\""), "abc"));
    assert_false(json_is(span("12"), ""));
    assert_false(json_is((struct json_span){0}, ""));
}

static void texts_are_decoded(void **state)
{
    (void)state;
    static const struct {
        const char *json, *text;
        size_t len;
    } cases[] = {
        {"\"\"", "", 0},
        {"\"plain\"", "plain", 5},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8},
        {"\"\\u0041\\u00e4\\u20AC\\uD83C\\udf19\"", "Aä€🌙", 10},
        {"\"\\uFFFF\\u007f\\u0080\\u07ff\\u0800\"",
         "\xef\xbf\xbf\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80", 11},
        {"\"\\ud800\\udc00\\udbff\\udfff\"", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf", 8},
        {"\"a\\u0000b\"", "a\0b", 3},
        {"\"ä\"", "ä", 2},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t len, n = strlen(cases[i].json);
        char *json = bare(cases[i].json, n);
        assert_int_equal(json_valid(json, n, NULL), 0);
        char *text = json_text((struct json_span){json, n}, &len);
        assert_non_null(text);
        assert_int_equal(len, cases[i].len);
        assert_memory_equal(text, cases[i].text, len + 1);
        free(text);
        json_t *root = json_loadb(json, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_int_equal(json_string_length(root), cases[i].len);
        assert_memory_equal(json_string_value(root), cases[i].text, cases[i].len);
        json_decref(root);
        free(json);
    }
    assert_null(json_text(span("1"), NULL));
    assert_null(json_text((struct json_span){0}, NULL));
}

static void whole_numbers_are_read_and_others_are_not(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        int rc;
        long long n;
    } cases[] = {
        {"0", 0, 0},
        {"-0", 0, 0},
        {"-17", 0, -17},
        {"9223372036854775807", 0, LLONG_MAX},
        {"-9223372036854775808", 0, LLONG_MIN},
        {"9223372036854775808", -1, 0},
        {"-9223372036854775809", -1, 0},
        {"123456789012345678901234567890", -1, 0},
        {"1.0", -1, 0},
        {"1e3", -1, 0},
        {"\"1\"", -1, 0},
        {"null", -1, 0},
        {"true", -1, 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        long long n = 4711;
        assert_int_equal(json_int(span(cases[i].json), &n), cases[i].rc);
        assert_true(n == (cases[i].rc == 0 ? cases[i].n : 4711));
    }
    long long n;
    assert_int_equal(json_int((struct json_span){0}, &n), -1);
    assert_int_equal(json_int((struct json_span){"12345", 2}, &n), 0);
    assert_int_equal(n, 12);
}

static void any_one_value_is_valid(void **state)
{
    (void)state;
    static const char *const values[] = {"1", " \"x\" ", "null", "[]", "[[],{}]", "{}"};
    for (size_t i = 0; i < COUNT(values); i++)
        assert_int_equal(json_valid(values[i], strlen(values[i]), NULL), 0);
    static const char *const broken[] = {"", " ", "1 2", "[", "]", "[]]", "nulll"};
    for (size_t i = 0; i < COUNT(broken); i++)
        assert_int_equal(json_valid(broken[i], strlen(broken[i]), NULL), -1);
}

static void what_is_not_plain_is_seen_wherever_it_stands(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        int rc;
    } cases[] = {{"\x1f", -1}, {"\x01", -1},    {"\x80", -1},     {"\xff", -1},
                 {"\\q", -1},  {"\"x", -1},     {"\\n", 0},       {"\x20", 0},
                 {"\x7f", 0},  {"\xc3\xa9", 0}, {"\xc3\x28", -1}, {"~", 0}};
    char text[400];
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++)
        for (size_t at = 0; at < 200; at++) {
            size_t n = strlen(cases[k].bytes);
            memset(text, 'a', sizeof text);
            text[0] = '"';
            memcpy(text + 1 + at, cases[k].bytes, n);
            text[1 + at + n + 70] = '"';
            int rc = json_valid(text, 1 + at + n + 71, NULL);
            if (rc != cases[k].rc)
                fail_msg("case %zu at %zu: %d", k, at, rc);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_not_plain_is_seen_wherever_it_stands),
        cmocka_unit_test(what_is_valid_is_taken_and_jansson_agrees),
        cmocka_unit_test(each_fault_has_a_place_and_a_sentence),
        cmocka_unit_test(a_part_of_a_text_is_never_valid),
        cmocka_unit_test(a_wrong_byte_is_found_at_any_place_of_a_word),
        cmocka_unit_test(nesting_has_a_ceiling),
        cmocka_unit_test(wanted_members_are_found_with_their_bytes),
        cmocka_unit_test(a_wanted_key_that_comes_twice_is_a_fault),
        cmocka_unit_test(an_object_is_walked_member_by_member),
        cmocka_unit_test(a_member_is_got_by_its_whole_name),
        cmocka_unit_test(a_span_knows_its_type),
        cmocka_unit_test(texts_are_decoded),
        cmocka_unit_test(whole_numbers_are_read_and_others_are_not),
        cmocka_unit_test(any_one_value_is_valid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
