/* Any JPEG file that is not too unusual, by libjpeg-turbo. */
#ifndef VIEWS_DECODE_H
#define VIEWS_DECODE_H

#include "pixels.h"

/* 0 where the reference renderer must judge the file. */
DecodeRegion decode_region;

/* Read all coefficients and nothing more: the floor of any decoder that is built on libjpeg. */
int decode_coefficients(const uint8_t *data, size_t size);

#endif
