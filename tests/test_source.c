/*
 * Job formats. What files say is told in cases/source/NAME/{input.EXT,want}: adding a
 * case is adding a folder. The tables here hold what is a matter of one line.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "jobs/job.h"
#include "jobs/source.h"
#include "runner/err.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])

/* The n-th allocation from now fails; below zero none does. */
static int fail_at = -1;

static int its_turn(void)
{
    return fail_at >= 0 && fail_at-- == 0;
}

void *__real_malloc(size_t n);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
void *__wrap_malloc(size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);

void *__wrap_malloc(size_t n)
{
    return its_turn() ? NULL : __real_malloc(n);
}

char *__wrap_strdup(const char *s)
{
    return its_turn() ? NULL : __real_strdup(s);
}

char *__wrap_strndup(const char *s, size_t n)
{
    return its_turn() ? NULL : __real_strndup(s, n);
}

/* Parse from memory of exactly that size, so that a byte too far is seen. */
static int parse(source_parse_fn *fn, const char *text, size_t len, size_t line,
                 struct job_spec *s, struct err *e)
{
    char *exact = malloc(len + 1);
    memcpy(exact + 1, text, len);
    *s = (struct job_spec){0};
    *e = (struct err){0};
    int rc = fn(exact + 1, len, line, s, e);
    free(exact);
    return rc;
}

static void print_word(FILE *f, const char *key, const char *value)
{
    if (value)
        fprintf(f, "%s: %s\n", key, value);
}

static void print_spec(FILE *f, const struct job_spec *s)
{
    static const char *const asks[] = {"max_tokens", "stream",        "thinking",
                                       "tools",      "output_config", "effort",
                                       "cache",      "server_side"};
    print_word(f, "custom_id", s->custom_id);
    print_word(f, "model", s->model);
    print_word(f, "tier", s->tier);
    print_word(f, "effort", s->effort);
    print_word(f, "system_file", s->system_file);
    print_word(f, "tags", s->tags);
    if (s->priority)
        fprintf(f, "priority: %lld\n", (long long)s->priority);
    if (s->max_tokens)
        fprintf(f, "max_tokens: %lld\n", (long long)s->max_tokens);
    if (s->asks)
        fprintf(f, "asks:");
    for (size_t i = 0; i < CASES(asks); i++)
        if (s->asks & 1u << i)
            fprintf(f, " %s", asks[i]);
    if (s->asks)
        fprintf(f, "\n");
    if (s->body) {
        assert_int_equal(strlen(s->body), s->body_len);
        fprintf(f, "body: %s\n", s->body);
    }
}

static char *read_whole(const char *path, size_t *len)
{
    FILE *f = fopen(path, "rb");
    char *text = malloc(1 << 20);
    if (f == NULL)
        fail_msg("%s cannot be read", path);
    *len = fread(text, 1, (1 << 20) - 1, f);
    text[*len] = '\0';
    fclose(f);
    return text;
}

static int is_input(const struct dirent *d)
{
    return strncmp(d->d_name, "input.", 6) == 0;
}

static int is_case(const struct dirent *d)
{
    return d->d_name[0] != '.';
}

static void one_case(const char *name)
{
    char path[512], *says = NULL;
    struct dirent **input;
    size_t len, want_len, says_len;

    snprintf(path, sizeof path, CASES_DIR "/source/%s", name);
    if (scandir(path, &input, is_input, alphasort) != 1)
        fail_msg("%s: want one file input.*", path);
    const struct source_format *format = source_format_of(input[0]->d_name);
    assert_non_null(format);
    snprintf(path, sizeof path, CASES_DIR "/source/%s/%.20s", name, input[0]->d_name);
    char *text = read_whole(path, &len);
    snprintf(path, sizeof path, CASES_DIR "/source/%s/want", name);
    char *want = read_whole(path, &want_len);
    if (format->bulk && len > 0)
        len--; /* its newline */

    struct job_spec s;
    struct err e;
    FILE *f = open_memstream(&says, &says_len);
    if (parse(format->parse, text, len, 1, &s, &e) < 0) {
        assert_int_equal(e.code, ERR_INPUT);
        assert_null(s.body);
        fprintf(f, "error: %s\n", e.text);
    }
    print_spec(f, &s);
    fclose(f);
    if (strcmp(says, want) != 0)
        fail_msg("%s:\n--- says\n%s--- want\n%s", name, says, want);

    job_spec_free(&s);
    free(says);
    free(text);
    free(want);
    free(input[0]);
    free(input);
}

static void each_case_reads_as_its_folder_says(void **state)
{
    (void)state;
    struct dirent **names;
    int n = scandir(CASES_DIR "/source", &names, is_case, alphasort);
    assert_true(n > 20);
    for (int i = 0; i < n; i++) {
        one_case(names[i]->d_name);
        free(names[i]);
    }
    free(names);
}

static void a_format_is_known_by_the_end_of_a_name(void **state)
{
    (void)state;
    static const struct {
        const char *name, *extension;
    } cases[] = {
        {"a.md", ".md"},       {"a.b.txt", ".txt"},   {"x.json", ".json"},
        {"x.jsonl", ".jsonl"}, {".hidden.md", ".md"}, {"a.MD", NULL},
        {"md", NULL},          {".md", NULL},         {"a.md~", NULL},
        {"a.json.bak", NULL},  {"amd", NULL},         {"", NULL},
        {"a.ndjson", NULL},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        const struct source_format *f = source_format_of(cases[i].name);
        if (cases[i].extension == NULL)
            assert_null(f);
        else
            assert_string_equal(f->extension, cases[i].extension);
        assert_true(f == NULL || f->bulk == (strcmp(f->extension, ".jsonl") == 0));
    }
}

#define BODY "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]"

static void a_bad_line_says_what_is_wanted(void **state)
{
    (void)state;
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"", "17: not JSON at column 1: want a JSON object; want one object"},
        {"[]", "17: not JSON at column 1: want a JSON object; want one object"},
        {"{" BODY "} x",
         "17: not JSON at column 47: something follows the end; want one object"},
        {"{}", "17: neither messages nor params; want a Messages body or "
               "{\"custom_id\": ..., "
               "\"params\": {...}}"},
        {"{\"messages\":[]}",
         "17: messages = []: want an array with at least one message"},
        {"{\"messages\":[ \t]}",
         "17: messages = [  ]: want an array with at least one message"},
        {"{\"messages\":{}}",
         "17: messages = {}: want an array with at least one message"},
        {"{" BODY ",\"max_tokens\":\"many\"}",
         "17: max_tokens = \"many\": want a whole number above 0"},
        {"{" BODY ",\"max_tokens\":0}",
         "17: max_tokens = 0: want a whole number above 0"},
        {"{" BODY ",\"max_tokens\":-1}",
         "17: max_tokens = -1: want a whole number above 0"},
        {"{" BODY ",\"max_tokens\":1.5}",
         "17: max_tokens = 1.5: want a whole number above 0"},
        {"{" BODY ",\"max_tokens\":1e3}",
         "17: max_tokens = 1e3: want a whole number above 0"},
        {"{" BODY ",\"max_tokens\":99999999999999999999}",
         "17: max_tokens = 99999999999999999999: want a whole number above 0"},
        {"{" BODY ",\"max_tokens\":null}",
         "17: max_tokens = null: want a whole number above 0"},
        {"{" BODY ",\"stream\":1}", "17: stream = 1: want true or false"},
        {"{" BODY ",\"model\":7}",
         "17: model = 7: want a model's name, a tier's name, or \"auto\""},
        {"{" BODY ",\"model\":\"\"}",
         "17: model = \"\": want a model's name, a tier's name, or \"auto\""},
        {"{" BODY ",\"model\":\"a\\u0000b\"}",
         "17: model = \"a\\u0000b\": want a model's name, a tier's name, or \"auto\""},
        {"{" BODY ",\"model\":\"a\",\"model\":\"b\"}",
         "17: not JSON at column 66: a key that comes twice; want one object"},
        {"{" BODY ",\"custom_id\":\"a\"}",
         "17: custom_id beside messages; want {\"custom_id\": ..., \"params\": "
         "{\"messages\": ...}}"},
        {"{\"params\":[]}", "17: params = []: want an object"},
        {"{\"params\":{}}", "17: no messages; want an array of them"},
        {"{\"params\":{" BODY ",\"stream\":true,\"stream\":true}}",
         "17: a key that comes twice in params"},
        {"{\"params\":{" BODY "},\"model\":\"cheap\"}",
         "17: unknown key \"model\" beside params; want custom_id, params or "
         "nightmill"},
        {"{\"params\":{" BODY "}," BODY "}",
         "17: unknown key \"messages\" beside params; want custom_id, params or "
         "nightmill"},
        {"{\"custom_id\":\"\",\"params\":{" BODY "}}",
         "17: custom_id = \"\": want 1 to 200 bytes of text without control "
         "characters"},
        {"{\"custom_id\":3,\"params\":{" BODY "}}",
         "17: custom_id = 3: want 1 to 200 bytes of text without control characters"},
        {"{\"custom_id\":\"a\\nb\",\"params\":{" BODY "}}",
         "17: custom_id = \"a\\nb\": want 1 to 200 bytes of text without control "
         "characters"},
        {"{\"custom_id\":\"\xc2\x9b\",\"params\":{" BODY "}}",
         "17: custom_id = \"\xc2\xbf\": want 1 to 200 bytes of text without control "
         "characters"},
        {"{\"params\":{" BODY ",\"nightmill\":{}},\"nightmill\":{}}",
         "17: nightmill beside params and in it; want one"},
        {"{" BODY ",\"nightmill\":\"cheap\"}",
         "17: nightmill = \"cheap\": want an object"},
        {"{" BODY ",\"nightmill\":{\"teir\":\"cheap\"}}",
         "17: unknown key \"teir\" in nightmill; want tier, priority, tags, "
         "max_cost, cache, check or route"},
        {"{" BODY ",\"nightmill\":{\"tier\":\"a b\"}}",
         "17: nightmill.tier = \"a b\": want a tier's name, such as \"cheap\""},
        {"{" BODY ",\"nightmill\":{\"tier\":\"a\",\"tier\":\"a\"}}",
         "17: a key that comes twice in nightmill"},
        {"{" BODY ",\"nightmill\":{\"priority\":\"5\"}}",
         "17: nightmill.priority = \"5\": want a whole number from -1000000 to "
         "1000000"},
        {"{" BODY ",\"nightmill\":{\"priority\":1000001}}",
         "17: nightmill.priority = 1000001: want a whole number from -1000000 to "
         "1000000"},
        {"{" BODY ",\"nightmill\":{\"tags\":[\"a\",1]}}",
         "17: nightmill.tags = [\"a\",1]: want up to 32 words"},
        {"{" BODY ",\"nightmill\":{\"tags\":[\"a,b\"]}}",
         "17: nightmill.tags = [\"a,b\"]: want up to 32 words"},
        {"{" BODY ",\"nightmill\":{\"tags\":\"a,,b\"}}",
         "17: nightmill.tags = \"a,,b\": want up to 32 words"},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct job_spec s;
        struct err e;
        int rc = parse(source_json_parse, cases[i].line, strlen(cases[i].line), 17, &s,
                       &e);
        assert_string_equal(e.text, cases[i].says);
        assert_int_equal(rc, -1);
        assert_int_equal(e.code, ERR_INPUT);
        job_spec_free(&s);
    }
}

static void a_bad_front_matter_says_what_is_wanted(void **state)
{
    (void)state;
    static const char number[] = "want a whole number from 1 to 10000000";
    static const struct {
        const char *front, *says, *more;
    } cases[] = {
        {"tier:", "2: tier = : want a tier's name, such as cheap", ""},
        {"tier: \"\"", "2: tier = : want a tier's name, such as cheap", ""},
        {"tier: very deep", "2: tier = very deep: want a tier's name, such as cheap",
         ""},
        {"tier = deep", "2: tier = deep: want a line such as \"tier: cheap\"", ""},
        {"tier: a\n\n# note\ntier: b", "5: tier comes twice; want it once", ""},
        {"model: [a]", "2: model = [a]: want a model's name, a tier's name, or auto",
         ""},
        {"effort: so so", "2: effort = so so: want a word, such as high", ""},
        {"max_tokens: 0", "2: max_tokens = 0: ", number},
        {"max_tokens: 10000001", "2: max_tokens = 10000001: ", number},
        {"max_tokens: 1e3", "2: max_tokens = 1e3: ", number},
        {"max_tokens: 99999999999999999999",
         "2: max_tokens = 99999999999999999999: ", number},
        {"priority: -1000001",
         "2: priority = -1000001: want a whole number from -1000000 to 1000000", ""},
        {"tags: a,,b", "2: tags = a,,b: want up to 32 words, joined by commas", ""},
        {"tags: [a, b]", "2: tags = [a, b]: want up to 32 words, joined by commas", ""},
        {"system: a\nsystem_file: b",
         "1: both system and system_file; want one of them", ""},
        {"Tier: deep",
         "2: unknown key Tier; want tier, model, effort, max_tokens, system, "
         "system_file, "
         "priority, tags, max_cost, cache, check or route",
         ""},
        {"tier: deep\nhello", "3: hello: want a line such as \"tier: cheap\"", ""},
        {"tier: deep\n  and deeper",
         "3:   and deeper: want a line such as \"tier: cheap\"", ""},
        {"tier: a\x1b[31m", "2: tier = a [31m: want a tier's name, such as cheap", ""},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        char text[256], says[256];
        struct job_spec s;
        struct err e;
        snprintf(text, sizeof text, "---\n%s\n---\nhello\n", cases[i].front);
        snprintf(says, sizeof says, "%s%s", cases[i].says, cases[i].more);
        int rc = parse(source_text_parse, text, strlen(text), 1, &s, &e);
        assert_string_equal(e.text, says);
        assert_int_equal(rc, -1);
        assert_int_equal(e.code, ERR_INPUT);
        job_spec_free(&s);
    }
}

static void lines_are_counted_from_where_the_text_begins(void **state)
{
    (void)state;
    static const struct {
        source_parse_fn *fn;
        const char *text, *says;
    } cases[] = {
        {source_text_parse, "one\ntwo\nthr\xff",
         "102: bytes that are no text; want UTF-8"},
        {source_text_parse, "---\n\ntier: a\n\nteir: b\n---\nx",
         "104: unknown key teir; "},
        {source_text_parse, "---\ntier: a\n---\n\n\n", "105: nothing is asked; "},
        {source_text_parse, " \n\t\n", "100: nothing is asked; "},
        {source_json_parse, "{\n\"messages\":[1],\n\"max_tokens\":\n0}",
         "103: max_tokens = 0"},
        {source_json_parse, "{\n\"messages\":[1],\n\"max_tokens\":\nno}",
         "103: not JSON at column 1: "},
        {source_json_parse, "{\"params\":\n{\"messages\":[1]},\n\"extra\":1}",
         "102: unknown key \"extra\""},
        {source_json_parse, "{\"messages\":[1],\n\"nightmill\":{\n\"tags\":7}}",
         "102: nightmill.tags = 7"},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct job_spec s;
        struct err e;
        assert_int_equal(
            parse(cases[i].fn, cases[i].text, strlen(cases[i].text), 100, &s, &e), -1);
        if (strncmp(e.text, cases[i].says, strlen(cases[i].says)) != 0)
            fail_msg("says %s, want %s", e.text, cases[i].says);
    }
}

static void a_failed_line_keeps_its_name_and_nothing_else(void **state)
{
    (void)state;
    static const struct {
        const char *line, *name;
    } cases[] = {
        {"{\"custom_id\":\"a/../b\",\"params\":{\"messages\":[]}}", "a/../b"},
        {"{\"params\":{\"model\":\"m\",\"messages\":[1],\"stream\":0},\"custom_id\":"
         "\"x\"}",
         "x"},
        {"{\"custom_id\":\"half\",\"params\":{\"messages\":[", "half"},
        {"{\"custom_id\":\"a\",\"custom_id\":\"b\",\"params\":{}}", "a"},
        {"{\"custom_id\":\"a\",\"messages\":[1]}", "a"},
        {"{\"params\":{\"messages\":[]}}", NULL},
        {"{\"custom_id\":\"\\u001b[2J\",\"params\":{\"messages\":[]}}", NULL},
        {"{\"custom_id\":\"cut", NULL},
    };
    for (size_t i = 0; i < CASES(cases); i++) {
        struct job_spec s, only = {0};
        struct err e;
        assert_int_equal(
            parse(source_json_parse, cases[i].line, strlen(cases[i].line), 1, &s, &e),
            -1);
        if (cases[i].name == NULL)
            assert_null(s.custom_id);
        else
            assert_string_equal(s.custom_id, cases[i].name);
        only.custom_id = s.custom_id;
        assert_memory_equal(&s, &only, sizeof s);
        job_spec_free(&s);
    }
}

static void names_have_a_ceiling(void **state)
{
    (void)state;
    for (size_t n = SOURCE_NAME_MAX; n <= SOURCE_NAME_MAX + 1; n++) {
        char name[SOURCE_NAME_MAX + 2] = "", text[1024];
        struct job_spec s;
        struct err e;
        int want = n > SOURCE_NAME_MAX ? -1 : 0;
        memset(name, 'n', n);

        snprintf(text, sizeof text, "{\"custom_id\":\"%s\",\"params\":{" BODY "}}",
                 name);
        assert_int_equal(parse(source_json_parse, text, strlen(text), 1, &s, &e), want);
        job_spec_free(&s);
        snprintf(text, sizeof text, "{" BODY ",\"model\":\"%s\"}", name);
        assert_int_equal(parse(source_json_parse, text, strlen(text), 1, &s, &e), want);
        job_spec_free(&s);
        snprintf(text, sizeof text, "---\ntags: a, %s\n---\nhi", name);
        assert_int_equal(parse(source_text_parse, text, strlen(text), 1, &s, &e), want);
        job_spec_free(&s);
    }
}

static void tags_have_a_ceiling(void **state)
{
    (void)state;
    for (int n = SOURCE_TAGS_MAX; n <= SOURCE_TAGS_MAX + 1; n++) {
        char text[512];
        size_t len = 0;
        for (int i = 0; i < n; i++)
            len += (size_t)snprintf(text + len, sizeof text - len, "%st%d",
                                    i ? "," : "", i);
        char *tags = NULL;
        assert_int_equal(source_tags(&tags, text, NULL), n > SOURCE_TAGS_MAX ? -1 : 0);
        free(tags);
    }
}

static void a_text_beyond_all_measure_is_not_even_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < source_formats_len; i++) {
        struct job_spec s = {0};
        struct err e = {0};
        assert_int_equal(
            source_formats[i].parse("{\"a", (size_t)SOURCE_LINE_MAX + 1, 5, &s, &e),
            -1);
        assert_non_null(strstr(e.text, "of 33554433 bytes; want at most 33554432"));
    }
}

static void front_matter_has_a_ceiling(void **state)
{
    (void)state;
    size_t len = SOURCE_FRONT_MAX + 100;
    char *text = malloc(len);
    struct job_spec s;
    struct err e;
    memset(text, 'x', len);
    memcpy(text, "---\nsystem: ", 12);
    memcpy(text + len - 7, "\n---\nhi", 7);
    assert_int_equal(parse(source_text_parse, text, len, 1, &s, &e), -1);
    assert_string_equal(
        e.text, "1: the front matter does not end; want a line --- within 64 KiB");

    /* A long line below it is whole. */
    memcpy(text + 60000, "\n---\nhi", 7);
    assert_int_equal(parse(source_text_parse, text, 60007, 1, &s, &e), 0);
    assert_true(s.body_len > 60000 - 12);
    job_spec_free(&s);
    free(text);
}

static void what_is_shown_fits_and_is_safe_for_a_terminal(void **state)
{
    (void)state;
    char buf[SOURCE_SHOWN], text[100];
    assert_string_equal(source_shown(buf, "a\x1b[2J\n\x7f", 7), "a [2J  ");
    for (size_t shift = 0; shift < 4; shift++) {
        memset(text, 'a', sizeof text);
        for (size_t i = shift; i + 4 <= sizeof text; i += 4)
            memcpy(text + i, "\xf0\x9f\x90\xa6", 4);
        source_shown(buf, text, sizeof text);
        assert_true(strlen(buf) < SOURCE_SHOWN && strlen(buf) > SOURCE_SHOWN - 8);
        assert_int_equal(job_text_fault(buf, strlen(buf)), 0);
        assert_string_equal(buf + strlen(buf) - 3, "...");
    }
}

/* Random bodies: what is sent is what came. */

static uint32_t dice = 1;

static unsigned roll(unsigned n)
{
    dice = dice * 1664525 + 1013904223;
    return (dice >> 16) % n;
}

static const char *pick_blank(void)
{
    static const char *const blanks[] = {"", "", "", " ", "\t", "\r\n  "};
    return blanks[roll(CASES(blanks))];
}

static const char *pick_value(void)
{
    static const char *const values[] = {
        "0.70",
        "1E+2",
        "-0",
        "true",
        "null",
        "\"a, } b\"",
        "[1 , 2]",
        "{\"model\" : \"inner\"}",
        "\"\\\"\"",
        "\"\\u00e9\\n\"",
        "{ }",
        "[ ]",
        "[{\"stream\":[true]}]",
        "\"gr\xc3\xbc\xc3\x9f\"",
        "12345678901234567890.5",
    };
    return values[roll(CASES(values))];
}

static void bodies_come_back_as_the_bytes_they_were(void **state)
{
    (void)state;
    static const char *const ours[] = {"\"model\":\"auto\"", "\"stream\" : true",
                                       "\"nightmill\": {\"tags\" : [\"b\", \"a\"]}"};
    for (int round = 0; round < 20000; round++) {
        char members[12][80], line[1400], want[1400] = "";
        size_t n = 0, at = 0, taken[12] = {0};
        for (unsigned i = roll(6); i > 0; i--)
            snprintf(members[n++], sizeof *members, "\"k%u\"%s:%s%s", i, pick_blank(),
                     pick_blank(), pick_value());
        snprintf(members[n++], sizeof *members,
                 "\"messages\"%s:%s[{\"role\" :\"user\"}]", pick_blank(), pick_blank());
        for (size_t i = 0; i < CASES(ours); i++)
            if (roll(2)) {
                taken[n] = 1;
                strcpy(members[n++], ours[i]);
            }
        for (size_t i = n - 1; i > 0; i--) { /* shuffled */
            size_t k = roll((unsigned)i + 1), was = taken[i];
            char member[80];
            memcpy(member, members[i], sizeof member);
            memcpy(members[i], members[k], sizeof member);
            memcpy(members[k], member, sizeof member);
            taken[i] = taken[k];
            taken[k] = was;
        }

        int wrapped = roll(2);
        at += (size_t)sprintf(line + at, "%s%s{%s", pick_blank(),
                              wrapped ? "{\"params\" :" : "", pick_blank());
        for (size_t i = 0; i < n; i++)
            at += (size_t)sprintf(line + at, "%s%s%s%s", i ? "," : "", pick_blank(),
                                  members[i], pick_blank());
        sprintf(line + at, "}%s%s", wrapped ? ", \"custom_id\":\"x\"}" : "",
                pick_blank());

        struct job_spec s;
        struct err e;
        if (parse(source_json_parse, line, strlen(line), 1, &s, &e) < 0)
            fail_msg("%s: %s", e.text, line);

        /* Member by member; white space between them is nobody's business. */
        const char *p = s.body;
        for (size_t i = 0, first = 1; i < n; i++) {
            if (taken[i])
                continue;
            p += strspn(p, " \t\r\n");
            if (!first)
                p += *p == ',';
            p += strspn(p, " \t\r\n");
            if (strncmp(p, members[i], strlen(members[i])) != 0)
                fail_msg("%s\nbecame %s\nwithout %s", line, s.body, members[i]);
            p += strlen(members[i]);
            first = 0;
        }
        assert_int_equal(*p, '\0');

        /* And it is whole: with braces around it is JSON again. */
        snprintf(want, sizeof want, "{%s}", s.body);
        json_t *again = json_loads(want, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(again);
        assert_null(json_object_get(again, "model"));
        assert_null(json_object_get(again, "stream"));
        assert_null(json_object_get(again, "nightmill"));
        json_decref(again);
        job_spec_free(&s);
    }
}

static void a_prompt_arrives_letter_by_letter(void **state)
{
    (void)state;
    for (int round = 0; round < 2000; round++) {
        static const char *const bits[] = {
            "\"",    "\\",        "\n",   "\r\n",     "\t",
            "---\n", "tier: x\n", "\x01", "\xc3\xa9", "\xf0\x9f\x90\xa6",
            " ",     "/"};
        char text[256] = ">", body[1024];
        for (unsigned i = roll(20); i > 0; i--)
            strcat(text, bits[roll(CASES(bits))]);
        strcat(text, "<");
        size_t len = strlen(text);
        strcat(text, "\n\r\n");

        struct job_spec s;
        struct err e;
        assert_int_equal(parse(source_text_parse, text, strlen(text), 1, &s, &e), 0);
        snprintf(body, sizeof body, "{%s}", s.body);
        json_t *again = json_loads(body, 0, NULL);
        const char *role, *content;
        size_t content_len;
        assert_int_equal(json_unpack(again, "{s:[{s:s,s:s%!}]!}", "messages", "role",
                                     &role, "content", &content, &content_len),
                         0);
        assert_string_equal(role, "user");
        assert_int_equal(content_len, len);
        assert_memory_equal(content, text, len);
        json_decref(again);
        job_spec_free(&s);
    }
}

static void a_lack_of_memory_is_told_and_loses_nothing(void **state)
{
    (void)state;
    static const struct {
        source_parse_fn *fn;
        const char *text;
    } cases[] = {
        {source_text_parse,
         "---\nmodel: a\nsystem: be kind\ntags: b,a\nmax_tokens: 5\n---\nhi"},
        {source_text_parse, "---\neffort: a\nsystem_file: be kind\n---\nhi"},
        {source_json_parse,
         "{\"custom_id\":\"a\",\"params\":{\"model\":\"m\",\"messages\":[1],"
         "\"stream\":true},\"nightmill\":{\"tags\":[\"b\",\"a\"],"
         "\"tier\":\"t\"}}"},
    };
    json_set_alloc_funcs(__wrap_malloc, free);
    for (size_t i = 0; i < CASES(cases); i++) {
        size_t len = strlen(cases[i].text);
        int n = 0, rc;
        struct err e;
        do {
            struct job_spec s = {0};
            e = (struct err){0};
            fail_at = n++;
            rc = cases[i].fn(cases[i].text, len, 1, &s, &e);
            int spent = fail_at < 0;
            fail_at = -1;
            if (!spent)
                rc = 0; /* it came to its end with allocations to spare */
            else if (rc == 0 || e.code != ERR_NOMEM)
                fail_msg("allocation %d of case %zu: %d, %s", n, i, rc, e.text);
            job_spec_free(&s);
        } while (rc < 0);
        assert_true(n > 2);
    }
    json_set_alloc_funcs(malloc, free);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_case_reads_as_its_folder_says),
        cmocka_unit_test(a_format_is_known_by_the_end_of_a_name),
        cmocka_unit_test(a_bad_line_says_what_is_wanted),
        cmocka_unit_test(a_bad_front_matter_says_what_is_wanted),
        cmocka_unit_test(lines_are_counted_from_where_the_text_begins),
        cmocka_unit_test(a_failed_line_keeps_its_name_and_nothing_else),
        cmocka_unit_test(names_have_a_ceiling),
        cmocka_unit_test(tags_have_a_ceiling),
        cmocka_unit_test(a_text_beyond_all_measure_is_not_even_read),
        cmocka_unit_test(front_matter_has_a_ceiling),
        cmocka_unit_test(what_is_shown_fits_and_is_safe_for_a_terminal),
        cmocka_unit_test(bodies_come_back_as_the_bytes_they_were),
        cmocka_unit_test(a_prompt_arrives_letter_by_letter),
        cmocka_unit_test(a_lack_of_memory_is_told_and_loses_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
