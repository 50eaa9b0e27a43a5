// The floor: the least work that a server of Kafka's protocol can do for a record. Not a broker.
//
//   gcc -O2 -march=native floor.c -o floor && ./floor PORT DIRECTORY
//
// One thread and epoll. Produce is recv, CRC-32C, patch of the base offset, pwrite; Fetch is an
// index lookup and sendfile, with long polling. There are no groups, no authentication, no
// retention, no recovery and no fsync, and it trusts its client: it listens on loopback only, and
// the load generator beside it is the client it is meant for. The versions it speaks are the
// oldest that today's clients still send.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nmmintrin.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_TOPICS = 65536,
    MAX_CONNECTIONS = 65536,
    MAX_RANGES = 4096,   // partitions with records in one fetch response
    MAX_EVENTS = 256,
    MAX_FRAME = 200 << 20,
    MIN_RECV = 64 << 10, // room offered to each recv
};

enum { PRODUCE = 0, FETCH = 1, LIST_OFFSETS = 2, METADATA = 3, API_VERSIONS = 18, CREATE_TOPICS = 19, DELETE_TOPICS = 20 };

enum {
    NONE = 0,
    OFFSET_OUT_OF_RANGE = 1,
    CORRUPT_MESSAGE = 2,
    UNKNOWN_TOPIC_OR_PARTITION = 3,
    TOPIC_ALREADY_EXISTS = 36,
    KAFKA_STORAGE_ERROR = 56,
};

static int server_port;
static const char *directory;

static void *must(void *memory) {
    if (!memory) {
        perror("floor: out of memory");
        exit(1);
    }
    return memory;
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// ---- reading a request ----------------------------------------------------------------------

static int16_t take16(uint8_t **p) {
    int16_t v = (int16_t)((*p)[0] << 8 | (*p)[1]);
    *p += 2;
    return v;
}

static int32_t take32(uint8_t **p) {
    uint32_t v;
    memcpy(&v, *p, 4);
    *p += 4;
    return (int32_t)__builtin_bswap32(v);
}

static int64_t take64(uint8_t **p) {
    uint64_t v;
    memcpy(&v, *p, 8);
    *p += 8;
    return (int64_t)__builtin_bswap64(v);
}

static uint32_t get32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return __builtin_bswap32(v);
}

struct text {
    const char *at;
    int len;
};

static struct text take_text(uint8_t **p) {
    int len = take16(p);
    struct text t = {(const char *)*p, len > 0 ? len : 0};
    *p += t.len;
    return t;
}

// ---- writing a response ---------------------------------------------------------------------

struct buffer {
    uint8_t *bytes;
    size_t len, capacity;
};

static void put(struct buffer *b, const void *from, size_t n) {
    if (b->len + n > b->capacity) {
        b->capacity = (b->len + n) * 2 + 256;
        b->bytes = must(realloc(b->bytes, b->capacity));
    }
    memcpy(b->bytes + b->len, from, n);
    b->len += n;
}

static void put8(struct buffer *b, int v) {
    uint8_t byte = (uint8_t)v;
    put(b, &byte, 1);
}

static void put16(struct buffer *b, int v) {
    uint16_t be = __builtin_bswap16((uint16_t)v);
    put(b, &be, 2);
}

static void put32(struct buffer *b, int64_t v) {
    uint32_t be = __builtin_bswap32((uint32_t)v);
    put(b, &be, 4);
}

static void put64(struct buffer *b, int64_t v) {
    uint64_t be = __builtin_bswap64((uint64_t)v);
    put(b, &be, 8);
}

static void put_text(struct buffer *b, struct text t) {
    put16(b, t.len);
    put(b, t.at, (size_t)t.len);
}

static void patch32(uint8_t *at, size_t v) {
    uint32_t be = __builtin_bswap32((uint32_t)v);
    memcpy(at, &be, 4);
}

static struct buffer response(int32_t correlation) {
    struct buffer b = {0};
    put32(&b, 0); // the frame's size, patched when it is known
    put32(&b, correlation);
    return b;
}

// ---- CRC-32C --------------------------------------------------------------------------------
// The instruction has a latency of three cycles and a throughput of one: three independent lanes
// keep it busy. A lane's remainder is carried over the next lane's bytes with a table that holds
// the effect of LANE zero bytes on each byte of the remainder.

enum { LANE = 8192 };
static uint32_t over_lane[4][256];

static void crc_init(void) {
    uint32_t bit[32];
    for (int i = 0; i < 32; i++) {
        uint64_t c = 1u << i;
        for (int n = 0; n < LANE; n += 8) c = _mm_crc32_u64(c, 0);
        bit[i] = (uint32_t)c;
    }
    for (int k = 0; k < 4; k++)
        for (int v = 0; v < 256; v++)
            for (int i = 0; i < 8; i++)
                if (v >> i & 1) over_lane[k][v] ^= bit[8 * k + i];
}

static uint32_t carry(uint64_t c) {
    return over_lane[0][c & 255] ^ over_lane[1][c >> 8 & 255] ^ over_lane[2][c >> 16 & 255] ^ over_lane[3][c >> 24 & 255];
}

static uint64_t word(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

static uint32_t crc32c(const uint8_t *p, size_t n) {
    uint64_t a = 0xffffffffu;
    for (; n >= 3 * LANE; n -= 3 * LANE, p += 2 * LANE) {
        uint64_t b = 0, c = 0;
        for (const uint8_t *end = p + LANE; p < end; p += 8) {
            a = _mm_crc32_u64(a, word(p));
            b = _mm_crc32_u64(b, word(p + LANE));
            c = _mm_crc32_u64(c, word(p + 2 * LANE));
        }
        a = carry(carry(a) ^ b) ^ c;
    }
    for (; n >= 8; n -= 8, p += 8) a = _mm_crc32_u64(a, word(p));
    for (; n > 0; n--, p++) a = _mm_crc32_u8((uint32_t)a, *p);
    return (uint32_t)a ^ 0xffffffffu;
}

static bool crc_self_test(void) {
    static uint8_t bytes[100003];
    uint32_t plain = 0xffffffffu;
    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(i * 7 + i / 13);
        plain = _mm_crc32_u8(plain, bytes[i]);
    }
    return crc32c((const uint8_t *)"123456789", 9) == 0xe3069283 && crc32c(bytes, sizeof bytes) == (plain ^ 0xffffffffu);
}

// ---- the log: one file per partition and an index entry per batch -----------------------------

struct entry {
    int64_t base_offset, position;
};

struct partition {
    int fd;
    int64_t log_end_offset, size;
    struct entry *index;
    size_t entries, capacity;
};

struct topic {
    char name[256];
    int partition_count;
    struct partition *partitions; // NULL once the topic is deleted
};

static struct topic *topics[MAX_TOPICS];
static int topic_count;

static struct topic *find_topic(struct text name) {
    for (int i = 0; i < topic_count; i++) {
        struct topic *t = topics[i];
        if (t->partitions && (int)strlen(t->name) == name.len && !memcmp(t->name, name.at, (size_t)name.len)) return t;
    }
    return NULL;
}

static struct partition *find_partition(struct topic *t, int index) {
    return t && index >= 0 && index < t->partition_count ? &t->partitions[index] : NULL;
}

static void partition_path(char *path, size_t size, const struct topic *t, int index) {
    snprintf(path, size, "%s/%s-%d.log", directory, t->name, index);
}

static void create_topic(struct text name, int partition_count) {
    if (topic_count == MAX_TOPICS || name.len >= (int)sizeof topics[0]->name) return;
    struct topic *t = must(calloc(1, sizeof *t));
    memcpy(t->name, name.at, (size_t)name.len);
    t->partition_count = partition_count < 1 ? 1 : partition_count;
    t->partitions = must(calloc((size_t)t->partition_count, sizeof *t->partitions));
    for (int i = 0; i < t->partition_count; i++) {
        char path[4096];
        partition_path(path, sizeof path, t, i);
        t->partitions[i].fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0644);
        if (t->partitions[i].fd < 0) perror(path);
    }
    topics[topic_count++] = t;
}

static void delete_topic(struct topic *t) {
    for (int i = 0; i < t->partition_count; i++) {
        char path[4096];
        partition_path(path, sizeof path, t, i);
        unlink(path);
        close(t->partitions[i].fd);
        free(t->partitions[i].index);
    }
    free(t->partitions);
    t->partitions = NULL;
}

static void index_batch(struct partition *p, int64_t position) {
    if (p->entries == p->capacity) {
        p->capacity = p->capacity * 2 + 64;
        p->index = must(realloc(p->index, p->capacity * sizeof *p->index));
    }
    p->index[p->entries++] = (struct entry){p->log_end_offset, position};
}

// Appends the batches of one partition's records; an error code of Kafka.
static int append(struct partition *p, uint8_t *records, size_t len) {
    enum { OVERHEAD = 61, LENGTH = 8, EPOCH = 12, CRC = 17, ATTRIBUTES = 21, LAST_OFFSET_DELTA = 23 };
    int64_t position = p->size;
    int error = NONE;
    uint8_t *batch = records, *end = records + len;
    while (batch + OVERHEAD <= end) {
        size_t size = (size_t)get32(batch + LENGTH) + EPOCH;
        if (size < OVERHEAD || size > (size_t)(end - batch) || crc32c(batch + ATTRIBUTES, size - ATTRIBUTES) != get32(batch + CRC)) {
            error = CORRUPT_MESSAGE;
            break;
        }
        uint64_t base_offset = __builtin_bswap64((uint64_t)p->log_end_offset);
        memcpy(batch, &base_offset, 8);
        memset(batch + EPOCH, 0, 4);
        index_batch(p, position);
        p->log_end_offset += (int64_t)get32(batch + LAST_OFFSET_DELTA) + 1;
        position += (int64_t)size;
        batch += size;
    }
    size_t whole = (size_t)(position - p->size);
    if (pwrite(p->fd, records, whole, p->size) != (ssize_t)whole) error = KAFKA_STORAGE_ERROR;
    p->size = position;
    return error;
}

// The last entry in [from, entries) whose key is not above the wanted one.
static size_t last_at_or_below(const struct partition *p, size_t from, int64_t wanted, bool by_position) {
    size_t low = from, high = p->entries;
    while (low + 1 < high) {
        size_t middle = (low + high) / 2;
        int64_t key = by_position ? p->index[middle].position : p->index[middle].base_offset;
        if (key <= wanted) low = middle;
        else high = middle;
    }
    return low;
}

struct range {
    int fd;
    int64_t position;
    size_t len;
    size_t at; // where in the response's own bytes the range belongs
};

// Whole batches from the one that holds `offset`, at least one, up to `limit` bytes.
static struct range read_range(const struct partition *p, int64_t offset, int64_t limit) {
    size_t first = last_at_or_below(p, 0, offset, false);
    int64_t position = p->index[first].position, end = p->size;
    if (position + limit < end) {
        size_t next = last_at_or_below(p, first, position + limit, true);
        if (next == first) next++;
        if (next < p->entries) end = p->index[next].position;
    }
    return (struct range){p->fd, position, (size_t)(end - position), 0};
}

// ---- connections ----------------------------------------------------------------------------

// Something to send: memory, or a range of a file.
struct segment {
    struct segment *next;
    const uint8_t *memory; // NULL for a file
    uint8_t *owned;        // freed with the segment
    int fd;
    int64_t position;
    size_t len;
};

struct connection {
    int fd, slot;
    bool wants_out, closed;
    uint8_t *in;
    size_t capacity, len;
    struct segment *head, *tail;
    uint8_t *parked; // a fetch that waits for records
    int64_t deadline_ns;
};

static struct connection *connections[MAX_CONNECTIONS];
static int connection_count, parked_count, poller;

static void push(struct connection *c, struct segment s) {
    struct segment *new = must(malloc(sizeof *new));
    *new = s;
    new->next = NULL;
    if (c->tail) c->tail->next = new;
    else c->head = new;
    c->tail = new;
}

static void pop(struct connection *c) {
    struct segment *s = c->head;
    c->head = s->next;
    if (!c->head) c->tail = NULL;
    free(s->owned);
    free(s);
}

static void want_out(struct connection *c, bool wants_out) {
    if (wants_out == c->wants_out) return;
    c->wants_out = wants_out;
    struct epoll_event e = {.events = EPOLLIN | (wants_out ? EPOLLOUT : 0), .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
}

static void flush(struct connection *c) {
    while (c->head && !c->closed) {
        struct segment *s = c->head;
        ssize_t sent;
        if (s->memory) {
            sent = send(c->fd, s->memory, s->len, MSG_NOSIGNAL | (s->next ? MSG_MORE : 0));
        } else {
            off_t position = s->position;
            sent = sendfile(c->fd, s->fd, &position, s->len);
        }
        if (sent < 0 && errno == EAGAIN) {
            want_out(c, true);
            return;
        }
        if (sent <= 0) {
            c->closed = true;
            return;
        }
        s->len -= (size_t)sent;
        s->position += sent;
        if (s->memory) s->memory += sent;
        if (!s->len) pop(c);
    }
    want_out(c, false);
}

static void send_response(struct connection *c, struct buffer *b) {
    patch32(b->bytes, b->len - 4);
    push(c, (struct segment){.memory = b->bytes, .owned = b->bytes, .len = b->len});
}

// ---- requests -------------------------------------------------------------------------------

static void handle_api_versions(struct buffer *out, int version) {
    static const int supported[][3] = {
        {PRODUCE, 0, 3}, {FETCH, 4, 4}, {LIST_OFFSETS, 1, 1}, {METADATA, 1, 1}, {API_VERSIONS, 0, 3}, {CREATE_TOPICS, 0, 0}, {DELETE_TOPICS, 0, 0},
    };
    int count = sizeof supported / sizeof *supported;
    bool flexible = version >= 3;
    put16(out, NONE);
    if (flexible) put8(out, count + 1);
    else put32(out, count);
    for (int i = 0; i < count; i++) {
        for (int j = 0; j < 3; j++) put16(out, supported[i][j]);
        if (flexible) put8(out, 0);
    }
    if (version >= 1) put32(out, 0);
    if (flexible) put8(out, 0);
}

static void put_topic_metadata(struct buffer *out, struct text name, const struct topic *t) {
    put16(out, t ? NONE : UNKNOWN_TOPIC_OR_PARTITION);
    put_text(out, name);
    put8(out, 0);
    put32(out, t ? t->partition_count : 0);
    for (int i = 0; t && i < t->partition_count; i++) {
        put16(out, NONE);
        put32(out, i);
        put32(out, 0); // leader
        for (int list = 0; list < 2; list++) { // replicas and ISR: this broker
            put32(out, 1);
            put32(out, 0);
        }
    }
}

static void handle_metadata(struct buffer *out, uint8_t *p) {
    int wanted = take32(&p);
    put32(out, 1);
    put32(out, 0);
    put_text(out, (struct text){"127.0.0.1", 9});
    put32(out, server_port);
    put16(out, -1);
    put32(out, 0);
    size_t count_at = out->len;
    size_t count = 0;
    put32(out, 0);
    for (int i = 0; i < (wanted < 0 ? topic_count : wanted); i++) {
        if (wanted < 0) {
            if (!topics[i]->partitions) continue;
            put_topic_metadata(out, (struct text){topics[i]->name, (int)strlen(topics[i]->name)}, topics[i]);
        } else {
            struct text name = take_text(&p);
            put_topic_metadata(out, name, find_topic(name));
        }
        count++;
    }
    patch32(out->bytes + count_at, count);
}

static void handle_create_topics(struct buffer *out, uint8_t *p) {
    int count = take32(&p);
    put32(out, count);
    for (int i = 0; i < count; i++) {
        struct text name = take_text(&p);
        int partition_count = take32(&p);
        take16(&p); // replication factor
        for (int n = take32(&p); n > 0; n--) { // manual assignments
            take32(&p);
            int replicas = take32(&p);
            p += 4 * replicas;
        }
        for (int n = take32(&p); n > 0; n--) { // configs
            take_text(&p);
            take_text(&p);
        }
        bool exists = find_topic(name);
        if (!exists) create_topic(name, partition_count);
        put_text(out, name);
        put16(out, exists ? TOPIC_ALREADY_EXISTS : NONE);
    }
}

static void handle_delete_topics(struct buffer *out, uint8_t *p) {
    int count = take32(&p);
    put32(out, count);
    for (int i = 0; i < count; i++) {
        struct text name = take_text(&p);
        struct topic *t = find_topic(name);
        if (t) delete_topic(t);
        put_text(out, name);
        put16(out, t ? NONE : UNKNOWN_TOPIC_OR_PARTITION);
    }
}

static void handle_list_offsets(struct buffer *out, uint8_t *p) {
    enum { EARLIEST = -2 };
    take32(&p); // replica id
    int count = take32(&p);
    put32(out, count);
    for (int i = 0; i < count; i++) {
        struct text name = take_text(&p);
        struct topic *t = find_topic(name);
        int partitions = take32(&p);
        put_text(out, name);
        put32(out, partitions);
        for (int j = 0; j < partitions; j++) {
            int index = take32(&p);
            int64_t timestamp = take64(&p);
            struct partition *q = find_partition(t, index);
            put32(out, index);
            put16(out, q ? NONE : UNKNOWN_TOPIC_OR_PARTITION);
            put64(out, -1);
            put64(out, !q ? -1 : timestamp == EARLIEST ? 0 : q->log_end_offset);
        }
    }
}

// False when the client asked for no acknowledgement.
static bool handle_produce(struct buffer *out, uint8_t *p, int version) {
    if (version >= 3) take_text(&p); // transactional id
    int acks = take16(&p);
    take32(&p); // timeout
    int count = take32(&p);
    put32(out, count);
    for (int i = 0; i < count; i++) {
        struct text name = take_text(&p);
        struct topic *t = find_topic(name);
        int partitions = take32(&p);
        put_text(out, name);
        put32(out, partitions);
        for (int j = 0; j < partitions; j++) {
            int index = take32(&p);
            int len = take32(&p);
            uint8_t *records = p;
            p += len > 0 ? len : 0;
            struct partition *q = find_partition(t, index);
            int64_t base_offset = q ? q->log_end_offset : -1;
            int error = !q ? UNKNOWN_TOPIC_OR_PARTITION : len > 0 ? append(q, records, (size_t)len) : NONE;
            put32(out, index);
            put16(out, error);
            put64(out, base_offset);
            if (version >= 2) put64(out, -1);
        }
    }
    if (version >= 1) put32(out, 0);
    return acks != 0;
}

// Sends the answer to a fetch unless it holds too little; then false.
static bool handle_fetch(struct connection *c, uint8_t *p, int32_t correlation, bool expired) {
    static struct range ranges[MAX_RANGES];
    int range_count = 0;
    size_t total = 0;
    p += 8; // replica id, max wait
    int64_t min_bytes = take32(&p), max_bytes = take32(&p);
    p += 1; // isolation level
    struct buffer out = response(correlation);
    put32(&out, 0);
    int count = take32(&p);
    put32(&out, count);
    bool failed = false;
    for (int i = 0; i < count; i++) {
        struct text name = take_text(&p);
        struct topic *t = find_topic(name);
        int partitions = take32(&p);
        put_text(&out, name);
        put32(&out, partitions);
        for (int j = 0; j < partitions; j++) {
            int index = take32(&p);
            int64_t offset = take64(&p), limit = take32(&p), left = max_bytes - (int64_t)total;
            struct partition *q = find_partition(t, index);
            int error = !q ? UNKNOWN_TOPIC_OR_PARTITION : offset < 0 || offset > q->log_end_offset ? OFFSET_OUT_OF_RANGE : NONE;
            struct range r = {0};
            if (!error && offset < q->log_end_offset && left > 0 && range_count < MAX_RANGES) r = read_range(q, offset, limit < left ? limit : left);
            put32(&out, index);
            put16(&out, error);
            put64(&out, q ? q->log_end_offset : -1);
            put64(&out, q ? q->log_end_offset : -1);
            put32(&out, 0);
            put32(&out, (int64_t)r.len);
            r.at = out.len;
            if (r.len) ranges[range_count++] = r;
            total += r.len;
            failed |= error != NONE;
        }
    }
    if ((int64_t)total < min_bytes && !failed && !expired) {
        free(out.bytes);
        return false;
    }
    patch32(out.bytes, out.len - 4 + total);
    size_t at = 0;
    for (int i = 0; i < range_count; i++) {
        push(c, (struct segment){.memory = out.bytes + at, .len = ranges[i].at - at});
        push(c, (struct segment){.fd = ranges[i].fd, .position = ranges[i].position, .len = ranges[i].len});
        at = ranges[i].at;
    }
    if (at < out.len) push(c, (struct segment){.memory = out.bytes + at, .len = out.len - at});
    c->tail->owned = out.bytes;
    return true;
}

// The start of a request's body; `frame` begins after the size.
static uint8_t *body_of(uint8_t *frame) {
    uint8_t *p = frame + 8;
    take_text(&p); // client id
    return p;
}

static void handle(struct connection *c, uint8_t *frame, size_t len) {
    uint8_t *p = frame;
    int key = take16(&p), version = take16(&p);
    int32_t correlation = take32(&p);
    uint8_t *body = body_of(frame);
    if (key == FETCH) {
        int64_t max_wait_ms = (int32_t)get32(body + 4);
        if (handle_fetch(c, body, correlation, max_wait_ms <= 0)) return;
        c->parked = must(malloc(len));
        memcpy(c->parked, frame, len);
        c->deadline_ns = now_ns() + max_wait_ms * 1000000;
        parked_count++;
        return;
    }
    struct buffer out = response(correlation);
    bool answered = true;
    switch (key) {
    case PRODUCE: answered = handle_produce(&out, body, version); break;
    case LIST_OFFSETS: handle_list_offsets(&out, body); break;
    case METADATA: handle_metadata(&out, body); break;
    case API_VERSIONS: handle_api_versions(&out, version); break;
    case CREATE_TOPICS: handle_create_topics(&out, body); break;
    case DELETE_TOPICS: handle_delete_topics(&out, body); break;
    default:
        fprintf(stderr, "floor: api key %d version %d is not served\n", key, version);
        c->closed = true;
        answered = false;
    }
    if (answered) send_response(c, &out);
    else free(out.bytes);
}

// ---- the loop -------------------------------------------------------------------------------

static void handle_frames(struct connection *c) {
    size_t done = 0;
    while (c->len - done >= 4 && !c->parked && !c->closed) {
        size_t size = get32(c->in + done);
        if (size > MAX_FRAME) {
            c->closed = true;
            return;
        }
        if (c->len - done < 4 + size) break;
        handle(c, c->in + done + 4, size);
        done += 4 + size;
    }
    if (done) {
        memmove(c->in, c->in + done, c->len - done);
        c->len -= done;
    }
}

static void receive(struct connection *c) {
    size_t wanted = c->len + MIN_RECV;
    if (c->len >= 4 && 4 + (size_t)get32(c->in) > wanted && get32(c->in) <= MAX_FRAME) wanted = 4 + (size_t)get32(c->in);
    if (c->capacity < wanted) {
        c->capacity = wanted + 4096;
        c->in = must(realloc(c->in, c->capacity));
    }
    ssize_t got = recv(c->fd, c->in + c->len, c->capacity - c->len, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN)) c->closed = true;
    if (got > 0) {
        c->len += (size_t)got;
        handle_frames(c);
    }
}

static void accept_all(int listener) {
    int fd, one = 1;
    while (connection_count < MAX_CONNECTIONS && (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct connection *c = must(calloc(1, sizeof *c));
        c->fd = fd;
        c->slot = connection_count;
        connections[connection_count++] = c;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e);
    }
}

static void close_connection(struct connection *c) {
    if (c->parked) {
        free(c->parked);
        parked_count--;
    }
    close(c->fd);
    while (c->head) pop(c);
    connections[c->slot] = connections[--connection_count];
    connections[c->slot]->slot = c->slot;
    free(c->in);
    free(c);
}

static void wake_parked(void) {
    if (!parked_count) return;
    int64_t now = now_ns();
    for (int i = 0; i < connection_count; i++) {
        struct connection *c = connections[i];
        uint8_t *frame = c->parked;
        if (!frame || c->closed || !handle_fetch(c, body_of(frame), (int32_t)get32(frame + 4), now >= c->deadline_ns)) continue;
        free(frame);
        c->parked = NULL;
        parked_count--;
        handle_frames(c);
        flush(c);
    }
}

static int next_timeout_ms(void) {
    if (!parked_count) return -1;
    int64_t soonest = INT64_MAX, now = now_ns();
    for (int i = 0; i < connection_count; i++)
        if (connections[i]->parked && connections[i]->deadline_ns < soonest) soonest = connections[i]->deadline_ns;
    return soonest <= now ? 0 : (int)((soonest - now) / 1000000 + 1);
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 1024)) {
        perror("floor: listen");
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: floor PORT DIRECTORY\n");
        return 2;
    }
    server_port = atoi(argv[1]);
    directory = argv[2];
    signal(SIGPIPE, SIG_IGN);
    crc_init();
    if (!crc_self_test()) {
        fprintf(stderr, "floor: the CRC-32C self-test failed\n");
        return 1;
    }
    int listener = listen_on(server_port);
    poller = epoll_create1(0);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL}, events[MAX_EVENTS];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        int ready = epoll_wait(poller, events, MAX_EVENTS, next_timeout_ms());
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c) accept_all(listener);
            else if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(c);
        }
        // Answers leave after all that was ready has been read: one write may carry several.
        for (int i = 0; i < ready; i++)
            if (events[i].data.ptr) flush(events[i].data.ptr);
        wake_parked();
        for (int i = connection_count - 1; i >= 0; i--)
            if (connections[i]->closed) close_connection(connections[i]);
    }
}
