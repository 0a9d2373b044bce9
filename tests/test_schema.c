#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runner/err.h"
#include "runner/schema.h"

static struct schema *made(const char *text, struct err *e)
{
    json_error_t fault;
    json_t *json = json_loads(text, JSON_DECODE_ANY, &fault);
    if (json == NULL)
        fail_msg("%s: %s", text, fault.text);
    struct schema *s = schema_new(json, e);
    json_decref(json);
    return s;
}

/* For each keyword what passes and what does not, and in which words. */
static void each_keyword_lets_pass_what_it_should(void **state)
{
    static const struct {
        const char *schema, *value, *why; /* NULL: valid */
    } cases[] = {
        {"true", "1", NULL},
        {"false", "1", "$: nothing is allowed here"},
        {"{\"type\":\"integer\"}", "3", NULL},
        {"{\"type\":\"integer\"}", "3.0", NULL},
        {"{\"type\":\"integer\"}", "3.5", "number where integer"},
        {"{\"type\":\"number\"}", "3", NULL},
        {"{\"type\":[\"string\",\"null\"]}", "null", NULL},
        {"{\"type\":[\"string\",\"null\"]}", "1", "none of the types"},
        {"{\"enum\":[\"a\",1]}", "1.0", NULL},
        {"{\"enum\":[\"a\",1]}", "\"b\"", "\"b\" is none of the 2 values"},
        {"{\"const\":{\"a\":[1]}}", "{\"a\":[1]}", NULL},
        {"{\"const\":1}", "2", "not the one value"},
        {"{\"required\":[\"a\"]}", "{\"b\":1}", "a is missing"},
        {"{\"required\":[\"a\"]}", "7", NULL},
        {"{\"properties\":{\"a\":{\"type\":\"string\"}}}", "{\"a\":1}",
         "$.a: integer where string"},
        {"{\"properties\":{\"a\":{}},\"additionalProperties\":false}", "{\"b\":1}",
         "$.b: no member of this name"},
        {"{\"additionalProperties\":{\"type\":\"null\"}}", "{\"b\":1}", "$.b"},
        {"{\"minProperties\":1}", "{}", "0 members"},
        {"{\"maxProperties\":0}", "{\"a\":1}", "1 members"},
        {"{\"items\":{\"type\":\"string\"}}", "[\"a\",1]",
         "$[1]: integer where string"},
        {"{\"minItems\":2}", "[1]", "1 items, at least 2"},
        {"{\"maxItems\":1}", "[1,2]", "2 items, at most 1"},
        {"{\"uniqueItems\":true}", "[1,2,1.0]", "items 0 and 2 are the same"},
        {"{\"uniqueItems\":false}", "[1,1]", NULL},
        {"{\"minLength\":2}", "\"\xc3\xa9\"", "1 characters, at least 2"},
        {"{\"maxLength\":1}", "\"ab\"", "2 characters, at most 1"},
        {"{\"pattern\":\"^a+$\"}", "\"aa\"", NULL},
        {"{\"pattern\":\"^a+$\"}", "\"ab\"", "does not match"},
        {"{\"minimum\":1}", "0.5", "0.5 is below 1"},
        {"{\"maximum\":1}", "2", "2 is above 1"},
        {"{\"exclusiveMinimum\":1}", "1", "not above"},
        {"{\"exclusiveMaximum\":1}", "1", "not below"},
        {"{\"multipleOf\":0.1}", "0.3", NULL},
        {"{\"multipleOf\":3}", "10", "no multiple"},
        {"{\"anyOf\":[{\"type\":\"null\"},{\"minimum\":5}]}", "7", NULL},
        {"{\"anyOf\":[{\"type\":\"null\"},{\"minimum\":5}]}", "3",
         "none of the 2 kinds"},
        {"{\"allOf\":[{\"minimum\":1},{\"maximum\":3}]}", "4", "4 is above 3"},
        {"{\"oneOf\":[{\"minimum\":1},{\"maximum\":3}]}", "2", "more than one"},
        {"{\"oneOf\":[{\"minimum\":1},{\"maximum\":3}]}", "9", NULL},
        {"{\"not\":{\"type\":\"null\"}}", "null", "must not be"},
        {"{\"not\":{\"type\":\"null\"}}", "1", NULL},
        {"{\"$defs\":{\"n\":{\"type\":\"null\"}},\"$ref\":\"#/$defs/n\"}", "1",
         "integer where null"},
        {"{\"properties\":{\"next\":{\"$ref\":\"#\"}},\"required\":[\"v\"]}",
         "{\"v\":1,\"next\":{\"v\":2,\"next\":{}}}", "$.next.next: v is missing"},
        {"{\"$ref\":\"#\"}", "1", "nested deeper"},
        {"{\"title\":\"t\",\"description\":\"d\",\"format\":\"date\",\"$schema\":"
         "\"x\"}",
         "\"no date\"", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err e = {0};
        char why[300] = "";
        json_t *value = json_loads(cases[i].value, JSON_DECODE_ANY, NULL);
        struct schema *s = made(cases[i].schema, &e);
        if (s == NULL)
            fail_msg("%s: %s", cases[i].schema, e.text);
        int rc = schema_check(s, value, why, sizeof why);
        if (cases[i].why ? rc == 0 || strstr(why, cases[i].why) == NULL : rc != 0)
            fail_msg("%s on %s: %d \"%s\"", cases[i].schema, cases[i].value, rc, why);
        schema_free(s);
        json_decref(value);
    }
}

static void a_schema_that_says_what_is_not_known_is_an_error(void **state)
{
    static const struct {
        const char *schema, *says;
    } cases[] = {
        {"{\"dependentSchemas\":{}}", "keyword dependentSchemas is not known"},
        {"{\"properties\":{\"a\":{\"iff\":1}}}", "properties: a: keyword iff"},
        {"{\"type\":\"text\"}", "type: want null"},
        {"{\"type\":[]}", "type"},
        {"{\"enum\":3}", "enum: want a list"},
        {"{\"required\":[1]}", "required: want a list of names"},
        {"{\"minLength\":-1}", "minLength: want a whole number"},
        {"{\"multipleOf\":0}", "multipleOf: want a number above 0"},
        {"{\"pattern\":\"(\"}", "at byte 1"},
        {"{\"anyOf\":[]}", "anyOf: want a list of schemas"},
        {"{\"items\":3}", "items: want a schema"},
        {"{\"$ref\":\"#/$defs/none\"}", "$ref"},
        {"{\"$ref\":\"http://example.org/s\"}", "$ref"},
        {"3", "want a schema"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err e = {0};
        if (made(cases[i].schema, &e))
            fail_msg("%s: taken", cases[i].schema);
        if (strstr(e.text, cases[i].says) == NULL)
            fail_msg("%s: \"%s\"", cases[i].schema, e.text);
    }
}

/* 2^40 ways to look at one value: told, not waited for. */
static void work_without_end_is_bounded(void **state)
{
    char text[8192] = "{\"$defs\":{\"d0\":{\"type\":\"null\"}";
    struct err e = {0};
    char why[300];
    (void)state;
    for (int i = 1; i <= 40; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text),
                 ",\"d%d\":{\"anyOf\":[{\"$ref\":\"#/$defs/d%d\"},{\"$ref\":\"#/$defs/"
                 "d%d\"}]}",
                 i, i - 1, i - 1);
    strcat(text, "},\"$ref\":\"#/$defs/d30\"}");
    struct schema *s = made(text, &e);
    assert_non_null(s);
    json_t *one = json_integer(1);
    assert_int_equal(schema_check(s, one, why, sizeof why), -1);
    json_decref(one);
    schema_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_keyword_lets_pass_what_it_should),
        cmocka_unit_test(a_schema_that_says_what_is_not_known_is_an_error),
        cmocka_unit_test(work_without_end_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
