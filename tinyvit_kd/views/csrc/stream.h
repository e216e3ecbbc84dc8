/* A scan's coded data without stuffed bytes and markers. */
#ifndef VIEWS_STREAM_H
#define VIEWS_STREAM_H

#include "header.h"

/* Zero bytes after the last segment: up to six blocks of the longest codes are read past its end before it is noticed. */
enum { STREAM_SLACK = 2048 };

typedef struct {
    uint8_t *bytes;   /* to be freed */
    size_t *segments; /* to be freed; the start of each restart interval, and the end of the last one */
    int count;        /* of segments */
} Stream;

/* Returns 1, or 0 if it finds anything but `count` intervals and the end of the image. */
int stream_open(const uint8_t *data, size_t size, const Header *header, int count, Stream *stream);

void stream_close(Stream *stream);

#endif
