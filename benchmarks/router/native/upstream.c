/* A mock engine that is never the bottleneck: HTTP/1.1 with kept connections on several ports of 127.0.0.1, one thread.
 *
 *     upstream PORTS STREAM_RATE
 *
 * Prints "ports P1 P2 ..." once it listens. Any POST is a chat: one JSON answer of about 1 KB, or with "stream":true
 * "max_tokens" events (64 if not given), STREAM_RATE a second. An event carries "@" and the 16 digits of the microsecond
 * of CLOCK_MONOTONIC at which it was sent, so that a client on this machine can tell how long it was on its way.
 * GET /load answers how many streams run on that port; any other GET the list of models.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { MOST_PORTS = 64, EVENTS = 256, FIRST_ROOM = 4096, DEFAULT_EVENTS = 64, LARGEST_REQUEST = 16 << 20 };

struct bytes {
    char *at;
    size_t used, room;
};

struct connection {
    int fd, port;
    struct bytes in, out;
    long events_left; /* of the stream that runs; 0 = none does */
    int wants_usage;
    long events;
    uint64_t due; /* microseconds */
    struct connection *next; /* in the queue of streams, by `due` */
    int queued, dead;
};

static int epoll, timer;
static uint64_t period; /* microseconds between two events of a stream */
static int running[MOST_PORTS];
static struct connection *first_due, *last_due;
static char completion[2048];
static size_t completion_size;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (uint64_t)at.tv_sec * 1000000 + (uint64_t)at.tv_nsec / 1000;
}

static void append(struct bytes *to, const char *data, size_t size) {
    if (to->used + size > to->room) {
        while (to->used + size > to->room)
            to->room = to->room ? to->room * 2 : FIRST_ROOM;
        to->at = realloc(to->at, to->room);
        if (!to->at)
            die("realloc");
    }
    memcpy(to->at + to->used, data, size);
    to->used += size;
}

/* --- sending ----------------------------------------------------------------------------------------------------- */

static void watch(struct connection *connection, int operation, int for_room) {
    struct epoll_event event = {.events = EPOLLIN | (for_room ? EPOLLOUT : 0), .data.ptr = connection};
    if (epoll_ctl(epoll, operation, connection->fd, &event))
        die("epoll_ctl");
}

static void hang_up(struct connection *connection) {
    if (connection->dead)
        return;
    connection->dead = 1;
    if (connection->events_left)
        running[connection->port]--;
    connection->events_left = 0;
    close(connection->fd);
    free(connection->in.at);
    free(connection->out.at);
}

static void send_bytes(struct connection *connection, const char *data, size_t size) {
    ssize_t sent = 0;
    if (!connection->out.used) {
        sent = write(connection->fd, data, size);
        if (sent < 0 && errno != EAGAIN) {
            hang_up(connection);
            return;
        }
        if (sent < 0)
            sent = 0;
    }
    if ((size_t)sent == size)
        return;
    if (!connection->out.used)
        watch(connection, EPOLL_CTL_MOD, 1);
    append(&connection->out, data + sent, size - (size_t)sent);
}

static void send_rest(struct connection *connection) {
    struct bytes *out = &connection->out;
    ssize_t sent = write(connection->fd, out->at, out->used);
    if (sent < 0) {
        if (errno != EAGAIN)
            hang_up(connection);
        return;
    }
    out->used -= (size_t)sent;
    memmove(out->at, out->at + sent, out->used);
    if (!out->used)
        watch(connection, EPOLL_CTL_MOD, 0);
}

static void send_json(struct connection *connection, const char *body, size_t size) {
    char answer[4096];
    int head = snprintf(answer, sizeof answer,
                        "HTTP/1.1 200 OK\r\ndate: Sun, 01 Mar 2026 12:00:00 GMT\r\nserver: uvicorn\r\n"
                        "content-length: %zu\r\ncontent-type: application/json\r\n\r\n",
                        size);
    memcpy(answer + head, body, size);
    send_bytes(connection, answer, (size_t)head + size);
}

/* --- streams ----------------------------------------------------------------------------------------------------- */

static void set_timer(void) {
    if (!first_due)
        return;
    uint64_t at = first_due->due;
    struct itimerspec when = {.it_value = {.tv_sec = (time_t)(at / 1000000), .tv_nsec = (long)(at % 1000000) * 1000}};
    timerfd_settime(timer, TFD_TIMER_ABSTIME, &when, NULL);
}

/* All streams have one period, so that who is put behind the others is due after them. */
static void enqueue(struct connection *connection) {
    connection->queued = 1;
    connection->next = NULL;
    if (last_due)
        last_due->next = connection;
    else
        first_due = connection;
    last_due = connection;
}

static struct connection *dequeue(void) {
    struct connection *connection = first_due;
    first_due = connection->next;
    if (!first_due)
        last_due = NULL;
    connection->queued = 0;
    return connection;
}

static size_t chunk(char *to, const char *data, size_t size) {
    int head = sprintf(to, "%zx\r\n", size);
    memcpy(to + head, data, size);
    memcpy(to + head + size, "\r\n", 2);
    return (size_t)head + size + 2;
}

static size_t event(char *to, const char *choices, const char *usage) {
    char data[1024];
    int size = snprintf(data, sizeof data,
                        "data: {\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion.chunk\","
                        "\"created\":1772366400,\"model\":\"bench/model\",\"choices\":[%s]%s}\n\n",
                        choices, usage);
    return chunk(to, data, (size_t)size);
}

static void begin_stream(struct connection *connection, long events, int wants_usage) {
    static const char head[] = "HTTP/1.1 200 OK\r\ndate: Sun, 01 Mar 2026 12:00:00 GMT\r\nserver: uvicorn\r\n"
                               "content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n";
    running[connection->port]++;
    connection->events = connection->events_left = events;
    connection->wants_usage = wants_usage;
    connection->due = now() + period;
    enqueue(connection);
    send_bytes(connection, head, sizeof head - 1);
}

static void send_event(struct connection *connection) {
    char data[4096], choice[256];
    snprintf(choice, sizeof choice,
             "{\"index\":0,\"delta\":{\"content\":\" @%016llu\"},\"logprobs\":null,\"finish_reason\":%s}",
             (unsigned long long)now(), connection->events_left == 1 ? "\"stop\"" : "null");
    size_t size = event(data, choice, "");
    if (!--connection->events_left) {
        running[connection->port]--;
        if (connection->wants_usage) {
            char usage[128];
            snprintf(usage, sizeof usage,
                     ",\"usage\":{\"prompt_tokens\":200,\"completion_tokens\":%ld,\"total_tokens\":%ld}",
                     connection->events, 200 + connection->events);
            size += event(data + size, "", usage);
        }
        size += chunk(data + size, "data: [DONE]\n\n", 14);
        memcpy(data + size, "0\r\n\r\n", 5);
        size += 5;
    }
    send_bytes(connection, data, size);
}

static void send_what_is_due(void) {
    uint64_t instant = now(); /* and no later one: who has more to send than time must still look at its sockets */
    while (first_due && (first_due->dead || first_due->due <= instant)) {
        struct connection *connection = dequeue();
        if (connection->dead) {
            free(connection);
            continue;
        }
        send_event(connection);
        if (connection->dead) {
            free(connection);
        } else if (connection->events_left) {
            connection->due += period;
            enqueue(connection);
        }
    }
    set_timer();
}

/* --- requests ---------------------------------------------------------------------------------------------------- */

/* `body` ends with a zero byte. As engines do, we take blanks after the colon. */
static const char *value_of(const char *body, const char *name) {
    const char *at = strstr(body, name);
    if (!at)
        return "";
    at += strlen(name);
    return at + strspn(at, " :");
}

static void answer_post(struct connection *connection, char *body, size_t size) {
    char after = body[size];
    body[size] = 0;
    if (strncmp(value_of(body, "\"stream\""), "true", 4) == 0) {
        long events = atol(value_of(body, "\"max_tokens\""));
        if (!events) /* some routers write the newer name */
            events = atol(value_of(body, "\"max_completion_tokens\""));
        int wants_usage = strncmp(value_of(body, "\"include_usage\""), "true", 4) == 0;
        begin_stream(connection, events > 0 ? events : DEFAULT_EVENTS, wants_usage);
    } else {
        send_json(connection, completion, completion_size);
    }
    body[size] = after;
}

static void answer_get(struct connection *connection, const char *path) {
    static const char models[] = "{\"object\":\"list\",\"data\":[{\"id\":\"bench/model\",\"object\":\"model\","
                                 "\"created\":1772366400,\"owned_by\":\"vllm\",\"max_model_len\":4096}]}";
    char load[64];
    if (strncmp(path, "/load ", 6) == 0) {
        snprintf(load, sizeof load, "{\"load\":%d}", running[connection->port]);
        send_json(connection, load, strlen(load));
    } else {
        send_json(connection, models, sizeof models - 1);
    }
}

/* Answers the requests that are there as a whole; returns 0 if the connection is to be closed. */
static int answer_requests(struct connection *connection) {
    struct bytes *in = &connection->in;
    while (!connection->dead && !connection->events_left) {
        append(in, "", 1); /* for strstr */
        in->used--;
        char *end = strstr(in->at, "\r\n\r\n");
        if (!end)
            return in->used < LARGEST_REQUEST;
        size_t head = (size_t)(end - in->at) + 4;
        *end = 0;
        char *length = strcasestr(in->at, "\r\ncontent-length:");
        int framed_otherwise = strcasestr(in->at, "\r\ntransfer-encoding:") != NULL;
        size_t size = length ? (size_t)atol(length + 17) : 0;
        *end = '\r';
        if (framed_otherwise || size > LARGEST_REQUEST)
            return 0;
        if (in->used < head + size)
            return 1;
        if (strncmp(in->at, "GET ", 4) == 0)
            answer_get(connection, in->at + 4);
        else
            answer_post(connection, in->at + head, size);
        if (connection->dead)
            return 0;
        in->used -= head + size;
        memmove(in->at, in->at + head + size, in->used);
        if (!in->used)
            return 1;
    }
    return 1;
}

static void receive(struct connection *connection) {
    char data[65536];
    ssize_t got = read(connection->fd, data, sizeof data);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        hang_up(connection);
        return;
    }
    append(&connection->in, data, (size_t)got);
    if (!answer_requests(connection))
        hang_up(connection);
}

/* --- the loop ---------------------------------------------------------------------------------------------------- */

static int listen_somewhere(int *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) || listen(fd, 4096))
        die("listen");
    if (getsockname(fd, (struct sockaddr *)&address, &size))
        die("getsockname");
    *port = ntohs(address.sin_port);
    return fd;
}

static void accept_all(struct connection *listener) {
    int fd, yes = 1;
    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct connection *connection = calloc(1, sizeof *connection);
        if (!connection)
            die("calloc");
        connection->fd = fd;
        connection->port = listener->port;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        watch(connection, EPOLL_CTL_ADD, 0);
    }
    if (errno != EAGAIN && errno != ECONNABORTED)
        die("accept");
}

static void serve(struct connection *connection, uint32_t what) {
    if (what & EPOLLOUT)
        send_rest(connection);
    if (!connection->dead && what & ~(uint32_t)EPOLLOUT)
        receive(connection);
    if (connection->dead && !connection->queued)
        free(connection);
}

static void write_completion(void) {
    char content[701];
    for (size_t i = 0; i < sizeof content - 1; i++)
        content[i] = "a token or two "[i % 15];
    content[sizeof content - 1] = 0;
    completion_size = (size_t)snprintf(
        completion, sizeof completion,
        "{\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1772366400,"
        "\"model\":\"bench/model\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\"},"
        "\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":200,\"total_tokens\":375,"
        "\"completion_tokens\":175}}",
        content);
}

static void allow_many_files(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

int main(int count, char **arguments) {
    if (count != 3) {
        fprintf(stderr, "upstream PORTS STREAM_RATE\n");
        return 2;
    }
    int ports = atoi(arguments[1]);
    period = (uint64_t)(1e6 / atof(arguments[2]));
    if (ports < 1 || ports > MOST_PORTS || !period)
        return 2;
    signal(SIGPIPE, SIG_IGN);
    allow_many_files();
    write_completion();
    epoll = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    static struct connection listeners[MOST_PORTS], clock_entry;
    clock_entry.fd = timer;
    watch(&clock_entry, EPOLL_CTL_ADD, 0);
    printf("ports");
    for (int i = 0; i < ports; i++) {
        int port;
        listeners[i].fd = listen_somewhere(&port);
        listeners[i].port = i;
        watch(&listeners[i], EPOLL_CTL_ADD, 0);
        printf(" %d", port);
    }
    printf("\n");
    fflush(stdout);
    struct epoll_event events[EVENTS];
    for (;;) {
        int found = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < found; i++) {
            struct connection *connection = events[i].data.ptr;
            uint64_t ticks;
            if (connection == &clock_entry)
                (void)!read(timer, &ticks, sizeof ticks);
            else if (connection >= listeners && connection < listeners + ports)
                accept_all(connection);
            else
                serve(connection, events[i].events);
        }
        send_what_is_due();
    }
}
