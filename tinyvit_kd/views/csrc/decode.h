/* Decoding by libjpeg-turbo, for any JPEG file that is not too unusual. */
#ifndef VIEWS_DECODE_H
#define VIEWS_DECODE_H

#include "pixels.h"

/* Returns 0 if the reference renderer must judge the file. */
DecodeRegion decode_region;

/* Read all coefficients and do nothing else: a lower bound on the time of any decoder that is built on libjpeg. */
int decode_coefficients(const uint8_t *data, size_t size);

#endif
