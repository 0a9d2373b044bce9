#include "jobs/digest.h"

#include "jobs/store.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct digest {
    EVP_MD_CTX *ctx;
};

struct digest *digest_new(void)
{
    struct digest *d = calloc(1, sizeof *d);
    if (d == NULL || (d->ctx = EVP_MD_CTX_new()) == NULL ||
        EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL) != 1)
        abort();
    return d;
}

void digest_free(struct digest *d)
{
    if (d)
        EVP_MD_CTX_free(d->ctx);
    free(d);
}

void digest_add(struct digest *d, const void *bytes, size_t len)
{
    EVP_DigestUpdate(d->ctx, bytes, len);
}

void digest_end(struct digest *d, unsigned char *ret)
{
    unsigned char whole[EVP_MAX_MD_SIZE];
    EVP_DigestFinal_ex(d->ctx, whole, NULL);
    memcpy(ret, whole, DIGEST_BYTES);
    EVP_DigestInit_ex(d->ctx, NULL, NULL);
}

void digest_hex(const unsigned char *bytes, size_t n, char *to)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        to[2 * i] = digits[bytes[i] >> 4];
        to[2 * i + 1] = digits[bytes[i] & 15];
    }
    to[2 * n] = '\0';
}
