/* Part of a JPEG image, as RGB. */
#ifndef VIEWS_DECODE_H
#define VIEWS_DECODE_H

#include "header.h"

typedef struct {
    int left, top, width, height;
} Region;

typedef struct {
    uint8_t *rows;  /* 3 bytes a pixel; 64 bytes to spare at the end; to be freed */
    size_t stride;
    Region region;  /* what was decoded: at least what was asked for */
} Pixels;

/* 1, or 0 where the file is one that the reference renderer must judge. */
int decode_region(const uint8_t *data, size_t size, const Header *header, Region wanted, Pixels *pixels);

/* Read all coefficients and nothing more: the floor of any decoder that is built on libjpeg. */
int decode_coefficients(const uint8_t *data, size_t size);

#endif
