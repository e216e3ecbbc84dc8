#include "stream.h"

#include <stdlib.h>
#include <string.h>

/* Copies the runs between 0xFF bytes; 0xFF 0x00 encodes 0xFF. */
static int copy(const uint8_t *place, const uint8_t *end, const Header *header, Stream *stream) {
    uint8_t *to = stream->bytes;
    int expected = stream->count;
    stream->count = 0;
    stream->segments[0] = 0;
    while (place < end) {
        const uint8_t *found = memchr(place, 0xFF, (size_t)(end - place));
        if (found == NULL || found + 1 >= end) {
            return 0;
        }
        memcpy(to, place, (size_t)(found - place));
        to += found - place;
        place = found + 2;
        if (found[1] == 0) {
            *to++ = 0xFF;
            continue;
        }
        stream->segments[++stream->count] = (size_t)(to - stream->bytes);
        if (found[1] == 0xD9) {
            memset(to, 0, STREAM_SLACK);
            return stream->count == expected;
        }
        if (header->restarts == 0 || stream->count >= expected || found[1] != 0xD0 + ((stream->count - 1) & 7)) {
            return 0;
        }
    }
    return 0;
}

int stream_open(const uint8_t *data, size_t size, const Header *header, int count, Stream *stream) {
    stream->count = count;
    stream->bytes = malloc(size - header->scan + STREAM_SLACK);
    stream->segments = malloc(sizeof(size_t) * ((size_t)count + 1));
    if (stream->bytes != NULL && stream->segments != NULL && copy(data + header->scan, data + size, header, stream)) {
        return 1;
    }
    stream_close(stream);
    return 0;
}

void stream_close(Stream *stream) {
    free(stream->bytes);
    free(stream->segments);
    stream->bytes = NULL;
    stream->segments = NULL;
}
