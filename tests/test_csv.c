#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runner/csv.h"
#include "runner/err.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])

/* All records as one line: "LINE:field|field;", a NUL shown as 0. Memory of the exact size,
 * so that a byte too far is seen. The caller frees. */
static char *read_all(const char *text, size_t len, struct err *e)
{
    char *bytes = malloc(len + 1), *said = NULL;
    size_t size;
    FILE *out = open_memstream(&said, &size);
    struct csv c;
    int rc;
    memcpy(bytes, text, len);
    bytes[len] = '!';
    csv_init(&c, "t.csv", bytes, len);
    while ((rc = csv_next(&c, e)) > 0) {
        fprintf(out, "%d:", (int)c.record_line);
        for (int i = 0; i < c.fields; i++) {
            assert_int_equal(c.field[i].at[c.field[i].len], '\0');
            for (size_t k = 0; k < c.field[i].len; k++)
                fputc(c.field[i].at[k] ? c.field[i].at[k] : '0', out);
            fputc(i + 1 < c.fields ? '|' : ';', out);
        }
    }
    assert_int_equal(rc < 0, e->code != ERR_NONE);
    fclose(out);
    free(bytes);
    return said;
}

#define TEXT(s) s, sizeof(s) - 1

static void records_are_read_as_they_were_meant(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        const char *says;
    } cases[] = {
        {TEXT(""), ""},
        {TEXT("a"), "1:a;"},
        {TEXT("a,b\nc,d\n"), "1:a|b;2:c|d;"},
        {TEXT("a,b\r\nc,d\r\n"), "1:a|b;2:c|d;"},
        {TEXT("a,b\nc,d"), "1:a|b;2:c|d;"},
        {TEXT("\xef\xbb\xbf"
              "a,b\n"),
         "1:a|b;"},
        {TEXT(",\n"), "1:|;"},
        {TEXT("a,"), "1:a|;"},
        {TEXT("a,,b"), "1:a||b;"},
        {TEXT("\n\r\n\na\n\n\nb\n"), "4:a;7:b;"},
        /* quotes */
        {TEXT("\"a,b\",c\n"), "1:a,b|c;"},
        {TEXT("\"say \"\"no\"\"\",x"), "1:say \"no\"|x;"},
        {TEXT("\"\",\"\"\"\"\n"), "1:|\";"},
        {TEXT("\"a\""), "1:a;"},
        {TEXT("\"a\"\r\n\"b\"\r\n"), "1:a;2:b;"},
        {TEXT("\"one\ntwo\r\nthree\",x\ny\n"), "1:one\ntwo\r\nthree|x;4:y;"},
        /* a CR of its own is a byte like others */
        {TEXT("a\rb,c\n"), "1:a\rb|c;"},
        {TEXT("a\r"), "1:a\r;"},
        {TEXT("a\0b,\"c\0d\"\n"), "1:a0b|c0d;"},
        {TEXT("\xff\xfe,\xc3\n"), "1:\xff\xfe|\xc3;"},
        {TEXT(" a , b \n"), "1: a | b ;"},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct err e = {0};
        char *said = read_all(cases[i].text, cases[i].len, &e);
        assert_string_equal(e.text, "");
        assert_string_equal(said, cases[i].says);
        free(said);
    }
}

/* What stood before the bad line was read. */
static void bad_files_say_which_line_is_wrong(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t len;
        const char *read, *says;
    } cases[] = {
        {TEXT("a,b\nc,\"d"), "1:a|b;",
         "t.csv:2: a quoted field that begins here does not end"},
        {TEXT("\"a\nb\n\n"), "",
         "t.csv:1: a quoted field that begins here does not end"},
        {TEXT("\"a\"\"\n"), "",
         "t.csv:1: a quoted field that begins here does not end"},
        {TEXT("\""), "", "t.csv:1: a quoted field that begins here does not end"},
        {TEXT("x\n\"a\nb\"c,d\n"), "1:x;",
         "t.csv:3: text behind the quote that ends a field"},
        {TEXT("\"a\" ,b"), "", "t.csv:1: text behind the quote that ends a field"},
        {TEXT("\"a\"\r"), "", "t.csv:1: text behind the quote that ends a field"},
        {TEXT("x\r\n\r\nab\"c,d\n"), "1:x;",
         "t.csv:3: a quote in a field that does not begin with one"},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct err e = {0};
        char *said = read_all(cases[i].text, cases[i].len, &e);
        assert_int_equal(e.code, ERR_INPUT);
        assert_string_equal(e.text, cases[i].says);
        assert_string_equal(said, cases[i].read);
        free(said);
    }
}

static void a_record_may_have_so_many_fields_and_no_more(void **state)
{
    (void)state;
    for (int more = 0; more < 2; more++) {
        char text[CSV_FIELDS_MAX + 2] = "";
        struct csv c;
        struct err e = {0};
        size_t len = (size_t)(CSV_FIELDS_MAX - 1 + more);
        memset(text, ',', len);
        csv_init(&c, "t.csv", text, len);
        assert_int_equal(csv_next(&c, &e), more ? -1 : 1);
        assert_string_equal(e.text,
                            more ? "t.csv:1: more fields than a record may have" : "");
    }
}

static void a_field_has_a_ceiling(void **state)
{
    (void)state;
    size_t len = CSV_FIELD_MAX + 1;
    char *text = malloc(len + 1);
    for (size_t n = len - 1; n <= len; n++) {
        struct csv c;
        struct err e = {0};
        memset(text, 'x', len);
        csv_init(&c, "t.csv", text, n);
        assert_int_equal(csv_next(&c, &e), n == len ? -1 : 1);
        assert_string_equal(e.text,
                            n == len ? "t.csv:1: a field of more than 16 MiB" : "");
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_are_read_as_they_were_meant),
        cmocka_unit_test(bad_files_say_which_line_is_wrong),
        cmocka_unit_test(a_record_may_have_so_many_fields_and_no_more),
        cmocka_unit_test(a_field_has_a_ceiling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
