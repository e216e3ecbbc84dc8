/* A scan's coded data without the bytes that stand between its bits. */
#ifndef VIEWS_STREAM_H
#define VIEWS_STREAM_H

#include "header.h"

/* Zero bytes behind the last segment: six blocks of the longest codes may be read past its end before that is noticed. */
enum { STREAM_SLACK = 2048 };

typedef struct {
    uint8_t *bytes;   /* to be freed */
    size_t *segments; /* to be freed; where each restart interval starts, and where the last one ends */
    int count;        /* of segments */
} Stream;

/* 1, or 0 where anything but `count` intervals and the end of the image is found. */
int stream_open(const uint8_t *data, size_t size, const Header *header, int count, Stream *stream);

void stream_close(Stream *stream);

#endif
