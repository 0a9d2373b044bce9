/*
 * The yardstick of the benchmark: libcurl and libuv and nothing else. Sends each line of
 * a file as a body, a fixed number at a time over kept connections, counts the answers'
 * bytes and keeps nothing. Handles are used again; there is no less that a C program
 * could do to get these requests answered.
 *
 *   bench_bare URL BODIES IN_FLIGHT
 */
#include <curl/curl.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <uv.h>

struct watch {
    uv_poll_t poll;
    curl_socket_t socket;
};

static CURLM *multi;
static uv_loop_t *loop;
static uv_timer_t timer;
static const char *at, *end;
static long sent, answered;
static size_t bytes;

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    (void)p;
    (void)arg;
    bytes += size * n;
    return size * n;
}

static int send_next(CURL *easy)
{
    if (at == end)
        return 0;
    const char *nl = memchr(at, '\n', (size_t)(end - at));
    size_t len = nl ? (size_t)(nl - at) : (size_t)(end - at);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, at);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
    at = nl ? nl + 1 : end;
    curl_multi_add_handle(multi, easy);
    sent++;
    return 1;
}

static void step(curl_socket_t s, int events)
{
    int running, pending;
    curl_multi_socket_action(multi, s, events, &running);
    for (CURLMsg *m; (m = curl_multi_info_read(multi, &pending));) {
        CURL *easy = m->easy_handle;
        if (m->data.result != CURLE_OK) {
            fprintf(stderr, "%s\n", curl_easy_strerror(m->data.result));
            exit(1);
        }
        answered++;
        curl_multi_remove_handle(multi, easy);
        if (!send_next(easy))
            curl_easy_cleanup(easy);
    }
}

static void on_socket(uv_poll_t *p, int status, int events)
{
    struct watch *w = p->data;
    step(w->socket, (status < 0 ? CURL_CSELECT_ERR : 0) |
                        (events & UV_READABLE ? CURL_CSELECT_IN : 0) |
                        (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0));
}

static void on_timer(uv_timer_t *t)
{
    (void)t;
    step(CURL_SOCKET_TIMEOUT, 0);
}

static void free_watch(uv_handle_t *h)
{
    free(h->data);
}

static int want_socket(CURL *easy, curl_socket_t s, int what, void *arg, void *assigned)
{
    struct watch *w = assigned;
    (void)easy;
    (void)arg;
    if (what == CURL_POLL_REMOVE) {
        if (w) {
            uv_poll_stop(&w->poll);
            uv_close((uv_handle_t *)&w->poll, free_watch);
            curl_multi_assign(multi, s, NULL);
        }
        return 0;
    }
    if (w == NULL) {
        w = calloc(1, sizeof *w);
        w->socket = s;
        w->poll.data = w;
        uv_poll_init_socket(loop, &w->poll, s);
        curl_multi_assign(multi, s, w);
    }
    return uv_poll_start(&w->poll,
                         (what != CURL_POLL_OUT ? UV_READABLE : 0) |
                             (what != CURL_POLL_IN ? UV_WRITABLE : 0),
                         on_socket);
}

static int want_timer(CURLM *m, long ms, void *arg)
{
    (void)m;
    (void)arg;
    if (ms < 0)
        uv_timer_stop(&timer);
    else
        uv_timer_start(&timer, on_timer, (uint64_t)ms, 0);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: bench_bare URL BODIES IN_FLIGHT\n");
        return 2;
    }
    int fd = open(argv[2], O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        perror(argv[2]);
        return 2;
    }
    at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    end = at + st.st_size;
    loop = uv_default_loop();
    curl_global_init(CURL_GLOBAL_DEFAULT);
    multi = curl_multi_init();
    uv_timer_init(loop, &timer);
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, want_socket);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, want_timer);
    struct curl_slist *headers = NULL;
    headers = curl_slist_append(headers, "content-type: application/json");
    headers = curl_slist_append(headers, "anthropic-version: 2023-06-01");
    headers = curl_slist_append(headers, "x-api-key: sk-bench");
    headers = curl_slist_append(headers, "expect:");
    for (int i = 0; i < atoi(argv[3]); i++) {
        CURL *easy = curl_easy_init();
        curl_easy_setopt(easy, CURLOPT_URL, argv[1]);
        curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(easy, CURLOPT_POST, 1L);
        curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
        curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "");
        curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(easy, CURLOPT_PROXY, "");
        if (!send_next(easy))
            curl_easy_cleanup(easy);
    }
    uv_run(loop, UV_RUN_DEFAULT);
    curl_multi_cleanup(multi);
    uv_run(loop, UV_RUN_DEFAULT);
    curl_slist_free_all(headers);
    printf("%ld sent, %ld answered, %zu bytes\n", sent, answered, bytes);
    return answered == sent ? 0 : 1;
}
