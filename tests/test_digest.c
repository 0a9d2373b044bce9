#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "jobs/digest.h"
#include "jobs/store.h"

#define CASES(a) (sizeof(a) / sizeof(a)[0])

static void the_digest_is_the_beginning_of_sha_256(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb924"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039"},
    };
    struct digest *d = digest_new();
    for (size_t i = 0; i < CASES(cases); i++) {
        unsigned char digest[DIGEST_BYTES];
        char hex[2 * DIGEST_BYTES + 1];
        digest_add(d, cases[i].text, strlen(cases[i].text));
        digest_end(d, digest); /* and the next one begins anew */
        digest_hex(digest, DIGEST_BYTES, hex);
        assert_string_equal(hex, cases[i].want);
    }
    digest_free(d);
}

static void pieces_and_their_whole_have_one_digest(void **state)
{
    (void)state;
    char text[1000];
    unsigned char whole[DIGEST_BYTES], pieces[DIGEST_BYTES];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)(i * 7);
    struct digest *d = digest_new();
    digest_add(d, text, sizeof text);
    digest_end(d, whole);
    for (size_t cut = 0; cut <= sizeof text; cut += 37) {
        digest_add(d, text, cut);
        digest_add(d, text + cut, sizeof text - cut);
        digest_end(d, pieces);
        assert_memory_equal(pieces, whole, DIGEST_BYTES);
    }
    digest_free(d);
    digest_free(NULL);
}

static void hexadecimal_is_lower_case_and_ends(void **state)
{
    (void)state;
    char hex[9] = "xxxxxxxx";
    digest_hex((const unsigned char[]){0x00, 0x9f, 0xab, 0xff}, 4, hex);
    assert_string_equal(hex, "009fabff");
    digest_hex(NULL, 0, hex);
    assert_string_equal(hex, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_digest_is_the_beginning_of_sha_256),
        cmocka_unit_test(pieces_and_their_whole_have_one_digest),
        cmocka_unit_test(hexadecimal_is_lower_case_and_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
