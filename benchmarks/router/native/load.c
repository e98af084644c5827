/* Loads an HTTP server on 127.0.0.1 with one request, which it reads from its standard input, byte for byte.
 *
 *     load requests PORT CONNECTIONS WARM_UP SECONDS
 *     load streams PORT STREAMS RAMP MOST_SECONDS
 *
 * `requests`: so many kept connections, each of which asks again as soon as it is answered. What is measured begins
 * after WARM_UP seconds and lasts for SECONDS. `streams`: opens so many streams, evenly over RAMP seconds, and follows
 * each to its [DONE], for MOST_SECONDS at most. What is measured begins when all have had an event and ends when the
 * first is over; if that never comes, all of it is. Prints "begin" and "end" at these instants, then one line of JSON;
 * times are microseconds.
 *
 * Latencies are exact: each is kept. That of an event is the time since the instant that it carries (see upstream.c).
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
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, HEAD = 16384, STAMP = 16 };

enum stage { IN_HEAD, IN_BODY, IN_CHUNK_SIZE, IN_CHUNK, AFTER_CHUNK, IN_TRAILER, UNTIL_CLOSED, COMPLETE };

struct answer {
    enum stage stage;
    int status;
    char head[HEAD];
    size_t head_size;
    uint64_t left;   /* bytes of the body or of the chunk */
    size_t line_size; /* of a trailer's line */
};

struct connection {
    int fd;
    double sent_at, last_event_at;
    struct answer answer;
    size_t done_seen; /* characters of [DONE]; all of them: the stream is complete */
    int stamp_digits; /* of the stamp that is being read; -1 = none is */
    uint64_t stamp;
};

struct sample {
    float at, value; /* seconds since the start, microseconds */
};

struct samples {
    struct sample *all;
    size_t used, room;
};

static int epoll;
static struct sockaddr_in server = {.sin_family = AF_INET};
static char *request;
static size_t request_size;
static struct samples latencies, gaps;
static long errors, reconnects, events_in_all;
static double started_at;

static void die(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) { /* microseconds */
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec * 1e6 + (double)at.tv_nsec / 1e3;
}

static void add(struct samples *to, double at, double microseconds) {
    if (to->used == to->room) {
        to->room = to->room ? to->room * 2 : 65536;
        to->all = realloc(to->all, to->room * sizeof *to->all);
        if (!to->all)
            die("realloc");
    }
    to->all[to->used++] = (struct sample){(float)((at - started_at) / 1e6), (float)microseconds};
}

static int by_size(const void *left, const void *right) {
    float a = *(const float *)left, b = *(const float *)right;
    return (a > b) - (a < b);
}

/* Prints the distribution of what was taken between two instants, seconds since the start. */
static void print_distribution(const char *name, const struct samples *of, double from, double until) {
    float *values = malloc((of->used + 1) * sizeof *values);
    size_t count = 0;
    if (!values)
        die("malloc");
    for (size_t i = 0; i < of->used; i++)
        if (of->all[i].at >= from && of->all[i].at < until)
            values[count++] = of->all[i].value;
    qsort(values, count, sizeof *values, by_size);
    values[count] = count ? values[count - 1] : 0;
    printf("\"%s\":{\"count\":%zu,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"most\":%.1f}", name, count,
           values[count / 2], values[count * 9 / 10], values[count * 99 / 100], values[count * 999 / 1000],
           values[count]);
    free(values);
}

static void tell(const char *what) {
    printf("%s\n", what);
    fflush(stdout);
}

/* --- an answer, however it is framed and cut --------------------------------------------------------------------- */

static void begin_answer(struct answer *answer) {
    answer->stage = IN_HEAD;
    answer->head_size = 0;
}

static void read_head(struct answer *answer) {
    answer->head[answer->head_size] = 0;
    answer->status = atoi(answer->head + 9);
    char *length = strcasestr(answer->head, "\r\ncontent-length:");
    if (length) {
        answer->left = strtoull(length + 17, NULL, 10);
        answer->stage = answer->left ? IN_BODY : COMPLETE;
    } else if (strcasestr(answer->head, "\r\ntransfer-encoding: chunked")) {
        answer->stage = IN_CHUNK_SIZE;
        answer->left = 0;
    } else {
        answer->stage = UNTIL_CLOSED;
    }
}

static int digit(char c) {
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* Takes the next piece. Returns how many bytes were used; `body` and `size`: what of them is the body's. */
static size_t take(struct answer *answer, const char *data, size_t size, const char **body, size_t *body_size) {
    *body_size = 0;
    switch (answer->stage) {
    case IN_HEAD:
        if (answer->head_size == HEAD - 1)
            return 0;
        answer->head[answer->head_size++] = *data;
        if (*data == '\n' && answer->head_size > 3 && !memcmp(answer->head + answer->head_size - 4, "\r\n\r\n", 4))
            read_head(answer);
        return 1;
    case IN_BODY:
    case IN_CHUNK:
        *body = data;
        *body_size = size < answer->left ? size : (size_t)answer->left;
        answer->left -= *body_size;
        if (!answer->left)
            answer->stage = answer->stage == IN_BODY ? COMPLETE : AFTER_CHUNK;
        return *body_size;
    case IN_CHUNK_SIZE:
        if (digit(*data) >= 0)
            answer->left = answer->left * 16 + (uint64_t)digit(*data);
        else if (*data == '\n')
            answer->stage = answer->left ? IN_CHUNK : IN_TRAILER;
        answer->line_size = 0;
        return 1;
    case AFTER_CHUNK:
        if (*data == '\n')
            answer->stage = IN_CHUNK_SIZE;
        return 1;
    case IN_TRAILER:
        if (*data == '\n' && !answer->line_size)
            answer->stage = COMPLETE;
        answer->line_size = *data == '\n' ? 0 : answer->line_size + (*data != '\r');
        return 1;
    case UNTIL_CLOSED:
        *body = data;
        return *body_size = size;
    case COMPLETE:
        break;
    }
    return 0;
}

/* --- connections ------------------------------------------------------------------------------------------------- */

static void ask(struct connection *connection) {
    begin_answer(&connection->answer);
    connection->sent_at = now();
    if (write(connection->fd, request, request_size) != (ssize_t)request_size && errno != EPIPE && errno != ECONNRESET)
        die("write");
}

static void open_connection(struct connection *connection) {
    int yes = 1;
    connection->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connection->fd < 0)
        die("socket");
    if (connect(connection->fd, (struct sockaddr *)&server, sizeof server))
        die("connect");
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, connection->fd, &event))
        die("epoll_ctl");
    connection->stamp_digits = -1;
    ask(connection);
}

/* --- requests ---------------------------------------------------------------------------------------------------- */

static void complete(struct connection *connection) {
    double at = now();
    errors += connection->answer.status != 200;
    add(&latencies, at, at - connection->sent_at);
    ask(connection);
}

static void read_answer(struct connection *connection) {
    char data[65536];
    const char *body;
    size_t body_size;
    ssize_t got = read(connection->fd, data, sizeof data);
    if (got <= 0) {
        reconnects++;
        close(connection->fd);
        open_connection(connection);
        return;
    }
    for (ssize_t at = 0; at < got && connection->answer.stage != COMPLETE;) {
        size_t used = take(&connection->answer, data + at, (size_t)(got - at), &body, &body_size);
        if (!used)
            die("the head of an answer is too long");
        at += (ssize_t)used;
    }
    if (connection->answer.stage == COMPLETE)
        complete(connection);
}

static void ask_until(double until, struct epoll_event *events) {
    while (now() < until) {
        int found = epoll_wait(epoll, events, EVENTS, 10);
        for (int i = 0; i < found; i++)
            read_answer(events[i].data.ptr);
    }
}

static void load_requests(int connections, double warm_up, double seconds) {
    struct connection *all = calloc((size_t)connections, sizeof *all);
    struct epoll_event events[EVENTS];
    for (int i = 0; i < connections; i++)
        open_connection(&all[i]);
    ask_until(started_at + warm_up * 1e6, events);
    double from = now();
    errors = 0;
    tell("begin");
    ask_until(from + seconds * 1e6, events);
    double until = now();
    tell("end");
    printf("{\"seconds\":%.6f,\"errors\":%ld,\"reconnects\":%ld,", (until - from) / 1e6, errors, reconnects);
    print_distribution("latency", &latencies, (from - started_at) / 1e6, (until - started_at) / 1e6);
    printf("}\n");
}

/* --- streams ----------------------------------------------------------------------------------------------------- */

static int has_begun(const struct connection *connection) {
    return connection->last_event_at > 0;
}

static void count_event(struct connection *connection, double at) {
    events_in_all++;
    add(&latencies, at, at - (double)connection->stamp);
    if (has_begun(connection))
        add(&gaps, at, at - connection->last_event_at);
    connection->last_event_at = at;
}

static void read_events(struct connection *connection, const char *data, size_t size, double at) {
    static const char end[] = "[DONE]";
    for (size_t i = 0; i < size && connection->done_seen < sizeof end - 1; i++) {
        if (data[i] == '@') {
            connection->stamp_digits = 0;
            connection->stamp = 0;
        } else if (connection->stamp_digits >= 0) {
            connection->stamp = connection->stamp * 10 + (uint64_t)(data[i] - '0');
            if (++connection->stamp_digits == STAMP) {
                count_event(connection, at);
                connection->stamp_digits = -1;
            }
        }
        connection->done_seen = data[i] == end[connection->done_seen] ? connection->done_seen + 1 : data[i] == '[';
    }
}

/* Returns whether the answer is over. */
static int follow(struct connection *connection) {
    char data[65536];
    const char *body;
    size_t body_size;
    ssize_t got = read(connection->fd, data, sizeof data);
    double at = now();
    for (ssize_t taken = 0; taken < got && connection->answer.stage != COMPLETE;) {
        size_t used = take(&connection->answer, data + taken, (size_t)(got - taken), &body, &body_size);
        if (!used)
            die("the head of an answer is too long");
        taken += (ssize_t)used;
        if (body_size)
            read_events(connection, body, body_size, at);
    }
    return got <= 0 || connection->answer.stage == COMPLETE;
}

static void load_streams(int streams, double ramp, double most_seconds) {
    struct connection *all = calloc((size_t)streams, sizeof *all);
    struct epoll_event events[EVENTS];
    int opened = 0, begun = 0, over = 0;
    double from = 0, until = 0;
    while (over < streams && now() < started_at + most_seconds * 1e6) {
        while (opened < streams && now() >= started_at + ramp * 1e6 * opened / streams)
            open_connection(&all[opened++]);
        int found = epoll_wait(epoll, events, EVENTS, opened < streams ? 0 : 100);
        for (int i = 0; i < found; i++) {
            struct connection *connection = events[i].data.ptr;
            int before = has_begun(connection);
            int ended = follow(connection);
            begun += !before && has_begun(connection);
            if (begun == streams && !from && !over) {
                from = now();
                tell("begin");
            }
            if (!ended)
                continue;
            if (!over++) {
                until = now();
                tell("end");
            }
            errors += connection->done_seen != 6 || connection->answer.status != 200;
            close(connection->fd);
        }
    }
    errors += streams - over;
    int together = from && until;
    double start = together ? (from - started_at) / 1e6 : 0;
    double third = (together ? until - from : now() - started_at) / 3e6;
    printf("{\"seconds\":%.6f,\"together\":%s,\"errors\":%ld,\"events\":%ld,", 3 * third, together ? "true" : "false", errors, events_in_all);
    print_distribution("lateness", &latencies, start, start + 3 * third);
    printf(",");
    print_distribution("lateness_first_third", &latencies, start, start + third);
    printf(",");
    print_distribution("lateness_last_third", &latencies, start + 2 * third, start + 3 * third);
    printf(",");
    print_distribution("gap", &gaps, start, start + 3 * third);
    printf("}\n");
}

static void read_request(void) {
    size_t room = 1 << 20;
    request = malloc(room);
    if (!request)
        die("malloc");
    request_size = fread(request, 1, room, stdin);
}

static void allow_many_files(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
}

int main(int count, char **arguments) {
    if (count != 6) {
        fprintf(stderr, "load requests PORT CONNECTIONS WARM_UP SECONDS | load streams PORT STREAMS RAMP MOST_SECONDS\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    allow_many_files();
    read_request();
    server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server.sin_port = htons((uint16_t)atoi(arguments[2]));
    epoll = epoll_create1(0);
    started_at = now();
    if (strcmp(arguments[1], "requests") == 0)
        load_requests(atoi(arguments[3]), atof(arguments[4]), atof(arguments[5]));
    else
        load_streams(atoi(arguments[3]), atof(arguments[4]), atof(arguments[5]));
    return 0;
}
