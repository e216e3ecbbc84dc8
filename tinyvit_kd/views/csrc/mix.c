#include "mix.h"

#include <string.h>

static int overlap(const uint8_t *first, const uint8_t *second, size_t count) {
    uintptr_t one = (uintptr_t)first, other = (uintptr_t)second;
    return one < other ? other - one < count : one - other < count;
}

static int is_sound(const Pair *pair) {
    return !overlap(pair->partner, pair->out, pair->count) &&
           (pair->out == pair->own || !overlap(pair->own, pair->out, pair->count));
}

int mixup(const Pair *pair, int weight, const Processor *processor) {
    if (!is_sound(pair) || weight < 0 || weight > 1 << 16) {
        return 0;
    }
    processor->mix(pair->own, pair->partner, pair->count, weight, pair->out);
    return 1;
}

int cutmix(const Pair *pair, int size, const int box[4]) {
    int left = box[0], top = box[1], right = box[2], bottom = box[3];
    if (!is_sound(pair) || size < 1 || size > MAX_SIDE || pair->count != 3 * (size_t)size * (size_t)size ||
        left < 0 || top < 0 || right < left || bottom < top || right > size || bottom > size) {
        return 0;
    }
    if (pair->out != pair->own) {
        memcpy(pair->out, pair->own, pair->count);
    }
    for (int channel = 0; channel < 3; channel++) {
        for (int y = top; y < bottom; y++) {
            size_t offset = ((size_t)channel * (size_t)size + (size_t)y) * (size_t)size + (size_t)left;
            memcpy(pair->out + offset, pair->partner + offset, (size_t)(right - left));
        }
    }
    return 1;
}
